"""What there is to learn from: the data sets that this machine has, and whether all files of one can be read."""

from typing import NamedTuple

from joblib import Parallel, delayed
from timm.data import ImageNetInfo

from lkd.data import Files, FileSplit, load
from lkd.data.fashion_mnist import DEBIAN_FOLDER, SHA256
from lkd.files import home
from lkd.progress import progress_bar


class Known(NamedTuple):
    """A data set by name.

    Attributes:
        name: what a recipe calls it.
        place: where its files lie, or how to get them.
        classes: number of classes; None where the files are not here.
        images: number of images in train, val and test; None likewise.
    """

    name: str
    place: str
    classes: int | None = None
    images: dict[str, int] | None = None


class Checked(NamedTuple):
    """What was found in a data set of image files.

    Attributes:
        classes: their names, in the order of their numbers.
        imagenet: whether these are ImageNet-1k's 1000 by WordNet id, numbered as pretrained networks number them.
        images: by split, the number of images of each class.
        unreadable: what cannot be read or decoded, each with the reason.
    """

    classes: tuple[str, ...]
    imagenet: bool
    images: dict[str, list[int]]
    unreadable: dict[str, str]


def known() -> list[Known]:
    """The data sets with a name of their own, and the folders in `data` of lkd's home; nothing is fetched.

    Example:
        >>> from lkd.inspection import known
        >>> known()[0].images
        {'train': 1297, 'val': 250, 'test': 250}
    """
    places = {"digits": "comes with scikit-learn", "fashion_mnist": _fashion_mnist()}
    places |= {f"folder:{path.parent.name}": str(path.parent) for path in sorted((home() / "data").glob("*/train"))}
    absent = Known("fashion_mnist", "not here: its first use fetches 31 MB")
    return [_counted(name, place) if place else absent for name, place in places.items()]


def check(data: Files, threads: int = 4) -> Checked:
    """Decode every image of a data set once. That its splits have the same classes was checked when it was loaded.

    Args:
        data: from `lkd.data.load`.
        threads: that decode at the same time.

    Example: `lkd data check folder:/data/pets`.
    """
    splits, unreadable = data.splits.values(), {}
    with progress_bar(sum(map(len, splits))) as bar:
        jobs = (delayed(_problem)(split, index) for split in splits for index in range(len(split)))
        for name, problem in Parallel(threads, backend="threading", return_as="generator")(jobs):
            if problem:
                unreadable[name] = problem
            bar.update()
    counts = {name: split.labels.bincount(minlength=len(data.classes)).tolist() for name, split in data.splits.items()}
    return Checked(data.classes, list(data.classes) == ImageNetInfo().label_names(), counts, unreadable)


def _fashion_mnist() -> str | None:
    """Where its files lie, of the places where they are looked for first."""
    places = home() / "data" / "fashion-mnist", DEBIAN_FOLDER
    return next((str(place) for place in places if all((place / name).is_file() for name in SHA256)), None)


def _counted(name: str, place: str) -> Known:
    try:
        data = load(name)
    except (OSError, ValueError) as error:
        return Known(name, f"{place}, which cannot be used: {error}")
    return Known(name, place, len(data.classes), {split: len(images) for split, images in data.splits.items()})


def _problem(split: FileSplit, index: int) -> tuple[str, str]:
    """What an image is called, and why it cannot be read; empty if it can."""
    number = int(split.indices[index])
    try:
        split.listing.image(number)
    except (OSError, ValueError) as error:
        return split.listing.name(number), str(error.__cause__ or error)
    return split.listing.name(number), ""
