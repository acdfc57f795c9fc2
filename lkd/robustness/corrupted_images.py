"""Cached corrupted images of small data sets, and the errors of models on them."""

import hashlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from lkd.data import Images, Split
from lkd.data.images import stratified_order
from lkd.engine import evaluate_batches
from lkd.engine.evaluate import BATCH_SIZE
from lkd.robustness.corruptions import SEED, check_choice, check_images, checked_indices, chosen_pairs, corrupt
from lkd.robustness.scores import CORRUPTIONS, SEVERITIES
from lkd.util.checks import check_whole
from lkd.util.files import home, replacing
from lkd.util.progress import progress_bar

CLEAN = "clean"
"""Name of the uncorrupted images in a table, with severity 0."""

_MAKERS = ("blurs", "colours", "corruptions", "weather")
_LIBRARIES = ("numpy", "pillow", "scipy")


def corrupted(
    images: Split | Tensor, corruption: str, severity: int, indices: Sequence[int] | Tensor | None = None
) -> Tensor:
    """Apply `corrupt` with a cache on disk, shared by all processes.

    The cache is `data/corrupted` in lkd's home, with one folder for each combination of images, indices, version of the
    corruption code, and versions of NumPy, SciPy and Pillow. It may be deleted at any time.

    Args:
        images: a split in memory, or its uint8 images (N, C, 32, 32), C 1 or 3.
        corruption, severity, indices: as in `corrupt`.

    Returns:
        uint8, (N, C, 32, 32).

    Raises:
        KeyError, TypeError, ValueError: as in `corrupt`.
        OSError: the cache cannot be written.

    Example:
        >>> import torch
        >>> from lkd.data import load
        >>> from lkd.robustness import corrupt, corrupted
        >>> split = load("digits").val
        >>> torch.equal(corrupted(split, "fog", severity=3), corrupt(split.images, "fog", severity=3))
        True
    """
    check_choice(corruption, severity)
    pixels = images.images if isinstance(images, Split) else images
    check_images(pixels)
    numbers = checked_indices(indices, len(pixels))
    return _kept(_folder(pixels, numbers), pixels, corruption, severity, numbers)


def corruption_errors(
    model: nn.Module,
    data: Images,
    count: int | None = None,
    *,
    corruptions: Iterable[str] = CORRUPTIONS,
    severities: Iterable[int] = SEVERITIES,
) -> pd.DataFrame:
    """Errors of a model on the test images and their corruptions; all models are evaluated on the same images.

    Args:
        model: maps images `(B, C, H, W)`, normalised by the statistics of `data`, to logits.
        data: a data set in memory, with uint8 images of 32x32.
        count: size of a fixed stratified subset of the test images; smaller subsets are prefixes of larger ones. None
            for all images.
        corruptions: types from `CORRUPTIONS`.
        severities: severities from 1 to 5.

    Returns:
        Columns corruption, severity, images (their number) and error (top-1, in [0, 1]); one row for the clean images
        ("clean", 0), then one for each type and severity.

    Raises:
        KeyError, TypeError, ValueError: an unknown, repeated or missing type or severity; images in files, or of
            another dtype or size; more images than available.

    Example:
        >>> import timm, lkd
        >>> from lkd.data import load
        >>> from lkd.robustness import corruption_errors
        >>> model = timm.create_model("mini_vit", in_chans=1, num_classes=10)
        >>> table = corruption_errors(model, load("digits"), count=10, corruptions=["fog"], severities=[1, 5])
        >>> table[["corruption", "severity", "images"]].to_records(index=False).tolist()
        [('clean', 0, 10), ('fog', 1, 10), ('fog', 5, 10)]
    """
    pairs = chosen_pairs(corruptions, severities)
    split, numbers = _chosen(data, count)
    folder = _folder(split.images, numbers)
    rows = [(CLEAN, 0, _top1(model, data, split.images, split.labels))]
    with progress_bar(len(pairs)) as bar:
        for name, severity in pairs:
            pictures = _kept(folder, split.images, name, severity, numbers)
            rows.append((name, severity, _top1(model, data, pictures, split.labels)))
            bar.update()
    table = pd.DataFrame(rows, columns=["corruption", "severity", "top1"])
    return table.assign(images=len(split), error=1 - table.pop("top1") / 100)


def _top1(model: nn.Module, data: Images, images: Tensor, labels: Tensor) -> float:
    """Accuracy in percent on images that are not normalised yet."""
    batches = zip(images.split(BATCH_SIZE), labels.split(BATCH_SIZE), strict=True)
    return evaluate_batches(model, ((data.normalise(part), target) for part, target in batches))["top1"]


def _chosen(data: Images, count: int | None) -> tuple[Split, Tensor]:
    """The test images to evaluate, and their indices in the test split."""
    if not isinstance(data, Images):
        raise TypeError(f"data must be a data set in memory, got {type(data).__name__}: see lkd.data.from_datasets")
    test, numbers = data.test, torch.arange(len(data.test))
    if count is not None:
        check_whole("count", count, 1, len(test))
        numbers = torch.from_numpy(stratified_order(test.labels, SEED)[:count])
        test = test.take(numbers)
    images = test.images
    check_images(images)
    return Split(images, test.labels), numbers


def _kept(folder: Path, images: Tensor, corruption: str, severity: int, numbers: Tensor) -> Tensor:
    path = folder / f"{corruption}-{severity}.npy"
    with suppress(FileNotFoundError, ValueError, EOFError):  # missing or damaged
        return torch.from_numpy(np.load(path))
    made = corrupt(images, corruption, severity, numbers)
    with replacing(path) as temporary:
        np.save(temporary, made.numpy())
    return made


def _folder(images: Tensor, numbers: Tensor) -> Path:
    digest = hashlib.sha256(f"{_code_version()} {tuple(images.shape)}".encode())
    for tensor in (images, numbers):
        digest.update(tensor.cpu().contiguous().numpy().data)
    return home() / "data" / "corrupted" / digest.hexdigest()[:16]


@cache
def _code_version() -> str:
    """Version of the corruption code and its libraries, for the cache key."""
    code = hashlib.sha256(b"".join(Path(__file__).with_name(f"{name}.py").read_bytes() for name in _MAKERS))
    return " ".join([code.hexdigest(), *(f"{library} {version(library)}" for library in _LIBRARIES)])
