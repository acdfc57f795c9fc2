"""Sums of objectives, such as logit plus feature distillation in SLaK's code (VITA-Group/SLaK, `engine_kd.py`)."""

from collections import Counter
from typing import Any, ClassVar, cast

from torch import Tensor, nn

from lkd.objectives.base import Objective, Outputs
from lkd.objectives.fd import Features
from lkd.objectives.kd import KD
from lkd.objectives.nkd import NKD
from lkd.util.checks import unknown


class Sum(Objective):
    """Sum of several objectives, defined as a subclass; takes the hyperparameters of all parts as keywords.

    Raises:
        TypeError: two parts share a hyperparameter (when the class is defined); an unknown one (when it is used).

    Example:
        >>> from lkd.objectives import KD, Features, Sum
        >>> class Both(Sum, parts=(KD, Features)):
        ...     '''KD and FD.'''
        >>> Both(alpha=0.5, stages=2).stages
        2
    """

    parts: ClassVar[tuple[type[Objective], ...]] = ()

    def __init_subclass__(cls, *, parts: tuple[type[Objective], ...], **kwargs: Any):
        super().__init_subclass__(**kwargs)
        cls.parts, cls.needs_teacher = parts, any(part.needs_teacher for part in parts)
        twice = [name for name, count in Counter(cls.hyperparameters()).items() if count > 1]
        if twice:
            names = " and ".join(part.__name__ for part in parts)
            raise TypeError(f"{names} cannot be summed: more than one of them has the hyperparameter {twice[0]!r}")

    @classmethod
    def hyperparameters(cls) -> list[str]:
        """Names of the hyperparameters of all parts."""
        return [name for part in cls.parts for name in part.hyperparameters()]

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """Default values of the hyperparameters of all parts."""
        return {name: value for part in cls.parts for name, value in part.defaults().items()}

    def __init__(self, **hyperparameters: Any):
        super().__init__()
        for name in hyperparameters:
            if name not in self.hyperparameters():
                raise TypeError(unknown(f"parameter of {type(self).__name__}", name, self.hyperparameters()))
        self.addends = nn.ModuleList(
            part(**{name: hyperparameters[name] for name in part.hyperparameters() if name in hyperparameters})
            for part in self.parts
        )
        comparing = [objective for objective in self._objectives() if objective.stages]
        self.stages = max((objective.stages for objective in comparing), default=0)
        for side in ("student_layers", "teacher_layers"):
            named = {getattr(objective, side) for objective in comparing}
            if len(named) > 1:
                raise ValueError(f"the parts of {type(self).__name__} must have equal {side}, got {sorted(named)}")
            setattr(self, side, next(iter(named), ()))

    def values(self) -> dict[str, Any]:
        """Values of the hyperparameters of all parts."""
        return {name: value for objective in self._objectives() for name, value in objective.values().items()}

    def connect(self, student: Outputs, teacher: Outputs) -> None:
        """Create the layers of each part."""
        for objective in self._objectives():
            objective.connect(student, teacher)

    def terms(self, student: Outputs, teacher: Outputs, target: Tensor) -> dict[str, Tensor]:
        """Terms of all parts.

        Raises:
            ValueError: two parts have a term of the same name.
        """
        terms: dict[str, Tensor] = {}
        for objective in self._objectives():
            added = objective.terms(student, teacher, target)
            if twice := terms.keys() & added.keys():
                raise ValueError(f"more than one part of {type(self).__name__} has the term {min(twice)!r}")
            terms |= added
        return terms

    def _objectives(self) -> list[Objective]:
        return cast(list[Objective], list(self.addends))


class KDAndFD(Sum, parts=(KD, Features)):
    """`KD + weight FD`; the label loss is part of KD."""


class NKDAndFD(Sum, parts=(NKD, Features)):
    """`NKD + weight FD`; set NKD's `label` to add a cross-entropy."""
