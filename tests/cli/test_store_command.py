"""`lkd store`: lists, shows and compares runs, and deletes only on request."""

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from calling import content, lkd, save, told
from filelock import FileLock

from lkd import Recipe
from lkd.engine.tape import Tape
from lkd.runs.store import Store

TEACHER = Recipe(data="digits", student="mini_convnext_nano", lr=4e-3)
KD = Recipe(
    data="digits", student="mini_resnet", teacher=TEACHER, objective="kd", objective_args={"alpha": 0.5}, epochs=2
)
NKD = replace(KD, objective="nkd", objective_args={"temperature": 2.0}, teacher=replace(TEACHER, seed=7))


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store with a teacher and, by two objectives and some seeds, its students."""
    monkeypatch.setenv("LKD_HOME", str(tmp_path))
    store = Store()
    save(store, TEACHER, 80.0, "2026-01-01T00:00:00+00:00")
    for seed, kd, nkd in ((0, 60.0, 61.0), (1, 62.0, 64.0), (2, 64.0, 66.0)):
        save(store, replace(KD, seed=seed), kd, f"2026-01-02T00:00:0{seed}+00:00")
        save(store, replace(NKD, seed=seed), nkd, f"2026-01-03T00:00:0{seed}+00:00")
    save(store, replace(KD, seed=3), 90.0, "2026-01-04T00:00:00+00:00")
    return store


def test_runs_are_listed_by_when_they_began(store: Store) -> None:
    rows = told("store", "list")
    assert len(rows) == 8 and rows[0]["id"] == TEACHER.run_id
    assert rows[0] | {"bytes": 0} == {
        "id": TEACHER.run_id, "started": "2026-01-01T00:00:00+00:00", "student": "mini_convnext_nano",
        "teacher": "none", "objective": "label", "data": "digits", "seed": 0, "test_top1": 80.0, "bytes": 0,
    }  # fmt: skip
    files = [file for file in store.path(TEACHER).iterdir()]
    assert rows[0]["bytes"] == sum(file.stat().st_size for file in files)
    lines = lkd("store", "list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["run", *(row["id"] for row in rows)]


def test_runs_are_chosen_by_what_they_are(store: Store) -> None:
    def ids(*words: str) -> set[str]:
        return {row["id"] for row in told("store", "list", *words)}

    assert ids("--teacher", "none") == {TEACHER.run_id}
    assert ids("--objective", "nkd") == {replace(NKD, seed=seed).run_id for seed in range(3)}
    assert ids("--teacher", "mini_convnext_nano", "--objective", "kd") == {
        replace(KD, seed=seed).run_id for seed in range(4)
    }
    assert len(ids("--data", "digits", "--student", "mini_resnet")) == 7


def test_a_run_is_shown_by_what_it_changes(store: Store) -> None:
    about = told("store", "show", KD.run_id[:6])
    assert about["recipe"] == {
        "data": "digits", "student": "mini_resnet", "teacher.data": "digits", "teacher.student": "mini_convnext_nano",
        "teacher.lr": 0.004, "objective": "kd", "objective_args": {"alpha": 0.5}, "epochs": 2,
    }  # fmt: skip
    assert about["metrics"]["test_top1"] == 60.0 and about["provenance"]["seconds"] == 1.5
    assert about["history"] == [
        {"epoch": 1, "loss": 2.0, "val_top1": None},
        {"epoch": 2, "loss": 1.0, "val_top1": 49.0},
    ]
    words = lkd("store", "show", KD.run_id).stdout
    assert "teacher.lr" in words and "weight_decay" not in words


def test_a_comparison_names_exactly_the_fields_that_differ(store: Store) -> None:
    found = told("store", "compare", KD.run_id, NKD.run_id)
    assert found["recipe"] == {
        "teacher.seed": [0, 7],
        "objective": ["kd", "nkd"],
        "objective_args.alpha": [0.5, None],
        "objective_args.temperature": [None, 2],
    }
    assert found["metrics"]["test_top1"] == [60.0, 61.0]


def test_runs_are_paired_over_the_seeds_that_both_have(store: Store) -> None:
    (pair,) = told("store", "compare", KD.run_id, NKD.run_id)["paired"]
    assert pair["seeds"] == [0, 1, 2]
    differences = pd.Series([1.0, 2.0, 2.0])
    assert pair["mean"] == pytest.approx(differences.mean())
    half = 4.302652729911275 * differences.std() / 3**0.5
    assert (pair["low"], pair["high"]) == pytest.approx((differences.mean() - half, differences.mean() + half))


def test_no_pair_is_made_of_two_seeds(store: Store) -> None:
    found = told("store", "compare", KD.run_id, replace(KD, seed=1).run_id)
    assert found["recipe"] == {"seed": [0, 1]}
    assert found["paired"][0]["seeds"] == [] and found["paired"][0]["mean"] is None


def test_a_teacher_and_none_differ_in_one_field(store: Store) -> None:
    found = told("store", "compare", TEACHER.run_id, KD.run_id)
    assert set(found["recipe"]) == {"student", "teacher", "objective", "objective_args.alpha", "lr", "epochs"}
    assert found["recipe"]["teacher"][0] is None and found["recipe"]["teacher"][1]["lr"] == 0.004
    assert "mini_convnext_nano" in lkd("store", "compare", TEACHER.run_id, KD.run_id).stdout


def test_nothing_goes_without_yes(store: Store) -> None:
    (store.folder / "checkpoints" / KD.run_id).mkdir(parents=True)
    (store.folder / "checkpoints" / KD.run_id / "000000001-abc.pt").write_bytes(b"12345")
    before = {path: data for path, data in content(store.folder).items() if "/locks" not in path}
    told_first = lkd("store", "prune")
    assert "5 bytes in 1 places" in told_first.stdout and "--yes" in told_first.stderr
    assert told("store", "prune", "--objective", "kd")["deleted"] == []
    assert {path: data for path, data in content(store.folder).items() if "/locks" not in path} == before


def test_what_is_named_goes_with_yes_and_nothing_else(store: Store) -> None:
    found = told("store", "prune", "--objective", "kd", "--yes")
    gone = {replace(KD, seed=seed) for seed in range(4)}
    assert {Path(path).name for path in found["deleted"]} == {recipe.run_id for recipe in gone}
    assert found["bytes"] == sum(row["bytes"] for row in found["found"]) > 4000
    assert all(store.find(recipe) is None for recipe in gone)
    assert {row["id"] for row in told("store", "list")} == {
        TEACHER.run_id, *(replace(NKD, seed=seed).run_id for seed in range(3))
    }  # fmt: skip


def test_what_is_being_trained_stays(store: Store) -> None:
    (store.folder / "locks").mkdir(exist_ok=True)
    with FileLock(store.folder / "locks" / f"{KD.run_id}.lock"):
        found = told("store", "prune", "--objective", "kd", "--yes")
    assert len(found["deleted"]) == 3 and store.find(KD) is not None


def damaged(store: Store) -> list[str]:
    """Put a damaged run and a note among the runs of a store; return the beginnings of the expected messages."""
    (store.path(NKD) / "metrics.json").write_text('{"test_top1": NaN}')
    (store.folder / "runs" / "notes.txt").write_text("seeds 0 to 2 are done")
    return [
        f"lkd: {store.path(NKD)}/metrics.json is damaged",
        f"lkd: {store.folder}/runs/notes.txt is not a run: move",
    ]


COMMANDS = [
    (("store", "list"), KD.run_id),
    (("store", "list", "--objective", "kd"), KD.run_id),
    (("store", "compare", KD.run_id, replace(NKD, seed=1).run_id), KD.run_id),
    (("store", "prune"), "0 bytes in 0 places"),
    (("store", "prune", "--objective", "kd"), KD.run_id),
]


@pytest.mark.parametrize(("words", "shown"), COMMANDS)
def test_what_is_damaged_is_named_after_all_others(store: Store, words: tuple[str, ...], shown: str) -> None:
    faults = damaged(store)
    result = lkd(*words)
    assert result.exit_code == 1 and shown in result.stdout and NKD.run_id not in result.stdout
    told_last = result.stderr.splitlines()[-2:]
    assert all(line.startswith(fault) for line, fault in zip(sorted(told_last), sorted(faults), strict=True))


def test_programs_get_all_that_is_whole(store: Store) -> None:
    damaged(store)
    result = lkd("store", "list", "--json")
    assert result.exit_code == 1 and len(json.loads(result.stdout)) == 7


def test_a_run_is_shown_beside_a_damaged_one(store: Store) -> None:
    damaged(store)
    assert lkd("store", "show", KD.run_id).exit_code == 0
    assert lkd("store", "show", NKD.run_id).exit_code == 2


def test_pruning_goes_on_past_what_is_damaged(store: Store) -> None:
    damaged(store)
    assert lkd("store", "prune", "--objective", "kd", "--yes").exit_code == 1
    assert store.find(KD) is None and store.path(NKD).is_dir()


@pytest.mark.parametrize(
    "words", [("store", "list"), ("store", "show", KD.run_id), ("store", "prune"), ("tape", "list")]
)
def test_a_home_that_can_only_be_read_is_read(
    store: Store, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("lkd cannot write here")

    monkeypatch.setattr("lkd.util.files.writable", refuse)
    assert lkd(*words).exit_code == 0, lkd(*words).output


def test_tapes_are_listed_past_what_is_damaged(store: Store) -> None:
    folder = store.folder / "tapes"
    Tape.make(folder / "whole", epochs=1, samples=4, classes=10, about={"recipe": KD.to_dict()})
    Tape.make(folder / "of-nobody", epochs=1, samples=4, classes=10)
    for name, text in {"cut": '{"epochs": 1', "empty": "", "foreign": "[]"}.items():
        (folder / name).mkdir()
        (folder / name / "manifest.json").write_text(text)
    (folder / "lacks").mkdir()
    (folder / "notes.txt").write_text("")
    result = lkd("tape", "list", "--json")
    assert result.exit_code == 1
    rows = {row["name"]: row["teacher"] for row in json.loads(result.stdout)}
    assert rows == {"whole": "mini_convnext_nano", "of-nobody": "unknown"}
    named = [Path(line.removeprefix("lkd: ").partition(" is ")[0]) for line in result.stderr.splitlines()]
    assert [path.relative_to(folder).parts[0] for path in named] == ["cut", "empty", "foreign", "lacks", "notes.txt"]
