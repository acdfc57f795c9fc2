"""Teachers: what is asked is the fastest exact form of the model."""

import timm
import torch
from torch import nn

from lkd.data import Batch, load
from lkd.engine.teacher import LiveTeacher
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
    teacher = LiveTeacher(model, load("digits"))
    assert any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in teacher.model.modules())
    batch = Batch(images, torch.zeros(4, dtype=torch.long), torch.arange(4))
    torch.testing.assert_close(teacher(0, batch).logits, model(images), rtol=1e-4, atol=1e-4)


def test_any_models_depthwise_convolutions_are_the_fast_ones() -> None:
    teacher = LiveTeacher(unsettled("mini_cswin"), load("digits"))
    assert any(isinstance(module, DepthwiseConv2d) for module in teacher.model.modules())
