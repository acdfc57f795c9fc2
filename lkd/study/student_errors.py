"""A student's errors on the test images, by class and by image, from the predictions that runs keep."""

from collections.abc import Sequence

import pandas as pd

from lkd.runs.store import Run
from lkd.study.agreement import accuracy_by_label


def confusion(run: Run) -> pd.DataFrame:
    """The number of test images by their class (rows) and predicted class (columns).

    Raises:
        FileNotFoundError: a run from before lkd kept predictions.

    Example:
        >>> import lkd
        >>> from lkd.study import confusion
        >>> run = lkd.train("mini_resnet", data="digits", profile="smoke", train_images=128)
        >>> int(confusion(run).to_numpy().sum())
        250
    """
    kept, names = run.predictions, _classes(run)
    known = range(len(names))
    counts = pd.crosstab(kept.label, kept.predicted).reindex(index=known, columns=known, fill_value=0)
    return counts.set_axis(names).set_axis(names, axis=1).rename_axis(index="class", columns="predicted")


def class_accuracy(**runs: Run) -> pd.DataFrame:
    """Accuracy in percent on the test images of each class, with a column for each run and the number of images.

    Args:
        runs: runs with the same test images, by the name of their column.

    Raises:
        FileNotFoundError: a run from before lkd kept predictions.
        ValueError: no run, or runs with other test images than the first.

    Example:
        >>> import lkd
        >>> from lkd.study import class_accuracy
        >>> settings = dict(data="digits", profile="smoke", train_images=128)
        >>> first, second = (lkd.train("mini_resnet", **settings, seed=seed) for seed in (0, 1))
        >>> class_accuracy(first=first, second=second).columns.tolist()
        ['class', 'images', 'first', 'second']
    """
    first = _check_same_images(list(runs.values()))
    labels = first.predictions.label
    table = labels.value_counts().sort_index().rename("images").to_frame()
    for name, run in runs.items():
        table[name] = accuracy_by_label(run)
    names = pd.Series(_classes(first), name="class")
    return table.join(names)[["class", *table.columns]].reset_index(drop=True)


def changed_images(distilled: Sequence[Run], alone: Sequence[Run]) -> pd.DataFrame:
    """The test images that distillation changed, the most helped first and the most hurt last.

    Args:
        distilled: runs of a distilled student, one for each seed.
        alone: runs of its baseline.

    Returns:
        For each image with another share of correct predictions: its `place` among the test images sorted by label,
        `class`, the percentages of runs that are correct (`distilled`, `alone`), and their difference `gain`. The image
        itself is number `data.test.labels.argsort(stable=True)[place]` of the test split.

    Raises:
        FileNotFoundError: a run from before lkd kept predictions.
        ValueError: no run on one side, or runs with other test images than the first.

    Example:
        >>> import lkd
        >>> from lkd.study import changed_images
        >>> settings = dict(data="digits", profile="smoke", train_images=128)
        >>> alone = lkd.train("mini_resnet", **settings)
        >>> distilled = lkd.distill("mini_resnet", alone, **settings)
        >>> changed_images([distilled], [alone]).columns.tolist()
        ['place', 'class', 'distilled', 'alone', 'gain']
    """
    if not distilled or not alone:
        raise ValueError(f"give at least one run on each side, got {len(distilled)} distilled and {len(alone)} alone")
    first = _check_same_images([*distilled, *alone])
    labels = first.predictions.label
    shares = {
        name: 100 * pd.concat([_correct(run) for run in runs], axis=1).mean(axis=1)
        for name, runs in (("distilled", distilled), ("alone", alone))
    }
    table = pd.DataFrame({"place": labels.index, "class": [_classes(first)[label] for label in labels], **shares})
    table = table.assign(gain=table.distilled - table.alone)
    return table[table.gain != 0].sort_values("gain", ascending=False, kind="stable").reset_index(drop=True)


def _classes(run: Run) -> list[str]:
    return run.provenance["data"]["classes"]


def _correct(run: Run) -> pd.Series:
    return run.predictions.predicted == run.predictions.label


def _check_same_images(runs: Sequence[Run]) -> Run:
    """The first of some runs, if all have its test images, as far as their records tell."""
    if not runs:
        raise ValueError("give at least one run")
    first = runs[0]
    for run in runs[1:]:
        same = run.recipe.data == first.recipe.data and run.predictions.label.equals(first.predictions.label)
        if not same or _classes(run) != _classes(first):
            raise ValueError(
                f"run {run.recipe.run_id} was tested on {run.recipe.data} with {len(run.predictions):,} images, run "
                f"{first.recipe.run_id} on {first.recipe.data} with {len(first.predictions):,}: give runs with the "
                "same test images"
            )
    return first
