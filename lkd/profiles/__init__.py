"""Profiles: named scales, as data. Each YAML file here is one; it may extend another."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from lkd.checks import unknown
from lkd.recipe import Recipe

PROFILES = {path.stem: path for path in Path(__file__).parent.glob("*.yaml")}


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A scale: on what, how long and with which settings models are trained.

    Args:
        name: what it is called.
        description: one sentence for people.
        data: the data set.
        train_images: images that students learn from, None for all; teachers learn from all.
        teacher_seeds: one trained instance of each teacher for each.
        seeds: one student for each.
        teacher: recipe fields of every teacher.
        teachers: names of the teachers, each with its own recipe fields.
        student: recipe fields of every student.
        students: names of the students, each with its own recipe fields.
        objectives: names of the objectives, each with its parameters.
        chapters: by chapter, what is otherwise there than above, and settings of its own.

    Example:
        >>> from lkd.profiles import Profile
        >>> Profile.load("smoke").data
        'digits'
    """

    name: str
    description: str
    data: str
    train_images: int | None
    teacher_seeds: list[int]
    seeds: list[int]
    teacher: Mapping[str, Any]
    teachers: Mapping[str, Mapping[str, Any]]
    student: Mapping[str, Any]
    students: Mapping[str, Mapping[str, Any]]
    objectives: Mapping[str, Mapping[str, Any]]
    chapters: Mapping[str, Mapping[str, Any]]

    @classmethod
    def load(cls, name: str) -> "Profile":
        """The profile of that name.

        Raises:
            KeyError: there is none, with the nearest there is.
            TypeError: the file lacks a key, or has one too many.
        """
        if name not in PROFILES:
            raise KeyError(unknown("profile", name, PROFILES))
        values = _read(PROFILES[name])
        expected = {field.name for field in fields(cls)} - {"name"}
        if set(values) != expected:
            raise TypeError(f"{PROFILES[name].name} needs the keys {sorted(expected)}, it has {sorted(values)}")
        return cls(name=name, **values)

    def teacher_recipe(self, model: str, **overrides: Any) -> Recipe:
        """How this profile trains a teacher: from labels, on all training images."""
        own = self.teachers.get(model, {})
        return Recipe(**{"data": self.data, "student": model, **self.teacher, **own, **overrides})

    def student_recipe(self, model: str, **overrides: Any) -> Recipe:
        """How this profile trains a student; alone, unless `overrides` name a teacher and an objective."""
        arguments = self.objectives.get(overrides.get("objective", "label"), {})
        own = self.students.get(model, {})
        defaults = {"data": self.data, "student": model, "train_images": self.train_images, "objective_args": arguments}
        return Recipe(**{**defaults, **self.student, **own, **overrides})


@cache
def _read(path: Path) -> Mapping[str, Any]:
    """What a profile's file says, over what the profile that it extends says."""
    values = yaml.safe_load(path.read_text())
    base = values.pop("extends", None)
    return _over(_read(PROFILES[base]), values) if base else values


def _over(base: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """One mapping over another; mappings within them likewise."""
    both = {key: _over(base[key], values[key]) for key in base.keys() & values.keys() if isinstance(values[key], dict)}
    return {**base, **values, **both}
