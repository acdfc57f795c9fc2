"""Image files decoded as RGB, and what about their pixels needs care."""

import contextlib
import io
import math

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

DARK = 1 << 12
"""16-bit images whose values stay below this are nearly black once the upper 8 bits are kept."""

NARROWEST = 1000
"""Highest ratio of an image's sides: resized by its shorter one, a narrower image would not fit into memory."""

WARNED = {
    "orientation": "an EXIF orientation, which is not applied, as in timm and torchvision: turn its pixels "
    "(PIL.ImageOps.exif_transpose) if it must be upright",
    "transparent": "transparent pixels, which are shown in their stored colours: put it on a background first if "
    "these mean nothing",
    "frames": "several frames or pages, of which the first is shown: save each as a file of its own if all count",
    "dark": "16 bits a channel and no value of 4,096 or above, so it is nearly black in 8 bits: scale its values to "
    "65,535, or save it with 8 bits",
}
"""What a run warns about, with the remedy."""

CARE = {
    "orientation": "with an EXIF orientation (not applied)",
    "transparent": "with transparent pixels (stored colours shown)",
    "frames": "with several frames or pages (first shown)",
    "dark": "of 16 bits with values under 4,096 alone (nearly black)",
    "deep": "of 16 bits a channel (upper 8 kept)",
    "cmyk": "in CMYK (converted without a colour profile)",
    "narrow": "with one side over 20 times the other",
    "tiny": "with a side under 8 pixels",
    "huge": "over the size that Pillow warns of",
}
"""What needs care in pixels, in the words of `lkd data check`."""


def as_rgb(content: bytes) -> Image.Image:
    """An image file decoded as RGB: see `decoded`."""
    return decoded(content)[0]


def decoded(content: bytes) -> tuple[Image.Image, tuple[str, ...]]:
    """An image file as RGB, and the keys of `CARE` that hold for it.

    Of 16 bits a channel, the upper 8 are kept; of several frames, the first; transparency is dropped, and the stored
    colours stay. Pixels are as stored: an EXIF orientation is not applied, except by Pillow itself in TIFF files.

    Args:
        content: of the file.

    Raises:
        Exception: whatever Pillow meets in a damaged file.
        ValueError: pixels of 32 bits, whose range no file says; one side over 1000 times the other.

    Example:
        >>> import io
        >>> from PIL import Image
        >>> from lkd.data.decoding import decoded
        >>> file = io.BytesIO()
        >>> Image.new("LA", (40, 30)).save(file, "PNG")
        >>> image, care = decoded(file.getvalue())
        >>> image.mode, care
        ('RGB', ('transparent',))
    """
    image = _opened(content)
    deep = image.mode.startswith("I") or any(";16" in str(tile.args) for tile in getattr(image, "tile", ()))
    _check_pixels(image)
    frames = image.format != "MPO" and getattr(image, "is_animated", False)
    image.load()
    holds = {
        "orientation": _orientation(image) > 1,
        "transparent": _transparent(image),
        "frames": frames,
        "deep": deep,
        "cmyk": image.mode == "CMYK",
        "narrow": max(image.size) > 20 * min(image.size),
        "tiny": min(image.size) < 8,
        "huge": image.width * image.height > (Image.MAX_IMAGE_PIXELS or math.inf),
    }
    image.info.pop("transparency", None)
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image).clip(0, 0xFFFF) >> 8).astype(np.uint8))
    rgb = image.convert("RGB")
    holds["dark"] = deep and int(np.asarray(rgb).max()) < DARK >> 8
    return rgb, tuple(kind for kind in CARE if holds[kind])


def _opened(content: bytes) -> Image.Image:
    if not content:
        raise ValueError("the file is empty")
    if content.startswith(b"version https://git-lfs"):
        raise ValueError("the file is a pointer of Git LFS: run git lfs pull")
    try:
        return Image.open(io.BytesIO(content))
    except UnidentifiedImageError:
        raise ValueError("cannot identify image file: its content is of no kind that Pillow reads here") from None


def _check_pixels(image: Image.Image) -> None:
    if image.mode == "F" or (image.mode == "I" and image.format not in ("PNG", "PPM")):
        kind = "floating-point numbers" if image.mode == "F" else "32-bit integers"
        raise ValueError(f"its pixels are {kind}, whose range is not known: save it with 8 or 16 bits a channel")
    if max(image.size) > NARROWEST * min(image.size):
        raise ValueError(f"it is {image.width} x {image.height} pixels: crop it until its sides differ less")


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation; 1, upright, where the EXIF block cannot be read."""
    with contextlib.suppress(Exception):
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    return 1


def _transparent(image: Image.Image) -> bool:
    if "A" not in image.getbands() and "transparency" not in image.info:
        return False
    return int(np.asarray(image.convert("RGBA").getchannel("A")).min()) < 255
