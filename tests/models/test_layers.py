"""Layers by name: what they give, as maps with rows and columns."""

from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

import lkd  # noqa: F401
from lkd.models.layers import as_map, check_layers, with_layers

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
MAP = torch.randn(2, 5, 4, 4, generator=torch.Generator().manual_seed(1))
TOKENS = MAP.flatten(2).mT


class Tokens(nn.Module):
    """A network that names the number of its prefix tokens, as timm's do."""

    def __init__(self, prefix: Any):
        super().__init__()
        self.num_prefix_tokens = prefix


@pytest.mark.parametrize(
    ("features", "model"),
    [
        (MAP, nn.Identity()),
        (MAP.movedim(1, -1), nn.Identity()),
        (TOKENS, nn.Identity()),
        (torch.cat([TOKENS[:, :1] + 9, TOKENS], 1), nn.Identity()),
        (torch.cat([TOKENS[:, :5] + 9, TOKENS], 1), Tokens(5)),
    ],
    ids=["channels first", "channels last", "tokens", "with a class token", "with registers"],
)
def test_every_form_of_a_map_is_the_same_map(features: Tensor, model: nn.Module) -> None:
    assert torch.equal(as_map(features, model, "", IMAGES), MAP)


def test_the_images_proportions_tell_channels_from_rows() -> None:
    wide, images = torch.randn(2, 4, 4, 8), torch.zeros(2, 3, 16, 32)
    assert torch.equal(as_map(wide, nn.Identity(), "", images), wide)
    assert torch.equal(as_map(wide.movedim(1, -1), nn.Identity(), "", images), wide)


@pytest.mark.parametrize(
    ("layer", "last"),
    [(nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)), False), (nn.Sequential(nn.LayerNorm(4), nn.ReLU()), True)],
)
def test_where_all_sizes_are_equal_the_layer_tells(layer: nn.Module, last: bool) -> None:
    cube = torch.randn(2, 4, 4, 4)
    assert torch.equal(as_map(cube, nn.Sequential(layer), "0", IMAGES), cube.movedim(-1, 1) if last else cube)


@pytest.mark.parametrize("layer", [nn.ReLU(), nn.Sequential(nn.Conv2d(4, 4, 1), nn.LayerNorm(4))])
def test_a_map_with_two_meanings_is_refused(layer: nn.Module) -> None:
    with pytest.raises(ValueError, match=r"'0' have shape \(2, 4, 4, 4\), whose channels may be the first or the last"):
        as_map(torch.randn(2, 4, 4, 4), nn.Sequential(layer), "0", IMAGES)


@pytest.mark.parametrize(
    ("features", "model", "error", "message"),
    [
        ((MAP, MAP), nn.Identity(), TypeError, "the features of Identity are a tuple, not a tensor"),
        (MAP.mean((2, 3)), nn.Identity(), ValueError, r"have shape \(2, 5\) for 2 images: name a layer with maps"),
        (MAP[:1], nn.Identity(), ValueError, r"have shape \(1, 5, 4, 4\) for 2 images"),
        (TOKENS[:, :7], nn.Identity(), ValueError, "7 tokens, after 0 prefix tokens, do not form a grid"),
        (TOKENS, Tokens(1), ValueError, "15 tokens, after 1 prefix tokens, do not form a grid on images of 32x32"),
    ],
)
def test_what_is_no_map_is_refused(features: Any, model: nn.Module, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        as_map(features, model, "", IMAGES)


def test_a_layer_gives_what_it_gives_when_it_runs_alone_and_later_layers_do_not_change_it() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(7200, 5))
    logits, maps = with_layers(model, IMAGES, ["1", "0"])
    before = model[0](IMAGES)
    assert torch.equal(maps[1], before) and torch.equal(maps[0], before.relu()) and (before < 0).any()
    assert torch.equal(logits, model(IMAGES))
    assert not any(module._forward_hooks for module in model.modules())
    (gradient,) = torch.autograd.grad(maps[1].sum(), model[0].bias)
    assert (gradient == 2 * 30 * 30).all()


@pytest.mark.parametrize(
    ("name", "layer"), [("mini_swin", "layers.2"), ("mini_vit", "blocks.1"), ("resnet18", "layer4")]
)
def test_a_timm_networks_layers_are_the_stages_that_timm_gives(name: str, layer: str) -> None:
    torch.manual_seed(0)
    model = timm.create_model(name).eval()
    stages = model.forward_intermediates(IMAGES, indices=1, norm=False, intermediates_only=True, output_fmt="NCHW")
    torch.testing.assert_close(with_layers(model, IMAGES, [layer])[1][0], stages[0])


def test_a_layer_that_does_not_run_once_is_refused() -> None:
    relu = nn.ReLU()
    twice = nn.ModuleDict({"run": nn.Sequential(nn.Conv2d(3, 4, 1), relu, relu), "idle": nn.ReLU()})
    twice.forward = twice["run"].forward  # type: ignore[method-assign]
    with pytest.raises(ValueError, match=r"forward runs layer 'run.1' 2 times: name a layer that runs once"):
        with_layers(twice, IMAGES, ["run.1"])
    with pytest.raises(ValueError, match=r"forward does not run layer 'idle': name a layer that runs once"):
        with_layers(twice, IMAGES, ["idle"])


def test_an_unknown_layer_is_refused_with_the_nearest() -> None:
    with pytest.raises(KeyError, match=r"unknown layer of teacher 'layer3.9': did you mean 'layer3.[01]'\?"):
        check_layers(timm.create_model("resnet18"), ["layer4.1", "layer3.9"], "teacher")
