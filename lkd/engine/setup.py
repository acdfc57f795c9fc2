"""What a recipe needs, made ready and checked before any work: data, stream, student and teacher."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import timm
import torch
from torch import Tensor, nn

from lkd.data import Batch, DataSet, Images, fingerprint, load, subset
from lkd.engine.optimizer import make_optimizer, make_schedule
from lkd.engine.outputs import check_head, feature_maps, outputs
from lkd.engine.teacher import FrozenTeacher
from lkd.models.copying import copied
from lkd.models.exact import evaluating
from lkd.objectives import Objective, Outputs
from lkd.ops import fast_depthwise
from lkd.recipe import IN_MEMORY, Recipe
from lkd.sparse import sparse_parameters
from lkd.util.checks import check_whole
from lkd.util.files import fetching
from lkd.util.identity import identity

_NEARLY = 1e-3
"""Rounding by which images in [0, 1] may leave this range, after interpolation for example."""

Objects = Mapping[str, Any]
"""Models and data sets in the caller's memory, by the name that `in_memory` gave them."""


class RunSetup:
    """The data, stream and networks of a recipe.

    Args:
        recipe: what will be run.
        objects: the models and data sets that it names as in memory.

    Raises:
        KeyError: something in memory that is not among `objects`.
        FileNotFoundError: data in files that are not there.
        ValueError: fewer images than a batch; networks whose input or classes do not fit the data; a student without
            any parameter in the scope of sparse training.
    """

    def __init__(self, recipe: Recipe, objects: Objects):
        self.recipe, self.objects = recipe, objects
        self.data = self._images(recipe)
        self.shape = self._shape(recipe)
        self.stages = recipe.make_objective().stages
        train, count = self.data.train, recipe.train_images
        images = train if count is None else subset(train, count, seed=0)
        self.stream = self.data.stream(images, recipe.augmentation, recipe.batch_size, recipe.seed)
        with torch.random.fork_rng():
            student = self.network()
            _check_trainable(student)
            self.student_outputs = self._outputs(
                "student", student, lambda images: outputs(evaluating(student), images, self.stages)
            )
            if recipe.sparsity:
                sparse_parameters(student, recipe.sparse_scope)
            self.teacher_outputs = self._checked_teacher()
            self._check_objective()
            make_schedule(recipe, make_optimizer(recipe, nn.Linear(1, 1)), self.stream.steps)
        _check_top_k(recipe, len(self.data.classes))

    @cached_property
    def fingerprint(self) -> str:
        """The identity of the data set, as it was when it was first needed."""
        return self.data.fingerprint

    @property
    def student_name(self) -> str:
        """The student's name; of one in memory, that of its class."""
        return self._name(self.recipe.student)

    @property
    def teacher_name(self) -> str:
        """The teacher's name; of one in memory, that of its class; "none" without one."""
        return self._name(self.recipe.teacher_name or "none")

    def network(self) -> nn.Module:
        """The student as timm makes it, or a copy of the module given, with fast depthwise convolutions."""
        return fast_depthwise(self._made("student", self.recipe))

    def objective(self) -> Objective:
        """The objective, with the layers that fit student and teacher."""
        objective = self.recipe.make_objective()
        if objective.stages:
            assert self.teacher_outputs is not None
            objective.connect(self.student_outputs, self.teacher_outputs)
        return objective

    def untrained_teacher(self) -> FrozenTeacher | None:
        """The teacher as far as it exists before anything is trained: one that is a recipe has its first weights."""
        teacher = self.recipe.teacher
        with torch.random.fork_rng():
            return self.frozen_teacher(self._made("teacher", teacher) if isinstance(teacher, Recipe) else None)

    def frozen_teacher(self, trained: nn.Module | None) -> FrozenTeacher | None:
        """The teacher, ready to be asked; None where the recipe has none.

        Args:
            trained: the network of the teacher's run, for a teacher that is a recipe.
        """
        name = self.recipe.teacher
        if name is None:
            return None
        if isinstance(name, Recipe):
            assert trained is not None
            self._outputs("teacher", trained, lambda images: outputs(evaluating(trained), images, self.stages))
            return FrozenTeacher(trained, self.data, stages=self.stages)
        if (given := self._object(name)) is not None:
            return FrozenTeacher(given, self.data, stages=self.stages)
        if not ((config := timm.get_pretrained_cfg(name)) and config.has_weights):
            raise ValueError(f"teacher {name!r} has no pretrained weights: give the recipe or run of a trained one")
        with fetching(name):
            model = timm.create_model(name, pretrained=True, in_chans=self.data.channels)
        config = timm.data.resolve_data_config(model=model)
        _check_values(name, self.data)
        mean, std = (_of_channels(name, config[key], self.data.channels) for key in ("mean", "std"))
        return FrozenTeacher(model, self.data, mean, std, self.stages)

    def _images(self, recipe: Recipe) -> DataSet:
        return self._object(recipe.data) or load(recipe.data, **recipe.view)

    def _name(self, name: str) -> str:
        return type(self.objects[name]).__name__ if name in self.objects else name

    def _object(self, name: str) -> Any:
        if not name.startswith(IN_MEMORY):
            return None
        if name not in self.objects:
            raise KeyError(f"{name} was in the memory of another call: give the model or data set itself once more")
        return self.objects[name]

    def _checked_teacher(self) -> Outputs | None:
        """Refuse a teacher that does not fit; its outputs for two images, where they can be had or are compared.

        A teacher that is a recipe has its first weights. Its network is built only for its feature maps.
        """
        teacher = self.recipe.teacher
        if isinstance(teacher, Recipe):
            self._check_teacher_data(teacher)
        if teacher is None or (isinstance(teacher, Recipe) and not self.stages):
            return None
        live = self.untrained_teacher()
        assert live is not None
        positions = torch.arange(2)
        return self._outputs("teacher", live.model, lambda images: live(0, Batch(images, positions, positions)))

    def _check_teacher_data(self, teacher: Recipe) -> None:
        self._object(teacher.student)
        if teacher.data.startswith(IN_MEMORY) and teacher.data not in self.objects:
            return
        ours, theirs = self.data, self._images(teacher)
        if (theirs.channels, theirs.size, theirs.classes) != (ours.channels, ours.size, ours.classes):
            raise ValueError(
                f"teacher {teacher.student!r} learned from {_describe(theirs)}, the student is to learn from "
                f"{_describe(ours)}: train the teacher on the student's data"
            )

    def _check_objective(self) -> None:
        """Refuse an objective that cannot be had of these networks and classes."""
        given, labels = self.student_outputs, self.stream.split.labels[:2]
        taught = (self.teacher_outputs if self.stages else None) or given
        self.objective()(given, taught, labels)

    def _shape(self, recipe: Recipe) -> dict[str, Any]:
        """What timm needs to make a recipe's student."""
        classes = len(self.data.classes)
        return {"in_chans": self.data.channels, "num_classes": classes, **recipe.student_args}

    def _made(self, role: str, recipe: Recipe) -> nn.Module:
        """A recipe's student, not trained."""
        if (given := self._object(recipe.student)) is not None:
            return copied(given, role)
        try:
            return timm.create_model(recipe.student, **self._shape(recipe))
        except Exception as error:  # timm's families refuse wrong arguments in many ways
            raise ValueError(f"{role} {recipe.student!r} cannot be made with {recipe.student_args}: {error}") from error

    def _outputs(self, role: str, model: nn.Module, ask: Callable[[Tensor], Outputs]) -> Outputs:
        """A network's outputs for two images; refuse one that cannot take them or gives something else."""
        have = feature_maps(model, role) if self.stages else None
        if have is not None and self.stages > have:
            raise ValueError(
                f"{role} has {have} feature maps, objective {self.recipe.objective!r} asks for {self.stages}"
            )
        split = self.stream.split
        images, _ = next(self.data.batches(split, torch.arange(min(2, len(split))), 2))
        try:
            with torch.no_grad():
                given = ask(images)
        except Exception as error:
            kinds = {str(weight.dtype) for weight in model.parameters() if weight.is_floating_point()} - {
                "torch.float32"
            }
            hint = f" (it has weights of {', '.join(sorted(kinds))}: give model.float())" if kinds else ""
            raise ValueError(f"{role} cannot take images of shape {tuple(images.shape)}: {error}{hint}") from error
        check_head(model, images, self.stages, role)
        logits = given.logits
        if not isinstance(logits, Tensor):
            raise ValueError(f"{role} must return logits, a tensor, got a {type(logits).__name__}")
        if (shape := tuple(logits.shape)) != (len(images), len(self.data.classes)):
            raise ValueError(
                f"{role} gives outputs of shape {shape} for {len(images)} images of {len(self.data.classes)} classes, "
                f"expected {(len(images), len(self.data.classes))}: change its number of classes"
            )
        if (logits >= 0).all() and torch.allclose(logits.float().sum(1), torch.ones(len(logits)), atol=1e-3):
            warnings.warn(f"{role} gives probabilities: give logits, without a softmax at its end", stacklevel=2)
        return given


def _check_trainable(student: nn.Module) -> None:
    if not any(parameter.requires_grad for parameter in student.parameters()):
        raise ValueError(
            "student has no parameter that can be trained: set requires_grad to True where training should change it"
        )


def _of_channels(teacher: str, values: Sequence[float], channels: int) -> tuple[float, ...]:
    """A pretrained teacher's mean or std for images of so many channels; for grey ones, the mean over the colours."""
    if len(values) == channels:
        return tuple(values)
    if channels > 1:
        raise ValueError(
            f"teacher {teacher!r} has a normalisation of {len(values)} channels, the data's images have {channels}: "
            "give images of as many channels, or the teacher as a module, which sees the images as they are"
        )
    return (sum(values) / len(values),)


def _check_values(teacher: str, data: DataSet) -> None:
    """Refuse images that a pretrained teacher's normalisation is not made for: it expects values from 0 to 1."""
    if not isinstance(data, Images) or data.train.images.dtype == torch.uint8:
        return
    for name, split in data.splits.items():
        low, high = split.images.aminmax()
        if low < -_NEARLY or high > 1 + _NEARLY:
            worst = int(((split.images - 0.5).abs().flatten(1).amax(1)).argmax())
            raise ValueError(
                f"teacher {teacher!r} has a normalisation of its own, made for images in [0, 1]: {name} images go from "
                f"{low:.4g} to {high:.4g} (the farthest is number {worst}); give images in [0, 1] or uint8, or give "
                "the teacher as a module, which sees the images as they are"
            )


def _check_top_k(recipe: Recipe, classes: int) -> None:
    k = recipe.teacher_top_k
    if k is None:
        return
    if recipe.teacher is None:
        raise ValueError(f"teacher_top_k is {k}, but the recipe has no teacher: leave it out")
    check_whole("teacher_top_k", k, 1, classes - 2)


def in_memory(thing: nn.Module | Images, name: str = "the object") -> str:
    """The name in a recipe of a model or data set that exists in memory only: equal content and code, equal name.

    Args:
        thing: a model (see `lkd.util.identity`; its mode does not count) or a data set.
        name: what a warning calls it.
    """
    if type(thing) is Images:
        return IN_MEMORY + fingerprint(thing)
    return IN_MEMORY + identity(thing, name)


def _describe(data: DataSet) -> str:
    return f"{data.name} ({len(data.classes)} classes, {data.channels} x {data.size[0]} x {data.size[1]})"
