"""Learning speed of students."""

import pandas as pd

from lkd.study.results import Results


def learning_speed(results: Results) -> pd.DataFrame:
    """Learning speed compared with the baseline, one row per distilled run.

    Accuracies are in percent, on up to 500 validation images after each epoch. `area` is their mean over epochs, the
    area under the learning curve; `area_gain` is the difference to the baseline's area, in points. `epochs_saved` is
    how much earlier the student reaches the baseline's best accuracy, as a share of the schedule; missing if it never
    does.
    """
    rows = []
    for run in results.distilled:
        curve, reference = (each.history.val_top1.to_numpy() for each in (run, results.baseline(run)))
        reached = (curve >= reference.max()).nonzero()[0]
        saved = (reference.argmax() - reached[0]) / len(curve) if len(reached) else None
        area = {"area": curve.mean(), "area_gain": curve.mean() - reference.mean(), "epochs_saved": saved}
        rows.append({**results.describe(run.recipe), **area})
    return pd.DataFrame(rows)
