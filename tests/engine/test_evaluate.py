"""Evaluation counts each image once, and several processes give what one gives."""

import json
import os
import socket
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from short import TAUGHT, Perceptron
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lkd.data import Images, Split, load
from lkd.engine import Options, evaluate, evaluate_batches
from lkd.engine.checkpoint import Checkpoints
from lkd.engine.setup import RunSetup
from lkd.engine.teacher import FrozenTeacher
from lkd.engine.trainer import Trainer

pytestmark = pytest.mark.usefixtures("one_thread")


class Linear(nn.Module):
    """A classifier without batch norm, which would see another batch in each process."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.head = nn.Linear(1024, 12), nn.Linear(12, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.hidden(images.flatten(1)).relu())


def made(number: int) -> Images:
    """Float images that are used as they are, `number` of them in the test split."""
    generator = torch.Generator().manual_seed(number)
    splits = [
        Split(torch.randn(n, 1, 4, 4, generator=generator), torch.randint(3, (n,), generator=generator))
        for n in (3, 3, number)
    ]
    return Images("made", ("a", "b", "c"), *splits, mean=(0.5,), std=(2.0,))


def linear(data: Images) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, len(data.classes)))


# One process --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [1, 255, 256, 257, 600])
def test_figures_are_those_of_a_plain_computation_for_any_number_of_images(number: int) -> None:
    data = made(number)
    model = linear(data)
    figures = evaluate(model, data, data.test)
    right, loss = 0, 0.0
    for image, label in zip(data.test.images, data.test.labels.tolist(), strict=True):
        logits = model((image[None] - 0.5) / 2.0)[0].tolist()
        right += max(range(3), key=logits.__getitem__) == label
        loss += torch.tensor(logits, dtype=torch.float64).logsumexp(0).item() - logits[label]
    assert figures["top1"] == pytest.approx(100 * right / number)
    assert figures["loss"] == pytest.approx(loss / number, rel=1e-5)


def test_batches_of_any_size_give_what_a_split_gives() -> None:
    data = made(600)
    model, expected = linear(data), evaluate(linear(data), data, data.test)
    images, labels = (data.test.images - 0.5) / 2.0, data.test.labels
    loader = DataLoader(TensorDataset(images, labels), batch_size=7)
    assert evaluate_batches(model, loader) == pytest.approx(expected)
    assert evaluate_batches(model, zip(images.split(256), labels.split(256), strict=True)) == expected
    with pytest.raises(ValueError, match="no images to evaluate"):
        evaluate_batches(model, [])


@pytest.mark.parametrize("training", [True, False])
def test_a_model_is_evaluated_in_eval_mode_and_left_in_its_own(training: bool) -> None:
    data, model = load("digits"), Perceptron()
    model.train(training)
    first = evaluate(model, data, data.val)
    assert model.training == training
    assert evaluate(model, data, data.val) == first, "dropout or batch norm was at work"
    assert all(parameter.grad is None for parameter in model.parameters())


# Two processes ------------------------------------------------------------------------------------------------------


def work(accelerator: Accelerator) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Evaluate and train, alone or together with others: the figures, and the weights that are kept."""
    figures: dict[str, Any] = {"processes": accelerator.num_processes}
    for number in (2, 255, 513):
        data = made(number)
        figures[f"evaluated {number}"] = evaluate(linear(data), data, data.test, accelerator)
    recipe = replace(TAUGHT, teacher="memory:teacher", student="memory:student", ema=0.5, train_images=256)
    torch.manual_seed(0)
    setting = RunSetup(recipe, {"memory:teacher": Linear(), "memory:student": Linear()})
    teacher = setting.frozen_teacher(None)
    assert isinstance(teacher, FrozenTeacher)
    training = Trainer(setting, teacher, accelerator, Options())
    figures["sums"] = []

    def note(images: int) -> None:
        figures["sums"].append(accelerator.reduce(training.sums["total"], "mean").item())

    figures["history"] = training.run(note, Checkpoints("nowhere")).to_dict("list")
    return figures, training.kept.state_dict()


def work_to(path: Path) -> None:
    """`work` in this process, one of several; the main one writes what comes out."""
    torch.set_num_threads(1)
    accelerator = Accelerator(cpu=True)
    figures, kept = work(accelerator)
    if accelerator.is_main_process:
        torch.save((json.dumps(figures), kept), path)


def worked_together(path: Path, processes: int) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What as many processes, joined by gloo, find out together."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {
        "WORLD_SIZE": processes,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "ACCELERATE_USE_CPU": "true",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]),
    }
    working = []
    for rank in range(processes):
        place = {name: str(value) for name, value in {"RANK": rank, "LOCAL_RANK": rank, **shared}.items()}
        working.append(Popen([sys.executable, __file__, str(path)], env={**os.environ, **place}))
    assert [process.wait(timeout=300) for process in working] == [0] * processes
    figures, kept = torch.load(path, weights_only=True)
    return json.loads(figures), kept


@pytest.fixture
def alone() -> Iterator[Accelerator]:
    """This process, on its CPU, whatever other tests made of it before and will make of it later."""
    AcceleratorState._reset_state(True)
    yield Accelerator(cpu=True)
    AcceleratorState._reset_state(True)


@pytest.mark.slow
def test_two_processes_evaluate_and_train_as_one_does(tmp_path: Path, alone: Accelerator) -> None:
    two, theirs = worked_together(tmp_path / "two.pt", 2)
    one, ours = work(alone)
    assert (one.pop("processes"), two.pop("processes")) == (1, 2)
    assert len(one["sums"]) == 8
    assert two.pop("sums") == pytest.approx(one.pop("sums"), rel=1e-5)
    history, other_history = one.pop("history"), two.pop("history")
    for name, figures in one.items():
        assert two[name]["top1"] == figures["top1"], name
        assert two[name]["loss"] == pytest.approx(figures["loss"], rel=1e-6), name
    assert {"train_kd", "train_label", "val_top1"} <= history.keys()
    for name, column in history.items():
        assert other_history[name] == pytest.approx(column, rel=1e-5), name
    for name, weight in ours.items():
        torch.testing.assert_close(theirs[name], weight, rtol=1e-4, atol=1e-5, msg=name)


if __name__ == "__main__":
    work_to(Path(sys.argv[1]))
