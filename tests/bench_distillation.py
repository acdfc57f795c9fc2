"""Images per second of a training epoch with a teacher: lkd's own loop, and others' beside it in the same run.

All of them train the same student from the same first weights with the same teacher, loss (KD, temperature 1, alpha
0.1), optimizer, schedule and batches, in float32 on the same threads; only the SLaK engine, as its authors have it,
clips no gradients. An epoch is timed from its first batch to its last step, without evaluation and checkpoints. Each
row's mean loss in the epoch that warms up stands beside it: it shows that they do the same work.
"""

import argparse
import copy
import dataclasses
import math
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace

import timm
import torch
import torch.nn.functional as F
from models.authors_slak import authors_epoch, authors_slak
from models.plain_slak import plain_slak
from timm.optim import create_optimizer_v2
from timm.task import LogitDistillationTask
from torch import Tensor, nn
from torch.utils.data import SequentialSampler

from lkd import Recipe
from lkd.data import Batch, Images, Split, load
from lkd.engine.accelerators import make_accelerator
from lkd.engine.checkpoint import Checkpoints
from lkd.engine.optimizer import make_schedule
from lkd.engine.options import Options
from lkd.engine.setup import RunSetup, in_memory_name
from lkd.engine.tape import Tape, TapedTeacher
from lkd.engine.teacher import FrozenTeacher, Teacher
from lkd.engine.trainer import Trainer
from lkd.objectives import Outputs

LKD, WRITTEN, READ, ALONE = "lkd", "lkd, tape being written", "lkd, tape read", "lkd, student alone"
BARE, TIMM, TORCHDISTILL = "bare PyTorch loop", "timm LogitDistillationTask", "torchdistill DistillationBox"
SLAK, AUTHORS = "SLaK engine, rewritten", "SLaK engine, the authors' own"
FOREIGN = (TORCHDISTILL, AUTHORS)
"""Code that may be missing here, or not run with this PyTorch; the table then says so."""

Epoch = Callable[[int], float]
"""Trains the epoch of that number; returns its mean loss."""

Times = dict[str, list[float]]
"""Seconds of the epochs of each alternative, by turn."""


@dataclass(frozen=True)
class Pair:
    """A student and its teacher, and how the one learns from the other.

    Args:
        setting: of the recipe that all follow; its stream has an epoch to warm up, one for each turn, one to profile.
        teacher: the registered model as timm makes it.
        turns: epochs that are timed.
    """

    setting: RunSetup
    teacher: nn.Module
    turns: int

    @classmethod
    def make(cls, data: Images, student: str, teacher: str, batch_size: int, turns: int) -> "Pair":
        model = timm.create_model(teacher, in_chans=data.channels, num_classes=len(data.classes)).eval()
        objects = {in_memory_name(thing): thing for thing in (data, model)}
        data_name, teacher_name = objects
        recipe = Recipe(
            data=data_name,
            student=student,
            teacher=teacher_name,
            objective="kd",
            epochs=turns + 2,
            batch_size=batch_size,
            lr=1e-3,
            warmup=0.0,
        )
        return cls(RunSetup(recipe, objects), model, turns)

    @property
    def recipe(self) -> Recipe:
        return self.setting.recipe

    @property
    def steps(self) -> int:
        """Of an epoch."""
        return self.setting.stream.steps

    @property
    def teacher_name(self) -> str:
        return self.teacher.pretrained_cfg["architecture"]

    def student(self) -> nn.Module:
        """The student with the weights that every alternative begins with."""
        with torch.random.fork_rng():
            torch.manual_seed(self.recipe.seed)
            return self.setting.network()

    def live_teacher(self) -> FrozenTeacher:
        live = self.setting.frozen_teacher(None)
        assert live is not None
        return live


def mini(options: argparse.Namespace) -> None:
    """`mini_slak` -> `mini_resnet` on digits."""
    torch.set_num_threads(1)
    compare(Pair.make(load("digits"), "mini_resnet", "mini_slak", 64, 5 * options.repeats), options)


def real(options: argparse.Namespace) -> None:
    """`slak_tiny` -> `resnet50` at 224 pixels, on random images."""
    torch.set_num_threads(2)
    count, draw = 4 * options.steps, torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, 224, 224), dtype=torch.uint8, generator=draw)
    train = Split(images, torch.randint(0, 1000, (count,), generator=draw))
    few, classes = train.take(range(4)), tuple(map(str, range(1000)))
    data = Images("random", classes, train, few, few, mean=(0.5,) * 3, std=(0.25,) * 3)
    pair = Pair.make(data, "resnet50", "slak_tiny", 4, options.repeats)
    compare(pair, options, (LKD, 4.5, SLAK), (READ, 7.0, SLAK))


def compare(pair: Pair, options: argparse.Namespace, *goals: tuple[str, float, str]) -> None:
    """All alternatives in turns: the table, and what has been reached."""
    epochs, failed = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for name, make in alternatives(pair, folder, options.slak).items():
            try:
                epochs[name] = make()
            except Exception as error:
                _note(failed, name, error)
        losses = _warmed_up(epochs, failed)
        times = _measured({name: epochs[name] for name in losses}, pair.turns)
        _table(pair, times, losses, failed)
        _goals(times, goals)
        if options.profile:
            _profile(epochs[LKD], pair.turns + 1)


def _warmed_up(epochs: dict[str, Epoch], failed: dict[str, str]) -> dict[str, float]:
    """The first epoch's loss, of those that run."""
    losses = {}
    for name, train in epochs.items():
        try:
            losses[name] = train(0)
        except Exception as error:
            _note(failed, name, error)
    return losses


def _measured(epochs: dict[str, Epoch], turns: int) -> Times:
    """All take their turns in an order that differs from turn to turn, so that none profits from what ran before it."""
    times: Times = {name: [] for name in epochs}
    order, names = random.Random(0), list(epochs)
    for turn in range(1, turns + 1):
        for name in order.sample(names, len(names)):
            start = time.perf_counter()
            epochs[name](turn)
            times[name].append(time.perf_counter() - start)
    return times


def _note(failed: dict[str, str], name: str, error: Exception) -> None:
    if name not in FOREIGN:
        raise error
    failed[name] = f"{type(error).__name__}: {error}".splitlines()[0]


def _table(pair: Pair, times: Times, losses: dict[str, float], failed: dict[str, str]) -> None:
    size, batch_size, threads = pair.setting.data.size[0], pair.recipe.batch_size, torch.get_num_threads()
    print(
        f"\n{pair.teacher_name} -> {pair.recipe.student}, {size} px, batch {batch_size}, float32, {threads} thread(s)"
    )
    print(f"medians of {pair.turns} epochs of {pair.steps} steps; speed against others, and loss of the first epoch")
    print(f"  {'':30}     img/s    bare loop    SLaK engine    student alone      loss")
    slak = _fastest(times, SLAK, AUTHORS)
    for name, taken in times.items():
        speed = pair.steps * batch_size / statistics.median(taken)
        columns = "{:9.2f} x  {:11.2f} x  {:13.2f} x".format(*(_ratio(times, name, n) for n in (BARE, slak, ALONE)))
        print(f"  {name:30} {speed:9.2f}  {columns}  {losses[name]:8.4f}", flush=True)
    for name, error in failed.items():
        print(f"  {name:30} not measured: {error}", flush=True)


def _goals(times: Times, goals: tuple[tuple[str, float, str], ...]) -> None:
    """What is asked of lkd; the SLaK engine is the faster of the two."""
    fastest = _fastest(times, TIMM, TORCHDISTILL, SLAK, AUTHORS)
    for ours, least, other in ((LKD, 0.95, BARE), (LKD, 1.0, fastest), (READ, 0.9, ALONE), *goals):
        other = _fastest(times, SLAK, AUTHORS) if other == SLAK else other
        ratio = _ratio(times, ours, other)
        verdict = "reached" if ratio >= least else "missed"
        print(f"goal: {ours} at least {least} x {other}: {ratio:.3f} x, {verdict}", flush=True)


def _ratio(times: Times, ours: str, other: str) -> float:
    """Median of the turns' ratios of speed: a machine that slows down for a while slows both."""
    return statistics.median(theirs / mine for mine, theirs in zip(times[ours], times[other], strict=True))


def _fastest(times: Times, *names: str) -> str:
    return min((name for name in names if name in times), key=lambda name: statistics.median(times[name]))


def _profile(train: Epoch, epoch: int) -> None:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        train(epoch)
    rows = sorted(profiler.key_averages(), key=lambda row: -row.self_cpu_time_total)
    total = sum(row.self_cpu_time_total for row in rows)
    print(f"where an epoch of lkd spends its time, without a tape: {total / 1e3:.0f} ms")
    for row in rows[:12]:
        own = row.self_cpu_time_total
        print(f"  {own / total:6.1%}  {own / 1e3:9.1f} ms  {row.count:6} x  {row.key[:60]}")


def alternatives(pair: Pair, folder: str, slak: str | None) -> dict[str, Callable[[], Epoch]]:
    """What is measured, by name, each still to be made."""
    alone = RunSetup(dataclasses.replace(pair.recipe, objective="label", teacher=None), pair.setting.objects)
    made: dict[str, Callable[[], Epoch]] = {
        LKD: lambda: Lkd(pair.setting, pair.live_teacher()),
        WRITTEN: lambda: Lkd(pair.setting, TapedTeacher(empty_tape(pair, f"{folder}/written"), pair.live_teacher())),
        READ: lambda: Lkd(pair.setting, TapedTeacher(whole_tape(pair, f"{folder}/read"), _silent)),
        ALONE: lambda: Lkd(alone, None),
        BARE: lambda: bare(pair),
        TIMM: lambda: timm_task(pair),
        TORCHDISTILL: lambda: torchdistill_box(pair),
        SLAK: lambda: slak_engine(pair),
    }
    if slak:
        made[AUTHORS] = lambda: authors_engine(pair, slak)
    return made


def empty_tape(pair: Pair, folder: str) -> Tape:
    samples, classes = pair.steps * pair.recipe.batch_size, len(pair.setting.data.classes)
    return Tape.make(folder, epochs=pair.recipe.epochs, samples=samples, classes=classes)


def whole_tape(pair: Pair, folder: str) -> Tape:
    tape = empty_tape(pair, folder)
    teacher = TapedTeacher(tape, pair.live_teacher())
    for epoch in range(pair.recipe.epochs):
        for batch in pair.setting.stream.batches(epoch):
            teacher(epoch, batch)
    return tape


def _silent(epoch: int, batch: Batch) -> Outputs:
    raise AssertionError(f"the tape lacks {batch.positions.tolist()} of epoch {epoch}")


class Lkd(Trainer):
    """lkd's own loop, an epoch at a time, without evaluation and checkpoints."""

    def __init__(self, setting: RunSetup, teacher: Teacher | None):
        super().__init__(setting, teacher, make_accelerator("no"), Options(checkpoint_seconds=1e9))
        self.until = [dataclasses.replace(self.recipe, epochs=epoch + 1) for epoch in range(self.recipe.epochs)]

    def __call__(self, epoch: int) -> float:
        self.recipe = self.until[epoch]
        return self.run(lambda images: None, Checkpoints(tempfile.gettempdir()))["train_total"].iloc[-1]

    def metrics(self, name: str, split: Split) -> dict[str, float]:
        return {}


class PlainLoop:
    """What a loop cannot do without: batches, loss, backward pass, clipping, optimizer and schedule.

    Args:
        pair: what is trained.
        student: the network.
        loss: of images and labels.
        clip: largest norm of the gradient; None for no clipping.
    """

    def __init__(self, pair: Pair, student: nn.Module, loss: Callable[[Tensor, Tensor], Tensor], clip: float | None):
        self.pair, self.student, self.loss, self.clip = pair, student, loss, clip
        self.optimizer = optimizer(pair.recipe, student)
        self.steps = pair.steps
        self.schedule = make_schedule(pair.recipe, self.optimizer, self.steps)

    def __call__(self, epoch: int) -> float:
        self.student.train()
        total = torch.zeros(())
        for step, (images, target, _) in enumerate(self.pair.setting.stream.batches(epoch), 1):
            loss = self.loss(images, target)
            loss.backward()
            if self.clip:
                nn.utils.clip_grad_norm_(self.student.parameters(), self.clip)
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.schedule.step_update(epoch * self.steps + step)
            total += loss.detach()
        return total.item() / self.steps


def optimizer(recipe: Recipe, student: nn.Module) -> torch.optim.Optimizer:
    return create_optimizer_v2(student, recipe.optimizer, lr=recipe.lr, weight_decay=recipe.weight_decay)


def kd(student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
    """SLaK's `loss_kd` at temperature 1, as it is written there."""
    taught = F.kl_div(F.log_softmax(student, dim=1), F.softmax(teacher, dim=1), reduction="batchmean")
    return 0.1 * taught + 0.9 * F.cross_entropy(student, target)


def bare(pair: Pair) -> Epoch:
    """The limit: nothing but what must be computed, with the teacher as lkd runs it."""
    student, teacher = pair.student(), pair.live_teacher().model

    def loss(images: Tensor, target: Tensor) -> Tensor:
        with torch.no_grad():
            taught = teacher(images)
        return kd(student(images), taught, target)

    return PlainLoop(pair, student, loss, pair.recipe.clip)


def timm_task(pair: Pair) -> Epoch:
    """timm's task in a plain loop; the teacher is the registered model as it is."""
    student = pair.student()
    task = LogitDistillationTask(
        student,
        copy.deepcopy(pair.teacher),
        criterion=nn.CrossEntropyLoss(),
        task_loss_weight=0.9,
        distill_loss_weight=0.1,
        temperature=1.0,
        verbose=False,
    ).train()
    return PlainLoop(pair, student, lambda images, target: task(images, target)["loss"], pair.recipe.clip)


class StreamBatches:
    """The batches of an epoch, for loops that want something sized and indexed."""

    def __init__(self, pair: Pair):
        self.stream, self.epoch = pair.setting.stream, 0

    def __len__(self) -> int:
        return self.stream.steps

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        if step >= len(self):
            raise IndexError(step)
        return self.stream.batch(self.epoch, step)[:2]


def torchdistill_box(pair: Pair) -> Epoch:
    """torchdistill's box and its KD loss, by configuration, in the loop of its examples."""
    from torchdistill.core.distillation import DistillationBox

    batches = StreamBatches(pair)
    models = copy.deepcopy(pair.teacher), pair.student()
    box = DistillationBox(*models, {"stream": batches}, _torchdistill_config(pair), torch.device("cpu"), None, False, 1)

    def train(epoch: int) -> float:
        batches.epoch, total = epoch, 0.0
        box.pre_epoch_process(epoch=epoch)
        for images, target, supplement in box.train_data_loader:
            loss = box.forward_process(images, target, supplement)
            box.post_forward_process(loss)
            total += loss.item()
        box.post_epoch_process()
        return total / len(batches)

    return train


def _torchdistill_config(pair: Pair) -> dict:
    recipe = pair.recipe
    paths = {f"{who}_module_{what}": value for who in ("student", "teacher") for what, value in _LOGITS.items()}
    loss = {"key": "KDLoss", "kwargs": {**paths, "temperature": 1.0, "alpha": 0.9}}
    adamw = {"lr": recipe.lr, "weight_decay": recipe.weight_decay}
    steps = recipe.epochs * pair.steps
    return {
        "num_epochs": recipe.epochs,
        "train_data_loader": {
            "dataset_id": "stream",
            "sampler": {"class_or_func": SequentialSampler},
            "kwargs": {"batch_size": None},
        },
        "teacher": {"forward_proc": "forward_batch_only", "requires_grad": False},
        "student": {"forward_proc": "forward_batch_only"},
        "optimizer": {"key": "AdamW", "kwargs": adamw, "max_grad_norm": recipe.clip},
        "scheduler": {"key": "CosineAnnealingLR", "kwargs": {"T_max": steps}, "scheduling_step": 1},
        "criterion": {"key": "WeightedSumLoss", "kwargs": {"sub_terms": {"kd": {"criterion": loss, "weight": 1.0}}}},
    }


_LOGITS = {"path": ".", "io": "output"}


class PlainSlak(nn.Module):
    """A SLaK of lkd's in the plainest PyTorch, its parameters those of a copy."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = copy.deepcopy(model)

    def forward(self, images: Tensor) -> Tensor:
        return plain_slak(self.model.state_dict(keep_vars=True), images, self.training)


def slak_engine(pair: Pair) -> Epoch:
    """What `train_one_epoch` of SLaK's `engine_kd.py` does in full precision, without its logs.

    The teacher is in eval mode but neither frozen nor detached: its graph is built, the gradient goes back through it
    into its parameters, and adds up there for good, as the optimizer knows nothing of them. Gradients are not clipped.
    """
    student, teacher = pair.student(), PlainSlak(pair.teacher).eval()

    def loss(images: Tensor, target: Tensor) -> Tensor:
        taught, given = teacher(images), student(images)
        value = kd(given, taught, target)
        assert math.isfinite(value.item())
        (given.max(-1)[-1] == target).float().mean().item()
        return value

    return PlainLoop(pair, student, loss, None)


def authors_engine(pair: Pair, folder: str) -> Epoch:
    """That function itself, with the authors' teacher where their code has it."""
    train_one_epoch, batches = authors_epoch(folder), StreamBatches(pair)
    student, teacher = pair.student(), PlainSlak(pair.teacher)
    if pair.teacher_name == "slak_tiny":
        teacher = authors_slak(folder)
        teacher.load_state_dict(pair.teacher.state_dict())
    adamw, steps, recipe = optimizer(pair.recipe, student), len(batches), pair.recipe
    for group in adamw.param_groups:
        group["lr_scale"] = 1.0
    total = recipe.epochs * steps
    rates = [recipe.lr * 0.5 * (1 + math.cos(math.pi * step / total)) for step in range(total)]
    choices = SimpleNamespace(distill_type="KD", alpha=0.1, FDLoss_type="smoothL1", target_Lnorm=False)

    def train(epoch: int) -> float:
        batches.epoch = epoch
        first = teacher, student, nn.CrossEntropyLoss(), batches, adamw, torch.device("cpu"), epoch, None
        return train_one_epoch(
            *first,
            start_steps=epoch * steps,
            lr_schedule_values=rates,
            wd_schedule_values=[recipe.weight_decay] * total,
            num_training_steps_per_epoch=steps,
            update_freq=1,
            T=1,
            args=choices,
        )["loss"]

    return train
