"""Training objectives, one file per method: a pure loss function, and the class that recipes refer to by name."""

from lkd.objectives.base import Objective, Outputs
from lkd.objectives.dist import DIST, dist_loss
from lkd.objectives.dkd import DKD, dkd_loss
from lkd.objectives.fd import FD, Features, fd_loss
from lkd.objectives.kd import KD, kd_loss
from lkd.objectives.label import Label, label_loss
from lkd.objectives.nkd import NKD, nkd_loss
from lkd.objectives.sums import KDAndFD, NKDAndFD, Sum
from lkd.objectives.vanilla import Vanilla, vanilla_kd_loss
from lkd.util.checks import unknown

__all__ = [
    "DIST",
    "DKD",
    "FD",
    "KD",
    "NKD",
    "OBJECTIVES",
    "Features",
    "Label",
    "Objective",
    "Outputs",
    "Sum",
    "Vanilla",
    "dist_loss",
    "dkd_loss",
    "fd_loss",
    "kd_loss",
    "label_loss",
    "nkd_loss",
    "vanilla_kd_loss",
]


class _Objectives(dict[str, type[Objective]]):
    def __missing__(self, name: str) -> type[Objective]:
        raise KeyError(unknown("objective", name, self))


OBJECTIVES: dict[str, type[Objective]] = _Objectives(
    {
        "label": Label,
        "kd": KD,
        "nkd": NKD,
        "dkd": DKD,
        "dist": DIST,
        "vanilla": Vanilla,
        "fd": FD,
        "kd+fd": KDAndFD,
        "nkd+fd": NKDAndFD,
    }
)
