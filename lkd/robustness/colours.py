"""The three corruptions of colour, of one image of shape (H, W, C) with values in [0, 1]; a grey one has C = 1."""

import numpy as np

LUMA = np.array([0.299, 0.587, 0.114])
"""Shares of red, green and blue in the grey of a colour (ITU-R BT.601)."""


def tint(colour: tuple[float, float, float], channels: int) -> np.ndarray:
    """A colour in an image of 3 channels, its grey in an image of 1."""
    return np.array(colour) if channels == 3 else np.array([LUMA @ colour])


def grey(image: np.ndarray) -> np.ndarray:
    """Shape (H, W, 1) of an image of 1 or 3 channels."""
    return image if image.shape[2] == 1 else (image @ LUMA)[..., None]


def contrast(image: np.ndarray, rng: np.random.Generator, factor: float) -> np.ndarray:
    """The distance from the mean of each channel times `factor`."""
    mean = image.mean((0, 1))
    return mean + factor * (image - mean)


def brightness(image: np.ndarray, rng: np.random.Generator, more: float) -> np.ndarray:
    """`more` added to the value of HSV; hue and saturation stay."""
    value = image.max(2, keepdims=True)
    lighter = np.minimum(value + more, 1)
    return np.where(value > 0, image / np.maximum(value, 1e-6) * lighter, lighter)


def saturate(image: np.ndarray, rng: np.random.Generator, factor: float, more: float) -> np.ndarray:
    """Saturation of HSV times `factor`, plus `more`; hue and value stay.

    An image of one channel has no saturation: it stays as it is, unless `more` gives it one; its hue is then red, as
    that of grey is in HSV, and the result is the grey of it.
    """
    rgb = np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image
    value, least = rgb.max(2, keepdims=True), rgb.min(2, keepdims=True)
    spread = value - least
    shares = np.where(spread > 0, (value - rgb) / np.maximum(spread, 1e-6), (0.0, 1.0, 1.0))
    saturation = (factor * spread / np.maximum(value, 1e-6) + more).clip(0, 1)
    changed = value * (1 - saturation * shares)
    return grey(changed) if image.shape[2] == 1 else changed
