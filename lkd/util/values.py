"""Parsing of values from the command line and YAML files."""

import ast
import re
from contextlib import suppress
from typing import Any

import yaml

TEXTS = frozenset(
    {"data", "student", "students", "teacher", "teachers", "objective", "objectives", "variants", "strengths", "model"}
    | {"profile", "extends", "description", "imagenet", "sets", "optimizer", "schedule", "precision", "sparse_scope"}
    | {"interpolation", "damaged", "auto_augment", "balance"}
)
"""Parameters, recipe fields and profile keys with string values."""

_TAG = "tag:yaml.org,2002:"
_BOOL, _INT, _FLOAT, _DATE, _STR = (_TAG + name for name in ("bool", "int", "float", "timestamp", "str"))
_INTEGER = re.compile(r"[-+]?(0|[1-9][\d_]*|0x[\da-fA-F_]+|0b[01_]+)$")
_DECIMAL = re.compile(
    r"[-+]?(\d[\d_]*\.[\d_]*|\.\d[\d_]*|\d[\d_]*(?=[eE]))([eE][-+]?\d+)?$|[-+]?\.(inf|Inf|INF)$|\.(nan|NaN|NAN)$"
)


class Loader(yaml.SafeLoader):
    """Safe YAML without the surprises of YAML 1.1.

    `yes`, `no`, `on` and `off` are strings as keys and as values of `TEXTS`, and booleans elsewhere. Numbers follow
    Python and YAML 1.2: `1e-3` is a number; `010`, `1:30` and dates are strings. Duplicate keys are an error.
    """

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """A mapping, with boolean words as strings in keys and values of `TEXTS`."""
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"duplicate key {key.value!r}", problem_mark=key.start_mark)
            seen.add(str(key.value))
            entries = value.value if isinstance(value, yaml.SequenceNode) else [value]
            for each in [key, *(entries if str(key.value) in TEXTS else [])]:
                if each.tag == _BOOL:
                    each.tag = _STR
        return node


Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in (_INT, _FLOAT, _DATE)]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Loader.add_implicit_resolver(_INT, _INTEGER, list("-+0123456789"))
Loader.add_implicit_resolver(_FLOAT, _DECIMAL, list("-+.0123456789"))


def read_value(text: str) -> Any:
    """Parse a command-line value: a Python literal, else YAML, else the string itself.

    `True` and `true` are booleans. `yes`, `no`, `on` and `off` are strings: boolean parameters refuse them, and
    `precision=no` works.

    Example:
        >>> from lkd.util.values import read_value
        >>> read_value("[0, 1]"), read_value("1e-3"), read_value("None"), read_value("small"), read_value("no")
        ([0, 1], 0.001, None, 'small', 'no')
    """
    for read in (_literal, _yaml):
        with suppress(SyntaxError, TypeError, ValueError, yaml.YAMLError):
            return read(text)
    return text


def typed(value: Any) -> str:
    """Format a value for `read_value`.

    Example:
        >>> from lkd.util.values import typed
        >>> typed("small"), typed("1"), typed([0, 1])
        ('small', "'1'", '[0, 1]')
    """
    return value if isinstance(value, str) and read_value(value) == value else repr(value)


def _literal(text: str) -> Any:
    """A Python literal without duplicate keys."""
    tree = ast.parse(text.strip(), mode="eval")
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict) and len({ast.dump(key) for key in node.keys if key}) < len(node.keys):
            raise ValueError(f"duplicate key in {text}")
    return ast.literal_eval(tree)


def _yaml(text: str) -> Any:
    """A YAML value that spans the whole text, without a comment; `yes`, `no`, `on` and `off` are not booleans."""
    loader = Loader(text)
    try:
        node = loader.get_single_node()
        if node is None or (isinstance(node, yaml.ScalarNode) and not _spans(node, text)):
            raise ValueError(f"{text!r} is a string")
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _spans(node: yaml.ScalarNode, text: str) -> bool:
    word = node.tag == _BOOL and node.value.lower() not in ("true", "false")
    return node.value == text.strip() and not word
