"""Folded and converted networks have equal outputs."""

import pytest
import timm
import torch
from small_nets import CONVNEXT, SLAK, images, net, same, settled
from torch import nn

import lkd  # noqa: F401
from lkd.models import fold_batchnorm, to_timm_convnext
from lkd.models.slak import LargeKernel, SLaK


def folded_and_original(model):
    model = settled(model).double()
    return fold_batchnorm(model), model


@pytest.mark.parametrize("size", [(32, 32), (32, 64), (96, 32)])
@pytest.mark.parametrize("form", [SLAK, CONVNEXT])
def test_a_folded_network_has_equal_outputs_and_no_batch_norm(form, size):
    folded, model = folded_and_original(SLaK(layer_scale=1.0, **form))
    x = images(2, 3, *size).double()
    torch.testing.assert_close(folded(x), model(x))
    torch.testing.assert_close(folded.forward_features(x), model.forward_features(x))
    assert not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in folded.modules())
    assert not any("running" in key or ".bn." in key for key in folded.state_dict())


def depthwise(model):
    return sorted(tuple(m.kernel_size) for m in model.modules() if isinstance(m, nn.Conv2d) and m.groups > 1)


@pytest.mark.parametrize(
    ("small", "kernels", "parameters"), [(5, [(5, 13), (13, 5)], 6 * (2 * 65 + 1)), (None, [(13, 13)], 6 * (169 + 1))]
)
def test_a_folded_kernel_is_two_convolutions_or_one(small, kernels, parameters):
    folded, model = folded_and_original(LargeKernel(6, 13, small))
    assert depthwise(folded) == kernels
    assert sum(p.numel() for p in folded.parameters()) == parameters
    x = images(2, 6, 7, 20).double()
    torch.testing.assert_close(folded(x), model(x))


@pytest.mark.parametrize("training", [True, False])
def test_folding_leaves_the_model_as_it_was(training):
    model = net().train(training)
    names, before = str(model), {key: value.clone() for key, value in model.state_dict().items()}
    folded = fold_batchnorm(model)
    assert not folded.training and all(module.training == training for module in model.modules())
    assert str(model) == names and all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    folded.head.weight.data.zero_()
    assert model.head.weight.any()


def test_folding_uses_the_running_statistics_whatever_the_mode():
    model, x = net(), images(2, 1, 32, 32)
    torch.testing.assert_close(fold_batchnorm(model.train())(x), model.eval()(x), rtol=1e-4, atol=1e-4)


def test_a_folded_network_folds_to_itself():
    once = fold_batchnorm(net())
    assert same(fold_batchnorm(once), once)


def test_a_network_without_batch_norm_comes_back_as_a_copy_in_eval_mode():
    model = timm.create_model("mini_cswin", drop_path_rate=0.5).train()
    folded = fold_batchnorm(model)
    assert same(folded, model) and folded is not model and model.training
    assert not any(module.training for module in folded.modules())


@pytest.mark.parametrize(
    ("model", "first"),
    [
        (nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1)), "0:"),
        (nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), nn.BatchNorm2d(3)), "2:"),
        (nn.Sequential(nn.Conv2d(3, 3, 1), shared := nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1), shared), "1:"),
        (nn.Sequential(twice := nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), twice), "1:"),
        (nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, track_running_stats=False)), "1:"),
        (nn.BatchNorm2d(3), "the model itself:"),
    ],
)
def test_a_batch_norm_that_would_be_left_is_refused_by_name(model, first):
    with pytest.raises(ValueError, match=f"fold_batchnorm cannot fold 1 batch norms .*the first is {first}"):
        fold_batchnorm(model)


class UsedTwice(nn.Module):
    """A convolution whose output goes into a batch norm, and past it."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x):
        x = self.conv(x)
        return self.bn(x) + x


def test_a_convolution_whose_output_is_used_elsewhere_too_is_refused():
    with pytest.raises(ValueError, match="changes the outputs"):
        fold_batchnorm(settled(UsedTwice()))


@pytest.mark.parametrize("name", ["mini_resnet", "test_resnet", "test_efficientnet", "test_byobnet"])
def test_networks_of_timm_fold_to_equal_outputs_and_fewer_parameters(name):
    model = settled(timm.create_model(name, in_chans=3)).double()
    folded, x = fold_batchnorm(model), images(2, 3, 64, 64).double()
    torch.testing.assert_close(folded(x), model(x))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert sum(p.numel() for p in folded.parameters()) < sum(p.numel() for p in model.parameters())


class Foreign(nn.Module):
    """A convolution and a batch norm that `fuse` and similar methods can fold."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x):
        return self.bn(self.conv(x))


class Folds(Foreign):
    def fuse(self):
        return nn.utils.fuse_conv_bn_eval(self.conv, self.bn)


class FusesTwo(Foreign):
    def fuse(self, one, other):
        return one + other


class FusesInPlace(Foreign):
    def fuse(self):
        self.conv, self.bn = nn.utils.fuse_conv_bn_eval(self.conv, self.bn), nn.Identity()


class FusesToSomethingElse(Foreign):
    def fuse(self):
        return self.conv


class ReparameterizesToSomethingElse(Foreign):
    def reparameterize(self):
        self.bn = nn.Identity()


class BatchStatistics(Folds):
    def __init__(self):
        super().__init__()
        self.bn = nn.BatchNorm2d(4, track_running_stats=False)


class TrainsItsBatchNorm(Folds):
    def train(self, mode=True):
        super().train(mode)
        self.bn.train()
        return self


def hooked():
    block = Folds()
    block.conv.register_forward_hook(lambda module, inputs, output: 2 * output)
    return block


FOREIGN = {
    FusesTwo: r"a FusesTwo, cannot be folded by its fuse\(\).*missing 2 required",
    FusesInPlace: r"a FusesInPlace, cannot be folded by its fuse\(\).*NoneType",
    FusesToSomethingElse: r"fuse\(\).*changes the outputs, by up to .*: rename the method",
    ReparameterizesToSomethingElse: r"its reparameterize\(\).*changes the outputs",
    BatchStatistics: r"fuse\(\).*running_mean",
    TrainsItsBatchNorm: r"fuse\(\).*only for eval",
    hooked: "has hooks, which folding would drop",
}


@pytest.mark.parametrize(("make", "told"), FOREIGN.items(), ids=[make.__name__ for make in FOREIGN])
def test_a_method_that_means_something_else_is_refused_by_the_name_of_its_module(make, told):
    model = settled(nn.Sequential(Folds(), nn.Sequential(nn.Conv2d(4, 3, 1), make())))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=f"^model's module 'model.1.1'.*{told}"):
        fold_batchnorm(model)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_foreign_networks_are_folded_where_their_method_is_what_timm_means():
    model, x = settled(nn.Sequential(Folds(), nn.Flatten(), nn.Linear(144, 2))), images(2, 3, 8, 8)
    with pytest.raises(ValueError, match=r"found no image size that Sequential accepts.*images="):
        fold_batchnorm(model)
    folded = fold_batchnorm(model, x)
    torch.testing.assert_close(folded(x), model(x), rtol=1e-4, atol=1e-4)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())


def test_wrappers_are_dropped():
    model = nn.DataParallel(net())
    assert same(fold_batchnorm(model), fold_batchnorm(model.module))


# timm's ConvNeXt ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "form", [{}, {"patch_size": 1}, {"patch_size": 7, "depths": (2, 1, 1, 1)}, {"in_chans": 1, "num_classes": 0}]
)
def test_a_converted_student_has_equal_outputs(form):
    model = settled(SLaK(layer_scale=1.0, **{"num_classes": 7, **CONVNEXT, **form})).double()
    plain = to_timm_convnext(model)
    assert type(plain) is timm.models.ConvNeXt and not plain.training
    x = images(2, form.get("in_chans", 3), 96, 64).double()
    torch.testing.assert_close(plain(x), model(x))
    torch.testing.assert_close(plain.forward_features(x), model.forward_features(x))


def test_a_converted_student_keeps_its_preprocessing():
    model = timm.create_model("mini_convnext", **{**CONVNEXT, "patch_size": 4})
    assert to_timm_convnext(model).pretrained_cfg["mean"] == (0.5, 0.5, 0.5)
    assert to_timm_convnext(fold_batchnorm(model)).num_classes == 10


@pytest.mark.slow
def test_convnext_bn_tiny_becomes_timms_convnext_tiny():
    plain = to_timm_convnext(timm.create_model("convnext_bn_tiny"))
    assert sum(p.numel() for p in plain.parameters()) == 28_589_128
    timm.create_model("convnext_tiny").load_state_dict(plain.state_dict())


@pytest.mark.parametrize(
    ("form", "told"),
    [
        (SLAK, "model has decomposed kernels"),
        ({**CONVNEXT, "patch_size": 2}, "model has a stem of stride 2: .*1 and 3 to 7"),
        ({**CONVNEXT, "patch_size": 8}, "model has a stem of stride 8: .*1 and 3 to 7"),
        (dict(dims=(8, 8), depths=(1, 1), kernel_sizes=(3, 3), small_kernel=None), "model has 2 stages"),
    ],
)
def test_a_network_that_timms_convnext_cannot_be_is_refused(form, told):
    with pytest.raises(ValueError, match=told):
        to_timm_convnext(SLaK(**form))


class Tempered(SLaK):
    def forward(self, x):
        return super().forward(x) / 4


def test_a_network_with_a_forward_of_its_own_does_not_become_timms():
    model = settled(Tempered(**{**CONVNEXT, "patch_size": 4}))
    with pytest.raises(ValueError, match="Tempered cannot be converted to timm's ConvNeXt, it changes the outputs"):
        to_timm_convnext(model)


def test_a_network_of_another_kind_is_refused():
    with pytest.raises(TypeError, match="got CSWin"):
        to_timm_convnext(timm.create_model("mini_cswin"))
