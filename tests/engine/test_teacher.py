"""Teachers: what is asked is the fastest exact form of the model."""

import warnings
from typing import Any

import pytest
import timm
import torch
from torch import nn

from lkd.data import Batch, load
from lkd.engine.teacher import FrozenTeacher
from lkd.objectives import Outputs
from lkd.ops import DepthwiseConv2d


def unsettled(name: str) -> nn.Module:
    """A model whose batch norms have seen images."""
    torch.manual_seed(0)
    model = timm.create_model(name, in_chans=1, num_classes=10).train()
    for _ in range(5):
        model(torch.randn(16, 1, 32, 32))
    return model.eval()


def test_a_teacher_is_asked_without_batch_norm_and_says_the_same() -> None:
    model, images = unsettled("mini_slak"), torch.randn(4, 1, 32, 32)
    teacher = FrozenTeacher(model, load("digits"))
    assert any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in teacher.model.modules())
    batch = Batch(images, torch.zeros(4, dtype=torch.long), torch.arange(4))
    torch.testing.assert_close(teacher(0, batch).logits, model(images), rtol=1e-4, atol=1e-4)


def test_any_models_depthwise_convolutions_are_the_fast_ones() -> None:
    teacher = FrozenTeacher(unsettled("mini_cswin"), load("digits"))
    assert any(isinstance(module, DepthwiseConv2d) for module in teacher.model.modules())


class Block(nn.Module):
    """A convolution, a batch norm and a depthwise convolution; subclasses mean something of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(1, 4, 3, stride=4), nn.BatchNorm2d(4)
        self.depthwise = nn.Conv2d(4, 4, 3, padding=1, groups=4)
        nn.init.uniform_(self.bn.running_var, 0.5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.depthwise(self.bn(self.conv(x)))


class FusesTwo(Block):
    def fuse(self, one: int, other: int) -> int:
        return one + other


class FusesInPlace(Block):
    def fuse(self) -> None:
        self.bn = nn.Identity()


class FusesToSomethingElse(Block):
    def fuse(self) -> nn.Module:
        return self.conv


class LooksAtTypes(Block):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) if type(self.depthwise) is nn.Conv2d else self.conv(x)


class KeepsDropout(Block):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.dropout(super().forward(x), 0.5, training=True)


class TrainsItsBatchNorm(Block):
    def train(self, mode: bool = True) -> "TrainsItsBatchNorm":
        super().train(mode)
        self.bn.train()
        return self


class Views(Block):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x).view(len(x), -1).view(len(x), 4, -1, 1)


class Whole(nn.Sequential):
    def eval(self) -> None:  # type: ignore[override]
        super().eval()


def of(block: type[Block]) -> nn.Module:
    torch.manual_seed(0)
    return Whole(nn.Sequential(block()), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10))


BATCH = Batch(torch.randn(4, 1, 32, 32), torch.zeros(4, dtype=torch.long), torch.arange(4))


def logits(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    torch.manual_seed(1)
    with torch.no_grad():
        return model(images)


@pytest.mark.parametrize(
    ("block", "told"),
    [
        (FusesTwo, r"teacher's module '0.0', a FusesTwo, cannot be folded by its fuse\(\)"),
        (FusesInPlace, r"teacher's module '0.0', a FusesInPlace, cannot be folded"),
        (FusesToSomethingElse, "it changes the outputs, by up to .*The teacher runs unfolded"),
        (LooksAtTypes, r"lkd\.ops\.fast_depthwise fails on the teacher, a Whole \(it changes the outputs"),
        (KeepsDropout, None),
        (TrainsItsBatchNorm, r"teacher's eval\(\) leaves '0\.0\.bn' in training mode: its outputs may vary"),
        (Block, None),
    ],
)
def test_a_teacher_that_means_something_else_is_run_as_it_is_given(block: type[Block], told: str | None) -> None:
    model = of(block)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        teacher = FrozenTeacher(model, load("digits"))
    assert [str(warning.message) for warning in caught] == [] if told is None else len(caught) == 1
    if told is not None:
        with pytest.warns(UserWarning, match=told):
            FrozenTeacher(model, load("digits"))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    model.eval()
    torch.manual_seed(1)
    torch.testing.assert_close(teacher(0, BATCH).logits, logits(model, BATCH.images), rtol=1e-4, atol=1e-4)


def test_a_scripted_teacher_is_run() -> None:
    with warnings.catch_warnings(action="ignore"):
        model = torch.jit.trace(of(Block).train(False), BATCH.images)
        teacher = FrozenTeacher(model, load("digits"))
    torch.testing.assert_close(teacher(0, BATCH).logits, model(BATCH.images))


def test_the_model_given_keeps_its_mode_and_its_gradients() -> None:
    model = of(Block).train()
    FrozenTeacher(model, load("digits"))
    assert model.training and all(parameter.requires_grad for parameter in model.parameters())


def test_channels_last_is_left_out_with_a_warning_where_a_teacher_cannot_be_run_in_it() -> None:
    plain, views = (FrozenTeacher(of(block), load("digits")) for block in (Block, Views))
    before = views(0, BATCH).logits
    plain.to_channels_last()
    assert plain.model[0][0].conv.weight.is_contiguous(memory_format=torch.channels_last)
    with pytest.warns(UserWarning, match="channels_last fails on the teacher, a Whole .*view"):
        views.to_channels_last()
    assert torch.equal(views(0, BATCH).logits, before)


@pytest.mark.parametrize("wrong", ["raises", "differs", "agrees"])
def test_compilation_is_left_out_with_a_warning_where_it_changes_a_teacher(
    wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compiled(function: Any) -> Any:
        def run(*given: Any) -> Outputs:
            if wrong == "raises":
                raise RuntimeError("no compiler")
            return Outputs((2 if wrong == "differs" else 1) * function(*given).logits)

        return run

    monkeypatch.setattr(torch, "compile", compiled)
    teacher = FrozenTeacher(of(Block), load("digits"))
    before = teacher(0, BATCH).logits
    teacher.compile()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            assert torch.equal(teacher(0, BATCH).logits, before)
    told = {"raises": "no compiler", "differs": "changes the outputs", "agrees": ""}[wrong]
    assert [told in str(warning.message) for warning in caught] == [True] * bool(told)
