"""The papers' networks on images in files, as the profile `imagenet` has them: 224 pixels, 1,000 classes."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import nn

import lkd  # noqa: F401
from lkd.engine import Options
from lkd.engine.accelerators import make_accelerator
from lkd.engine.checkpoint import Checkpoints
from lkd.engine.setup import RunSetup
from lkd.engine.trainer import Trainer
from lkd.profiles import Profile

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

TEACHERS = ("slak_tiny", "swin_tiny_patch4_window7_224", "cswin_tiny", "vit_small_2020")
PAIRS = [(teacher, "nkd+fd") for teacher in TEACHERS] + [
    ("vit_small_2020", objective) for objective in ("dist", "vanilla")
]
"""Every teacher with the objective that needs most of it, and the fastest with two that see 1,000 classes otherwise."""
STEPS = 2


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like ImageNet's: 1,000 classes, two small images each to train on and one to validate on."""
    folder, pixels = tmp_path_factory.mktemp("imagenet"), np.random.default_rng(0)
    for split, count in (("train", 2), ("val", 1)):
        for label in range(1000):
            place = folder / split / f"n{label:08}"
            place.mkdir(parents=True)
            for number in range(count):
                image = Image.fromarray(pixels.integers(0, 255, (12, 16, 3), dtype=np.uint8))
                image.resize((48, 40)).save(place / f"{number}.JPEG")
    return folder


@pytest.fixture(scope="module")
def networks() -> Iterator[dict[str, nn.Module]]:
    torch.manual_seed(0)
    yield {name: timm.create_model(name) for name in TEACHERS}


class Enough(Exception):
    """So many steps have been done."""


@pytest.mark.parametrize(("teacher", "objective"), PAIRS)
def test_a_resnet50_takes_real_steps(
    teacher: str, objective: str, imagenet: Path, networks: dict[str, nn.Module], tmp_path: Path
) -> None:
    few = {"data": f"folder:{imagenet}", "batch_size": 2, "accumulation": 1}
    recipe = Profile.load("imagenet").student_recipe(
        "resnet50", teacher=f"memory:{teacher}", objective=objective, **few
    )
    setting = RunSetup(recipe, {f"memory:{teacher}": networks[teacher]})
    assert len(setting.data.classes) == 1000 and setting.data.size == (224, 224)
    training = Trainer(setting, setting.frozen_teacher(None), make_accelerator("no"), Options())
    before = training.task.student.fc.weight.detach().clone()
    losses = []

    def count(images: int) -> None:
        losses.append(training.sums["total"].item())
        if len(losses) == STEPS:
            raise Enough

    with pytest.raises(Enough):
        training.run(count, Checkpoints(tmp_path))
    assert np.isfinite(losses).all() and len(set(losses)) == STEPS
    assert not torch.equal(training.task.student.fc.weight, before)
    assert all(parameter.grad is None for parameter in training.teacher.model.parameters())
