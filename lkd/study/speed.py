"""How fast students learn."""

import pandas as pd

from lkd.study.results import Results


def learning_speed(results: Results) -> pd.DataFrame:
    """One row a distilled run: how fast it learned, beside the same student alone.

    Accuracies are those of the history: in percent, on up to 500 validation images after each epoch. `area` is their
    mean over the epochs, the area under the learning curve for an axis of length one; `area_gain` what it is above
    that of the student alone, in points. `epochs_saved` says how many epochs earlier than the student alone it has
    reached what that one has at its best, as a share of the schedule; missing where it never does.
    """
    rows = []
    for run in results.distilled:
        curve, reference = (each.history.val_top1.to_numpy() for each in (run, results.baseline(run)))
        reached = (curve >= reference.max()).nonzero()[0]
        saved = (reference.argmax() - reached[0]) / len(curve) if len(reached) else None
        area = {"area": curve.mean(), "area_gain": curve.mean() - reference.mean(), "epochs_saved": saved}
        rows.append({**results.describe(run.recipe), **area})
    return pd.DataFrame(rows)
