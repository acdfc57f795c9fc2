"""Differences for the claims as reported by the papers and their authors' logs, at their own scale.

They come from single runs and are not tested: `reads_as` only compares them with the smallest effect of interest.
Claims without numbers in `published.yaml` have no entry.
"""

from functools import cache
from typing import NamedTuple

import pandas as pd

from lkd.paper.author_logs import scores
from lkd.paper.claims import CONTRADICTED, NO_DIFFERENCE, SUPPORTED, Claim
from lkd.paper.published_numbers import table

_MODERN, _TRANSFORMERS = ("SLaK", "ConvNeXt"), ("CSWin", "Swin", "ViT")


class Reported(NamedTuple):
    """A reported difference.

    Args:
        difference: in the unit of the claim, with its sign.
        source: the place of the numbers, and how they were combined.
    """

    difference: float
    source: str


@cache
def reported() -> dict[str, Reported]:
    """The reported differences, by id of the claim.

    Example:
        >>> from lkd.paper.papers_scale import reported
        >>> round(reported()["vanilla-matches-dkd"].difference, 2)
        0.01
    """
    return {**_from_logs(), **_from_figure_1(), **_from_tables()}


def reads_as(claim: Claim, difference: float) -> str:
    """The verdict for a reported difference, taken as exact.

    Example:
        >>> from lkd.paper.claims import claims
        >>> from lkd.paper.papers_scale import reads_as
        >>> reads_as(claims()["vanilla-matches-dkd"], 0.01), reads_as(claims()["logits-nkd-over-kd"], 0.2)
        ('supported', 'no difference that matters')
    """
    m = claim.matters
    if claim.expects == "at most":
        return SUPPORTED if difference < m else CONTRADICTED
    if abs(difference) < m:
        return SUPPORTED if claim.expects == "within" else NO_DIFFERENCE
    expected = {"above": difference > 0, "below": difference < 0, "within": False}
    return SUPPORTED if expected[claim.expects] else CONTRADICTED


def _from_logs() -> dict[str, Reported]:
    """Differences of mean top-1 between groups of teachers, over the cells that both groups have."""
    logged = scores()
    source = "authors' logs, NKD, mean over ImageNet-A, -R and -Sketch and both students"
    compared = {
        "logits-modern-convnets-over-transformers": (_MODERN, _TRANSFORMERS),
        "logits-larger-kernels-more": (("SLaK",), ("ConvNeXt",)),
        "logits-large-kernels-over-transformers": (("SLaK",), _TRANSFORMERS),
        "logits-convnext-over-transformers": (("ConvNeXt",), _TRANSFORMERS),
    }
    return {name: Reported(_lead(logged, *groups), source) for name, groups in compared.items()}


def _lead(logged: pd.DataFrame, high: tuple[str, ...], low: tuple[str, ...]) -> float:
    """Mean over sets and students of the difference between the mean top-1 of two groups of teachers."""
    cells = logged.groupby(["set", "student"])
    means = [(_mean(cell, high) - _mean(cell, low)) for _, cell in cells]
    return sum(means) / len(means)


def _mean(cell: pd.DataFrame, teachers: tuple[str, ...]) -> float:
    return float(cell[cell.teacher.isin(teachers)].top1.mean())


def _from_figure_1() -> dict[str, Reported]:
    """Leads of DKD and DIST over vanilla KD on the least and on the most data of VanillaKD's Figure 1."""
    leads = table("vkd_fig1").set_index("dataset")
    found = {}
    for method in ("DKD", "DIST"):
        lead = {data: float(value) for data, value in leads[f"{method}_minus_KD"].items()}
        least, most = lead["CIFAR-100"], lead["ImageNet-1K full"]
        key = method.lower()
        found[f"vanilla-{key}-ahead-on-small-data"] = Reported(least, "Figure 1, CIFAR-100")
        found[f"vanilla-matches-{key}"] = Reported(most, "Figure 1, all of ImageNet")
        found[f"vanilla-{key}-gap-shrinks"] = Reported(least - most, "Figure 1, CIFAR-100 minus all of ImageNet")
    return found


def _from_tables() -> dict[str, Reported]:
    kernels = table("slak_kernel_sweep_120ep").set_index("kernel").top1.astype(float)
    long = table("l2s_300ep_gains").direct_gain.astype(float)
    epochs = table("vkd_long_schedule").set_index("student").loc["ConvNeXt V2-T"]
    return {
        "kernels-are-more-accurate": Reported(kernels["51x51"] - kernels["31x31"], "SLaK's README, 120 epochs"),
        "kernels-saturate": Reported(kernels["61x61"] - kernels["51x51"], "SLaK's README, 120 epochs"),
        "longer-keeps-the-gain": Reported(long.mean(), "300 epochs, mean of ConvNeXt-T and -S with SLaK"),
        "vanilla-longer-is-better": Reported(
            float(epochs.ep1200) - float(epochs.ep300), "Table 8, ConvNeXt V2-T, 1,200 and 300 epochs"
        ),
    }
