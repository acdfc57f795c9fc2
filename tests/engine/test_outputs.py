"""What networks give: logits, and maps in one form whatever the network."""

import pytest
import timm
import torch
from torch import nn

import lkd  # noqa: F401
from lkd.engine.outputs import outputs

SHAPES = {
    "mini_slak": [(48, 8), (96, 4)],
    "mini_swin": [(40, 8), (80, 4)],
    "mini_cswin": [(40, 8), (80, 4)],
    "mini_vit": [(64, 8), (64, 8)],
    "mini_resnet": None,
    "resnet18": [(256, 2), (512, 1)],
}


@pytest.mark.parametrize("name", SHAPES)
def test_logits_are_the_networks_own_and_maps_have_rows_and_columns(name):
    torch.manual_seed(0)
    model, images = timm.create_model(name, num_classes=5).eval(), torch.randn(2, 3, 32, 32)
    given = outputs(model, images, 2)
    torch.testing.assert_close(given.logits, model(images))
    assert len(given.maps) == 2 and all(each.ndim == 4 for each in given.maps)
    if SHAPES[name]:
        assert [(each.shape[1], each.shape[2]) for each in given.maps] == SHAPES[name]
    assert outputs(model, images, 0).maps == ()


@pytest.mark.parametrize("name", ["mini_cswin", "mini_vit", "mini_swin"])
def test_the_last_map_is_the_one_after_the_final_norm(name):
    torch.manual_seed(0)
    model, images = timm.create_model(name, num_classes=5).eval(), torch.randn(2, 3, 32, 32)
    features = model.forward_features(images)
    if name == "mini_swin":
        features = features.flatten(1, 2)
    tokens = outputs(model, images, 1).maps[0].flatten(2).mT
    torch.testing.assert_close(tokens, features[:, -tokens.shape[1] :])


def test_a_network_without_maps_is_refused():
    with pytest.raises(TypeError, match="a Flatten has no feature maps: give a model with forward_intermediates"):
        outputs(nn.Flatten(), torch.zeros(1, 3, 8, 8), 1)
