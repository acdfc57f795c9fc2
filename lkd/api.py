"""Distillation and training in one call, for named and custom models and data."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Unpack

from torch import nn

from lkd.data import Images, from_datasets, load
from lkd.data.custom import MapDataset
from lkd.data.splits import SPLITS, split_role
from lkd.engine.options import Options
from lkd.engine.run import check_arguments, execute
from lkd.engine.setup import Objects, RunSetup, in_memory_name, pretrained
from lkd.engine.teacher_origin import check_classes
from lkd.models import Ensemble, load_model
from lkd.models.copying import unwrap
from lkd.models.timm_names import check_source
from lkd.objectives import OBJECTIVES, Objective
from lkd.objectives.own import Given, registered
from lkd.overrides import DistillOverrides, TrainOverrides
from lkd.profiles import Profile
from lkd.recipe import IN_MEMORY, Recipe
from lkd.runs.store import Run, Store
from lkd.util.checks import unknown
from lkd.util.torch_defaults import torch_defaults

Model = str | Path | nn.Module | Recipe | Run
Data = str | Images | tuple[MapDataset, MapDataset] | tuple[MapDataset, MapDataset, MapDataset]

_NOT_FROM_PROFILE: dict[str, Any] = {"train_images": None, "subset_seed": None, "objective_args": {}}
"""Recipe fields that a profile sets for its studies only, and their values here."""


@torch_defaults()
def distill(
    student: Model,
    teacher: Model | Sequence[Model],
    *,
    objective: Given = "nkd",
    data: Data,
    profile: str = "small",
    store: Store | None = None,
    num_processes: int = 1,
    options: Options | None = None,
    **overrides: Unpack[DistillOverrides],
) -> Run:
    """Train a student with a teacher, or load the run if the store has it.

    Args:
        student: a timm name for a model with new weights. To continue from trained weights: a module (it is copied, not
            changed), the folder of a model saved by `lkd.models.save_model` or timm, or a recipe or run.
        teacher: a module, folder, recipe or run, as for the student; the name of one of the profile's teachers, which
            is trained on `data` first; or the name of a pretrained timm model. The teacher sees the same augmented
            images as the student; a timm model gets them with the normalisation it was trained with, a module with that
            of the data, or its own as a `lkd.models.Normalized`. A list of teachers is an `lkd.models.Ensemble`, for
            objectives on logits.
        objective: a name in `lkd.objectives.OBJECTIVES`; a class or instance of `lkd.objectives.Objective`; or a
            function of student logits, teacher logits and target, which returns the loss or its terms by name. A class
            or function is added to `OBJECTIVES` under its own name, and its code is part of the run's identity.
            Parameters keep the objective's own defaults unless they are given here; the profile does not set them. For
            example, `"kd"` has alpha 0.1, like `kd_loss`.
        data: a name, or your own map-style data sets, in the order (train, test) or (train, val, test). In a pair, a
            tenth of train is held out for validation. `lkd.data.from_datasets` lists the kinds of data sets and of
            images, and takes other arguments.
        profile: default training settings, such as epochs, learning rate, augmentation and batch size: the name of a
            profile or the path of a YAML file.
        store: the store of runs; by default the one in this machine's home.
        num_processes, options: as for `lkd.run`.
        overrides: fields of `lkd.Recipe`, and parameters of the objective, by name or in `objective_args`.

            - Training: epochs, stop_top1, batch_size, accumulation, optimizer, optimizer_args, lr, weight_decay, clip,
              warmup, schedule, schedule_args, ema, precision, sync_bn, seed.
            - Images: train_images, subset_seed, balance, crop, flip, cutout, mixup, cutmix, smoothing, repeats; in
              files also image_size, crop_pct, interpolation, damaged, crop_scale, color_jitter, auto_augment, erasing.
            - Networks: student_args, teacher_top_k; for sparse weights sparsity, sparse_scope, prune_rate, prune_every.
            - Objective: temperature, alpha, beta, gamma, label, hard, weight, kind, normalize, stages, student_layers,
              teacher_layers, each for the objectives that have it.

    Returns:
        The run, with `metrics`, `history`, `path` and `student`.

    Raises:
        KeyError, TypeError, ValueError: an argument that is unknown or does not fit, before any training.

    Example:
        >>> import lkd
        >>> run = lkd.distill("mini_resnet", "mini_slak", data="digits", profile="smoke")
        >>> sorted(run.metrics)
        ['teacher_top1', 'test_agreement', 'test_ece', 'test_kl', 'test_loss', 'test_top1', 'val_loss', 'val_top1']
    """
    settings = Profile.load(profile)
    name, own_arguments = registered(objective)
    fields, arguments = _split_overrides(overrides, name)
    if isinstance(objective, Objective) and (given := {**arguments, **fields.get("objective_args", {})}):
        raise TypeError(f"objective has its parameters already, got {', '.join(given)} as well: leave it out")
    named = _Arguments()
    data_name = named.data(data)
    members = []
    if isinstance(teacher, list | tuple):
        members = [named.member(each, data_name, settings) for each in teacher]

    def prepare(student: Model, *members: nn.Module) -> tuple[Recipe, Objects]:
        given = _Arguments(named.objects)
        one: Any = Ensemble(members) if isinstance(teacher, list | tuple) else teacher
        recipe = settings.student_recipe(
            given.model(student, "student"),
            **{"data": data_name, **_NOT_FROM_PROFILE, **fields},
            teacher=given.teacher(one, data_name, settings),
            objective=name,
        )
        return _with_arguments(recipe, {**own_arguments, **arguments}), given.objects

    return _run(prepare, [student, *members], named.objects, store, num_processes, options)


@torch_defaults()
def train(
    model: Model,
    *,
    data: Data,
    profile: str = "small",
    store: Store | None = None,
    num_processes: int = 1,
    options: Options | None = None,
    **overrides: Unpack[TrainOverrides],
) -> Run:
    """Train a model from labels, or load the run if the store has it.

    Args:
        model: as `student` of `distill`. One of the profile's teachers is trained with the settings of a teacher.
        data, profile, store, num_processes, options, overrides: as for `distill`.

    Example:
        >>> import lkd
        >>> lkd.train("mini_slak", data="digits", profile="smoke").recipe.student
        'mini_slak'
    """
    settings = Profile.load(profile)
    fields, arguments = _split_overrides(overrides, "label")
    named = _Arguments()
    data_name = named.data(data)

    def prepare(model: Model) -> tuple[Recipe, Objects]:
        given = _Arguments(named.objects)
        name = given.model(model, "model")
        as_role = settings.teacher_recipe if name in settings.teachers else settings.student_recipe
        recipe = as_role(name, **{"data": data_name, **_NOT_FROM_PROFILE, **fields})
        return _with_arguments(recipe, arguments), given.objects

    return _run(prepare, [model], named.objects, store, num_processes, options)


def _run(
    prepare: Callable[..., tuple[Recipe, Objects]],
    models: Sequence[Model],
    objects: Objects,
    store: Store | None,
    num_processes: int,
    options: Options | None,
) -> Run:
    """Run the recipe that `prepare` makes for some models. Models given as recipes are trained first, after all checks.

    Args:
        prepare: makes the recipe and its objects from the models.
        models: those that `prepare` needs, which may be recipes.
        objects: the data in memory that these recipes name.
        store, num_processes, options: as for `distill`.
    """
    check_arguments(store, options)
    store = store or Store()

    def untrained(model: Model) -> Model:
        return RunSetup(model, objects).network() if isinstance(model, Recipe) else model

    if any(isinstance(model, Recipe) and store.find(model) is None for model in models):
        RunSetup(*prepare(*map(untrained, models)))

    def trained(model: Model) -> Model:
        if not isinstance(model, Recipe):
            return model
        return execute(model, store, objects, num_processes=num_processes, options=options).student

    recipe, objects = prepare(*map(trained, models))
    return execute(recipe, store, objects, num_processes=num_processes, options=options)


def _with_arguments(recipe: Recipe, arguments: dict[str, Any]) -> Recipe:
    return dataclasses.replace(recipe, objective_args={**recipe.objective_args, **arguments})


class _Arguments:
    """The caller's models and data: their names in a recipe, and the objects in memory by name."""

    def __init__(self, objects: Objects = MappingProxyType({})) -> None:
        self.objects: dict[str, nn.Module | Images] = dict(objects)

    def model(self, model: Model, role: str) -> str:
        if isinstance(model, str):
            check_source("model", model)
        if isinstance(model, Path) or (isinstance(model, str) and "/" in model):
            return self._keep(load_model(model), role)
        if isinstance(model, str):
            return model
        if isinstance(model, Run):
            model = model.student
        if not isinstance(model, nn.Module):
            raise TypeError(
                f"a model must be a timm name, nn.Module, folder, recipe or run, got a {type(model).__name__}"
            )
        return self._keep(unwrap(model), role)

    def data(self, data: Data) -> str:
        if isinstance(data, str):
            return data
        if isinstance(data, Images):
            return self._keep(data, "data")
        if not isinstance(data, tuple) or len(data) not in (2, 3):
            raise TypeError(
                "data must be a name, a pair (train, test) or a triple (train, val, test) of data sets, got "
                f"{_described(data)}"
            )
        train, *val, test = data
        return self._keep(from_datasets(train, test, val=val[0] if val else None), "data")

    def teacher(self, teacher: Model, data: str, settings: Profile) -> Recipe | str:
        if isinstance(teacher, Recipe):
            return teacher
        if isinstance(teacher, Run):
            if teacher.recipe.student.startswith(IN_MEMORY):
                self.objects[teacher.recipe.student] = teacher.build()
            return teacher.recipe
        if isinstance(teacher, str) and teacher in settings.teachers:
            return settings.teacher_recipe(teacher, data=data, **_NOT_FROM_PROFILE)
        return self.model(teacher, "teacher")

    def member(self, teacher: Model, data: str, settings: Profile) -> Recipe | nn.Module:
        """A teacher of an ensemble: a module, or the recipe of one that is trained first."""
        if isinstance(teacher, str) and teacher in settings.teachers:
            return settings.teacher_recipe(teacher, data=data, **_NOT_FROM_PROFILE)
        if isinstance(teacher, Recipe | nn.Module):
            return teacher
        name = self.model(teacher, "teacher")
        if isinstance(given := self.objects.pop(name, None), nn.Module):
            return given
        images: Any = self.objects[data] if data in self.objects else load(data)
        check_classes(name, images.classes)
        return pretrained(name, images)

    def _keep(self, thing: nn.Module | Images, role: str) -> str:
        name = in_memory_name(thing, role)
        self.objects[name] = thing
        return name


def _described(data: Any) -> str:
    """A wrong `data` in words, with the remedy."""
    kind = f"a {type(data).__name__}"
    if isinstance(data, Mapping):
        names = [name for role in SPLITS for name in data if split_role(str(name)) == role]
        return f"{kind}: give {', '.join(f'data[{name!r}]' for name in names)} as a tuple" if names else kind
    if isinstance(data, tuple | list):
        return f"{kind} of {len(data)}: give a tuple of two or three data sets"
    if hasattr(data, "__getitem__"):
        return f"{kind}: split it, for example with torch.utils.data.random_split, and give (train, test)"
    return kind


def _split_overrides(overrides: Mapping[str, Any], objective: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split overrides into fields of the recipe and parameters of the objective."""
    fields = [f.name for f in dataclasses.fields(Recipe) if f.name not in ("student", "teacher", "objective")]
    parameters = OBJECTIVES[objective].hyperparameters()
    for name in overrides:
        if name not in (*fields, *parameters):
            raise TypeError(unknown("setting", name, [*fields, *parameters]))
    return (
        {name: value for name, value in overrides.items() if name in fields},
        {name: value for name, value in overrides.items() if name in parameters},
    )
