"""What a recipe needs, made ready and checked before any work: data, stream, student and teacher."""

import copy
import hashlib
import inspect
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import timm
import torch
from torch import Tensor, nn

from lkd.checks import check_whole
from lkd.data import DataSet, Images, fingerprint, load, subset
from lkd.engine.optimizer import make_optimizer, make_schedule
from lkd.engine.outputs import outputs
from lkd.engine.teacher import LiveTeacher, weights_hash
from lkd.objectives import Objective, Outputs
from lkd.ops import fast_depthwise
from lkd.recipe import IN_MEMORY, Recipe
from lkd.sparse import sparse_parameters

Objects = Mapping[str, Any]
"""Models and data sets in the caller's memory, by the name that `in_memory` gave them."""


class Setting:
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
            self.student_outputs = self._outputs("student", student)
            if recipe.sparsity:
                sparse_parameters(student, recipe.sparse_scope)
            self._check_teacher()
            self._check_objective()
            make_schedule(recipe, make_optimizer(recipe, nn.Linear(1, 1)), self.stream.steps)
        _check_top_k(recipe, len(self.data.classes))

    def network(self) -> nn.Module:
        """The student as timm makes it, or a copy of the module given, with fast depthwise convolutions."""
        return fast_depthwise(self._made("student", self.recipe))

    def objective(self) -> Objective:
        """The objective, with the layers that fit student and teacher."""
        objective = self.recipe.make_objective()
        if objective.stages:
            objective.connect(self.student_outputs, self.teacher_outputs)
        return objective

    @cached_property
    def teacher_outputs(self) -> Outputs:
        """What the teacher, trained or not, gives for two images."""
        teacher = self.recipe.teacher
        if isinstance(teacher, Recipe):
            with torch.random.fork_rng():
                return self._outputs("teacher", self._made("teacher", teacher))
        live = self.frozen_teacher(None)
        assert live is not None
        return self._outputs("teacher", live.model)

    def frozen_teacher(self, trained: nn.Module | None) -> LiveTeacher | None:
        """The teacher, ready to be asked; None where the recipe has none.

        Args:
            trained: the network of the teacher's run, for a teacher that is a recipe.
        """
        name = self.recipe.teacher
        if name is None:
            return None
        if isinstance(name, Recipe):
            assert trained is not None
            self._outputs("teacher", trained)
            return LiveTeacher(trained, self.data, stages=self.stages)
        if (given := self._object(name)) is not None:
            return LiveTeacher(copy.deepcopy(given), self.data, stages=self.stages)
        if not ((config := timm.get_pretrained_cfg(name)) and config.has_weights):
            raise ValueError(f"teacher {name!r} has no pretrained weights: give the recipe or run of a trained one")
        model = timm.create_model(name, pretrained=True, in_chans=self.data.channels)
        config = timm.data.resolve_data_config(model=model)
        return LiveTeacher(model, self.data, config["mean"], config["std"], self.stages)

    def _images(self, recipe: Recipe) -> DataSet:
        return self._object(recipe.data) or load(recipe.data, **recipe.view)

    def _object(self, name: str) -> Any:
        if not name.startswith(IN_MEMORY):
            return None
        if name not in self.objects:
            raise KeyError(f"{name} was in the memory of another call: give the model or data set itself once more")
        return self.objects[name]

    def _check_teacher(self) -> None:
        teacher = self.recipe.teacher
        if isinstance(teacher, Recipe):
            self._object(teacher.student)
            if teacher.data.startswith(IN_MEMORY) and teacher.data not in self.objects:
                return
            theirs = self._images(teacher)
            if (theirs.channels, theirs.size, theirs.classes) != (
                self.data.channels,
                self.data.size,
                self.data.classes,
            ):
                raise ValueError(
                    f"teacher {teacher.student!r} learned from {_describe(theirs)}, the student is to learn from "
                    f"{_describe(self.data)}: train the teacher on the student's data"
                )
        elif teacher is not None:
            self.teacher_outputs  # noqa: B018

    def _check_objective(self) -> None:
        """Refuse an objective that cannot be had of these networks and classes."""
        given, labels = self.student_outputs, self.stream.split.labels[:2]
        taught = self.teacher_outputs if self.stages else given
        self.objective()(given, taught, labels)

    def _shape(self, recipe: Recipe) -> dict[str, Any]:
        """What timm needs to make a recipe's student."""
        classes = len(self.data.classes)
        return {"in_chans": self.data.channels, "num_classes": classes, **recipe.student_args}

    def _made(self, role: str, recipe: Recipe) -> nn.Module:
        """A recipe's student, not trained."""
        if (given := self._object(recipe.student)) is not None:
            return copy.deepcopy(given)
        try:
            return timm.create_model(recipe.student, **self._shape(recipe))
        except TypeError as error:
            raise ValueError(f"{role} {recipe.student!r} cannot be made with {recipe.student_args}: {error}") from error

    def _outputs(self, role: str, model: nn.Module) -> Outputs:
        """What a network gives for two images; refuse one that cannot take them or gives something else."""
        have = len(getattr(model, "feature_info", ()))
        if self.stages and have and self.stages > have:
            raise ValueError(
                f"{role} has {have} feature maps, objective {self.recipe.objective!r} asks for {self.stages}"
            )
        split = self.stream.split
        images, _ = next(self.data.batches(split, torch.arange(min(2, len(split))), 2))
        try:
            with torch.no_grad():
                given = outputs(model.eval(), images, self.stages)
        except Exception as error:
            raise ValueError(f"{role} cannot take images of shape {tuple(images.shape)}: {error}") from error
        logits = given.logits
        if not isinstance(logits, Tensor):
            raise ValueError(f"{role} must return logits, a tensor, got a {type(logits).__name__}")
        if (shape := tuple(logits.shape)) != (len(images), len(self.data.classes)):
            raise ValueError(
                f"{role} gives outputs of shape {shape} for {len(images)} images of {len(self.data.classes)} classes, "
                f"expected {(len(images), len(self.data.classes))}: change its number of classes"
            )
        return given


def _check_top_k(recipe: Recipe, classes: int) -> None:
    k = recipe.teacher_top_k
    if k is None:
        return
    if recipe.teacher is None:
        raise ValueError(f"teacher_top_k is {k}, but the recipe has no teacher: leave it out")
    check_whole("teacher_top_k", k, 1, classes - 2)


_PLAIN = (bool, int, float, str, tuple)


def in_memory(thing: nn.Module | Images) -> str:
    """The name in a recipe of a model or data set that exists in memory only: equal content, equal name.

    A model counts by its structure, its weights, numbers and texts among its attributes, and the source of its classes
    as far as Python finds that.
    """
    if isinstance(thing, Images):
        return IN_MEMORY + fingerprint(thing)
    digest = hashlib.sha256(f"{thing!r} {weights_hash(thing)}".encode())
    for name, module in thing.named_modules():
        plain = {key: value for key, value in vars(module).items() if isinstance(value, _PLAIN) and key != "training"}
        digest.update(f"{name} {sorted(plain.items())}".encode())
    for cls in sorted({type(module) for module in thing.modules()}, key=lambda cls: cls.__qualname__):
        digest.update(f"{cls.__module__}.{cls.__qualname__} {_source(cls)}".encode())
    return IN_MEMORY + digest.hexdigest()[:16]


def _source(cls: type) -> str:
    try:
        return inspect.getsource(cls)
    except (OSError, TypeError):
        return ""


def _describe(data: DataSet) -> str:
    return f"{data.name} ({len(data.classes)} classes, {data.channels} x {data.size[0]} x {data.size[1]})"
