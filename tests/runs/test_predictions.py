"""The file of a run's predictions: its order, its size, and damages."""

from pathlib import Path

import numpy as np
import pytest

from lkd.runs.predictions import read_predictions, write_predictions

LABELS = np.random.default_rng(0).integers(0, 10, 2000)
CLASSES = np.where(np.random.default_rng(1).random(2000) < 0.8, LABELS, (LABELS + 1) % 10)


def test_labels_and_classes_come_back_in_the_order_of_the_labels(tmp_path: Path) -> None:
    write_predictions(tmp_path / "p.npz", LABELS, CLASSES, 10)
    found = read_predictions(tmp_path / "p.npz", "make it again")
    order = LABELS.argsort(kind="stable")
    assert found.label.tolist() == LABELS[order].tolist() and found.predicted.tolist() == CLASSES[order].tolist()


@pytest.mark.parametrize("known", [256, 257, 1000])
def test_any_number_of_classes_fits(known: int, tmp_path: Path) -> None:
    write_predictions(tmp_path / "p.npz", [known - 1, 0], [known - 1, known - 1], known)
    assert read_predictions(tmp_path / "p.npz", "").predicted.tolist() == [known - 1, known - 1]


def test_the_order_of_labels_makes_the_file_smaller_than_a_list_of_predictions(tmp_path: Path) -> None:
    write_predictions(tmp_path / "p.npz", LABELS, CLASSES, 10)
    np.savez_compressed(tmp_path / "plain.npz", CLASSES.astype(np.uint8))
    assert (tmp_path / "p.npz").stat().st_size < 0.8 * (tmp_path / "plain.npz").stat().st_size


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"predicted": np.zeros(3, np.uint8), "images": np.array([1, 1], np.uint32)}, "3 predictions for 2 images"),
        ({"predicted": np.full(2, 9, np.uint8), "images": np.array([1, 1], np.uint32)}, "a class 9 of 2"),
        ({"predicted": np.zeros(2, np.uint8)}, "images"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(arrays: dict, message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "p.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        read_predictions(tmp_path / "p.npz", "make it again")


def test_a_missing_file_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is missing: make it again"):
        read_predictions(tmp_path / "p.npz", "make it again")
