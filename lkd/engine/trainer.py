"""The training loop."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import pandas as pd
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import broadcast, broadcast_object_list, gather_object
from timm.layers import convert_sync_batchnorm
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from lkd.data import Batch, DataSet, Labelled, Stream, subset
from lkd.engine.callbacks import Moment, TrainingState
from lkd.engine.checkpoint import Checkpoints
from lkd.engine.evaluate import evaluate
from lkd.engine.loss_check import SCALED_PATIENCE, LossCheck
from lkd.engine.optimizer import STOP_CHECK_STEPS, make_optimizer, make_schedule
from lkd.engine.options import Options
from lkd.engine.predictions import Predictions, predict
from lkd.engine.random_state import random_state, seed_all, seed_of, set_random_state
from lkd.engine.setup import RunSetup
from lkd.engine.task import DistillationTask
from lkd.engine.teacher import Teacher
from lkd.recipe import Recipe
from lkd.sparse import SparseTraining

EPOCH_IMAGES = 500
"""Validation images, a fixed stratified subset, on which the student is evaluated after each epoch."""

STOP_CHECK_IMAGES = 2000
"""Validation images that the early-stopping check uses."""

_SNIP_IMAGES = 128
"""Maximum number of images from which sparse training scores its weights; the authors' number for SLaK-T."""

_AGREE_STEPS = 20
"""Interval (steps) at which several processes agree on whether to write a checkpoint."""


class Trainer:
    """The training loop with its state: student, optimizer, schedule, moving average, sparse masks.

    Args:
        setup: the recipe with its data and networks.
        teacher: returns the teacher's outputs for a batch; None if the objective needs no teacher.

    Attributes:
        kept: the network that is evaluated and saved: the moving average if the recipe has one, else the student.
        masks: masks of sparse training, by parameter name.
        history: metrics of each epoch, one dict per epoch.
    """

    def __init__(self, setup: RunSetup, teacher: Teacher | None, accelerator: Accelerator, options: Options):
        self.setup, self.recipe = setup, setup.recipe
        recipe = self.recipe
        self.data, self.stream, self.teacher = setup.data, setup.stream, teacher
        self.accelerator, self.options = accelerator, options
        seed_all(recipe.seed)
        task = DistillationTask(setup.network(), setup.objective()).to(accelerator.device)
        if recipe.sync_bn:
            task.student = convert_sync_batchnorm(task.student)
        if options.channels_last:
            task = task.to(memory_format=torch.channels_last)
        self.task, self.sparse = task, sparse_training(recipe, task.student, self.data, self.stream)
        optimizer = make_optimizer(recipe, task)
        self.schedule = make_schedule(recipe, optimizer, self.stream.steps)
        self.average = ModelEmaV3(task.student, decay=recipe.ema) if recipe.ema else None
        self.kept = self.average.module if self.average else task.student
        if options.compile_student:
            task.compile()
        self.network, self.optimizer = accelerator.prepare(task, optimizer)
        accelerator.gradient_accumulation_steps = recipe.accumulation
        self.epoch_split, self.stop_split = (
            subset(self.data.val, min(len(self.data.val), count), seed=0) for count in (EPOCH_IMAGES, STOP_CHECK_IMAGES)
        )
        self.epoch = self.step = 0
        self.history: list[dict[str, float]] = []
        self.sums: dict[str, Tensor] = {}
        scaled = recipe.precision == "fp16"
        self.loss_check = LossCheck(accelerator.device, SCALED_PATIENCE if scaled else 1)
        seed_all(seed_of(recipe.seed, accelerator.process_index))

    @property
    def masks(self) -> dict[str, Tensor]:
        """Masks of sparse training, by parameter name."""
        return self.sparse.masks if self.sparse else {}

    @property
    def steps_done(self) -> int:
        """Optimizer steps since the beginning."""
        return self.epoch * self.stream.steps + self.step

    def run(self, progress: Callable[[int], object], checkpoints: Checkpoints) -> pd.DataFrame:
        """Train to the end, from the current state.

        Args:
            progress: called after every step with its number of images.
            checkpoints: where the state is saved from time to time.

        Returns:
            The metrics, one row per epoch.

        Raises:
            FloatingPointError: the loss is not finite; names epoch, step and term.
        """
        due, stopped = self._checkpoint_due(), False
        while self.epoch < self.recipe.epochs and not stopped:
            self.network.train()
            for batch in self._batches():
                if stopped := self._accuracy_reached():
                    break
                with nullcontext() if self.steps_done else explain_failures(self.setup, len(batch.images)):
                    self.take_step(batch)
                progress(self.stream.batch_size)
                if next(due):
                    self._save(checkpoints)
                self._call("on_step")
            self.loss_check.flush()
            self.history.append({"epoch": self.epoch + 1, **self._means(), **self.metrics("val", self.epoch_split)})
            self.epoch, self.step, self.sums = self.epoch + 1, 0, {}
            self._call("on_epoch")
        self._call("on_end")
        return pd.DataFrame(self.history)

    def metrics(self, name: str, split: Labelled) -> dict[str, float]:
        """Accuracy and loss of `kept`, with the main process's buffers: `<name>_top1` and `<name>_loss`."""
        with self._evaluating(name):
            values = evaluate(self.kept, self.data, split, self.accelerator, self.options.workers)
        return {f"{name}_{metric}": value for metric, value in values.items()}

    def predictions(self, split: Labelled, teacher: Teacher | None) -> Predictions:
        """Predictions of `kept` and of the teacher on the test split."""
        with self._evaluating("test"):
            return predict(self.kept, self.data, split, teacher, self.accelerator, self.options.workers)

    @contextmanager
    def _evaluating(self, name: str) -> Iterator[None]:
        """Give all processes the main process's buffers; add the step to the error of a network that diverged."""
        if self.accelerator.num_processes > 1:
            for buffer in self.kept.buffers():
                broadcast(buffer)
        try:
            yield
        except FloatingPointError as error:
            raise FloatingPointError(f"training diverged: after step {self.steps_done}, on {name}, {error}") from error

    def state_dict(self) -> dict[str, Any]:
        """The whole state of all processes, as tensors and plain values."""
        mine = {"random": random_state(), "sums": {name: value.cpu() for name, value in self.sums.items()}}
        scaler = self.accelerator.scaler
        return {
            "epoch": self.epoch,
            "step": self.step,
            "history": self.history,
            "lesson": self.task.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.state_dict() if self.average else None,
            "sparse": self.sparse.state_dict() if self.sparse else None,
            "scaler": scaler.state_dict() if scaler else None,
            "processes": gather_object([mine]),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state; with another number of processes, random states are seeded anew."""
        self.epoch, self.step, self.history = state["epoch"], state["step"], state["history"]
        self.task.load_state_dict(state["lesson"])
        self.optimizer.load_state_dict(state["optimizer"])
        for part, name in ((self.average, "average"), (self.sparse, "sparse"), (self.accelerator.scaler, "scaler")):
            if part is not None:
                part.load_state_dict(state[name])
        accelerator, theirs = self.accelerator, state["processes"]
        names, device = theirs[0]["sums"], accelerator.device
        if len(theirs) == accelerator.num_processes:
            mine = theirs[accelerator.process_index]
            set_random_state(mine["random"])
            self.sums = {name: mine["sums"][name].to(device) for name in names}
        else:
            seed_all(seed_of(self.recipe.seed, accelerator.process_index, self.steps_done))
            self.sums = {name: torch.stack([one["sums"][name] for one in theirs]).mean(0).to(device) for name in names}

    def _batches(self) -> Iterator[Batch]:
        accelerator = self.accelerator
        share = accelerator.process_index, accelerator.num_processes
        return self.stream.batches(self.epoch, self.step, *share, workers=self.options.workers)

    def take_step(self, batch: Batch) -> None:
        """One optimizer step on this process's share of a batch."""
        *others, last = micro_batches(batch, self.recipe.accumulation, self.accelerator.device)
        for part in others:
            with self.accelerator.no_sync(self.network):
                self._forward_backward(part)
        self._forward_backward(last)
        if self.recipe.clip:
            self.accelerator.clip_grad_norm_(self.network.parameters(), self.recipe.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.sparse:
            self.sparse.step()
        self.step += 1
        self.schedule.step_update(self.steps_done)
        if self.average and self.sparse:
            self.sparse.update_average(self.average)
        elif self.average:
            self.average.update(self.task.student)

    def _forward_backward(self, part: Batch) -> None:
        """Forward and backward pass on a part of a batch."""
        images = part.images
        if self.options.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        with self.accelerator.autocast():
            teacher = self.teacher(self.epoch, part) if self.teacher else None
        try:
            terms = self.network(images, teacher, part.target)
        except FloatingPointError as error:
            place = self._position(part.positions, self.epoch, self.step)
            raise FloatingPointError(f"the loss is not finite in {place}: {error}") from error
        self.loss_check(terms, partial(self._position, part.positions, self.epoch, self.step))
        self.accelerator.backward(terms["total"])
        for name, term in terms.items():
            self.sums[name] = self.sums.get(name, 0) + term.detach().double()

    def _accuracy_reached(self) -> bool:
        """Early stopping: whether a check is due and the recipe's accuracy is reached."""
        if self.recipe.stop_top1 is None or self.step == 0 or self.step % STOP_CHECK_STEPS:
            return False
        return self.metrics("val", self.stop_split)["val_top1"] >= self.recipe.stop_top1

    @staticmethod
    def _position(positions: Tensor, epoch: int, step: int) -> str:
        first, last = positions.aminmax()
        return f"epoch {epoch + 1}, step {step + 1} (positions {first} to {last} of the stream)"

    def _checkpoint_due(self) -> Iterator[bool]:
        """Yield after each step whether a checkpoint is due; the same in all processes."""
        alone, last = self.accelerator.num_processes == 1, time.monotonic()
        while True:
            due = [time.monotonic() - last >= self.options.checkpoint_seconds]
            if not alone and self.options.checkpoint_seconds:
                due = broadcast_object_list(due) if self.steps_done % _AGREE_STEPS == 0 else [False]
            if due[0]:
                last = time.monotonic()
            yield due[0]

    def _call(self, moment: Moment) -> None:
        """Call a method of the callbacks in the main process, and restore the random states after it."""
        if not self.options.callbacks or not self.accelerator.is_main_process:
            return
        state, before = TrainingState.of(self), random_state()
        for callback in self.options.callbacks:
            getattr(callback, moment)(state)
        set_random_state(before)

    def _save(self, checkpoints: Checkpoints) -> None:
        self.loss_check.flush()
        state = self.state_dict()
        if self.accelerator.is_main_process:
            checkpoints.save(self.steps_done, state)

    def _means(self) -> dict[str, float]:
        """The mean of each loss term over the epoch and all processes, as `train_<term>`."""
        count = self.step * self.recipe.accumulation
        return {
            f"train_{name}": self.accelerator.reduce(value / count, "mean").item() for name, value in self.sums.items()
        }


@contextmanager
def explain_failures(setup: RunSetup, images: int) -> Iterator[None]:
    """Re-raise an error of the first training step as a ValueError that names student and objective.

    Args:
        images: number of images in this process's share of the batch.
    """
    try:
        yield
    except (FloatingPointError, OSError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # custom networks and objectives may raise any error
        raise ValueError(
            f"student {setup.student_name!r} cannot be trained with objective {setup.recipe.objective!r}: a step "
            f"with {images // setup.recipe.accumulation} images in training mode fails with "
            f"{type(error).__name__}: {error}"
        ) from error


def ddp_arguments(setup: RunSetup) -> DistributedDataParallelKwargs:
    """Arguments of DistributedDataParallel: an objective on feature maps may leave a network's head unused."""
    return DistributedDataParallelKwargs(find_unused_parameters=bool(setup.student_maps), gradient_as_bucket_view=True)


def micro_batches(batch: Batch, count: int, device: torch.device) -> list[Batch]:
    """Split a batch into equal parts, images and target on a device; positions stay on the CPU for the tape."""
    images, target = (tensor.to(device, non_blocking=True).chunk(count) for tensor in (batch.images, batch.target))
    return [Batch(*part) for part in zip(images, target, batch.positions.chunk(count), strict=True)]


def sparse_training(recipe: Recipe, student: nn.Module, data: DataSet, stream: Stream) -> SparseTraining | None:
    """Sparse training, started with a batch that is neither augmented nor mixed; None for a dense recipe."""
    if not recipe.sparsity:
        return None
    sparse = SparseTraining(
        student,
        steps=recipe.epochs * stream.steps,
        sparsity=recipe.sparsity,
        prune_rate=recipe.prune_rate,
        update_every=recipe.prune_every,
        scope=recipe.sparse_scope,
        seed=recipe.seed,
    )
    first = subset(stream.split, min(recipe.batch_size, _SNIP_IMAGES), seed=0)
    sparse.start(*next(data.batches(first, torch.arange(len(first)), len(first))))
    return sparse
