"""The profile `imagenet` for real, but small: each chapter on a folder of 100 classes, robustness on one of 1,000."""

from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from timm.data import ImageNetInfo
from training_here import training_here

from lkd.engine.workers import execute_all
from lkd.paper.verdicts import judge, verdict_table
from lkd.profiles import Profile
from lkd.robustness import CORRUPTIONS, SETS, SEVERITIES
from lkd.runs.store import Store
from lkd.sparse import sparse_parameters
from lkd.study import (
    check_changed_images,
    check_field_size,
    compare_with_published,
    compared,
    erf_distances,
    erf_maps,
    erf_ratios,
    imagenet_table,
    learning_speed,
    measure_erf,
    measure_robustness,
    paper_tables,
    robustness_table,
    trait_study,
)
from lkd.study.chapters import CHAPTERS, STUDIES

pytestmark = pytest.mark.slow

CLASSES = ImageNetInfo().label_names()
TWO = ["slak_tiny", "convnext_tiny"]
"""Teachers whose networks take images of any size; those of windows and patches would have to be of 224 pixels."""
SHORT = """
extends: imagenet
description: The profile imagenet with small networks, small pictures and few steps.
data: folder:{data}
train_images: 64
teacher: {{train_images: 64, image_size: 32, batch_size: 32, accumulation: 2, epochs: 1}}
teachers:
  slak_tiny:
    prune_every: 1
    student_args: &slak {{depths: [1, 1, 1, 1], dims: [8, 16, 32, 64]}}
  convnext_tiny: {{student_args: *slak}}
  cswin_tiny:
    student_args: {{depths: [1, 1, 1, 1], dims: [8, 16, 32, 64], heads: [2, 2, 4, 4], splits: [1, 2, 2, null]}}
  swin_tiny_patch4_window7_224:
    student_args: {{img_size: 32, window_size: 2, embed_dim: 8, depths: [1, 1, 1, 1], num_heads: [1, 2, 2, 4]}}
  vit_small_2020: {{student_args: {{img_size: 32, embed_dim: 32, depth: 1, num_heads: 2}}}}
student: {{image_size: 32, accumulation: 2, epochs: 2}}
students:
  resnet50: {{batch_size: 32, student_args: {{layers: [1, 1, 1, 1], channels: [8, 16, 32, 64]}}}}
  convnext_bn_tiny: {{batch_size: 32, student_args: *slak}}
chapters:
  logit_kd: {{students: [resnet50]}}
  feature_kd: {{students: [resnet50]}}
  kernel_size:
    students: [convnext_bn_tiny]
    sizes:
      "7, 7, 7, 7": {{student_args: *slak}}
      "31, 29, 27, 13": {{student_args: *slak}}
      "61, 59, 57, 13": {{student_args: *slak}}
  teacher_size:
    sizes:
      ConvNeXt-T: {{student_args: *slak}}
      ConvNeXt-S: {{student_args: {{depths: [1, 1, 2, 1], dims: [8, 16, 32, 64]}}}}
  vanilla_kd:
    sizes: [32, 64]
    strengths: {{weak: {{epochs: 1}}, strong: {{epochs: 2}}}}
  traits: {{students: [resnet50], erf_size: 128, erf_images: 2, corrupted_images: 2}}
"""


def written(folder: Path, classes: Sequence[str]) -> str:
    """The path of a short profile, with a picture of each class in both splits; each has its own colour, and noise."""
    for split in ("train", "val"):
        pixels = np.random.default_rng(0)
        for number, name in enumerate(classes):
            colour = np.array([number % 10, number // 10 % 10, number // 100]) * 20
            picture = (pixels.integers(0, 60, (40, 48, 3)) + colour).astype(np.uint8)
            (folder / "images" / split / name).mkdir(parents=True)
            Image.fromarray(picture).save(folder / "images" / split / name / "1.JPEG")
    path = folder / "short.yaml"
    path.write_text(SHORT.format(data=folder / "images"))
    return str(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty folder, with the home of this module's runs."""
    folder = tmp_path_factory.mktemp("imagenet")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LKD_HOME", str(folder / "home"))
        yield folder


@pytest.fixture(scope="module")
def profile(folder: Path) -> str:
    """The path of a profile with 100 classes, all of whose runs are in the store."""
    path = written(folder / "few", CLASSES[:100])
    execute_all([recipe for study in STUDIES.values() for recipe in study(path).recipes], Store(), start=training_here)
    return path


@pytest.fixture(scope="module")
def whole(folder: Path) -> str:
    """The path of a profile with all 1,000 classes; the store has its runs with two teachers."""
    path = written(folder / "whole", CLASSES)
    execute_all(trait_study(path, teachers=TWO).recipes, Store(), start=training_here)
    return path


@pytest.mark.parametrize("chapter", [name for name in CHAPTERS if name not in ("robustness", "your_own")])
def test_a_chapter_runs_through(chapter: str, profile: str) -> None:
    for name in CHAPTERS[chapter].studies:
        study = STUDIES[name](profile)
        if CHAPTERS[chapter].measured:
            check_field_size(study)
        results = study.run(workers=1)
        if CHAPTERS[chapter].measured:
            measure_erf(results, workers=1)
            assert (erf_distances(results).distance >= 0).all() and len(erf_ratios(results)) and erf_maps(results)
        assert np.isfinite(results.table[["val_top1", "test_top1", "val_loss", "test_loss"]]).all(axis=None)
        assert np.isfinite(results.curves.train_total).all()
        assert len(learning_speed(results)) == len(results.distilled) == len(results.gains)
        assert paper_tables(results.gains) and len(compared(results.gains, results.gains.teacher.iloc[0])) >= 0
        assert len(compare_with_published(study, results, profile).frame) and len(results.teachers)
        verdicts = judge(profile, {name: results})
        assert all(verdict.found for verdict in verdicts)
        assert len(verdict_table(verdicts).frame) == len(verdicts)


def test_the_recipes_are_those_of_imagenet_but_for_what_makes_them_short(profile: str) -> None:
    short, whole = (Profile.load(name).student_recipe("resnet50").to_dict() for name in (profile, "imagenet"))
    differing = {name for name in whole if short[name] != whole[name]}
    assert differing == {"data", "train_images", "image_size", "epochs", "batch_size", "accumulation", "student_args"}


def test_sparse_teachers_have_their_zeros_and_an_average_that_is_kept(whole: str) -> None:
    recipe = Profile.load(whole).teacher_recipe("slak_tiny", seed=0)
    run = Store().find(recipe)
    assert run and recipe.ema == 0.9999 and run.student.num_classes == 1000
    weights = sparse_parameters(run.student, "all")
    zeros = sum(int((~mask).sum()) for mask in run.masks.values())
    assert zeros / sum(weight.numel() for weight in weights.values()) == pytest.approx(0.4, abs=0.01)
    assert not any(weights[name][~mask].any() for name, mask in run.masks.items())


def test_the_chapter_of_robustness_runs_through(whole: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ImageNet-C has three classes here."""
    monkeypatch.setitem(SETS, "C", SETS["C"]._replace(indices=(3, 7, 500)))
    for name, severity in product(CORRUPTIONS, SEVERITIES):
        for index in (3, 7, 500):
            path = tmp_path / "imagenet-c" / name / str(severity) / CLASSES[index]
            path.mkdir(parents=True)
            Image.new("RGB", (224, 224), (index % 256, 0, 50 * severity)).save(path / "1.JPEG")
    study = trait_study(whole, teachers=TWO)
    check_changed_images(study, str(tmp_path), ["C"])
    results = study.run(workers=1)
    measure_robustness(results, 1, str(tmp_path), ["C"])
    assert robustness_table(results).error.between(0, 100).all()
    assert len(imagenet_table(results, ["C"])) == len(results.runs)
    with pytest.raises(ValueError, match="imagenet is None: lkd corrupts in-memory images only"):
        check_changed_images(study, None)
