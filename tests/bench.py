"""Speed, each figure beside a named alternative in the same run: `make bench`.

Medians of several repetitions, alternating between the alternatives, on one thread.
"""

import statistics
import tempfile
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F

import lkd
from lkd.engine.run import record_tape
from lkd.ops import depthwise_conv2d
from lkd.store import Store

BATCH, REPEATS = 64, 7
SHAPES = [(24, 16, 15, 5), (24, 16, 5, 15), (24, 16, 5, 5), (48, 8, 13, 5), (96, 4, 7, 5), (24, 16, 7, 7)]


def milliseconds(*alternatives: Callable[[], object], repeats: int = REPEATS) -> list[float]:
    """Median time of each alternative, taken in turns after one round to warm up."""
    times: list[list[float]] = [[] for _ in alternatives]
    for _ in range(repeats + 1):
        for run, taken in zip(alternatives, times, strict=True):
            start = time.perf_counter()
            run()
            taken.append(1e3 * (time.perf_counter() - start))
    return [statistics.median(taken[1:]) for taken in times]


def depthwise() -> None:
    """Forward and backward pass of the operator against F.conv2d."""
    print(f"\ndepthwise_conv2d, forward + backward, batch {BATCH}, float32: ms, against F.conv2d(groups=C)")
    for channels, side, height, width in SHAPES:
        images = torch.randn(BATCH, channels, side, side, requires_grad=True)
        weight = torch.randn(channels, 1, height, width, requires_grad=True)
        padding = (height // 2, width // 2)
        ours, theirs = milliseconds(
            lambda x=images, w=weight: depthwise_conv2d(x, w).sum().backward(),
            lambda x=images, w=weight, p=padding: F.conv2d(x, w, padding=p, groups=len(w)).sum().backward(),
        )
        print(f"  {height:2} x {width:2} on {side:2} px: {ours:6.2f}  {theirs:6.2f}  {theirs / ours:5.1f} x as fast")


def distillation() -> None:
    """A student's training with its teacher run live, with the teacher's tape, and without any teacher."""
    store = Store(tempfile.mkdtemp())
    teacher = lkd.Recipe(data="digits", student="mini_slak")
    taught = lkd.Recipe(data="digits", student="mini_resnet", teacher=teacher, objective="kd", epochs=2)
    taped = lkd.Recipe(data="digits", student="mini_resnet", teacher=teacher, objective="kd", epochs=2, seed=1)
    alone = lkd.Recipe(data="digits", student="mini_resnet", epochs=2)
    lkd.run(teacher, store=store)
    record_tape(taped, store)
    live, read, none = milliseconds(
        *(lambda r=recipe: lkd.run(r, store=store, resume=False) for recipe in (taught, taped, alone)), repeats=3
    )
    print("\nmini_slak -> mini_resnet, 2 epochs of 1,280 digits with evaluation: s, against the student alone")
    for name, value in (("teacher live", live), ("teacher's tape", read), ("student alone", none)):
        print(f"  {name:15} {value / 1e3:6.2f}  {none / value:5.2f} x as fast")


if __name__ == "__main__":
    torch.set_num_threads(1)
    depthwise()
    distillation()
