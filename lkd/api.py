"""Distillation and training in one call, for named and custom models and data."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from lkd.data import Images, from_datasets
from lkd.data.custom import MapDataset
from lkd.engine.options import Options
from lkd.engine.run import check_arguments, execute
from lkd.engine.setup import Objects, RunSetup, in_memory
from lkd.models import load_model
from lkd.models.copying import unwrapped
from lkd.models.names import check_source
from lkd.objectives import OBJECTIVES, Objective
from lkd.objectives.own import Given, registered
from lkd.profiles import Profile
from lkd.recipe import IN_MEMORY, Recipe
from lkd.runs.store import Run, Store
from lkd.util.checks import unknown
from lkd.util.torch_defaults import torch_defaults

Model = str | Path | nn.Module | Recipe | Run
Data = str | Images | tuple[MapDataset, MapDataset]

_NOT_FROM_PROFILE: dict[str, Any] = {"train_images": None, "subset_seed": None, "objective_args": {}}
"""Recipe fields that a profile sets for its studies only, and their values here."""


@torch_defaults()
def distill(
    student: Model,
    teacher: Model,
    *,
    objective: Given = "nkd",
    data: Data,
    profile: str = "small",
    store: Store | None = None,
    num_processes: int = 1,
    options: Options | None = None,
    **overrides: Any,
) -> Run:
    """Train a student with a teacher, or load the run if the store has it.

    Args:
        student: a timm name for a model with new weights. To continue from trained weights: a module (it is copied, not
            changed), the folder of a model saved by `lkd.models.save_model` or timm, or a recipe or run.
        teacher: a module, folder, recipe or run, as for the student; the name of one of the profile's teachers, which
            is trained on `data` first; or the name of a pretrained timm model. The teacher sees the same augmented
            images as the student, a timm model with the normalisation it was trained with.
        objective: a name in `lkd.objectives.OBJECTIVES`; a class or instance of `lkd.objectives.Objective`; or a
            function of student logits, teacher logits and target, which returns the loss or its terms by name. A class
            or function is added to `OBJECTIVES` under its own name, and its code is part of the run's identity.
            Parameters keep the objective's own defaults unless they are given here; the profile does not set them. For
            example, `"kd"` has alpha 0.1, like `kd_loss`.
        data: a name, or a pair (train, test) of map-style data sets of (image, label). A tenth of train is held out for
            validation; use `lkd.data.from_datasets` to pass a validation set.
        profile: default training settings, such as epochs, learning rate, augmentation and batch size: the name of a
            profile or the path of a YAML file.
        store: the store of runs; by default the one in this machine's home.
        num_processes, options: as for `lkd.run`.
        overrides: any field of `Recipe`, and any parameter of the objective, by name or in `objective_args`.

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

    def prepare(student: Model) -> tuple[Recipe, Objects]:
        given = _Arguments()
        data_name = given.data(data)
        recipe = settings.student_recipe(
            given.model(student, "student"),
            **{"data": data_name, **_NOT_FROM_PROFILE, **fields},
            teacher=given.teacher(teacher, data_name, settings),
            objective=name,
        )
        return _with_arguments(recipe, {**own_arguments, **arguments}), given.objects

    return _run(prepare, student, store, num_processes, options)


@torch_defaults()
def train(
    model: Model,
    *,
    data: Data,
    profile: str = "small",
    store: Store | None = None,
    num_processes: int = 1,
    options: Options | None = None,
    **overrides: Any,
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

    def prepare(model: Model) -> tuple[Recipe, Objects]:
        given = _Arguments()
        name = given.model(model, "model")
        as_role = settings.teacher_recipe if name in settings.teachers else settings.student_recipe
        recipe = as_role(name, **{"data": given.data(data), **_NOT_FROM_PROFILE, **fields})
        return _with_arguments(recipe, arguments), given.objects

    return _run(prepare, model, store, num_processes, options)


def _run(
    prepare: Callable[[Model], tuple[Recipe, Objects]],
    model: Model,
    store: Store | None,
    num_processes: int,
    options: Options | None,
) -> Run:
    """Run the recipe that `prepare` makes for a model. A model given as a recipe is trained first, after all checks."""
    check_arguments(store, options)
    store = store or Store()
    if isinstance(model, Recipe):
        if store.find(model) is None:
            RunSetup(*prepare(RunSetup(model, {}).network()))
        model = execute(model, store, {}, num_processes=num_processes, options=options)
    recipe, objects = prepare(model)
    return execute(recipe, store, objects, num_processes=num_processes, options=options)


def _with_arguments(recipe: Recipe, arguments: dict[str, Any]) -> Recipe:
    return dataclasses.replace(recipe, objective_args={**recipe.objective_args, **arguments})


class _Arguments:
    """The caller's models and data: their names in a recipe, and the objects in memory by name."""

    def __init__(self) -> None:
        self.objects: dict[str, nn.Module | Images] = {}

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
        return self._keep(unwrapped(model), role)

    def data(self, data: Data) -> str:
        if isinstance(data, str):
            return data
        if isinstance(data, Images):
            return self._keep(data, "data")
        if not isinstance(data, tuple) or len(data) != 2:
            got = f"a {type(data).__name__}" + (f" of {len(data)}" if isinstance(data, tuple) else "")
            raise TypeError(
                f"data must be a name or a pair (train, test) of data sets, got {got}: "
                "to pass a validation set, use lkd.data.from_datasets(train, test, val=val)"
            )
        return self._keep(from_datasets(*data), "data")

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

    def _keep(self, thing: nn.Module | Images, role: str) -> str:
        name = in_memory(thing, role)
        self.objects[name] = thing
        return name


def _split_overrides(overrides: dict[str, Any], objective: str) -> tuple[dict[str, Any], dict[str, Any]]:
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
