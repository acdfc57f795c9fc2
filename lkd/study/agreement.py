"""Tables from predictions: agreement of students and teachers, calibration, and gains by class."""

import pandas as pd

from lkd.metrics import agreement
from lkd.runs.store import Run
from lkd.study.results import CELL, Results


def agreement_table(results: Results) -> pd.DataFrame:
    """Agreement with the teacher and calibration on the test images, one row per distilled run.

    `agreement` is the percentage of images with equal predictions of student and teacher, `alone_agreement` of baseline
    and teacher; `kl` is KL(teacher || student) in nats; `ece`, `alone_ece` and `teacher_ece` are expected calibration
    errors in percent. Empty if some runs are from before lkd stored predictions.
    """
    if not _kept(results):
        return pd.DataFrame(columns=[*CELL, "agreement", "alone_agreement", "kl", "ece", "alone_ece", "teacher_ece"])
    rows = []
    for run in results.distilled:
        alone, teacher = results.baseline(run), results.teacher_of(run)
        rows.append(
            {
                **results.describe(run.recipe),
                "agreement": run.metrics["test_agreement"],
                "alone_agreement": agreement(alone.predictions.predicted, teacher.predictions.predicted),
                "kl": run.metrics["test_kl"],
                "ece": run.metrics["test_ece"],
                "alone_ece": alone.metrics["test_ece"],
                "teacher_ece": teacher.metrics["test_ece"],
            }
        )
    return pd.DataFrame(rows)


def class_gains(results: Results) -> pd.DataFrame:
    """Gain of distilled students over their baselines by class, in points: one row per distilled run and class.

    Classes without test images have no row. Empty if some runs are from before lkd stored predictions.
    """
    if not _kept(results):
        return pd.DataFrame(columns=[*CELL, "class", "gain"])
    classes = results.runs[0].provenance["data"]["classes"]
    rows = [
        gain.rename("gain").reset_index().assign(**results.describe(run.recipe))
        for run in results.distilled
        for gain in [accuracy_by_label(run) - accuracy_by_label(results.baseline(run))]
    ]
    table = pd.concat(rows, ignore_index=True)
    return table.assign(**{"class": [classes[label] for label in table.label]}).drop(columns="label")


def accuracy_by_label(run: Run) -> pd.Series:
    """Accuracy on the test images of each label, in percent; labels without images are left out."""
    shown = run.predictions
    return 100 * (shown.predicted == shown.label).groupby(shown.label).mean()


def _kept(results: Results) -> bool:
    return all("test_ece" in run.metrics for run in results.runs)
