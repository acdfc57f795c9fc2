"""From a recipe to its run in the store."""

import dataclasses
import shutil
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import nn
from tqdm import tqdm

from lkd.engine.accelerators import agreed, exclusive, make_accelerator, own_accelerators, processes
from lkd.engine.announce import announce
from lkd.engine.checkpoint import Checkpoints
from lkd.engine.launch import launch
from lkd.engine.malloc import keep_freed_memory
from lkd.engine.optimizer import length_warnings
from lkd.engine.options import Options
from lkd.engine.rehearsal import rehearse
from lkd.engine.setup import Objects, RunSetup
from lkd.engine.tape import TapedTeacher
from lkd.engine.teacher import FrozenTeacher
from lkd.engine.teacher_check import check_teacher
from lkd.engine.teacher_for import tape_bytes, teacher_for
from lkd.engine.teacher_origin import check_classes, teacher_origin, warn_of_changed_images
from lkd.engine.trackers import tracked
from lkd.engine.trainer import Trainer, ddp_arguments
from lkd.models.copying import copied
from lkd.recipe import Recipe
from lkd.runs.catalogue import disk_bytes
from lkd.runs.provenance import data_provenance, numerics_hash, provenance
from lkd.runs.store import Run, Store
from lkd.util.checks import check_flag, check_whole
from lkd.util.files import reading, writable
from lkd.util.progress import Progress
from lkd.util.torch_defaults import torch_defaults

OPTIMIZER_STATES = 2
"""Tensors that an optimizer of Adam's kind keeps for each weight."""


def run(
    recipe: Recipe,
    *,
    store: Store | None = None,
    resume: bool = True,
    num_processes: int = 1,
    options: Options | None = None,
) -> Run:
    """Carry out a recipe, or find it done. A run that was interrupted goes on from its last checkpoint.

    Args:
        recipe: what to run; a teacher that is a recipe is run first.
        store: where runs are looked for and kept; by default the store in this machine's home.
        resume: False trains again from the beginning even if the run is there, and replaces it.
        num_processes: more than 1 starts so many processes with `accelerate launch`, which outlive this one.
        options: how to go about it, as far as that is not part of the result.

    Returns:
        The run, with `metrics`, `history`, `path`, `student` and `masks`.

    Raises:
        KeyError, TypeError, ValueError, FileNotFoundError, OSError: a recipe that cannot be run, before any training.
        FloatingPointError: a loss that is not finite.
        RuntimeError: processes that were started have failed; ends with what they said.

    Example:
        >>> import lkd
        >>> lkd.run(lkd.Recipe(data="digits", student="mini_resnet", train_images=128)).metrics["test_top1"] > 5
        True
    """
    if not isinstance(recipe, Recipe):
        raise TypeError(f"recipe must be a lkd.Recipe, got {recipe!r}: lkd.train trains a model by its name")
    check_flag("resume", resume)
    check_arguments(store, options)
    return execute(recipe, store or Store(), {}, resume=resume, num_processes=num_processes, options=options)


def check_arguments(store: Store | None, options: Options | None) -> None:
    """Refuse a store or options of another type.

    Raises:
        TypeError: names the argument and its value.
    """
    if not isinstance(store, Store | None):
        raise TypeError(f"store must be a Store of lkd.runs.store, got {store!r}: write Store({str(store)!r})")
    if not isinstance(options, Options | None):
        raise TypeError(f"options must be lkd.Options, got {options!r}: write lkd.Options(tape=True), for example")


@torch_defaults()
@own_accelerators()
@torch.random.fork_rng(devices=[])
def execute(
    recipe: Recipe,
    store: Store,
    objects: Objects,
    *,
    resume: bool = True,
    num_processes: int = 1,
    options: Options | None = None,
    progress: Progress | None = None,
) -> Run:
    """`run`, with the models and data sets that the recipe names as in memory, and a listener to its progress."""
    options = options or Options()
    check_whole("num_processes", num_processes, 1)
    recipe.check_current()
    found = _find(recipe, store, objects) if resume else None
    if agreed(found is not None):
        found = found or _found(recipe, store, objects)
        warn_of_changed_images([found])
        return found
    setup = RunSetup(recipe, objects)
    check_classes(recipe.teacher, setup.data.classes)
    for text in length_warnings(recipe, setup.stream.steps):
        warnings.warn(text, stacklevel=2)
    _check_space(store, setup, options)
    sharing = num_processes if num_processes > 1 else processes().num_processes
    _check_processes(setup, sharing)
    if num_processes > 1 or _teacher_to_train(setup, store):
        rehearse(setup, sharing, options)
    if num_processes > 1:
        launch(recipe, store, objects, resume, num_processes, options, _images(setup))
    else:
        with exclusive(store, recipe.run_id):
            if not (resume and agreed(_find(recipe, store, objects) is not None)):
                teacher = ready_teacher(setup, store, options)
                with _bar(recipe, setup) if progress is None else nullcontext(progress) as report:
                    _train(setup, teacher, store, options, report, resume, shown=progress is None)
    return _found(recipe, store, objects)


def _train(
    setup: RunSetup,
    teacher: FrozenTeacher | None,
    store: Store,
    options: Options,
    progress: Progress,
    resume: bool,
    shown: bool,
) -> None:
    recipe, data = setup.recipe, setup.data
    origin, start = provenance(), time.perf_counter()
    accelerator = make_accelerator(
        recipe.precision,
        kwargs_handlers=[ddp_arguments(setup)],
        log_with=list(options.trackers) or None,
        project_dir=store.folder / "trackers" / recipe.run_id,
    )
    main = accelerator.is_main_process
    keep_freed_memory()
    with _checkpoints(setup, store) as checkpoints, torch.random.fork_rng():
        source = teacher_for(setup, teacher, store, options.tape, accelerator)
        check = check_teacher(setup, teacher, accelerator, options.workers) if teacher else None
        warned = bool(check and main and check.warn(_baseline_top1(recipe, store)))
        training = Trainer(setup, source, accelerator, options)
        _resume(training, checkpoints, resume, progress)
        if main:
            announce(setup, training, check, shown)
        with tracked(training, progress) as report:
            history = training.run(report, checkpoints)
        metrics = training.metrics("val", data.val) | training.metrics("test", data.test)
        metrics |= {"teacher_top1": check.top1} if check else {}
        ended = training.state_dict() | {"epoch": recipe.epochs, "step": 0}
        if main:
            origin |= {
                "threads": torch.get_num_threads(),
                "processes": accelerator.num_processes,
                "data": data_provenance(data) | {"fingerprint": setup.fingerprint},
                "teacher": teacher_origin(recipe, teacher) if teacher else None,
                "damaged_files": sorted(map(str, getattr(data, "damaged_files", ()))),
                "options": dataclasses.asdict(options),
                "seconds": round(time.perf_counter() - start, 3),
            }
            with checkpoints.outlasting(recipe.epochs * setup.stream.steps, ended):
                store.save(recipe, training.kept, setup.shape, metrics, history, origin, training.masks)
            checkpoints.clear()
            if isinstance(source, TapedTeacher):
                source.tape.finish()
            if check and not warned:
                check.warn(metrics["val_top1"])
        accelerator.wait_for_everyone()


def _resume(training: Trainer, checkpoints: Checkpoints, resume: bool, progress: Progress) -> None:
    """Bring a training to where its last checkpoint stands, and reserve room on disk for the next one."""
    recipe, accelerator = training.recipe, training.accelerator
    if not resume and accelerator.is_main_process:
        checkpoints.clear()
    accelerator.wait_for_everyone()
    if state := checkpoints.load():
        with reading(checkpoints.folder, "state of this training", "remove it, and run again from the beginning"):
            training.load_state_dict(state)
        progress(training.steps_done * recipe.batch_size)
    if accelerator.is_main_process and training.epoch < recipe.epochs:
        checkpoints.reserve(run_bytes(recipe, _bytes(training.task))[1] // 3)


def _checkpoints(setup: RunSetup, store: Store) -> Checkpoints:
    conditions = {"numerics hash (the code of lkd)": numerics_hash(), "data fingerprint": setup.fingerprint}
    return Checkpoints(store.folder / "checkpoints" / setup.recipe.run_id, conditions)


def _bytes(network: nn.Module) -> int:
    """The size of a network's state."""
    return sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values())


def _baseline_top1(recipe: Recipe, store: Store) -> float | None:
    """Validation accuracy of the student alone, where the store has its run."""
    found = store.find(recipe.baseline)
    return found.metrics.get("val_top1") if found else None


def _teacher_to_train(setup: RunSetup, store: Store) -> bool:
    teacher = setup.recipe.teacher
    return isinstance(teacher, Recipe) and _find(teacher, store, setup.objects) is None


def _find(recipe: Recipe, store: Store, objects: Objects) -> Run | None:
    given = objects.get(recipe.student)
    return store.find(recipe, None if given is None else lambda: copied(given, "student"))


def _found(recipe: Recipe, store: Store, objects: Objects) -> Run:
    """The run that the main process has found or made."""
    if (run := _find(recipe, store, objects)) is None:
        raise FileNotFoundError(
            f"the store {store.folder} lacks the run that the main process has: all processes need the same folder"
        )
    return run


def ready_teacher(setup: RunSetup, store: Store, options: Options) -> FrozenTeacher | None:
    """The teacher of a setup, trained first where that is left to do; None where there is none."""
    recipe = setup.recipe.teacher
    trained = None
    if isinstance(recipe, Recipe):
        trained = execute(recipe, store, setup.objects, options=options).student
    teacher = setup.frozen_teacher(trained)
    if teacher and options.channels_last:
        teacher.to_channels_last()
    if teacher and options.compile_teacher:
        teacher.compile()
    return teacher


def _check_processes(setup: RunSetup, processes: int) -> None:
    """Refuse a batch that does not part evenly, and what needs a GPU where there is none."""
    setup.stream.batches(0, processes=processes)
    share, count = setup.recipe.batch_size // processes, setup.recipe.accumulation
    if share % count:
        raise ValueError(
            f"accumulation {count} does not part evenly the {share} images of a batch that each of {processes} "
            f"process(es) has: give a batch_size that is a multiple of {processes * count}"
        )
    if torch.cuda.is_available():
        return
    if setup.recipe.sync_bn:
        raise ValueError("sync_bn is for GPUs, and there is none: leave it out")
    if setup.recipe.precision == "fp16":
        raise ValueError("precision 'fp16' needs a GPU, and there is none: use 'bf16' or 'no'")


def title(recipe: Recipe) -> str:
    """Who learns, and from whom."""
    return f"{recipe.teacher_name} -> {recipe.student}" if recipe.teacher else recipe.student


@contextmanager
def _bar(recipe: Recipe, setup: RunSetup) -> Iterator[Progress]:
    with tqdm(total=_images(setup), desc=title(recipe), unit=" images", disable=None, leave=False) as bar:
        yield bar.update


def _images(setup: RunSetup) -> int:
    """How many images go through training."""
    return setup.recipe.epochs * setup.stream.steps * setup.recipe.batch_size


def _check_space(store: Store, setup: RunSetup, options: Options) -> None:
    """Refuse a run that does not fit: its weights, three checkpoints, and a tape that is still to be made."""
    writable(store.folder, "the store", "give another folder")
    own = run_bytes(setup.recipe, _bytes(setup.network()))
    tape = tape_bytes(setup, store) if options.tape else 0
    there = disk_bytes(_checkpoints(setup, store).folder)
    needed, free = sum(own) + tape - there, shutil.disk_usage(store.folder).free
    if free < needed:
        raise OSError(
            f"the store {store.folder} has {free:,} bytes free, this run needs {needed:,}"
            + (f", {tape:,} of them for its tape (fewer with teacher_top_k)" if tape else "")
            + ": make room, or set LKD_HOME"
        )


def run_bytes(recipe: Recipe, weights: int) -> tuple[int, int]:
    """What a run takes on disk: for good, and while it is trained for two checkpoints and one that is being written.

    Args:
        recipe: of the run.
        weights: bytes of its student's state.

    Example:
        >>> from lkd import Recipe
        >>> from lkd.engine.run import run_bytes
        >>> run_bytes(Recipe(data="digits", student="mini_vit", optimizer="adamw"), 1000)
        (1049576, 9000)
    """
    checkpoint = weights * (1 + OPTIMIZER_STATES + (recipe.ema is not None))
    return weights + 2**20, 3 * checkpoint
