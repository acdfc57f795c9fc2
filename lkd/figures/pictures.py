"""Pictures for figures: arrays of pixels as images that a page can show."""

import base64
import io

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image


def picture(image: ArrayLike) -> np.ndarray:
    """An image as bytes, (H, W) or (H, W, 3), from its smallest value (black) to its largest (white).

    Args:
        image: (H, W), (H, W, 3), or (C, H, W) with one or three channels, in any range of values.

    Raises:
        ValueError: another shape, or values that are not finite.

    Example:
        >>> from lkd.figures.pictures import picture
        >>> picture([[[-1.0, 0.0], [0.0, 1.0]]]).tolist()
        [[0, 128], [128, 255]]
    """
    values = np.asarray(image, dtype=np.float64)
    if values.ndim == 3 and values.shape[0] in (1, 3) and values.shape[2] not in (1, 3):
        values = np.moveaxis(values, 0, 2)
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[:, :, 0]
    if not (values.ndim == 2 or (values.ndim == 3 and values.shape[2] == 3)):
        raise ValueError(
            f"an image has shape {np.shape(image)}: give (H, W), (H, W, 3), or (C, H, W) with 1 or 3 channels"
        )
    if not np.isfinite(values).all():
        raise ValueError("an image has values that are not finite: give finite ones")
    least, most = values.min(), values.max()
    return np.round(255 * (values - least) / (most - least or 1)).astype(np.uint8)


def picture_url(pixels: np.ndarray) -> str:
    """Bytes of pixels, (H, W) or (H, W, 3), as a `data:` URL with a PNG image."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
