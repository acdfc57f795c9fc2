"""Short runs on the digits, and modules of one's own."""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from lkd import Recipe
from lkd.runs.store import Run

ALONE = Recipe(data="digits", student="mini_resnet", train_images=128, epochs=2)
SMOKE = {"data": "digits", "profile": "smoke", "train_images": 128}
TEACHER = Recipe(data="digits", student="mini_convnext_nano", train_images=128, lr=4e-3)
TAUGHT = replace(ALONE, teacher=TEACHER, objective="kd", objective_args={"temperature": 2.0, "alpha": 0.5})


class Perceptron(nn.Module):
    """A classifier, with batch norm and dropout, that timm does not know; by default of digits."""

    def __init__(self, hidden: int = 16, values: int = 32 * 32, classes: int = 10):
        super().__init__()
        self.hidden = nn.Linear(values, hidden)
        self.norm = nn.BatchNorm1d(hidden)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(hidden, classes)

    def forward(self, images: Tensor) -> Any:
        return self.head(self.drop(self.norm(self.hidden(images.flatten(1))).relu()))


class Wayward(Perceptron):
    """One that fails in the second of several processes, while it is trained."""

    def forward(self, images: Tensor) -> Any:
        if self.training and os.environ.get("RANK") == "1":
            raise RuntimeError("process 1 has had enough")
        return super().forward(images)


def equal(first: nn.Module, second: nn.Module) -> bool:
    """Whether two networks have the same weights and buffers, bit for bit."""
    ours, theirs = first.state_dict(), second.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def same(first: Run, second: Run) -> bool:
    """Whether two runs have the same results, bit for bit."""
    figures = first.metrics == second.metrics and first.history.equals(second.history)
    return figures and equal(first.student, second.student)


def stop(process: int) -> None:
    """Stop a child of this process by SIGSTOP, and return when it stands."""
    os.kill(process, signal.SIGSTOP)
    os.waitpid(process, os.WUNTRACED)


def wait_until(happened: Callable[[], object], seconds: float = 120) -> None:
    """Until something has happened; fails if it does not."""
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.05)
