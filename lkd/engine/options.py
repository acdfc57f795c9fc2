"""Options of a run that do not determine its result."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from accelerate.tracking import LOGGER_TYPE_TO_CLASS, LoggerType, get_available_trackers

from lkd.engine.callbacks import Callback, check_callbacks
from lkd.util.checks import check_flag, check_number, check_whole, unknown

_PRECISIONS = ("highest", "high")


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options that may change speed and rounding, but not the identity of a run.

    Args:
        workers: worker processes per training process that read and augment image files. Data in memory needs none.
        checkpoint_seconds: minimum time between two checkpoints; 0 for a checkpoint after every step.
        channels_last: keep images and networks in channels-last memory format.
        compile_student: `torch.compile` the student with its objective.
        compile_teacher: `torch.compile` the teacher.
        matmul: precision of float32 matrix products and convolutions on a GPU: "highest" for float32, "high" for TF32,
            several times as fast on recent GPUs.
        deterministic: use deterministic algorithms only, slower: equal bits on GPUs of one model, also of a resumed
            run. On CPUs, runs are deterministic without it.
        tape: record the teacher's outputs on a tape, for later students of the same stream. An existing tape is always
            read.
        trackers: trackers that log the metrics of each epoch, by Accelerate's names: "tensorboard" (in the store's
            folder `trackers`), "wandb", "mlflow" and others, or a custom one registered with Accelerate.
        callbacks: instances of `lkd.engine.Callback`, called after each step, each epoch and at the end.

    Raises:
        TypeError, ValueError: an invalid value; names the option.
        KeyError: an unknown `matmul`, or a tracker that Accelerate does not have.
        ImportError: the package of a tracker is not installed.

    Example:
        >>> from lkd.engine import Options
        >>> Options(checkpoint_seconds=600).checkpoint_seconds
        600
    """

    workers: int = 0
    checkpoint_seconds: float = 60.0
    channels_last: bool = False
    compile_student: bool = False
    compile_teacher: bool = False
    matmul: str = "highest"
    deterministic: bool = False
    tape: bool = False
    trackers: Sequence[str] = ()
    callbacks: Sequence[Callback] = ()

    def __post_init__(self) -> None:
        check_whole("workers", self.workers, 0)
        check_number("checkpoint_seconds", self.checkpoint_seconds, 0)
        for name in ("channels_last", "compile_student", "compile_teacher", "deterministic", "tape"):
            check_flag(name, getattr(self, name))
        if self.matmul not in _PRECISIONS:
            raise KeyError(unknown("matmul", self.matmul, _PRECISIONS))
        _check_trackers(self.trackers)
        check_callbacks(self.callbacks)

    def as_plain(self) -> dict[str, Any]:
        """The options as plain values; callbacks as the names of their classes."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return values | {"callbacks": [type(callback).__qualname__ for callback in self.callbacks]}


def _check_trackers(names: Sequence[str]) -> None:
    """Refuse unknown and missing trackers, which Accelerate would skip silently."""
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise TypeError(f'trackers must be a list of names such as ["tensorboard"], got {names!r}')
    for name in names:
        if name not in LOGGER_TYPE_TO_CLASS:
            raise KeyError(unknown("tracker", name, LOGGER_TYPE_TO_CLASS))
        if name in LoggerType and LoggerType(name) not in get_available_trackers():
            raise ImportError(f"tracker {name!r} needs its package, which is not installed: run pip install {name}")
