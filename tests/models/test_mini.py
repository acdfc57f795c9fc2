"""The mini family as timm models: names, shapes, heads, feature maps, costs, gradients."""

import subprocess
import sys

import pytest
import timm
import torch
from timm.layers import DropPath
from torch import nn

import lkd  # noqa: F401
from lkd.models.cost import cost

TEACHERS = ["mini_slak", "mini_convnext", "mini_swin", "mini_cswin", "mini_vit"]
STUDENTS = ["mini_resnet", "mini_convnext_nano"]
BLOCKS = {"mini_vit": 2, "mini_resnet": 3, "mini_convnext_nano": 3}
every_model = pytest.mark.parametrize("name", TEACHERS + STUDENTS)


def made(name, **kwargs):
    torch.manual_seed(0)
    return timm.create_model(name, **kwargs).eval()


def unsettled(name, **kwargs):
    """Move away from the initialisation, where zero layers hide others."""
    model = made(name, **kwargs)
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape)
    return model


def images(channels=1, batch=2):
    return torch.randn(batch, channels, 32, 32, generator=torch.Generator().manual_seed(0))


@every_model
@pytest.mark.parametrize("channels", [1, 3])
def test_gives_logits_for_gray_and_colour(name, channels):
    model = made(name, in_chans=channels, num_classes=7)
    assert model(images(channels)).shape == (2, 7)
    assert made(name)(images(3)).shape == (2, 10)


@every_model
def test_forward_is_features_then_head(name):
    model = made(name, in_chans=1)
    features = model.forward_features(images())
    pooled = model.forward_head(features, pre_logits=True)
    assert pooled.shape == (2, model.num_features)
    torch.testing.assert_close(model.get_classifier()(pooled), model(images()))
    torch.testing.assert_close(model.forward_head(features), model(images()))


@every_model
def test_a_new_head_has_other_classes_and_keeps_the_features(name):
    model = made(name, in_chans=1)
    before = model.forward_features(images())
    model.reset_classifier(5)
    assert model.num_classes == 5 and model(images()).shape == (2, 5)
    assert model.get_classifier().out_features == 5
    torch.testing.assert_close(model.forward_features(images()), before)
    model.reset_classifier(0)
    torch.testing.assert_close(model(images()), model.forward_head(before, pre_logits=True))


@pytest.mark.parametrize("name", ["mini_slak", "mini_cswin"])
def test_another_pooling_is_refused(name):
    with pytest.raises(ValueError, match="global_pool must be 'avg', got 'max'"):
        made(name).reset_classifier(5, global_pool="max")


def measured_maps(model, size):
    """Outputs of the modules named in `feature_info`, as (channels, reduction)."""
    maps = {}
    for info in model.feature_info:
        module = model.get_submodule(info["module"])
        last = module[-1] if isinstance(module, nn.ModuleList) else module
        last.register_forward_hook(lambda _, __, output, name=info["module"]: maps.update({name: output}))
    model(torch.zeros(1, 1, size, size))
    return {name: channels_and_reduction(output, size) for name, output in maps.items()}


def channels_and_reduction(output, size):
    """Of a map (1, C, h, w) or (1, h, w, C), or of tokens (1, N, C)."""
    if output.ndim == 3:
        return output.shape[2], size // int(output.shape[1] ** 0.5)
    channels_last = output.shape[1] == output.shape[2]
    return output.shape[3 if channels_last else 1], size // output.shape[2]


@every_model
def test_feature_info_tells_what_the_maps_really_are(name):
    model = made(name, in_chans=1)
    told = {info["module"]: (info["num_chs"], info["reduction"]) for info in model.feature_info}
    assert measured_maps(model, 32) == told
    assert model.feature_info[-1]["num_chs"] == model.num_features


@pytest.mark.parametrize("name", ["mini_slak", "mini_convnext", "mini_cswin", "mini_convnext_nano", "mini_resnet"])
def test_nets_without_a_fixed_size_take_other_sizes(name):
    assert made(name, in_chans=1)(torch.zeros(1, 1, 48, 64)).shape == (1, 10)


def test_teachers_cost_about_the_same_and_students_a_tenth():
    macs = {name: cost(made(name, in_chans=1), 1, (32, 32)).macs / 1e6 for name in TEACHERS + STUDENTS}
    teachers = [macs[name] for name in TEACHERS]
    assert min(teachers) > 5 and max(teachers) < 8, macs
    for student in STUDENTS:
        assert 0.05 < macs[student] / (sum(teachers) / len(teachers)) < 0.15, macs


@every_model
def test_a_step_reaches_every_parameter(name):
    model = unsettled(name, in_chans=1).train()
    model(images(batch=4)).square().sum().backward()
    idle = [key for key, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not idle


@every_model
def test_images_of_a_batch_do_not_see_each_other(name):
    model = made(name, in_chans=1)
    torch.testing.assert_close(model(images())[:1], model(images()[:1]))


@every_model
def test_drop_path_rises_linearly_from_0_and_is_off_by_default(name):
    assert not any(isinstance(module, DropPath) and module.drop_prob for module in made(name).modules())
    rates = [m.drop_prob for m in made(name, drop_path_rate=0.3).modules() if isinstance(m, DropPath)]
    last = BLOCKS.get(name, 4) - 1
    assert rates == sorted(rates)
    assert sorted(set(rates)) == pytest.approx([0.3 * block / last for block in range(1, last + 1)])


@every_model
def test_drop_path_acts_in_training_only(name):
    plain, dropping = unsettled(name, in_chans=1), made(name, in_chans=1, drop_path_rate=0.9)
    dropping.load_state_dict(plain.state_dict())
    torch.testing.assert_close(dropping(images()), plain(images()))
    assert not torch.allclose(dropping.train()(images(batch=8)), plain.train()(images(batch=8)))


def test_weights_that_do_not_exist_are_refused():
    with pytest.raises(RuntimeError, match="mini_slak"):
        timm.create_model("mini_slak", pretrained=True)


@pytest.mark.slow
@pytest.mark.parametrize("order", ["import lkd, timm", "import timm, lkd"])
def test_models_are_known_to_timm_in_either_order_of_imports(order):
    script = f"{order}; print(timm.is_model('mini_slak'), len(timm.list_models('mini_*')))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", str(len(TEACHERS + STUDENTS))]
