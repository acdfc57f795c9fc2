"""Images in files that were changed after a run: noticed by its run, its tape and its checkpoints."""

import os
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import lkd
from lkd import Recipe
from lkd.data import fingerprint, load
from lkd.engine.accelerators import make_accelerator
from lkd.engine.setup import RunSetup
from lkd.engine.teacher_source import make_tape, tape_content
from lkd.models import Normalized
from lkd.runs.store import Store

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """A folder of 24 images of two classes."""
    draw = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 2), ("test", 2)):
        for label in ("cat", "dog"):
            folder = tmp_path / "pets" / split / label
            folder.mkdir(parents=True)
            for number in range(count):
                Image.fromarray(draw.integers(0, 256, (32, 32, 3), np.uint8)).save(folder / f"{number}.bmp")
    return tmp_path / "pets"


def recipe(pets: Path, **values: object) -> Recipe:
    return Recipe(data=f"folder:{pets}", student="mini_resnet", image_size=32, batch_size=8, **values)


def replaced(pets: Path) -> None:
    """Another image of the same size under the same name."""
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(pets / "train" / "cat" / "3.bmp")


def of(pets: Path) -> str:
    return fingerprint(load(f"folder:{pets}"))


def test_a_fingerprint_changes_with_the_files_of_a_folder_and_with_nothing_else(pets: Path) -> None:
    before = of(pets)
    assert of(pets) == before
    (pets / "train" / "notes.txt").write_text("left aside")
    assert of(pets) == before
    replaced(pets)
    after = of(pets)
    assert after != before
    (pets / "train" / "cat" / "3.bmp").rename(pets / "train" / "dog" / "30.bmp")
    assert of(pets) not in (before, after)


def test_a_fingerprint_of_tar_files_changes_with_them(pets: Path, tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        shutil.make_archive(str(tmp_path / "tars" / split), "tar", pets / split)
    before = fingerprint(load(f"tar:{tmp_path / 'tars'}"))
    assert fingerprint(load(f"tar:{tmp_path / 'tars'}")) == before
    os.utime(tmp_path / "tars" / "train.tar", ns=(1, 1))
    assert fingerprint(load(f"tar:{tmp_path / 'tars'}")) != before


def test_a_run_that_is_found_warns_of_images_replaced_since(pets: Path, store: Store) -> None:
    done = lkd.run(recipe(pets), store=store)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lkd.run(recipe(pets), store=store)
    replaced(pets)
    changed = rf"the files of folder:{pets} have changed .* since '{done.recipe.run_id}' ran: restore the files"
    with pytest.warns(UserWarning, match=changed):
        lkd.run(recipe(pets), store=store)
    lkd.run(recipe(pets), store=store, resume=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lkd.run(recipe(pets), store=store)
    shutil.rmtree(pets)
    assert lkd.run(recipe(pets), store=store).metrics


def test_another_tape_is_recorded_of_images_replaced_since(pets: Path, store: Store) -> None:
    taught = recipe(pets, teacher=replace(recipe(pets), student="mini_vit"), objective="kd")
    folders = set()
    for _ in range(2):
        setting = RunSetup(taught, {})
        make_accelerator("no")
        folders.add(make_tape(setting, setting.untrained_teacher(), store).folder)
        replaced(pets)
    assert len(folders) == 2


def test_a_tape_names_the_whole_teacher(pets: Path) -> None:
    """The same weights under another normalisation, in another network or through other stages are other teachers."""
    taught = recipe(pets, teacher=replace(recipe(pets), student="mini_vit"), objective="kd")
    setting = RunSetup(taught, {})
    teacher = setting.untrained_teacher()
    before = tape_content(setting, teacher)
    stages, normalized = setting.untrained_teacher(), setting.untrained_teacher()
    stages.stages += 1
    normalized.model = Normalized(normalized.model, [0.5], [0.25])
    for name, other in (("stages", stages), ("teacher", normalized)):
        assert tape_content(setting, other) == {**before, name: tape_content(setting, other)[name]} != before
    longer = RunSetup(replace(taught, teacher=replace(taught.teacher, epochs=2)), {})
    assert tape_content(longer, teacher)["network"] != before["network"]
