"""The keyword arguments of `lkd.distill` and `lkd.train` beside their own, for editors and type checkers.

A test compares the entries with the fields of `lkd.Recipe` and the parameters of the objectives.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict


class RecipeOverrides(TypedDict, total=False):
    """The fields of `lkd.Recipe`, without data, student, teacher and objective."""

    train_images: int | None
    subset_seed: int | None
    crop: int
    flip: bool
    cutout: int
    mixup: float
    cutmix: float
    smoothing: float
    repeats: int
    balance: str

    image_size: int
    crop_pct: float
    interpolation: str
    damaged: str
    crop_scale: float
    color_jitter: float
    auto_augment: str
    erasing: float

    student_args: Mapping[str, Any]
    objective_args: Mapping[str, Any]
    teacher_top_k: int | None

    epochs: int
    stop_top1: float | None
    batch_size: int
    accumulation: int
    optimizer: str
    optimizer_args: Mapping[str, Any]
    lr: float
    weight_decay: float
    clip: float | None
    warmup: float
    schedule: str
    schedule_args: Mapping[str, Any]
    ema: float | None
    precision: str
    sync_bn: bool
    seed: int

    sparsity: float
    sparse_scope: str
    prune_rate: float
    prune_every: int


class TrainOverrides(RecipeOverrides, total=False):
    """Fields of `lkd.Recipe`, and the parameters of the objective "label"."""

    hard: str


class DistillOverrides(RecipeOverrides, total=False):
    """Fields of `lkd.Recipe`, and parameters of the objectives in `lkd.objectives.OBJECTIVES`."""

    temperature: float
    alpha: float
    beta: float
    gamma: float
    label: float
    hard: str
    weight: float
    kind: str
    normalize: str
    stages: int
    student_layers: Sequence[str]
    teacher_layers: Sequence[str]
