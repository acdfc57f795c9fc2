"""The photographs at 32x32 from small look-alikes of their repositories. Costs 2 s."""

import gzip
import hashlib
import io
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lkd.data import photographs
from lkd.data.photographs import CIFAR10_JPEG, TINY_IMAGENET_32, Archive, _images

Files = dict[str, bytes]
WNIDS = ("n01443537", "n12267677")


def jpeg(seed: int, mode: str = "RGB") -> bytes:
    shape = (32, 32) if mode == "L" else (32, 32, 3)
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    written = io.BytesIO()
    Image.fromarray(pixels, mode).save(written, "JPEG")
    return written.getvalue()


FILES: Files = {
    **{f"train/{label}/{label}_{n}.JPEG": jpeg(n + 9 * k) for k, label in enumerate(WNIDS) for n in range(4)},
    **{f"val/{label}/val_{k}.JPEG": jpeg(50 + k, "L") for k, label in enumerate(WNIDS)},
}
DIGEST = hashlib.sha256(
    b"".join(name.encode() + b"\0" + hashlib.sha256(FILES[name]).digest() for name in sorted(FILES))
).hexdigest()


def as_in_the_repository(files: Files) -> Files:
    """The same photographs in the layout of the repository of Tiny ImageNet, with other files among them."""
    top = "imageet32x32-1753"
    laid_out = {f"{top}/words.txt": b"n01443537\tgoldfish\n", f"{top}/test/images/test_0.JPEG": b"?"}
    labels = []
    for name, content in files.items():
        split, label, file = name.split("/")
        laid_out[f"{top}/{split}/{label + '/' if split == 'train' else ''}images/{file}"] = content
        if split == "val":
            labels.append(f"{file}\t{label}\t0\t0\t9\t9\n")
    return laid_out | {f"{top}/val/val_annotations.txt": "".join(labels).encode()}


def in_folder(path: Path, files: Files) -> Path:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def in_tar(path: Path, files: Files) -> Path:
    with tarfile.open(path, "w:xz" if path.suffix == ".xz" else "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Archive:
    """A look-alike of Tiny ImageNet with two classes, in a home of its own, without a network."""
    monkeypatch.setenv("LKD_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(Archive, "url", property(lambda _: (tmp_path / "published.tar.gz").as_uri()))
    return replace(TINY_IMAGENET_32, digest=DIGEST, classes=2, validation=2)


@pytest.mark.parametrize(
    "made",
    [
        lambda path: in_folder(path, FILES),
        lambda path: in_folder(path, as_in_the_repository(FILES)),
        lambda path: in_tar(path.with_suffix(".tar.xz"), FILES),
        lambda path: in_tar(path.with_suffix(".tar.gz"), as_in_the_repository(FILES)),
    ],
    ids=["folder", "checkout", "tar.xz", "tar.gz of the repository"],
)
def test_every_layout_gives_the_same_images_and_fills_the_cache(
    tiny: Archive, tmp_path: Path, made: Callable[[Path], Path]
) -> None:
    data = _images(tiny, made(tmp_path / "given"))
    assert data.classes == WNIDS and data.name == "tiny_imagenet_32"
    assert data.train.labels.bincount().tolist() == [3, 3] and data.val.labels.tolist().count(0) == 1
    expected = np.asarray(Image.open(io.BytesIO(FILES["val/n12267677/val_1.JPEG"])).convert("RGB"))
    assert np.array_equal(data.test.images[1].numpy(), expected.transpose(2, 0, 1))
    again = _images(tiny, None)
    assert all(torch.equal(again.splits[name].images, split.images) for name, split in data.splits.items())
    assert all(torch.equal(again.splits[name].labels, split.labels) for name, split in data.splits.items())


def test_without_a_place_and_a_cache_the_repository_is_fetched_once(
    tiny: Archive, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    published = in_tar(tmp_path / "published.tar.gz", as_in_the_repository(FILES))
    first = _images(tiny, None)
    assert "tiny_imagenet_32 is not on this machine: fetching" in capsys.readouterr().err
    published.unlink()
    assert torch.equal(_images(tiny, None).train.images, first.train.images)
    assert not capsys.readouterr().err


def test_a_repository_that_cannot_be_reached_is_named_with_the_remedy(tiny: Archive) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"could not be fetched .* clone github.com/DhanashriPalodkar/imageet32x32"
    ):
        _images(tiny, None)


@pytest.mark.parametrize(
    "change",
    [
        lambda files: files.pop("train/n01443537/n01443537_0.JPEG"),
        lambda files: files.update({"train/n01443537/n01443537_9.JPEG": jpeg(9)}),
        lambda files: files.update({"train/n01443537/n01443537_0.JPEG": jpeg(99)}),
        lambda files: files.update({"val/n01443537/val_1.JPEG": files.pop("val/n12267677/val_1.JPEG")}),
        lambda files: files.clear(),
    ],
    ids=["lacking", "one more", "another image", "another label", "none"],
)
def test_other_content_is_refused(tiny: Archive, tmp_path: Path, change: Callable[[Files], object]) -> None:
    files = dict(FILES)
    change(files)
    (tmp_path / "given").mkdir()
    with pytest.raises(ValueError, match=r"given is not tiny_imagenet_32: \d+ images with digest"):
        _images(tiny, in_folder(tmp_path / "given", files))
    assert not list((tmp_path / "home").rglob("*.safetensors"))


def test_a_wrong_place_is_refused_although_the_cache_is_whole(tiny: Archive, tmp_path: Path) -> None:
    _images(tiny, in_folder(tmp_path / "given", FILES))
    with pytest.raises(FileNotFoundError, match="there is no"):
        _images(tiny, tmp_path / "nowhere")
    (tmp_path / "cut.tar.gz").write_bytes(gzip.compress(b"1" * 600))
    with pytest.raises(ValueError, match=r"cut\.tar\.gz"):
        _images(tiny, tmp_path / "cut.tar.gz")


def test_a_place_is_compared_but_not_decoded_again(
    tiny: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = _images(tiny, in_folder(tmp_path / "given", FILES))
    monkeypatch.setattr(photographs, "_pixels", lambda _: pytest.fail("it was decoded again"))
    assert torch.equal(_images(tiny, tmp_path / "given").train.images, first.train.images)


def test_a_damaged_cache_is_named(tiny: Archive, tmp_path: Path) -> None:
    _images(tiny, in_folder(tmp_path / "given", FILES))
    cache = tmp_path / "home" / "data" / "tiny_imagenet_32.safetensors"
    content = bytearray(cache.read_bytes())
    for position in (3, len(content) // 2, len(content) - 9):
        damaged = bytearray(content)
        damaged[position] ^= 1
        cache.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"tiny_imagenet_32\.safetensors.*remove it, and it is fetched again"):
            _images(tiny, None)


def test_the_test_images_of_cifar_are_those_of_its_folder_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LKD_HOME", str(tmp_path / "home"))
    files = {
        f"{split}/{label}/{n:04}.jpg": jpeg(n)
        for split in ("train", "test")
        for label in ("cat", "dog")
        for n in range(4)
    }
    named = {name.replace("test/", "val/"): content for name, content in files.items()}
    archive = replace(CIFAR10_JPEG, digest=photographs.content_digest(named), classes=2, validation=2)
    data = _images(archive, in_folder(tmp_path / "given", files))
    assert (data.classes, len(data.train), len(data.val), len(data.test)) == (("cat", "dog"), 6, 2, 8)
