"""The file of a run's predictions on the test images: small, and readable without the data set.

Images are sorted by label, for compression: `labels.argsort(kind="stable")` are their positions in the test split.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from lkd.util.files import reading

PREDICTIONS = "predictions.npz"
_LARGEST_BYTE = 2**8


def write_predictions(path: Path, labels: ArrayLike, classes: ArrayLike, known: int) -> None:
    """Write predicted classes.

    Args:
        labels, classes: label and predicted class of each image, in the order of the test split, shape (N,).
        known: number of classes.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from lkd.runs.predictions import read_predictions, write_predictions
        >>> path = Path(tempfile.mkdtemp()) / "predictions.npz"
        >>> write_predictions(path, labels=[2, 0, 2], classes=[1, 0, 2], known=3)
        >>> read_predictions(path, "make it again").to_dict("list")
        {'label': [0, 2, 2], 'predicted': [0, 1, 2]}
    """
    true, predicted = np.asarray(labels), np.asarray(classes)
    kind = np.uint8 if known <= _LARGEST_BYTE else np.uint16
    order = true.argsort(kind="stable")
    images = np.bincount(true, minlength=known).astype(np.uint32)
    np.savez_compressed(path, allow_pickle=False, predicted=predicted[order].astype(kind), images=images)


def read_predictions(path: Path, remedy: str) -> pd.DataFrame:
    """Label and predicted class of each test image, in the order of the labels.

    Raises:
        FileNotFoundError, OSError, ValueError: the file is missing or damaged; names it and the remedy.
    """
    with reading(path, "predictions of a run", remedy), np.load(path, allow_pickle=False) as file:
        predicted, images = file["predicted"].astype(np.int64), file["images"].astype(np.int64)
        if predicted.ndim != 1 or images.ndim != 1 or images.sum() != len(predicted):
            raise ValueError(f"it has {predicted.size} predictions for {images.sum()} images")
        if predicted.size and predicted.max() >= len(images):
            raise ValueError(f"it has a class {predicted.max()} of {len(images)}")
    return pd.DataFrame({"label": np.repeat(np.arange(len(images)), images), "predicted": predicted})
