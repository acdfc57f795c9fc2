"""Splits as they were found, whatever their images lie in: what is refused of them, and the account of all of them."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import torch

from lkd.data.accounting import Account
from lkd.data.classes import check_same, order_note
from lkd.data.folders import RULES, Picture
from lkd.data.image_files import FileSplit, Listing
from lkd.util.checks import some

SPLITS = {"train": ("train", "training"), "val": ("val", "validation", "valid", "dev"), "test": ("test", "testing")}
"""What each split may be called, in small or capital letters."""


class NoImages(FileNotFoundError):
    """A folder or tar file without images."""


@dataclass(frozen=True)
class Found:
    """The images of a split.

    Args:
        listing: the images, in an order that every machine gives them.
        classes: name of each class, "" for images that have none.
        labels: of each image; negative for none.
        called: its name where it lies.
        pictures: the files of the images, where they are known.
        empty: paths of class folders without images.
        ignored: names of what is not read, by key of `lkd.data.folders.RULES`.
        above: path of the folder that has the class folders, if it is not that of the split.
        below: number of images that lie deeper than in a class folder.
        note: what else may surprise.
    """

    listing: Listing
    classes: tuple[str, ...]
    labels: Sequence[int]
    called: str
    pictures: Sequence[Picture] = ()
    empty: Sequence[str] = ()
    ignored: Mapping[str, Sequence[str]] = field(default_factory=dict)
    above: str = ""
    below: int = 0
    note: str = ""

    @property
    def place(self) -> str:
        """Where the images lie, for people."""
        return self.listing.place

    @property
    def labelled(self) -> bool:
        """Whether the images have labels."""
        return self.classes != ("",) and min(self.labels) >= 0

    def split(self, classes: Sequence[str] | None = None) -> FileSplit:
        """The images with their labels, numbered by `classes` where these come in another order."""
        labels = torch.tensor(self.labels)
        if classes is not None:
            numbers = {name: number for number, name in enumerate(classes)}
            labels = torch.tensor([numbers[name] for name in self.classes])[labels]
        return FileSplit(self.listing, torch.arange(len(labels)), labels)


class Place(NamedTuple):
    """The splits at a place, by role; and what lies beside them, by key of `lkd.data.folders.RULES`."""

    splits: dict[str, Found]
    beside: dict[str, list[str]]


def split_called(name: str) -> str:
    """The split that may be called like this: "train", "val" or "test"; "" if none is.

    Example:
        >>> from lkd.data.splits import split_called
        >>> split_called("Validation"), split_called("extra")
        ('val', '')
    """
    return next((role for role, names in SPLITS.items() if name.lower() in names), "")


# What is refused ------------------------------------------------------------------------------------------------------


def check_train(train: Found) -> None:
    """Refuse a training split that cannot be trained on.

    Raises:
        ValueError: images without a label, class folders without an image, or one class alone.
    """
    check_labels(train)
    if len(train.classes) < 2:
        raise ValueError(
            f"{train.place} has one class, {train.classes[0]!r}, the name of the folder that its images lie in: put "
            "those of each class directly into a folder named for it"
        )


def without_placeholder(place: Place) -> Place:
    """The splits, with no labels for test images that all lie in one folder which is no class of training.

    Test images without labels often lie so: `test/images/test_0.JPEG`, `test/test/1.jpg`.
    """
    train, test = place.splits["train"], place.splits.get("test")
    if test and len(test.classes) == 1 and test.classes[0] not in train.classes:
        place.splits["test"] = replace(test, classes=("",))
    return place


def check_other(role: str, other: Found, train: Found) -> None:
    """Refuse a split that does not go with training; test images without labels are left aside.

    Raises:
        ValueError: other classes than those of training, and what `check_labels` refuses.
    """
    if other.labelled or role != "test":
        check_labels(other)
        check_same(train.classes, other.classes, train.place, other.place)


def check_labels(split: Found) -> None:
    """Refuse images without a label, and class folders without an image.

    Raises:
        ValueError: names the image or the folders.
    """
    if "" in split.classes:
        stray = split.listing.name(split.labels.index(split.classes.index("")))
        raise ValueError(f"{stray} lies outside class folders: put each image into a folder named for its class")
    if min(split.labels) < 0:
        stray = split.listing.name(next(index for index, label in enumerate(split.labels) if label < 0))
        raise ValueError(f"{stray} has the label {min(split.labels)}: give each image the number of its class, from 0")
    if split.empty:
        raise ValueError(
            f"{split.place} has no image in {some(split.empty)}: put images of the class there, or remove the folder"
        )


def warn_of_repeated(split: Found) -> None:
    """Warn of files that are in a split twice."""
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


def warn_of_shared(splits: Iterable[Found]) -> None:
    """Warn of files that are in two splits."""
    for one, other in combinations(splits, 2):
        if shared := _shared(one, other):
            warnings.warn(
                f"{other.place} has {len(shared):,} of the files of {one.place} as well ({some(shared)}): a network is "
                "then tested on images that it was trained or tuned on: remove them from one of the two",
                stacklevel=4,
            )


def _shared(one: Found, other: Found) -> list[str]:
    """Names of the files of the second split that are also in the first, by another link to them."""
    there = {picture.place: picture for picture in one.pictures}
    alike = [(there[picture.place], picture) for picture in other.pictures if picture.place in there]
    return [picture.name for same, picture in alike if _one_file(one, same, other, picture)]


def _one_file(one: Found, same: Picture, other: Found, picture: Picture) -> bool:
    """Whether pictures of one place are one file; inodes alone would not tell files of two disks apart."""
    return isinstance(picture.place, tuple) or Path(one.place, same.name).samefile(Path(other.place, picture.name))


# What is said ---------------------------------------------------------------------------------------------------------


def account(place: Place) -> Account:
    """What became of everything at a place."""
    found = place.splits.values()
    ignored = {rule: [*place.beside.get(rule, ())] for rule in RULES}
    for one in found:
        for rule, names in one.ignored.items():
            ignored[rule] += [f"{one.called}/{name}" for name in names]
    above = [f"{one.called}/{one.above}" for one in found if one.above]
    below = [f"{one.below:,} of {one.called}" for one in found if one.below]
    notes = [
        f"the classes are the folders of {', '.join(above)}" if above else "",
        f"images below a class folder count for it ({', '.join(below)})" if below else "",
        *(one.note for one in found),
        *(
            f"the {len(one.labels):,} images of {one.called} have no labels: not used"
            for one in found
            if not one.labelled
        ),
        order_note(place.splits["train"].classes),
    ]
    return Account(_sources(place.splits), ignored, tuple(filter(None, notes)))


def _sources(found: Mapping[str, Found]) -> dict[str, str]:
    """Where the images of a split come from, unless its name says it."""
    called = {role: one.called for role, one in found.items() if one.labelled}
    sources = {role: f"from {name}" for role, name in called.items() if Path(name).stem != role}
    if len(called) == 2:
        sources["val"] = f"held out of {called['train']}"
        if "test" not in called:
            sources["test"] = f"from {called['val']}"
    return sources
