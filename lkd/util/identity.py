"""Content digests of Python objects: equal content and code have equal digests in every process.

A digest covers bytecode (without comments and line numbers), every attribute and all tensors. It does not depend on
addresses, hash order or module names of classes. Code of an installed package counts by name and version; PyTorch,
torchvision, timm, NumPy and lkd count by name only, because provenance records their versions.
"""

import copyreg
import dis
import enum
import functools
import hashlib
import importlib.util
import io
import secrets
import sys
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
from torch.nn.modules import module as modules

from lkd.util.installed import code_of, package, replaced_methods

UNIQUE = "unique-"
"""Prefix of identities that are never equal to another."""

_LOADS_GLOBAL = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")
_LRU_CACHE = type(functools.lru_cache(repr))
_STATE_HOOK = modules._WrappedHook
_ATOMS = (type(None), bool, int, float, complex, str, bytes, type(Ellipsis), type(NotImplemented))
_BY_TEXT = (
    torch.dtype, torch.device, torch.layout, torch.memory_format, torch.finfo, torch.iinfo, torch._ops.OpOverload,
    torch._ops.OpOverloadPacket, np.dtype, PurePath,
)  # fmt: skip
_OF_EVERY_CLASS = {
    "__dict__", "__weakref__", "__module__", "__doc__", "__firstlineno__", "__static_attributes__", "__annotations__",
    "__annotate__", "__annotate_func__", "__annotations_cache__", "__abstractmethods__", "_abc_impl",
    "__orig_bases__", "__parameters__", "__slotnames__", "__hash__", "_backward_cls", "_autograd_function_id",
}  # fmt: skip
_OF_EVERY_MODULE = {"training", "_parameters", "_buffers", "_modules", "_compiled_call_impl", "attention_bias_cache"}
_WITHOUT_CONTENT = (types.GeneratorType, types.CoroutineType, types.FrameType, io.IOBase, torch.jit.ScriptModule)


class NoStableContentError(TypeError):
    """An object cannot be compared across processes; the message has its location."""


def digest(thing: Any, name: str = "object") -> str:
    """16 hexadecimal digits that depend on all code, attributes and tensors of an object.

    Args:
        thing: a module, function, class, data set or plain value.
        name: its name in error messages.

    Raises:
        NoStableContentError: a part has no comparable content: an open file, a lock, a generator, or a TorchScript
            network (PyTorch numbers its classes in the process's order of compilation).

    Example:
        >>> from torch import nn
        >>> from lkd.util.identity import digest
        >>> digest(nn.ReLU()) == digest(nn.ReLU()), digest(nn.ReLU()) == digest(nn.Sigmoid())
        (True, False)
    """
    try:
        return _Reader().read(thing, name).hex()[:16]
    except NoStableContentError:
        raise
    except Exception as error:  # custom code of an attribute can raise anything
        raise NoStableContentError(f"{name} cannot be read ({type(error).__name__}: {error})") from error


def identity(thing: Any, name: str) -> str:
    """The digest of an object, or a warning and a unique identity if its content cannot be compared.

    Args:
        thing: as for `digest`.
        name: its name in the warning.

    Example:
        >>> from lkd.util.identity import identity
        >>> identity([1], "list") == identity([1], "list")
        True
    """
    try:
        return digest(thing, name)
    except NoStableContentError as error:
        warnings.warn(f"{error}: its runs are retrained each time, and cannot be resumed", stacklevel=2)
        return UNIQUE + secrets.token_hex(8)


def own_code(function: Callable[..., Any], name: str) -> str | None:
    """The identity of a custom function or class; None for code of lkd or an installed package.

    Also covers custom methods assigned to classes of that package's module.

    Example:
        >>> import torch
        >>> from lkd.util.identity import own_code
        >>> own_code(torch.relu, "relu") is None, own_code(lambda x: x, "identity") is None
        (True, False)
    """
    if not package(function):
        return identity(function, name)
    classes = [each for each in vars(sys.modules[function.__module__]).values() if isinstance(each, type)]
    ours = {
        f"{kind.__qualname__}.{method}": code
        for kind in classes
        if kind.__module__ == function.__module__
        for method, code in replaced_methods(kind)
        if not package(code)
    }
    return identity(ours, name) if ours else None


class _Reader:
    """Traverses an object and reads each part once, also in cycles."""

    def __init__(self) -> None:
        self.done: dict[int, bytes] = {}
        self.open: dict[int, int] = {}
        self.kept: list[Any] = []
        self.tensors = 0
        self.memory: dict[int, int] = {}

    def read(self, thing: Any, place: str) -> bytes:
        """The digest of an object; `place` is its location, for errors."""
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
        """The parts of an object's digest, by its type."""
        if isinstance(thing, _WITHOUT_CONTENT):
            raise NoStableContentError(f"{place} is a {type(thing).__name__}, which has no content to compare")
        if installed := package(thing):
            yield from ("package", installed, getattr(thing, "__qualname__", type(thing).__name__))
            yield from self._custom_in_package(thing, place)
        elif isinstance(thing, nn.Module):
            yield from self._module(thing, place)
        elif isinstance(thing, Tensor):
            yield from self._tensor(thing, place)
        elif type(thing) is np.ndarray and not thing.dtype.hasobject:
            yield from ("array", str(thing.dtype), repr(thing.shape), np.ascontiguousarray(thing).tobytes())
        elif isinstance(thing, type):
            yield from self._class(thing, place)
        elif isinstance(thing, types.CodeType):
            yield from self._code(thing, place)
        elif isinstance(thing, types.FunctionType):
            yield from self._function(thing, place)
        elif isinstance(thing, types.ModuleType):
            yield from ("module", thing.__name__, self.read(code_of(thing.__name__), place))
        elif isinstance(thing, types.BuiltinFunctionType):
            yield from ("extension", thing.__qualname__, self.read(code_of(thing.__module__), place))
        elif isinstance(thing, enum.Enum):
            yield from ("enum", self.read(type(thing), place), repr(thing.value))
        elif isinstance(thing, _BY_TEXT):
            yield from (type(thing).__name__, str(thing))
        else:
            yield from self._value(thing, place)

    def _value(self, thing: Any, place: str) -> Iterator[bytes | str]:
        """Containers, wrappers of callables, and objects by their state."""
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
        elif type(thing) is weakref.ref:
            yield from ("reference", self.read(thing(), place))
        elif isinstance(thing, types.CellType):
            yield from ("cell", self.read(_content(thing), place))
        elif isinstance(thing, types.MemberDescriptorType | types.GetSetDescriptorType):
            yield from ("slot", thing.__name__)
        else:
            yield from self._object(thing, place)

    def _object(self, thing: Any, place: str) -> Iterator[bytes | str]:
        """An object of any other class: the class, and the state that pickle saves."""
        kind = type(thing)
        if kind in (_LRU_CACHE, _STATE_HOOK):
            yield from ("wrapper", self.read(thing.__wrapped__, place))
            return
        try:
            reduce = copyreg.dispatch_table.get(kind)
            made = reduce(thing) if reduce else thing.__reduce_ex__(2)
        except Exception as error:
            raise NoStableContentError(
                f"{place} is a {kind.__module__}.{kind.__qualname__}, which has no content to compare"
            ) from error
        if isinstance(made, str):
            yield from ("global", self.read(kind, place), made)
            return
        function, arguments, state, elements, items = (*made, None, None, None)[:5]
        yield from ("object", self.read(kind, place))
        if getattr(function, "__name__", "") != "__newobj__":
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
        for key, value in sorted(values.items()) if attributes else values.items():
            yield self.read(key, f"a key of {place}")
            yield self.read(value, f"{place}.{key}" if attributes else f"{place}[{key!r}]")

    def _module(self, module: nn.Module, place: str) -> Iterator[bytes | str]:
        """A network: its class, tensors, modules, hooks and attributes, without its training mode."""
        yield from ("network", self.read(type(module), place))
        for kind in ("_parameters", "_buffers", "_modules"):
            yield kind
            for name, value in vars(module)[kind].items():
                yield from (name, self.read(value, f"{place}.{name}"))
        for name, value in sorted(vars(module).items()):
            if name in _OF_EVERY_MODULE or (name.startswith("_") and name in _plain_module() and not value):
                continue
            if "state_dict" in name and name in _plain_module():
                continue
            yield name
            if "hooks" in name and name in _plain_module():
                yield from (self.read(hook, f"a hook of {place}") for hook in value.values())
            else:
                yield self.read(value, f"{place}.{name}")

    def _tensor(self, tensor: Tensor, place: str) -> Iterator[bytes | str]:
        """A tensor's class, shape, values, hooks, and index among all tensors: tied weights are one tensor."""
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
            if start := tensor.untyped_storage().data_ptr():
                yield f"memory {self.memory.setdefault(start, self.tensors)} {tensor.storage_offset()}"
            plain = plain.resolve_conj().resolve_neg().contiguous()
            yield plain.reshape(-1).view(torch.uint8).numpy().tobytes() if plain.numel() else b""
        for kind in ("_backward_hooks", "_post_accumulate_grad_hooks"):
            hooks = getattr(tensor, kind, None) or {}
            yield from (kind, *(self.read(hook, f"a hook of {place}") for hook in hooks.values()))
        yield from self._items(vars(tensor), place, attributes=True)

    def _class(self, kind: type, place: str) -> Iterator[bytes | str]:
        yield from ("class", kind.__qualname__)
        yield from (self.read(base, place) for base in kind.__bases__)
        if type(kind) is not type:
            yield self.read(type(kind), place)
        for name, value in sorted(vars(kind).items()):
            if name not in _OF_EVERY_CLASS:
                yield from (name, self.read(value, f"{kind.__qualname__}.{name}"))

    def _custom_in_package(self, thing: Any, place: str) -> Iterator[bytes | str]:
        """Custom code in installed code: a replaced method, a function in a decorator's closure, a bound object."""
        if isinstance(thing, type):
            yield from (self.read(base, place) for base in thing.__bases__)
            inside = dict(replaced_methods(thing))
        elif isinstance(thing, types.FunctionType):
            cells = zip(thing.__code__.co_freevars, thing.__closure__ or (), strict=True)
            inside = {name: value for name, cell in cells if callable(value := _content(cell))}
            inside |= {"registry": registry} if (registry := vars(thing).get("registry")) else {}
        else:
            bound = getattr(thing, "__self__", None)
            inside = {} if bound is None or isinstance(bound, types.ModuleType | type) else {"__self__": bound}
        for name, value in inside.items():
            if not package(value):
                yield from (name, self.read(value, f"{place}.{name}"))
            elif isinstance(thing, type):
                yield from (name, value.__module__, value.__qualname__)

    def _function(self, function: types.FunctionType, place: str) -> Iterator[bytes | str]:
        """A function: its code (without the docstring), defaults, attributes and globals."""
        yield "function"
        yield from self._code(function.__code__, place, function.__doc__)
        outside = (function.__defaults__, function.__kwdefaults__, function.__closure__)
        yield from (self.read(each, f"a default or closure of {function.__qualname__}") for each in outside)
        for name, value in _globals_of(function):
            yield from (name, self.read(value, f"{name}, a global of {function.__qualname__}"))
        for name in sorted(set(_imported_names(function))):
            yield from (name, self.read(code_of(name), place))
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
    """The members of a PyTorch archive, without its name, versions and source positions."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for name in sorted(archive.namelist()):
            inner = name.partition("/")[2]
            if not inner.endswith(".debug_pkl") and not inner.startswith(".data/"):
                yield from (inner, archive.read(name))


@functools.cache
def _plain_module() -> frozenset[str]:
    """The attributes of every network."""
    return frozenset(vars(nn.Module()))


def _globals_of(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """A function's globals, and the attributes of modules that it uses; of installed modules, only custom code.

    Every attribute name in the code is looked up in every module that the code names.
    """
    codes = list(_codes(function.__code__))
    names = {each.argval for code in codes for each in dis.get_instructions(code) if each.opname in _LOADS_GLOBAL}
    attributes = {name for code in codes for name in code.co_names}
    left: list[tuple[str, dict[str, Any], set[str], bool]] = [("", function.__globals__, names, True)]
    seen: set[int] = set()
    while left:
        prefix, namespace, wanted, custom = left.pop()
        for name in sorted(wanted & namespace.keys()):
            value, place = namespace[name], f"{prefix}{name}"
            if isinstance(value, types.ModuleType) and id(value) not in seen:
                seen.add(id(value))
                left.append((f"{place}.", vars(value), attributes, not package(value)))
            if custom or (isinstance(value, types.FunctionType | type) and not package(value)):
                yield place, value


def _imported_names(function: types.FunctionType) -> Iterator[str]:
    """Modules that a function imports when it runs, and names that it imports from them."""
    for code in _codes(function.__code__):
        instructions = list(dis.get_instructions(code))
        for place, each in enumerate(instructions):
            if each.opname != "IMPORT_NAME":
                continue
            level, names = instructions[place - 2].argval, instructions[place - 1].argval
            base = each.argval
            if level:
                base = importlib.util.resolve_name("." * level + base, function.__globals__["__package__"])
            yield from (base, *(f"{base}.{name}" for name in names or ()))


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """A code object, and the code objects of nested functions and classes."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def _content(cell: types.CellType) -> Any:
    """The content of a closure's cell; `types.CellType` for an empty one."""
    try:
        return cell.cell_contents
    except ValueError:
        return types.CellType
