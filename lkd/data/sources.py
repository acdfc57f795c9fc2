"""Where the files of a data set are, and which images are in each split."""

import functools
import io
import warnings
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, cast

from PIL import ImageFile

from lkd.data.classes import named, ordered, wrapper
from lkd.data.folders import Contents, Picture, aside, check_readable, in_folder, readable, regular
from lkd.data.hugging_face import hugging_face
from lkd.data.image_files import Files, FileSplit, Listing, View
from lkd.data.images import hold_out
from lkd.data.splits import (
    SPLITS,
    Found,
    NoImages,
    Place,
    account,
    check_other,
    check_train,
    split_called,
    warn_of_repeated,
    warn_of_shared,
    without_placeholder,
)
from lkd.data.tars import SHARDS, in_tars, is_tar
from lkd.util.checks import some
from lkd.util.files import home_folder

HELD_OUT_SHARE = 10
HELD_OUT_A_CLASS = 50
SEED = 0


def from_files(name: str, view: View) -> Files:
    """The data set of files that a name such as "folder:PATH" stands for.

    Args:
        name: "folder:PATH", "tar:PATH" or "hfds:NAME". PATH is absolute, or lies in `data` of `lkd.util.files.home()`.

            - "folder": PATH/train, and PATH/val, or PATH/test, or both; in each, a folder of images for every class.
              Images in folders below a class folder are of its class.
            - "tar": the same as tar files: PATH/train.tar with a folder for every class, or PATH/train/ with tar files
              (one for each class, named for it, or any number that hold such folders). They are not unpacked.
            - "hfds": what `datasets.load_dataset(NAME)` loads; with the columns "image" and "label", or one column of
              images and one of class labels.

            The splits may also be called training; validation, valid or dev; testing; in small or capital letters.
            A test split whose images all lie in one folder that is no class of train has no labels. Without a test
            split that has labels, the validation split is the test split. Wherever there is one of both
            only, a tenth of the training images, but at most 50 times the number of classes, is the validation split
            instead: always the same ones, with the classes in proportion. So nothing is tuned on test.

            Images are the files with an ending that Pillow reads. Left aside, and counted in `Files.account`, are
            hidden files and folders (".git"), those of operating systems ("Thumbs.db", "__MACOSX"), files with other
            endings that are no images, links to a folder above, and what lies beside the splits. Everything else is
            refused by name.

            Classes are the names of the folders, in timm's order: by name, numbers by their value.
        view: how its images are brought to what a network sees.

    Raises:
        FileNotFoundError: no such folder, or one without the splits that are needed; a link to nothing.
        ImportError: "hfds" without the package datasets.
        OSError: a folder that cannot be listed.
        ValueError: shards of WebDataset; splits whose classes differ; two folders for one split; images outside class
            folders; a class folder without images; images that Pillow does not read here; a damaged tar file.
    """
    scheme, _, path = name.partition(":")
    if scheme != "hfds":
        path = str(home_folder() / "data" / Path(path).expanduser())
    _warn_of_truncated()
    place = without_placeholder(SCHEMES[scheme](path))
    train, others = place.splits["train"], {role: one for role, one in place.splits.items() if role != "train"}
    check_train(train)
    for role, one in others.items():
        check_other(role, one, train)
    labelled = [one for one in place.splits.values() if one.labelled]
    for one in labelled:
        warn_of_repeated(one)
    warn_of_shared(labelled)
    splits = _three({role: one for role, one in others.items() if one.labelled}, train, path)
    return Files(name, train.classes, splits["train"], splits["val"], splits["test"], view, account=account(place))


def _warn_of_truncated() -> None:
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        warnings.warn(
            "PIL.ImageFile.LOAD_TRUNCATED_IMAGES is True, so the missing part of a truncated image is grey, and "
            "no error names it: set it to False",
            stacklevel=4,
        )


def _three(others: Mapping[str, Found], train: Found, path: str) -> dict[str, FileSplit]:
    """All three splits, the validation split held out of training where there is one other only."""
    if not others:
        raise FileNotFoundError(f"{path} has neither a val (or validation) nor a test split with labels: add one")
    splits = {"train": train.split(), **{role: one.split(train.classes) for role, one in others.items()}}
    if len(others) == 1:
        splits["test"] = splits[next(iter(others))]
        count = min(len(splits["train"]) // HELD_OUT_SHARE, HELD_OUT_A_CLASS * len(train.classes))
        splits["train"], splits["val"] = hold_out(splits["train"], max(1, count), SEED)
    return splits


# Folders and tar files ----------------------------------------------------------------------------------------------


class _Folder:
    """The files of images in a folder, in the manner of timm's readers."""

    def __init__(self, root: Path, pictures: Sequence[Picture]):
        self.root, self.pictures = root, pictures

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> tuple[BinaryIO, None]:
        return regular(self.root / self.pictures[index].name), None

    def filename(self, index: int) -> str:
        return self.pictures[index].name

    def versions(self) -> Iterator[str]:
        """Path, size and modification time of each file."""
        for picture in self.pictures:
            yield f"{picture.name} {_version(self.root / picture.name)}"


class _Tars:
    """The images in tar files, in the manner of timm's readers; no tar file is kept open, as workers would share it."""

    def __init__(self, pictures: Sequence[Picture]):
        self.pictures = pictures

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> tuple[BinaryIO, None]:
        path, offset, size = cast(tuple[str, int, int], self.pictures[index].place)
        with regular(Path(path)) as file:
            file.seek(offset)
            return io.BytesIO(file.read(size)), None

    def filename(self, index: int) -> str:
        return self.pictures[index].name

    def versions(self) -> Iterator[str]:
        """Path, place and size of each image, and size and modification time of its tar file."""
        version = functools.cache(lambda path: _version(Path(path)))
        for picture in self.pictures:
            path, offset, size = cast(tuple[str, int, int], picture.place)
            yield f"{picture.name} {offset} {size} {version(path)}"


def _version(path: Path) -> str:
    found = path.stat()
    return f"{found.st_size} {found.st_mtime_ns}"


def _folder(place: str) -> Place:
    """Splits of a folder of class folders."""
    paths, beside = _places(Path(place), Path.is_dir, "a folder of images for every class")
    return Place({role: folder_split(path) for role, path in paths.items()}, beside)


def folder_split(path: Path) -> Found:
    """The images of a folder of class folders, as one split.

    Raises:
        NoImages: no image in it.
        OSError, ValueError: what `lkd.data.folders.in_folder` and `lkd.data.classes.named` refuse.
    """
    contents = in_folder(path)
    return _by_folder(path, contents, _Folder(path, contents.pictures))


def _tar(place: str) -> Place:
    """Splits in tar files, one for each split or folders of them."""
    needed = "a folder for every class in it, or train/ with tar files"
    paths, beside = _places(Path(place), _has_tar, needed, suffix=".tar")
    return Place({role: _tar_split(path) for role, path in paths.items()}, beside)


def _has_tar(path: Path) -> bool:
    return is_tar(path) or (path.is_dir() and any(map(is_tar, path.iterdir())))


def _tar_split(path: Path) -> Found:
    contents = in_tars(path)
    return _by_folder(path, contents, _Tars(contents.pictures))


def _by_folder(path: Path, contents: Contents, reader: "_Folder | _Tars") -> Found:
    """A split whose classes are named by folders."""
    if not contents.pictures:
        raise NoImages(
            f"{path} has no image file ({', '.join(sorted(readable()))}): put a folder of images for every class there"
        )
    folders = {picture.folders for picture in contents.pictures}
    names, above = named(folders, str(path)), wrapper(folders)
    classes = ordered(set(names.values()), str(path))
    numbers = {name: number for number, name in enumerate(classes)}
    labels = [numbers[names[picture.folders]] for picture in contents.pictures]
    empty, lacking = _without_images(contents, folders, above)
    return Found(
        Listing(reader, str(path), reader.versions),
        tuple(classes.values()),
        labels,
        path.name,
        contents.pictures,
        lacking if set(classes) != {""} else (),
        {**contents.ignored, "empty": empty},
        "/".join(above),
        sum(len(picture.folders) > len(above) + 1 for picture in contents.pictures),
    )


def _without_images(
    contents: Contents, folders: Collection[tuple[str, ...]], above: tuple[str, ...]
) -> tuple[list[str], list[str]]:
    """Paths of the folders that hold no image, and of those among them that would name a class.

    A folder in one of these is not named.
    """
    holding = {one[:depth] for one in folders for depth in range(len(one) + 1)}
    empty = sorted(one for one in contents.folders - holding if one[:-1] in holding)
    return ["/".join(one) for one in empty], ["/".join(one) for one in empty if one[:-1] == above]


def _places(
    root: Path, look: Callable[[Path], bool], needed: str, suffix: str = "/"
) -> tuple[dict[str, Path], dict[str, list[str]]]:
    """Where each split lies, as far as it is there, and what lies beside them, by key of `RULES`."""
    wanted = (
        f"it needs train{suffix} with {needed}; and the same as val{suffix} (or validation{suffix}) or test{suffix}"
    )
    if not root.is_dir():
        raise FileNotFoundError(f"there is no folder {root}: {wanted}")
    found: dict[str, list[Path]] = {role: [] for role in SPLITS}
    beside: dict[str, list[str]] = defaultdict(list)
    for path in sorted(root.iterdir()):
        role = split_called(path.stem if suffix == path.suffix.lower() else path.name)
        if role:
            check_readable(path)
        if role and look(path):
            found[role].append(path)
        else:
            beside[aside(path.name) or "beside"].append(path.name)
    there = f"; there are {some(beside['beside'])}" if beside["beside"] else ""
    if not found["train"]:
        raise FileNotFoundError(f"{root} has no train{suffix}: {wanted}{there}")
    if not found["val"] and not found["test"]:
        raise FileNotFoundError(
            f"{root} has neither val{suffix} (or validation{suffix}) nor test{suffix}: {wanted}{there}"
        )
    return {role: _only(role, paths) for role, paths in found.items() if paths}, beside


def _only(role: str, paths: Sequence[Path]) -> Path:
    """The one of several places of a split, where links to it are not counted."""
    if len({path.resolve() for path in paths}) > 1:
        raise ValueError(
            f"{paths[0].parent} has {some(path.name for path in paths)}, and each may be the {role} split: keep one, "
            "or let the names of the others begin with a dot"
        )
    return next((path for path in paths if not path.is_symlink()), paths[0])


def _wds(place: str) -> Place:
    """Refused: shards are read from their beginning, in an order of their own."""
    raise ValueError(f"data 'wds:{place}': {SHARDS}")


SCHEMES: dict[str, Callable[[str], Place]] = {"folder": _folder, "tar": _tar, "hfds": hugging_face, "wds": _wds}
"""How to find the splits of a data set, by the prefix of its name."""


def scheme(name: str) -> str | None:
    """The prefix of the name of a data set in files; None for other names.

    Example:
        >>> from lkd.data.sources import scheme
        >>> scheme("folder:pets"), scheme("digits")
        ('folder', None)
    """
    prefix, _, rest = name.partition(":")
    return prefix if prefix in SCHEMES and rest else None
