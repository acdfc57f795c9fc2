"""Decoding to RGB for all image formats and modes, and its errors."""

import io
import itertools
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, ImageFile

from lkd.data import load
from lkd.data.decoding import CARE, WARNED, decoded

PIXELS = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
COLOUR = Image.fromarray(PIXELS)
GREY = COLOUR.convert("L")
TURNED = Image.Exif()
TURNED[ExifTags.Base.Orientation] = 6


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def deep_png(pixels: np.ndarray) -> bytes:
    """An RGB image with 16 bits per channel, which Pillow cannot write."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def deep(image: Image.Image, factor: int) -> Image.Image:
    return Image.fromarray(np.asarray(image).astype(np.uint16) * factor)


KINDS: dict[str, tuple[bytes, Image.Image, tuple[str, ...]]] = {
    "colour": (encoded(COLOUR, "PNG"), COLOUR, ()),
    "grey": (encoded(GREY, "PNG"), GREY, ()),
    "webp": (encoded(COLOUR, "WEBP", lossless=True), COLOUR, ()),
    "palette": (encoded(GREY.convert("P"), "PNG"), GREY, ()),
    "black and white": (encoded(GREY.convert("1"), "PNG"), GREY.convert("1"), ()),
    "an orientation": (encoded(COLOUR, "PNG", exif=TURNED), COLOUR, ("orientation",)),
    "an orientation in TIFF": (encoded(COLOUR, "TIFF", tiffinfo={274: 6}), COLOUR.rotate(-90, expand=True), ()),
    "opaque": (encoded(COLOUR.convert("RGBA"), "PNG"), COLOUR, ()),
    "transparent grey": (encoded(Image.merge("LA", (GREY, GREY)), "PNG"), GREY, ("transparent",)),
    "transparent palette": (
        encoded(GREY.convert("P"), "PNG", transparency=bytes([0] * 256)),
        GREY,
        ("transparent",),
    ),
    "a transparent colour that is not used": (
        encoded(Image.new("P", (40, 30)), "PNG", transparency=3),
        Image.new("RGB", (40, 30)),
        (),
    ),
    "16 bits": (encoded(deep(GREY, 257), "PNG"), GREY, ("deep",)),
    "16 bits in TIFF": (encoded(deep(GREY, 257), "TIFF"), GREY, ("deep",)),
    "16 bits in colour": (deep_png(PIXELS.astype(np.uint16) * 257), COLOUR, ("deep",)),
    "12 of 16 bits": (encoded(deep(GREY, 16), "PNG"), GREY.point(lambda value: value // 16), ("dark", "deep")),
    "moving": (
        encoded(GREY, "GIF", save_all=True, append_images=[GREY.rotate(180)]),
        GREY,
        ("frames",),
    ),
    "pages": (encoded(COLOUR, "TIFF", save_all=True, append_images=[GREY]), COLOUR, ("frames",)),
    "a photo with a preview": (encoded(GREY, "MPO", quality=100, save_all=True, append_images=[GREY]), GREY, ()),
    "one pixel": (encoded(Image.new("RGB", (1, 1)), "PNG"), Image.new("RGB", (1, 1)), ("tiny",)),
    "narrow": (encoded(Image.new("L", (900, 9)), "PNG"), Image.new("L", (900, 9)), ("narrow",)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_image_becomes_rgb_and_what_needs_care_is_named(kind: str) -> None:
    content, expected, care = KINDS[kind]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image, found = decoded(content)
    assert (image.mode, image.size, found) == ("RGB", expected.size, care)
    lossy = 4 if kind == "a photo with a preview" else 0
    assert np.abs(np.asarray(image).astype(int) - np.asarray(expected.convert("RGB"))).max() <= lossy


def test_cmyk_is_converted_and_counted() -> None:
    image, care = decoded(encoded(Image.new("CMYK", (40, 30), (0, 0, 0, 255)), "JPEG"))
    assert care == ("cmyk",) and np.asarray(image).max() < 8


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            encoded(Image.fromarray(np.ones((9, 9), np.float32)), "TIFF"),
            "floating-point numbers of unknown range",
        ),
        (encoded(Image.fromarray(np.ones((9, 9), np.int32)), "TIFF"), "32-bit integers .*: save it with 8 or 16 bits"),
        (encoded(Image.new("L", (2001, 2)), "PNG"), "2001 x 2 pixels: crop it"),
        (b"", "the file is empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "pointer of Git LFS: run git lfs pull"),
        (b"GIF", "cannot identify image file: Pillow has no decoder for its content"),
        (encoded(COLOUR, "PNG")[:900], "truncated"),
    ],
)
def test_what_cannot_be_decoded_is_refused(content: bytes, message: str) -> None:
    with pytest.raises((ValueError, OSError), match=message):
        decoded(content)


def test_a_damaged_exif_block_damages_no_image() -> None:
    content = encoded(COLOUR, "PNG", exif=b"Exif\0\0II*\0\xff\xff")
    assert np.array_equal(np.asarray(decoded(content)[0]), PIXELS)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_warns_once_of_each_kind_whichever_process_meets_it_first(tmp_path: Path, workers: int) -> None:
    for split, label, number in ((s, c, n) for s in ("train", "val") for c in ("ant", "bee") for n in range(3)):
        path = tmp_path / split / label / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        COLOUR.save(path, exif=TURNED)
    data = load(f"folder:{tmp_path}", image_size=16)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            list(data.batches(data.train, torch.arange(5), 5, workers))
    listing = data.train.listing
    assert len(caught) == (workers == 0)
    assert all("has an EXIF orientation, which is not applied" in str(warning.message) for warning in caught)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        listing.image(0)


def test_truncated_images_that_would_pass_are_warned_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for split, label in itertools.product(("train", "val"), ("ant", "bee")):
        path = tmp_path / split / label / "0.png"
        path.parent.mkdir(parents=True)
        COLOUR.save(path)
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.warns(UserWarning, match="LOAD_TRUNCATED_IMAGES is True, .*: set it to False"):
        load(f"folder:{tmp_path}")


def test_images_that_pillow_warns_of_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.warns(Image.DecompressionBombWarning):
        assert decoded(encoded(COLOUR, "PNG"))[1] == ("huge",)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(Image.DecompressionBombError, match="exceeds limit"):
        decoded(encoded(COLOUR, "PNG"))


def test_what_is_warned_about_is_counted() -> None:
    assert WARNED.keys() <= CARE.keys()
