"""timm's model names and arguments of `timm.create_model` that are valid in a recipe."""

import pytest
import timm
from timm.models._registry import get_deprecated_models

from lkd.models.timm_names import check_arguments, check_name, check_new, is_name


@pytest.mark.parametrize("pretrained", [True, False])
def test_every_name_that_timm_lists_is_known(pretrained: bool) -> None:
    for name in timm.list_models("*resnet*", pretrained=pretrained) + timm.list_models("mini_*"):
        check_name("model", name)
        assert is_name(name)


def test_a_model_with_new_weights_has_no_tag() -> None:
    check_new("model", "resnet18")
    for name in timm.list_models("resnet18", pretrained=True, include_tags=True):
        with pytest.raises(ValueError, match=f"model '{name}' has the tag of pretrained weights.* give 'resnet18', or"):
            check_new("model", name)


def test_a_deprecated_name_is_answered_with_the_present_one() -> None:
    for name, present in get_deprecated_models("resnet").items():
        with pytest.raises(KeyError, match=f"'{name}' is deprecated in timm: give .*'{present}'"):
            check_name("model", name)


def test_arguments_that_describe_the_network_pass() -> None:
    check_arguments({"drop_path_rate": 0.1, "kernel_sizes": [7, 7, 7], "img_size": 32, "global_pool": "avg"})


@pytest.mark.parametrize(
    "name",
    ["resnet18", "test_vit", "convnext_atto", "mini_slak", "slak_tiny", "cswin_tiny", "swin_tiny_patch4_window7_224"],
)
def test_timm_refuses_an_argument_that_a_model_does_not_have(name: str) -> None:
    # lkd passes unknown arguments on; a family that accepted any would silently train another network.
    with pytest.raises(TypeError, match="drop_pat_rate"):
        timm.create_model(name, drop_pat_rate=0.1)
