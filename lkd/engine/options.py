"""How a run is carried out, as far as that is not part of its result."""

from collections.abc import Sequence
from dataclasses import dataclass

from accelerate.tracking import LOGGER_TYPE_TO_CLASS, LoggerType, get_available_trackers

from lkd.util.checks import check_number, check_whole, unknown


@dataclass(frozen=True, kw_only=True)
class Options:
    """What may change speed and rounding, but not what a run means.

    Args:
        workers: processes that read and augment images for one that trains; 0 for none. In-memory data needs none.
        checkpoint_seconds: least time between two checkpoints; 0 for one after every step.
        channels_last: keep images and networks with channels last in memory.
        compile_student: `torch.compile` the student with its objective.
        compile_teacher: `torch.compile` the teacher.
        tape: write the teacher's outputs to a tape, for later students of the same stream; one that is there is read
            in any case.
        trackers: where the figures of each epoch go besides the run's history, by Accelerate's names: "tensorboard" (in
            the store's folder `trackers`), "wandb", "mlflow", and others, or your own registered with Accelerate.

    Raises:
        TypeError, ValueError: a value that makes no sense, named.
        KeyError: a tracker that Accelerate does not know.
        ImportError: one whose package is not installed.

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
    tape: bool = False
    trackers: Sequence[str] = ()

    def __post_init__(self) -> None:
        check_whole("workers", self.workers, 0)
        check_number("checkpoint_seconds", self.checkpoint_seconds, 0)
        for name in ("channels_last", "compile_student", "compile_teacher", "tape"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name} must be True or False, got {getattr(self, name)!r}")
        _check_trackers(self.trackers)


def _check_trackers(names: Sequence[str]) -> None:
    """Refuse, before any work, what Accelerate would only skip."""
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise TypeError(f'trackers must be a list of names such as ["tensorboard"], got {names!r}')
    for name in names:
        if name not in LOGGER_TYPE_TO_CLASS:
            raise KeyError(unknown("tracker", name, LOGGER_TYPE_TO_CLASS))
        if name in LoggerType and LoggerType(name) not in get_available_trackers():
            raise ImportError(f"tracker {name!r} needs its package, which is not installed: run pip install {name}")
