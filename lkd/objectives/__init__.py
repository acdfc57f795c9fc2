"""Objectives: what a student minimises. One file a method: a pure loss function and the class that recipes name."""

from lkd.checks import unknown
from lkd.objectives.base import Objective, Outputs
from lkd.objectives.kd import KD, kd_loss
from lkd.objectives.label import Label, label_loss
from lkd.objectives.nkd import NKD, nkd_loss

__all__ = ["KD", "NKD", "OBJECTIVES", "Label", "Objective", "Outputs", "kd_loss", "label_loss", "nkd_loss"]


class _Objectives(dict[str, type[Objective]]):
    def __missing__(self, name: str) -> type[Objective]:
        raise KeyError(unknown("objective", name, self))


OBJECTIVES: dict[str, type[Objective]] = _Objectives(label=Label, kd=KD, nkd=NKD)
