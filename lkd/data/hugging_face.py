"""Data sets from the Hugging Face Hub, or local ones in the same format."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from timm.data import create_dataset

from lkd.data.image_files import Listing
from lkd.data.splits import SPLITS, ListedSplit, ListedSplits, NoImages, split_role
from lkd.util.checks import some


def hugging_face(name: str) -> ListedSplits:
    """Splits of a data set on the Hugging Face Hub (cached), or of a local one (listed at each call)."""
    return _splits(name) if Path(name).exists() else _hub_splits(name)


def _splits(name: str) -> ListedSplits:
    try:
        from datasets import get_dataset_split_names
    except ImportError as error:
        raise ImportError("data 'hfds:...' needs the package datasets: run pip install datasets") from error
    names = get_dataset_split_names(name)
    found = {role: [split for split in names if split_role(split) == role] for role in SPLITS}
    if not found["train"]:
        raise FileNotFoundError(f"the data set {name!r} has the splits {', '.join(names)}: it needs train")
    for role, splits in found.items():
        if len(splits) > 1:
            raise ValueError(f"the data set {name!r} has {some(splits)}, and each could be the {role} split: keep one")
    chosen = {role: splits[0] for role, splits in found.items() if splits}
    ignored = {"beside": [split for split in names if split not in chosen.values()]}
    return ListedSplits({role: _split(name, split) for role, split in chosen.items()}, ignored)


_hub_splits = functools.cache(_splits)


def _split(name: str, split: str) -> ListedSplit:
    from datasets import load_dataset

    place = f"{name} ({split})"
    dataset = load_dataset(name, split=split)
    image, label = _columns(dataset.features, place)
    reader = create_dataset(f"hfds/{name}", split=split, input_key=image, target_key=label).reader
    labels = [_number(found, f"image {index} of {place}") for index, found in enumerate(reader.iter_targets())]
    if not labels:
        raise NoImages(f"{place} has no image: add images, or remove the split")
    names = {number: label for label, number in reader.class_to_idx.items()}
    classes = tuple(names.get(number, str(number)) for number in range(max([*names, *labels]) + 1))
    empty = len(classes) - len(set(labels) - {-1})
    note = f"without an image in {split}: {empty:,} of the {len(classes):,} classes"
    return ListedSplit(
        Listing(reader, place, lambda: [dataset._fingerprint]),
        classes,
        labels,
        split,
        note=note if empty and min(labels) >= 0 else "",
    )


def _columns(features: Mapping[str, Any], place: str) -> tuple[str, str]:
    """The image column and the label column, by name, or else by type if it is unique.

    Raises:
        ValueError: no such column, or several.
    """
    chosen = []
    for usual, kind in (("image", "Image"), ("label", "ClassLabel")):
        of_kind = [name for name, feature in features.items() if type(feature).__name__ == kind]
        if usual not in features and len(of_kind) != 1:
            raise ValueError(
                f"{place} has the columns {some(features)}, and {some(of_kind) or 'none'} of type {kind}: rename the "
                f"one to use to {usual!r}"
            )
        chosen.append(usual if usual in features else of_kind[0])
    return chosen[0], chosen[1]


def _number(label: Any, where: str) -> int:
    """A label as a number, -1 for none."""
    if label is None:
        return -1
    if not isinstance(label, int):
        raise ValueError(f"the label of {where} is {label!r}, not a whole number: see datasets' class_encode_column")
    return int(label)
