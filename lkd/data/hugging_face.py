"""Data sets of Hugging Face's hub, or local ones in their form."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from timm.data import create_dataset

from lkd.data.image_files import Listing
from lkd.data.splits import SPLITS, Found, NoImages, Place, split_called
from lkd.util.checks import some


def hugging_face(name: str) -> Place:
    """Splits of a data set of Hugging Face's hub, or of a local one in its form, which may change."""
    return _hfds_splits(name) if Path(name).exists() else _of_the_hub(name)


@functools.cache
def _of_the_hub(name: str) -> Place:
    return _hfds_splits(name)


def _hfds_splits(name: str) -> Place:
    try:
        from datasets import get_dataset_split_names
    except ImportError as error:
        raise ImportError("data 'hfds:...' needs the package datasets: run pip install datasets") from error
    there = get_dataset_split_names(name)
    found = {role: [split for split in there if split_called(split) == role] for role in SPLITS}
    if not found["train"]:
        raise FileNotFoundError(f"the data set {name!r} has the splits {', '.join(there)}: it needs train")
    for role, splits in found.items():
        if len(splits) > 1:
            raise ValueError(f"the data set {name!r} has {some(splits)}, and each may be the {role} split: keep one")
    chosen = {role: splits[0] for role, splits in found.items() if splits}
    beside = {"beside": [split for split in there if split not in chosen.values()]}
    return Place({role: _hfds_split(name, split) for role, split in chosen.items()}, beside)


def _hfds_split(name: str, split: str) -> Found:
    from datasets import load_dataset

    place = f"{name} ({split})"
    dataset = load_dataset(name, split=split)
    image, label = _columns(dataset.features, place)
    reader = create_dataset(f"hfds/{name}", split=split, input_key=image, target_key=label).reader
    labels = [_number(found, f"image {index} of {place}") for index, found in enumerate(reader.iter_targets())]
    if not labels:
        raise NoImages(f"{place} has no image: give it some, or remove the split")
    named = {number: label for label, number in reader.class_to_idx.items()}
    classes = tuple(named.get(number, str(number)) for number in range(max([*named, *labels]) + 1))
    lacking = len(classes) - len(set(labels) - {-1})
    note = f"without an image in {split}: {lacking:,} of the {len(classes):,} classes"
    return Found(
        Listing(reader, place, lambda: [dataset._fingerprint]),
        classes,
        labels,
        split,
        note=note if lacking and min(labels) >= 0 else "",
    )


def _columns(features: Mapping[str, Any], place: str) -> tuple[str, str]:
    """The column of images and that of labels: by their names, or else by their types if there is one of each.

    Raises:
        ValueError: none, or several.
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
    """A label as a number, -1 where there is none."""
    if label is None:
        return -1
    if not isinstance(label, int):
        raise ValueError(f"the label of {where} is {label!r}, no whole number: see datasets' class_encode_column")
    return int(label)
