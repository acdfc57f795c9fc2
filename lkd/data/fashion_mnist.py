"""Fashion-MNIST: read from this machine or downloaded once, and verified by checksums."""

import contextlib
import functools
import gzip
import hashlib
import http.client
import io
import shutil
import socket
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from lkd.data.images import Images, Split, channel_statistics, hold_out
from lkd.util.files import home, home_folder, reading, replacing, writing
from lkd.util.locks import lock_at
from lkd.util.temporary import temporary_folder
from lkd.util.waiting import held

CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
VALIDATION = 5_000
SEED = 0
PADDING = 2

DEBIAN_PACKAGE = "dataset-fashion-mnist"
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
CACHE_REMEDY = "delete it to download it again"
MIRROR_TIMEOUT_S = 5
APT_TIMEOUT_S = 300
DOWNLOAD_TIMEOUT_S = 1800

# Checksums of the unpacked bytes: Debian's files have other gzip headers than the authors'.
SHA256 = {
    "train-images-idx3-ubyte.gz": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte.gz": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte.gz": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte.gz": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}


def fashion_mnist(folder: Path | None = None) -> Images:
    """Fashion-MNIST, padded with zeros to uint8 images (N, 1, 32, 32): 55,000 train, 5,000 validation, 10,000 test.

    The validation split is a fixed part of the 60,000 training images, 500 of each class. Mean and std are computed on
    the padded training split.

    The four `*-ubyte.gz` files are searched in this order: only in `folder`, if given; `data/fashion-mnist` in
    `lkd.util.files.home()`; the folder of the Debian package dataset-fashion-mnist; torchvision's mirrors; the Debian
    package, downloaded without installation. Downloads are kept in `home()`.

    Args:
        folder: folder with the four files.

    Raises:
        FileNotFoundError: a file is missing from `folder`, or no place has the files; the message gives the reason for
            each place.
        ValueError: a file with another checksum than Fashion-MNIST's.

    Source: H. Xiao, K. Rasul and R. Vollgraf, Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning
    Algorithms, 2017, arXiv 1708.07747.

    Example:
        >>> from lkd.data.fashion_mnist import fashion_mnist
        >>> data = fashion_mnist()
        >>> len(data.train), len(data.val), len(data.test)
        (55000, 5000, 10000)
    """
    files = _files(folder)
    trained = _split(files["train-images-idx3-ubyte.gz"], files["train-labels-idx1-ubyte.gz"])
    test = _split(files["t10k-images-idx3-ubyte.gz"], files["t10k-labels-idx1-ubyte.gz"])
    train, val = hold_out(trained, VALIDATION, SEED)
    mean, std = channel_statistics(train.images)
    return Images("fashion_mnist", CLASSES, train, val, test, mean, std)


def _split(images: bytes, labels: bytes) -> Split:
    pixels = _idx(images)
    height, width = (side + 2 * PADDING for side in pixels.shape[1:])
    padded = np.zeros((len(pixels), 1, height, width), dtype=np.uint8)
    padded[:, 0, PADDING:-PADDING, PADDING:-PADDING] = pixels
    return Split(torch.from_numpy(padded), torch.from_numpy(_idx(labels).astype(np.int64)))


def _idx(content: bytes) -> np.ndarray:
    """The uint8 array of an IDX file: two zeros, type, number of dimensions, the dimensions (big-endian), the data."""
    dimensions = content[3]
    shape = np.frombuffer(content, ">i4", count=dimensions, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def _files(folder: Path | None) -> dict[str, bytes]:
    """The four unpacked files by name, from the first place that has them."""
    if folder is not None:
        if problem := _missing(folder):
            raise FileNotFoundError(f"folder {folder}: {problem}. Put {', '.join(SHA256)} there, or give no folder")
        return _verified(folder, "replace it, or give no folder")
    cache = home() / "data" / "fashion-mnist"
    tried: dict[str, str] = {}
    for place, remedy in (
        (cache, CACHE_REMEDY),
        (DEBIAN_FOLDER, f"run apt-get install --reinstall {DEBIAN_PACKAGE}"),
    ):
        if not (problem := _missing(place)):
            return _verified(place, remedy)
        tried[str(place)] = problem
    return _downloaded(cache, tried)


def find_folder() -> Path | None:
    """The folder of this machine that has the four files, if any: the cache in lkd's home, or Debian's package."""
    places = home_folder() / "data" / "fashion-mnist", DEBIAN_FOLDER
    return next((place for place in places if not _missing(place)), None)


def _missing(folder: Path) -> str:
    """Describe the files that are missing from a folder; "" if none is."""
    if not folder.is_dir():
        return "no such folder"
    missing = [name for name in SHA256 if not (folder / name).is_file()]
    return f"missing {', '.join(missing)}" if missing else ""


def _verified(folder: Path, remedy: str) -> dict[str, bytes]:
    """The four files of a folder, unpacked and verified."""
    contents = {}
    for name, expected in SHA256.items():
        try:
            with reading(folder / name, "file", remedy):
                packed = (folder / name).read_bytes()
            contents[name] = gzip.decompress(packed)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise ValueError(f"{folder / name} is not a complete gzip file ({error}): {remedy}") from error
        if (got := hashlib.sha256(contents[name]).hexdigest()) != expected:
            raise ValueError(f"{folder / name}: sha256 of its unpacked bytes is {got}, expected {expected}: {remedy}")
    return contents


def _downloaded(cache: Path, tried: dict[str, str]) -> dict[str, bytes]:
    """The four files, downloaded to the cache by this process, or by another one that this one waits for."""
    with writing(cache):
        cache.mkdir(parents=True, exist_ok=True)
    with held(lock_at(cache.with_suffix(".lock")), "downloads Fashion-MNIST", DOWNLOAD_TIMEOUT_S):
        if not _missing(cache):
            return _verified(cache, CACHE_REMEDY)
        print(f"Fashion-MNIST is not on this machine: downloading it to {cache} (31 MB)", file=sys.stderr)
        for place, download in _sources():
            if problem := _fill(cache, download):
                tried[place] = problem
            else:
                return _verified(cache, CACHE_REMEDY)
    raise FileNotFoundError(_not_found(cache, tried))


def _fill(cache: Path, download: Callable[[Path], None]) -> str:
    """Download the files, verify them and move them to the cache.

    Returns:
        The problem with the download; "" after a success.

    Raises:
        OSError: the cache is not writable; names it and the remedy.
    """
    with temporary_folder() as folder:
        try:
            download(folder)
            _verified(folder, "this is not Fashion-MNIST")
        except (OSError, ValueError, RuntimeError, http.client.HTTPException) as error:
            return str(error) or type(error).__name__
        for file in SHA256:
            with replacing(cache / file) as temporary:
                shutil.copyfile(folder / file, temporary)
    return ""


def _sources() -> Iterator[tuple[str, Callable[[Path], None]]]:
    """The sources in order of preference: a name, and a function that downloads the files to a folder."""
    from torchvision.datasets import FashionMNIST

    for mirror in FashionMNIST.mirrors:
        yield mirror, functools.partial(_from_mirror, mirror)
    yield f"apt-get download {DEBIAN_PACKAGE}", _from_apt


def _from_mirror(mirror: str, folder: Path) -> None:
    from torchvision.datasets.utils import download_url

    progress = contextlib.nullcontext() if sys.stderr.isatty() else contextlib.redirect_stderr(io.StringIO())
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(MIRROR_TIMEOUT_S)
    try:
        with progress:
            for name in SHA256:
                download_url(mirror + name, folder, name)
    finally:
        socket.setdefaulttimeout(before)


def _from_apt(folder: Path) -> None:
    quick = ("-o", "Acquire::http::Timeout=10", "-o", "Acquire::Retries=0")
    _command(folder, "apt-get", *quick, "download", DEBIAN_PACKAGE)
    for package in folder.glob("*.deb"):
        _command(folder, "dpkg-deb", "-x", str(package), "unpacked")
    for name in SHA256:
        (folder / "unpacked" / DEBIAN_FOLDER.relative_to("/") / name).rename(folder / name)


def _command(folder: Path, *words: str) -> None:
    if shutil.which(words[0]) is None:
        raise FileNotFoundError(f"this machine has no {words[0]}")
    try:
        subprocess.run(
            words,
            cwd=folder,
            check=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=APT_TIMEOUT_S,
        )
    except subprocess.CalledProcessError as error:
        raise RuntimeError(f"{words[0]} ended with {error.returncode}: {' '.join(error.stderr.split())}") from error
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"{words[0]} took more than {APT_TIMEOUT_S} s") from error


def _not_found(cache: Path, tried: dict[str, str]) -> str:
    places = "\n".join(f"  {place}: {why}" for place, why in tried.items())
    return (
        f"Fashion-MNIST was not found. Tried:\n{places}\n"
        f"Put {', '.join(SHA256)} into {cache}; or run apt install {DEBIAN_PACKAGE}; "
        "or pass the folder that contains them: load('fashion_mnist', folder=...)"
    )
