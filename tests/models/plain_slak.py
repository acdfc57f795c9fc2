"""Reference SLaK, computed from a state dict in plain PyTorch: every branch is an `F.conv2d`, nothing is merged.

What lkd's models are compared with, in outputs by the tests and in speed by `make bench`.
"""

from itertools import count

import torch
import torch.nn.functional as F


def plain_slak(weights, images, training=False):
    """Logits of the network with this state dict."""
    x = images
    for i in count():
        if f"downsample_layers.{i}.0.weight" not in weights:
            break
        x = downsample(weights, f"downsample_layers.{i}", x)
        for j in count():
            if f"stages.{i}.{j}.gamma" not in weights:
                break
            x = block(weights, f"stages.{i}.{j}", x, training)
    return F.linear(layer_norm(weights, "norm", x.mean((2, 3))), weights["head.weight"], weights["head.bias"])


def downsample(weights, name, x):
    """The stem (convolution, then norm) or a downsampling layer (norm, then convolution)."""
    if weights[f"{name}.0.weight"].ndim == 4:
        return channel_norm(weights, f"{name}.1", patches(weights, f"{name}.0", x))
    return patches(weights, f"{name}.1", channel_norm(weights, f"{name}.0", x))


def patches(weights, name, x):
    weight = weights[f"{name}.weight"]
    return F.conv2d(x, weight, weights[f"{name}.bias"], stride=weight.shape[2:])


def block(weights, name, x, training):
    branches = {
        part.removeprefix(f"{name}.large_kernel.").split(".")[0]: None
        for part in weights
        if part.startswith(f"{name}.large_kernel.")
    }
    y = sum(convolution_and_norm(weights, f"{name}.large_kernel.{branch}", x, training) for branch in branches)
    y = layer_norm(weights, f"{name}.norm", y.permute(0, 2, 3, 1))
    y = F.gelu(F.linear(y, weights[f"{name}.pwconv1.weight"], weights[f"{name}.pwconv1.bias"]))
    y = F.linear(y, weights[f"{name}.pwconv2.weight"], weights[f"{name}.pwconv2.bias"])
    return x + (weights[f"{name}.gamma"] * y).permute(0, 3, 1, 2)


def convolution_and_norm(weights, name, x, training):
    weight = weights[f"{name}.conv.weight"]
    y = F.conv2d(x, weight, padding=(weight.shape[2] // 2, weight.shape[3] // 2), groups=len(weight))
    statistics = (weights[f"{name}.bn.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
    return F.batch_norm(y, *statistics, training=training)


def channel_norm(weights, name, x):
    """Layer norm over channels as in the released code, with channels first in memory."""
    centred = x - x.mean(1, keepdim=True)
    normed = centred / torch.sqrt(centred.pow(2).mean(1, keepdim=True) + 1e-6)
    return normed * weights[f"{name}.weight"][:, None, None] + weights[f"{name}.bias"][:, None, None]


def layer_norm(weights, name, x):
    return F.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], eps=1e-6)
