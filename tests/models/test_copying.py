"""Copies of models are independent of the original; models that cannot be copied are refused by name."""

import copy
import functools
import threading
import warnings
import weakref

import pytest
import torch
import torch.nn.utils.prune
from torch import nn

from lkd.models.copying import copy_to_cpu, unwrap


class Net(nn.Module):
    """A small network with a batch norm; subclasses add what is hard to copy."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn, self.head = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.bn(self.conv(x)).mean((2, 3)))


IMAGES = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))


class ListsItsLayers(Net):
    def __init__(self):
        super().__init__()
        self.others = [nn.Conv2d(1, 1, 1)]

    def forward(self, x):
        return super().forward(self.others[0](x))


class BindsItsMethod(Net):
    def __init__(self):
        super().__init__()
        self.scaled = functools.partial(self.scale, 2)

    def scale(self, factor, x):
        return factor * self.head(x)

    def forward(self, x):
        return self.scaled(self.bn(self.conv(x)).mean((2, 3)))


def weight_norm():
    model = Net()
    with warnings.catch_warnings(action="ignore"):
        model.conv = nn.utils.weight_norm(model.conv)
    return used(model)


def spectral_norm():
    model = Net()
    model.conv = nn.utils.spectral_norm(model.conv)
    return used(model)


def pruned():
    model = Net()
    nn.utils.prune.l1_unstructured(model.conv, "weight", 0.5)
    return used(model)


def parametrised():
    model = Net()
    nn.utils.parametrizations.weight_norm(model.conv)
    return model


def used(model):
    model(IMAGES).sum().backward()
    return model


def hooked():
    model = Net()
    model.conv.register_forward_hook(lambda module, inputs, output: 2 * output)
    return model


def scripted():
    with warnings.catch_warnings(action="ignore"):
        return torch.jit.script(Net())


def traced():
    with warnings.catch_warnings(action="ignore"):
        return torch.jit.trace(Net().eval(), IMAGES)


def scripted_part():
    model = Net()
    with warnings.catch_warnings(action="ignore"):
        model.conv = torch.jit.script(model.conv)
    return model


def wrapped_part():
    model = Net()
    model.bn = nn.DataParallel(model.bn)
    return model


COPIED = {
    make.__name__: make
    for make in (
        Net, ListsItsLayers, BindsItsMethod, weight_norm, spectral_norm, pruned, parametrised, hooked, scripted, traced,
        scripted_part, wrapped_part,
    )
}  # fmt: skip
COPIED |= {"data parallel": lambda: nn.DataParallel(Net()), "double": lambda: Net().double()}


@pytest.mark.parametrize("make", COPIED.values(), ids=COPIED)
def test_a_copy_has_equal_outputs_and_its_own_weights(make):
    model = make()
    model.eval()
    images = IMAGES.to(next(model.parameters()).dtype)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    made = copy_to_cpu(model, "student")
    assert torch.equal(made(images), model(images))
    optimizer = torch.optim.SGD(made.parameters(), lr=1.0)
    made(images).square().sum().backward()
    optimizer.step()
    assert not torch.allclose(made(images), model(images))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_wrappers_are_dropped_at_every_level():
    model = nn.Sequential(nn.DataParallel(nn.Linear(2, 2)), torch.compile(nn.Linear(2, 2), backend="eager"))
    made = copy_to_cpu(nn.DataParallel(torch.compile(model, backend="eager")), "student")
    assert list(made.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    assert unwrap(model) is model


def test_the_model_stays_as_it_was_and_the_copy_has_no_gradients():
    model = used(Net())
    model.bn.eval()
    model.head.weight.requires_grad_(False)
    gradient = model.conv.weight.grad.clone()
    made = copy_to_cpu(model, "student")
    assert [module.training for module in made.modules()] == [module.training for module in model.modules()]
    assert not made.head.weight.requires_grad and made.conv.weight.grad is None
    assert model.training and torch.equal(model.conv.weight.grad, gradient)


def test_hooks_and_attributes_of_parameters_are_kept():
    model = Net()
    model.head.weight.no_decay = True
    model.head.weight.register_hook(torch.zeros_like)
    made = copy_to_cpu(model, "student")
    made(IMAGES).sum().backward()
    assert made.head.weight.no_decay and not made.head.weight.grad.any() and made.head.bias.grad.any()


# Refusals -----------------------------------------------------------------------------------------------------------


class HoldsALock(Net):
    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()


class HoldsAGenerator(Net):
    def __init__(self):
        super().__init__()
        self.numbers = (number for number in range(3))


class Caches(Net):
    def forward(self, x):
        self.last = super().forward(x)
        return self.last


class UsesItselfInALambda(Net):
    def __init__(self):
        super().__init__()
        self.classify = lambda x: self.head(x)

    def forward(self, x):
        return self.classify(self.bn(self.conv(x)).mean((2, 3)))


class PointsToItself(Net):
    def __init__(self):
        super().__init__()
        self.known = {"whole": weakref.ref(self)}


class IsItsOwnCopy(Net):
    def __deepcopy__(self, memo):
        return self


class SharesItsWeights(Net):
    def __deepcopy__(self, memo):
        return copy.copy(self)


class CopiesNothing(Net):
    def __deepcopy__(self, memo):
        return None


class StartsAnew(Net):
    def __deepcopy__(self, memo):
        return StartsAnew()


class Refuses(Net):
    def __deepcopy__(self, memo):
        raise RuntimeError("never")


def hook_of_a_closure():
    model = Net()
    model.head.register_forward_hook(lambda module, inputs, output: output * model.bn.weight.sum())
    return model


REFUSED = {
    HoldsALock: r"'0.lock' is a lock, which Python cannot copy .*set it to None",
    HoldsAGenerator: r"'0.numbers' is a generator",
    (lambda: used(Caches())): r"'0.last' is a tensor that was computed with gradients.*torch.no_grad",
    UsesItselfInALambda: r"'0.classify' refers to the model itself.*make it a method",
    PointsToItself: r"'0.known' refers to the model itself",
    hook_of_a_closure: r"'0.head._forward_hooks' refers to the model itself",
    IsItsOwnCopy: r"module '0', a IsItsOwnCopy, gives a copy that shares the weight '0.conv.weight'",
    SharesItsWeights: r"a SharesItsWeights, gives a copy that shares the weight '0.conv.weight'",
    CopiesNothing: r"a CopiesNothing, gives no copy with equal weights",
    StartsAnew: r"a StartsAnew, gives no copy with equal weights",
    Refuses: r"a Refuses, cannot be copied \(never\)",
    (lambda: nn.LazyLinear(3)): r"'0.weight': run it on one batch first",
    (lambda: Net().to("meta")): r"on the meta device, '0.conv.weight'",
}


@pytest.mark.parametrize(("make", "told"), REFUSED.items(), ids=[told[:24] for told in REFUSED.values()])
def test_what_cannot_be_copied_is_refused_by_role_and_attribute(make, told):
    with pytest.raises(ValueError, match=f"^teacher .*{told}"):
        copy_to_cpu(nn.Sequential(make()), "teacher")


def test_what_a_pass_without_gradients_left_behind_is_copied():
    model = Caches().eval()
    with torch.no_grad():
        model(IMAGES)
    assert torch.equal(copy_to_cpu(model, "student")(IMAGES), model(IMAGES))


def test_no_module_is_a_type_error():
    with pytest.raises(TypeError, match=r"student must be an nn\.Module, got str"):
        copy_to_cpu("resnet18", "student")
