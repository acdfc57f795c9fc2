"""Content digests of Python objects: equal content and equal code give equal digests, in every process.

A digest covers the code that runs (bytecode, without comments and line numbers), every attribute, and all tensors. It
depends on no address, no hash order and no class's module name. Code of installed packages counts by name and version,
that of PyTorch, torchvision, timm, NumPy and lkd by name alone: provenance records their versions.
"""

import copyreg
import enum
import functools
import hashlib
import io
import secrets
import types
import warnings
import weakref
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lkd.installed import package

UNIQUE = "unique-"
"""Prefix of an identity that no other object has."""

_ATOMS = (type(None), bool, int, float, complex, str, bytes, type(Ellipsis), type(NotImplemented))
_OF_EVERY_CLASS = {
    "__dict__", "__weakref__", "__module__", "__doc__", "__firstlineno__", "__static_attributes__", "__annotations__",
    "__annotate__", "__annotate_func__", "__annotations_cache__", "__abstractmethods__", "_abc_impl",
    "__orig_bases__", "__parameters__", "__slotnames__", "__hash__",
}  # fmt: skip
_OF_EVERY_MODULE = {"training", "_parameters", "_buffers", "_modules", "_compiled_call_impl"}
_WITHOUT_CONTENT = (types.GeneratorType, types.CoroutineType, types.FrameType, io.IOBase, weakref.ref)


class NoStableContentError(TypeError):
    """An object that cannot be compared with one of another process; the message says where it was found."""


def digest(thing: Any, name: str = "object") -> str:
    """16 hexadecimal digits that change with any code, attribute or tensor that an object holds.

    Args:
        thing: a module, function, class, data set or plain value.
        name: what errors call it.

    Raises:
        NoStableContentError: part of it has no content to compare: an open file, a lock, a generator.

    Example:
        >>> from torch import nn
        >>> from lkd.identity import digest
        >>> digest(nn.ReLU()) == digest(nn.ReLU()), digest(nn.ReLU()) == digest(nn.Sigmoid())
        (True, False)
    """
    try:
        return _Reader().read(thing, name).hex()[:16]
    except NoStableContentError:
        raise
    except Exception as error:  # an attribute's own code may fail in any way
        raise NoStableContentError(f"{name} cannot be read ({type(error).__name__}: {error})") from error


def identity(thing: Any, name: str) -> str:
    """The digest of an object; where its content cannot be compared, a warning and an identity that never comes again.

    Args:
        thing: as for `digest`.
        name: what the warning calls it.

    Example:
        >>> from lkd.identity import identity
        >>> identity([1], "list") == identity([1], "list")
        True
    """
    try:
        return digest(thing, name)
    except NoStableContentError as error:
        warnings.warn(f"{error}: its runs are trained anew each time, and cannot be resumed", stacklevel=2)
        return UNIQUE + secrets.token_hex(8)


def own_code(function: Callable[..., Any], name: str) -> str | None:
    """The identity of a function or class that is neither lkd's nor of an installed package; None for others.

    Example:
        >>> import torch
        >>> from lkd.identity import own_code
        >>> own_code(torch.relu, "relu") is None, own_code(lambda x: x, "identity") is None
        (True, False)
    """
    return None if package(function) else identity(function, name)


class _Reader:
    """Walks through an object once; what it holds twice, and circles, are read once."""

    def __init__(self) -> None:
        self.done: dict[int, bytes] = {}
        self.open: dict[int, int] = {}
        self.kept: list[Any] = []
        self.tensors = 0

    def read(self, thing: Any, place: str) -> bytes:
        """The digest of an object; `place` says where it was found."""
        if isinstance(thing, _ATOMS) and type(thing) in _ATOMS:
            return _hash(type(thing).__name__, repr(thing))
        key = id(thing)
        if key in self.done:
            return self.done[key]
        if key in self.open:
            return _hash("circle", str(self.open[key]))
        self.open[key] = len(self.open)
        self.kept.append(thing)
        found = _hash(*self._parts(thing, place))
        del self.open[key]
        self.done[key] = found
        return found

    def _parts(self, thing: Any, place: str) -> Iterator[bytes | str]:
        """What decides an object's digest, kind by kind."""
        if isinstance(thing, _WITHOUT_CONTENT):
            raise NoStableContentError(f"{place} is a {type(thing).__name__}, which has no content to compare")
        if installed := package(thing):
            yield from ("package", installed, getattr(thing, "__qualname__", type(thing).__name__))
            yield from self._own_in_package(thing, place)
        elif isinstance(thing, torch.jit.ScriptModule):
            yield from self._scripted(thing)
        elif isinstance(thing, nn.Module):
            yield from self._module(thing, place)
        elif isinstance(thing, Tensor):
            yield from self._tensor(thing, place)
        elif isinstance(thing, np.ndarray) and not thing.dtype.hasobject:
            yield from ("array", str(thing.dtype), repr(thing.shape), np.ascontiguousarray(thing).tobytes())
        elif isinstance(thing, type):
            yield from self._class(thing, place)
        elif isinstance(thing, types.CodeType):
            yield from self._code(thing, place)
        elif isinstance(thing, types.FunctionType):
            yield from self._function(thing, place)
        elif isinstance(thing, types.ModuleType):
            yield from ("module", thing.__name__)
        elif isinstance(thing, enum.Enum):
            yield from ("enum", self.read(type(thing), place), thing.name)
        elif isinstance(thing, torch.dtype | torch.device | torch.layout | torch.memory_format | PurePath | np.dtype):
            yield from (type(thing).__name__, str(thing))
        else:
            yield from self._value(thing, place)

    def _value(self, thing: Any, place: str) -> Iterator[bytes | str]:
        """Containers, callables that hold others, and objects by their state."""
        if type(thing) in (list, tuple):
            yield type(thing).__name__
            yield from (self.read(value, f"{place}[{number}]") for number, value in enumerate(thing))
        elif type(thing) in (dict, types.MappingProxyType):
            yield "dict"
            yield from self._items(thing, place)
        elif isinstance(thing, set | frozenset):
            yield type(thing).__name__
            yield from sorted(self.read(value, f"an element of {place}") for value in thing)
        elif isinstance(thing, types.MethodType):
            yield from ("method", self.read(thing.__func__, place), self.read(thing.__self__, f"{place}.__self__"))
        elif isinstance(thing, property):
            yield "property"
            yield from (self.read(each, place) for each in (thing.fget, thing.fset, thing.fdel))
        elif isinstance(thing, staticmethod | classmethod):
            yield from (type(thing).__name__, self.read(thing.__func__, place))
        elif isinstance(thing, functools.cached_property):
            yield from ("cached_property", self.read(thing.func, place))
        elif isinstance(thing, functools.partial):
            yield "partial"
            yield from (self.read(each, place) for each in (thing.func, thing.args, thing.keywords))
        elif isinstance(thing, types.CellType):
            yield from ("cell", self.read(_content(thing), place))
        elif isinstance(thing, types.MemberDescriptorType | types.GetSetDescriptorType):
            yield from ("slot", thing.__name__)
        else:
            yield from self._object(thing, place)

    def _object(self, thing: Any, place: str) -> Iterator[bytes | str]:
        """An object of any other class: the class, and the state that pickle would keep."""
        kind = type(thing)
        if hasattr(thing, "__wrapped__") and callable(thing):
            yield from ("wrapper", self.read(kind, place), self.read(thing.__wrapped__, place))
            return
        try:
            made = thing.__reduce_ex__(2)
        except Exception as error:
            raise NoStableContentError(
                f"{place} is a {kind.__module__}.{kind.__qualname__}, which has no content to compare"
            ) from error
        if isinstance(made, str):
            yield from ("global", self.read(kind, place), made)
            return
        function, arguments, state, elements, items = (*made, None, None, None)[:5]
        yield from ("object", self.read(kind, place))
        if function is not copyreg.__newobj__:  # type: ignore[attr-defined]
            yield self.read(function, place)
        yield from (self.read(each, place) for each in arguments if each is not kind)
        if isinstance(state, tuple) and len(state) == 2 and all(isinstance(each, dict | None) for each in state):
            state = {**(state[0] or {}), **(state[1] or {})}
        if isinstance(state, dict):
            yield from self._items(state, place, attributes=True)
        elif state is not None:
            yield self.read(state, place)
        yield from (self.read(value, f"{place}[{number}]") for number, value in enumerate(elements or ()))
        yield from self._items(dict(items or ()), place)

    def _items(self, values: Mapping[Any, Any], place: str, attributes: bool = False) -> Iterator[bytes]:
        for key, value in values.items():
            yield self.read(key, f"a key of {place}")
            yield self.read(value, f"{place}.{key}" if attributes else f"{place}[{key!r}]")

    def _module(self, module: nn.Module, place: str) -> Iterator[bytes | str]:
        """A network: its class, tensors, modules, hooks and attributes; not its mode, which lkd sets."""
        yield from ("network", self.read(type(module), place))
        for kind in ("_parameters", "_buffers", "_modules"):
            yield kind
            for name, value in vars(module)[kind].items():
                yield from (name, self.read(value, f"{place}.{name}"))
        for name, value in vars(module).items():
            if name in _OF_EVERY_MODULE or (name.startswith("_") and name in _plain_module() and not value):
                continue
            yield name
            if "hooks" in name and name in _plain_module():
                yield from (self.read(hook, f"a hook of {place}") for hook in value.values())
            else:
                yield self.read(value, f"{place}.{name}")

    def _tensor(self, tensor: Tensor, place: str) -> Iterator[bytes | str]:
        """A tensor's class, form, values and hooks, and its place among all tensors: tied weights are one tensor."""
        if tensor.is_meta:
            raise NoStableContentError(f"{place} is a tensor on the meta device, which has no values")
        self.tensors += 1
        yield f"tensor {self.tensors}"
        yield from (self.read(type(tensor), place), str(tensor.dtype), repr(tuple(tensor.shape)))
        yield f"{tensor.requires_grad} {tensor.layout}"
        plain = tensor.detach().cpu()
        if plain.layout != torch.strided or plain.is_quantized:
            written = io.BytesIO()
            torch.save(plain, written)
            yield from _unzipped(written.getvalue())
        else:
            plain = plain.resolve_conj().resolve_neg().contiguous()
            yield plain.reshape(-1).view(torch.uint8).numpy().tobytes() if plain.numel() else b""
        hooks = getattr(tensor, "_backward_hooks", None) or {}
        yield from (self.read(hook, f"a hook of {place}") for hook in hooks.values())
        yield from self._items(vars(tensor), place, attributes=True)

    def _scripted(self, module: torch.jit.ScriptModule) -> Iterator[bytes | str]:
        """A network in TorchScript: what `torch.jit.save` writes of it in eval mode, without notes for debugging."""
        written, modes = io.BytesIO(), [(part, part.training) for part in module.modules()]
        module.eval()
        with warnings.catch_warnings(action="ignore", category=FutureWarning):
            torch.jit.save(module, written)
        for part, mode in modes:
            part.training = mode
        yield "script"
        yield from _unzipped(written.getvalue())
        yield from (f"{name} {parameter.requires_grad}" for name, parameter in module.named_parameters())

    def _class(self, kind: type, place: str) -> Iterator[bytes | str]:
        yield from ("class", kind.__qualname__)
        yield from (self.read(base, place) for base in kind.__bases__)
        if type(kind) is not type:
            yield self.read(type(kind), place)
        for name, value in sorted(vars(kind).items()):
            if name not in _OF_EVERY_CLASS:
                yield from (name, self.read(value, f"{kind.__qualname__}.{name}"))

    def _own_in_package(self, thing: Any, place: str) -> Iterator[bytes | str]:
        """Code of one's own in installed code: a method replaced, a function wrapped by a decorator, a bound list."""
        if isinstance(thing, type):
            inside = {name: value for name, value in vars(thing).items() if isinstance(value, types.FunctionType)}
            inside = {name: value for name, value in sorted(inside.items()) if not _generated(value)}
        elif isinstance(thing, types.FunctionType):
            cells = zip(thing.__code__.co_freevars, thing.__closure__ or (), strict=True)
            inside = {name: value for name, cell in cells if callable(value := _content(cell))}
        else:
            bound = getattr(thing, "__self__", None)
            inside = {} if bound is None or isinstance(bound, types.ModuleType | type) else {"__self__": bound}
        for name, value in inside.items():
            if not package(value):
                yield from (name, self.read(value, f"{place}.{name}"))

    def _function(self, function: types.FunctionType, place: str) -> Iterator[bytes | str]:
        """A function: its code without the docstring, defaults, attributes, and the globals that the code names."""
        yield "function"
        yield from self._code(function.__code__, place, function.__doc__)
        outside = (function.__defaults__, function.__kwdefaults__, function.__closure__)
        yield from (self.read(each, f"what {function.__qualname__} holds") for each in outside)
        for name, value in _globals_of(function):
            yield from (name, self.read(value, f"{name}, a global of {function.__qualname__}"))
        wrapped = {name: value for name, value in vars(function).items() if name != "__wrapped__"}
        yield from self._items(wrapped, place, attributes=True)

    def _code(self, code: types.CodeType, place: str, doc: str | None = None) -> Iterator[bytes | str]:
        counts = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags
        yield from ("code", code.co_code, repr(counts), getattr(code, "co_exceptiontable", b""))
        for names in (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars):
            yield repr(names)
        constants = (value for value in code.co_consts if doc is None or value != doc)
        yield from (self.read(value, place) for value in constants)


def _hash(*parts: bytes | str) -> bytes:
    found = hashlib.sha256()
    for part in parts:
        content = part.encode("utf8", "surrogatepass") if isinstance(part, str) else part
        found.update(len(content).to_bytes(8, "big") + content)
    return found.digest()


def _unzipped(content: bytes) -> Iterator[bytes | str]:
    """The members of an archive of PyTorch's without its own name, version notes and positions in source files."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for name in sorted(archive.namelist()):
            inner = name.partition("/")[2]
            if not inner.endswith(".debug_pkl") and not inner.startswith(".data/"):
                yield from (inner, archive.read(name))


@functools.cache
def _plain_module() -> frozenset[str]:
    """The attributes that every network has."""
    return frozenset(vars(nn.Module()))


def _globals_of(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """The globals that a function's code names, and what it names inside of modules of one's own."""
    names = sorted(set(_names(function.__code__)))
    left, seen = [("", function.__globals__)], set()
    while left:
        prefix, namespace = left.pop()
        for name in names:
            if name not in namespace:
                continue
            value = namespace[name]
            yield f"{prefix}{name}", value
            if isinstance(value, types.ModuleType) and id(value) not in seen and not package(value):
                seen.add(id(value))
                left.append((f"{prefix}{name}.", vars(value)))


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


def _generated(function: types.FunctionType) -> bool:
    """Whether a function was made by a library at run time, as a dataclass's methods are."""
    return function.__code__.co_filename.startswith("<") and "ipython" not in function.__code__.co_filename


def _content(cell: types.CellType) -> Any:
    """The content of a closure's cell; its type for one that is empty."""
    try:
        return cell.cell_contents
    except ValueError:
        return types.CellType
