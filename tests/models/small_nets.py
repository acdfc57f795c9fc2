"""Small networks of the papers' architectures with random parameters."""

import timm
import torch

SLAK = dict(dims=(8, 12, 16, 20), depths=(1, 1, 2, 1), kernel_sizes=(9, 9, 7, 7), small_kernel=5)
CONVNEXT = dict(dims=(8, 12, 16, 20), depths=(1, 1, 2, 1), kernel_sizes=(7, 5, 7, 3), small_kernel=None)


def settled(model, seed=0):
    """Randomise all weights and statistics, with both signs where allowed; eval mode."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2, generator=generator)
        elif tensor.is_floating_point():
            tensor.normal_(0, 1 if tensor.ndim == 1 else tensor[0].numel() ** -0.5, generator=generator)
    return model.eval()


def net(seed=0, **kwargs):
    return settled(timm.create_model("mini_convnext_nano", in_chans=1, **kwargs), seed)


def images(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def same(one, other):
    one, other = one.state_dict(), other.state_dict()
    return one.keys() == other.keys() and all(torch.equal(value, other[key]) for key, value in one.items())
