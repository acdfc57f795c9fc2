"""Tables of traits of a small real study, compared with the measurements behind them."""

from pathlib import Path

import pytest
from PIL import Image
from timm.data import ImageNetInfo
from training_here import copy_runs, training_here

from lkd import Recipe
from lkd.engine.workers import execute_all
from lkd.erf import area_ratios, effective_share
from lkd.robustness import CORRUPTIONS, SETS, SEVERITIES, class_indices
from lkd.runs.store import Store
from lkd.study import (
    Results,
    Study,
    check_changed_images,
    erf_distances,
    erf_maps,
    erf_ratios,
    erf_table,
    errors_by_type,
    imagenet_table,
    kernel_sizes,
    measure_erf,
    measure_robustness,
    robustness_table,
    trait_study,
)
from lkd.study.measure import erf_of, errors_of

pytestmark = pytest.mark.slow
SIZE, COUNT, CORRUPTED = 128, 4, 8
"""As in the smoke profile."""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory, smoke_runs: Store) -> Results:
    folder = tmp_path_factory.mktemp("store")
    study = trait_study("smoke", teachers=["mini_convnext"], students=["mini_resnet"], seeds=[0, 1])
    copy_runs(smoke_runs, folder, study.recipes)
    results = study.run(Store(folder))
    measure_erf(results, workers=1)
    measure_robustness(results, workers=1)
    return results


def test_a_students_field_stands_beside_its_teachers_and_that_of_the_student_alone(results: Results) -> None:
    table = erf_table(results).set_index("seed")
    for run in results.distilled:
        row = table.loc[run.recipe.seed]
        for prefix, each in (("", run), ("alone_", results.baseline(run)), ("teacher_", results.teacher_of(run))):
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


def test_the_field_of_a_student_stands_beside_the_kernel_of_its_teacher(tmp_path: Path, smoke_runs: Store) -> None:
    study = kernel_sizes("smoke", sizes=["3", "7"], seeds=[0])
    copy_runs(smoke_runs, tmp_path, study.recipes)
    results = study.run(Store(tmp_path))
    measure_erf(results, workers=1)
    table = erf_table(results).set_index("kernel")
    assert sorted(table.index) == ["3", "7"] and not {"erf_size", "corrupted_images"} & set(table)
    assert len(set(table.share)) == 2 and table.alone_share.nunique() == 1


# ImageNet's changed images ------------------------------------------------------------------------------------------


@pytest.fixture
def imagenet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Training images of all classes, and the four sets, with three classes only in C and Sketch."""
    for name in ("C", "Sketch"):
        monkeypatch.setitem(SETS, name, SETS[name]._replace(indices=(3, 7, 500)))
    whole = range(1000)
    pairs = {f"imagenet-c/{name}/{severity}": class_indices("C") for name in CORRUPTIONS for severity in SEVERITIES}
    parts = {"data/train": whole, "data/val": whole, "sketch": class_indices("Sketch"), **pairs}
    parts |= {f"imagenet-{name.lower()}": class_indices(name) for name in ("A", "R")}
    names, picture = ImageNetInfo().label_names(), Image.new("RGB", (32, 32))
    for part, indices in parts.items():
        for index in indices:
            path = tmp_path / part / names[index] / "1.png"
            path.parent.mkdir(parents=True)
            picture.putpixel((index % 32, index // 32), (255, 0, 0))
            picture.save(path)
    return tmp_path


def of_files(folder: Path) -> Study:
    """A teacher, a baseline and a distilled student on image files."""
    plain = {"data": f"folder:{folder}", "student": "test_resnet", "image_size": 32, "train_images": 900}
    teacher = Recipe(**plain, seed=1)
    study = (teacher, Recipe(**plain), Recipe(**plain, teacher=teacher, objective="nkd"))
    return Study(study, lambda recipe: {"erf_size": 64, "erf_images": 1, "corrupted_images": 8})


def test_models_of_imagenet_are_measured_on_the_users_sets(imagenet: Path, tmp_path: Path) -> None:
    study = of_files(imagenet / "data")
    check_changed_images(study, str(imagenet))
    store = Store(tmp_path / "store")
    execute_all(study.recipes, store, start=training_here)
    results = study.run(store)
    with pytest.raises(FileNotFoundError, match="was not measured on ImageNet-C"):
        robustness_table(results)
    measure_robustness(results, 1, str(imagenet))
    scores = imagenet_table(results)
    assert len(scores) == 3 and {"mCE-15 (standard)", "ImageNet-A", "ImageNet-R", "ImageNet-Sketch"} <= set(scores)
    mean = scores["mean error-19 (standard input)"]
    table = robustness_table(results).iloc[0]
    assert table.error == pytest.approx(mean[2]) and table.teacher_error == pytest.approx(mean[0])
    assert table.clean_error == pytest.approx(100 - results.runs[2].metrics["test_top1"])


@pytest.mark.parametrize(
    ("data", "given", "error", "message"),
    [
        ("folder:pets", {}, ValueError, "imagenet is None: .* give the folder with imagenet-c, imagenet-a"),
        ("digits", {"imagenet": "here"}, ValueError, "imagenet='here' is for models of ImageNet's 1000 classes"),
        ("digits", {"sets": ["Sketches"]}, KeyError, "unknown entry of sets 'Sketches': did you mean 'Sketch'"),
        ("folder:pets", {"imagenet": "here", "sets": ["A"]}, ValueError, "must include 'C'"),
        (
            "folder:pets",
            {"imagenet": "/nowhere"},
            FileNotFoundError,
            "ImageNet-C: there is no folder /nowhere/.*zenodo",
        ),
    ],
)
def test_what_could_not_be_measured_is_refused_before_anything_is_trained(data, given, error, message) -> None:
    study = Study((Recipe(data=data, student="mini_resnet"),))
    with pytest.raises(error, match=message):
        check_changed_images(study, **{"imagenet": None, **given})
