"""Profiles: named scales in YAML files, built-in or the user's. A profile may extend another."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from lkd.profiles.profile_files import PROFILES, Texts, find_profile, merge, own_values, read_files
from lkd.profiles.validation import check_form, check_recipes
from lkd.recipe import Recipe
from lkd.runs.public_names import profile_name, public
from lkd.util.markdown import code, plain

__all__ = ["PROFILES", "Profile", "profile_name"]


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A scale: data, models and training settings.

    Args:
        name: its name; for a user's file, the file name without its ending.
        source: its name, or the absolute path of its file, for `load`.
        description: one sentence.
        data: the data set.
        train_images: number of training images of students, None for all; teachers use all.
        teacher_seeds: seeds of the trained instances of each teacher.
        seeds: seeds of the students.
        teacher: recipe fields of all teachers.
        teachers: recipe fields of each teacher, by name.
        student: recipe fields of all students.
        students: recipe fields of each student, by name.
        objectives: parameters of each objective, by name.
        chapters: per-chapter overrides and settings.

    Example:
        >>> from lkd.profiles import Profile
        >>> Profile.load("smoke").data
        'digits'
    """

    name: str
    source: str
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
    def load(cls, profile: str) -> "Profile":
        """Load and check a profile.

        With `extends`, a file takes the values of another profile, given by name or by a path relative to the file, and
        contains only differences. Mappings are merged key by key; null removes an entry of the other profile.

        Args:
            profile: a name in `PROFILES`, or the path of a YAML file.

        Raises:
            FileNotFoundError: a missing file.
            KeyError: an unknown name, with the nearest known one.
            TypeError: not a string.
            ValueError: an invalid profile; the message names the file, the key and the fix.
        """
        return _profile(read_files(find_profile(profile)))

    @property
    def markdown(self) -> str:
        """Its name and description as plain Markdown text, without folders of this machine.

        Example:
            >>> from lkd.profiles import Profile
            >>> Profile.load("smoke").markdown[:16]
            'Profile ` smoke '
        """
        return f"Profile {code(self.name)}: {plain(public(self.description))}"

    def teacher_recipe(self, model: str, **overrides: Any) -> Recipe:
        """Recipe of a teacher, trained from labels on all training images."""
        own = self.teachers.get(model, {})
        return Recipe.from_dict({"data": self.data, "student": model, **self.teacher, **own, **overrides})

    def student_recipe(self, model: str, **overrides: Any) -> Recipe:
        """Recipe of a student: a baseline, unless `overrides` have a teacher and an objective."""
        arguments = self.objectives.get(overrides.get("objective", "label"), {})
        own = self.students.get(model, {})
        defaults = {"data": self.data, "student": model, "train_images": self.train_images, "objective_args": arguments}
        return Recipe.from_dict({**defaults, **self.student, **own, **overrides})

    def method_fields(self, method: Mapping[str, Any]) -> dict[str, Any]:
        """Recipe fields of a method `{"objective": ..., "objective_args": ...}`.

        Missing parameters are this profile's, for each term of a sum of objectives.
        """
        objective, own = method["objective"], method.get("objective_args", {})
        base = {name: value for part in objective.split("+") for name, value in self.objectives.get(part, {}).items()}
        return {"objective": objective, "objective_args": {**base, **own}}

    def way(self, way: Mapping[str, Any]) -> dict[str, Any]:
        """Deprecated name of `method_fields`."""
        warnings.warn("Profile.way is now Profile.method_fields", FutureWarning, stacklevel=2)
        return self.method_fields(way)


@cache
def _profile(files: Texts) -> Profile:
    """The profile in the first file, which extends the others; each is checked before it is extended."""
    (path, text), *bases = files
    base = vars(_profile(tuple(bases))) if bases else {}
    known = {key: value for key, value in base.items() if key not in ("name", "source")}
    shipped = PROFILES.get(path.stem) == path
    if path.stem in PROFILES and not shipped:
        raise ValueError(f"{path} has the name of a built-in profile: rename the file")
    try:
        values = merge(known, own_values(path, text))
        check_form(values)
        profile = Profile(name=path.stem, source=path.stem if shipped else str(path), **values)
        check_recipes(profile)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error.args[0]}") from error
    return profile
