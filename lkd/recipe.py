"""The recipe: all that determines what a training run results in."""

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Union

import timm

from lkd.data import SOURCES, VIEW_FIELDS, Augmentation, View, scheme, unknown_data
from lkd.data.stream import FILES_ONLY, MEMORY_ONLY
from lkd.data.transforms import check_auto_augment, check_jitter
from lkd.models.names import check_arguments, check_name, check_new
from lkd.objectives import OBJECTIVES, Objective
from lkd.optimization import check_optimizer, check_schedule, times_were_steps
from lkd.recipe_fields import Fields
from lkd.sparse import LAST_RATE, SCOPES
from lkd.util.checks import check_number, check_unset, check_whole, check_words, unknown
from lkd.util.identity import UNIQUE, own_code

FORMAT = 4
"""Raised when the same recipe comes to mean another run, so that older runs are not taken for it."""

IN_MEMORY = "memory:"
"""Prefix of the names of data sets and models that exist only in the caller's memory; a hash of them follows."""

_PRECISIONS = ("no", "bf16", "fp16")
_FLOAT32 = ("float32", "fp32", "f32", "full", "none", "None", "32")


@dataclass(frozen=True, kw_only=True)
class Recipe(Fields):
    """All that determines a run's result; equal recipes have equal results, and what cannot change one is not in it.

    Args:
        data: a data set's name; see `lkd.data.load`.
        train_images: train on this many images, a fixed stratified part of the training split; None for all.
        student: the timm name of the model that learns, without a tag: it starts from new weights.
        student_args: its arguments of `timm.create_model`, `{"drop_path_rate": 0.1}` for example; none that load
            weights or change what the model returns.
        teacher: who it learns from: the recipe of a trained model, or the timm name of a pretrained one; None for a
            model that learns from labels alone.
        objective: a name in `lkd.objectives.OBJECTIVES`.
        objective_args: the objective's own parameters.
        teacher_top_k: of the teacher's distribution only this many classes, the label's probability, and the rest in
            equal parts (see `lkd.engine.top_k`); None for all of it.
        crop, flip, cutout, mixup, cutmix, smoothing, crop_scale, color_jitter, auto_augment, erasing, repeats: see
            `lkd.data.Augmentation`.
        image_size, crop_pct, interpolation, damaged: for images in files, see `lkd.data.View`.
        optimizer: timm's name.
        optimizer_args: its arguments, `{"betas": [0.9, 0.95]}` for example; only those that it uses.
        lr: highest learning rate, after warm-up.
        weight_decay: not on biases, norms and other 1-D parameters.
        clip: largest norm of the gradient; None for no clipping.
        epochs: passes over the training images.
        stop_top1: end training early, at the first of every 50th step at which 2,000 validation images are classified
            this well, in percent; None for not at all.
        warmup: share of all steps in which the learning rate rises from 0.
        schedule: timm's name of how it falls after that, by the step.
        schedule_args: arguments of `timm.scheduler.create_scheduler_v2` that the schedule uses, `{"min_lr": 1e-6}` for
            example. Times, timm's defaults included, are in epochs and begin at the end of warm-up, as with timm's
            `warmup_prefix=True`; `decay_epochs` below 1 is a share of the schedule for "wsd" and "rsqrt".
        batch_size: images in an optimiser step, on all processes together.
        accumulation: parts in which a process takes its share of a batch, one after the other.
        sync_bn: batch statistics over all processes; on GPUs only.
        ema: decay of the moving average of the weights, at least 0 and below 1; the average is then what is evaluated
            and kept; None for none.
        precision: "no" (float32), "bf16" or "fp16".
        seed: of initial weights, stream, stochastic layers and masks.
        sparsity: share of the weights that is zero throughout (see `lkd.sparse`); 0 for dense training, in which the
            next three have no effect.
        sparse_scope: which weights these are: "all" or "large_kernels".
        prune_rate: share of the active weights that move in an update of the masks, at first; it falls to 0.005.
        prune_every: steps from one update of the masks to the next.

    Raises:
        KeyError: an unknown name, with the nearest known one.
        TypeError, ValueError: a value that makes no sense, named.

    Example:
        >>> from lkd import Recipe
        >>> teacher = Recipe(data="digits", student="mini_slak", epochs=2)
        >>> recipe = Recipe(data="digits", student="mini_resnet", teacher=teacher, objective="nkd", seed=1)
        >>> recipe.run_id == Recipe.from_dict(recipe.to_dict()).run_id
        True
    """

    teacher: Union["Recipe", str, None] = None

    own_code: ClassVar[Mapping[str, str]] = {}
    """By role, the identity of registered code that is neither lkd's nor of an installed package."""

    def __post_init__(self) -> None:
        _check_names(self)
        _check_integers(self)
        _check_floats(self)
        _check_arguments(self)
        _check_images(self)
        self.make_objective()
        object.__setattr__(self, "own_code", _own_code(self))

    def __hash__(self) -> int:
        return hash(self.run_id)

    @cached_property
    def run_id(self) -> str:
        """Identity of the run: 16 hexadecimal digits of the SHA-256 of the recipe's canonical JSON.

        Fields that have their default are not in it, so that a field that is added later leaves older ids as they were.
        A data source, model or objective that you registered yourself counts by its code as well.
        """
        return _digest({"format": FORMAT, **_set(self)})

    @property
    def stream_id(self) -> str:
        """Identity of the stream: recipes that share it show their students the same pixels."""
        values = {name: value for name, value in _set(self).items() if name in _STREAM_FIELDS}
        code = {"code": self.own_code["data"]} if "data" in self.own_code else {}
        return _digest({"format": FORMAT, **values, **code})

    @property
    def augmentation(self) -> Augmentation:
        """The augmentation of the training images."""
        return Augmentation(**{f.name: getattr(self, f.name) for f in dataclasses.fields(Augmentation)})

    @property
    def view(self) -> dict[str, Any]:
        """How images in files are shown, as `lkd.data.load` takes it."""
        return {name: getattr(self, name) for name in VIEW_FIELDS}

    @property
    def teacher_name(self) -> str | None:
        """Name of the teacher's model; None without a teacher."""
        return self.teacher.student if isinstance(self.teacher, Recipe) else self.teacher

    @cached_property
    def baseline(self) -> "Recipe":
        """The recipe of the same student without a teacher."""
        return dataclasses.replace(self, teacher=None, objective="label", objective_args={}, teacher_top_k=None)

    def check_current(self) -> None:
        """Refuse a recipe that was made before something that it names was registered anew.

        Raises:
            ValueError: a data source, model or objective whose code is not what it was.
        """
        now = _own_code(self)
        for role in self.own_code.keys() | now.keys():
            before, after = self.own_code.get(role), now.get(role)
            if before != after and not str(after).startswith(UNIQUE):
                name = self.teacher_name if role == "teacher" else getattr(self, role)
                raise ValueError(
                    f"{role} {name!r} was registered anew, with other code, after this recipe was made: make the "
                    "recipe again"
                )

    def make_objective(self) -> Objective:
        """The objective, with this recipe's parameters.

        Raises:
            TypeError: `objective_args` has a parameter that the objective does not know.
        """
        cls = OBJECTIVES[self.objective]
        for name in self.objective_args:
            if name not in cls.hyperparameters():
                raise TypeError(unknown(f"parameter of objective {self.objective!r}", name, cls.hyperparameters()))
        return cls(**self.objective_args)

    def to_dict(self) -> dict[str, Any]:
        """The recipe as plain values, a teacher's recipe inside it; `from_dict` reads it back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Recipe":
        """The recipe that `to_dict` wrote.

        Raises:
            TypeError: a field that a recipe does not have.
        """
        known = [f.name for f in dataclasses.fields(cls)]
        for name in values:
            if name not in known:
                raise TypeError(unknown("field of a recipe", name, known))
        teacher = values.get("teacher")
        return cls(**{**values, "teacher": cls.from_dict(teacher) if isinstance(teacher, Mapping) else teacher})


_STREAM_FIELDS = (
    "data", "train_images", "crop", "flip", "cutout", "mixup", "cutmix", "smoothing", "image_size", "crop_scale",
    "color_jitter", "auto_augment", "erasing", "repeats", "crop_pct", "interpolation", "damaged", "epochs",
    "batch_size", "seed",
)  # fmt: skip


_INTEGERS = {
    "train_images": 1, "crop": 0, "cutout": 0, "image_size": 0, "repeats": 1, "epochs": 1, "batch_size": 1, "seed": 0,
    "prune_every": 1, "teacher_top_k": 1, "accumulation": 1,
}  # fmt: skip
_BOOLEANS = ("flip", "sync_bn")
_ARGUMENTS = ("student_args", "objective_args", "optimizer_args", "schedule_args")
_FLOATS: dict[str, tuple[float, float]] = {
    "mixup": (0, math.inf), "cutmix": (0, math.inf), "smoothing": (0, 1), "crop_scale": (0, 1),
    "color_jitter": (0, math.inf), "erasing": (0, 1), "crop_pct": (0, 1), "lr": (0, math.inf),
    "weight_decay": (0, math.inf), "clip": (0, math.inf), "stop_top1": (0, 100), "warmup": (0, 1), "ema": (0, 1),
    "sparsity": (0, 1), "prune_rate": (LAST_RATE, 1),
}  # fmt: skip
_ABOVE, _BELOW = ("lr", "clip", "crop_pct"), ("sparsity", "smoothing", "ema")
"""Of these, the fields that must lie above the lower bound, and below the upper one."""

_HIGHEST_SEED = 2**63 - 1
_OPTIONAL = ("train_images", "clip", "ema", "teacher_top_k", "stop_top1")


def _check_names(recipe: Recipe) -> None:
    for field_name in ("data", "student"):
        if not isinstance(value := getattr(recipe, field_name), str):
            raise TypeError(f"{field_name} must be a name, got a {type(value).__name__} (lkd.distill takes objects)")
    if not recipe.data.startswith(IN_MEMORY) and recipe.data not in SOURCES and not scheme(recipe.data):
        raise KeyError(unknown_data(recipe.data))
    for role, name, check in (("student", recipe.student, check_new), ("teacher", recipe.teacher, check_name)):
        if isinstance(name, str) and not name.startswith(IN_MEMORY):
            check(f"{role} model", name)
    if recipe.teacher is not None and not isinstance(recipe.teacher, str | Recipe):
        raise TypeError(f"teacher must be a recipe or a model's name, got a {type(recipe.teacher).__name__}")
    needs_teacher = OBJECTIVES[recipe.objective].needs_teacher
    if needs_teacher and recipe.teacher is None:
        raise ValueError(f"objective {recipe.objective!r} needs a teacher, got teacher=None")
    if not needs_teacher and recipe.teacher is not None:
        raise ValueError(
            f"objective {recipe.objective!r} looks at no teacher, got {recipe.teacher_name!r}: leave it out"
        )
    _check_precision(recipe.precision)
    if recipe.sparse_scope not in list(SCOPES):
        raise KeyError(unknown("sparse_scope", recipe.sparse_scope, SCOPES))


def _check_precision(precision: Any) -> None:
    if not isinstance(precision, str):
        hint = ': YAML reads no without quotes as False, write "no"' if precision is False else ""
        raise TypeError(f'precision must be "no" (float32), "bf16" or "fp16", got {precision!r}{hint}')
    if precision in _FLOAT32:
        raise KeyError(f"unknown precision {precision!r}: float32 is called 'no'")
    if precision not in _PRECISIONS:
        raise KeyError(unknown("precision", precision, _PRECISIONS))


def _check_integers(recipe: Recipe) -> None:
    for name, low in _INTEGERS.items():
        value = getattr(recipe, name)
        if value is None and name in _OPTIONAL:
            continue
        check_whole(name, value, low, _HIGHEST_SEED if name == "seed" else math.inf)
    if recipe.batch_size % recipe.accumulation:
        raise ValueError(f"accumulation must divide batch_size {recipe.batch_size}, got {recipe.accumulation}")
    for name in _BOOLEANS:
        if not isinstance(getattr(recipe, name), bool):
            raise TypeError(f"{name} must be True or False, got {getattr(recipe, name)!r}")


def _check_floats(recipe: Recipe) -> None:
    """Numbers in range, and as floats, so that 1 and 1.0 make the same recipe."""
    for name, (low, high) in _FLOATS.items():
        value = getattr(recipe, name)
        if value is None and name in _OPTIONAL:
            continue
        check_number(name, value, low, high, above=name in _ABOVE, below=name in _BELOW)
        object.__setattr__(recipe, name, float(value))
    if recipe.stop_top1 is not None and 0 < recipe.stop_top1 <= 1:
        raise ValueError(f"stop_top1 is in percent, got {recipe.stop_top1:g}: give {100 * recipe.stop_top1:g}")


def _check_arguments(recipe: Recipe) -> None:
    """Arguments of others' functions: what JSON can hold, so that they can be written down and read back."""
    for field_name in _ARGUMENTS:
        if not isinstance(values := getattr(recipe, field_name), Mapping):
            raise TypeError(f"{field_name} must map names to values, got {values!r}")
        try:
            plain = json.loads(json.dumps(dict(values), allow_nan=False))
        except (TypeError, ValueError) as error:
            raise TypeError(f"{field_name} must hold numbers, texts, lists of them or None: {error}") from error
        check_words(field_name, plain)
        object.__setattr__(recipe, field_name, {name: _shortest(value) for name, value in plain.items()})
    check_arguments(recipe.student_args)
    if recipe.student_args and recipe.student.startswith(IN_MEMORY):
        raise ValueError(f"student_args is {recipe.student_args}, but the student is a module: make it with them")
    check_optimizer(recipe.optimizer, recipe.optimizer_args)
    check_schedule(recipe)


def _shortest(value: Any) -> Any:
    """A whole number as an int, so that 1 and 1.0 make the same recipe."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _check_images(recipe: Recipe) -> None:
    """What is done to images, as far as their kind of data does it."""
    View(**recipe.view)
    check_auto_augment(recipe.auto_augment)
    check_jitter(recipe)
    if scheme(recipe.data):
        check_unset(recipe, MEMORY_ONLY, f"images in files ({recipe.data!r})")
    else:
        check_unset(recipe, (*FILES_ONLY, *VIEW_FIELDS), f"images in memory ({recipe.data!r})")


def _set(recipe: Recipe) -> dict[str, Any]:
    """The fields that differ from their defaults, as plain values, a teacher's likewise.

    Beside them stands a word where the same fields meant another schedule before lkd counted its times in epochs.
    """
    values = {}
    for each in dataclasses.fields(recipe):
        value = getattr(recipe, each.name)
        default = each.default if each.default_factory is dataclasses.MISSING else each.default_factory()
        if value != default:
            values[each.name] = _set(value) if isinstance(value, Recipe) else value
    if times_were_steps(recipe):
        values["schedule_times"] = "epochs"
    return {**values, "code": recipe.own_code} if recipe.own_code else values


def _own_code(recipe: Recipe) -> dict[str, str]:
    """By role, the identity of code that a user registered with lkd or timm."""
    named: dict[str, Any] = {"data": SOURCES.get(recipe.data), "objective": OBJECTIVES[recipe.objective]}
    for role, model in (("student", recipe.student), ("teacher", recipe.teacher)):
        if isinstance(model, str) and not model.startswith(IN_MEMORY):
            named[role] = timm.model_entrypoint(model.partition(".")[0])
    found = {role: own_code(code, f"{role} {getattr(recipe, role)!r}") for role, code in named.items() if code}
    return {role: code for role, code in found.items() if code}


def _digest(values: dict[str, Any]) -> str:
    canonical = json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
