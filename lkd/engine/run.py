"""From a recipe to its run in the store."""

import copy
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from tqdm import tqdm

from lkd.engine.evaluate import evaluate
from lkd.engine.loop import fit
from lkd.engine.memory import keep_freed_memory
from lkd.engine.setting import Objects, Setting
from lkd.engine.tape import Tape, record
from lkd.engine.teacher import LiveTeacher, Teacher, weights_hash
from lkd.files import writable
from lkd.provenance import provenance
from lkd.recipe import Recipe
from lkd.store import Run, Store

Progress = Callable[[int], object]
"""Called with a number of images whenever so many more have gone through training."""


def run(recipe: Recipe, *, store: Store | None = None, resume: bool = True) -> Run:
    """Carry out a recipe, or find it done.

    Args:
        recipe: what to run; a teacher that is a recipe is run first.
        store: where runs are looked for and kept; by default the store in this machine's home.
        resume: False trains again even if the run is there, and replaces it.

    Returns:
        The run, with `metrics`, `history`, `path`, `student` and `masks`.

    Raises:
        KeyError, TypeError, ValueError, FileNotFoundError, OSError: a recipe that cannot be run, before any training.
        FloatingPointError: a loss that is not finite.

    Example:
        >>> import lkd
        >>> lkd.run(lkd.Recipe(data="digits", student="mini_resnet", train_images=128)).metrics["test_top1"] > 5
        True
    """
    return carry_out(recipe, store or Store(), {}, resume=resume)


@torch.random.fork_rng(devices=[])
def carry_out(
    recipe: Recipe, store: Store, objects: Objects, *, resume: bool = True, progress: Progress | None = None
) -> Run:
    """`run`, with the models and data sets that the recipe names as in memory, and a listener to its progress."""
    if resume and (found := _find(recipe, store, objects)):
        return found
    setting = Setting(recipe, objects)
    _check_space(store, setting)
    with store.lock(recipe.run_id):
        if not (resume and _find(recipe, store, objects)):
            teacher = _teacher(setting, store)
            with _bar(recipe, setting) if progress is None else nullcontext(progress) as report:
                _train(setting, teacher, store, report)
    run = _find(recipe, store, objects)
    assert run is not None
    return run


def record_tape(recipe: Recipe, store: Store) -> None:
    """Record the logits of a recipe's teacher along the recipe's stream, unless that has been done."""
    setting = Setting(recipe, {})
    teacher = _teacher(setting, store)
    assert teacher is not None
    path = _tape_path(recipe, teacher, store)
    with store.lock(path.stem):
        if not path.exists():
            record(teacher, setting.stream, recipe.epochs, path, make_accelerator(recipe.precision))


def make_accelerator(precision: str) -> Accelerator:
    """An accelerator of a precision, also where this process has had one of another."""
    if AcceleratorState._shared_state and AcceleratorState().mixed_precision != precision:
        AcceleratorState._reset_state(True)
        GradientState._reset_state()
    return Accelerator(mixed_precision=precision)


def _train(setting: Setting, teacher: LiveTeacher | None, store: Store, progress: Progress) -> None:
    recipe, data = setting.recipe, setting.data
    origin, start = provenance(), time.perf_counter()
    accelerator = make_accelerator(recipe.precision)
    keep_freed_memory()
    source: Teacher | None = teacher
    if teacher and (path := _tape_path(recipe, teacher, store)).exists():
        source = Tape(path)
    elif teacher:
        teacher.model.to(accelerator.device)
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        student, history, masks = fit(recipe, setting.network(), source, data, setting.stream, accelerator, progress)
    metrics = {
        f"{split}_{name}": value
        for split in ("val", "test")
        for name, value in evaluate(student, data, data.splits[split], accelerator).items()
    }
    if accelerator.is_main_process:
        origin |= {"threads": torch.get_num_threads(), "seconds": round(time.perf_counter() - start, 3)}
        store.save(recipe, student, setting.shape, metrics, history, origin, masks)
    accelerator.wait_for_everyone()


def _find(recipe: Recipe, store: Store, objects: Objects) -> Run | None:
    given = objects.get(recipe.student)
    return store.find(recipe, None if given is None else lambda: copy.deepcopy(given))


def _teacher(setting: Setting, store: Store) -> LiveTeacher | None:
    teacher = setting.recipe.teacher
    trained = carry_out(teacher, store, setting.objects).student if isinstance(teacher, Recipe) else None
    return setting.frozen_teacher(trained)


def _tape_path(recipe: Recipe, teacher: LiveTeacher, store: Store) -> Path:
    return store.folder / "tapes" / f"{weights_hash(teacher.model)}-{recipe.stream_id}-{recipe.precision}.npy"


@contextmanager
def _bar(recipe: Recipe, setting: Setting) -> Iterator[Progress]:
    total = recipe.epochs * setting.stream.steps * recipe.batch_size
    title = f"{recipe.teacher_name} -> {recipe.student}" if recipe.teacher else recipe.student
    with tqdm(total=total, desc=title, unit=" images", disable=None, leave=False) as bar:
        yield bar.update


def _check_space(store: Store, setting: Setting) -> None:
    writable(store.folder, "the store", "give another folder")
    state = setting.network().state_dict().values()
    needed = 2 * sum(tensor.numel() * tensor.element_size() for tensor in state) + 2**20
    free = shutil.disk_usage(store.folder).free
    if free < needed:
        raise OSError(
            f"the store {store.folder} has {free} bytes free, this run needs {needed}: make room, or set LKD_HOME"
        )
