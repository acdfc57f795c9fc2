"""Mistakes in a user's profile: each gives one line with its place, and nothing is run."""

from pathlib import Path

import papermill
import pytest
from typer.testing import CliRunner

from lkd.cli import app
from lkd.profiles import Profile

SMALL = "extends: small\n"
STANDALONE = """
description: Alone.
data: digits
train_images: 128
teacher_seeds: [0]
seeds: [0]
teacher: {lr: 5.0e-3}
teachers: {mini_slak: {}}
student: {epochs: 1}
students: {mini_resnet: {}}
objectives: {kd: {}}
"""
WRONG = {
    "a list": ("- small\n", "must map keys to values, as in `extends: small`, got ['small']"),
    "nothing": ("", "must map keys to values, as in `extends: small`, got None"),
    "no YAML": (SMALL + "seeds: [0, 1\nteacher: {}\n", ", line 3: expected ',' or ']'"),
    "a tab": (SMALL + "teacher:\n\tlr: 1\n", ", line 3: found character '\\t' that cannot start any token"),
    "an object": (SMALL + "seeds: !!python/object/apply:os.getcwd []\n", ", line 2: could not determine a constructor"),
    "a key twice": (SMALL + "seeds: [0]\ndata: digits\nseeds: [1]\n", ", line 4: duplicate key 'seeds'"),
    "a field twice": (SMALL + "teacher:\n  lr: 1\n  lr: 2\n", ", line 4: duplicate key 'lr'"),
    "extends nothing": (
        "extends:\nseeds: [0]\n",
        "extends: profile must be a name or the path of a YAML file, got",
    ),
    "extends a stranger": ("extends: smal\n", "extends: unknown profile 'smal': did you mean 'small'?"),
    "extends no file": ("extends: gone.yaml\n", "extends: profile 'gone.yaml': there is no file"),
    "extends itself": ("extends: mine.yaml\n", "extends: there is a circle, mine.yaml extends mine.yaml"),
    "an unknown key": (SMALL + "teachrs: {}\n", "unknown key 'teachrs': did you mean 'teachers'?"),
    "missing keys": (STANDALONE, "'chapters' must be given here or in a profile that this one extends"),
    "missing chapters": (
        STANDALONE + "chapters: {traits: {}}\n",
        "chapters: 'matched', 'feature_kd', ",
    ),
    "a description": (SMALL + "description: 3\n", "description must be a sentence, got 3"),
    "data": (SMALL + "data: fashion_minst\n", "data: unknown data set 'fashion_minst': did you mean 'fashion_mnist'?"),
    "data of another kind": (SMALL + "data: [digits]\n", "data: data must be a name, got a list"),
    "images": (SMALL + "train_images: all\n", "train_images: train_images must be a whole number, got 'all'"),
    "no seeds": (SMALL + "seeds: []\n", "seeds is empty: give at least one"),
    "seeds of another kind": (SMALL + "seeds: 3\n", "seeds must be a list of int, got 3"),
    "a seed": (SMALL + "seeds: [-1]\n", "seeds: seed must be at least 0 and at most"),
    "a field": (SMALL + "teacher: {lrr: 0.1}\n", "teacher: unknown field of a recipe 'lrr': did you mean 'lr'?"),
    "a value": (SMALL + "student: {lr: -1}\n", "student: lr must be above 0, got -1"),
    "a text for a number": (SMALL + "student: {lr: high}\n", "student: lr must be a number, got 'high'"),
    "a number that YAML's versions read differently": (
        SMALL + "student: {epochs: 010}\n",
        "student: epochs must be a whole number, got '010'",
    ),
    "a time": (SMALL + "student: {warmup: 1:30}\n", "student: warmup must be a number, got '1:30'"),
    "no number": (SMALL + "student: {lr: .inf}\n", "student: lr must be above 0, got inf"),
    "a word for a text": (SMALL + "data: on\n", "data: unknown data set 'on'"),
    "a seed that is no number": (SMALL + "seeds: [0, yes]\n", "seeds must be a list of int, got [0, True]"),
    "an optimizer": (SMALL + "teacher: {optimizer: adamx}\n", "teacher: unknown optimizer 'adamx': did you mean"),
    "a field said elsewhere": (SMALL + "student: {seed: 1}\n", "student: 'seed' is not allowed here"),
    "what has no effect": (
        SMALL + "student: {erasing: 0.2}\n",
        "student: erasing is 0.2, but has no effect on images",
    ),
    "a teacher": (
        SMALL + "teachers: {mini_slack: {}}\n",
        "teachers.mini_slack: unknown student model 'mini_slack'",
    ),
    "a teacher's field": (
        SMALL + "teachers: {mini_vit: {epochs: 0}}\n",
        "teachers.mini_vit: epochs must be at least",
    ),
    "a teacher without fields": (
        SMALL + "teachers: {resnet18: }\n",
        "teachers.resnet18: must map names to values",
    ),
    "a name that is no text": (
        SMALL + "students: {18: {}}\n",
        "students: the name 18 is not a string: put it",
    ),
    "an objective": (
        SMALL + "objectives: {nkdd: {}}\n",
        "objectives.nkdd: unknown objective 'nkdd': did you mean 'nkd'",
    ),
    "labels as an objective": (SMALL + "objectives: {label: {}}\n", "objectives.label: objective 'label' takes no"),
    "a parameter": (
        SMALL + "objectives: {kd: {beta: 1}}\n",
        "objectives.kd: unknown parameter of objective 'kd'",
    ),
    "a chapter": (SMALL + "chapters: {logits: {}}\n", "chapters: unknown key 'logits': did you mean 'logit_kd'?"),
    "a setting": (SMALL + "chapters: {matched: {recipe: 1}}\n", "chapters.matched: unknown key 'recipe': did you mean"),
    "a list without effect": (
        SMALL + "chapters: {kernel_size: {teachers: [mini_vit]}}\n",
        "chapters.kernel_size: unknown key 'teachers'",
    ),
    "a chapter's teacher": (
        SMALL + "chapters: {logit_kd: {teachers: [mini_slakk]}}\n",
        "chapters.logit_kd.teachers: unknown teacher of this profile 'mini_slakk': did you mean 'mini_slak'?",
    ),
    "a student without settings": (
        SMALL + "students: {mini_convnext_nano: null}\nchapters: {logit_kd: {students: [mini_convnext_nano]}}\n",
        "chapters.logit_kd.students: unknown student of this profile 'mini_convnext_nano'",
    ),
    "a chapter's students": (
        SMALL + "chapters: {logit_kd: {students: mini_vit}}\n",
        "chapters.logit_kd.students: students must be a list of str, got 'mini_vit'",
    ),
    "a setting taken away": (
        SMALL + "chapters: {feature_kd: {variants: }}\n",
        "chapters.feature_kd: 'variants' must be given here or in a profile that this one extends",
    ),
    "a variant": (
        SMALL + "chapters: {feature_kd: {variants: {FD: {objective: fdd}}}}\n",
        "chapters.feature_kd.variants.FD: unknown objective 'fdd': did you mean 'fd'?",
    ),
    "a variant's parameter": (
        SMALL + "chapters: {feature_kd: {variants: {FD: {objective_args: {normalise: chw}}}}}\n",
        "chapters.feature_kd.variants.FD: unknown parameter of objective 'fd' 'normalise': did you mean 'normalize'?",
    ),
    "no plain KD": (
        SMALL + "chapters: {vanilla_kd: {variants: {'vanilla KD, BCE': }}}\n",
        "chapters.vanilla_kd.variants: 'vanilla KD, BCE' is missing",
    ),
    "a recipe's strength": (
        SMALL + "chapters: {vanilla_kd: {strengths: {strong: {mixup: -1}}}}\n",
        "chapters.vanilla_kd.strengths.strong: mixup must be at least 0, got -1",
    ),
    "a form without a model": (
        SMALL + "chapters: {kernel_size: {sizes: {'9': {lr: 0.1}}}}\n",
        "chapters.kernel_size.sizes.9: 'model' must be given",
    ),
    "factors": (
        SMALL + "chapters: {longer_training: {factors: [0.01]}}\n",
        "chapters.longer_training.factors: epochs",
    ),
    "a size of fields": (
        SMALL + "chapters: {traits: {erf_size: big}}\n",
        "chapters.traits.erf_size: it must be a",
    ),
    "pairs of unknown sizes": (
        SMALL + "chapters: {vanilla_kd: {pairs: [[99, weak]]}}\n",
        "chapters.vanilla_kd.pairs: pairs must be pairs of one of `sizes` and one of `strengths`, got [99, 'weak']",
    ),
    "pairs that are none": (
        SMALL + "chapters: {vanilla_kd: {pairs: []}}\n",
        "chapters.vanilla_kd.pairs: pairs must be pairs of one of `sizes` and one of `strengths`, got []",
    ),
    "an unknown teacher": (
        SMALL + "chapters: {matched: {recipes: {mini_slack: {epochs: 2}}}}\n",
        "chapters.matched.recipes.mini_slack: unknown student model 'mini_slack': did you mean 'mini_slak'",
    ),
    "an accuracy": (
        SMALL + "chapters: {matched: {recipes: {mini_slak: {stop_top1: 101}}}}\n",
        "chapters.matched.recipes.mini_slak: stop_top1 must",
    ),
}


@pytest.fixture(autouse=True)
def nothing_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No chapter is executed, and the user's home does not exist."""
    monkeypatch.setattr(papermill, "execute_notebook", lambda *given, **named: pytest.fail("a chapter was executed"))
    monkeypatch.setenv("LKD_HOME", str(tmp_path / "home"))


@pytest.mark.parametrize(("text", "message"), WRONG.values(), ids=WRONG)
def test_a_mistake_is_answered_in_a_line_with_file_and_key_and_nothing_is_done(
    text: str, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    told = CliRunner().invoke(app, ["run", "logit_kd", "-p", f"profile={path}"])
    assert told.exit_code == 2 and len(told.output.splitlines()) == 1
    assert told.output.startswith(f"lkd: {path}") and message in told.output
    assert [each.name for each in tmp_path.iterdir()] == ["mine.yaml"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "erf", "-p", "profile=smal"], "unknown profile 'smal': did you mean 'small'?"),
        (["run", "erf", "-p", "profile=3"], "profile must be a text that is not empty, got 3 (int)"),
        (["claims", "--profile", ""], "unknown profile ''"),
        (["run", "erf", "-p", "profile=gone.yaml"], "there is no file"),
        (["chapters", "--profile", "gone.yml"], "there is no file"),
        (["claims", "--profile", "scales/mine"], "unknown profile 'scales/mine'"),
    ],
)
def test_a_profile_that_is_not_there_is_answered_in_a_line(words: list[str], message: str, tmp_path: Path) -> None:
    told = CliRunner().invoke(app, words)
    assert told.exit_code == 2 and message in told.output and len(told.output.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"mine.yaml is not UTF-8 text"):
        Profile.load(str(tmp_path / "mine.yaml"))


def test_files_that_extend_each_other_are_refused(tmp_path: Path) -> None:
    for name, base in (("a", "b"), ("b", "c"), ("c", "b")):
        (tmp_path / f"{name}.yaml").write_text(f"extends: {base}.yaml\n")
    with pytest.raises(ValueError, match=r"c.yaml: extends: there is a circle, b.yaml extends c.yaml extends b.yaml"):
        Profile.load(str(tmp_path / "a.yaml"))


def test_a_mistake_in_what_is_extended_is_told_of_that_file(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("extends: small\nseeds: []\n")
    (tmp_path / "mine.yaml").write_text("extends: base.yaml\ndata: digits\n")
    with pytest.raises(ValueError, match=r"base.yaml: seeds is empty"):
        Profile.load(str(tmp_path / "mine.yaml"))


def test_the_name_of_a_profile_of_lkds_own_is_refused(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text("extends: smoke\n")
    with pytest.raises(ValueError, match=r"small.yaml has the name of a built-in profile"):
        Profile.load(str(tmp_path / "small.yaml"))
