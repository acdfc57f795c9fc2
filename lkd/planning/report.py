"""The report of a plan: sentences, a table and JSON."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd
import torch

from lkd.planning.gpus import GPUS
from lkd.planning.timing import Duration
from lkd.planning.work import Work
from lkd.tables import Table

_UNKNOWN = "unknown, as the size of the data is"
_BUSY = 0.8
"""Share of a CPU below which other programs must have been running."""

_UNITS = {
    "MiB": [("TiB", 2.0**20), ("GiB", 2.0**10), ("MiB", 1.0)],
    "TFLOP": [("EFLOP", 1e6), ("PFLOP", 1e3), ("TFLOP", 1.0), ("GFLOP", 1e-3)],
}
"""Units in which a plan's figures are shown, by the unit in which it has them."""


@dataclass(frozen=True)
class Plan:
    """Remaining jobs of studies, with work, time, memory and disk space; shown as a table in notebooks.

    Args:
        runs: one row per run, teachers included: its id, student, teacher, settings, and whether the store has it.
        frame: one row per kind of job, runs and tapes: number of jobs, number of remaining jobs, and their steps,
            images, TFLOP, hours in one process on this device, disk space, and memory of one process.
        work: remaining work; None if the size of the data is unknown.
        workers: number of parallel processes on this device.
        duration: remaining time on this device; None if not timed.
        gpu, utilisation, gpus: the GPU of the estimated hours, the share of its peak rate, and the number of GPUs.
        disk: bytes of runs, of checkpoints of concurrent runs and of tapes, and free bytes.
        missing: missing things, each with its remedy.
        notes: caveats, one sentence each.
    """

    title: str
    runs: pd.DataFrame
    frame: pd.DataFrame
    work: Work | None
    workers: int
    duration: Duration | None
    gpu: str
    utilisation: float
    gpus: int
    disk: Mapping[str, int | None]
    missing: tuple[str, ...]
    notes: tuple[str, ...]

    @cached_property
    def counts(self) -> dict[str, int]:
        """Number of runs: in total, by role, stored, and remaining; and number of remaining tapes."""
        roles, stored = self.runs.role.tolist(), int(self.runs.stored.sum())
        by_role = {"teachers": roles.count("teacher"), **{name: roles.count(name) for name in ("alone", "distilled")}}
        tapes = int(self.frame[self.frame.role == "tape"].left.sum())
        return {"runs": len(roles), **by_role, "stored": stored, "left": len(roles) - stored, "tapes": tapes}

    @property
    def hours(self) -> float | None:
        """Hours on this device with all workers; None if not timed."""
        return self.duration.seconds / 3600 if self.duration else None

    @property
    def gpu_hours(self) -> float | None:
        """Estimated hours on the plan's GPUs; None if the size of the data is unknown."""
        return self.hours_on(self.gpu)

    def hours_on(self, gpu: str) -> float | None:
        """Estimated hours on another kind of GPU; see `lkd.planning.Work.hours_on`."""
        return self.work.hours_on(gpu, self.utilisation, self.gpus) if self.work else None

    @property
    def table(self) -> Table:
        """The table of jobs, as a chapter shows it."""
        return Table(_readable(self.frame), "plan", " ".join(self.sentences()))

    def to_dict(self) -> dict[str, Any]:
        """All figures as plain values, None if unknown."""
        work, duration = self.work, self.duration
        return {
            "title": self.title,
            "counts": self.counts,
            "steps": work and work.steps,
            "images": work and work.images,
            "flops": work and work.flops,
            "this_device": {
                "hours": self.hours,
                "workers": self.workers,
                "timed_batches": duration and {str(whole): few for whole, few in duration.batches.items()},
                "cpu_share": duration and duration.share,
            },
            "gpu": {"name": self.gpu, "utilisation": self.utilisation, "gpus": self.gpus, "hours": self.gpu_hours},
            "disk_bytes": dict(self.disk),
            "missing": list(self.missing),
            "notes": list(self.notes),
            "jobs": json.loads(self.frame.to_json(orient="records", double_precision=15)),
        }

    def sentences(self) -> Iterator[str]:
        """Yield the report, one sentence or two per subject."""
        runs = (
            "{runs} runs ({teachers} teachers, {alone} baselines, {distilled} distilled), {stored} of them in the "
            "store. Remaining: {left} runs and {tapes} tapes."
        )
        yield f"{self.title}: {runs.format(**self.counts)}"
        yield from (self._work(), self._this_device(), self._gpu(), self._memory())
        sizes = {name: "unknown" if size is None else amount(size / 2**20, "MiB") for name, size in self.disk.items()}
        disk = "{runs} for runs, {checkpoints} for checkpoints of concurrent runs, {tapes} for tapes; {free} free."
        yield f"Disk: {disk.format(**sizes)}"
        yield from self.notes
        yield from (f"Missing: {lack}." for lack in self.missing)

    def _work(self) -> str:
        if not self.work:
            return f"Work: {_UNKNOWN}."
        return (
            f"Work: {self.work.steps:,} steps, {self.work.images:,} images, {amount(self.work.flops / 1e12, 'TFLOP')} "
            "(two per multiply-accumulate; forward and backward count as three passes)."
        )

    def _this_device(self) -> str:
        if self.duration is None or self.hours is None:
            return "On this device: not timed."
        text = f"On this device: about {_time(self.hours)} with {self.workers} workers, from a short measurement."
        smaller = [f"{few} images instead of {batch}" for batch, few in self.duration.batches.items() if few < batch]
        if smaller:
            text += f" Timed with batches of {', '.join(smaller)}."
        if self.duration.share < _BUSY and not torch.cuda.is_available():
            text += (
                f" Each process had {self.duration.share:.0%} of a CPU during timing; on an idle machine it would take "
                f"about {_time(self.hours * self.duration.share)}."
            )
        return text

    def _gpu(self) -> str:
        if self.gpu_hours is None:
            return f"On a GPU: {_UNKNOWN}."
        gpus = f"{self.gpus} x {GPUS[self.gpu].name}" if self.gpus > 1 else GPUS[self.gpu].name
        return (
            f"On {gpus}: {_time(self.gpu_hours)} at {self.utilisation:.0%} of the peak rate; small networks reach "
            "less, and reading images may take longer."
        )

    def _memory(self) -> str:
        most = self.frame["memory MiB"].max()
        if pd.isna(most):
            return f"Memory: {_UNKNOWN}."
        over = most > 1024 * GPUS[self.gpu].gigabytes
        remedy = f", more than {GPUS[self.gpu].name} has: raise accumulation or the number of GPUs" if over else ""
        return (
            f"Memory: up to {amount(most, 'MiB')} per process for weights, gradients, optimizer and activations, "
            f"without Python, PyTorch and images in memory{remedy}."
        )

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        return self.table._repr_mimebundle_(include, exclude)

    def __str__(self) -> str:
        return "\n".join((*self.sentences(), "", to_text(self.frame)))


def to_text(frame: pd.DataFrame) -> str:
    """A table as text."""
    return readable(frame).to_string(index=False)


def readable(frame: pd.DataFrame) -> pd.DataFrame:
    """A table of texts: no empty column, readable units, rounded numbers, and a dash for missing values."""
    return _readable(frame).map(lambda cell: (cell or "–") if isinstance(cell, str) else _number(cell))


def _readable(frame: pd.DataFrame) -> pd.DataFrame:
    """A table without empty columns, and figures in a unit that suits the largest of the column."""
    table = frame.loc[:, (frame.notna() & (frame != "")).any()]
    for name in table:
        unit = name.split()[-1]
        if unit in _UNITS:
            larger, factor = _unit(table[name].max(), unit)
            table = table.assign(**{name: table[name] / factor}).rename(columns={name: name.replace(unit, larger)})
    return table


def _unit(value: float, unit: str) -> tuple[str, float]:
    """The largest unit that is not above a value, and its size; the smallest unit for smaller values."""
    return next((each for each in _UNITS[unit] if each[1] <= value), _UNITS[unit][-1])


def amount(value: float, unit: str) -> str:
    """A value with a unit in which it reads well."""
    larger, factor = _unit(value, unit)
    return f"{_number(value / factor)} {larger}"


def _number(value: float) -> str:
    """A number with three digits, or with all of those before the point; a dash if it is missing."""
    if pd.isna(value):
        return "–"
    return f"{value:,.0f}" if value == int(value) or value >= 999.5 else f"{value:,.3g}"


def _time(hours: float) -> str:
    """Hours in a readable unit."""
    if hours < 1 / 30:
        return f"{3600 * hours:.0f} s" if 3600 * hours >= 1 else "less than 1 s"
    return f"{60 * hours:.1f} min" if hours < 2 else f"{hours:,.1f} h"
