"""Corrupted pictures of small data sets, made once and kept, and the errors of models on them."""

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
"""What the images themselves are called in a table, with severity 0."""

_MAKERS = ("blurs", "colours", "corruptions", "weather")
_LIBRARIES = ("numpy", "pillow", "scipy")


def corrupted(
    images: Split | Tensor, corruption: str, severity: int, indices: Sequence[int] | Tensor | None = None
) -> Tensor:
    """`corrupt`, made on the first call and read from a file on later ones, in any process.

    The files lie in `data/corrupted` of lkd's home: one folder for each (images, indices, version of the code
    that makes them, versions of NumPy, SciPy and Pillow), which may be deleted at any time.

    Args:
        images: a split in memory, or its uint8 images (N, C, 32, 32), C 1 or 3.
        corruption, severity, indices: as for `corrupt`.

    Returns:
        uint8, (N, C, 32, 32).

    Raises:
        KeyError, TypeError, ValueError: what `corrupt` raises.
        OSError: they cannot be written.

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
    """Errors of a model on the test images, and on corrupted ones; every model sees the same pictures.

    Args:
        model: images `(B, C, H, W)`, normalised as `data` says, to logits.
        data: in memory, uint8 images of 32x32.
        count: how many test images, with classes in proportion, always the same ones, fewer being the beginning of
            more; None for all.
        corruptions: types, of `CORRUPTIONS`.
        severities: of 1 to 5.

    Returns:
        Columns corruption, severity, images (their number) and error, the top-1 error in [0, 1]; a row for each type
        and severity, after one for the images themselves ("clean", 0).

    Raises:
        KeyError, TypeError, ValueError: an unknown type or severity, one twice or none at all, images in files, of
            another dtype or another size, more images than there are.

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
    """The test images to evaluate, and their places in the test split."""
    if not isinstance(data, Images):
        raise TypeError(f"data must be a data set in memory, got {type(data).__name__}: see lkd.data.from_datasets")
    check_images(data.test.images)
    if count is None:
        return data.test, torch.arange(len(data.test))
    check_whole("count", count, 1, len(data.test))
    numbers = torch.from_numpy(stratified_order(data.test.labels, SEED)[:count])
    return data.test.take(numbers), numbers


def _kept(folder: Path, images: Tensor, corruption: str, severity: int, numbers: Tensor) -> Tensor:
    path = folder / f"{corruption}-{severity}.npy"
    with suppress(FileNotFoundError, ValueError, EOFError):  # not there, or damaged
        return torch.from_numpy(np.load(path))
    made = corrupt(images, corruption, severity, numbers)
    with replacing(path) as temporary:
        np.save(temporary, made.numpy())
    return made


def _folder(images: Tensor, numbers: Tensor) -> Path:
    digest = hashlib.sha256(f"{_makers()} {tuple(images.shape)}".encode())
    for tensor in (images, numbers):
        digest.update(tensor.cpu().contiguous().numpy().data)
    return home() / "data" / "corrupted" / digest.hexdigest()[:16]


@cache
def _makers() -> str:
    """What the pictures are made by: another one for any change of the code or the libraries."""
    code = hashlib.sha256(b"".join(Path(__file__).with_name(f"{name}.py").read_bytes() for name in _MAKERS))
    return " ".join([code.hexdigest(), *(f"{library} {version(library)}" for library in _LIBRARIES)])
