"""Accuracy against latency: what is measured, and who is on the frontier."""

import itertools
import re
import sys
from typing import Any

import pandas as pd
import pytest
import timm
import torch

from lkd import Recipe
from lkd.export import latency, pareto
from lkd.runs.store import Run, Store
from lkd.util.files import CHECKOUT

sys.path.append(str(CHECKOUT / "tests" / "cli"))
from calling import save

ROWS = {"runtime": "PyTorch", "batch": 1, "threads": 1, "parameters": 1000, "macs": 2_000_000}


def table(points: list[tuple[float, float | None]], **other: Any) -> pd.DataFrame:
    names = [f"model {number}" for number in range(len(points))]
    rows = pd.DataFrame(points, columns=["ms", "top1"]).assign(model=names, data="digits", **{**ROWS, **other})
    return rows.assign(frontier=latency.on_frontier(rows))


@pytest.fixture
def runs(store: Store, monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    monkeypatch.setattr(latency, "find_spec", lambda _: None)
    monkeypatch.setenv("LKD_HOME", str(store.folder))
    recipes = [Recipe(data="digits", student="mini_resnet", seed=seed) for seed in (0, 1)]
    recipes.append(Recipe(data="digits", student="mini_vit"))
    return [store.by_id(save(store, recipe, top1)) for recipe, top1 in zip(recipes, (50.0, 60.0, 70.0), strict=True)]


def test_the_frontier_is_where_nothing_is_better_in_both() -> None:
    points = [(1.0, 50.0), (2.0, 60.0), (3.0, 60.0), (2.0, 60.0), (4.0, 55.0), (5.0, 90.0), (0.5, None)]
    expected = [
        top1 is not None
        and not any(
            other is not None and ms2 <= ms and other >= top1 and (ms2, other) != (ms, top1) for ms2, other in points
        )
        for ms, top1 in points
    ]
    assert expected == [True, True, False, True, False, True, False]
    for order in itertools.islice(itertools.permutations(range(7)), 0, 5040, 500):
        found = table([points[i] for i in order]).frontier
        assert found.tolist() == [expected[i] for i in order]


def test_each_runtime_and_batch_has_its_own_frontier() -> None:
    rows = pd.concat(
        [table([(1.0, 50.0), (2.0, 40.0)]), table([(2.0, 50.0), (1.0, 40.0)], batch=32)], ignore_index=True
    )
    assert latency.on_frontier(rows).tolist() == [True, False, True, True]


def test_runs_have_the_accuracy_of_their_record_and_one_measurement_a_structure(runs: list[Run]) -> None:
    found = pareto([runs[0], runs[1].recipe.run_id, runs[2].recipe.run_id[:12]], batches=[1, 4], repeats=2)
    assert list(found.columns) == list(latency.COLUMNS)
    assert found.top1.tolist() == [50.0, 50.0, 60.0, 60.0, 70.0, 70.0] and found.batch.tolist() == [1, 4] * 3
    assert found.ms[0] == found.ms[2] and found.ms[1] == found.ms[3] and (found.ms > 0).all()
    counted = [sum(p.numel() for p in run.student.parameters()) for run in runs]
    assert found.parameters.tolist() == [count for count in counted for _ in (1, 4)]
    assert (~found.frontier[:2]).all() and set(found.runtime) == {"PyTorch"}


@pytest.mark.slow
def test_onnx_runtime_is_measured_where_it_is_installed_and_a_timm_name_has_no_accuracy() -> None:
    threads = torch.get_num_threads()
    found = pareto(["mini_resnet"], batches=[2], repeats=1, threads=1)
    assert found.runtime.tolist() == ["PyTorch", "ONNX Runtime"] and torch.get_num_threads() == threads
    assert found.top1.isna().all() and not found.frontier.any()
    assert found.parameters[0] == sum(p.numel() for p in timm.create_model("mini_resnet").parameters())


WRONG: list[tuple[list[Any], dict[str, Any], str]] = [
    ([], {}, "models is empty: give at least one"),
    (["mini_resnt"], {}, "unknown model 'mini_resnt': did you mean 'mini_resnet'"),
    (["mini_vit", "mini_vit"], {}, "models names something twice"),
    (["mini_vit"], {"batches": [0]}, "batches must be at least 1, got 0"),
    (["mini_vit"], {"threads": 0}, "threads must be at least 1, got 0"),
    (["mini_vit"], {"repeats": 1.5}, "repeats must be a whole number, got 1.5"),
    (["mini_vit"], {"data": "digits"}, "'mini_vit' has no pretrained weights"),
    ([3], {}, r"models must be a list of str or Run, got \[3\]"),
]


@pytest.mark.parametrize(("models", "given", "told"), WRONG, ids=[told[:40] for *_, told in WRONG])
def test_wrong_arguments_are_refused_before_anything_is_measured(
    models: list[Any], given: dict[str, Any], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latency, "_measured", None)
    with pytest.raises((KeyError, TypeError, ValueError), match=told):
        pareto(models, **given)


def test_runs_of_different_data_and_repeated_runs_are_refused(
    runs: list[Run], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latency, "_measured", None)
    other = store.by_id(save(store, Recipe(data="fashion_mnist", student="mini_resnet")))
    about = {"size": [1, 32, 32], "classes": list("0123456789")}
    other.__dict__["provenance"] = {"data": about}
    with pytest.raises(ValueError, match=r"mini_resnet \(.*\) was tested on digits, .* on fashion_mnist"):
        pareto([runs[0], other])
    with pytest.raises(ValueError, match=re.escape(f"({runs[0].recipe.run_id[:8]}) twice")):
        pareto([runs[0], runs[0].recipe.run_id])
    with pytest.raises(ValueError, match=r"data is 'fashion_mnist', but run .* was tested on 'digits'"):
        pareto([runs[0]], data="fashion_mnist")
