"""Robustness scores against their definitions."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from lkd.robustness import (
    ALEXNET,
    CORRUPTIONS,
    EXTRA,
    SEVERITIES,
    STANDARD,
    by_corruption,
    class_indices,
    imagenet_c_scores,
    mean_corruption_error,
    mean_error,
    subset_top1,
)


def test_alexnet_has_an_mce_of_exactly_100():
    assert mean_corruption_error(ALEXNET) == 100.0
    assert mean_corruption_error(dict(reversed(ALEXNET.items()))) == 100.0
    assert mean_corruption_error(pd.Series(ALEXNET)) == 100.0


def test_mce_is_the_mean_of_ratios_not_the_ratio_of_means():
    error = dict.fromkeys(STANDARD, 0.5)
    assert mean_corruption_error(error) == pytest.approx(100 * np.mean([0.5 / a for a in ALEXNET.values()]), rel=1e-14)
    assert mean_corruption_error(error | {"fog": np.float32(1)}) > mean_corruption_error(error)


def test_there_are_15_types_and_4_more():
    assert len(STANDARD) == 15 and len(EXTRA) == 4 and len(set(CORRUPTIONS)) == 19


def test_the_mean_over_19_knows_no_alexnet():
    error = {name: number / 20 for number, name in enumerate(CORRUPTIONS)}
    assert mean_error(error) == pytest.approx(45.0)
    assert mean_error({"fog": 0.2, "snow": 0.4}, ["snow", "fog"]) == pytest.approx(30.0)


@pytest.mark.parametrize(("score", "names"), [(mean_corruption_error, STANDARD), (mean_error, CORRUPTIONS)])
def test_other_names_and_values_are_refused(score, names):
    good = dict.fromkeys(names, 0.5)
    with pytest.raises(KeyError, match="unknown corruption 'fogg': did you mean 'fog'"):
        score(good | {"fogg": 0.1})
    with pytest.raises(
        ValueError, match=rf"error is missing fog, pixelate: give the mean error of each of the {len(names)}"
    ):
        score({name: value for name, value in good.items() if name not in ("fog", "pixelate")})
    for wrong in (-0.01, 1.01, 53.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="error of snow must be a fraction, 0 to 1, got"):
            score(good | {"snow": wrong})
    for wrong in ("0.5", None, True, [0.5]):
        with pytest.raises(TypeError, match="error of snow must be a number, got"):
            score(good | {"snow": wrong})
    with pytest.raises(TypeError, match=r"error must map each corruption type .* got a list"):
        score([0.5] * len(names))


def test_a_type_counts_once():
    """A column with all severities; a mapping would keep only the last of each type."""
    every = pd.Series([0.1, 0.9] * 15, index=[name for name in STANDARD for _ in range(2)])
    with pytest.raises(ValueError, match=r"error has several values of 'brightness', .* and 10 more: .* by_corruption"):
        mean_corruption_error(every)
    with pytest.raises(ValueError, match="corruptions names something twice"):
        mean_error({"fog": 0.5}, ["fog", "fog"])
    with pytest.raises(ValueError, match="corruptions is empty"):
        mean_error({}, [])
    with pytest.raises(TypeError, match="corruptions must be a list of str, got 'fog'"):
        mean_error({"fog": 0.5}, "fog")


def test_the_types_of_validation_are_not_in_mce():
    with pytest.raises(KeyError, match="unknown corruption 'speckle_noise'"):
        mean_corruption_error(dict.fromkeys(CORRUPTIONS, 0.5))


# Tables -------------------------------------------------------------------------------------------------------------


def rows(protocol, error, names=CORRUPTIONS, severities=SEVERITIES):
    return pd.DataFrame([("C", protocol, n, s, error) for n in names for s in severities]).set_axis(
        ["set", "protocol", "corruption", "severity", "error"], axis=1
    )


def test_the_three_scores_of_imagenet_c_are_told_apart():
    other = pd.DataFrame([("A", "l2s", "none", 0, 0.9)], columns=["set", "protocol", "corruption", "severity", "error"])
    scores = imagenet_c_scores(pd.concat([rows("standard", 0.25), rows("l2s", 0.5), other]))
    assert scores == {
        "mCE-15 (standard)": mean_corruption_error(dict.fromkeys(STANDARD, 0.25)),
        "mean error-19 (standard input)": 25.0,
        "mean error-19 (L2S input)": 50.0,
    }


def test_a_score_that_lacks_something_is_none():
    fifteen = imagenet_c_scores(rows("standard", 0.25, STANDARD))
    assert list(map(bool, fifteen.values())) == [True, False, False]
    assert set(imagenet_c_scores(rows("l2s", 0.25, severities=(1, 2))).values()) == {None}
    assert set(imagenet_c_scores(rows("l2s", 0.25)[:0]).values()) == {None}


def test_means_over_severities_need_each_once():
    table = pd.DataFrame({"corruption": ["clean"] + ["fog"] * 5, "severity": range(6), "error": [9, 1, 0, 0, 1, 0.5]})
    assert by_corruption(table) == {"fog": 0.5}
    with pytest.raises(ValueError, match=r"table has severities \[1, 2, 3, 4\] of fog: give one row for each of"):
        by_corruption(table[:-1])
    with pytest.raises(ValueError, match="table has severities"):
        by_corruption(pd.concat([table, table]))


def test_a_table_has_the_rows_of_one_model():
    both = pd.concat([rows("standard", 0.25), rows("standard", 0.5)])
    with pytest.raises(ValueError, match="table has gaussian_noise at severity 1 more than once under 'standard'"):
        imagenet_c_scores(both)


@pytest.mark.parametrize(
    ("table", "error", "message"),
    [
        (rows("standard", 25.0), ValueError, "error of gaussian_noise must be a fraction, 0 to 1, got 25.0"),
        (rows("standard", math.nan), ValueError, "error of gaussian_noise must be a fraction"),
        (
            rows("standard", 0.5).drop(columns="severity"),
            ValueError,
            "table is missing 'severity': give a table with the columns",
        ),
        ({"fog": 0.5}, TypeError, "table must be a pandas.DataFrame, got a dict"),
    ],
)
@pytest.mark.parametrize("score", [by_corruption, imagenet_c_scores])
def test_what_is_no_table_of_errors_is_refused(score, table, error, message):
    with pytest.raises(error, match=message):
        score(table)


# Top-1 among some classes -------------------------------------------------------------------------------------------


def test_only_classes_of_the_subset_may_be_answered():
    """The maximum over all classes, 0, is not allowed: among 3, 1, 4 the predictions are 1, 4 and 3."""
    logits = torch.tensor([[9.0, 2.0, 0.0, 1.0, 0.0], [9.0, 1.0, 0.0, 0.0, 2.0], [9.0, 0.0, 8.0, 1.0, 0.0]])
    assert subset_top1(logits, torch.tensor([1, 2, 0]), [3, 1, 4]) == 100.0
    assert subset_top1(logits, torch.tensor([1, 2, 1]), torch.tensor([3, 1, 4])) == pytest.approx(200 / 3)
    assert subset_top1(logits.half(), torch.tensor([0, 0, 0]), np.array([0])) == 100.0


def test_the_lists_of_a_and_r():
    assert len(set(class_indices("A"))) == len(set(class_indices("R"))) == 200
    assert len(set(class_indices("A")) & set(class_indices("R"))) == 86
    assert class_indices("A")[:3] == (6, 11, 13) and class_indices("A") == tuple(sorted(class_indices("A")))
    with pytest.raises(KeyError, match="unknown set 'a'"):
        class_indices("a")


LOGITS, TARGET = torch.zeros(2, 5), torch.tensor([0, 1])


@pytest.mark.parametrize(
    ("logits", "target", "indices", "error", "message"),
    [
        (LOGITS.long(), TARGET, [0, 1], TypeError, "logits must be a floating point tensor, got torch.int64"),
        ([[0.0]], TARGET, [0, 1], TypeError, "logits must be .* got list"),
        (LOGITS[0], TARGET, [0, 1], ValueError, r"logits must be \(B, C\) and not empty, got shape \(5,\)"),
        (LOGITS[:0], TARGET[:0], [0, 1], ValueError, "not empty"),
        (LOGITS * torch.nan, TARGET, [0, 1], ValueError, "got NaN in row 0"),
        (LOGITS, TARGET, [0, 5], ValueError, r"indices must lie in 0\.\.4, .* got 0 to 5"),
        (LOGITS, TARGET, [-1, 2], ValueError, "got -1 to 2"),
        (LOGITS, TARGET, [2, 2], ValueError, "indices must be distinct, got 2 indices of 1 classes"),
        (LOGITS, TARGET, [[0, 1]], ValueError, r"flat list of classes, got shape \(1, 2\)"),
        (LOGITS, TARGET, [], ValueError, "indices are empty"),
        (LOGITS, TARGET, torch.tensor([True] * 5), TypeError, "indices are torch.bool: give whole numbers"),
        (LOGITS, TARGET.int(), [0, 1], TypeError, "target must be an int64 tensor, got torch.int32"),
        (LOGITS, [0, 1], [0, 1], TypeError, "target must be an int64 tensor, got list"),
        (LOGITS, TARGET[:1], [0, 1], ValueError, r"target must be \(2,\) for these logits, got shape \(1,\)"),
        (LOGITS, TARGET + 1, [0, 1], ValueError, r"positions in indices, 0\.\.1, got values from 1 to 2"),
        (LOGITS, TARGET - 1, [0, 1], ValueError, "got values from -1 to 0"),
    ],
)
def test_what_does_not_fit_is_refused(logits, target, indices, error, message):
    with pytest.raises(error, match=message):
        subset_top1(logits, target, indices)
