"""Run a recipe: check it, train it, and save the run to the store."""

import math
import shutil
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import nn

from lkd.engine.accelerators import (
    broadcast_flag,
    fork_accelerator_state,
    main_process_lock,
    make_accelerator,
    processes,
)
from lkd.engine.checkpoint import Checkpoints
from lkd.engine.launch import launch
from lkd.engine.malloc import keep_freed_memory
from lkd.engine.optimizer import length_warnings
from lkd.engine.options import Options
from lkd.engine.setup import Objects, RunSetup
from lkd.engine.startup_log import log_startup
from lkd.engine.tape import TapedTeacher
from lkd.engine.teacher import FrozenTeacher
from lkd.engine.teacher_check import check_teacher
from lkd.engine.teacher_origin import check_classes, teacher_origin, warn_of_changed_images
from lkd.engine.teacher_source import tape_bytes, teacher_on_stream, teacher_on_test_images, test_tape_bytes
from lkd.engine.trackers import log_to_trackers
from lkd.engine.trainer import Trainer, ddp_arguments
from lkd.engine.trial_step import trial_step
from lkd.models.copying import copy_to_cpu
from lkd.recipe import Recipe
from lkd.runs.catalogue import disk_bytes
from lkd.runs.provenance import data_provenance, numerics_hash, provenance
from lkd.runs.store import Run, Store
from lkd.util.checks import check_flag, check_whole
from lkd.util.files import reading, writable
from lkd.util.progress import Progress, progress_bar
from lkd.util.torch_defaults import deterministic_algorithms, float32_precision, fork_random_state, torch_defaults

OPTIMIZER_STATES = 2
"""Number of state tensors per weight of an Adam-like optimizer."""


def run(
    recipe: Recipe,
    *,
    store: Store | None = None,
    resume: bool = True,
    num_processes: int = 1,
    options: Options | None = None,
) -> Run:
    """Run a recipe, or load its run if the store has it. An interrupted run resumes from its last checkpoint.

    Args:
        recipe: the recipe; a teacher that is a recipe is run first.
        store: the store of runs; by default the one in this machine's home.
        resume: False trains again from the beginning and replaces an existing run.
        num_processes: number of training processes. If more than 1, `accelerate launch` starts them, and they outlive
            this process.
        options: options that do not determine the result, such as checkpoints and `torch.compile`.

    Returns:
        The run, with `metrics`, `history`, `path`, `student` and `masks`.

    Raises:
        KeyError, TypeError, ValueError, FileNotFoundError, OSError: a recipe that cannot be run, before any training.
        FloatingPointError: the loss is not finite.
        RuntimeError: the started processes failed; ends with their last messages.

    Example:
        >>> import lkd
        >>> lkd.run(lkd.Recipe(data="digits", student="mini_resnet", train_images=128)).metrics["test_top1"] > 5
        True
    """
    if not isinstance(recipe, Recipe):
        raise TypeError(f"recipe must be a lkd.Recipe, got {recipe!r}: to train a model by name, use lkd.train")
    check_flag("resume", resume)
    check_arguments(store, options)
    return execute(recipe, store or Store(), {}, resume=resume, num_processes=num_processes, options=options)


def check_arguments(store: Store | None, options: Options | None) -> None:
    """Raise a TypeError for a `store` or `options` of another type."""
    if not isinstance(store, Store | None):
        raise TypeError(f"store must be a Store of lkd.runs.store, got {store!r}: write Store({str(store)!r})")
    if not isinstance(options, Options | None):
        raise TypeError(f"options must be lkd.Options, got {options!r}: write lkd.Options(tape=True), for example")


@torch_defaults()
@fork_accelerator_state()
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
    """As `run`, with in-memory models and data sets and a progress callback."""
    options = options or Options()
    _check_count(num_processes)
    recipe.check_current()
    found = _find(recipe, store, objects) if resume else None
    if broadcast_flag(found is not None):
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
        trial_step(setup, sharing, options)
    if num_processes > 1:
        launch(recipe, store, objects, resume, num_processes, options, _total_images(setup))
    else:
        with main_process_lock(store, recipe.run_id):
            if not (resume and broadcast_flag(_find(recipe, store, objects) is not None)):
                teacher = prepare_teacher(setup, store, options)
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
    with (
        _checkpoints(setup, store) as checkpoints,
        fork_random_state(),
        float32_precision(options.matmul),
        deterministic_algorithms(options.deterministic),
    ):
        source = teacher_on_stream(setup, teacher, store, options.tape, accelerator)
        on_test = teacher_on_test_images(setup, teacher, store, accelerator)
        check = check_teacher(setup, teacher, accelerator, options.workers) if teacher else None
        warned = bool(check and main and check.warn(_baseline_top1(recipe, store)))
        trainer = Trainer(setup, source, accelerator, options)
        _resume(trainer, checkpoints, resume, progress)
        if main:
            log_startup(setup, trainer, check, shown)
        with log_to_trackers(trainer, progress) as report:
            history = trainer.run(report, checkpoints)
        predictions = trainer.predictions(data.test, on_test)
        metrics = trainer.metrics("val", data.val)
        metrics |= {f"test_{name}": value for name, value in predictions.metrics().items()}
        metrics |= {"teacher_top1": check.top1} if check else {}
        ended = trainer.state_dict() | {"epoch": recipe.epochs, "step": 0}
        if main:
            origin |= {
                "threads": torch.get_num_threads(),
                "processes": accelerator.num_processes,
                "data": data_provenance(data) | {"fingerprint": setup.fingerprint},
                "teacher": teacher_origin(recipe, teacher) if teacher else None,
                "damaged_files": sorted(map(str, getattr(data, "damaged_files", ()))),
                "options": options.as_plain(),
                "seconds": round(time.perf_counter() - start, 3),
            }
            with checkpoints.outlasting(recipe.epochs * setup.stream.steps, ended):
                kept = predictions.labels, predictions.classes
                store.save(recipe, trainer.kept, setup.shape, metrics, history, origin, trainer.masks, kept)
            checkpoints.clear()
            for taped in (source, on_test):
                if isinstance(taped, TapedTeacher):
                    taped.tape.finish()
            if check and not warned:
                check.warn(metrics["val_top1"])
        accelerator.wait_for_everyone()


def _resume(trainer: Trainer, checkpoints: Checkpoints, resume: bool, progress: Progress) -> None:
    """Load the last checkpoint into the trainer, and reserve disk space for the next one."""
    recipe, accelerator = trainer.recipe, trainer.accelerator
    if not resume and accelerator.is_main_process:
        checkpoints.clear()
    accelerator.wait_for_everyone()
    if state := checkpoints.load():
        with reading(checkpoints.folder, "state of this training", "remove it, and run again from the beginning"):
            trainer.load_state_dict(state)
        progress(trainer.steps_done * recipe.batch_size)
    if accelerator.is_main_process and trainer.epoch < recipe.epochs:
        checkpoints.reserve(run_bytes(recipe, _state_bytes(trainer.task))[1] // 3)


def _checkpoints(setup: RunSetup, store: Store) -> Checkpoints:
    conditions = {"numerics hash (the code of lkd)": numerics_hash(), "data fingerprint": setup.fingerprint}
    return Checkpoints(store.folder / "checkpoints" / setup.recipe.run_id, conditions)


def _state_bytes(network: nn.Module) -> int:
    """Bytes of a network's state dict."""
    return sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values())


def _baseline_top1(recipe: Recipe, store: Store) -> float | None:
    """Validation accuracy of the baseline, the student trained from labels; None if the store does not have it."""
    found = store.find(recipe.baseline)
    return found.metrics.get("val_top1") if found else None


def _teacher_to_train(setup: RunSetup, store: Store) -> bool:
    teacher = setup.recipe.teacher
    return isinstance(teacher, Recipe) and _find(teacher, store, setup.objects) is None


def _find(recipe: Recipe, store: Store, objects: Objects) -> Run | None:
    given = objects.get(recipe.student)
    return store.find(recipe, None if given is None else lambda: copy_to_cpu(given, "student"))


def _found(recipe: Recipe, store: Store, objects: Objects) -> Run:
    """The run that the main process has found or trained."""
    if (run := _find(recipe, store, objects)) is None:
        raise FileNotFoundError(
            f"the store {store.folder} does not have the run of the main process: all processes need the same folder"
        )
    return run


def prepare_teacher(setup: RunSetup, store: Store, options: Options) -> FrozenTeacher | None:
    """The recipe's teacher, trained first if necessary; None without one."""
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


def _check_count(num_processes: int) -> None:
    """Refuse more processes than this machine has GPUs, if it has any."""
    check_whole("num_processes", num_processes, 1)
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else math.inf
    if num_processes > gpus:
        raise ValueError(f"num_processes is {num_processes}, but this machine has {gpus} GPU(s): give at most {gpus}")


def _check_processes(setup: RunSetup, processes: int) -> None:
    """Refuse a batch that cannot be divided evenly, and settings that need a GPU if there is none."""
    setup.stream.batches(0, processes=processes)
    share, count = setup.recipe.batch_size // processes, setup.recipe.accumulation
    if share % count:
        raise ValueError(
            f"accumulation {count} does not divide the {share} images of a batch that each of {processes} process(es) "
            f"has: give a batch_size that is a multiple of {processes * count}"
        )
    if torch.cuda.is_available():
        return
    if setup.recipe.sync_bn:
        raise ValueError("sync_bn needs a GPU, and there is none: leave it out")
    if setup.recipe.precision == "fp16":
        raise ValueError("precision 'fp16' needs a GPU, and there is none: use 'bf16' or 'no'")


def run_title(recipe: Recipe) -> str:
    """The run's title: "teacher -> student", or the student's name without a teacher."""
    return f"{recipe.teacher_name} -> {recipe.student}" if recipe.teacher else recipe.student


@contextmanager
def _bar(recipe: Recipe, setup: RunSetup) -> Iterator[Progress]:
    with progress_bar(_total_images(setup)) as bar:
        bar.set_description_str(f"{run_title(recipe)}: images", refresh=False)
        yield bar.update


def _total_images(setup: RunSetup) -> int:
    """Total number of training images, all epochs together."""
    return setup.recipe.epochs * setup.stream.steps * setup.recipe.batch_size


def _check_space(store: Store, setup: RunSetup, options: Options) -> None:
    """Refuse a run that does not fit on the disk: its weights, three checkpoints, and a new tape if there is one."""
    writable(store.folder, "the store", "give another folder")
    own = run_bytes(setup.recipe, _state_bytes(setup.network()))
    tape = tape_bytes(setup, store) if options.tape else 0
    existing = disk_bytes(_checkpoints(setup, store).folder)
    needed, free = sum(own) + tape + test_tape_bytes(setup) - existing, shutil.disk_usage(store.folder).free
    if free < needed:
        raise OSError(
            f"the store {store.folder} has {free:,} bytes free, this run needs {needed:,}"
            + (f", {tape:,} of them for its tape (fewer with teacher_top_k)" if tape else "")
            + ": make room, or set LKD_HOME"
        )


def run_bytes(recipe: Recipe, weights: int) -> tuple[int, int]:
    """Disk space of a run in bytes: permanent, and temporary for two checkpoints and one being written.

    Args:
        weights: bytes of the student's state dict.

    Example:
        >>> from lkd import Recipe
        >>> from lkd.engine.run import run_bytes
        >>> run_bytes(Recipe(data="digits", student="mini_vit", optimizer="adamw"), 1000)
        (1049576, 9000)
    """
    checkpoint = weights * (1 + OPTIMIZER_STATES + (recipe.ema is not None))
    return weights + 2**20, 3 * checkpoint
