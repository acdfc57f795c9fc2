"""What there is to learn from: the data sets that this machine has, and whether all files of one can be read."""

from collections import Counter
from pathlib import Path
from typing import NamedTuple

from joblib import Parallel, delayed
from timm.data import ImageNetInfo

from lkd.data import Files, FileSplit, accounted, load
from lkd.data.decoding import CARE
from lkd.data.fashion_mnist import DEBIAN_FOLDER, SHA256
from lkd.data.splits import split_called
from lkd.util.files import home_folder
from lkd.util.progress import progress_bar


class Known(NamedTuple):
    """A data set by name.

    Attributes:
        name: what a recipe calls it.
        place: where its files lie, or how to get them.
        classes: number of classes; None where the files are not here.
        images: number of images in train, val and test; None likewise.
        account: one line that accounts for all files: see `lkd.data.accounted`; empty likewise.
    """

    name: str
    place: str
    classes: int | None = None
    images: dict[str, int] | None = None
    account: str = ""


class Checked(NamedTuple):
    """What was found in a data set of image files.

    Attributes:
        classes: their names, in the order of their numbers.
        imagenet: whether these are ImageNet-1k's 1000 by WordNet id, numbered as pretrained networks number them.
        images: by split, the number of images of each class.
        unreadable: what cannot be read or decoded, each with the reason.
        account: one line that accounts for all files: see `lkd.data.accounted`.
        ignored: by key of `lkd.data.folders.RULES`, the number of files and folders that are not read.
        care: by key of `lkd.data.decoding.CARE`, the number of images.
    """

    classes: tuple[str, ...]
    imagenet: bool
    images: dict[str, list[int]]
    unreadable: dict[str, str]
    account: str
    ignored: dict[str, int]
    care: dict[str, int]


def known() -> list[Known]:
    """The data sets with a name of their own, and the folders in `data` of lkd's home; nothing is fetched.

    Example:
        >>> from lkd.data.inspection import known
        >>> known()[0].images
        {'train': 1297, 'val': 250, 'test': 250}
    """
    places = {"digits": "comes with scikit-learn", "fashion_mnist": _fashion_mnist()}
    folders = sorted((home_folder() / "data").glob("[!.]*"))
    places |= {f"folder:{path.name}": str(path) for path in folders if _has_train(path)}
    absent = Known("fashion_mnist", "not here: its first use fetches 31 MB")
    return [_counted(name, place) if place else absent for name, place in places.items()]


def check(data: Files, threads: int = 4) -> Checked:
    """Decode every image of a data set once. That its splits have the same classes was checked when it was loaded.

    Args:
        data: from `lkd.data.load`.
        threads: that decode at the same time.

    Example: `lkd data check folder:/data/pets`.
    """
    unreadable: dict[str, str] = {}
    care: Counter[str] = Counter()
    splits = data.splits.values()
    with progress_bar(sum(map(len, splits))) as bar:
        jobs = (delayed(_looked_at)(split, index) for split in splits for index in range(len(split)))
        for name, problem, kinds in Parallel(threads, backend="threading", return_as="generator")(jobs):
            if problem:
                unreadable[name] = problem
            care.update(kinds)
            bar.update()
    counts = {name: split.labels.bincount(minlength=len(data.classes)).tolist() for name, split in data.splits.items()}
    imagenet = list(data.classes) == ImageNetInfo().label_names()
    ignored = {rule: len(names) for rule, names in data.account.ignored.items() if names}
    found = {kind: care[kind] for kind in CARE if care[kind]}
    return Checked(data.classes, imagenet, counts, unreadable, accounted(data), ignored, found)


def _has_train(folder: Path) -> bool:
    """Whether a folder looks like a data set; also where it cannot be listed, which `load` then says."""
    try:
        return folder.is_dir() and any(
            split_called(path.name) == "train" and path.is_dir() for path in folder.iterdir()
        )
    except OSError:
        return True


def _fashion_mnist() -> str | None:
    """Where its files lie, of the places where they are looked for first."""
    places = home_folder() / "data" / "fashion-mnist", DEBIAN_FOLDER
    return next((str(place) for place in places if all((place / name).is_file() for name in SHA256)), None)


def _counted(name: str, place: str) -> Known:
    try:
        data = load(name)
    except (OSError, ValueError) as error:
        return Known(name, f"{place}, which cannot be used: {error}")
    counts = {split: len(images) for split, images in data.splits.items()}
    return Known(name, place, len(data.classes), counts, accounted(data))


def _looked_at(split: FileSplit, index: int) -> tuple[str, str, tuple[str, ...]]:
    """What an image is called, why it cannot be read (empty if it can), and what about its pixels needs care."""
    number = int(split.indices[index])
    name = split.listing.name(number)
    try:
        return name, "", split.listing.decoded(number)[1]
    except (OSError, ValueError) as error:
        return name, str(error.__cause__ or error), ()
