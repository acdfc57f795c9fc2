"""Reading of weight files without executing their code."""

import json
import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch

from lkd.util.checks import some

STATE_DICT = "in its own program, save its weights with torch.save(network.state_dict(), path)"
"""Fix for a file that holds a whole network."""

NAMES = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
"""Names of weight files in a folder, as timm and the Hugging Face hub write them."""

_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d+)-of-(?P<count>\d+)(?P<ending>\.\w+)")


class StandIn:
    """Stand-in for an object of a class that is not loaded: accepts any arguments and keeps nothing.

    Attributes:
        kind: full name of the object's class.
        module: whether the object is an `nn.Module`.
    """

    kind = ""
    module = False

    def __new__(cls, *_: Any) -> Any:
        """Create an empty object, ignoring all arguments."""
        return object.__new__(cls)

    def __init__(self, *_: Any) -> None: ...

    def __setstate__(self, state: Any) -> None:
        self.module = isinstance(state, Mapping) and "_modules" in state


class _List(StandIn, list[Any]):
    """Stand-in for a list or queue."""

    def __new__(cls, *_: Any) -> Any:
        return list.__new__(cls)


class _Dict(StandIn):
    """Stand-in for a subclass of dict: creates an OrderedDict, which keeps its entries."""

    def __new__(cls, *_: Any) -> Any:
        return OrderedDict()


def read_weights(path: Path) -> Any:
    """Read a weight file: tensors and plain values, all other objects as `StandIn`.

    Args:
        path: a `torch.save`, safetensors or `numpy.savez` file; the index or any shard of a sharded file; or a folder
            with one of `NAMES`.

    Raises:
        FileNotFoundError: the file or one of its shards is missing.
        ValueError: the file is damaged, has another format, or would execute code.

    Example:
        >>> from pathlib import Path
        >>> from lkd.models.weight_files import read_weights
        >>> read_weights(Path("nowhere.pth"))
        Traceback (most recent call last):
        FileNotFoundError: no file nowhere.pth: give the path of a checkpoint
    """
    if path.is_dir():
        return read_weights(_weights_of(path))
    if not path.is_file():
        remedy = "download it first" if re.match(r"\w+:/", str(path)) else "give the path of a checkpoint"
        raise FileNotFoundError(f"no file {path}: {remedy}")
    if path.name.endswith(".index.json"):
        return _joined(path, _indexed(path))
    if (shard := _SHARD.fullmatch(path.name)) and int(shard["count"]) > 1:
        return _joined(path, _siblings(shard))
    return _read_file(path)


def _weights_of(folder: Path) -> Path:
    if found := next((folder / name for name in NAMES if (folder / name).is_file()), None):
        return found
    others = [path.name for path in folder.iterdir() if path.suffix in (".pth", ".pt", ".bin", ".ckpt", ".safetensors")]
    remedy = f"give the path of a file in it: {some(others)}" if others else f"expected one of {', '.join(NAMES)}"
    raise FileNotFoundError(f"no weight file in the folder {folder}: {remedy}")


# Shards -------------------------------------------------------------------------------------------------------------


def _indexed(path: Path) -> set[str]:
    """The shards listed in an index."""
    try:
        names = set(json.loads(path.read_text("utf8"))["weight_map"].values())
        inside = all(Path(name).name == name for name in names)
    except (ValueError, KeyError, TypeError, AttributeError):
        inside = False
    if not inside:
        raise ValueError(
            f"{path} was not read: it is not an index of shards (JSON with a weight_map of names to files)"
        )
    return names


def _siblings(shard: re.Match[str]) -> set[str]:
    """Names of all shards of a file, from the name of one."""
    width, count = len(shard["number"]), shard["count"]
    return {f"{shard['stem']}-{i:0{width}}-of-{count}{shard['ending']}" for i in range(1, int(count) + 1)}


def _joined(path: Path, names: Iterable[str]) -> dict[str, Any]:
    """The joined content of all shards in the folder of a file."""
    missing = [name for name in names if not (path.parent / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"no file {path.parent / min(missing)}: {path} needs {len(missing)} shard(s) that are missing in its "
            f"folder, {some(missing)}: get them, then load {path.name} again"
        )
    whole: dict[str, Any] = {}
    for name in sorted(names):
        part = _read_file(path.parent / name)
        if not isinstance(part, Mapping) or part.keys() & whole.keys():
            raise ValueError(f"{path.parent / name} was not read: it is not a shard of {path}, or repeats another one")
        whole |= part
    return whole


# One file -----------------------------------------------------------------------------------------------------------

_FORMATS = {
    b"version https://git-lfs": "it is a pointer of Git LFS, not the file itself: run `git lfs pull` in its repository",
    b"\x89HDF\r\n\x1a\n": "it is an HDF5 file, as Keras and TensorFlow write: convert it to PyTorch's names first",
    b"GGUF": "it is a GGUF file of llama.cpp: get the weights as safetensors",
    b"\x93NUMPY": "it is a single NumPy array: give a file with the names of the weights",
    b"\x1f\x8b": "it is compressed by gzip: unpack it, and give the file inside",
    b"BZh": "it is compressed by bzip2: unpack it, and give the file inside",
    b"\xfd7zXZ": "it is compressed by xz: unpack it, and give the file inside",
    b"7z\xbc\xaf": "it is a 7z archive: unpack it, and give the file inside",
}
"""First bytes of other formats, with the reason and the fix."""

_ENDINGS = {
    ".onnx": "it is an ONNX graph: give the weights it was exported from",
    ".tflite": "it is a TensorFlow Lite model: give PyTorch's weights",
    ".pb": "it is a TensorFlow graph: give PyTorch's weights",
    ".msgpack": "it is a Flax file: convert it to PyTorch's names first",
}


def _read_file(path: Path) -> Any:
    with path.open("rb") as file:  # a PermissionError is not a damaged file
        begin = file.read(512)
    if reason := _other_format(path, begin):
        raise ValueError(f"{path} was not read: {reason}")
    try:
        if begin[8:9] == b"{":
            return safetensors.torch.load_file(path)
        if begin.startswith(b"PK") and zipfile.is_zipfile(path):
            return _read_zip(path)
        return _read_pickle(path)
    except _Refused as error:
        reason = str(error)
    except Exception as error:  # a damaged or malicious file can raise anything
        reason = _damage_reason(path, begin, error)
    raise ValueError(f"{path} was not read: {reason}") from None


class _Refused(Exception):
    """The reason why an undamaged file is refused."""


def _other_format(path: Path, begin: bytes) -> str:
    """Why a file is not a checkpoint, judged by its first bytes; "" if it may be one."""
    if not begin:
        return "it is empty (0 bytes): get it again"
    if begin[257:262] == b"ustar":
        return "it is a tar archive: unpack it, and give the file inside"
    if re.match(rb"(\xef\xbb\xbf)?\s*<(!doctype|html|head|\?xml|!--)", begin, re.IGNORECASE):
        return "it is a web page, not the file itself: open its address in a browser, and download the file from there"
    return next((reason for magic, reason in _FORMATS.items() if begin.startswith(magic)), "")


def _damage_reason(path: Path, begin: bytes, error: Exception) -> str:
    if "persistent_load of storage" in str(error):
        return f"it holds a whole network, which only its own program can load: {STATE_DICT}"
    if begin.startswith((b"PK", b"\x80")) and (found := re.search(r"Unsupported operand|Invalid magic", str(error))):
        return (
            f"it is a pickle of another protocol than torch.save writes, or of other objects ({found[0]}); nothing "
            "from it was executed: if you trust it, load it and save its tensors with torch.save(tensors, path)"
        )
    if begin[:2] == b"PK" or begin[8:9] == b"{":
        return f"it is damaged or cut short, at {path.stat().st_size:,} bytes: get it again"
    if path.suffix in _ENDINGS:
        return _ENDINGS[path.suffix]
    if "DTensor" in str(error):
        return "its weights are sharded over GPUs (DTensor): save a full state dict where it was trained"
    if _is_text(begin):
        return f"it is a text file that begins with {begin[:30].decode('utf8', 'replace')!r}: give a file of weights"
    return f"it is damaged or not a checkpoint ({type(error).__name__}): get it again"


def _is_text(begin: bytes) -> bool:
    try:
        text = begin[:500].decode("utf8")
    except UnicodeDecodeError:
        return False
    return all(letter.isprintable() or letter.isspace() for letter in text)


def _read_zip(path: Path) -> Any:
    """Read a zip archive of `torch.save` or `numpy.savez`."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if names and all(name.endswith(".npy") for name in names):
        with np.load(path, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    if any("/code/" in name or name.endswith("/constants.pkl") for name in names):
        raise _Refused(
            "it is a TorchScript archive, a whole network: load it with torch.jit.load, and give its state_dict()"
        )
    if not any(name.endswith("data.pkl") for name in names):
        raise _Refused(f"it is a zip archive of {some(names)}: unpack it, and give the file inside")
    return _read_pickle(path)


# Pickles ------------------------------------------------------------------------------------------------------------

_EXECUTING = re.compile(
    r"(builtins\.(eval|exec|compile|__import__|open|input|breakpoint|getattr|setattr|delattr|globals|vars)"
    r"|(code|ctypes|importlib|marshal|nt|os|_?pickle|posix|pty|runpy|shutil|socket|subprocess|sys|webbrowser)\..*)"
)
"""Names that occur only in malicious files. No function is called in any case."""


def _read_pickle(path: Path) -> Any:
    """Read a `torch.save` file; classes outside PyTorch's allow-list are replaced by stand-ins."""
    stand_ins: dict[str, type[StandIn]] = {"collections.defaultdict": _stand_in(_Dict, "collections.defaultdict")}
    while True:
        try:
            with (
                torch.serialization.safe_globals([(kind, name) for name, kind in stand_ins.items()]),
                warnings.catch_warnings(action="ignore"),  # about protocols
                path.open("rb") as file,  # given a path, PyTorch infers the format from the name
            ):
                return torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:
            name, base = _refused_class(str(error))
            if name is None or (name in stand_ins and issubclass(stand_ins[name], base)):
                raise
            stand_ins[name] = _stand_in(base, name)


def _refused_class(message: str) -> tuple[str | None, type[StandIn]]:
    """The class that PyTorch refused, from its error message, and the base of the stand-in for it.

    Raises:
        _Refused: the class does not belong in weight files.
    """
    if found := re.search(rf"Can only (append|SETITEM).*got <class '{__name__}\.(.+)'>", message):
        return found[2], _List if found[1] == "append" else _Dict
    if not (found := re.search(r"GLOBAL (\S+)", message)):
        return None, StandIn
    name = found[1] if "." in found[1] else f"builtins.{found[1]}"
    if _EXECUTING.fullmatch(name):
        raise _Refused(f"it refers to {name}, which does not belong in weights; nothing from it was executed")
    return name, StandIn


def _stand_in(base: type[StandIn], name: str) -> type[StandIn]:
    return type(name, (base,), {"kind": name, "__module__": __name__})


def type_name(value: Any) -> str:
    """The type name of a value from a file.

    Example:
        >>> from lkd.models.weight_files import type_name
        >>> type_name(3)
        'int'
    """
    if isinstance(value, StandIn):
        return "numpy.ndarray" if value.kind.endswith("multiarray._reconstruct") else value.kind
    return type(value).__name__
