"""The ViT of 2020: its size, and the scale of released weights, on small versions."""

import math

import pytest
import safetensors.torch
import timm
import torch
from torch import nn

import lkd  # noqa: F401
from lkd.models import load_checkpoint, load_model, save_model

SMALL = dict(img_size=32, embed_dim=48, depth=2, num_heads=4, num_classes=5)


def vit(seed=0, **kwargs):
    model = timm.create_model("vit_small_2020", **{**SMALL, **kwargs}).eval()
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.data.normal_(0, 0.3, generator=generator)
    return model


def released_vit(seed=0, **kwargs):
    """A network with attention scores over the root of the width, as in timm in 2020."""
    form = {**SMALL, **kwargs}
    model = timm.models.VisionTransformer(
        patch_size=16, mlp_ratio=3, qkv_bias=False, norm_layer=lambda dim, **_: nn.LayerNorm(dim), **form
    )
    model.load_state_dict(vit(seed, **kwargs).state_dict())
    for block in model.blocks:
        block.attn.fused_attn, block.attn.scale = False, form["embed_dim"] ** -0.5
    return model.eval()


def released_file(model):
    """Format of the 2020 file: the patch embedding is a matrix, and there is no version."""
    state = dict(model.state_dict())
    return {**state, "patch_embed.proj.weight": state["patch_embed.proj.weight"].flatten(1)}


def images(size=32):
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))


def test_has_the_form_and_the_parameters_of_the_paper_s_teacher():
    with torch.device("meta"):
        model = timm.create_model("vit_small_2020")
    assert sum(p.numel() for p in model.parameters()) == 48_754_408
    block = model.blocks[0]
    assert len(model.blocks) == 8 and block.attn.num_heads == 8 and block.attn.qkv.bias is None
    assert {module.eps for module in model.modules() if isinstance(module, nn.LayerNorm)} == {1e-5}
    assert model.pos_embed.shape == (1, 197, 768) and block.mlp.fc1.out_features == 2304


def test_takes_timms_arguments_and_gives_its_features():
    model = vit(in_chans=1)
    assert model(images()[:, :1]).shape == (2, 5)
    assert model.forward_features(images()[:, :1]).shape == (2, 1 + 4, 48)
    maps = timm.create_model("vit_small_2020", features_only=True, **{**SMALL, "depth": 3})(images())
    assert [tuple(m.shape) for m in maps] == [(2, 48, 2, 2)] * 3


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("form", ["file", "state dict", "state dict of data parallel training"])
def test_released_weights_give_the_outputs_of_the_released_net(form, nested, tmp_path):
    source, path = released_vit(seed=1), tmp_path / "vit_small_p16_224-15ec54c9.pth"
    wrapped = nn.Sequential()
    wrapped.add_module("module", source)
    state = {"file": released_file(source), "state dict": source.state_dict()}.get(form, wrapped.state_dict())
    torch.save({"model": state} if nested else state, path)
    model = load_checkpoint(vit(), path)
    torch.testing.assert_close(model(images()), source(images()), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(vit(seed=1)(images()), source(images()), rtol=1e-2)


@torch.no_grad()
def test_attention_of_released_weights_by_loops():
    source, model = vit(seed=1).double(), vit().double()
    load_checkpoint(model, released_file(source))
    x = torch.randn(1, 5, 48, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    q, k, v = (x[0] @ source.blocks[0].attn.qkv.weight.T).reshape(5, 3, 4, 12).unbind(1)
    out = torch.zeros(5, 4, 12, dtype=torch.float64)
    for token, head in torch.cartesian_prod(torch.arange(5), torch.arange(4)).tolist():
        scores = [math.exp(float(q[token, head] @ k[other, head]) / math.sqrt(48)) for other in range(5)]
        out[token, head] = sum(s * v[other, head] for other, s in enumerate(scores)) / sum(scores)
    torch.testing.assert_close(model.blocks[0].attn(x)[0], source.blocks[0].attn.proj(out.flatten(1)))


@pytest.mark.parametrize("name", ["model.pth", "model.safetensors"])
def test_weights_that_this_package_saved_are_loaded_as_they_are(name, tmp_path):
    source = load_checkpoint(vit(), released_file(vit(seed=1)))
    save = torch.save if name == "model.pth" else safetensors.torch.save_file
    save(source.state_dict(), tmp_path / name)
    for given in (tmp_path / name, source.state_dict(), dict(source.state_dict())):
        assert torch.equal(load_checkpoint(vit(), given)(images()), source(images()))
    save_model(source, tmp_path / "folder")
    assert torch.equal(load_model(tmp_path / "folder").eval()(images()), source(images()))


def test_timm_loads_the_released_file_and_the_saved_folder_right(tmp_path):
    source = released_vit(seed=1)
    torch.save(released_file(source), tmp_path / "released.pth")
    model = timm.create_model(
        "vit_small_2020",
        pretrained=True,
        pretrained_cfg_overlay=dict(file=str(tmp_path / "released.pth"), num_classes=5),
        **SMALL,
    ).eval()
    torch.testing.assert_close(model(images()), source(images()), rtol=1e-4, atol=1e-5)
    save_model(model, tmp_path / "folder")
    again = timm.create_model(f"local-dir:{tmp_path / 'folder'}", pretrained=True).eval()
    assert torch.equal(again(images()), model(images()))


def test_released_weights_fit_another_image_size_with_positions_resampled():
    model = load_checkpoint(vit(img_size=64), released_file(vit(seed=1)))
    assert model.pos_embed.shape == (1, 17, 48) and model(images(64)).shape == (2, 5)
    with pytest.raises(ValueError, match="with num_classes=5; the model has num_classes=7"):
        load_checkpoint(vit(num_classes=7), released_file(vit(seed=1)))


def test_the_weights_given_are_not_changed():
    state = released_file(vit(seed=1))
    before = {key: value.clone() for key, value in state.items()}
    load_checkpoint(vit(), state)
    assert all(torch.equal(value, before[key]) for key, value in state.items())
