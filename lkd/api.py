"""Distillation and training in one call, for models and data of one's own as well as for names."""

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
from lkd.objectives import OBJECTIVES
from lkd.profiles import Profile
from lkd.recipe import IN_MEMORY, Recipe
from lkd.runs.store import Run, Store
from lkd.util.checks import unknown
from lkd.util.torch_defaults import torch_defaults

Model = str | Path | nn.Module | Recipe | Run
Data = str | Images | tuple[MapDataset, MapDataset]

_NOT_FROM_PROFILE: dict[str, Any] = {"train_images": None, "objective_args": {}}
"""Recipe fields that a profile sets for its studies only, and their values here."""


@torch_defaults()
def distill(
    student: Model,
    teacher: Model,
    *,
    objective: str = "nkd",
    data: Data,
    profile: str = "small",
    store: Store | None = None,
    num_processes: int = 1,
    options: Options | None = None,
    **overrides: Any,
) -> Run:
    """Train a student on labels and on what a teacher says; found in the store if that has been done.

    Args:
        student: a timm name for one with new weights; or one to go on with: a module, which is copied and not changed,
            the folder of a model that `lkd.models.save_model` or timm wrote, or the recipe or run of a trained one.
        teacher: a module, a folder, a recipe or a run, as for a student; or a name: of a teacher of the profile, which
            is then trained on `data` first, or of a pretrained timm model. It sees the images that the student sees; a
            timm name sees them under the normalisation it was trained with.
        objective: a name in `lkd.objectives.OBJECTIVES`. Parameters that are not given have the objective's own
            defaults, whatever the profile sets for its studies: `kd` has alpha 0.1, as `kd_loss`.
        data: a name, or a pair (train, test) of map-style data sets of (image, label); a tenth of train is held out
            for validation. `lkd.data.from_datasets` has more choices.
        profile: default training settings (epochs, learning rate, augmentation, batch size ...): a name, or the path of
            a YAML file.
        store: where runs are looked for and kept; by default the store in this machine's home.
        num_processes, options: as for `lkd.run`.
        overrides: any field of `Recipe`, and any parameter of the objective, by its name or in `objective_args`.

    Returns:
        The run, with `metrics`, `history`, `path` and `student`.

    Raises:
        KeyError, TypeError, ValueError: something that does not exist or does not fit, before any training.

    Example:
        >>> import lkd
        >>> run = lkd.distill("mini_resnet", "mini_slak", data="digits", profile="smoke")
        >>> sorted(run.metrics)
        ['teacher_top1', 'test_loss', 'test_top1', 'val_loss', 'val_top1']
    """
    scale = Profile.load(profile)
    fields, arguments = _sort(overrides, objective)

    def prepare(student: Model) -> tuple[Recipe, Objects]:
        given = _Given()
        data_name = given.data(data)
        recipe = scale.student_recipe(
            given.model(student, "student"),
            **{"data": data_name, **_NOT_FROM_PROFILE, **fields},
            teacher=given.teacher(teacher, data_name, scale),
            objective=objective,
        )
        return _with_arguments(recipe, arguments), given.objects

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
    """Train a model on labels alone; found in the store if that has been done.

    Args:
        model: as a student of `distill`. A teacher of the profile is trained as one.
        data, profile, store, num_processes, options, overrides: as for `distill`.

    Example:
        >>> import lkd
        >>> lkd.train("mini_slak", data="digits", profile="smoke").recipe.student
        'mini_slak'
    """
    scale = Profile.load(profile)
    fields, arguments = _sort(overrides, "label")

    def prepare(model: Model) -> tuple[Recipe, Objects]:
        given = _Given()
        name = given.model(model, "model")
        as_role = scale.teacher_recipe if name in scale.teachers else scale.student_recipe
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
    """Carry out what `prepare` makes of a model; one that is a recipe is run first, after all else has been checked."""
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


class _Given:
    """What the caller gave: its names for a recipe, and the objects behind them."""

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
                f"a model must be a timm name, an nn.Module, a folder, a recipe or a run, got a {type(model).__name__}"
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
                "lkd.data.from_datasets(train, test, val=val) takes a validation set as well"
            )
        return self._keep(from_datasets(*data), "data")

    def teacher(self, teacher: Model, data: str, scale: Profile) -> Recipe | str:
        if isinstance(teacher, Recipe):
            return teacher
        if isinstance(teacher, Run):
            if teacher.recipe.student.startswith(IN_MEMORY):
                self.objects[teacher.recipe.student] = teacher.build()
            return teacher.recipe
        if isinstance(teacher, str) and teacher in scale.teachers:
            return scale.teacher_recipe(teacher, data=data, **_NOT_FROM_PROFILE)
        return self.model(teacher, "teacher")

    def _keep(self, thing: nn.Module | Images, role: str) -> str:
        name = in_memory(thing, role)
        self.objects[name] = thing
        return name


def _sort(overrides: dict[str, Any], objective: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Overrides as fields of the recipe and as parameters of the objective."""
    if not isinstance(objective, str):
        raise TypeError(f"objective must be a name, one of {', '.join(OBJECTIVES)}, got {objective!r}")
    fields = [f.name for f in dataclasses.fields(Recipe) if f.name not in ("student", "teacher", "objective")]
    parameters = OBJECTIVES[objective].hyperparameters()
    for name in overrides:
        if name not in (*fields, *parameters):
            raise TypeError(unknown("setting", name, [*fields, *parameters]))
    return (
        {name: value for name, value in overrides.items() if name in fields},
        {name: value for name, value in overrides.items() if name in parameters},
    )
