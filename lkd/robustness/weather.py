"""The four weather corruptions of an image of shape (H, H, C) with values in [0, 1]; H is a power of 2."""

import numpy as np
from scipy.ndimage import (
    binary_erosion,
    correlate,
    distance_transform_edt,
    gaussian_filter,
    uniform_filter,
)

from lkd.robustness.blurs import enlargement, trail
from lkd.robustness.colours import grey, tint

ICE = (0.89, 1.02, 1.09)
MUD = (63 / 255, 42 / 255, 20 / 255)
WATER = (175 / 255, 238 / 255, 238 / 255)

EMBOSS = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])
FARTHEST = 20


def snow(
    image: np.ndarray,
    rng: np.random.Generator,
    mean: float,
    sd: float,
    zoom: float,
    threshold: float,
    radius: int,
    sigma: float,
    share: float,
) -> np.ndarray:
    """Whiten the image and add snowflakes: enlarged noise above a threshold, with motion blur.

    Args:
        image: shape (H, W, C).
        rng: random generator.
        mean, sd: mean and standard deviation of the noise.
        zoom: enlargement of the noise.
        threshold: values below it become 0.
        radius, sigma: parameters of the motion blur.
        share: share of the original colour; the rest is whitened.
    """
    lines = enlargement(len(image), zoom)
    flakes = lines @ rng.normal(mean, sd, image.shape[:2]) @ lines.T
    flakes = np.where(flakes < threshold, 0, flakes).clip(0, 1)[..., None]
    flakes = trail(flakes, radius, sigma, rng.uniform(-135, -45))
    whitened = share * image + (1 - share) * np.maximum(image, 1.5 * grey(image) + 0.5)
    return whitened + flakes + np.rot90(flakes, 2)


def frost(image: np.ndarray, rng: np.random.Generator, share: float, ice: float) -> np.ndarray:
    """`share` times the image plus `ice` times a frosted pane: bright ridges of a fractal landscape on bluish grey.

    ImageNet-C adds crops of five photographs of unknown licence. The synthetic panes have the photographs' brightness
    (means of 0.48 to 0.81), colour, and crystals of the same contrast (0.04 to 0.09 within a crop).
    """
    heights = landscape(rng, len(image), 1.6)
    ridges = 1 - np.abs(heights - np.median(heights)) / np.ptp(heights)
    contrast = rng.uniform(0.04, 0.09) / ridges.std()
    pane = rng.uniform(0.48, 0.81) + contrast * (ridges - ridges.mean())
    return share * image + ice * (pane[..., None] * tint(ICE, image.shape[2])).clip(0, 1)


def fog(image: np.ndarray, rng: np.random.Generator, density: float, decay: float) -> np.ndarray:
    """Add a fractal landscape of heights up to `density`, and rescale to the image's brightest value.

    Args:
        image: shape (H, W, C).
        rng: random generator.
        density: density of the fog.
        decay: flattening of finer structures; see `landscape`.
    """
    brightest = image.max()
    mist = density * landscape(rng, len(image), decay)
    return (image + mist[..., None]) * brightest / (brightest + density)


def spatter(
    image: np.ndarray,
    rng: np.random.Generator,
    mean: float,
    sd: float,
    sigma: float,
    threshold: float,
    strength: float,
    mud: bool,
) -> np.ndarray:
    """Add drops of pale water with bright edges, or of brown mud.

    Args:
        image: shape (H, W, C).
        rng: random generator.
        mean, sd: mean and standard deviation of the noise that forms the drops.
        sigma: standard deviation of the Gaussian that smooths the noise, in pixels.
        threshold: values above it form drops.
        strength: for water, the maximum opacity; for mud, sigma of the Gaussian that smooths its edge.
        mud: mud instead of water.
    """
    liquid = gaussian_filter(rng.normal(mean, sd, image.shape[:2]), sigma, mode="nearest")
    wet = liquid > threshold
    if mud:
        cover = gaussian_filter(wet.astype(float), strength, mode="nearest")[..., None]
        cover[cover < 0.8] = 0
        return (1 - cover) * image + cover * tint(MUD, image.shape[2])
    if not wet.any():
        return image
    shine = np.where(wet, liquid * _relief(wet), 0)
    return image + strength * (shine / max(shine.max(), 1e-6))[..., None] * tint(WATER, image.shape[2])


def _relief(wet: np.ndarray) -> np.ndarray:
    """Light reflected by drops: distance from the edge, equalised and lit from one side."""
    edge = wet & ~binary_erosion(wet)
    distance = np.minimum(distance_transform_edt(~edge), FARTHEST)
    steps = uniform_filter(distance, 3, mode="mirror").round(3).astype(int)
    below = np.cumsum(np.bincount(steps.ravel()))
    level = (below[steps] - below[steps.min()]) / max(below[-1] - below[steps.min()], 1)
    return uniform_filter(correlate(level, EMBOSS, mode="mirror").clip(0, 1), 3, mode="mirror")


def landscape(rng: np.random.Generator, size: int, decay: float) -> np.ndarray:
    """Fractal heights from 0 to 1, periodic at the borders, (size, size), from the diamond-square algorithm.

    Args:
        rng: random generator.
        size: a power of 2.
        decay: structures of half the size are flatter by a factor of decay².
    """
    heights = np.zeros((size, size))
    step, height = size, 1.0
    while step > 1:
        half = step // 2
        corners = heights[::step, ::step]
        down = np.roll(corners, -1, 0)
        middles = (corners + down + np.roll(corners + down, -1, 1)) / 4
        middles += height * rng.uniform(-1, 1, corners.shape)
        above, left = middles + np.roll(middles, 1, 0), middles + np.roll(middles, 1, 1)
        heights[half::step, half::step] = middles
        heights[::step, half::step] = (corners + np.roll(corners, -1, 1) + above) / 4
        heights[half::step, ::step] = (corners + down + left) / 4
        heights[::step, half::step] += height * rng.uniform(-1, 1, corners.shape)
        heights[half::step, ::step] += height * rng.uniform(-1, 1, corners.shape)
        step, height = half, height / decay**2
    heights -= heights.min()
    return heights / heights.max()
