"""Loading, refusing and saving of weights, on small networks with random parameters."""

import argparse
import functools
import gzip
import io
import json
import os
import pickle
import random
import shutil
import warnings
import zipfile
from collections import OrderedDict, defaultdict, deque
from datetime import datetime
from pathlib import PosixPath

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from small_nets import CONVNEXT, SLAK, images, net, same, settled
from torch import nn

import lkd  # noqa: F401
from lkd.models import fold_batchnorm, load_checkpoint, load_model, save_model, to_timm_convnext
from lkd.models.slak import SLaK


def training_file(model, under="model"):
    """Checkpoint of the released training script: weights and training state."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    optimizer.param_groups[0]["lr"] = np.linspace(1e-3, 0, 5)[1]
    model(images(2, model.downsample_layers[0][0].in_channels, 32, 32)).sum().backward()
    optimizer.step()
    options = argparse.Namespace(model="SLaK_tiny", kernel_size=[7, 7, 7, 7, 100], drop_path=0.1, resume=None)
    beside = {"optimizer": optimizer.state_dict(), "epoch": "best", "scaler": {"scale": 65536.0}, "args": options}
    return {under: model.state_dict(), **beside}


# Reading ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("under", ["model", "state_dict", "state_dict_ema", "model_ema", None])
@pytest.mark.parametrize("zipped", [True, False])
def test_reads_what_a_training_script_wrote(tmp_path, under, zipped):
    source, path = net(seed=1), tmp_path / "checkpoint.pth"
    content = training_file(source, under) if under else source.state_dict()
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    model = net()
    assert load_checkpoint(model, path) is model
    assert same(model, source)
    assert same(load_checkpoint(net(), str(path)), source)
    assert same(load_checkpoint(net(), content), source)


def test_reads_the_numbers_of_an_older_numpy(tmp_path):
    source, new, old = net(seed=1), io.BytesIO(), tmp_path / "checkpoint.pth"
    torch.save(training_file(source), new)
    with zipfile.ZipFile(new) as read, zipfile.ZipFile(old, "w") as written:
        for entry in read.namelist():
            written.writestr(entry, read.read(entry).replace(b"numpy._core", b"numpy.core"))
    assert b"numpy._core" in new.getvalue() and b"numpy._core" not in old.read_bytes()
    assert same(load_checkpoint(net(), old), source)


def test_reads_safetensors(tmp_path):
    source = net(seed=1)
    safetensors.torch.save_file(source.state_dict(), tmp_path / "model.safetensors")
    assert same(load_checkpoint(net(), tmp_path / "model.safetensors"), source)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "_orig_mod.module."])
def test_prefixes_of_wrappers_are_dropped(prefix):
    source = net(seed=1)
    assert same(load_checkpoint(net(), {prefix + key: value for key, value in source.state_dict().items()}), source)


def test_reads_what_data_parallel_training_with_synchronised_batch_norm_wrote():
    source = net(seed=1)
    wrapped = nn.Sequential()
    wrapped.add_module("module", nn.SyncBatchNorm.convert_sync_batchnorm(source))
    assert same(load_checkpoint(net(), {"model": wrapped.state_dict()}), source)


@pytest.mark.parametrize(
    ("held", "taken"),
    [
        (["state_dict", "state_dict_ema", "model_ema", "model"], "model"),
        (["model_ema", "state_dict", "state_dict_ema"], "state_dict_ema"),
        (["model_ema", "state_dict"], "state_dict"),
    ],
)
def test_of_several_weights_the_one_that_the_released_scripts_evaluate_is_taken(held, taken):
    sources = {name: net(seed=seed) for seed, name in enumerate(held)}
    content = {name: source.state_dict() for name, source in sources.items()}
    assert same(load_checkpoint(net(9), content), sources[taken])
    for name, source in sources.items():
        assert same(load_checkpoint(net(9), content, key=name), source)


def test_an_unknown_key_is_refused_with_the_nearest():
    with pytest.raises(KeyError, match=r"unknown key 'modle'.*did you mean 'model'"):
        load_checkpoint(net(), {"model": net().state_dict(), "epoch": 3}, key="modle")


def test_projectors_of_feature_distillation_are_dropped_and_other_layers_are_not():
    source = net(seed=1)
    extra = {
        "projector.weight": torch.ones(3, 2),
        "projects.0.0.bias": torch.ones(3),
        "project.0.weight": torch.ones(1),
    }
    assert same(load_checkpoint(net(), {"model": {**source.state_dict(), **extra}}), source)
    with pytest.raises(ValueError, match=r"1 unexpected: projection\.weight"):
        load_checkpoint(net(), {**source.state_dict(), "projection.weight": torch.ones(1)})


def test_projectors_of_the_model_itself_are_loaded():
    source, model = nn.ModuleDict({"projector": nn.Linear(2, 3)}), nn.ModuleDict({"projector": nn.Linear(2, 3)})
    assert same(load_checkpoint(model, source.state_dict()), source)


def test_half_precision_weights_are_loaded_into_a_model_of_full_precision():
    source = net(seed=1).half()
    weight = load_checkpoint(net(), source.state_dict()).head.weight
    assert weight.dtype == torch.float32 and torch.equal(weight, source.head.weight.float())


def test_a_state_dict_cast_value_by_value_is_loaded():
    source, model = head(2), head(2)
    source(torch.ones(2, 3, 3, 3))
    state = {name: value.half() for name, value in source.state_dict().items()}
    assert load_checkpoint(model, state)[1].num_batches_tracked.equal(torch.tensor(1))
    told = r"num_batches_tracked is \(\) of torch.float32, in the model \(\) of torch.int64"
    refused({**state, "1.num_batches_tracked": torch.tensor(0.5)}, told, model=head(2))


def test_counters_of_averaging_and_of_thop_are_dropped():
    source = net(seed=1)
    averaged = torch.optim.swa_utils.AveragedModel(source).state_dict()
    assert "n_averaged" in averaged and same(load_checkpoint(net(), averaged), source)
    counted = {"total_ops": torch.zeros(1), "head.total_params": torch.zeros(1)}
    prefixed_too = {f"net.{name}": value for name, value in source.state_dict().items()}
    for state in (source.state_dict(), prefixed_too):
        assert same(load_checkpoint(net(), {**state, **counted}), source)
    own = nn.Linear(2, 3)
    own.register_buffer("total_ops", torch.ones(1))
    refused(nn.Linear(2, 3).state_dict(), "total_ops", model=own)


def test_the_model_does_not_share_memory_with_the_state_dict():
    source, model = net(seed=1), net()
    load_checkpoint(model, source.state_dict())
    source.head.weight.data.zero_()
    assert model.head.weight.any()


def test_an_original_convnext_fits_timms():
    model = settled(timm.create_model("convnext_tiny", dims=(8, 8, 8, 8), depths=(1, 1, 1, 1), num_classes=5))
    names = {"stem.": "downsample_layers.0.", ".blocks": "", "conv_dw": "dwconv", "mlp.fc": "pwconv", "head.fc": "head"}
    original = {}
    for key, value in model.state_dict().items():
        key = key.replace("head.norm", "norm")
        if ".downsample." in key:
            key = key.replace("stages.", "downsample_layers.").replace(".downsample.", ".")
        for new, old in names.items():
            key = key.replace(new, old)
        original[key] = value.clone()
    again = timm.create_model("convnext_tiny", dims=(8, 8, 8, 8), depths=(1, 1, 1, 1), num_classes=5)
    assert same(load_checkpoint(again, {"model": original}), model)


# Refusing -----------------------------------------------------------------------------------------------------------


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def refused(given, match, error=ValueError, model=None):
    model = net() if model is None else model
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(error, match=match) as caught:
        load_checkpoint(model, given)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    return str(caught.value)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("beside", [True, False])
def test_a_file_that_would_run_something_is_refused_and_runs_nothing(tmp_path, zipped, beside):
    trap, path = tmp_path / "sprung", tmp_path / "hostile.pth"
    content = {"model": net(1).state_dict(), "args": Hostile(trap)} if beside else Hostile(trap)
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    message = refused(path, "hostile.pth was not read: it refers to .*mkdir")
    assert not trap.exists() and "weights_only=False" not in message


def test_a_plain_pickle_is_refused_and_runs_nothing(tmp_path):
    (tmp_path / "hostile.pkl").write_bytes(pickle.dumps(Hostile(tmp_path / "sprung"), protocol=2))
    refused(tmp_path / "hostile.pkl", "hostile.pkl was not read")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
def test_a_file_cut_short_is_refused(tmp_path, kind, share):
    path = tmp_path / ("model.safetensors" if kind == "safetensors" else "model.pth")
    if kind == "safetensors":
        safetensors.torch.save_file(net(1).state_dict(), path)
    else:
        torch.save(net(1).state_dict(), path, _use_new_zipfile_serialization=kind == "zip")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    refused(path, f"{path.name} was not read: it is (empty|damaged or (not a checkpoint|cut short))")


@pytest.mark.parametrize("name", ["noise.pth", "noise.safetensors"])
def test_a_file_of_something_else_is_refused(tmp_path, name):
    (tmp_path / name).write_bytes(np.random.default_rng(0).bytes(1000))
    refused(tmp_path / name, "was not read: it is damaged or not a checkpoint")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ([1, 2], "holds a list: expected a dict of names to tensors"),
        (torch.ones(3), "holds a Tensor: expected a dict"),
        ({"model": {"head.weight": [1.0]}}, "has list under 'head.weight': expected names and tensors only"),
        ({0: torch.ones(3)}, "has Tensor under 0: expected names and tensors only"),
        ({"epoch": 3, "args": argparse.Namespace()}, "has int under 'epoch'"),
        ({}, "holds no weights"),
        ({"model": {}}, "holds no weights"),
    ],
)
def test_a_file_without_weights_is_refused(tmp_path, content, match):
    torch.save(content, tmp_path / "checkpoint.pth")
    refused(tmp_path / "checkpoint.pth", f"checkpoint.pth {match}")


@pytest.mark.parametrize(
    ("value", "match"),
    [
        (torch.full((10, 32), torch.nan), "not finite under 'head.weight'"),
        (torch.full((10, 32), torch.inf), "not finite under 'head.weight'"),
        (torch.ones(10, 32).to_sparse(), "no plain dense tensor under 'head.weight'"),
        (torch.ones(10, 32, device="meta"), "no plain dense tensor under 'head.weight'"),
        (
            torch.ones(10, 32, dtype=torch.int64),
            r"head.weight is \(10, 32\) of torch.int64, in the model \(10, 32\) of torch.float32",
        ),
        (torch.ones(10, 32, dtype=torch.complex64), "head.weight is .* of torch.complex64"),
        (torch.ones(32, 10), r"head.weight is \(32, 10\) of torch.float32, in the model \(10, 32\) of torch.float32"),
    ],
)
def test_a_weight_that_no_network_can_use_is_refused(value, match):
    refused({**net(1).state_dict(), "head.weight": value}, match)


def test_a_missing_file_is_a_file_not_found_error(tmp_path):
    refused(tmp_path / "none.pth", r"no file .*none\.pth", FileNotFoundError)
    refused(tmp_path, "no weight file", FileNotFoundError)


@pytest.mark.parametrize("given", [None, 3, b"model.pth", [("head.weight", torch.ones(1))]])
def test_an_argument_of_another_type_is_a_type_error(given):
    refused(given, "path_or_state_dict must be a path or a mapping", TypeError)


def test_a_model_of_another_type_is_a_type_error():
    with pytest.raises(TypeError, match=r"model must be an nn\.Module, got str"):
        load_checkpoint("mini_slak", {})


@pytest.mark.parametrize(
    ("file", "model", "told"),
    [
        (
            {"kernel_sizes": (11, 9, 7, 7)},
            {},
            r"with kernel_sizes=\(11, 9, 7, 7\); the model has kernel_sizes=\(9, 9, 7, 7\)",
        ),
        ({"small_kernel": 3}, {}, "with small_kernel=3; the model has small_kernel=5"),
        ({"depths": (1, 1, 4, 1)}, {}, r"with depths=\(1, 1, 4, 1\); the model has depths=\(1, 1, 2, 1\)"),
        ({"num_classes": 7}, {}, "with num_classes=7; the model has num_classes=10"),
        ({"num_classes": 7}, {"num_classes": 0}, "with num_classes=7; the model has num_classes=0"),
        ({"num_classes": 0}, {}, "with num_classes=0; the model has num_classes=10"),
        ({"in_chans": 1}, {}, "with in_chans=1; the model has in_chans=3"),
        ({"dims": (4, 6, 8, 10)}, {}, r"with dims=\(4, 6, 8, 10\), width_factor=1.0; the model has dims=\(8, 12"),
        (
            {"dims": (96, 192, 384, 768), "width_factor": 1.3},
            {},
            r"with dims=\(96, 192, 384, 768\), width_factor=1.3; the model",
        ),
        (
            "mini_convnext",
            "mini_slak",
            r"kernel_sizes=\(3, 3, 3\), small_kernel=None; .*For whole kernels, create convnext_bn_tiny",
        ),
        (
            "mini_slak",
            "mini_convnext",
            r"with kernel_sizes=\(15, 13, 7\), small_kernel=5; the model has .* small_kernel=None",
        ),
        ({"num_classes": 7, "small_kernel": 3}, {}, "with num_classes=7, small_kernel=3; the model has num_classes=10"),
    ],
)
def test_the_error_says_which_arguments_the_file_needs(file, model, told):
    with torch.device("meta"):
        other = slak(file)
    state = {key: torch.zeros_like(value, device="cpu") for key, value in other.state_dict().items()}
    refused(state, f"does not fit SLaK.*{told}", model=slak(model))


def slak(given):
    return timm.create_model(given) if isinstance(given, str) else timm.create_model("mini_slak", **{**SLAK, **given})


def whole_kernels(state):
    return {key: value for key, value in state.items() if ".lkb_origin.bn." not in key}


def with_small_branch(state):
    return state | {
        key.replace("lkb_origin", "small_conv"): value for key, value in state.items() if "lkb_origin" in key
    }


def plain_convnext(state):
    return {key.replace("large_kernel.lkb_origin.conv", "dwconv"): value for key, value in whole_kernels(state).items()}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (whole_kernels, "kernels have no batch norm"),
        (with_small_branch, "whole kernels with a parallel small kernel"),
        (plain_convnext, "a ConvNeXt without batch norm: load it into timm's convnext_tiny"),
    ],
)
def test_the_error_names_a_form_that_no_model_has(change, told):
    refused(change(net(1).state_dict()), told)


def test_the_error_counts_the_keys_and_lists_a_few():
    message = refused(timm.create_model("mini_resnet").state_dict(), "It is of another architecture")
    own, other = len(net().state_dict()), len(timm.create_model("mini_resnet").state_dict())
    assert f"{own} missing: " in message and f"{other} unexpected: " in message
    assert len(message) < 1500


def test_a_transformer_of_other_depth_and_width_is_told():
    other = timm.create_model("mini_vit", depth=1, embed_dim=32, class_token=True, global_pool="token")
    model = timm.create_model("mini_vit", class_token=True, global_pool="token")
    refused(other.state_dict(), "with depth=1, embed_dim=32; the model has depth=2, embed_dim=64", model=model)


# Files as people have them ------------------------------------------------------------------------------------------


class Config(dict):
    """A configuration class, as in yacs and mmcv."""


class Plain:
    """A custom object of a training script."""

    def __init__(self):
        self.rate, self.inner = 0.1, Config(a=1)


class Ordered(OrderedDict):
    """A state dict class, as in mmengine."""


def default(**entries):
    return defaultdict(list, entries)


BESIDE = {
    "numpy arrays": np.arange(3.0),
    "numpy's random state": np.random.default_rng(0).bit_generator.state,
    "torch's random state": torch.get_rng_state(),
    "python's random state": random.Random(0).getstate(),
    "paths": PosixPath("/a/b"),
    "times": datetime(2026, 1, 1),
    "a configuration": Config(lr=Config(base=0.1)),
    "an object": Plain(),
    "default dicts": default(a=[1]),
    "ordered dicts": Ordered(a=1),
    "queues and sets": [deque([1], maxlen=2), {1}, frozenset([2])],
    "functions": [functools.partial(print, 1), os.path.join, dict],
    "a schedule": torch.optim.lr_scheduler.StepLR(torch.optim.SGD([nn.Parameter(torch.ones(1))], 0.1), 3),
    "lightning": {"loops": {}, "callbacks": {"Best": {"score": torch.ones(1)}}, "hyper_parameters": Config(a=Plain())},
}


@pytest.mark.parametrize("beside", BESIDE.values(), ids=BESIDE)
@pytest.mark.parametrize("zipped", [True, False])
def test_whatever_lies_beside_the_weights_is_left_aside(tmp_path, beside, zipped):
    source, path = net(seed=1), tmp_path / "last.ckpt"
    torch.save(
        {"beside": beside, "state_dict": source.state_dict(), "epoch": 3}, path, _use_new_zipfile_serialization=zipped
    )
    assert same(load_checkpoint(net(), path), source)


@pytest.mark.parametrize("kind", [Ordered, default, Config])
def test_weights_in_a_dict_of_another_class_are_read(tmp_path, kind):
    source, path = net(seed=1), tmp_path / "model.pth"
    torch.save(kind(**source.state_dict()), path)
    assert same(load_checkpoint(net(), path), source)


def test_only_strict_loading_as_pytorch_does_it_is_asked_of_batch_norms():
    source = net(seed=1)
    state = {key: value for key, value in source.state_dict().items() if "num_batches_tracked" not in key}
    assert 0 < len(state) < len(source.state_dict())
    assert same(load_checkpoint(settled(net()), state), source)
    noted = source.state_dict()
    for key in noted.keys() - state.keys():
        del noted[key]
    with pytest.raises(RuntimeError, match="num_batches_tracked"):
        net().load_state_dict(noted)
    refused(noted, r"Only the counters of batch norms are missing.*dict\(state_dict\)")


def test_names_that_a_module_itself_converts_are_read():
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)))
    old = {"0.bias": torch.ones(2), "0.weight_g": torch.full((2, 1), 2.0), "0.weight_v": torch.ones(2, 2)}
    assert load_checkpoint(model, old)[0].bias.tolist() == [1, 1]


def prefixed(prefix, state):
    return {prefix + key: value for key, value in state.items()}


@pytest.mark.parametrize("prefix", ["model.", "backbone.", "encoder.", "net.", "student.", "module.model.", "a.b."])
def test_a_prefix_that_all_names_share_is_dropped(prefix):
    source = net(seed=1)
    assert same(load_checkpoint(net(), {"state_dict": prefixed(prefix, source.state_dict())}), source)


class Wrapped(nn.Module):
    def __init__(self, module):
        super().__init__()
        self.module, self.scale = module, nn.Parameter(torch.ones(1))


def test_names_of_wrappers_are_matched_on_both_sides():
    source, model = net(seed=1), net()
    load_checkpoint(nn.DataParallel(model), source.state_dict())
    assert same(model, source)
    outer, other = Wrapped(source), Wrapped(net())
    assert same(load_checkpoint(other, outer.state_dict()), outer)
    parted = net(seed=1)
    parted.head = nn.DataParallel(parted.head)
    assert same(load_checkpoint(net(), parted.state_dict()), source)


def test_a_prefix_of_a_part_of_the_file_is_named_with_the_call_that_works():
    source = net(seed=1)
    state = prefixed("student.", source.state_dict()) | prefixed("teacher.", net(seed=2).state_dict())
    told = r"under 'student\.' fit: load_checkpoint\(model, state_dict, prefix='student\.'\) or .*'teacher\.'"
    refused(state, told)
    assert same(load_checkpoint(net(), state, prefix="student."), source)
    assert same(load_checkpoint(net(), state, prefix="teacher"), net(seed=2))
    with pytest.raises(KeyError, match=r"unknown prefix 'teach\.': did you mean 'teacher\.'"):
        load_checkpoint(net(), state, prefix="teach")


def test_a_file_of_a_part_of_the_model_is_named_with_the_call_that_works():
    model = nn.ModuleDict({"net": net()})
    told = r"fits a submodule of ModuleDict.*: load_checkpoint\(model\.net, state_dict\)"
    refused(net(seed=1).state_dict(), told, model=model)


@pytest.mark.parametrize("key", ["net", "weights", "params_ema", "teacher", "model_state_dict"])
def test_weights_under_another_name_are_named_with_the_call_that_works(tmp_path, key):
    source, path = net(seed=1), tmp_path / "model.pt"
    torch.save({key: source.state_dict(), "epoch": 3, "model": "mini_convnext_nano"}, path)
    refused(path, rf"state dicts under '{key}': load_checkpoint\(model, '.*model\.pt', key='{key}'\)")
    assert same(load_checkpoint(net(), path, key=key), source)


def test_weights_further_inside_are_named_and_read_and_a_configuration_called_model_is_not_taken():
    source = net(seed=1)
    content = {"model": {"name": "resnet", "depth": 18}, "ema": {"shadow": source.state_dict(), "decay": 0.9}}
    refused(content, r"state dicts under 'ema\.shadow': load_checkpoint\(model, state_dict, key='ema\.shadow'\)")
    assert same(load_checkpoint(net(), content, key="ema.shadow"), source)
    assert same(load_checkpoint(net(), {**content, "state_dict": source.state_dict()}), source)


@pytest.mark.parametrize("under", [None, "model", "net"])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_whole_network_is_refused_with_what_to_write_instead(tmp_path, under, zipped):
    source, path = nn.Sequential(nn.Linear(2, 3)), tmp_path / "model.pth"
    torch.save(source if under is None else {under: source}, path, _use_new_zipfile_serialization=zipped)
    refused(path, r"holds a whole network.*torch\.save\(network\.state_dict\(\), path\)")


OTHERS = {
    "lfs.safetensors": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "Git LFS.*git lfs pull"),
    "page.pth": (b"\n<!DOCTYPE html><html><body>Sign in", "it is a web page"),
    "error.pth": (b'{"message": "Not Found"}', "it is a text file that begins with '.*Not Found"),
    "model.h5": (b"\x89HDF\r\n\x1a\n", "it is an HDF5 file"),
    "model.onnx": (b"\x08\x07\x12\x07pytorch\x1a", "it is an ONNX graph"),
    "model.tar": (bytes(257) + b"ustar" + bytes(250), "it is a tar archive: unpack it"),
    "model.pth.gz": (gzip.compress(b"weights"), "it is compressed by gzip: unpack it"),
    "model.npy": (b"\x93NUMPY\x01\x00", "it is a single NumPy array"),
    "arrays.pkl": (pickle.dumps({"a": np.ones(2)}), "a pickle of another protocol.*nothing from it was executed"),
    "zeros.pth": (bytes(1000), "it is damaged or not a checkpoint"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_file_of_another_format_is_named(tmp_path, name):
    content, told = OTHERS[name]
    (tmp_path / name).write_bytes(content)
    refused(tmp_path / name, f"{name} was not read: .*{told}")


def test_archives_are_told_apart_by_what_they_hold(tmp_path):
    source = net(seed=1)
    torch.save(source.state_dict(), tmp_path / "inside.pth")
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as archive:
        archive.write(tmp_path / "inside.pth", "inside.pth")
    refused(tmp_path / "model.zip", "zip archive of 'inside.pth': unpack it")
    with warnings.catch_warnings(action="ignore"):
        torch.jit.script(nn.Linear(2, 3)).save(tmp_path / "script.pt")
    refused(tmp_path / "script.pt", "TorchScript archive")
    np.savez(tmp_path / "model.npz", **{key: value.numpy() for key, value in source.state_dict().items()})
    assert same(load_checkpoint(net(), tmp_path / "model.npz"), source)


def test_the_content_tells_the_format_whatever_the_name(tmp_path):
    source = net(seed=1)
    safetensors.torch.save_file(source.state_dict(), tmp_path / "model.pth")
    torch.save(source.state_dict(), tmp_path / "model.safetensors")
    for name in ("model.pth", "model.safetensors"):
        assert same(load_checkpoint(net(), tmp_path / name), source)


def test_shards_are_read_together_and_a_missing_one_is_named(tmp_path):
    source = net(seed=1)
    names = list(source.state_dict())
    first, second = (tmp_path / f"model-0000{i}-of-00002.safetensors" for i in (1, 2))
    index = tmp_path / "model.safetensors.index.json"
    half = {name: first.name if i % 2 else second.name for i, name in enumerate(names)}
    index.write_text(json.dumps({"weight_map": half}))
    safetensors.torch.save_file({name: source.state_dict()[name] for name in names if half[name] == first.name}, first)
    for given in (first, index, tmp_path):
        refused(given, f"no file {second}: .* needs 1 shard.*get them, then load", FileNotFoundError)
    safetensors.torch.save_file(
        {name: source.state_dict()[name] for name in names if half[name] == second.name}, second
    )
    for given in (first, second, index, tmp_path):
        assert same(load_checkpoint(net(), given), source)
    index.write_text(json.dumps({"weight_map": {"a": "../model.pth"}}))
    refused(index, "it is not an index of shards")


def test_a_folder_gives_its_weights_or_says_which_files_there_are(tmp_path):
    source = net(seed=1)
    torch.save(source.state_dict(), tmp_path / "best.pth")
    refused(tmp_path, "no weight file in the folder .*give the path of a file in it: 'best.pth'", FileNotFoundError)
    (tmp_path / "best.pth").rename(tmp_path / "pytorch_model.bin")
    assert same(load_checkpoint(net(), tmp_path), source)
    refused("https://example.org/model.pth", "download it first", FileNotFoundError)


def head(classes):
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, classes))


@pytest.mark.parametrize(
    ("kept", "told"),
    [
        (head(7).state_dict(), "Only '3' differs, with 7 outputs in the file and 2 in the model: .*num_classes=7"),
        (
            prefixed("model.", head(7).state_dict()),
            r"under prefix 'model\.', does not fit Sequential\. Only '3' differs",
        ),
        ({k: v for k, v in head(2).state_dict().items() if k[0] == "3"}, "holds only 2 of the model's 9 weights"),
        (
            {k: v for k, v in head(2).state_dict().items() if k[0] != "3"},
            "all weights except those of '3': create the model",
        ),
    ],
)
def test_another_head_is_told_of_any_network(kept, told):
    refused(kept, told, model=head(2))


def test_a_timm_model_is_told_how_to_get_its_own_classes_back():
    refused(net(num_classes=7).state_dict(), r"num_classes=7; .*then call model\.reset_classifier\(10\)")


class Fails(nn.Linear):
    def _load_from_state_dict(self, *given):
        super()._load_from_state_dict(*given)
        raise RuntimeError("too late")


def test_a_model_whose_own_loading_fails_is_left_as_it_was():
    refused(nn.Linear(2, 3).state_dict(), "was not loaded: Fails.load_state_dict fails: too late", model=Fails(2, 3))


def test_a_model_without_memory_for_weights_is_refused():
    with pytest.raises(ValueError, match="model has a weight on the meta device"):
        load_checkpoint(nn.Linear(2, 3, device="meta"), nn.Linear(2, 3).state_dict())
    with pytest.raises(ValueError, match="model has an uninitialised lazy weight"):
        load_checkpoint(nn.LazyLinear(3), nn.Linear(2, 3).state_dict())


@pytest.mark.parametrize("config", ["file.yml", None, 3, {"lr": 0.1}])
def test_a_pretrained_cfg_that_is_not_timms_does_not_hinder(config):
    model = nn.Sequential(nn.Linear(2, 3))
    model.pretrained_cfg = config
    refused({"0.weight": torch.ones(3, 2)}, "all weights except|holds only", model=model)
    with pytest.raises(ValueError, match="Sequential has no configuration to save"):
        save_model(model, "nowhere")


# Saving -------------------------------------------------------------------------------------------------------------

MADE = {
    "mini_slak": dict(kernel_sizes=(11, 9, 7), depths=(1, 2, 1), drop_path_rate=0.2),
    "mini_convnext": dict(in_chans=1, num_classes=3),
    "mini_vit": dict(depth=1, embed_dim=32),
    "mini_swin": dict(num_classes=0),
    "mini_resnet": dict(in_chans=2),
    "cswin_tiny": dict(in_chans=1, dims=(8, 8, 8, 8), depths=(1, 1, 1, 1), heads=(2, 2, 2, 2), splits=(1, 1, 1, None)),
    "vit_small_2020": dict(img_size=32, embed_dim=32, depth=1, num_heads=2, num_classes=3),
}


@pytest.mark.parametrize("name", MADE)
def test_a_saved_model_is_made_again(name, tmp_path):
    model = settled(timm.create_model(name, **MADE[name]))
    assert save_model(model, tmp_path / "net") == tmp_path / "net"
    assert sorted(path.name for path in (tmp_path / "net").iterdir()) == ["config.json", "model.safetensors"]
    again = load_model(tmp_path / "net")
    assert type(again) is type(model) and same(again, model)
    x = images(2, MADE[name].get("in_chans", 3), 32, 32)
    assert torch.equal(again.eval()(x), model(x))


@pytest.mark.parametrize("name", MADE)
def test_a_saved_model_is_made_again_by_timm(name, tmp_path):
    model = settled(timm.create_model(name, **MADE[name]))
    save_model(model, tmp_path)
    assert same(timm.create_model(f"local-dir:{tmp_path}", pretrained=True), model)


def test_a_new_head_is_saved_with_its_classes(tmp_path):
    model = net()
    model.reset_classifier(3)
    save_model(model, tmp_path)
    assert load_model(tmp_path).num_classes == 3


def test_a_converted_student_is_loaded_by_timm_alone(tmp_path):
    model = settled(timm.create_model("mini_convnext", **{**CONVNEXT, "patch_size": 4, "num_classes": 3}))
    save_model(to_timm_convnext(model), tmp_path)
    again = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    x = images(2, 3, 64, 64)
    torch.testing.assert_close(again(x), model(x), rtol=1e-4, atol=1e-4)


def test_memory_formats_do_not_hinder_saving(tmp_path):
    model = net().to(memory_format=torch.channels_last)
    save_model(model, tmp_path)
    assert same(load_model(tmp_path), model)


def test_saving_again_replaces_what_was_there(tmp_path):
    save_model(net(seed=1), tmp_path)
    save_model(net(seed=2), tmp_path)
    assert same(load_model(tmp_path), net(seed=2)) and len(list(tmp_path.iterdir())) == 2


def test_arguments_that_are_not_saved_can_be_given(tmp_path):
    save_model(timm.create_model("mini_slak", drop_path_rate=0.5), tmp_path)
    rates = [
        [module.drop_prob for module in load_model(tmp_path, **given).modules() if hasattr(module, "drop_prob")]
        for given in ({}, {"drop_path_rate": 0.3})
    ]
    assert rates[0] == [] and max(rates[1]) == pytest.approx(0.3)


def test_a_model_that_could_not_be_made_again_is_not_saved(tmp_path):
    with pytest.raises(ValueError, match="SLaK has no configuration to save: create it with timm"):
        save_model(SLaK(**SLAK), tmp_path)
    with pytest.raises(ValueError, match=r"SLaK differs from the model that timm.*: save it before it is folded"):
        save_model(fold_batchnorm(net()), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_folder_without_a_model_and_damaged_weights_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        load_model(tmp_path)
    save_model(net(), tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ValueError, match=r"model\.safetensors was not read"):
        load_model(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors"):
        load_model(tmp_path)


class Halved(SLaK):
    def forward(self, x):
        return super().forward(x) / 2


def test_a_model_with_a_forward_of_its_own_is_not_saved_as_timms(tmp_path):
    model = net()
    model.__class__ = Halved
    with pytest.raises(ValueError, match=r"Halved differs from the model that timm.*changes the outputs"):
        save_model(model, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_file_is_no_folder_and_a_configuration_that_is_not_timms_is_named(tmp_path):
    save_model(net(), tmp_path)
    with pytest.raises(ValueError, match=r"is a file, .*call load_checkpoint\(model, '.*model\.safetensors'\)"):
        load_model(tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"create a model from .* with \{'foo': 1\}"):
        load_model(tmp_path, foo=1)
    for text in ("", "{}", "[]", '{"architecture": "no_such_model"}'):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(ValueError, match=r"create a model from .*config\.json .*: give a folder that"):
            load_model(tmp_path)


class Hub:
    """Fake Hugging Face hub that records uploads."""

    def __init__(self, folder):
        self.folder = folder

    def create_repo(self, repo_id, **_):
        return argparse.Namespace(repo_id=repo_id)

    def file_exists(self, **_):
        return False

    def upload_folder(self, folder_path, **_):
        shutil.copytree(folder_path, self.folder)


def test_what_timm_sends_to_the_hub_makes_the_model_again(tmp_path, monkeypatch):
    hub = Hub(tmp_path / "uploaded")
    monkeypatch.setattr("timm.models._hub.HfApi", lambda **_: hub)
    model = settled(timm.create_model("mini_slak", kernel_sizes=(9, 9, 7)))
    timm.models.push_to_hf_hub(model, "someone/net", safe_serialization=True)
    assert same(load_model(hub.folder), model)
