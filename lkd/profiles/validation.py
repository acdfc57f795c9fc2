"""Validation of profiles: keys and types by a table of settings, values by building recipes."""

import operator
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from lkd.recipe import Recipe
from lkd.util.checks import check_list, check_whole, unknown

if TYPE_CHECKING:
    from lkd.profiles import Profile

LISTS = {"teachers": str, "students": str, "objectives": str, "teacher_seeds": int, "seeds": int}
"""Lists that a chapter may override, and the type of their entries."""

BASELINE_VARIANT = "vanilla KD, BCE"
"""Reference of the variants of KD."""

TRAIT_SETTINGS = ("erf_size", "erf_images", "corrupted_images")
"""Settings of the measurement of receptive fields and robustness, stored with each row of such a study."""

_KEYS = (
    "description", "data", "train_images", "teacher_seeds", "seeds", "teacher", "teachers", "student", "students",
    "objectives", "chapters",
)  # fmt: skip
_NAMED = ("teachers", "students", "objectives")
_RESERVED = ("data", "student", "teacher", "objective", "objective_args", "seed")
_SOME_MODEL = "mini_resnet"


class WrongValueError(ValueError):
    """A wrong value in a profile; the message begins with its key."""

    def __init__(self, key: str, reason: str):
        super().__init__(f"{key}: {reason}")
        self.key, self.reason = key, reason


@contextmanager
def at_key(key: str) -> Iterator[None]:
    """Prefix errors of the block with a key of the profile."""
    try:
        yield
    except WrongValueError as error:
        raise WrongValueError(f"{key}.{error.key}", error.reason) from error
    except (KeyError, TypeError, ValueError) as error:
        raise WrongValueError(key, error.args[0]) from error


def check_form(values: Mapping[str, Any]) -> None:
    """Check the keys of a profile and the types of its mappings and lists; errors name the key."""
    _check_keys(values, _KEYS, _KEYS)
    if not isinstance(values["description"], str) or not values["description"]:
        raise TypeError(f"description must be a sentence, got {values['description']!r}")
    for key in ("teacher_seeds", "seeds"):
        check_list(key, values[key], int)
    for key in ("teacher", "student"):
        with at_key(key):
            _check_fields(values[key], ("epochs",) if key == "student" else ())
    for key in _NAMED:
        with at_key(key):
            _check_entries(values[key], _check_mapping if key == "objectives" else _check_fields)
    with at_key("chapters"):
        _check_keys(values["chapters"], SETTINGS, [name for name, settings in SETTINGS.items() if settings])
        for name, settings in values["chapters"].items():
            with at_key(name):
                known = {*_lists_of(name), *SETTINGS[name], *OPTIONAL.get(name, ())}
                _check_keys(settings, known, SETTINGS[name])


def check_recipes(profile: "Profile") -> None:
    """Check the values of a profile by building recipes from them; a WrongValueError names the key."""
    some = {"data": profile.data, "student": _SOME_MODEL}
    with at_key("data"):
        Recipe.from_dict(some)
    with at_key("train_images"):
        Recipe.from_dict({**some, "train_images": profile.train_images})
    with at_key("seeds"):
        for seed in profile.seeds:
            Recipe.from_dict({**some, "seed": seed})
    student = {"train_images": profile.train_images, **profile.student}
    for key, shared, make, models in (
        ("teacher", profile.teacher, profile.teacher_recipe, profile.teachers),
        ("student", student, profile.student_recipe, profile.students),
    ):
        with at_key(key):
            Recipe.from_dict({**some, **shared})
        for model in models:
            with at_key(f"{key}s.{model}"):
                make(model)
    with at_key("teacher_seeds"):
        for seed in profile.teacher_seeds:
            profile.teacher_recipe(_SOME_MODEL, seed=seed)
    for name in profile.objectives:
        with at_key(f"objectives.{name}"):
            _check_distilled(profile, {"objective": name})
    for chapter, settings in profile.chapters.items():
        for name, value in settings.items():
            with at_key(f"chapters.{chapter}.{name}"):
                {**_LIST_CHECKS, **SETTINGS[chapter], **OPTIONAL.get(chapter, {})}[name](profile, value)


def _check_keys(values: Any, known: Collection[str], needed: Collection[str] = ()) -> None:
    _check_mapping(values)
    for key in values:
        if key not in known:
            raise KeyError(unknown("key", key, known))
    if missing := [key for key in needed if key not in values]:
        raise ValueError(f"{', '.join(map(repr, missing))} must be given here or in a profile that this one extends")


def _check_mapping(values: Any) -> None:
    if not isinstance(values, Mapping):
        raise TypeError(f"must map names to values, got {values!r}")
    for name in values:
        if not isinstance(name, str):
            raise TypeError(f"the name {name!r} is not a string: put it in quotes")


def _check_entries(values: Any, check: Callable[[Any], None]) -> None:
    _check_mapping(values)
    if not values:
        raise ValueError("is empty: give at least one")
    for name, entry in values.items():
        with at_key(name):
            check(entry)


def _check_fields(values: Any, needed: Collection[str] = ()) -> None:
    """Refuse recipe fields that have their own place in a profile."""
    _check_mapping(values)
    for name in values:
        if name in _RESERVED:
            raise ValueError(f"{name!r} is not allowed here: data, models, objectives and seeds have their own keys")
    if missing := [name for name in needed if name not in values]:
        raise ValueError(f"{missing[0]!r} must be given")


def _lists_of(chapter: str) -> set[str]:
    """Lists that a chapter uses: variants replace objectives, and teacher sizes replace teachers."""
    settings = SETTINGS[chapter]
    without = (
        {"objectives"} if "variants" in settings else {"teachers"} if settings.get("sizes") is _teacher_sizes else set()
    )
    return set(LISTS) - without


def _check_distilled(profile: "Profile", method: Mapping[str, Any]) -> None:
    """Build the recipe of a distilled student."""
    student, teacher = next(iter(profile.students)), next(iter(profile.teachers))
    profile.student_recipe(student, teacher=profile.teacher_recipe(teacher), **method)


def _check_models(role: str, profile: "Profile", names: Any) -> None:
    """Check that a chapter's models have settings in the profile."""
    known = getattr(profile, f"{role}s")
    check_list(f"{role}s", names, str)
    for name in names:
        if name not in known:
            raise KeyError(unknown(f"{role} of this profile", name, known))


def _objectives(profile: "Profile", names: Any) -> None:
    check_list("objectives", names, str)
    for name in names:
        _check_distilled(profile, {"objective": name})


def _seeds(profile: "Profile", seeds: Any) -> None:
    check_list("seeds", seeds, int)
    for seed in seeds:
        profile.student_recipe(_SOME_MODEL, seed=seed)


def _teacher_fields(profile: "Profile", recipes: Any) -> None:
    _check_mapping(recipes)
    for model, fields in recipes.items():
        with at_key(model):
            _check_fields(fields)
            profile.teacher_recipe(model, **fields)


def _variants(profile: "Profile", variants: Any) -> None:
    def check(method: Any) -> None:
        _check_keys(method, ("objective", "objective_args"), ("objective",))
        _check_distilled(profile, profile.method_fields(method))

    _check_entries(variants, check)


def _kd_variants(profile: "Profile", variants: Any) -> None:
    _variants(profile, variants)
    if BASELINE_VARIANT not in variants:
        raise ValueError(f"{BASELINE_VARIANT!r} is missing: the other variants are compared with it")


def _strengths(profile: "Profile", strengths: Any) -> None:
    def check(fields: Any) -> None:
        _check_fields(fields, ("epochs",))
        if "train_images" in fields:
            raise ValueError("'train_images' is not allowed here: `sizes` sets it")
        profile.student_recipe(_SOME_MODEL, **fields)

    _check_entries(strengths, check)


def _set_sizes(profile: "Profile", sizes: Any) -> None:
    check_list("sizes", sizes, int)
    for size in sizes:
        profile.student_recipe(_SOME_MODEL, train_images=size)


def _pairs(profile: "Profile", pairs: Any) -> None:
    settings = profile.chapters["vanilla_kd"]
    for pair in pairs if isinstance(pairs, list) and pairs else [pairs]:
        known = settings["sizes"], settings["strengths"]
        if not (isinstance(pair, list) and len(pair) == 2 and all(map(operator.contains, known, pair))):
            raise ValueError(f"pairs must be pairs of one of `sizes` and one of `strengths`, got {pair!r}")


def _teacher_sizes(profile: "Profile", sizes: Any) -> None:
    def check(fields: Any) -> None:
        _check_fields(fields, ("model",))
        profile.teacher_recipe(**fields)

    _check_entries(sizes, check)


def _factors(profile: "Profile", factors: Any) -> None:
    check_list("factors", factors, (int, float))
    for factor in factors:
        profile.student_recipe(_SOME_MODEL, epochs=round(profile.student["epochs"] * factor))


def _count(profile: "Profile", count: Any) -> None:
    check_whole("it", count, 1)


def _count_or_all(profile: "Profile", count: Any) -> None:
    if count is not None:
        _count(profile, count)


Check = Callable[["Profile", Any], None]
_LIST_CHECKS: dict[str, Check] = {
    "teachers": partial(_check_models, "teacher"),
    "students": partial(_check_models, "student"),
    "objectives": _objectives,
    "teacher_seeds": _seeds,
    "seeds": _seeds,
}
SETTINGS: dict[str, dict[str, Check]] = {
    "logit_kd": {},
    "matched": {"recipes": _teacher_fields},
    "feature_kd": {"variants": _variants},
    "released_code": {"variants": _variants},
    "longer_training": {"factors": _factors},
    "kernel_size": {"sizes": _teacher_sizes},
    "teacher_size": {"sizes": _teacher_sizes},
    "vanilla_kd": {"sizes": _set_sizes, "strengths": _strengths, "variants": _kd_variants},
    "traits": {"erf_size": _count, "erf_images": _count, "corrupted_images": _count_or_all},
}
"""Required settings of each chapter, or part of one, with the function that checks each."""

OPTIONAL: dict[str, dict[str, Check]] = {"vanilla_kd": {"pairs": _pairs}}
"""Settings that a chapter may have."""
