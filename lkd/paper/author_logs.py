"""Students of five teachers on changed ImageNet images, from the logs of L2S's authors.

The logs are the tables `l2s_logs_students_*` of `published.yaml`: NKD students ResNet-50 and ConvNeXt-T on ImageNet-A,
-R and -Sketch. Each network was trained once, so intervals cover the sampling of images only, not the variation between
trainings. The three sets of a student and a teacher test the same network: cells are not independent repetitions.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any, NamedTuple

import pandas as pd
from scipy import stats

from lkd.paper.published_numbers import table
from lkd.util.checks import check_number, check_whole, unknown

FAMILIES = ("SLaK", "ConvNeXt", "CSWin", "Swin", "ViT")
"""Families of the teachers in the logs."""

_SETS = {"ImageNet-A": "a", "ImageNet-R": "r", "ImageNet-Sketch": "sketch"}
_LEADER, *_OTHERS = FAMILIES


def family(model: str) -> str | None:
    """The family of a timm model among `FAMILIES`; None for other models.

    Example:
        >>> from lkd.paper.author_logs import family
        >>> family("mini_slak"), family("swin_tiny_patch4_window7_224"), family("resnet50")
        ('SLaK', 'Swin', None)
    """
    prefix = model.removeprefix("mini_").split(".")[0].split("_")[0]
    return {name.lower(): name for name in FAMILIES}.get(prefix)


def scores() -> pd.DataFrame:
    """Top-1 accuracies of the students, one row per set, student and teacher.

    Returns:
        Columns `set`, `student`, `teacher` (one of `FAMILIES`), `top1` in percent with the ends `low` and `high` of its
        95 % Wilson interval, number of `images`, and `label`: the temperature in the name of the checkpoint's folder.

    Example:
        >>> from lkd.paper.author_logs import scores
        >>> scores().loc[0, ["set", "student", "teacher"]].tolist(), scores().top1.tolist()[0]
        (['ImageNet-A', 'ResNet-50', 'SLaK'], 7.12)
    """
    return pd.concat([_scores_on(name) for name in _SETS], ignore_index=True)


def leads() -> pd.DataFrame:
    """Lead of SLaK's students over the students of each other teacher, one row per set, student and teacher.

    Returns:
        Columns `set`, `student`, `over` (the other teacher), `lead` in points with the ends `low` and `high` of its
        interval (see `lead_interval`), and `equal_labels`: whether both folders are named after the same temperature.

    Example:
        >>> from lkd.paper.author_logs import leads
        >>> leads().loc[0, ["set", "student", "over"]].tolist(), leads().lead.round(2).tolist()[0]
        (['ImageNet-A', 'ResNet-50', 'ConvNeXt'], 1.21)
    """
    cells = [rows.set_index("teacher") for _, rows in scores().groupby(["set", "student"], sort=False)]
    return pd.DataFrame([_lead(cell, other) for cell in cells for other in _OTHERS if other in cell.index])


class Cells(NamedTuple):
    """Number of cells: all, with a lead above 0, and with the whole interval above 0."""

    total: int
    positive: int
    clear: int


def count_cells(leads: pd.DataFrame) -> Cells:
    """Count the cells with a lead over ConvNeXt, CSWin and Swin, the teachers of both students.

    Args:
        leads: all or some rows of `leads()`; leads over ViT, which has only a ResNet-50 student, do not count.

    Example:
        >>> from lkd.paper.author_logs import count_cells, leads
        >>> count_cells(leads())
        Cells(total=18, positive=18, clear=18)
    """
    students = scores().groupby("teacher").student.nunique()
    shared = leads[leads.over.map(students) == students.max()]
    return Cells(len(shared), int((shared.lead > 0).sum()), int((shared.low > 0).sum()))


def mean_gains(gains: pd.DataFrame) -> dict[str, float]:
    """Mean direct gain in points by family of teachers.

    Args:
        gains: `Results.gains` of a study, or another table with columns `teacher` (timm names) and `direct_gain`.

    Raises:
        KeyError: a missing column, or a teacher of another family.

    Example:
        >>> import pandas as pd
        >>> from lkd.paper.author_logs import mean_gains
        >>> mean_gains(pd.DataFrame({"teacher": ["mini_slak", "mini_slak"], "direct_gain": [1.0, 2.0]}))
        {'SLaK': 1.5}
    """
    for name in ("teacher", "direct_gain"):
        if name not in gains:
            raise KeyError(
                f"gains has no column {name!r}, only {', '.join(map(str, gains.columns))}: give Results.gains"
            )
    families = {teacher: family(teacher) for teacher in gains.teacher.unique()}
    for teacher, its in families.items():
        if its is None:
            raise KeyError(f"teacher {teacher!r} is of none of the families {', '.join(FAMILIES)}: leave its rows out")
    means = gains.groupby(gains.teacher.map(families), sort=False).direct_gain.mean()
    return {str(name): float(mean) for name, mean in means.items()}


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Agreement of the order of teachers in the logs with another one.

    Attributes:
        student: the student in the logs.
        teachers: the teachers compared, from the best in the logs to the worst.
        tau: Kendall's tau-b; NaN for fewer than two teachers.
        p: its two-sided p-value if all orders are equally likely; NaN like `tau`.
        swapped: pairs of teachers in opposite order, the better one in the logs first.
    """

    student: str
    teachers: tuple[str, ...]
    tau: float
    p: float
    swapped: tuple[tuple[str, str], ...]

    @property
    def markdown(self) -> str:
        """A sentence, as Markdown."""
        if math.isnan(self.tau):
            return f"{self.student}: no order to compare; teachers on both sides: {', '.join(self.teachers) or 'none'}."
        pairs = ", ".join(f"{worse} is ahead of {better}" for better, worse in self.swapped)
        return (
            f"{self.student}: {', '.join(self.teachers)} in the logs, from the best to the worst. "
            f"{f'Here {pairs}' if pairs else 'No pair is swapped'}: Kendall's tau is {self.tau:.2f} "
            f"(p = {self.p:.2f} with {len(self.teachers)} teachers)."
        )


def agreement(student: str, gains: Mapping[str, float]) -> Agreement:
    """Compare the order of teachers by a student's mean top-1 over the sets of the logs with that by mean gains.

    A student has one baseline for all teachers, so the orders by its top-1 and by its gain are the same. Teachers that
    the logs do not have for this student are left out. Tau ignores the uncertainty of both orders.

    Args:
        student: a student in the logs.
        gains: mean gain by family, as from `mean_gains`.

    Raises:
        KeyError: an unknown student or family, with the nearest known one.
        ValueError: a gain that is not finite, or beyond 100 points.

    Example:
        >>> from lkd.paper.author_logs import agreement
        >>> found = agreement("ResNet-50", {"SLaK": 1.0, "ConvNeXt": 1.2, "ViT": 0.8})
        >>> round(found.tau, 2), found.swapped
        (0.33, (('SLaK', 'ConvNeXt'),))
    """
    logged = scores()
    if student not in set(logged.student):
        raise KeyError(unknown("student of the logs", student, logged.student.unique()))
    for name, gain in gains.items():
        if name not in FAMILIES:
            raise KeyError(unknown("family of teachers", name, FAMILIES))
        check_number(f"gain of {name}", gain, -100, 100)
    means = logged[logged.student == student].groupby("teacher").top1.mean().sort_values(ascending=False)
    teachers = tuple(str(name) for name in means.index if name in gains)
    tau, p = math.nan, math.nan
    if len(teachers) > 1:
        tau, p = map(float, stats.kendalltau(means[list(teachers)], [gains[name] for name in teachers]))
    swapped = tuple(pair for pair in combinations(teachers, 2) if gains[pair[0]] < gains[pair[1]])
    return Agreement(student=student, teachers=teachers, tau=tau, p=p, swapped=swapped)


def score_interval(correct: int, images: int) -> tuple[float, float]:
    """95 % Wilson interval of a top-1 accuracy, in percent.

    Args:
        correct, images: numbers of correct and of all images.

    Raises:
        TypeError, ValueError: no whole numbers, no images, or more correct ones than images.

    Example:
        >>> from lkd.paper.author_logs import score_interval
        >>> [round(end, 2) for end in score_interval(5, 10)]
        [23.66, 76.34]
    """
    check_whole("images", images, 1)
    check_whole("correct", correct, 0, images)
    low, high = stats.binomtest(correct, images).proportion_ci(method="wilson")
    return 100 * float(low), 100 * float(high)


def lead_interval(correct: int, images: int, other_correct: int, other_images: int) -> tuple[float, float]:
    """95 % interval of the difference of two independent accuracies, in points.

    Newcombe's hybrid score interval (1998, method 10): with accuracies `a` and `b` and their Wilson intervals, from
    `a - b - sqrt((a - low_a)² + (high_b - b)²)` to `a - b + sqrt((high_a - a)² + (b - low_b)²)`. It is conservative for
    two networks on the same images, which mostly succeed on the same ones.

    Args:
        correct, images: as in `score_interval`.
        other_correct, other_images: the same of the accuracy that is subtracted.

    Raises:
        TypeError, ValueError: as in `score_interval`.

    Example:
        >>> from lkd.paper.author_logs import lead_interval
        >>> [round(end, 2) for end in lead_interval(56, 70, 48, 80)]
        [5.24, 33.39]
    """
    low, high = score_interval(correct, images)
    other_low, other_high = score_interval(other_correct, other_images)
    score, other = 100 * correct / images, 100 * other_correct / other_images
    lead = score - other
    return lead - math.hypot(score - low, other_high - other), lead + math.hypot(high - score, other - other_low)


def _scores_on(name: str) -> pd.DataFrame:
    """Rows of `scores` on one set, with students in the log's order and teachers in the order of `FAMILIES`."""
    log = table(f"l2s_logs_students_{_SETS[name]}")
    images = int(log.attrs["units"]["top1"].removeprefix("% of "))
    rows = log.assign(set=name, images=images, teacher=log.teacher.str.partition("-")[0])
    ends = [score_interval(_correct(top1, images), images) for top1 in rows.top1]
    rows[["low", "high"]] = pd.DataFrame(ends, index=rows.index)
    places = rows.teacher.map(FAMILIES.index) + len(rows) * rows.student.factorize()[0]
    columns = ["set", "student", "teacher", "top1", "low", "high", "images", "label_in_path"]
    return rows.loc[places.sort_values().index, columns].rename(columns={"label_in_path": "label"})


def _lead(cell: pd.DataFrame, other: str) -> dict[str, Any]:
    """SLaK's lead over another teacher in one set and student."""
    ours, theirs = cell.loc[_LEADER], cell.loc[other]
    images = int(ours.images)
    low, high = lead_interval(_correct(ours.top1, images), images, _correct(theirs.top1, images), images)
    about = {"set": ours["set"], "student": ours.student, "over": other, "lead": ours.top1 - theirs.top1}
    return {**about, "low": low, "high": high, "equal_labels": ours.label == theirs.label}


def _correct(top1: float, images: int) -> int:
    """Number of correct images from an accuracy in percent."""
    return round(top1 * images / 100)
