"""List the data sets on this machine, and check that all files of a data set can be read."""

from collections import Counter
from pathlib import Path
from typing import NamedTuple

from joblib import Parallel, delayed
from timm.data import ImageNetInfo

from lkd.data import Files, FileSplit, accounted, load
from lkd.data.decoding import CARE
from lkd.data.downloads import DOWNLOADS
from lkd.data.splits import split_role
from lkd.util.files import home_folder
from lkd.util.progress import progress_bar


class KnownData(NamedTuple):
    """A row of `list_data_sets`.

    Attributes:
        name: its name in a recipe.
        place: location of its files, or how to get them.
        classes: number of classes; None if the files are not on this machine.
        images: number of images in train, val and test; None if the files are not on this machine.
        account: one-line summary, see `lkd.data.accounted`; empty if the files are not on this machine.
    """

    name: str
    place: str
    classes: int | None = None
    images: dict[str, int] | None = None
    account: str = ""


class CheckReport(NamedTuple):
    """Result of checking a data set of image files.

    Attributes:
        classes: names of the classes, in the order of their numbers.
        imagenet: whether these are the 1000 WordNet ids of ImageNet-1k, in the order of pretrained networks.
        images: number of images of each class, by split.
        unreadable: reason by name, for images that cannot be read or decoded.
        account: one-line summary; see `lkd.data.accounted`.
        ignored: number of ignored files and folders, by key of `lkd.data.folders.RULES`.
        care: number of images that need attention, by key of `lkd.data.decoding.CARE`.
    """

    classes: tuple[str, ...]
    imagenet: bool
    images: dict[str, list[int]]
    unreadable: dict[str, str]
    account: str
    ignored: dict[str, int]
    care: dict[str, int]


def list_data_sets() -> list[KnownData]:
    """The built-in data sets, and the folders in `data` of lkd's home; downloads nothing.

    Example:
        >>> from lkd.data.inspection import list_data_sets
        >>> list_data_sets()[0].images
        {'train': 1297, 'val': 250, 'test': 250}
    """
    folders = sorted((home_folder() / "data").glob("[!.]*"))
    return [
        _counted("digits", "comes with scikit-learn"),
        *map(_downloaded, DOWNLOADS),
        *(_counted(f"folder:{path.name}", str(path)) for path in folders if _has_train(path)),
    ]


def check_images(data: Files, threads: int = 4) -> CheckReport:
    """Decode every image of a data set once. (`load` has already compared the classes of the splits.)

    Args:
        data: data set from `lkd.data.load`.
        threads: number of threads that decode images.

    Example: `lkd data check folder:/data/pets`.
    """
    unreadable: dict[str, str] = {}
    care: Counter[str] = Counter()
    splits = data.splits.values()
    with progress_bar(sum(map(len, splits))) as bar:
        jobs = (delayed(_check_image)(split, index) for split in splits for index in range(len(split)))
        for name, problem, kinds in Parallel(threads, backend="threading", return_as="generator")(jobs):
            if problem:
                unreadable[name] = problem
            care.update(kinds)
            bar.update()
    counts = {name: split.labels.bincount(minlength=len(data.classes)).tolist() for name, split in data.splits.items()}
    imagenet = list(data.classes) == ImageNetInfo().label_names()
    ignored = {rule: len(names) for rule, names in data.account.ignored.items() if names}
    found = {kind: care[kind] for kind in CARE if care[kind]}
    return CheckReport(data.classes, imagenet, counts, unreadable, accounted(data), ignored, found)


def _has_train(folder: Path) -> bool:
    """Whether a folder looks like a data set; also true if it cannot be listed, so `load` reports the error."""
    try:
        return folder.is_dir() and any(split_role(path.name) == "train" and path.is_dir() for path in folder.iterdir())
    except OSError:
        return True


def _downloaded(name: str) -> KnownData:
    if place := DOWNLOADS[name].find():
        return _counted(name, str(place))
    return KnownData(name, f"not on this machine: downloaded at first use ({DOWNLOADS[name].megabytes} MB)")


def _counted(name: str, place: str) -> KnownData:
    try:
        data = load(name)
    except (OSError, ValueError) as error:
        return KnownData(name, f"{place}, which cannot be used: {error}")
    counts = {split: len(images) for split, images in data.splits.items()}
    return KnownData(name, place, len(data.classes), counts, accounted(data))


def _check_image(split: FileSplit, index: int) -> tuple[str, str, tuple[str, ...]]:
    """Name of an image, error message ("" if it can be read), and properties that need attention."""
    number = int(split.indices[index])
    name = split.listing.name(number)
    try:
        return name, "", split.listing.decoded(number)[1]
    except (OSError, ValueError) as error:
        return name, str(error.__cause__ or error), ()
