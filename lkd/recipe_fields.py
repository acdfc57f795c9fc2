"""The fields of a recipe and their defaults, importable without torch."""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any


@dataclass(frozen=True, kw_only=True)
class RecipeFields:
    """The fields of a recipe; `lkd.Recipe` documents and checks them."""

    data: str
    student: str
    student_args: Mapping[str, Any] = field(default_factory=dict)
    train_images: int | None = None
    subset_seed: int | None = None
    teacher: "RecipeFields | str | None" = None
    objective: str = "label"
    objective_args: Mapping[str, Any] = field(default_factory=dict)
    teacher_top_k: int | None = None
    crop: int = 0
    flip: bool = False
    cutout: int = 0
    mixup: float = 0.0
    cutmix: float = 0.0
    smoothing: float = 0.0
    image_size: int = 0
    crop_scale: float = 0.0
    color_jitter: float = 0.0
    auto_augment: str = ""
    erasing: float = 0.0
    repeats: int = 1
    balance: str = "none"
    crop_pct: float = 0.875
    interpolation: str = "bicubic"
    damaged: str = "error"
    optimizer: str = "adamw"
    optimizer_args: Mapping[str, Any] = field(default_factory=dict)
    lr: float = 5e-3
    weight_decay: float = 0.05
    clip: float | None = 1.0
    epochs: int = 1
    stop_top1: float | None = None
    warmup: float = 0.15
    schedule: str = "cosine"
    schedule_args: Mapping[str, Any] = field(default_factory=dict)
    batch_size: int = 64
    accumulation: int = 1
    sync_bn: bool = False
    ema: float | None = None
    precision: str = "no"
    seed: int = 0
    sparsity: float = 0.0
    sparse_scope: str = "all"
    prune_rate: float = 0.5
    prune_every: int = 2000


_OF_EARLIER_VERSIONS = {"subset_seed": 0}
"""Values of fields that earlier versions of lkd did not have, where they differ from the defaults."""


def defaults() -> dict[str, Any]:
    """The defaults of a recipe's fields, as plain values, without `data` and `student`.

    Example:
        >>> from lkd.recipe_fields import defaults
        >>> defaults()["objective"]
        'label'
    """
    every = fields(RecipeFields)
    plain = {each.name: each.default for each in every if each.default is not MISSING}
    return plain | {each.name: each.default_factory() for each in every if each.default_factory is not MISSING}


def completed(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe of a stored run, and that of its teacher, with values for all missing fields.

    Example:
        >>> from lkd.recipe_fields import completed
        >>> stored = {"data": "digits", "student": "mini_vit", "teacher": None, "train_images": 64, "seed": 1}
        >>> completed(stored)["subset_seed"]
        0
    """
    earlier = _OF_EARLIER_VERSIONS if recipe.get("train_images") is not None else {}
    teacher = recipe.get("teacher")
    return {
        **defaults(), **earlier, **recipe, "teacher": completed(teacher) if isinstance(teacher, Mapping) else teacher
    }  # fmt: skip
