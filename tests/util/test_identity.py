"""Equal content and code have equal digests in every process; anything that can change a result changes them."""

import copy
import functools
import importlib
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from lkd import Recipe
from lkd.util.identity import NoStableContentError, digest, own_code

CELL = """
import torch
from torch import nn

SCALE = {scale}

def bend(x):
    return x.{bend}()

class Net(nn.Module):
    factor = {factor}

    def __init__(self):
        super().__init__()
        self.body = nn.Linear(4, 3)
        self.order = {order}
        self.tags = {{"grey", "colour", "small"}}
        self.register_buffer("shift", torch.tensor({shift}), persistent=False)

    def forward(self, images):
        # {comment}
        return bend(self.body(images))[:, self.order] * SCALE * self.factor + self.shift
"""
PLAIN: dict[str, Any] = {
    "scale": 2, "bend": "relu", "factor": 3, "order": [0, 1, 2], "shift": 0.5, "comment": "one"
}  # fmt: skip


def made(**changes: Any) -> nn.Module:
    """A network with a class defined as in a notebook, without a source file."""
    cell: dict[str, Any] = {"__name__": "__main__"}
    exec(CELL.format(**{**PLAIN, **changes}), cell)
    torch.manual_seed(0)
    return cell["Net"]()


@pytest.mark.parametrize(
    "change",
    [{"scale": 3}, {"bend": "sigmoid"}, {"factor": 4}, {"order": [2, 1, 0]}, {"shift": 0.25}],
    ids=lambda change: next(iter(change)),
)
def test_every_change_of_a_redefined_class_changes_its_digest(change: dict[str, Any]) -> None:
    assert digest(made()) == digest(made(comment="another"))
    assert digest(made()) != digest(made(**change))


@pytest.mark.slow
def test_another_process_gives_the_same_digest() -> None:
    code = CELL.format(**PLAIN) + "\ntorch.manual_seed(0)\nfrom lkd.util.identity import digest\nprint(digest(Net()))"
    environment = {**os.environ, "PYTHONHASHSEED": "77"}
    told = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == digest(made())


def test_compiling_a_function_leaves_digests_as_they_are() -> None:
    before = digest(made())
    torch.compile(lambda images: images + 1, backend="eager")(torch.ones(2))
    assert digest(made()) == before


class Bend:
    """A decorator that is a class."""

    def __init__(self, factor: int) -> None:
        functools.update_wrapper(self, torch.relu)
        self.factor = factor


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.second = nn.Linear(4, 4)
        self.second.load_state_dict(self.first.state_dict())

    def forward(self, images: Tensor) -> Tensor:
        return self.second(self.first(images))


def plain() -> Plain:
    torch.manual_seed(0)
    return Plain()


def replaced(net: Plain) -> None:
    net.forward = lambda images: net.first(images)  # type: ignore[method-assign]


def tied(net: Plain) -> None:
    net.second.weight = net.first.weight


def decorated(function: Callable[..., Any]) -> Callable[[Plain], None]:
    def change(net: Plain) -> None:
        net.bend = torch.no_grad()(function)

    return change


CHANGES: dict[str, Callable[[Plain], object]] = {
    "a frozen parameter": lambda net: net.first.weight.requires_grad_(False),
    "tied weights": tied,
    "a method replaced on the instance": replaced,
    "a forward hook": lambda net: net.first.register_forward_hook(lambda *_: None),
    "another forward hook": lambda net: net.first.register_forward_hook(lambda *_: 1),
    "a hook on a parameter": lambda net: net.first.weight.register_hook(lambda gradient: 2 * gradient),
    "a parametrization": lambda net: weight_norm(net.first),
    "a tensor that is no buffer": lambda net: setattr(net, "mask", torch.ones(2)),
    "a function": lambda net: setattr(net, "bend", torch.relu),
    "another function": lambda net: setattr(net, "bend", torch.sigmoid),
    "a function with a decorator of PyTorch": decorated(lambda x: x),
    "another one with it": decorated(lambda x: 2 * x),
    "a function with settings": lambda net: setattr(net, "bend", functools.partial(torch.add, 1)),
    "other settings": lambda net: setattr(net, "bend", functools.partial(torch.add, 2)),
    "batch statistics": lambda net: setattr(net, "norm", nn.BatchNorm1d(4)),
    "those of each batch": lambda net: setattr(net, "norm", nn.BatchNorm1d(4, track_running_stats=False)),
    "double precision": lambda net: net.double(),
    "a hook after the gradient": lambda net: net.first.weight.register_post_accumulate_grad_hook(lambda weight: None),
    "weights in one place in memory": lambda net: setattr(net.second.weight, "data", net.first.weight.data),
    "a callable with a setting": lambda net: setattr(net, "bend", Bend(1)),
    "another setting": lambda net: setattr(net, "bend", Bend(2)),
    "a masked array": lambda net: setattr(net, "held", np.ma.array([1, 2], mask=[0, 1])),
    "another mask": lambda net: setattr(net, "held", np.ma.array([1, 2], mask=[1, 0])),
    "a module": lambda net: setattr(net, "library", sys.modules[__name__]),
}  # fmt: skip


def test_everything_that_changes_a_networks_results_changes_its_digest() -> None:
    found = {"nothing": digest(plain())}
    for name, change in CHANGES.items():
        net = plain()
        change(net)
        found[name] = digest(net)
    assert len(set(found.values())) == len(found)


@pytest.mark.parametrize("change", [replaced, CHANGES["a hook on a parameter"]], ids=["method", "hook"])
def test_a_changed_copy_has_another_digest(change: Callable[[Plain], object]) -> None:
    net = plain()
    change(net)
    assert digest(copy.deepcopy(net)) != digest(net)


def test_neither_mode_nor_device_copies_change_a_digest() -> None:
    net = plain()
    assert digest(net.eval()) == digest(net.train()) == digest(copy.deepcopy(net))


class Functional(nn.Module):
    """Uses PyTorch's functions."""

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.relu(images)


@pytest.mark.parametrize(
    "make, owner, name, other",
    [
        (nn.ReLU, nn.ReLU, "forward", lambda self, x: x),
        (nn.ReLU, nn.ReLU, "forward", nn.Identity.forward),
        (lambda: nn.BatchNorm2d(2), nn.modules.batchnorm._BatchNorm, "forward", lambda self, x: x),
        (Functional, nn.functional, "relu", lambda x: x),
    ],
    ids=["method", "another class's method", "inherited method", "function"],
)
def test_replaced_installed_code_changes_a_digest(
    make: Callable[[], nn.Module], owner: Any, name: str, other: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = digest(make())
    monkeypatch.setattr(owner, name, other)
    assert digest(make()) != before


def test_a_model_by_name_whose_class_was_changed_makes_another_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Recipe(data="digits", student="resnet10t").run_id
    monkeypatch.setattr(timm.models.ResNet, "forward", lambda self, images: 0 * images)
    assert Recipe(data="digits", student="resnet10t").run_id != before


class Reversed(torch.autograd.Function):
    """Reverses gradients; PyTorch numbers such classes as they are defined."""

    @staticmethod
    def forward(ctx: Any, images: Tensor) -> Tensor:
        return images

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return -gradient


def levit_after_a_pass() -> nn.Module:
    model = plain_levit().eval()
    with torch.no_grad():
        model(torch.zeros(1, 3, 224, 224))
    return model


def plain_levit() -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model("levit_128s")


def lstm() -> nn.Module:
    torch.manual_seed(0)
    return nn.LSTM(2, 2)


@pytest.mark.slow
@pytest.mark.parametrize(
    "first, second",
    [
        (lstm, lambda: copy.deepcopy(lstm())),
        (lambda: weight_norm(plain().first), lambda: copy.deepcopy(weight_norm(plain().first))),
        (plain_levit, levit_after_a_pass),
        (lambda: re.compile("a"), lambda: re.compile("a")),
        (lambda: Reversed, lambda: type("Reversed", Reversed.__bases__, dict(vars(Reversed)))),
    ],
    ids=["weak references", "a parametrization", "a cache of timm's", "a pattern", "a numbered class"],
)
def test_equal_content_has_equal_digests_whatever_python_caches(
    first: Callable[[], Any], second: Callable[[], Any]
) -> None:
    assert digest(first()) == digest(second())


def test_a_notebooks_variable_that_is_named_like_an_attribute_does_not_count() -> None:
    names = {"first": object()}
    one, other = (eval("lambda net, x: net.first(x)", space) for space in (dict(names), {}))
    assert digest(one) == digest(other)


@pytest.mark.parametrize(
    "value",
    [threading.Lock(), sys.stdout.buffer, (n for n in [1]), torch.jit.script(nn.ReLU())],
    ids=["lock", "file", "generator", "TorchScript"],
)
def test_content_that_cannot_be_compared_is_named(value: Any) -> None:
    net = plain()
    net.inner = {"held": [value]}
    with pytest.raises(NoStableContentError, match=r"student\.inner\['held'\]\[0\] is a .*no content to compare"):
        digest(net, "student")


def test_installed_code_is_known_by_its_name() -> None:
    assert own_code(nn.ReLU, "a") is None and own_code(torch.relu, "b") is None and own_code(digest, "c") is None
    assert own_code(made, "d") is not None


def test_code_in_a_module_of_a_custom_package_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "own_package" / "inner"
    folder.mkdir(parents=True)
    for path in (folder.parent, folder):
        (path / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    found = []
    for factor in (1, 2, 1):
        (folder / "bends.py").write_text(f"def bend(x):\n    return {factor} * x  # {len(found)}\n")
        for name in [name for name in sys.modules if name.startswith("own_package")]:
            del sys.modules[name]
        importlib.invalidate_caches()
        names = {"own_package": importlib.import_module("own_package.inner.bends") and sys.modules["own_package"]}
        found.append(digest(eval("lambda x: own_package.inner.bends.bend(x)", names)))
    assert found[0] == found[2] != found[1]
