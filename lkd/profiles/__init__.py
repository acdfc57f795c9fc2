"""Profiles: named scales, as data. Each YAML file here is one, or one of the user's; it may extend another."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from lkd.profiles.reading import PROFILES, Texts, find, over, own_values, texts
from lkd.profiles.validation import check_form, check_recipes
from lkd.recipe import Recipe
from lkd.runs.public_names import profile_name, public
from lkd.util.markdown import code, plain

__all__ = ["PROFILES", "Profile", "profile_name"]


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A scale: on what, how long and with which settings models are trained.

    Args:
        name: what it is called; of a file of the user's, the file's name without its ending.
        source: what `load` finds it by from any folder: its name, or the whole path of its file.
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
        """The profile of that name, or in that file, checked whole.

        A file may name a profile, or a file relative to itself, that it `extends`; it then says only what is otherwise.
        Mappings are taken together, key by key; an entry that is null leaves out what the other has there.

        Args:
            profile: a name in `PROFILES`, or the path of a YAML file.

        Raises:
            FileNotFoundError: no such file.
            KeyError: there is none of that name, with the nearest there is.
            TypeError: no text.
            ValueError: a file that is no profile; names the file, the key, and what would be right.
        """
        return _profile(texts(find(profile)))

    @property
    def markdown(self) -> str:
        """Its name and description as Markdown: text alone, without folders of this machine.

        Example:
            >>> from lkd.profiles import Profile
            >>> Profile.load("smoke").markdown[:16]
            'Profile ` smoke '
        """
        return f"Profile {code(self.name)}: {plain(public(self.description))}"

    def teacher_recipe(self, model: str, **overrides: Any) -> Recipe:
        """How this profile trains a teacher: from labels, on all training images."""
        own = self.teachers.get(model, {})
        return Recipe.from_dict({"data": self.data, "student": model, **self.teacher, **own, **overrides})

    def student_recipe(self, model: str, **overrides: Any) -> Recipe:
        """How this profile trains a student; alone, unless `overrides` name a teacher and an objective."""
        arguments = self.objectives.get(overrides.get("objective", "label"), {})
        own = self.students.get(model, {})
        defaults = {"data": self.data, "student": model, "train_images": self.train_images, "objective_args": arguments}
        return Recipe.from_dict({**defaults, **self.student, **own, **overrides})

    def way(self, way: Mapping[str, Any]) -> dict[str, Any]:
        """A way to teach, `{"objective": ..., "objective_args": ...}`, as fields of a recipe.

        Parameters that it does not say are this profile's, of each part of a sum of objectives.
        """
        objective, own = way["objective"], way.get("objective_args", {})
        base = {name: value for part in objective.split("+") for name, value in self.objectives.get(part, {}).items()}
        return {"objective": objective, "objective_args": {**base, **own}}


@cache
def _profile(files: Texts) -> Profile:
    """The profile of the first file, over that of the others; each is checked before another is laid over it."""
    (path, text), *bases = files
    base = vars(_profile(tuple(bases))) if bases else {}
    known = {key: value for key, value in base.items() if key not in ("name", "source")}
    shipped = PROFILES.get(path.stem) == path
    if path.stem in PROFILES and not shipped:
        raise ValueError(f"{path} has the name of a profile that comes with lkd: give the file another name")
    try:
        values = over(known, own_values(path, text))
        check_form(values)
        profile = Profile(name=path.stem, source=path.stem if shipped else str(path), **values)
        check_recipes(profile)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error.args[0]}") from error
    return profile
