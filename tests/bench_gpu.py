"""The tables of the book's page on GPUs: `make bench PARTS=gpu`; on a machine without a GPU, tiny sizes on the CPU.

With bfloat16 autocast, channels last, batches that lie on the device and no clipping: the times are of the networks and
of the training loop alone. Medians of five groups of steps, after a group that is not counted; for lkd's loop, the
second of two epochs.
"""

import dataclasses
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import timm
import torch
import torch.nn.functional as F
from timm.task import LogitDistillationTask
from torch import Tensor, nn

from lkd import Recipe
from lkd.data import Batch, Images, Split
from lkd.engine.accelerators import make_accelerator
from lkd.engine.checkpoint import Checkpoints
from lkd.engine.options import Options
from lkd.engine.setup import RunSetup, in_memory_name
from lkd.engine.tape import Tape, TapedTeacher
from lkd.engine.teacher import FrozenTeacher, Teacher
from lkd.engine.trainer import Trainer
from lkd.models import fold_batchnorm
from lkd.objectives import kd_loss
from lkd.ops import depthwise_choices, depthwise_conv2d
from lkd.runs.provenance import provenance

ON_GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if ON_GPU else "cpu")
BATCH, SIDE, CLASSES, STEPS = (128, 224, 1000, 20) if ON_GPU else (4, 32, 8, 2)
TEACHER, STUDENT = ("slak_tiny", "resnet50") if ON_GPU else ("mini_slak", "mini_resnet")
STAGES = ((124, 56, 51), (249, 28, 49), (499, 14, 47), (998, 7, 13)) if ON_GPU else ((8, 16, 15), (16, 8, 13))
"""Channels, side of the map and long side of the kernel of the teacher's stages."""
KD = {"alpha": 0.5, "temperature": 1.0}


def gpu() -> None:
    """Operator, networks and distillation on this machine's GPU, as Markdown."""
    if not ON_GPU:
        print("\nno GPU: tiny sizes on the CPU, to check that the part runs")
    about = provenance()
    print(f"\n{about['hardware']}, PyTorch {torch.__version__}, lkd {about['source']}; batch {BATCH}, bf16")
    _operators()
    _networks()
    _distillation()


def _operators() -> None:
    print("\n| map | kernels | layout | `F.conv2d`, ms | lkd, ms | ratio |\n| --- | --- | --- | --- | --- | --- |")
    for channels, side, long in STAGES:
        for layout in (torch.channels_last, torch.contiguous_format):
            plain, ours = (_branches(each, channels, side, long, layout) for each in (_conv2d, depthwise_conv2d))
            name = "NHWC" if layout == torch.channels_last else "NCHW"
            kernels = f"{long} x 5, 5 x {long}, 5 x 5"
            print(
                f"| {channels} x {side} x {side} | {kernels} | {name} | {plain:.3g} | {ours:.3g} | {plain / ours:.1f} |"
            )
    print("\n| operation | map | kernel | layout | times, ms |\n| --- | --- | --- | --- | --- |")
    for case, form, times in depthwise_choices():
        shape, kernel = ("x".join(map(str, sides)) for sides in (case.shape, case.kernel))
        listed = ", ".join(f"{name} {value:.3g}{', chosen' * (name == form)}" for name, value in times.items())
        print(f"| {case.operation} | {shape} | {kernel} | {case.layout} | {listed} |")


def _branches(
    operator: Callable[..., Tensor], channels: int, side: int, long: int, layout: torch.memory_format
) -> float:
    """Milliseconds of the three branches of a block, forward and backward."""
    images = torch.randn(BATCH, channels, side, side, device=DEVICE, dtype=torch.bfloat16)
    images = images.contiguous(memory_format=layout).requires_grad_()
    kernels = ((long, 5), (5, long), (5, 5))
    weights = [torch.randn(channels, 1, *k, device=DEVICE, dtype=torch.bfloat16, requires_grad=True) for k in kernels]

    def step() -> None:
        maps = [operator(images, weight) for weight in weights]
        torch.autograd.grad(maps, [images, *weights], [images.detach()] * 3)

    return 1000 * _seconds(step)


def _conv2d(images: Tensor, weight: Tensor) -> Tensor:
    return F.conv2d(images, weight, padding=(weight.shape[2] // 2, weight.shape[3] // 2), groups=images.shape[1])


def _networks() -> None:
    print("\n| network | images/s |\n| --- | --- |")
    teacher = fold_batchnorm(_network(TEACHER).eval())
    for name, make in {
        f"`{STUDENT}`, training": lambda: _training(_network(STUDENT)),
        f"`{TEACHER}`, training": lambda: _training(_network(TEACHER)),
        f"`{TEACHER}`, training, with `F.conv2d`": lambda: _without_triton(_training(_network(TEACHER))),
        f"`{TEACHER}`, inference, folded": lambda: _inference(teacher),
        f"`{TEACHER}`, inference, folded, with `F.conv2d`": lambda: _without_triton(_inference(teacher)),
    }.items():
        print(f"| {name} | {BATCH / _seconds(make()):,.0f} |", flush=True)


def _network(name: str) -> nn.Module:
    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=CLASSES)
    return network.to(DEVICE, memory_format=torch.channels_last)


def _without_triton(step: Callable[[], None]) -> Callable[[], None]:
    """A step with `F.conv2d` for large kernels on a GPU."""

    def native() -> None:
        with mock.patch.dict(os.environ, LKD_TRITON="0"):
            step()

    return native


def _images() -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    images = torch.randn(BATCH, 3, SIDE, SIDE, generator=draw).to(DEVICE, memory_format=torch.channels_last)
    return images, torch.randint(0, CLASSES, (BATCH,), generator=draw).to(DEVICE)


def _autocast() -> torch.autocast:
    return torch.autocast(DEVICE.type, torch.bfloat16)


def _training(network: nn.Module, loss_of: Callable[[Tensor, Tensor], Tensor] | None = None) -> Callable[[], None]:
    """A training step on one batch; `loss_of` of images and labels, by default the cross-entropy."""
    images, labels = _images()
    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), 1e-4, fused=True)

    def step() -> None:
        with _autocast():
            loss = loss_of(images, labels) if loss_of else F.cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def _inference(network: nn.Module) -> Callable[[], None]:
    images, _ = _images()

    def step() -> None:
        with torch.no_grad(), _autocast():
            network(images)

    return step


def _distillation() -> None:
    print(f"\n`{TEACHER}` teaches `{STUDENT}`, KD:\n\n| loop | images/s |\n| --- | --- |")
    setup, alone = _setups()
    with tempfile.TemporaryDirectory() as folder:
        teacher = setup.frozen_teacher(None)
        assert teacher is not None
        teacher.model.to(DEVICE)
        tape = Tape.make(folder, epochs=setup.recipe.epochs, samples=STEPS * BATCH, classes=CLASSES)
        for name, make in {
            "student alone, bare PyTorch": lambda: _training(_network(STUDENT)),
            "bare PyTorch": lambda: _bare(teacher),
            "timm's `LogitDistillationTask`": lambda: _timm_task(teacher),
        }.items():
            print(f"| {name} | {BATCH / _seconds(make()):,.0f} |", flush=True)
        taped = TapedTeacher(tape, teacher)
        for name, loop in {
            "lkd": _Resident(setup, teacher),
            "lkd, student alone": _Resident(alone, None),
            "lkd, tape written": _Resident(setup, taped),
            "lkd, tape read": _Resident(setup, taped),
        }.items():
            print(f"| {name} | {BATCH * STEPS / loop.seconds():,.0f} |", flush=True)


def _bare(teacher: FrozenTeacher) -> Callable[[], None]:
    student = _network(STUDENT)

    def loss_of(images: Tensor, labels: Tensor) -> Tensor:
        with torch.no_grad():
            logits = teacher.model(images)
        return kd_loss(student(images), logits, labels, **KD)

    return _training(student, loss_of)


def _timm_task(teacher: FrozenTeacher) -> Callable[[], None]:
    student = _network(STUDENT)
    task = LogitDistillationTask(
        student, teacher.model, criterion=nn.CrossEntropyLoss(), task_loss_weight=0.5, temperature=1.0, device=DEVICE,
        verbose=False,
    )  # fmt: skip
    task.train()
    return _training(student, lambda images, labels: task(images, labels)["loss"])


def _setups() -> tuple[RunSetup, RunSetup]:
    """A run with its teacher, and the student's run alone; epochs of `STEPS` batches."""
    pixels = torch.zeros(1, 3, SIDE, SIDE, dtype=torch.uint8).expand(STEPS * BATCH, -1, -1, -1)
    train = Split(pixels, torch.arange(len(pixels)) % CLASSES)
    few = train.take(range(CLASSES))
    data = Images("zeros", tuple(map(str, range(CLASSES))), train, few, few, (0.5,) * 3, (0.25,) * 3)
    objects = {in_memory_name(each): each for each in (data, _network(TEACHER).cpu().eval())}
    names: Any = list(objects)
    taught = Recipe(
        data=names[0], student=STUDENT, teacher=names[1], objective="kd", objective_args=KD, precision="bf16",
        epochs=2, batch_size=BATCH, lr=1e-4, warmup=0.0, clip=None,
    )  # fmt: skip
    alone = dataclasses.replace(taught, teacher=None, objective="label", objective_args={})
    return RunSetup(taught, objects), RunSetup(alone, objects)


class _Resident(Trainer):
    """lkd's training loop with one batch that lies on the device, without evaluation and checkpoints."""

    def __init__(self, setup: RunSetup, teacher: Teacher | None):
        options = Options(channels_last=True, checkpoint_seconds=1e9)
        super().__init__(setup, teacher, make_accelerator(setup.recipe.precision), options)
        self.ready = _images()

    def seconds(self) -> float:
        """Seconds of the second epoch."""
        times = []
        for epochs in (1, 2):
            self.recipe = dataclasses.replace(self.setup.recipe, epochs=epochs)
            _wait()
            start = time.perf_counter()
            self.run(lambda images: None, Checkpoints(tempfile.gettempdir()))
            _wait()
            times.append(time.perf_counter() - start)
        return times[-1]

    def metrics(self, name: str, split: Split) -> dict[str, float]:
        return {}

    def _batches(self) -> Iterator[Batch]:
        for step in range(STEPS):
            yield Batch(*self.ready, torch.arange(step * BATCH, (step + 1) * BATCH))


def _seconds(step: Callable[[], object]) -> float:
    """Median of five groups of steps, each group timed as a whole: the host may run ahead of the device."""
    times = []
    for _ in range(6):
        _wait()
        start = time.perf_counter()
        for _ in range(STEPS // 2):
            step()
        _wait()
        times.append((time.perf_counter() - start) / (STEPS // 2))
    return statistics.median(times[1:])


def _wait() -> None:
    if ON_GPU:
        torch.cuda.synchronize()
