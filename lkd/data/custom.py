"""Custom data sets, read into memory."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, Subset
from tqdm import tqdm

from lkd.data.images import Images, Split, channel_statistics, hold_out
from lkd.data.samples import image_and_label
from lkd.data.sanity_checks import warn, warn_of_mixture, warn_of_repeats
from lkd.util.checks import check_number, some


class MapDataset(Protocol):
    """A map-style data set: `data[index]` is an (image, label) pair, `len(data)` the number of samples."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


def from_datasets(
    train: MapDataset,
    test: MapDataset,
    *,
    val: MapDataset | None = None,
    classes: Sequence[str] | None = None,
    val_share: float = 0.1,
    seed: int = 0,
) -> Images:
    """Read your own data sets into memory.

    Samples are read once: leave random augmentation to the recipe.

    The function warns of samples that change when read again (eight of each data set are tested), images shared by two
    data sets, images with a different value range than the rest of their data set, and data sets that number their
    classes differently. `Images` warns of splits that differ in values or classes.

    Args:
        train, test: map-style data sets of (image, label). An image is a uint8 or float tensor of shape (C, H, W), a
            uint8 array of shape (H, W) or (H, W, C), or a PIL image of mode L or RGB; a label is an int from 0.
            All images have the same shape and dtype.
        val: the validation set; by default, `val_share` of train is held out, stratified by class.
        classes: name of each class; by default "0" to the highest label, if the labels start at 0 and more than half
            of these numbers occur.
        val_share: share of train to hold out, between 0 and 1; not used with `val`.
        seed: seed of the choice of held-out images.

    Returns:
        Images with the name "custom". uint8 images have the mean and std of the training images; float images are used
        unchanged (mean 0, std 1).

    Raises:
        TypeError: a data set without length or indices, a sample that is not an (image, label) pair, an image or a
            label of another type.
        ValueError: an empty data set, an unreadable sample, images of different shapes, with channels in the wrong
            place or with values that are not finite, labels that do not number the classes.
        OSError: a sample with an unreadable file.

    Example:
        >>> import torch
        >>> from torch.utils.data import TensorDataset
        >>> from lkd.data import from_datasets
        >>> train, test = (TensorDataset(torch.rand(n, 3, 32, 32), torch.arange(n) % 2) for n in (20, 10))
        >>> data = from_datasets(train, test, classes=("cat", "dog"))
        >>> len(data.train), len(data.val), len(data.test)
        (18, 2, 10)
    """
    datasets = {"train": train, "test": test} | ({} if val is None else {"val": val})
    splits = {name: _read(name, dataset) for name, dataset in datasets.items()}
    labels = {name: split.labels for name, split in splits.items()}
    classes = _class_names(labels) if classes is None else classes
    _check_classes(classes, labels)
    _warn_of_suspicious(datasets, splits, classes)
    whole = splits["train"]
    kept, held = hold_out(whole, _val_count(len(whole), val_share), seed) if val is None else (whole, splits["val"])
    mean, std = _statistics(kept.images)
    return Images("custom", tuple(classes), kept, held, splits["test"], mean, std)


def _statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if images.is_floating_point():
        return (0.0,) * images.shape[1], (1.0,) * images.shape[1]
    if images.min() == images.max():
        raise ValueError(
            f"every value of every train image is {int(images.min())}: check how the images are read (floats in "
            "[0, 1] become 0 when cast to uint8: multiply them by 255 first)"
        )
    return channel_statistics(images)


def _val_count(available: int, share: float) -> int:
    check_number("val_share", share, 0, 1, above=True, below=True)
    count = round(available * share)
    if not 0 < count < available:
        raise ValueError(f"val_share {share} of {available} training images holds out {count}: give a val data set")
    return count


def _read(name: str, dataset: MapDataset) -> Split:
    _check_map_style(name, dataset)
    first, _ = _pair(name, dataset, 0)
    images = torch.empty((len(dataset), *first.shape), dtype=first.dtype)
    labels = torch.empty(len(dataset), dtype=torch.int64)
    for index in tqdm(range(len(dataset)), desc=f"reading {name}", delay=2, leave=False, disable=None):
        image, labels[index] = _pair(name, dataset, index)
        if image.shape != first.shape or image.dtype != first.dtype:
            raise ValueError(
                f"the image of {name}[{index}] is {tuple(image.shape)} {image.dtype}, that of {name}[0] "
                f"{tuple(first.shape)} {first.dtype}: give all images the same shape and dtype, for example with "
                "torchvision's Resize"
            )
        images[index] = image
    return Split(images, labels)


def _check_map_style(name: str, dataset: MapDataset) -> None:
    indexed = hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")
    by_name = isinstance(dataset, Mapping) and 0 not in dataset
    if not indexed or by_name or isinstance(dataset, IterableDataset):
        raise TypeError(
            f"{name} is a {type(dataset).__name__} without __len__ and __getitem__ of indices: give a map-style data "
            f"set ({_map_style_hint(dataset)})"
        )
    if len(dataset) == 0:
        raise ValueError(f"{name} is empty: give at least one (image, label) pair")


def _map_style_hint(dataset: Any) -> str:
    if isinstance(dataset, DataLoader):
        return "loader.dataset is one"
    if isinstance(dataset, Mapping):
        return f"this one contains {some(map(str, dataset)) or 'nothing'}"
    return "a list of its samples is one"


def _pair(name: str, dataset: MapDataset, index: int) -> tuple[Tensor, int]:
    where = f"{name}[{index}]"
    try:
        sample = dataset[index]
    except Exception as error:
        remedy = f"correct __len__, which is {len(dataset)}, or" if isinstance(error, IndexError) else "repair it or"
        raise (OSError if isinstance(error, OSError) else ValueError)(
            f"{where} cannot be read ({type(error).__name__}: {error}): {remedy} leave it out"
        ) from error
    return image_and_label(where, sample)


def _class_names(labels: dict[str, Tensor]) -> list[str]:
    """Default class names, "0" to the highest label.

    Raises:
        ValueError: labels that do not start at 0, or that leave out half of the numbers or more.
    """
    numbers = torch.cat(list(labels.values())).unique()
    lowest, highest = int(numbers[0]), int(numbers[-1])
    if lowest > 0 or 2 * len(numbers) <= highest:
        name = next(name for name in labels if (labels[name] == highest).any())
        where = f"{name}[{int((labels[name] == highest).nonzero()[0])}]"
        raise ValueError(
            f"labels go from {lowest} to {highest} (the label of {where}), with {len(numbers)} different ones: number "
            f"the classes 0 to {len(numbers) - 1}, leave out samples that have no class, or name every "
            f"class with classes=[str(k) for k in range({highest + 1})]"
        )
    return [str(label) for label in range(highest + 1)]


def _check_classes(classes: Sequence[str], labels: dict[str, Tensor]) -> None:
    if isinstance(classes, str) or not all(isinstance(name, str) for name in classes):
        raise TypeError(f"classes is {classes!r}: give a list of names, one str for each class")
    for name, values in labels.items():
        if (highest := int(values.max())) >= len(classes):
            lowest = min(int(part.min()) for part in labels.values())
            remedy = f"number the classes from 0, not from {lowest}" if lowest else "name every class"
            raise ValueError(
                f"{name}[{int(values.argmax())}] has label {highest}, classes names {len(classes)} (labels 0 to "
                f"{len(classes) - 1}): {remedy}, or correct the labels"
            )


def _warn_of_suspicious(datasets: dict[str, MapDataset], splits: dict[str, Split], classes: Sequence[str]) -> None:
    """Warn of likely mistakes that only the data sets themselves reveal; `Images` warns of the others."""
    _warn_of_order(datasets, classes)
    if len(classes) == 1:
        warn(f"there is only one class ({classes[0]!r}), so there is nothing to learn: check the labels")
    for name, split in splits.items():
        warn_of_mixture(name, split.images)
        _warn_of_random(name, datasets[name], split)
    for name, other in (("test", "train"), ("val", "train"), ("val", "test")):
        if name in datasets and datasets[name] is datasets[other]:
            warn(f"{name} is the same data set as {other}: its accuracy says nothing about new images; give another")
    once = {id(dataset): name for name, dataset in reversed(datasets.items())}
    warn_of_repeats({name: splits[name].images for name in reversed(once.values())})


def _warn_of_random(name: str, dataset: MapDataset, split: Split) -> None:
    """Warn of samples that differ when read again."""
    places = sorted({(len(split) - 1) * step // 7 for step in range(8)})
    again = {place: _pair(name, dataset, place) for place in places}
    changed = [
        place
        for place, (image, label) in again.items()
        if not torch.equal(image, split.images[place]) or label != split.labels[place]
    ]
    if changed:
        warn(
            f"{name} is random: {len(changed)} of {len(places)} samples, {name}[{changed[0]}] for example, differed "
            "when read again. Every epoch uses the first reading, and other processes read other values: remove random "
            "transforms from the data set, and set crop, flip and the other augmentation of lkd.Recipe"
        )


def _warn_of_order(datasets: dict[str, MapDataset], classes: Sequence[str]) -> None:
    """Warn of data sets with class names, like torchvision's, that number them differently."""
    orders = {name: names for name, dataset in datasets.items() if (names := _names_of(dataset))}
    if sorted(classes) in map(sorted, orders.values()):
        orders["classes"] = list(classes)
    (first, names), *others = orders.items() if orders else [("", [])]
    for name, order in others:
        for number, (one, other) in enumerate(zip(names, order, strict=False)):
            if one != other:
                warn(f"label {number} is {one!r} in {first} and {other!r} in {name}: number the classes the same way")
                break


def _names_of(dataset: Any) -> list[str]:
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    names = getattr(dataset, "classes", None)
    return [str(name) for name in names] if isinstance(names, list | tuple) else []
