"""How a run is carried out, as far as that is not part of its result."""

from dataclasses import dataclass

from lkd.checks import check_number, check_whole


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

    Raises:
        TypeError, ValueError: a value that makes no sense, named.

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

    def __post_init__(self) -> None:
        check_whole("workers", self.workers, 0)
        check_number("checkpoint_seconds", self.checkpoint_seconds, 0)
        for name in ("channels_last", "compile_student", "compile_teacher", "tape"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name} must be True or False, got {getattr(self, name)!r}")
