"""The three colour corruptions of an image of shape (H, W, C) with values in [0, 1]; C = 1 for grey."""

import numpy as np

LUMA = np.array([0.299, 0.587, 0.114])
"""Weights of red, green and blue in grey (ITU-R BT.601)."""


def tint(colour: tuple[float, float, float], channels: int) -> np.ndarray:
    """A colour for an image of 3 channels, or its grey for 1 channel."""
    return np.array(colour) if channels == 3 else np.array([LUMA @ colour])


def grey(image: np.ndarray) -> np.ndarray:
    """Convert an image of 1 or 3 channels to grey, (H, W, 1)."""
    return image if image.shape[2] == 1 else (image @ LUMA)[..., None]


def contrast(image: np.ndarray, rng: np.random.Generator, factor: float) -> np.ndarray:
    """Scale the distance from the mean of each channel by `factor`."""
    mean = image.mean((0, 1))
    return mean + factor * (image - mean)


def brightness(image: np.ndarray, rng: np.random.Generator, more: float) -> np.ndarray:
    """Add `more` to the value in HSV; hue and saturation are unchanged."""
    value = image.max(2, keepdims=True)
    lighter = np.minimum(value + more, 1)
    return np.where(value > 0, image / np.maximum(value, 1e-6) * lighter, lighter)


def saturate(image: np.ndarray, rng: np.random.Generator, factor: float, more: float) -> np.ndarray:
    """Scale the saturation in HSV by `factor` and add `more`; hue and value are unchanged.

    A grey image has no saturation: it changes only if `more` is above 0. Its hue is then red, as for grey in HSV, and
    the result is converted to grey.
    """
    rgb = np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image
    value, least = rgb.max(2, keepdims=True), rgb.min(2, keepdims=True)
    spread = value - least
    shares = np.where(spread > 0, (value - rgb) / np.maximum(spread, 1e-6), (0.0, 1.0, 1.0))
    saturation = (factor * spread / np.maximum(value, 1e-6) + more).clip(0, 1)
    changed = value * (1 - saturation * shares)
    return grey(changed) if image.shape[2] == 1 else changed
