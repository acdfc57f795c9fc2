"""Agreement, calibration and gains by class, from the predictions that runs keep."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from lkd.data import load
from lkd.models.inference import set_eval_mode
from lkd.runs.store import Store
from lkd.study import Results, agreement_table, class_gains, distillation

STUDY = distillation("smoke", teachers=["mini_convnext"], students=["mini_resnet"], objectives=["nkd"], seeds=[0])


@pytest.fixture(scope="module")
def results(smoke_runs: Store) -> Results:
    found = STUDY.find(smoke_runs)
    assert found is not None
    return found


def test_agreement_is_that_of_the_networks_themselves(smoke_runs: Store) -> None:
    """Student and teacher are evaluated again, in one batch, with plain PyTorch."""
    student = next(run for recipe in STUDY.recipes if (run := smoke_runs.find(recipe)) and recipe.teacher)
    teacher, data = smoke_runs.find(student.recipe.teacher), load("digits")
    images, labels = next(data.batches(data.test, torch.arange(len(data.test)), len(data.test)))
    with torch.no_grad():
        ours, theirs = (set_eval_mode(run.student)(images).double().softmax(1) for run in (student, teacher))
    divergence = (theirs * (theirs / ours).log()).sum(1).mean().item()
    assert student.metrics["test_agreement"] == pytest.approx(
        100 * (ours.argmax(1) == theirs.argmax(1)).double().mean()
    )
    assert student.metrics["test_kl"] == pytest.approx(divergence, rel=1e-4)
    kept = student.predictions
    order = labels.argsort(stable=True)
    assert kept.label.tolist() == labels[order].tolist() and kept.predicted.tolist() == ours.argmax(1)[order].tolist()


def test_a_row_for_each_distilled_run(results: Results) -> None:
    table = agreement_table(results)
    assert len(table) == len(results.distilled)
    (teacher,) = {results.teacher_of(run).metrics["test_ece"] for run in results.distilled}
    assert table.teacher_ece.tolist() == [teacher] * len(table)


def test_gains_by_class_average_to_the_gain(results: Results) -> None:
    """Weighted by the number of test images of each class, they are the direct gain."""
    by_class = class_gains(results)
    images = results.runs[0].predictions.label.value_counts(sort=False).sort_index().to_numpy()
    for run, (_, rows) in zip(results.distilled, by_class.groupby("run_id", sort=False), strict=True):
        gain = run.metrics["test_top1"] - results.baseline(run).metrics["test_top1"]
        assert np.average(rows.gain, weights=images) == pytest.approx(gain)


def test_runs_from_before_predictions_were_kept_give_empty_tables(results: Results) -> None:
    before = [replace(run, metrics={"test_top1": 50.0}) for run in results.runs]
    assert agreement_table(Results(before)).empty and class_gains(Results(before)).empty


def test_a_class_without_test_images_has_no_gain(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    classes = results.runs[0].provenance["data"]["classes"]
    monkeypatch.setattr(
        "lkd.study.agreement.accuracy_by_label", lambda run: pd.Series([50.0, 75.0], pd.Index([0, 2], name="label"))
    )
    assert set(class_gains(results)["class"]) == {classes[0], classes[2]}
