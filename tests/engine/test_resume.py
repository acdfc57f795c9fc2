"""A run that is killed, at any step and any number of times, ends as one that was left alone, bit for bit."""

import itertools
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from killing import During, attempt, finished
from PIL import Image
from short import ALONE, TAUGHT, TEACHER, same
from training_here import copy_runs

import lkd
from lkd import Recipe
from lkd.runs.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

TAUGHT = replace(TAUGHT, batch_size=32, crop=2, mixup=0.2)
ALONE = replace(ALONE, batch_size=32)
SPARSE = replace(TEACHER, student="mini_slak", batch_size=32, epochs=2, sparsity=0.4, prune_every=2)
STOCHASTIC: dict[str, Any] = dict(student="mini_convnext_nano", student_args={"drop_path_rate": 0.3})
WAYS: dict[str, tuple[Recipe, dict[str, Any]]] = {
    "averaged": (replace(TAUGHT, ema=0.5), {}),
    "sparse": (replace(SPARSE, ema=0.5), {}),
    "sparse, in parts, two processes": (replace(SPARSE, accumulation=2), {"processes": 2}),
    "the likeliest classes": (replace(TAUGHT, teacher_top_k=3, student="mini_convnext_nano"), {"tape": True}),
    "two processes, features and tape": (
        replace(TAUGHT, objective="kd+fd", objective_args={}, **STOCHASTIC),
        {"processes": 2, "tape": True},
    ),
}
"""Eight steps each."""


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with the run of the teacher."""
    store = Store(tmp_path_factory.mktemp("teacher"))
    lkd.run(TEACHER, store=store)
    return store


@pytest.fixture(autouse=True)
def stores(teacher: Store, tmp_path: Path) -> None:
    """Two stores that have the teacher's run already."""
    for name in ("undisturbed", "killed"):
        copy_runs(teacher, tmp_path / name, [TEACHER])


@pytest.mark.parametrize("way", WAYS)
def test_killed_at_random_steps_it_ends_as_if_it_had_been_left_alone(way: str, tmp_path: Path) -> None:
    recipe, how = WAYS[way]
    draw = random.Random(way)
    steps: list[tuple[int, During]] = [
        (draw.randrange(3), "checkpoint" if draw.random() < 0.3 else "training") for _ in range(3)
    ]
    undisturbed = finished(recipe, tmp_path / "undisturbed", [], **how)
    killed = finished(recipe, tmp_path / "killed", steps, **how)
    assert same(killed, undisturbed)
    assert killed.masks.keys() == undisturbed.masks.keys()
    assert all((mask == undisturbed.masks[name]).all() for name, mask in killed.masks.items())
    assert not list((tmp_path / "killed").glob("checkpoints/*"))


def test_killed_while_the_run_is_saved_it_is_saved_the_next_time(tmp_path: Path) -> None:
    undisturbed = finished(TAUGHT, tmp_path / "undisturbed", [])
    assert same(finished(TAUGHT, tmp_path / "killed", [(0, "saving")]), undisturbed)
    assert [path.name for path in (tmp_path / "killed" / "runs").iterdir() if path.name != TAUGHT.teacher.run_id] == [
        TAUGHT.run_id
    ]


def test_killed_beside_workers_that_read_files_it_ends_as_if_it_had_been_left_alone(tmp_path: Path) -> None:
    for split, label, number in itertools.product(("train", "val"), "ab", range(24)):
        path = tmp_path / "pets" / split / label / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng([ord(label), number]).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path)
    recipe = Recipe(
        data=f"folder:{tmp_path / 'pets'}",
        student="mini_resnet",
        image_size=32,
        crop_scale=0.2,
        auto_augment="rand-m9-mstd0.5-inc1",
        erasing=0.5,
        flip=True,
        mixup=0.2,
        batch_size=8,
        epochs=2,
    )
    undisturbed = finished(recipe, tmp_path / "undisturbed", [])
    assert undisturbed.history.train_total.nunique() == 2
    killed = finished(recipe, tmp_path / "killed", [(1, "training"), (3, "checkpoint"), (2, "training")], workers=2)
    assert same(killed, undisturbed)


def test_a_torn_checkpoint_falls_back_to_the_one_before(tmp_path: Path) -> None:
    undisturbed = finished(TAUGHT, tmp_path / "undisturbed", [])
    attempt(TAUGHT, tmp_path / "killed", step=5)
    older, newest = sorted((tmp_path / "killed").glob("checkpoints/*/[0-9]*.pt"))
    assert older.name.startswith("000000004-") and newest.name.startswith("000000005-")
    newest.write_bytes(newest.read_bytes()[:-1000])
    assert same(finished(TAUGHT, tmp_path / "killed", []), undisturbed)


def test_a_run_goes_on_with_another_number_of_processes(tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    attempt(TAUGHT, folder, step=6, processes=2)
    assert set(attempt(TAUGHT, folder)) == {0}
    run = Store(folder).find(TAUGHT)
    assert run is not None and run.history.epoch.tolist() == [1, 2]
    assert run.provenance["processes"] == 1
