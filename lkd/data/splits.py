"""Splits of image files: listing, validation, warnings, and the summary of ignored files."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import torch

from lkd.data.classes import check_same_classes, order_note
from lkd.data.folders import RULES, Picture
from lkd.data.image_files import FileSplit, Listing
from lkd.data.summary import Account
from lkd.util.checks import some

SPLITS = {"train": ("train", "training"), "val": ("val", "validation", "valid", "dev"), "test": ("test", "testing")}
"""Accepted names of each split, in lower or upper case."""


class NoImages(FileNotFoundError):
    """A folder or tar file has no images."""


@dataclass(frozen=True)
class ListedSplit:
    """The images of a split as listed from its source.

    Args:
        listing: the images, in the same order on every machine.
        classes: name of each class, "" for images without a class.
        labels: label of each image, negative for none.
        name: name of the split's folder, tar file or Hugging Face split.
        pictures: the image files, if known.
        empty: paths of class folders without images.
        ignored: names of ignored files and folders, by key of `lkd.data.folders.RULES`.
        above: path of the folder with the class folders, if it differs from the split's folder.
        below: number of images in subfolders of class folders.
        note: a remark for the summary.
    """

    listing: Listing
    classes: tuple[str, ...]
    labels: Sequence[int]
    name: str
    pictures: Sequence[Picture] = ()
    empty: Sequence[str] = ()
    ignored: Mapping[str, Sequence[str]] = field(default_factory=dict)
    above: str = ""
    below: int = 0
    note: str = ""

    @property
    def place(self) -> str:
        """Location of the images, for messages."""
        return self.listing.place

    @property
    def labelled(self) -> bool:
        """Whether the images have labels."""
        return self.classes != ("",) and min(self.labels) >= 0

    def split(self, classes: Sequence[str] | None = None) -> FileSplit:
        """The images with labels; with `classes`, labels are numbered in that order."""
        labels = torch.tensor(self.labels)
        if classes is not None:
            numbers = {name: number for number, name in enumerate(classes)}
            labels = torch.tensor([numbers[name] for name in self.classes])[labels]
        return FileSplit(self.listing, torch.arange(len(labels)), labels)


class ListedSplits(NamedTuple):
    """The splits by role, and ignored names outside them by key of `lkd.data.folders.RULES`."""

    splits: dict[str, ListedSplit]
    ignored: dict[str, list[str]]


def split_role(name: str) -> str:
    """The split with this name: "train", "val" or "test"; "" if there is none.

    Example:
        >>> from lkd.data.splits import split_role
        >>> split_role("Validation"), split_role("extra")
        ('val', '')
    """
    return next((role for role, names in SPLITS.items() if name.lower() in names), "")


# Validation -----------------------------------------------------------------------------------------------------------


def check_train(train: ListedSplit) -> None:
    """Raise a ValueError for images without a label, class folders without an image, or a single class."""
    check_labels(train)
    if len(train.classes) < 2:
        raise ValueError(
            f"{train.place} has only one class, {train.classes[0]!r}, the name of its only folder of images: put the "
            "images of each class directly into a folder named after the class"
        )


def drop_placeholder_class(listed: ListedSplits) -> ListedSplits:
    """Treat test images as unlabelled if they are all in one folder that is not a class of the training split.

    Unlabelled test images are often stored like this: `test/images/test_0.JPEG`, `test/test/1.jpg`.
    """
    train, test = listed.splits["train"], listed.splits.get("test")
    if test and len(test.classes) == 1 and test.classes[0] not in train.classes:
        listed.splits["test"] = replace(test, classes=("",))
    return listed


def check_other(role: str, other: ListedSplit, train: ListedSplit) -> None:
    """Check a split's labels, and compare its classes with the training split; ignore unlabelled test images."""
    if other.labelled or role != "test":
        check_labels(other)
        check_same_classes(train.classes, other.classes, train.place, other.place)


def check_labels(split: ListedSplit) -> None:
    """Raise a ValueError for images without a label, and class folders without an image."""
    if "" in split.classes:
        stray = split.listing.name(split.labels.index(split.classes.index("")))
        raise ValueError(f"{stray} is outside class folders: put each image into a folder named after its class")
    if min(split.labels) < 0:
        stray = split.listing.name(next(index for index, label in enumerate(split.labels) if label < 0))
        raise ValueError(f"{stray} has the label {min(split.labels)}: give each image the number of its class, from 0")
    if split.empty:
        raise ValueError(
            f"{split.place} has no image in {some(split.empty)}: add images of the class, or remove the folder"
        )


def warn_of_repeated(split: ListedSplit) -> None:
    """Warn of files that occur twice in a split."""
    first: dict[object, int] = {}
    twice = []
    for index, picture in enumerate(split.pictures):
        earlier = first.setdefault(picture.place, index)
        if earlier != index and _one_file(split, split.pictures[earlier], split, picture):
            twice.append((earlier, index))
    if twice:
        one, other = (f"{split.pictures[k].name!r} (class {split.classes[split.labels[k]]!r})" for k in twice[0])
        warnings.warn(
            f"{split.place} has {len(twice):,} of its files twice, {one} and {other} for example: each counts as two "
            "images; keep the one in the folder of its class",
            stacklevel=4,
        )


def warn_of_shared(splits: Iterable[ListedSplit]) -> None:
    """Warn of files that occur in two splits."""
    for one, other in combinations(splits, 2):
        if shared := _shared(one, other):
            warnings.warn(
                f"{other.place} has {len(shared):,} of the files of {one.place} as well ({some(shared)}), so networks "
                "are tested on images that they were trained or tuned on: remove them from one of the two",
                stacklevel=4,
            )


def _shared(one: ListedSplit, other: ListedSplit) -> list[str]:
    """Names of the files of the second split that are also in the first, as links to the same file."""
    places = {picture.place: picture for picture in one.pictures}
    pairs = [(places[picture.place], picture) for picture in other.pictures if picture.place in places]
    return [picture.name for same, picture in pairs if _one_file(one, same, other, picture)]


def _one_file(one: ListedSplit, same: Picture, other: ListedSplit, picture: Picture) -> bool:
    """Whether two pictures with equal `place` are the same file; inodes of two disks may coincide."""
    return isinstance(picture.place, tuple) or Path(one.place, same.name).samefile(Path(other.place, picture.name))


# Summary --------------------------------------------------------------------------------------------------------------


def account(listed: ListedSplits) -> Account:
    """Origin of the splits, ignored files and notes of a data set."""
    found = listed.splits.values()
    ignored = {rule: [*listed.ignored.get(rule, ())] for rule in RULES}
    for one in found:
        for rule, names in one.ignored.items():
            ignored[rule] += [f"{one.name}/{name}" for name in names]
    above = [f"{one.name}/{one.above}" for one in found if one.above]
    below = [f"{one.below:,} of {one.name}" for one in found if one.below]
    notes = [
        f"the classes are the folders of {', '.join(above)}" if above else "",
        f"images below a class folder count for it ({', '.join(below)})" if below else "",
        *(one.note for one in found),
        *(
            f"the {len(one.labels):,} images of {one.name} have no labels: not used"
            for one in found
            if not one.labelled
        ),
        order_note(listed.splits["train"].classes),
    ]
    return Account(_sources(listed.splits), ignored, tuple(filter(None, notes)))


def _sources(found: Mapping[str, ListedSplit]) -> dict[str, str]:
    """Origin of the images by split, where it differs from the split's name."""
    names = {role: one.name for role, one in found.items() if one.labelled}
    sources = {role: f"from {name}" for role, name in names.items() if Path(name).stem != role}
    if len(names) == 2:
        sources["val"] = f"held out of {names['train']}"
        if "test" not in names:
            sources["test"] = f"from {names['val']}"
    return sources
