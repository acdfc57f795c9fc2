"""The objectives by name."""

from lkd.objectives.base import Objective
from lkd.objectives.dist import DIST
from lkd.objectives.dkd import DKD
from lkd.objectives.fd import FD
from lkd.objectives.kd import KD
from lkd.objectives.label import Label
from lkd.objectives.nkd import NKD
from lkd.objectives.sums import KDAndFD, NKDAndFD
from lkd.objectives.vanilla import Vanilla
from lkd.util.checks import unknown


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
