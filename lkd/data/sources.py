"""Find the image files of a data set and their splits."""

import functools
import io
import warnings
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, cast

from PIL import ImageFile

from lkd.data.classes import class_root, classes_by_folder, ordered_classes
from lkd.data.folders import Contents, Picture, check_readable, ignore_rule, in_folder, open_regular, readable
from lkd.data.hugging_face import hugging_face
from lkd.data.image_files import Files, FileSplit, Listing, View
from lkd.data.images import hold_out
from lkd.data.splits import (
    SPLITS,
    ListedSplit,
    ListedSplits,
    NoImages,
    account,
    check_other,
    check_train,
    drop_placeholder_class,
    split_role,
    warn_of_repeated,
    warn_of_shared,
)
from lkd.data.tars import SHARDS, in_tars, is_tar
from lkd.util.checks import some
from lkd.util.files import home_folder

HELD_OUT_SHARE = 10
HELD_OUT_A_CLASS = 50
SEED = 0


def from_files(name: str, view: View) -> Files:
    """Load a data set of image files by a name such as "folder:PATH".

    Args:
        name: "folder:PATH", "tar:PATH" or "hfds:NAME". PATH is absolute, or relative to `data` in
            `lkd.util.files.home()`.

            - "folder": PATH/train, and PATH/val or PATH/test or both, each with one folder of images per class.
              Subfolders of a class folder belong to its class.
            - "tar": the same in tar files: PATH/train.tar with one folder per class, or PATH/train/ with tar files (one
              per class, named after it, or any number with class folders). They are not unpacked.
            - "hfds": a data set that `datasets.load_dataset(NAME)` loads, with the columns "image" and "label", or with
              one image column and one class-label column.

            Other names of the splits are training; validation, valid or dev; testing; in lower or upper case. A test
            split with all images in one folder that is not a class of train has no labels. Without a labelled test
            split, the validation split serves as the test split. If only one of the two is available, a fixed tenth of
            the training images (at most 50 times the number of classes), stratified by class, becomes the validation
            split. Thus nothing is tuned on the test split.

            Images are the files with an extension that Pillow reads. Hidden files and folders (".git"), files of the
            operating system ("Thumbs.db", "__MACOSX"), files with other extensions that are not images, links to a
            parent folder, and everything outside the splits are ignored and counted in `Files.account`. Anything else
            raises an error that names it.

            Classes are the folder names in timm's order: by name, with numbers by value.
        view: how images are resized, cropped and read.

    Raises:
        FileNotFoundError: the folder or a required split does not exist; a broken link.
        ImportError: "hfds" without the package datasets.
        OSError: a folder that cannot be listed.
        ValueError: shards of WebDataset; splits with different classes; two folders for one split; images outside class
            folders; a class folder without images; images that Pillow cannot read; a damaged tar file.
    """
    scheme, _, path = name.partition(":")
    if scheme != "hfds":
        path = str(home_folder() / "data" / Path(path).expanduser())
    _warn_of_truncated()
    listed = drop_placeholder_class(SCHEMES[scheme](path))
    train, others = listed.splits["train"], {role: one for role, one in listed.splits.items() if role != "train"}
    check_train(train)
    for role, one in others.items():
        check_other(role, one, train)
    labelled = [one for one in listed.splits.values() if one.labelled]
    for one in labelled:
        warn_of_repeated(one)
    warn_of_shared(labelled)
    splits = _three_splits({role: one for role, one in others.items() if one.labelled}, train, path)
    return Files(name, train.classes, splits["train"], splits["val"], splits["test"], view, account=account(listed))


def _warn_of_truncated() -> None:
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        warnings.warn(
            "PIL.ImageFile.LOAD_TRUNCATED_IMAGES is True, so truncated images are filled with grey instead of "
            "raising an error: set it to False",
            stacklevel=4,
        )


def _three_splits(others: Mapping[str, ListedSplit], train: ListedSplit, path: str) -> dict[str, FileSplit]:
    """All three splits; the validation split is held out of training if there is only one other split."""
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
    """The image files of a folder, with the interface of timm's readers."""

    def __init__(self, root: Path, pictures: Sequence[Picture]):
        self.root, self.pictures = root, pictures

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> tuple[BinaryIO, None]:
        return open_regular(self.root / self.pictures[index].name), None

    def filename(self, index: int) -> str:
        return self.pictures[index].name

    def versions(self) -> Iterator[str]:
        """Path, size and modification time of each file."""
        for picture in self.pictures:
            yield f"{picture.name} {_version(self.root / picture.name)}"


class _Tars:
    """The images in tar files, with the interface of timm's readers; opens them per image, for use by workers."""

    def __init__(self, pictures: Sequence[Picture]):
        self.pictures = pictures

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> tuple[BinaryIO, None]:
        path, offset, size = cast(tuple[str, int, int], self.pictures[index].place)
        with open_regular(Path(path)) as file:
            file.seek(offset)
            return io.BytesIO(file.read(size)), None

    def filename(self, index: int) -> str:
        return self.pictures[index].name

    def versions(self) -> Iterator[str]:
        """Path, offset and size of each image, and size and modification time of its tar file."""
        version = functools.cache(lambda path: _version(Path(path)))
        for picture in self.pictures:
            path, offset, size = cast(tuple[str, int, int], picture.place)
            yield f"{picture.name} {offset} {size} {version(path)}"


def _version(path: Path) -> str:
    found = path.stat()
    return f"{found.st_size} {found.st_mtime_ns}"


def _folder(place: str) -> ListedSplits:
    """Splits of a folder of class folders."""
    paths, ignored = _places(Path(place), Path.is_dir, "one folder of images per class")
    return ListedSplits({role: folder_split(path) for role, path in paths.items()}, ignored)


def folder_split(path: Path) -> ListedSplit:
    """List a folder of class folders as one split.

    Raises:
        NoImages: it has no image.
        OSError, ValueError: see `lkd.data.folders.in_folder` and `lkd.data.classes.classes_by_folder`.
    """
    contents = in_folder(path)
    return _by_folder(path, contents, _Folder(path, contents.pictures))


def _tar(place: str) -> ListedSplits:
    """Splits in tar files: one tar file or one folder of tar files per split."""
    needed = "one folder per class in it, or train/ with tar files"
    paths, ignored = _places(Path(place), _has_tar, needed, suffix=".tar")
    return ListedSplits({role: _tar_split(path) for role, path in paths.items()}, ignored)


def _has_tar(path: Path) -> bool:
    return is_tar(path) or (path.is_dir() and any(map(is_tar, path.iterdir())))


def _tar_split(path: Path) -> ListedSplit:
    contents = in_tars(path)
    return _by_folder(path, contents, _Tars(contents.pictures))


def _by_folder(path: Path, contents: Contents, reader: "_Folder | _Tars") -> ListedSplit:
    """A split with classes from folder names."""
    if not contents.pictures:
        raise NoImages(
            f"{path} has no image file ({', '.join(sorted(readable()))}): add one folder of images per class"
        )
    folders = {picture.folders for picture in contents.pictures}
    names, above = classes_by_folder(folders, str(path)), class_root(folders)
    classes = ordered_classes(set(names.values()), str(path))
    numbers = {name: number for number, name in enumerate(classes)}
    labels = [numbers[names[picture.folders]] for picture in contents.pictures]
    empty, empty_classes = _without_images(contents, folders, above)
    return ListedSplit(
        Listing(reader, str(path), reader.versions),
        tuple(classes.values()),
        labels,
        path.name,
        contents.pictures,
        empty_classes if set(classes) != {""} else (),
        {**contents.ignored, "empty": empty},
        "/".join(above),
        sum(len(picture.folders) > len(above) + 1 for picture in contents.pictures),
    )


def _without_images(
    contents: Contents, folders: Collection[tuple[str, ...]], above: tuple[str, ...]
) -> tuple[list[str], list[str]]:
    """Paths of the outermost folders without images, and of those among them at the level of class folders."""
    used = {one[:depth] for one in folders for depth in range(len(one) + 1)}
    empty = sorted(one for one in contents.folders - used if one[:-1] in used)
    return ["/".join(one) for one in empty], ["/".join(one) for one in empty if one[:-1] == above]


def _places(
    root: Path, is_split: Callable[[Path], bool], needed: str, suffix: str = "/"
) -> tuple[dict[str, Path], dict[str, list[str]]]:
    """The path of each available split, and the ignored names by key of `RULES`."""
    wanted = f"it needs train{suffix} with {needed}, and also val{suffix} (or validation{suffix}) or test{suffix}"
    if not root.is_dir():
        raise FileNotFoundError(f"there is no folder {root}: {wanted}")
    found: dict[str, list[Path]] = {role: [] for role in SPLITS}
    ignored: dict[str, list[str]] = defaultdict(list)
    for path in sorted(root.iterdir()):
        role = split_role(path.stem if suffix == path.suffix.lower() else path.name)
        if role:
            check_readable(path)
        if role and is_split(path):
            found[role].append(path)
        else:
            ignored[ignore_rule(path.name) or "beside"].append(path.name)
    others = f"; it has {some(ignored['beside'])}" if ignored["beside"] else ""
    if not found["train"]:
        raise FileNotFoundError(f"{root} has no train{suffix}: {wanted}{others}")
    if not found["val"] and not found["test"]:
        raise FileNotFoundError(
            f"{root} has neither val{suffix} (or validation{suffix}) nor test{suffix}: {wanted}{others}"
        )
    return {role: _only(role, paths) for role, paths in found.items() if paths}, ignored


def _only(role: str, paths: Sequence[Path]) -> Path:
    """The single path of a split, not counting links to it."""
    if len({path.resolve() for path in paths}) > 1:
        raise ValueError(
            f"{paths[0].parent} has {some(path.name for path in paths)}, and each could be the {role} split: keep one, "
            "or start the names of the others with a dot"
        )
    return next((path for path in paths if not path.is_symlink()), paths[0])


def _wds(place: str) -> ListedSplits:
    """Refuse shards, which allow only sequential reading in their own order."""
    raise ValueError(f"data 'wds:{place}': {SHARDS}")


SCHEMES: dict[str, Callable[[str], ListedSplits]] = {"folder": _folder, "tar": _tar, "hfds": hugging_face, "wds": _wds}
"""Function that lists the splits of a data set, by the prefix of its name."""


def scheme(name: str) -> str | None:
    """The prefix in the name of a data set of files; None for other names.

    Example:
        >>> from lkd.data.sources import scheme
        >>> scheme("folder:pets"), scheme("digits")
        ('folder', None)
    """
    prefix, _, rest = name.partition(":")
    return prefix if prefix in SCHEMES and rest else None
