"""What networks give: logits, and maps in one form whatever the network."""

import pytest
import timm
import torch
from torch import nn

import lkd  # noqa: F401
from lkd.engine.task import DistillationTask
from lkd.objectives import OBJECTIVES
from lkd.objectives.outputs import check_head, compute_outputs, count_feature_maps

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
    given = compute_outputs(model, images, 2)
    torch.testing.assert_close(given.logits, model(images))
    assert len(given.maps) == 2 and all(each.ndim == 4 for each in given.maps)
    if SHAPES[name]:
        assert [(each.shape[1], each.shape[2]) for each in given.maps] == SHAPES[name]
    assert compute_outputs(model, images, 0).maps == ()


@pytest.mark.parametrize("name", ["mini_cswin", "mini_vit", "mini_swin"])
def test_the_last_map_is_the_one_after_the_final_norm(name):
    torch.manual_seed(0)
    model, images = timm.create_model(name, num_classes=5).eval(), torch.randn(2, 3, 32, 32)
    features = model.forward_features(images)
    if name == "mini_swin":
        features = features.flatten(1, 2)
    tokens = compute_outputs(model, images, 1).maps[0].flatten(2).mT
    torch.testing.assert_close(tokens, features[:, -tokens.shape[1] :])


def test_a_network_without_maps_is_refused():
    with pytest.raises(TypeError, match="a Flatten has no feature maps: give a model with timm's methods"):
        compute_outputs(nn.Flatten(), torch.zeros(1, 3, 8, 8), 1)


# Attributes of timm's names with another meaning --------------------------------------------------------------------


class Named(nn.Module):
    """A network with attributes that are called as timm's."""

    def __init__(self, **attributes):
        super().__init__()
        self.flat, self.head = nn.Flatten(), nn.Linear(192, 5)
        vars(self).update(attributes)

    def forward(self, x):
        return self.head(self.flat(x))


def maps(x, **_):
    return x, [x]


@pytest.mark.parametrize(
    ("attributes", "told"),
    [
        ({"forward_intermediates": 3}, "a Named has no feature maps"),
        ({"forward_intermediates": maps}, "a Named has no feature maps"),
        ({"forward_intermediates": lambda x: [x]}, r"of Named has another interface.*unexpected keyword"),
        ({"forward_intermediates": lambda x, **_: [x]}, "has another interface than timm"),
        ({"forward_intermediates": lambda x, **_: (x, x)}, r"does not return 1 feature map\(s\)"),
        ({"forward_intermediates": lambda x, **_: (x, [x.flatten(1)])}, r"does not return 1 feature map\(s\)"),
        ({"forward_intermediates": lambda x, **_: (x, [x, x])}, r"does not return 1 feature map\(s\)"),
    ],
)
def test_a_method_called_as_timms_that_gives_something_else_is_refused(attributes, told):
    head = {} if attributes["forward_intermediates"] is maps else {"forward_head": lambda x: x}
    with pytest.raises(TypeError, match=told):
        compute_outputs(Named(**attributes, **head), torch.zeros(2, 3, 8, 8), 1)


@pytest.mark.parametrize("info", [3, "stages", {"num_chs": 3}, [3], ["layer1"], [{"channels": 3}]])
def test_a_feature_info_that_is_not_timms_is_refused_by_role(info):
    with pytest.raises(TypeError, match=r"^student's feature_info must be a list.*got a"):
        count_feature_maps(Named(feature_info=info), "student")


def test_feature_maps_are_counted():
    assert count_feature_maps(Named(), "student") is None
    assert count_feature_maps(timm.create_model("mini_slak"), "student") == 3


@pytest.mark.parametrize(
    "given", [True, {"head.bias"}, lambda: "head.bias", lambda: [3], lambda: None, lambda x: set()]
)
def test_a_no_weight_decay_that_is_not_timms_is_refused(given):
    with pytest.raises(TypeError, match="student's no_weight_decay must be a method that returns a set of param"):
        DistillationTask(Named(no_weight_decay=given), OBJECTIVES["label"]()).no_weight_decay()


def test_a_head_that_gives_other_logits_than_forward_is_refused_by_role():
    model, x = Named(forward_intermediates=maps), torch.randn(2, 3, 8, 8)
    model.forward_head = model.forward
    check_head(model, x, 1, "student")
    model.forward_head = lambda x: 2 * model(x)
    check_head(model, x, 0, "student")
    with pytest.raises(ValueError, match=r"student's forward_head after forward_intermediates gives other logits"):
        check_head(model, x, 1, "student")
