"""Setup of a run: load and check data, stream, student and teacher."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import timm
import torch
from torch import Tensor, nn

from lkd.data import Batch, DataSet, Images, fingerprint, load, subset
from lkd.engine.optimizer import make_optimizer, make_schedule
from lkd.engine.task import DistillationTask
from lkd.engine.teacher import FrozenTeacher
from lkd.models.copying import copy_to_cpu
from lkd.models.inference import set_eval_mode
from lkd.models.normalization import Normalization, Normalized, expect_normalization, is_normalized
from lkd.objectives import Objective, Outputs
from lkd.objectives.outputs import check_available, check_head, compute_outputs
from lkd.ops import fast_depthwise
from lkd.recipe import IN_MEMORY, Recipe
from lkd.sparse import sparse_parameters
from lkd.util.checks import check_whole
from lkd.util.files import fetching
from lkd.util.identity import identity
from lkd.util.torch_defaults import fork_random_state

_RANGE_TOLERANCE = 1e-3
"""Tolerance for images in [0, 1], which interpolation for example may exceed."""

Objects = Mapping[str, Any]
"""Models and data sets in memory, by the names that `in_memory_name` gave them."""


class RunSetup:
    """The data, stream and networks of a recipe.

    Args:
        objects: the in-memory models and data sets that the recipe names.

    Raises:
        KeyError: the recipe names an in-memory object that is not in `objects`.
        FileNotFoundError: missing data files.
        ValueError: fewer images than a batch; networks that do not fit the data's images or classes; a student without
            parameters in the scope of sparse training.
    """

    def __init__(self, recipe: Recipe, objects: Objects):
        self.recipe, self.objects = recipe, objects
        self.data = self._load_images(recipe)
        self.shape = self._shape(recipe)
        objective = recipe.make_objective()
        self.student_maps, self.teacher_maps = objective.student_maps, objective.teacher_maps
        train, count, draw = self.data.train, recipe.train_images, recipe.subset_draw
        images = train if count is None or draw is None else subset(train, count, seed=draw)
        self.stream = self.data.stream(images, recipe.augmentation, recipe.batch_size, recipe.seed)
        with fork_random_state():
            student = self.network()
            _check_trainable(student)
            self.student_outputs = self._outputs("student", student)
            if recipe.sparsity:
                sparse_parameters(student, recipe.sparse_scope)
            self.teacher_outputs = self._check_teacher()
            self._check_objective()
            task = DistillationTask(student, self.objective())
            make_schedule(recipe, make_optimizer(recipe, task), self.stream.steps)
        _check_top_k(recipe, len(self.data.classes))

    @cached_property
    def fingerprint(self) -> str:
        """The fingerprint of the data set, computed once."""
        return self.data.fingerprint

    @property
    def student_name(self) -> str:
        """The student's name; for an in-memory model, the name of its class."""
        return self._name(self.recipe.student)

    @property
    def teacher_name(self) -> str:
        """The teacher's name; for an in-memory model, the name of its class; "none" without a teacher."""
        return self._name(self.recipe.teacher_name or "none")

    def network(self) -> nn.Module:
        """A new student with fast depthwise convolutions: made by timm, or a copy of the given module."""
        return fast_depthwise(self._new_network("student", self.recipe))

    def objective(self) -> Objective:
        """A new objective, with layers that fit student and teacher."""
        objective = self.recipe.make_objective()
        if objective.stages:
            assert self.teacher_outputs is not None
            objective.connect(self.student_outputs, self.teacher_outputs)
        return objective

    def untrained_teacher(self) -> FrozenTeacher | None:
        """The teacher before any training; a teacher that is a recipe has its initial weights."""
        teacher = self.recipe.teacher
        with fork_random_state():
            return self.frozen_teacher(self._new_network("teacher", teacher) if isinstance(teacher, Recipe) else None)

    def frozen_teacher(self, trained: nn.Module | None) -> FrozenTeacher | None:
        """The teacher, ready for inference; None if the recipe has none.

        Args:
            trained: for a teacher that is a recipe, the trained network of its run.
        """
        name = self.recipe.teacher
        if name is None:
            return None
        if isinstance(name, Recipe):
            assert trained is not None
            self._outputs("teacher", trained)
            return FrozenTeacher(trained, self.data, self.teacher_maps)
        given = self._in_memory_object(name)
        if given is None:
            given = pretrained(name, self.data)
        if is_normalized(given):
            _check_range("teacher", self._name(name), self.data)
        return FrozenTeacher(given, self.data, self.teacher_maps)

    def _load_images(self, recipe: Recipe) -> DataSet:
        return self._in_memory_object(recipe.data) or load(recipe.data, **recipe.view)

    def _name(self, name: str) -> str:
        return type(self.objects[name]).__name__ if name in self.objects else name

    def _in_memory_object(self, name: str) -> Any:
        if not name.startswith(IN_MEMORY):
            return None
        if name not in self.objects:
            raise KeyError(f"{name} is an object in memory of another call: pass the model or data set itself again")
        return self.objects[name]

    def _check_teacher(self) -> Outputs | None:
        """Check that the teacher fits, and return its outputs for two images.

        The network of a teacher that is a recipe is only built, with its initial weights, if feature maps are compared;
        otherwise its outputs are None.
        """
        teacher = self.recipe.teacher
        if isinstance(teacher, Recipe):
            self._check_teacher_data(teacher)
        if teacher is None or (isinstance(teacher, Recipe) and not self.teacher_maps):
            return None
        live = self.untrained_teacher()
        assert live is not None
        positions = torch.arange(2)
        return self._outputs("teacher", live.model, lambda images: live(0, Batch(images, positions, positions)))

    def _check_teacher_data(self, teacher: Recipe) -> None:
        self._in_memory_object(teacher.student)
        if teacher.data.startswith(IN_MEMORY) and teacher.data not in self.objects:
            return
        ours, theirs = self.data, self._load_images(teacher)
        if (theirs.channels, theirs.size, theirs.classes) != (ours.channels, ours.size, ours.classes):
            raise ValueError(
                f"teacher {teacher.student!r} is trained on {_describe(theirs)}, the student on {_describe(ours)}: "
                "train the teacher on the student's data"
            )

    def _check_objective(self) -> None:
        """Refuse an objective that cannot be computed with these networks and classes."""
        student, labels = self.student_outputs, self.stream.split.labels[:2]
        teacher = (self.teacher_outputs if self.teacher_maps else None) or student
        self.objective()(student, teacher, labels)

    def _shape(self, recipe: Recipe) -> dict[str, Any]:
        """timm's arguments for a recipe's student."""
        classes = len(self.data.classes)
        return {"in_chans": self.data.channels, "num_classes": classes, **recipe.student_args}

    def _new_network(self, role: str, recipe: Recipe) -> nn.Module:
        """A recipe's student with its initial weights."""
        if (given := self._in_memory_object(recipe.student)) is not None:
            if is_normalized(given):
                _check_range(role, self._name(recipe.student), self.data)
            return expect_normalization(copy_to_cpu(given, role), Normalization(self.data.mean, self.data.std))
        try:
            return timm.create_model(recipe.student, **self._shape(recipe))
        except Exception as error:  # timm's models raise various errors for wrong arguments
            raise ValueError(f"{role} {recipe.student!r} cannot be made with {recipe.student_args}: {error}") from error

    def _outputs(self, role: str, model: nn.Module, forward: Callable[[Tensor], Outputs] | None = None) -> Outputs:
        """A network's outputs for two images, in eval mode; refuse wrong outputs, and images that it cannot take."""
        stages = self.student_maps if role == "student" else self.teacher_maps
        forward = forward or (lambda images: compute_outputs(set_eval_mode(model), images, stages))
        check_available(model, stages, role, self.recipe.objective)
        split = self.stream.split
        images, _ = next(self.data.batches(split, torch.arange(min(2, len(split))), 2))
        try:
            with torch.no_grad():
                given = forward(images)
        except Exception as error:
            dtypes = {str(weight.dtype) for weight in model.parameters() if weight.is_floating_point()}
            others = sorted(dtypes - {"torch.float32"})
            hint = f" (it has weights of {', '.join(others)}: give model.float())" if others else ""
            raise ValueError(f"{role} cannot take images of shape {tuple(images.shape)}: {error}{hint}") from error
        check_head(model, images, stages, role)
        logits = given.logits
        if not isinstance(logits, Tensor):
            raise ValueError(f"{role} must return logits, a tensor, got a {type(logits).__name__}")
        if (shape := tuple(logits.shape)) != (len(images), len(self.data.classes)):
            raise ValueError(
                f"{role} gives outputs of shape {shape} for {len(images)} images of {len(self.data.classes)} classes, "
                f"expected {(len(images), len(self.data.classes))}: change its number of classes"
            )
        if (logits >= 0).all() and torch.allclose(logits.float().sum(1), torch.ones(len(logits)), atol=1e-3):
            warnings.warn(f"{role} returns probabilities: remove its softmax, so that it returns logits", stacklevel=2)
        return given


def pretrained(name: str, data: DataSet) -> Normalized:
    """A pretrained timm model with its normalisation, for the channels of a data set.

    Raises:
        ValueError: a model without pretrained weights, or with a normalisation of other channels.
    """
    if not ((config := timm.get_pretrained_cfg(name)) and config.has_weights):
        raise ValueError(f"teacher {name!r} has no pretrained weights: give the recipe or run of a trained one")
    with fetching(name):
        model = timm.create_model(name, pretrained=True, in_chans=data.channels)
    config = timm.data.resolve_data_config(model=model)
    return Normalized(model, *(_channel_values(name, config[key], data.channels) for key in ("mean", "std")))


def _check_trainable(student: nn.Module) -> None:
    if not any(parameter.requires_grad for parameter in student.parameters()):
        raise ValueError("student has no trainable parameter: set requires_grad to True for the parameters to train")


def _channel_values(teacher: str, values: Sequence[float], channels: int) -> tuple[float, ...]:
    """A pretrained teacher's mean or std for this number of channels; for grey images, the mean over the colours."""
    if len(values) == channels:
        return tuple(values)
    if channels > 1:
        raise ValueError(
            f"teacher {teacher!r} has a normalisation of {len(values)} channels, the data's images have {channels}: "
            f"give images of {len(values)} channels, or the teacher as a module, which gets the images unchanged"
        )
    return (sum(values) / len(values),)


def _check_range(role: str, model: str, data: DataSet) -> None:
    """Refuse images outside [0, 1], the range that a network's own normalisation expects."""
    if not isinstance(data, Images) or data.train.dtype == torch.uint8:
        return
    for name, split in data.splits.items():
        lows, highs, _ = split.values
        low, high = lows.min(), highs.max()
        if low < -_RANGE_TOLERANCE or high > 1 + _RANGE_TOLERANCE:
            worst = int(torch.maximum((lows - 0.5).abs(), (highs - 0.5).abs()).argmax())
            raise ValueError(
                f"{role} {model!r} has its own normalisation, for images in [0, 1], but {name} images range from "
                f"{low:.4g} to {high:.4g} (the farthest is number {worst}): give images in [0, 1] or uint8, or give "
                f"the {role} as a plain module, which gets the images unchanged"
            )


def _check_top_k(recipe: Recipe, classes: int) -> None:
    k = recipe.teacher_top_k
    if k is None:
        return
    if recipe.teacher is None:
        raise ValueError(f"teacher_top_k is {k}, but the recipe has no teacher: leave it out")
    check_whole("teacher_top_k", k, 1, classes - 2)


def in_memory_name(thing: nn.Module | Images, name: str = "the object") -> str:
    """The name in a recipe of a model or data set in memory; equal content and code give equal names.

    Args:
        thing: a model (see `lkd.util.identity`; its mode does not count) or a data set.
        name: the object's name in warnings.
    """
    if type(thing) is Images:
        return IN_MEMORY + fingerprint(thing)
    return IN_MEMORY + identity(thing, name)


def _describe(data: DataSet) -> str:
    return f"{data.name} ({len(data.classes)} classes, {data.channels} x {data.size[0]} x {data.size[1]})"
