"""Accuracy, size and measured latency of networks, and those that no other network beats."""

import json
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import timm
import torch
from torch import nn

from lkd.engine import evaluate
from lkd.export.onnx_file import write_onnx
from lkd.export.onnx_model import OnnxModel
from lkd.export.subject import data_record
from lkd.models import load_model
from lkd.models.copying import copy_to_cpu
from lkd.models.cost import cost, median_seconds
from lkd.models.inference import set_eval_mode
from lkd.runs.resolve import load_with_data, resolve
from lkd.runs.store import Run, Store
from lkd.util.checks import check_list, check_whole
from lkd.util.progress import progress_bar
from lkd.util.temporary import temporary_folder

COLUMNS = ("model", "data", "top1", "parameters", "macs", "runtime", "batch", "ms", "threads", "frontier")


class _Candidate(NamedTuple):
    """A network to measure: its label, the data of its accuracy, its accuracy, itself, and the shape of its images."""

    label: str
    data: str | None
    top1: float | None
    model: nn.Module
    shape: tuple[int, ...]
    structure: str


def pareto(
    models: Sequence[Run | str],
    *,
    data: str | None = None,
    batches: Sequence[int] = (1, 32),
    threads: int = 1,
    repeats: int = 10,
) -> pd.DataFrame:
    """Measure accuracy, parameters, multiply-accumulates and latency of networks on this machine's CPU.

    The latency of a batch is the median of `repeats` after a warm-up, in PyTorch (eager) and, if the extra `onnx` is
    installed, in ONNX Runtime. Networks of one structure are measured once. A network is on the frontier of a runtime
    and batch if no other is at least as accurate and as fast, and better in one of the two.

    Args:
        models: runs, ids of runs, folders written by `lkd.models.save_model`, or timm names.
        data: data set for the accuracy of folders and of timm's pretrained weights; without it, timm names have random
            weights and no accuracy. Runs have the accuracy of their record.
        batches: numbers of images in a batch.
        threads: CPU threads.
        repeats: number of timed batches.

    Returns:
        One row for each model, runtime and batch, with the columns `model`, `data`, `top1` (percent; NaN if unknown),
        `parameters`, `macs` of an image, `runtime`, `batch`, `ms` of a batch, `threads` and `frontier`.

    Raises:
        FileNotFoundError, KeyError: an unknown model or data set.
        TypeError, ValueError: an argument of another type or out of range; accuracies on different data sets.

    Example:
        >>> from lkd.export import pareto
        >>> table = pareto(["mini_resnet"], batches=[1], repeats=1)
        >>> table.model[0], table.runtime[0]
        ('mini_resnet', 'PyTorch')
    """
    check_list("models", models, (str, Run))
    check_list("batches", batches, int)
    for name, value in (("threads", threads), ("repeats", repeats), ("batches", min(batches))):
        check_whole(name, value, 1)
    candidates = [_candidate(each, data) for each in models]
    _check_comparable(candidates)
    measured: dict[str, list[dict[str, Any]]] = {}
    rows = []
    with progress_bar(len(candidates)) as bar:
        for each in candidates:
            bar.set_description_str(each.label)
            if each.structure not in measured:
                measured[each.structure] = list(_measured(each, batches, threads, repeats))
            own = {"model": each.label, "data": each.data, "top1": each.top1, "threads": threads}
            rows += [own | row for row in measured[each.structure]]
            bar.update(1)
    table = pd.DataFrame(rows).astype({"top1": float})
    return table.assign(frontier=on_frontier(table))[list(COLUMNS)]


def on_frontier(table: pd.DataFrame) -> pd.Series:
    """Whether a row has no other of its runtime and batch that is as accurate and as fast, and better in one of them.

    Args:
        table: with the columns `runtime`, `batch`, `ms` and `top1`; a row without accuracy is not on the frontier.

    Example:
        >>> import pandas as pd
        >>> from lkd.export.latency import on_frontier
        >>> rows = {"runtime": "PyTorch", "batch": 1, "ms": [1.0, 2.0, 3.0], "top1": [90.0, 95.0, 94.0]}
        >>> on_frontier(pd.DataFrame(rows)).tolist()
        [True, True, False]
    """
    found = pd.Series(False, index=table.index)
    for _, rows in table.groupby(["runtime", "batch"]):
        for index, row in rows.iterrows():
            better = (rows.ms < row.ms) | (rows.top1 > row.top1)
            beaten = (rows.ms <= row.ms) & (rows.top1 >= row.top1) & better
            found[index] = pd.notna(row.top1) and not beaten.any()
    return found


def _candidate(given: Run | str, data: str | None) -> _Candidate:
    resolved = resolve(given, Store()) if isinstance(given, str) else given
    if isinstance(resolved, Run):
        return _of_run(resolved, data)
    if data is not None:
        chosen = load_with_data(str(given), Store(), data)
        shape = (chosen.data.channels, *chosen.data.size)
        top1 = evaluate(chosen.model, chosen.data, chosen.data.test)["top1"]
        return _Candidate(str(given), data, top1, chosen.model, shape, f"{given}{shape}")
    model: Any = load_model(resolved) if isinstance(resolved, Path) else timm.create_model(resolved)
    shape = tuple(timm.data.resolve_data_config(model=model)["input_size"])
    return _Candidate(str(given), None, None, model, shape, f"{given}{shape}")


def _of_run(run: Run, data: str | None) -> _Candidate:
    recipe = run.recipe
    if data not in (None, recipe.data):
        raise ValueError(
            f"data is {data!r}, but run {recipe.run_id} was tested on {recipe.data!r}: leave data out, or leave out "
            "the run"
        )
    about = data_record(run)
    shape, classes = tuple(about["size"]), len(about["classes"])
    structure = f"{recipe.student} {json.dumps(recipe.student_args)} {shape} {classes}"
    label = f"{recipe.student} ({recipe.run_id[:8]})"
    return _Candidate(label, recipe.data, run.metrics["test_top1"], run.student, shape, structure)


def _check_comparable(candidates: list[_Candidate]) -> None:
    labels = [each.label for each in candidates]
    if repeated := next((label for label in labels if labels.count(label) > 1), None):
        raise ValueError(f"models names {repeated} twice: leave one of them out")
    tested = {each.data: each.label for each in candidates if each.data is not None}
    if len(tested) > 1:
        (one, first), (other, second), *_ = tested.items()
        raise ValueError(
            f"accuracies on different data cannot be compared: {first} was tested on {one}, {second} on {other}: give "
            "models of one data set"
        )


def _measured(each: _Candidate, batches: Sequence[int], threads: int, repeats: int) -> Iterator[dict[str, Any]]:
    model = set_eval_mode(copy_to_cpu(each.model, each.label))
    channels, height, width = each.shape
    counted = cost(model, channels, (height, width))
    size = {"parameters": counted.parameters, "macs": counted.macs}
    runtimes: dict[str, nn.Module] = {"PyTorch": model}
    with temporary_folder() as folder:
        if all(map(find_spec, ("onnx", "onnxscript", "onnxruntime"))):
            write_onnx(each.label, model, torch.zeros(2, *each.shape), folder / "model.onnx", {})
            runtimes["ONNX Runtime"] = OnnxModel(folder / "model.onnx", threads)
        for runtime, network in runtimes.items():
            for batch in batches:
                images = torch.zeros(batch, *each.shape)
                with torch.no_grad():
                    seconds = median_seconds(lambda n=network, x=images: n(x), repeats, threads)  # type: ignore[misc]
                yield size | {"runtime": runtime, "batch": batch, "ms": 1000 * seconds}
