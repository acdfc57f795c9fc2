"""The recipe: everything that determines the result of a training run."""

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
from lkd.data.stream import BALANCES, FILES_ONLY, MEMORY_ONLY
from lkd.data.transforms import check_auto_augment, check_jitter
from lkd.models.timm_names import check_arguments, check_name, check_new
from lkd.objectives import OBJECTIVES, Objective
from lkd.objectives.own import make_objective
from lkd.optimization import check_optimizer, check_schedule, times_were_steps
from lkd.recipe_fields import RecipeFields, completed, defaults
from lkd.sparse import LAST_RATE, SCOPES
from lkd.util.checks import check_flag, check_number, check_unset, check_whole, check_words, unknown
from lkd.util.identity import UNIQUE, own_code

FORMAT = 4
"""Version in every run id; raised when the same recipe starts to give another result."""

IN_MEMORY = "memory:"
"""Prefix of the names of in-memory data sets and models; a hash of their content follows."""

_PRECISIONS = ("no", "bf16", "fp16")
_FLOAT32 = ("float32", "fp32", "f32", "full", "none", "None", "32")


@dataclass(frozen=True, kw_only=True)
class Recipe(RecipeFields):
    """Everything that determines the result of a run: equal recipes have equal results.

    Args:
        data: name of the data set; see `lkd.data.load`.
        train_images: number of training images, a stratified subset of the training split; None for all.
        subset_seed: seed of the draw of this subset; None for `seed`, so that repetitions draw their own.
        student: timm name of the student, without a tag: training starts from new weights.
        student_args: arguments of `timm.create_model` for the student, `{"drop_path_rate": 0.1}` for example; arguments
            that load weights or change the model's output are refused.
        teacher: recipe of a trained teacher, or timm name of a pretrained one; None to train from labels alone.
        objective: a name in `lkd.objectives.OBJECTIVES`.
        objective_args: parameters of the objective.
        teacher_top_k: truncate the teacher's distribution to its top K classes and the label, and spread the remaining
            mass equally (see `lkd.engine.top_k`); None for the full distribution.
        crop, flip, cutout, mixup, cutmix, smoothing, crop_scale, color_jitter, auto_augment, erasing, repeats, balance:
            see `lkd.data.Augmentation`.
        image_size, crop_pct, interpolation, damaged: for images in files, see `lkd.data.View`.
        optimizer: timm's name of the optimizer.
        optimizer_args: arguments of the optimizer, `{"betas": [0.9, 0.95]}` for example; unused ones are refused.
        lr: peak learning rate, after warm-up.
        weight_decay: weight decay, except on biases, norms and other 1-D parameters.
        clip: maximum norm of the gradient; None for no clipping.
        epochs: passes over the training images.
        stop_top1: stop early once this top-1 accuracy, in percent, is reached on 2,000 validation images, evaluated
            every 50 steps; None for no early stopping.
        warmup: share of all steps in which the learning rate rises from 0.
        schedule: timm's name of the learning rate schedule after warm-up, updated every step.
        schedule_args: arguments of `timm.scheduler.create_scheduler_v2` that the schedule uses, `{"min_lr": 1e-6}` for
            example. Times, including timm's defaults, are in epochs and start at the end of warm-up, as with timm's
            `warmup_prefix=True`; `decay_epochs` below 1 is a share of the schedule for "wsd" and "rsqrt".
        batch_size: images per optimizer step, over all processes.
        accumulation: number of gradient accumulation steps into which each process splits its share of a batch.
        sync_bn: synchronise batch norm statistics over all processes; on GPUs only.
        ema: decay of the exponential moving average of the weights, at least 0 and below 1; the average is evaluated
            and saved. None for no average.
        precision: "no" (float32), "bf16" or "fp16".
        seed: seed of initial weights, stream, stochastic layers and masks.
        sparsity: share of the weights that is zero throughout (see `lkd.sparse`); 0 for dense training, in which the
            next three have no effect.
        sparse_scope: the sparse weights: "all" or "large_kernels".
        prune_rate: initial share of the active weights that move in an update of the masks; it falls to 0.005.
        prune_every: steps between two updates of the masks.

    Raises:
        KeyError: an unknown name; the message has the nearest known one.
        TypeError, ValueError: an invalid value; the message names the field.

    Example:
        >>> from lkd import Recipe
        >>> teacher = Recipe(data="digits", student="mini_slak", epochs=2)
        >>> recipe = Recipe(data="digits", student="mini_resnet", teacher=teacher, objective="nkd", seed=1)
        >>> recipe.run_id == Recipe.from_dict(recipe.to_dict()).run_id
        True
    """

    teacher: Union["Recipe", str, None] = None

    own_code: ClassVar[Mapping[str, str]] = {}
    """Identities of registered custom code (from neither lkd nor an installed package), by role."""

    def __post_init__(self) -> None:
        _check_names(self)
        _check_integers(self)
        _check_numbers(self)
        _check_arguments(self)
        _check_image_fields(self)
        self.make_objective()
        object.__setattr__(self, "own_code", _own_code(self))

    def __hash__(self) -> int:
        return hash(self.run_id)

    @cached_property
    def run_id(self) -> str:
        """Identity of the run: 16 hexadecimal digits of the SHA-256 of the recipe's canonical JSON.

        Fields with their default value are left out, so new fields do not change older ids. Custom data sources, models
        and objectives also count by their code.
        """
        return _canonical_digest({"format": FORMAT, **_non_default(self)})

    @property
    def stream_id(self) -> str:
        """Identity of the stream: students with the same stream see the same pixels."""
        values = {name: value for name, value in _non_default(self).items() if name in _STREAM_FIELDS}
        code = {"code": self.own_code["data"]} if "data" in self.own_code else {}
        return _canonical_digest({"format": FORMAT, **values, **code})

    @property
    def subset_draw(self) -> int | None:
        """The seed of the draw of the training images; None without a draw."""
        drawn = self.seed if self.subset_seed is None else self.subset_seed
        return None if self.train_images is None else drawn

    @property
    def augmentation(self) -> Augmentation:
        """Augmentation of the training images."""
        return Augmentation(**{f.name: getattr(self, f.name) for f in dataclasses.fields(Augmentation)})

    @property
    def view(self) -> dict[str, Any]:
        """Arguments of `lkd.data.load` for images in files."""
        return {name: getattr(self, name) for name in VIEW_FIELDS}

    @property
    def teacher_name(self) -> str | None:
        """Name of the teacher's model; None without a teacher."""
        return self.teacher.student if isinstance(self.teacher, Recipe) else self.teacher

    @cached_property
    def baseline(self) -> "Recipe":
        """The recipe of the baseline: the same student without a teacher."""
        return dataclasses.replace(self, teacher=None, objective="label", objective_args={}, teacher_top_k=None)

    def check_current(self) -> None:
        """Refuse a recipe created before custom code with one of its names was replaced.

        Raises:
            ValueError: the code of a data source, model or objective has changed.
        """
        now = _own_code(self)
        for role in self.own_code.keys() | now.keys():
            before, after = self.own_code.get(role), now.get(role)
            if before != after and not str(after).startswith(UNIQUE):
                name = self.teacher_name if role == "teacher" else getattr(self, role)
                raise ValueError(
                    f"{role} {name!r} was registered again with other code after this recipe was created: create the "
                    "recipe again"
                )

    def make_objective(self) -> Objective:
        """The objective, with this recipe's parameters.

        Raises:
            TypeError: an unknown parameter in `objective_args`.
        """
        return make_objective(self.objective, self.objective_args)

    def to_dict(self) -> dict[str, Any]:
        """The recipe as plain values, with a nested recipe of the teacher; the inverse of `from_dict`."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Recipe":
        """The recipe with the values of `to_dict`.

        Raises:
            TypeError: an unknown field.
        """
        known = [f.name for f in dataclasses.fields(cls)]
        for name in values:
            if name not in known:
                raise TypeError(unknown("field of a recipe", name, known))
        teacher = values.get("teacher")
        return cls(**{**values, "teacher": cls.from_dict(teacher) if isinstance(teacher, Mapping) else teacher})

    @classmethod
    def from_stored(cls, values: Mapping[str, Any]) -> "Recipe":
        """The recipe of a stored run; recipes of earlier versions of lkd may lack fields.

        Raises:
            TypeError: an unknown field.
        """
        return cls.from_dict(completed(values))


_STREAM_FIELDS = (
    "data", "train_images", "subset_seed", "crop", "flip", "cutout", "mixup", "cutmix", "smoothing", "image_size",
    "crop_scale", "color_jitter", "auto_augment", "erasing", "repeats", "balance", "crop_pct", "interpolation",
    "damaged", "epochs", "batch_size", "seed",
)  # fmt: skip


_INTEGERS = {
    "train_images": 1, "subset_seed": 0, "crop": 0, "cutout": 0, "image_size": 0, "repeats": 1, "epochs": 1,
    "batch_size": 1, "seed": 0, "prune_every": 1, "teacher_top_k": 1, "accumulation": 1,
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
"""Fields with an exclusive lower bound, and with an exclusive upper bound."""

_HIGHEST_SEED = 2**63 - 1
_OPTIONAL = ("train_images", "subset_seed", "clip", "ema", "teacher_top_k", "stop_top1")


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
        raise ValueError(f"objective {recipe.objective!r} takes no teacher, got {recipe.teacher_name!r}: leave it out")
    _check_precision(recipe.precision)
    if recipe.balance not in list(BALANCES):
        raise KeyError(unknown("balance", recipe.balance, BALANCES))
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
        check_whole(name, value, low, _HIGHEST_SEED if name in ("seed", "subset_seed") else math.inf)
    if recipe.subset_seed is not None and recipe.train_images is None:
        raise ValueError(f"subset_seed is {recipe.subset_seed}, but train_images is None, all images: leave it out")
    if recipe.batch_size % recipe.accumulation:
        raise ValueError(f"accumulation must divide batch_size {recipe.batch_size}, got {recipe.accumulation}")
    for name in _BOOLEANS:
        check_flag(name, getattr(recipe, name))


def _check_numbers(recipe: Recipe) -> None:
    """Check ranges, and convert to float, so that 1 and 1.0 give the same recipe."""
    for name, (low, high) in _FLOATS.items():
        value = getattr(recipe, name)
        if value is None and name in _OPTIONAL:
            continue
        check_number(name, value, low, high, above=name in _ABOVE, below=name in _BELOW)
        object.__setattr__(recipe, name, float(value))
    if recipe.stop_top1 is not None and 0 < recipe.stop_top1 <= 1:
        raise ValueError(f"stop_top1 is in percent, got {recipe.stop_top1:g}: give {100 * recipe.stop_top1:g}")


def _check_arguments(recipe: Recipe) -> None:
    """Check arguments for other libraries: their values must be representable in JSON."""
    for field_name in _ARGUMENTS:
        if not isinstance(values := getattr(recipe, field_name), Mapping):
            raise TypeError(f"{field_name} must map names to values, got {values!r}")
        try:
            plain = json.loads(json.dumps(dict(values), allow_nan=False))
        except (TypeError, ValueError) as error:
            raise TypeError(f"{field_name} must contain numbers, strings, lists of them or None: {error}") from error
        check_words(field_name, plain)
        object.__setattr__(recipe, field_name, {name: _shortest(value) for name, value in plain.items()})
    check_arguments(recipe.student_args)
    if recipe.student_args and recipe.student.startswith(IN_MEMORY):
        raise ValueError(f"student_args is {recipe.student_args}, but the student is a module: build it with them")
    check_optimizer(recipe.optimizer, recipe.optimizer_args)
    check_schedule(recipe)


def _shortest(value: Any) -> Any:
    """A whole number as an int, so that 1 and 1.0 give the same recipe."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _check_image_fields(recipe: Recipe) -> None:
    """Check augmentation and view, and refuse fields without effect on this kind of data."""
    View(**recipe.view)
    check_auto_augment(recipe.auto_augment)
    check_jitter(recipe)
    if scheme(recipe.data):
        check_unset(recipe, MEMORY_ONLY, f"images in files ({recipe.data!r})")
    else:
        check_unset(recipe, (*FILES_ONLY, *VIEW_FIELDS), f"images in memory ({recipe.data!r})")


def _non_default(recipe: Recipe) -> dict[str, Any]:
    """The non-default fields of a recipe and of its teacher, as plain values.

    An entry `schedule_times` marks schedules whose times earlier versions of lkd counted in steps. `subset_seed` is
    that of the draw, and left out for 0, from which earlier versions drew all subsets.
    """
    known = defaults()
    values = {}
    for name in (each.name for each in dataclasses.fields(recipe)):
        if (value := getattr(recipe, name)) != known.get(name, dataclasses.MISSING):
            values[name] = _non_default(value) if isinstance(value, Recipe) else value
    if recipe.subset_draw:
        values["subset_seed"] = recipe.subset_draw
    else:
        values.pop("subset_seed", None)
    if times_were_steps(recipe):
        values["schedule_times"] = "epochs"
    return {**values, "code": recipe.own_code} if recipe.own_code else values


def _own_code(recipe: Recipe) -> dict[str, str]:
    """Identities of custom code registered with lkd or timm, by role."""
    named: dict[str, Any] = {"data": SOURCES.get(recipe.data), "objective": OBJECTIVES[recipe.objective]}
    for role, model in (("student", recipe.student), ("teacher", recipe.teacher)):
        if isinstance(model, str) and not model.startswith(IN_MEMORY):
            named[role] = timm.model_entrypoint(model.partition(".")[0])
    found = {role: own_code(code, f"{role} {getattr(recipe, role)!r}") for role, code in named.items() if code}
    return {role: code for role, code in found.items() if code}


def _canonical_digest(values: dict[str, Any]) -> str:
    canonical = json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
