"""Speed, each figure beside a named alternative in the same run: `make bench`.

Medians of several repetitions, the alternatives taken in turns; all of them with `keep_freed_memory`, as in lkd's own
runs. `make bench PARTS="ops models"` measures parts of it; `make bench SLAK=folder` also measures the authors' own
SLaK and its training, from a checkout of github.com/VITA-Group/SLaK, with `nn.Conv2d` in place of its CUDA extension.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import lkd
from lkd import Recipe
from lkd.data import accounted
from lkd.engine.accelerators import make_accelerator
from lkd.engine.malloc import keep_freed_memory
from lkd.engine.run import execute
from lkd.engine.setup import RunSetup
from lkd.engine.teacher_check import _checks, check_teacher
from lkd.engine.trial_step import trial_step
from lkd.models import fold_batchnorm
from lkd.ops import depthwise_conv2d, fast_depthwise
from lkd.profiles import Profile
from lkd.runs.manifest import write_manifest
from lkd.runs.store import Store
from lkd.study.chapters import STUDIES
from lkd.study.grid import unique

sys.path.insert(0, str(Path(__file__).parent))
import bench_distillation
from bench_gpu import gpu
from models.authors_slak import authors_slak
from models.plain_slak import plain_slak
from short_runs import RECIPE, saved

MINI = [(24, 16, (15, 5)), (24, 16, (5, 15)), (24, 16, (5, 5)), (48, 8, (13, 5)), (96, 4, (7, 5)), (24, 16, (7, 7))]
LARGE = [
    (channels, side, kernel)
    for channels, side, k in ((124, 56, 51), (249, 28, 49), (499, 14, 47), (998, 7, 13))
    for kernel in ((k, 5), (5, k), (5, 5))
] + [(64, 56, (31, 31)), (128, 28, (29, 29)), (96, 56, (7, 7)), (384, 14, (7, 7))]


def seconds(*alternatives: Callable[[], object], repeats: int = 5) -> list[float]:
    """Median time of each alternative, taken in turns; each turn begins with a run that is not counted."""
    times: list[list[float]] = [[] for _ in alternatives]
    for _ in range(repeats):
        for run, taken in zip(alternatives, times, strict=True):
            run()
            start = time.perf_counter()
            run()
            taken.append(time.perf_counter() - start)
    return [statistics.median(taken) for taken in times]


def ops() -> None:
    """The operator, forward and with its backward pass, against F.conv2d, in both memory formats."""
    for threads, batch, shapes in ((1, 64, MINI), (2, 4, LARGE)):
        torch.set_num_threads(threads)
        print(f"\ndepthwise_conv2d on {threads} thread(s), batch {batch}, float32: ms, against F.conv2d(groups=C)")
        print("  C, kernel, map                       forward              forward + backward")
        for channels, side, kernel in shapes:
            for layout in (torch.contiguous_format, torch.channels_last):
                _operator(batch, channels, side, kernel, layout)


def _operator(batch: int, channels: int, side: int, kernel: tuple[int, int], layout: torch.memory_format) -> None:
    images = torch.randn(batch, channels, side, side).contiguous(memory_format=layout).requires_grad_()
    weight = torch.randn(channels, 1, *kernel, requires_grad=True)
    direction = torch.randn_like(images)

    def plain(x: Tensor, w: Tensor) -> Tensor:
        return F.conv2d(x, w, padding=(kernel[0] // 2, kernel[1] // 2), groups=channels)

    forward = [lambda op=op: op(images.detach(), weight.detach()) for op in (depthwise_conv2d, plain)]
    both = [lambda op=op: op(images, weight).backward(direction) for op in (depthwise_conv2d, plain)]
    memory = "NHWC" if layout == torch.channels_last else "NCHW"
    columns = [1e3 * value for run in (forward, both) for value in seconds(*run, repeats=3)]
    figures = "   ".join(_against(ours, theirs) for ours, theirs in (columns[:2], columns[2:]))
    print(f"  {channels:3}  {kernel[0]:2} x {kernel[1]:2}  {side:2} px  {memory}   {figures}", flush=True)


def _against(ours: float, theirs: float) -> str:
    return f"{ours:8.2f} {theirs:8.2f} {theirs / ours:6.1f} x"


Net = tuple[Callable[[Tensor, bool], Tensor], list[Tensor]]
"""Images and whether to train, to logits; and the parameters."""


def models() -> None:
    """SLaK-T at 224 pixels against its plain construction: a training step, and inference."""
    torch.set_num_threads(2)
    ours = timm.create_model("slak_tiny")
    nets = {"lkd": _module(ours), "plain PyTorch": _plain(ours)}
    if OPTIONS.slak:
        nets["the authors' code"] = _module(authors_slak(OPTIONS.slak))
    folded = {"lkd folded": _module(fold_batchnorm(ours)), **nets}
    for batch in (4, 8):
        images = torch.randn(batch, 3, 224, 224)
        steps = [lambda net=net, x=images: _step(net, x) for net in nets.values()]
        _table(f"slak_tiny, training step, batch {batch}", list(nets), seconds(*steps, repeats=OPTIONS.repeats))
        with torch.no_grad():
            runs = [lambda net=net, x=images: net[0](x, False) for net in folded.values()]
            _table(f"slak_tiny, inference, batch {batch}", list(folded), seconds(*runs, repeats=OPTIONS.repeats))


def _step(net: Net, images: Tensor) -> None:
    """Forward and backward pass; gradients are new, as after `zero_grad`."""
    loss = F.cross_entropy(net[0](images, True), torch.arange(len(images)))
    torch.autograd.grad(loss, net[1])


def _module(model: nn.Module) -> Net:
    return lambda images, training: model.train(training)(images), list(model.parameters())


def _plain(model: nn.Module) -> Net:
    weights = {name: value.detach().clone() for name, value in model.state_dict().items()}
    parameters = [weights[name].requires_grad_() for name, _ in model.named_parameters()]
    return lambda images, training: plain_slak(weights, images, training), parameters


def _table(title: str, names: list[str], times: list[float]) -> None:
    """Times, and the first one's speed against each other."""
    print(f"\n{title}, 224 px, float32, {torch.get_num_threads()} thread(s): s, and {names[0]} against it")
    for name, value in zip(names, times, strict=True):
        print(f"  {name:20} {value:7.3f}  {value / times[0]:5.2f} x", flush=True)


def timm_models() -> None:
    """A training step of timm's ConvNeXt with the operator, against without."""
    torch.set_num_threads(2)
    fast, plain = fast_depthwise(timm.create_model("convnext_tiny")), timm.create_model("convnext_tiny")
    images = torch.randn(8, 3, 224, 224)
    steps = [lambda net=net: _step(net, images) for net in (_module(fast), _module(plain))]
    times = seconds(*steps, repeats=OPTIONS.repeats)
    _table("timm's convnext_tiny, training step, batch 8", ["fast_depthwise", "as timm makes it"], times)


def mini_distillation() -> None:
    """A training epoch of a mini pair, lkd's loop against others'."""
    bench_distillation.mini(OPTIONS)


def real_distillation() -> None:
    """A training epoch of the paper's pair at 224 pixels, lkd's loop against others'."""
    bench_distillation.real(OPTIONS)


def checks() -> None:
    """What is checked before and beside training, against a distilled run of `small` whose teacher is trained."""
    torch.set_num_threads(1)
    profile = Profile.load("small")
    recipe = profile.student_recipe("mini_resnet", teacher=profile.teacher_recipe("mini_slak"), objective="nkd")
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(action="ignore"):
        store = Store(folder)
        assert isinstance(recipe.teacher, Recipe)
        teacher = lkd.train("mini_slak", data=recipe.data, profile="small", epochs=1, train_images=64, store=store)
        store.save(recipe.teacher, teacher.student, {"in_chans": 1, "num_classes": 10}, {}, pd.DataFrame(), {})
        setting, accelerator = RunSetup(recipe, {}), make_accelerator("no")
        live = setting.frozen_teacher(teacher.student)
        assert live
        parts = {
            "a whole run": lambda: _checks.clear() or execute(recipe, store, {}, resume=False),
            "evaluation of the teacher, once a process": lambda: (
                _checks.clear() or check_teacher(setting, live, accelerator)
            ),
            "comparison of folded outputs": lambda: setting.frozen_teacher(teacher.student),
            "a rehearsed step, before a teacher is trained": lambda: trial_step(setting),
            "the account of the data, own code": lambda: (accounted(setting.data), recipe.check_current()),
        }
        times = seconds(*parts.values(), repeats=OPTIONS.repeats)
    print("\nchecks of a distilled run of `small`, 1 thread: s, and share of the run")
    for name, value in zip(parts, times, strict=True):
        print(f"  {name:48} {value:8.3f}  {100 * value / times[0]:6.2f} %", flush=True)


def store() -> None:
    """Commands on a store of 2,000 runs, against `lkd --help`, which imports no more than the command line."""
    with tempfile.TemporaryDirectory() as folder:
        home = Store(folder)
        _fill(home, 2000)
        run_id = next((home.folder / "runs").iterdir()).name
        commands = ("--help", "store list", f"store show {run_id}", "store prune", "claims", "claims, once more")
        times = [_command(words.partition(",")[0], home) for words in commands]
    print("\ncommands on a store of 2,000 runs, 1 thread: s, and against `lkd --help`")
    for name, value in zip(commands, times, strict=True):
        print(f"  lkd {name:32} {value:8.2f}  {value / times[0]:6.1f} x", flush=True)


def _fill(home: Store, count: int) -> None:
    """Put runs that were never trained into a store: those of the profile `small`, and one run under other seeds."""
    made = saved(home)
    asked = [recipe for study in STUDIES.values() for recipe in study("small").recipes]
    for recipe in unique([*asked, *(replace(RECIPE, seed=seed) for seed in range(1, count))])[: count - 1]:
        folder = shutil.copytree(made, home.path(recipe))
        (folder / "recipe.json").write_text(json.dumps(recipe.to_dict()))
        write_manifest(folder, recipe.run_id)


def _command(words: str, home: Store) -> float:
    """Seconds of a command in a process of its own; the fastest of some, but `claims` keeps its verdicts: one."""
    environment = {**os.environ, "LKD_HOME": str(home.folder), "OMP_NUM_THREADS": "1"}
    times = []
    for _ in range(1 if words == "claims" else OPTIONS.repeats):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "lkd", *words.split()], env=environment, check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    return min(times)


PARTS = {
    part.__name__: part for part in (ops, models, timm_models, mini_distillation, real_distillation, checks, store, gpu)
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], help="what to measure; all by default")
    parser.add_argument("--repeats", type=int, default=3, help="of each step of a large model, or epoch of a pair")
    parser.add_argument("--steps", type=int, default=6, help="of an epoch of the real pair")
    parser.add_argument("--profile", action="store_true", help="where lkd's distillation spends its time")
    parser.add_argument("--slak", help="a checkout of github.com/VITA-Group/SLaK, to be measured too")
    OPTIONS = parser.parse_args()
    keep_freed_memory()
    for part in OPTIONS.parts or PARTS:
        PARTS[part]()
