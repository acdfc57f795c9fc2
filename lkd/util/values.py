"""Values as people type them: on a command line, and in YAML files."""

import ast
import re
from contextlib import suppress
from typing import Any

import yaml

TEXTS = frozenset(
    {"data", "student", "students", "teacher", "teachers", "objective", "objectives", "variants", "strengths", "model"}
    | {"profile", "extends", "description", "imagenet", "sets", "optimizer", "schedule", "precision", "sparse_scope"}
    | {"interpolation", "damaged", "auto_augment"}
)
"""Names of parameters, of fields of recipes and of keys of profiles that take texts."""

_TAG = "tag:yaml.org,2002:"
_BOOL, _INT, _FLOAT, _DATE, _STR = (_TAG + name for name in ("bool", "int", "float", "timestamp", "str"))
_INTEGER = re.compile(r"[-+]?(0|[1-9][\d_]*|0x[\da-fA-F_]+|0b[01_]+)$")
_DECIMAL = re.compile(
    r"[-+]?(\d[\d_]*\.[\d_]*|\.\d[\d_]*|\d[\d_]*(?=[eE]))([eE][-+]?\d+)?$|[-+]?\.(inf|Inf|INF)$|\.(nan|NaN|NAN)$"
)


class Loader(yaml.SafeLoader):
    """Safe YAML that reads what people mean.

    `yes`, `no`, `on` and `off` are texts where a text belongs, as a name or as the value of one of `TEXTS`, and True or
    False elsewhere. Numbers are those of Python and YAML 1.2: `1e-3` is one; `010`, `1:30` and dates are texts. No key
    stands twice in a mapping.
    """

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """A mapping, with words made texts where texts belong."""
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"the key {key.value!r} stands twice", problem_mark=key.start_mark)
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
    """A value as typed on a command line: a Python literal, else YAML, else the text itself.

    `True` and `true` are booleans. The words `yes`, `no`, `on` and `off` alone are texts: what takes True or False
    refuses them, and `precision=no` means what it says.

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
    """A value as `read_value` reads it back.

    Example:
        >>> from lkd.util.values import typed
        >>> typed("small"), typed("1"), typed([0, 1])
        ('small', "'1'", '[0, 1]')
    """
    return value if isinstance(value, str) and read_value(value) == value else repr(value)


def _literal(text: str) -> Any:
    """A Python literal in which no key stands twice."""
    tree = ast.parse(text.strip(), mode="eval")
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict) and len({ast.dump(key) for key in node.keys if key}) < len(node.keys):
            raise ValueError(f"a key stands twice in {text}")
    return ast.literal_eval(tree)


def _yaml(text: str) -> Any:
    """A value in YAML that takes up the whole text: no comment is cut off, and no word is made a boolean."""
    loader = Loader(text)
    try:
        node = loader.get_single_node()
        if node is None or (isinstance(node, yaml.ScalarNode) and not _means_itself(node, text)):
            raise ValueError(f"{text!r} is a text")
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _means_itself(node: yaml.ScalarNode, text: str) -> bool:
    word = node.tag == _BOOL and node.value.lower() not in ("true", "false")
    return node.value == text.strip() and not word
