"""A plan as people and programs read it: in words, as a table, as JSON."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd
import torch

from lkd.planning.duration import Duration
from lkd.planning.gpus import GPUS
from lkd.planning.work import Work
from lkd.tables import Table

_UNKNOWN = "not known, as the size of the data is not"
_ROLES = {"teachers": "teacher", "alone": "alone", "distilled": "distilled"}
_COUNTED = ("jobs", "left", "steps", "images", "pixels", "batch")
_MIB = 2**20
_ALONE = 0.8
"""Share of a CPU below which a process was not alone on it."""


@dataclass(frozen=True)
class Plan:
    """What studies ask for, and what is left to do. The last word of a notebook's cell, it is shown as a table.

    Args:
        title: what is planned.
        runs: one row a run that is asked for, teachers too: its id, who learns from whom and how, and whether the store
            has it.
        frame: one row for each kind of job, runs and tapes: how many are asked for and left, and of those left the
            steps, images, TFLOP, hours of work by a process of this device, and disk; memory is that of one process.
        work: of what is left; None where the size of the data is not known.
        workers: processes side by side on this device.
        duration: on this device; None where nothing was timed.
        gpu, utilisation, gpus: which GPUs hours are estimated for, at which share of their peak, how many.
        disk: bytes for runs, for checkpoints of those in training, for tapes, and free ones.
        missing: what is not at hand, each with its remedy.
        notes: what figures leave out, a sentence each.
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
        """Numbers of runs asked for, by role, of those that the store has, of those left, and of tapes to be made."""
        by_role = {name: int((self.runs.role == role).sum()) for name, role in _ROLES.items()}
        stored = int(self.runs.stored.sum())
        tapes = int(self.frame[self.frame.role == "tape"].left.sum())
        return {"runs": len(self.runs), **by_role, "stored": stored, "left": len(self.runs) - stored, "tapes": tapes}

    @property
    def hours(self) -> float | None:
        """On this device, side by side; None where nothing was timed."""
        return self.duration.seconds / 3600 if self.duration else None

    @property
    def gpu_hours(self) -> float | None:
        """On the named GPUs; None where the size of the data is not known."""
        return self.hours_on(self.gpu)

    def hours_on(self, gpu: str) -> float | None:
        """Hours that what is left takes on a named GPU; see `lkd.planning.Work.hours_on`."""
        return self.work.hours_on(gpu, self.utilisation, self.gpus) if self.work else None

    @property
    def table(self) -> Table:
        """The kinds of jobs, as a chapter shows them."""
        return Table(self.frame, "plan", " ".join(self.sentences()))

    def to_dict(self) -> dict[str, Any]:
        """All figures as plain values, None for what is not known."""
        work = self.work
        return {
            "title": self.title,
            "counts": self.counts,
            "steps": work and work.steps,
            "images": work and work.images,
            "flops": work and work.flops,
            "this_device": {
                "hours": self.hours,
                "workers": self.workers,
                "timed_batches": self.duration and {str(whole): few for whole, few in self.duration.batches.items()},
                "cpu_share": self.duration and self.duration.share,
            },
            "gpu": {"name": self.gpu, "utilisation": self.utilisation, "gpus": self.gpus, "hours": self.gpu_hours},
            "disk_bytes": dict(self.disk),
            "missing": list(self.missing),
            "notes": list(self.notes),
            "jobs": json.loads(self.frame.to_json(orient="records", double_precision=15)),
        }

    def sentences(self) -> Iterator[str]:
        """What the plan says, a sentence a subject."""
        yield from (self._asked(), self._work(), self._here(), self._there(), self._memory(), self._disk())
        yield from self.notes
        yield from (f"Missing: {lack}." for lack in self.missing)

    def _asked(self) -> str:
        told = (
            "{runs} runs ({teachers} teachers, {alone} students alone, {distilled} distilled), of which the store has "
            "{stored}; {left} are left to do, and {tapes} tapes."
        )
        return f"{self.title}: {told.format(**self.counts)}"

    def _work(self) -> str:
        if self.work is None:
            return f"Work: {_UNKNOWN}."
        return (
            f"Work: {self.work.steps:,} steps, {self.work.images:,} images, {_short(self.work.flops)}FLOP "
            "(two for each multiply-accumulate; forward and backward are three passes)."
        )

    def _here(self) -> str:
        if self.duration is None or self.hours is None:
            return "On this device: not timed."
        smaller = [f"{few} images instead of {batch}" for batch, few in self.duration.batches.items() if few < batch]
        told = f" Timed with batches of {', '.join(smaller)}." if smaller else ""
        if self.duration.share < _ALONE and not torch.cuda.is_available():
            told += (
                f" Meanwhile each had {self.duration.share:.0%} of a CPU; left alone they would take about "
                f"{_time(self.hours * self.duration.share)}."
            )
        return f"On this device: about {_time(self.hours)} by {self.workers} workers, from a short measurement.{told}"

    def _there(self) -> str:
        if self.gpu_hours is None:
            return f"On a GPU: {_UNKNOWN}."
        gpus = f"{self.gpus} x {GPUS[self.gpu].name}" if self.gpus > 1 else GPUS[self.gpu].name
        return (
            f"On {gpus}: {_time(self.gpu_hours)}, if {self.utilisation:.0%} of the peak are reached; small networks do "
            "not reach that, and reading images may take longer."
        )

    def _memory(self) -> str:
        most = self.frame["memory MiB"].max()
        if pd.isna(most):
            return f"Memory: {_UNKNOWN}."
        over = most > 1024 * GPUS[self.gpu].gigabytes
        remedy = f", more than {GPUS[self.gpu].name} has: raise accumulation or the number of GPUs" if over else ""
        return (
            f"Memory: up to {most:,.0f} MiB a process for weights, gradients, optimizer and activations, besides what "
            f"Python, PyTorch and images in memory take{remedy}."
        )

    def _disk(self) -> str:
        sizes = {name: "unknown" if size is None else f"{size / _MIB:,.0f} MiB" for name, size in self.disk.items()}
        told = (
            "Disk: {runs} for runs, {checkpoints} for checkpoints of those in training, {tapes} for tapes; {free} free."
        )
        return told.format(**sizes)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        return self.table._repr_mimebundle_(include, exclude)

    def __str__(self) -> str:
        return "\n".join((*self.sentences(), "", plain(self.frame)))


def plain(frame: pd.DataFrame) -> str:
    """A table in text."""
    return shown(frame).to_string(index=False)


def shown(frame: pd.DataFrame) -> pd.DataFrame:
    """A table whose entries are texts: numbers rounded, a dash for what is not known."""
    return frame.apply(lambda column: column.map(lambda value: _cell(value, column.name in _COUNTED)))


def _cell(value: Any, whole: bool) -> str:
    if isinstance(value, str):
        return value or "–"
    if pd.isna(value):
        return "–"
    return f"{value:,.0f}" if whole or value == int(value) else f"{value:,.3g}" if value < 1000 else f"{value:,.0f}"


def _short(number: float) -> str:
    """A number with a unit's prefix, up to peta."""
    for prefix in ("", "k", "M", "G", "T"):
        if number < 1000:
            return f"{number:.3g} {prefix}"
        number /= 1000
    return f"{number:,.3g} P" if number < 1000 else f"{number:,.0f} P"


def _time(hours: float) -> str:
    """Hours in the unit that reads best."""
    if hours < 1 / 30:
        return f"{3600 * hours:.0f} s" if 3600 * hours >= 1 else "less than 1 s"
    return f"{60 * hours:.1f} min" if hours < 2 else f"{hours:,.1f} h"
