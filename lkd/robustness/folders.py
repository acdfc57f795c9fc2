"""Folders, classes and images of ImageNet-C, -A, -R and -Sketch."""

import pkgutil
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from timm.data import ImageNetInfo

from lkd.data import FileSplit
from lkd.data.folders import ignore_rule
from lkd.data.sources import folder_split
from lkd.data.splits import NoImages, check_labels
from lkd.util.checks import some, unknown

CLASSES = 1000
"""Number of classes of ImageNet-1k."""

NONE = "none"
"""Entry of the column `corruption` for sets without corruptions; severity 0."""


class ImageNetSet(NamedTuple):
    """One of the evaluation sets.

    Args:
        folders: accepted names of its folder.
        source: download address.
        indices: its classes of ImageNet-1k, ascending.
    """

    folders: tuple[str, ...]
    source: str
    indices: tuple[int, ...] = tuple(range(CLASSES))


def _listed(name: str) -> tuple[int, ...]:
    """Read a list of classes that is part of timm."""
    content = pkgutil.get_data("timm.data", f"_info/{name}") or b""
    return tuple(sorted(int(line) for line in content.split()))


SETS = {
    "C": ImageNetSet(("imagenet-c", "ImageNet-C"), "https://zenodo.org/records/2235448"),
    "A": ImageNetSet(
        ("imagenet-a", "ImageNet-A"),
        "https://github.com/hendrycks/natural-adv-examples",
        _listed("imagenet_a_indices.txt"),
    ),
    "R": ImageNetSet(
        ("imagenet-r", "ImageNet-R"), "https://github.com/hendrycks/imagenet-r", _listed("imagenet_r_indices.txt")
    ),
    "Sketch": ImageNetSet(
        ("sketch", "imagenet-sketch", "ImageNet-Sketch"), "https://github.com/HaohanWang/ImageNet-Sketch"
    ),
}
"""The evaluation sets by name."""


class Part(NamedTuple):
    """A folder of class folders of a set, and the evaluation protocol."""

    set: str
    protocol: str
    corruption: str
    severity: int
    path: Path


def class_indices(name: str) -> tuple[int, ...]:
    """The classes of ImageNet-1k in a set, ascending, which is the order of its folders, named by WordNet id.

    Args:
        name: a key of `SETS`.

    Raises:
        KeyError: an unknown set.

    Example:
        >>> from lkd.robustness import class_indices
        >>> len(class_indices("A")), class_indices("R")[:3], len(class_indices("Sketch"))
        (200, (1, 2, 4), 1000)
    """
    if name not in SETS:
        raise KeyError(unknown("set", name, SETS))
    return SETS[name].indices


def find(name: str, folder: Path, protocols: Iterable[str], pairs: Sequence[tuple[str, int]]) -> list[Part]:
    """Find the folders of a set and check their classes.

    Args:
        folder: parent of the set's folder.
        protocols: protocols for ImageNet-C.
        pairs: pairs of type and severity of ImageNet-C.

    Raises:
        FileNotFoundError: a folder is missing; the message states where to get it.
        ValueError: a folder has other classes.
    """
    candidates = [folder / called for called in SETS[name].folders]
    root = next((path for path in candidates if path.is_dir()), None)
    if root is None:
        raise FileNotFoundError(
            f"ImageNet-{name}: there is no folder {' or '.join(map(str, candidates))}: "
            f"get it from {SETS[name].source} and unpack it there, or leave {name!r} out of sets"
        )
    if name == "C":
        parts = [Part(name, "", *pair, path) for pair, path in _by_corruption(root, pairs)]
    else:
        parts = [Part(name, "l2s", NONE, 0, root)]
    for part in parts:
        folders = {path.name for path in part.path.iterdir() if path.is_dir() and not ignore_rule(path.name)}
        _check_classes(part.path, folders, class_indices(name))
    return parts if name != "C" else [part._replace(protocol=protocol) for protocol in protocols for part in parts]


def images_of(part: Part, answers: Sequence[int]) -> FileSplit:
    """The images of a folder, ordered by name.

    Args:
        answers: the classes of ImageNet-1k to choose from; labels are positions in this sequence.

    Raises:
        FileNotFoundError: the folder has no images.
        ValueError: a class without images, or an image outside the class folders.
    """
    names = _synsets()
    try:
        found = folder_split(part.path)
    except NoImages as error:
        raise FileNotFoundError(f"{part.path} has no images: get them from {SETS[part.set].source}") from error
    _check_classes(part.path, set(found.classes) - {""}, class_indices(part.set))
    check_labels(found)
    return found.split([names[index] for index in answers])


def _by_corruption(root: Path, pairs: Iterable[tuple[str, int]]) -> Iterator[tuple[tuple[str, int], Path]]:
    for corruption, severity in pairs:
        path = root / corruption / str(severity)
        if not path.is_dir():
            raise FileNotFoundError(
                f"ImageNet-C: there is no folder {path}: get {corruption} from {SETS['C'].source} and unpack it into "
                f"{root}, or leave {corruption!r} out of corruptions"
            )
        yield (corruption, severity), path


def _check_classes(path: Path, found: set[str], indices: Sequence[int]) -> None:
    """Refuse a folder with other classes than `indices` of ImageNet-1k."""
    expected = {_synsets()[index] for index in indices}
    pairs = (("is missing", expected - found), ("has extra", found - expected))
    if differences := [f"{text} {some(names)}" for text, names in pairs if names]:
        raise ValueError(
            f"{path} {' and '.join(differences)} compared with the {len(expected)} classes of its set: it needs one "
            "folder of images per class, named by WordNet id, and no others"
        )


@cache
def _synsets() -> tuple[str, ...]:
    """WordNet ids of the classes of ImageNet-1k, in order."""
    return tuple(ImageNetInfo().label_names())
