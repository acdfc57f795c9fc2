"""Training objectives, one file per method: a pure loss function, and the class that recipes refer to by name."""

from lkd.objectives.base import Maps, Objective, Outputs
from lkd.objectives.by_name import OBJECTIVES
from lkd.objectives.dist import DIST, dist_loss
from lkd.objectives.distiller import Distiller, DistillerOutput
from lkd.objectives.dkd import DKD, dkd_loss
from lkd.objectives.fd import FD, Features, fd_loss
from lkd.objectives.kd import KD, kd_loss
from lkd.objectives.label import Label, label_loss
from lkd.objectives.nkd import NKD, nkd_loss
from lkd.objectives.sums import Sum
from lkd.objectives.vanilla import Vanilla, vanilla_kd_loss

__all__ = [
    "DIST",
    "DKD",
    "FD",
    "KD",
    "NKD",
    "OBJECTIVES",
    "Distiller",
    "DistillerOutput",
    "Features",
    "Label",
    "Maps",
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
