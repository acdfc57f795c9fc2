"""The five blur corruptions of an image of shape (H, W, C) with values in [0, 1] and H equal to W."""

from functools import cache

import numpy as np
from scipy.ndimage import convolve, gaussian_filter, zoom


def gaussian_blur(image: np.ndarray, rng: np.random.Generator, sigma: float) -> np.ndarray:
    """Gaussian blur with sigma in pixels."""
    return gaussian_filter(image, (sigma, sigma, 0), mode="nearest")


def glass_blur(image: np.ndarray, rng: np.random.Generator, sigma: float, rounds: int) -> np.ndarray:
    """Gaussian blur, random local shifts of pixels, and Gaussian blur again, with sigma in pixels.

    In each round, each pixel outside the first two rows and columns is replaced by the pixel 0 or 1 above and 0 or 1 to
    the left. (The authors' code intends a swap, but copies on colour images: CIFAR-10-C has this form.)
    """
    shuffled = gaussian_blur(image, rng, sigma)
    inner = np.arange(2, len(image))
    for _ in range(rounds):
        up, left = rng.integers(0, 2, (2, len(inner), len(inner)))
        shuffled[2:, 2:] = shuffled[inner[:, None] - up, inner - left]
    return gaussian_blur(shuffled, rng, sigma)


def defocus_blur(image: np.ndarray, rng: np.random.Generator, radius: float, sigma: float) -> np.ndarray:
    """Convolution with a disk of `radius` pixels, at most 1.5, with an edge softened by a Gaussian of sigma pixels."""
    return convolve(image, _disk(radius, sigma)[..., None], mode="mirror")


@cache
def _disk(radius: float, sigma: float) -> np.ndarray:
    cells = np.arange(-2, 3)
    disk = (cells[:, None] ** 2 + cells**2 <= radius**2).astype(float)
    taps = np.exp(-np.array([1.0, 0.0, 1.0]) / (2 * sigma**2))
    soft = convolve(disk, np.outer(taps, taps), mode="constant")
    return soft / soft.sum()


def motion_blur(image: np.ndarray, rng: np.random.Generator, radius: int, sigma: float) -> np.ndarray:
    """Blur along a line of 2 radius + 1 pixels, at most 45 degrees from the horizontal."""
    return trail(image, radius, sigma, rng.uniform(-45, 45))


def trail(image: np.ndarray, radius: int, sigma: float, degrees: float) -> np.ndarray:
    """Mean along a line that starts at each pixel, weighted by half a Gaussian of sigma pixels."""
    steps = np.arange(2 * radius + 1)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    weights /= weights.sum()
    angle, margin = np.deg2rad(degrees), 2 * radius
    rows, columns = np.rint(steps * np.sin(angle)).astype(int), np.rint(steps * np.cos(angle)).astype(int)
    padded = np.pad(image, ((margin, margin), (margin, margin), (0, 0)), mode="edge")
    blurred = np.zeros_like(image)
    for weight, row, column in zip(weights, margin + rows, margin + columns, strict=True):
        blurred += weight * padded[row : row + image.shape[0], column : column + image.shape[1]]
    return blurred


def zoom_blur(image: np.ndarray, rng: np.random.Generator, percent: int) -> np.ndarray:
    """Mean of the image and its enlargements by 0, 1, ..., `percent` percent."""
    lines = _enlargements(len(image), percent)[:, None]
    enlarged = lines @ image.transpose(2, 0, 1) @ lines.transpose(0, 1, 3, 2)
    return (image + enlarged.sum(0).transpose(1, 2, 0)) / (len(lines) + 1)


@cache
def _enlargements(size: int, percent: int) -> np.ndarray:
    return np.stack([enlargement(size, 1 + part / 100) for part in range(percent + 1)])


@cache
def enlargement(size: int, factor: float) -> np.ndarray:
    """Matrix (size, size) that enlarges the middle of a line of `size` pixels: `matrix @ x`."""
    kept = int(np.ceil(size / factor))
    first = (size - kept) // 2
    lines = zoom(np.eye(size)[first : first + kept], (factor, 1), order=1)
    first = (len(lines) - size) // 2
    return lines[first : first + size]
