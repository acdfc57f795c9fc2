"""Measurements on runs: made once, and kept in the runs' folders."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from torch import nn

import lkd
from lkd.runs.store import Run, Store
from lkd.study.measure import cost_of, erf_of, errors_of, measure_all, measured

pytestmark = pytest.mark.usefixtures("one_thread")
RECIPE = lkd.Recipe(data="digits", student="mini_resnet", train_images=128)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return lkd.run(RECIPE, store=Store(tmp_path_factory.mktemp("store")))


def test_it_is_measured_once_for_each_set_of_arguments(run: Run) -> None:
    seen = []

    def measure(run: Run, **arguments: int) -> dict[str, np.ndarray]:
        seen.append(arguments)
        return {"sum": np.array([sum(arguments.values()), 0.5])}

    for count in (1, 2, 1):
        assert measured(run, "sum", measure, count=count)["sum"].tolist() == [count, 0.5]
    assert seen == [{"count": 1}, {"count": 2}]


def test_a_measurement_that_breaks_off_leaves_nothing(run: Run) -> None:
    def broken(run: Run) -> dict[str, np.ndarray]:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        measured(run, "broken", broken)
    assert not list((run.path / "measured").glob("*broken*"))


@pytest.mark.slow
def test_fields_and_errors_are_the_same_from_any_number_of_processes(run: Run, tmp_path: Path) -> None:
    store = Store(tmp_path)
    copies = [lkd.run(replace(RECIPE, seed=seed), store=store) for seed in (0, 1)]
    measure_all(field, copies, workers=2)
    here = erf_of(run, size=48, count=3)
    assert here.shape == (48, 48) and np.array_equal(here, erf_of(copies[0], size=48, count=3))
    assert not np.array_equal(here, erf_of(copies[1], size=48, count=3))


def field(run: Run) -> None:
    erf_of(run, size=48, count=3)


@pytest.mark.slow
def test_errors_are_of_the_runs_own_student(run: Run) -> None:
    table = errors_of(run, 20)
    assert len(table) == 1 + 19 * 5 and table.error.between(0, 1).all()
    assert table.corruption.iloc[0] == "clean" and (table.images == 20).all()


def test_costs_are_those_of_the_network(run: Run) -> None:
    assert cost_of(run)["parameters"] == sum(p.numel() for p in run.student.parameters())


@pytest.mark.parametrize("measure", [lambda run: erf_of(run, size=48, count=4), lambda run: errors_of(run, 21)])
def test_a_run_without_weights_says_so_before_any_data_are_read(
    run: Run, measure: Callable[[Run], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_weights() -> nn.Module:
        raise FileNotFoundError("no weights")

    monkeypatch.setattr("lkd.study.measure.load", lambda *_, **__: pytest.fail("read data"))
    with pytest.raises(FileNotFoundError, match="no weights"):
        measure(replace(run, build=no_weights))
