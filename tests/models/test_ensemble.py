"""Several teachers as one: the mean of their probabilities, each with its own normalisation."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lkd.models import Ensemble, Normalized
from lkd.models.normalization import Normalization, expect_normalization


class Linear(nn.Module):
    """Logits of flat images."""

    def __init__(self, seed: int, classes: int = 5):
        super().__init__()
        self.layer = nn.Linear(12, classes, bias=False)
        self.layer.weight.data = torch.randn(classes, 12, generator=torch.Generator().manual_seed(seed))

    def forward(self, images: Tensor) -> Tensor:
        return self.layer(images.flatten(1))


IMAGES = torch.rand(4, 3, 2, 2, generator=torch.Generator().manual_seed(0))


def softmax(logits: Tensor) -> np.ndarray:
    e = np.exp(logits.detach().double().numpy())
    return e / e.sum(1, keepdims=True)


@pytest.mark.parametrize("weights", [None, [1, 2, 5], [0.1, 0.2, 0.5]])
def test_probabilities_are_the_weighted_mean(weights: Sequence[float] | None) -> None:
    members = [Linear(seed) for seed in range(3)]
    shares = np.array(weights or [1, 1, 1]) / sum(weights or [1, 1, 1])
    expected = sum(share * softmax(member(IMAGES)) for share, member in zip(shares, members, strict=True))
    assert softmax(Ensemble(members, weights)(IMAGES)) == pytest.approx(expected, abs=1e-6)


def test_equal_members_change_nothing_and_large_logits_stay_finite() -> None:
    member = Linear(0)
    logits = Ensemble([member, member])(IMAGES)
    assert torch.allclose(logits, member(IMAGES).log_softmax(1), atol=1e-5)
    assert Ensemble([member, member])(1e6 * IMAGES).isfinite().any(1).all()


def test_half_precision_members_are_averaged_in_float32_and_double_stays_double() -> None:
    members = [Linear(seed) for seed in range(2)]
    mean = Ensemble([member.bfloat16() for member in members])(IMAGES.bfloat16())
    assert mean.dtype == torch.float32
    assert Ensemble([Linear(seed).double() for seed in range(2)])(IMAGES.double()).dtype == torch.float64


def test_a_member_sees_images_with_its_own_normalisation() -> None:
    mean, std, data_mean, data_std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25), (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    columns = [torch.tensor(each)[:, None, None] for each in (mean, std, data_mean, data_std)]
    member = Linear(0)
    expected = member((IMAGES - columns[0]) / columns[1])
    normalized = Normalized(member, mean, std)
    assert torch.allclose(normalized(IMAGES), expected, atol=1e-5)
    as_students = (IMAGES - columns[2]) / columns[3]
    both = expect_normalization(Ensemble([normalized, Linear(1)]), Normalization(data_mean, data_std))
    mixed = (softmax(expected) + softmax(Linear(1)(as_students))) / 2
    assert softmax(both(as_students)) == pytest.approx(mixed, abs=1e-5)


def test_another_normalisation_stays_on_the_device_and_dtype_of_the_network() -> None:
    model = Normalized(Linear(0), [0.5], [0.25]).to("meta", torch.float64)
    model.expect(Normalization([0.1], [0.3]))
    assert {(each.device.type, each.dtype) for each in model.buffers()} == {("meta", torch.float64)}


@pytest.mark.parametrize(
    ("make", "error", "reason"),
    [
        (lambda: Ensemble([Linear(0)]), ValueError, "at least two members, got 1"),
        (lambda: Ensemble([Linear(0), "slak"]), TypeError, r"members\[1\] must be an nn.Module, got a str"),
        (lambda: Ensemble([Linear(0), Linear(1)], [1]), ValueError, "one number per member, got 1 for 2"),
        (lambda: Ensemble([Linear(0), Linear(1)], [1, 0]), ValueError, r"weights\[1\] must be above 0, got 0"),
        (lambda: Ensemble([Linear(0), Linear(1)], [1, "2"]), TypeError, r"weights\[1\] must be a number"),
        (lambda: Ensemble([Linear(0), Linear(1, classes=4)])(IMAGES), ValueError, "same classes, got .* shapes"),
        (lambda: Normalized("slak", [0], [1]), TypeError, "model must be an nn.Module, got a str"),
        (lambda: Normalized(Linear(0), [0, 0], [1]), ValueError, "a value for each channel, got 2 and 1"),
        (lambda: Normalized(Linear(0), [], []), ValueError, "a value for each channel, got 0 and 0"),
        (lambda: Normalized(Linear(0), [0], [0]), ValueError, r"std\[0\] must be above 0"),
        (lambda: Normalized(Linear(0), ["a"], [1]), TypeError, r"mean\[0\] must be a number"),
        (
            lambda: Normalized(Linear(0), [0], [1]).expect(Normalization([0, 0, 0], [1, 1, 1])),
            ValueError,
            "1 channels, the images have 3",
        ),
    ],
)
def test_wrong_members_are_refused_by_name(make: Any, error: type[Exception], reason: str) -> None:
    with pytest.raises(error, match=reason):
        make()
