"""Decode image files as RGB, and report properties that need attention."""

import contextlib
import io
import math

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

DARK = 1 << 12
"""16-bit images with all values below this become nearly black in 8 bits."""

MAX_ASPECT_RATIO = 1000
"""Narrower images, resized by their shorter side, do not fit into memory."""

WARNED = {
    "orientation": "an EXIF orientation, which is not applied, as in timm and torchvision: rotate its pixels "
    "(PIL.ImageOps.exif_transpose) if it must be upright",
    "transparent": "transparent pixels, which keep their stored colours: paste it on a background first if these "
    "are meaningless",
    "frames": "several frames or pages, and only the first is used: save each as a separate file to use all",
    "dark": "16 bits per channel and no value of 4,096 or above, so it is nearly black in 8 bits: scale its values "
    "to 65,535, or save it with 8 bits",
}
"""Properties that a run warns of, with the remedy."""

CARE = {
    "orientation": "with an EXIF orientation (not applied)",
    "transparent": "with transparent pixels (stored colours kept)",
    "frames": "with several frames or pages (first used)",
    "dark": "of 16 bits with all values under 4,096 (nearly black)",
    "deep": "of 16 bits per channel (upper 8 kept)",
    "cmyk": "in CMYK (converted without a colour profile)",
    "narrow": "with one side over 20 times the other",
    "tiny": "with a side under 8 pixels",
    "huge": "above the size that Pillow warns of",
}
"""Image properties that need attention, as `lkd data check` prints them."""


def decoded(content: bytes) -> tuple[Image.Image, tuple[str, ...]]:
    """Decode an image file as RGB, and list the keys of `CARE` that apply to it.

    16-bit channels keep their upper 8 bits, animations their first frame. Transparency is dropped; the stored colours
    stay. An EXIF orientation is not applied, except by Pillow itself in TIFF files.

    Args:
        content: the bytes of the file.

    Raises:
        Exception: any error of Pillow on a damaged file.
        ValueError: pixels of 32 bits, which have no standard range; one side over 1000 times the other.

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
    _check_sides(image)
    return converted(image)


def converted(image: Image.Image, mode: str = "RGB") -> tuple[Image.Image, tuple[str, ...]]:
    """Convert a PIL image to RGB or L by the rules of `decoded`, and list the keys of `CARE` that apply to it.

    Args:
        image: an image of any mode; it is loaded, not changed.
        mode: "RGB" or "L".

    Raises:
        Exception: any error of Pillow on a damaged image.
        ValueError: see `decoded`; a mode that Pillow does not convert.

    Example:
        >>> from PIL import Image
        >>> from lkd.data.decoding import converted
        >>> converted(Image.new("CMYK", (40, 30)))[0].mode
        'RGB'
    """
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
    if "transparency" in image.info:
        image = image.copy()
        del image.info["transparency"]
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image).clip(0, 0xFFFF) >> 8).astype(np.uint8))
    flat = image.convert(mode)
    holds["dark"] = deep and int(np.asarray(flat).max()) < DARK >> 8
    return flat, tuple(kind for kind in CARE if holds[kind])


def _opened(content: bytes) -> Image.Image:
    if not content:
        raise ValueError("the file is empty")
    if content.startswith(b"version https://git-lfs"):
        raise ValueError("the file is a pointer of Git LFS: run git lfs pull")
    try:
        return Image.open(io.BytesIO(content))
    except UnidentifiedImageError:
        raise ValueError("cannot identify image file: Pillow has no decoder for its content") from None


def _check_pixels(image: Image.Image) -> None:
    if image.mode == "F" or (image.mode == "I" and image.format not in ("PNG", "PPM")):
        kind = "floating-point numbers" if image.mode == "F" else "32-bit integers"
        raise ValueError(f"its pixels are {kind} of unknown range: save it with 8 or 16 bits per channel")


def _check_sides(image: Image.Image) -> None:
    if max(image.size) > MAX_ASPECT_RATIO * min(image.size):
        raise ValueError(f"it is {image.width} x {image.height} pixels: crop it to sides that differ less")


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation; 1 (upright) if the EXIF block is unreadable."""
    with contextlib.suppress(Exception):
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    return 1


def _transparent(image: Image.Image) -> bool:
    if "A" not in image.getbands() and "transparency" not in image.info:
        return False
    return int(np.asarray(image.convert("RGBA").getchannel("A")).min()) < 255
