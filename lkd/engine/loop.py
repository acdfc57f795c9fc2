"""The training loop."""

from collections.abc import Callable

import pandas as pd
import torch
from accelerate import Accelerator
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from lkd.data import Batch, DataSet, Labelled, Stream, subset
from lkd.engine.evaluate import evaluate
from lkd.engine.teacher import Teacher
from lkd.objectives import Objective, Outputs
from lkd.recipe import Recipe
from lkd.sparse import SparseTraining

_WATCHED = 500
"""Validation images, a fixed stratified part of them, that a student is watched on from epoch to epoch."""


def fit(
    recipe: Recipe,
    student: nn.Module,
    teacher: Teacher | None,
    data: DataSet,
    stream: Stream,
    accelerator: Accelerator,
    progress: Callable[[int], object],
) -> tuple[nn.Module, pd.DataFrame, dict[str, Tensor]]:
    """Train a student along a stream.

    Args:
        recipe: what to do.
        student: the network, with its initial weights; it is trained in place.
        teacher: gives the teacher's logits of a batch; None where the objective needs none.
        data: whose validation split is looked at after every epoch: a fixed stratified part of at most 500 images.
        stream: the training batches.
        accelerator: device, processes and precision.
        progress: called with the number of images after every step.

    Returns:
        The network to keep (the moving average where the recipe has one), one row of figures an epoch, and the masks
        of sparse training, by parameter's name.

    Raises:
        FloatingPointError: a loss that is not finite; names epoch, step and term.
    """
    objective = recipe.make_objective()
    sparse = sparse_training(recipe, student.to(accelerator.device), stream)
    optimizer = create_optimizer_v2(student, recipe.optimizer, lr=recipe.lr, weight_decay=recipe.weight_decay)
    schedule = cosine(recipe, optimizer, stream.steps)
    network, optimizer = accelerator.prepare(student, optimizer)
    average = ModelEmaV3(student, decay=recipe.ema) if recipe.ema else None
    kept = average.module if average else student
    watched = subset(data.val, min(len(data.val), _WATCHED), seed=0)
    history = []
    for epoch in range(recipe.epochs):
        network.train()
        losses = []
        for step in range(stream.steps):
            batch = stream.batch(epoch, step, accelerator.process_index, accelerator.num_processes)
            batch = Batch(*(tensor.to(accelerator.device, non_blocking=True) for tensor in batch))
            with accelerator.autocast():
                logits = network(batch.images)
                taught = teacher(epoch, batch) if teacher else logits.detach()
            terms = finite_terms(objective, logits, taught, batch.target, f"epoch {epoch + 1}, step {step + 1}")
            accelerator.backward(terms["total"])
            if recipe.clip:
                accelerator.clip_grad_norm_(network.parameters(), recipe.clip)
            optimizer.step()
            optimizer.zero_grad()
            if sparse:
                sparse.step()
            schedule.step_update(epoch * stream.steps + step + 1)
            if average and sparse:
                sparse.update_average(average)
            elif average:
                average.update(student)
            losses.append({name: term.detach() for name, term in terms.items()})
            progress(stream.batch_size)
        history.append(
            {"epoch": epoch + 1, **means(losses, accelerator), **validation(kept, data, watched, accelerator)}
        )
    return kept, pd.DataFrame(history), sparse.masks if sparse else {}


def sparse_training(recipe: Recipe, student: nn.Module, stream: Stream) -> SparseTraining | None:
    """Sparse training, begun with one batch that is neither augmented nor mixed; None for a dense recipe."""
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
    first = subset(stream.split, recipe.batch_size, seed=0)
    sparse.start(*next(stream.data.batches(first, torch.arange(len(first)), len(first))))
    return sparse


def cosine(recipe: Recipe, optimizer: torch.optim.Optimizer, steps: int) -> CosineLRScheduler:
    """Linear warm-up from 0, then a cosine to 0, both by the step."""
    total = recipe.epochs * steps
    warmup = min(round(recipe.warmup * total), total - 1)
    return CosineLRScheduler(
        optimizer, t_initial=total - warmup, warmup_t=warmup, warmup_prefix=True, t_in_epochs=False
    )


def finite_terms(objective: Objective, logits: Tensor, taught: Tensor, target: Tensor, place: str) -> dict[str, Tensor]:
    """The terms of the loss; stop where one is NaN or infinite, and say which and at what place."""
    try:
        terms = objective(Outputs(logits), Outputs(taught), target)
    except ValueError as error:
        if logits.isfinite().all() and taught.isfinite().all():
            raise
        raise FloatingPointError(f"the loss is not finite in {place}: {error}") from error
    if not torch.isfinite(terms["total"]):
        values = ", ".join(f"{name} = {term.item():g}" for name, term in terms.items())
        raise FloatingPointError(f"the loss is not finite in {place}: {values}")
    return terms


def means(losses: list[dict[str, Tensor]], accelerator: Accelerator) -> dict[str, float]:
    """Mean of each term over the steps of an epoch and over all processes, as `train_<term>`."""
    return {
        f"train_{name}": accelerator.reduce(torch.stack([terms[name] for terms in losses]).mean(), "mean").item()
        for name in losses[0]
    }


def validation(model: nn.Module, data: DataSet, watched: Labelled, accelerator: Accelerator) -> dict[str, float]:
    """Figures on the watched part of the validation split, as `val_<name>`."""
    return {f"val_{name}": value for name, value in evaluate(model, data, watched, accelerator).items()}
