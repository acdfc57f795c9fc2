"""The typed keyword arguments of `lkd.distill` and `lkd.train` are those that the functions take."""

import dataclasses
import inspect
import re
from typing import get_type_hints

import lkd
from lkd import Recipe
from lkd.objectives import OBJECTIVES
from lkd.overrides import DistillOverrides, RecipeOverrides, TrainOverrides

BUILT_IN = ("label", "kd", "nkd", "dkd", "dist", "vanilla", "fd")
FIELDS = {each.name for each in dataclasses.fields(Recipe)} - {"data", "student", "teacher", "objective"}
"""The fields of a recipe that are no arguments of their own."""


def parameters(names: tuple[str, ...]) -> dict[str, object]:
    hints = [get_type_hints(OBJECTIVES[name].__init__) for name in names]
    given = [inspect.signature(OBJECTIVES[name]).parameters for name in names]
    return {name: hint[name] for hint, known in zip(hints, given, strict=True) for name in known}


def test_every_field_and_every_parameter_of_an_objective_is_typed() -> None:
    recipe = {name: hint for name, hint in get_type_hints(Recipe).items() if name in FIELDS}
    assert get_type_hints(RecipeOverrides) == recipe
    assert get_type_hints(TrainOverrides) == recipe | parameters(("label",))
    assert get_type_hints(DistillOverrides) == recipe | parameters(BUILT_IN)


def test_the_help_of_distill_lists_each_once() -> None:
    listed = inspect.getdoc(lkd.distill).partition("overrides:")[2].partition("Returns:")[0]
    words = re.findall(r"\b[a-z_0-9]+\b", re.sub(r"`[^`]*`", "", listed))
    for name in get_type_hints(DistillOverrides):
        assert words.count(name) == 1 or name == "objective_args", name
