"""Values as people type them on a command line."""

import ast
from contextlib import suppress
from typing import Any

import yaml


def read_value(text: str) -> Any:
    """A value as typed on a command line: a Python literal, else YAML, else the text itself.

    Example:
        >>> from lkd.values import read_value
        >>> read_value("[0, 1]"), read_value("1e-3"), read_value("None"), read_value("small")
        ([0, 1], 0.001, None, 'small')
    """
    for read in (ast.literal_eval, yaml.safe_load):
        with suppress(ValueError, SyntaxError, yaml.YAMLError):
            return read(text)
    return text
