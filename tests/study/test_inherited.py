"""What students have of their teachers: tables of a small real study, against the measurements they are made of."""

import pytest

from lkd.erf import area_ratios, effective_share
from lkd.measure import erf_of, errors_of
from lkd.store import Store
from lkd.study import (
    Results,
    erf_distances,
    erf_maps,
    erf_ratios,
    erf_table,
    errors_by_type,
    measure_erf,
    measure_robustness,
    robustness_table,
    traits,
)

pytestmark = pytest.mark.slow
SIZE, COUNT, CORRUPTED = 128, 4, 8
"""As in the smoke profile."""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    study = traits("smoke", teachers=["mini_convnext"], students=["mini_resnet"], seeds=[0, 1])
    results = study.run(Store(tmp_path_factory.mktemp("store")), workers=1)
    measure_erf(results, workers=1)
    measure_robustness(results, workers=1)
    return results


def test_a_students_field_stands_beside_its_teachers_and_that_of_the_student_alone(results: Results) -> None:
    table = erf_table(results).set_index("seed")
    for run in results.distilled:
        row = table.loc[run.recipe.seed]
        for prefix, each in (("", run), ("alone_", results.alone(run)), ("teacher_", results.teacher_of(run))):
            field = erf_of(each, SIZE, COUNT)
            assert row[f"{prefix}share"] == 100 * effective_share(field)
            assert row[f"{prefix}side_50"] == area_ratios(field, (0.5,))[0].side
        assert row.share_gain == row.share - row.alone_share


def test_ratios_distances_and_maps_are_those_of_the_fields(results: Results) -> None:
    ratios = erf_ratios(results)
    assert set(ratios.teacher) == {"mini_convnext"} and len(ratios) == 2 * 4
    logarithm = ratios[ratios["map"] == "logarithm"]
    teacher = next(run for run in results.runs if results.teaches(run))
    assert logarithm.ratio.tolist() == [each.ratio for each in area_ratios(erf_of(teacher, SIZE, COUNT))]
    assert (erf_distances(results).distance > 0).all()
    maps = erf_maps(results)
    assert list(maps["teacher"]) == ["mini_convnext"] and list(maps["student"]) == ["alone", "by mini_convnext"]


def test_errors_are_means_over_types_and_severities(results: Results) -> None:
    table = robustness_table(results).set_index("seed")
    for run in results.distilled:
        errors = errors_of(run, CORRUPTED)
        corrupted = errors[errors.corruption != "clean"]
        assert len(corrupted) == 19 * 5
        assert table.loc[run.recipe.seed].error == pytest.approx(100 * corrupted.error.mean())
        assert table.loc[run.recipe.seed].clean_error == pytest.approx(100 * errors.error.iloc[0])
    by_type = errors_by_type(results)
    assert list(by_type.columns[:3]) == ["model", "teacher", "clean"] and by_type.shape == (3, 2 + 20)
