"""The three operators derive each other, to every order, and are as PyTorch asks operators to be."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.library import opcheck
from torch.utils.flop_counter import FlopCounterMode

from lkd.ops.operators import convolution, input_gradient, weight_gradient


def normal(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    random = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return random.to(dtype).requires_grad_()


def arguments(size: tuple[int, int], kernel: tuple[int, int], dtype: torch.dtype) -> dict[Any, tuple[Any, ...]]:
    """Arguments of each operator."""
    input, grad = normal(2, 2, *size, dtype=dtype), normal(2, 2, *size, dtype=dtype, seed=1)
    weight, bias = normal(2, 1, *kernel, dtype=dtype, seed=2), normal(2, dtype=dtype, seed=3)
    return {convolution: (input, weight, bias), input_gradient: (grad, weight), weight_gradient: (input, grad, kernel)}


@pytest.mark.parametrize("kernel", [(5, 3), (3, 5)])
@pytest.mark.parametrize("operator", [convolution, input_gradient, weight_gradient], ids=str)
def test_first_and_second_derivatives_are_right(operator: Any, kernel: tuple[int, int]) -> None:
    given = arguments((3, 4), kernel, torch.float64)[operator]
    assert gradcheck(operator, given) and gradgradcheck(operator, given)


def test_a_convolution_without_bias_has_derivatives() -> None:
    input, weight, _ = arguments((3, 4), (5, 3), torch.float64)[convolution]
    assert gradcheck(convolution, (input, weight)) and gradcheck(convolution, (input, weight.detach(), None))


@pytest.mark.slow
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("operator", [convolution, input_gradient, weight_gradient], ids=str)
def test_is_an_operator_as_pytorch_asks_for(operator: Any, layout: torch.memory_format) -> None:
    given = arguments((8, 9), (5, 15), torch.float32)[operator]
    opcheck(operator, (given[0].detach().contiguous(memory_format=layout).requires_grad_(), *given[1:]))


def test_counts_the_operations_of_each() -> None:
    for operator, given in arguments((6, 7), (5, 3), torch.float32).items():
        with FlopCounterMode(display=False, custom_mapping={}) as counter, torch.no_grad():
            operator(*given)
        assert counter.get_total_flops() == 2 * 2 * 2 * 6 * 7 * 5 * 3, operator
