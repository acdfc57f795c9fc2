"""Where the files of a data set are, found and listed by timm's readers."""

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from timm.data import create_dataset
from timm.data.readers.img_extensions import get_img_extensions
from timm.data.readers.reader_image_in_tar import ReaderImageInTar
from timm.utils.misc import natural_key

from lkd.checks import some
from lkd.data.files import Files, FileSplit, Listing, View
from lkd.data.images import hold_out
from lkd.files import home

HELD_OUT_SHARE = 10
HELD_OUT_A_CLASS = 50
SEED = 0

_SPLITS = {"train": ("train",), "val": ("val", "validation"), "test": ("test",)}
"""What each split may be called."""


@dataclass(frozen=True)
class Found:
    """The images of a split as a reader lists them.

    Args:
        listing: the images.
        classes: name of each class, "" for images that have none.
        labels: of each image of the listing.
        order: numbers of the images in the listing, in an order that every machine gives them.
    """

    listing: Listing
    classes: tuple[str, ...]
    labels: Sequence[int]
    order: Sequence[int]

    @property
    def labelled(self) -> bool:
        """Whether the images have labels."""
        return self.classes != ("",) and min(self.labels) >= 0

    def split(self) -> FileSplit:
        """The images with their labels."""
        order = torch.tensor(self.order)
        return FileSplit(self.listing, order, torch.tensor(self.labels)[order])


def from_files(name: str, view: View) -> Files:
    """The data set of files that a name such as "folder:PATH" stands for.

    Args:
        name: "folder:PATH", "tar:PATH" or "hfds:NAME". PATH is absolute, or lies in `data` of `lkd.files.home()`.

            - "folder": PATH/train, and PATH/val (or validation), or PATH/test, or both; in each, a folder of png, jpg
              or jpeg files for every class.
            - "tar": the same as tar files: PATH/train.tar with a folder for every class, or PATH/train/ with tar files
              (one for each class, named for it, or any number that hold such folders). They are not unpacked.
            - "hfds": what `datasets.load_dataset(NAME)` loads, with the columns "image" and "label".

            Without a test split that has labels, the validation split is the test split. Wherever there is one of both
            only, a tenth of the training images, but at most 50 times the number of classes, is the validation split
            instead: always the same ones, with the classes in proportion. So nothing is tuned on test.

            Classes are the names of the folders, in timm's order: by name, numbers by their value.
        view: how its images are brought to what a network sees.

    Raises:
        FileNotFoundError: no such folder, or one without the splits that are needed.
        ImportError: "hfds" without the package datasets.
        ValueError: shards of WebDataset; splits whose classes differ; images outside class folders.
    """
    scheme, _, place = name.partition(":")
    if scheme != "hfds":
        place = str(home() / "data" / Path(place).expanduser())
    classes, splits = _splits(scheme, place)
    return Files(name, classes, splits["train"], splits["val"], splits["test"], view)


@functools.cache
def _splits(scheme: str, place: str) -> tuple[tuple[str, ...], dict[str, FileSplit]]:
    """Classes and splits of a data set; a process looks for its files once."""
    found = SCHEMES[scheme](place)
    train = found["train"]
    _check_train(train)
    others = {role: other for role, other in found.items() if role != "train" and other.labelled}
    for other in others.values():
        _check_classes(train, other)
    if not others:
        raise FileNotFoundError(f"{place} has neither a val (or validation) nor a test split with labels: add one")
    splits = {"train": train.split(), **{role: other.split() for role, other in others.items()}}
    if len(others) == 1:
        splits["test"] = next(split for role, split in splits.items() if role != "train")
        count = min(len(splits["train"]) // HELD_OUT_SHARE, HELD_OUT_A_CLASS * len(train.classes))
        splits["train"], splits["val"] = hold_out(splits["train"], max(1, count), SEED)
    return train.classes, splits


def _folder(place: str) -> dict[str, Found]:
    """Splits of a folder of class folders."""
    paths = _places(place, lambda path: path if path.is_dir() else None, "a folder of images for every class")
    return {role: folder_split(path) for role, path in paths.items()}


def folder_split(path: Path) -> Found:
    """The images of a folder of class folders, as one split.

    Raises:
        FileNotFoundError: no image in it.
    """
    try:
        reader = create_dataset("", root=str(path), search_split=False).reader
    except RuntimeError as error:
        raise _no_images(path) from error
    return _by_class_folder(reader, path, reader.class_to_idx, [target for _, target in reader.samples])


def _tar(place: str) -> dict[str, Found]:
    """Splits in tar files, one for each split or folders of them."""
    paths = _places(place, _tar_of, "a folder for every class in it, or train/ with tar files", suffix=".tar")
    return {role: _tar_split(path) for role, path in paths.items()}


def _tar_of(path: Path) -> Path | None:
    if (file := path.with_name(f"{path.name}.tar")).is_file():
        return file
    return path if any(path.glob("*.tar")) else None


def _tar_split(path: Path) -> Found:
    try:
        # Open tar files are not kept: worker processes would share the place in them that is read next. Neither is the
        # list of what is in them, which timm would trust after they have changed.
        reader = ReaderImageInTar(str(path), cache_tarfiles=False, cache_tarinfo=False)
    except ValueError as error:
        raise _no_images(path) from error
    return _by_class_folder(reader, path, reader.class_name_to_idx, reader.targets.tolist(), _names_in_tar(reader))


def _names_in_tar(reader: ReaderImageInTar) -> list[str]:
    return [f"{tar or ''}/{inner.name if inner else ''}/{file.name}" for file, tar, inner in reader.samples]


def _by_class_folder(
    reader: Any, path: Path, numbers: dict[str, int], labels: list[int], names: list[str] | None = None
) -> Found:
    """A split whose classes are named by folders; what timm leaves to chance (names of one rank) goes by name."""
    classes = sorted(numbers, key=lambda name: (natural_key(name), name))
    renumbered = {numbers[name]: number for number, name in enumerate(classes)}
    names = names or reader.filenames()
    order = sorted(range(len(names)), key=names.__getitem__)
    return Found(Listing(reader, str(path)), tuple(classes), [renumbered[label] for label in labels], order)


def _hfds(name: str) -> dict[str, Found]:
    """Splits of a data set of Hugging Face's hub, or of a local one in its form."""
    try:
        from datasets import get_dataset_split_names
    except ImportError as error:
        raise ImportError("data 'hfds:...' needs the package datasets: run pip install datasets") from error
    there = get_dataset_split_names(name)
    chosen = {role: next((s for s in names if s in there), None) for role, names in _SPLITS.items()}
    if chosen["train"] is None:
        raise FileNotFoundError(f"the data set {name!r} has the splits {', '.join(there)}: it needs train")
    return {role: _hfds_split(name, split) for role, split in chosen.items() if split is not None}


def _hfds_split(name: str, split: str) -> Found:
    reader = create_dataset(f"hfds/{name}", split=split).reader
    labels = [int(label) for label in reader.iter_targets()]
    named = {number: label for label, number in reader.class_to_idx.items()}
    classes = tuple(named.get(number, str(number)) for number in range(max([*named, *labels]) + 1))
    return Found(Listing(reader, f"{name} ({split})"), classes, labels, range(len(labels)))


def _wds(place: str) -> dict[str, Found]:
    """Refused: shards are read from their beginning, in an order of their own."""
    raise ValueError(
        f"data 'wds:{place}': a stream that can be replayed needs each image by itself, and shards of WebDataset are "
        "read from their beginning: unpack them, with a folder for every class, and name them 'folder:PATH', or pack "
        "these folders as PATH/train.tar and PATH/val.tar and name them 'tar:PATH'"
    )


SCHEMES: dict[str, Callable[[str], dict[str, Found]]] = {"folder": _folder, "tar": _tar, "hfds": _hfds, "wds": _wds}
"""How to find the splits of a data set, by the prefix of its name."""


def scheme(name: str) -> str | None:
    """The prefix of the name of a data set in files; None for other names.

    Example:
        >>> from lkd.data.readers import scheme
        >>> scheme("folder:pets"), scheme("digits")
        ('folder', None)
    """
    prefix, _, rest = name.partition(":")
    return prefix if prefix in SCHEMES and rest else None


def _places(place: str, look: Callable[[Path], Path | None], needed: str, suffix: str = "/") -> dict[str, Path]:
    """Where each split lies, as far as it is there."""
    root = Path(place)
    found = {role: _first(look(root / name) for name in names) for role, names in _SPLITS.items()}
    wanted = (
        f"it needs train{suffix} with {needed}; and the same as val{suffix} (or validation{suffix}) or test{suffix}"
    )
    if not root.is_dir():
        raise FileNotFoundError(f"there is no folder {root}: {wanted}")
    if found["train"] is None:
        raise FileNotFoundError(f"{root} has no train{suffix}: {wanted}")
    if found["val"] is None and found["test"] is None:
        raise FileNotFoundError(f"{root} has neither val{suffix} (or validation{suffix}) nor test{suffix}: {wanted}")
    return {role: path for role, path in found.items() if path is not None}


def _first(paths: Iterable[Path | None]) -> Path | None:
    return next((path for path in paths if path is not None), None)


def _no_images(path: Path) -> FileNotFoundError:
    kinds = ", ".join(sorted(get_img_extensions()))
    return FileNotFoundError(f"{path} has no image file ({kinds}): put a folder of images for every class there")


def _check_train(train: Found) -> None:
    place = train.listing.place
    if "" in train.classes:
        stray = train.listing.name(train.labels.index(train.classes.index("")))
        raise ValueError(f"{stray} lies outside class folders: put each image into a folder named for its class")
    if len(train.classes) < 2:
        raise ValueError(
            f"{place} has one class, {train.classes[0]!r}, the name of the folder that its images lie in: put those of "
            "each class directly into a folder named for it"
        )


def _check_classes(train: Found, other: Found) -> None:
    lacking, extra = set(train.classes) - set(other.classes), set(other.classes) - set(train.classes)
    if lacking or extra:
        differences = [f"{text} {some(names)}" for text, names in (("lacks", lacking), ("adds", extra)) if names]
        raise ValueError(
            f"{other.listing.place} {' and '.join(differences)} compared with the classes of {train.listing.place}: "
            "give all splits the same class folders, each with an image"
        )
