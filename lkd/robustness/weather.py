"""The four corruptions by weather, of one image of shape (H, H, C) with values in [0, 1]; H is a power of 2."""

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
    """A whitened image under flakes: enlarged noise above a threshold, blurred along the direction they fall in.

    Args:
        image: shape (H, W, C).
        rng: where flakes are drawn from.
        mean, sd: of the noise.
        zoom: how much the noise is enlarged.
        threshold: below which there is no flake.
        radius, sigma: of the trail of a flake.
        share: of the image's own colour; the rest is whitened.
    """
    lines = enlargement(len(image), zoom)
    flakes = lines @ rng.normal(mean, sd, image.shape[:2]) @ lines.T
    flakes = np.where(flakes < threshold, 0, flakes).clip(0, 1)[..., None]
    flakes = trail(flakes, radius, sigma, rng.uniform(-135, -45))
    whitened = share * image + (1 - share) * np.maximum(image, 1.5 * grey(image) + 0.5)
    return whitened + flakes + np.rot90(flakes, 2)


def frost(image: np.ndarray, rng: np.random.Generator, share: float, ice: float) -> np.ndarray:
    """`share` of the image under `ice` of a pane with crystals: bright ridges of a fractal landscape on bluish grey.

    ImageNet-C lays crops of five photographs over its images, of unknown licence. The drawn panes have their
    brightness (means of 0.48 to 0.81) and colour, and crystals of their contrast (0.04 to 0.09 within a crop).
    """
    heights = landscape(rng, len(image), 1.6)
    ridges = 1 - np.abs(heights - np.median(heights)) / np.ptp(heights)
    contrast = rng.uniform(0.04, 0.09) / ridges.std()
    pane = rng.uniform(0.48, 0.81) + contrast * (ridges - ridges.mean())
    return share * image + ice * (pane[..., None] * tint(ICE, image.shape[2])).clip(0, 1)


def fog(image: np.ndarray, rng: np.random.Generator, density: float, decay: float) -> np.ndarray:
    """A fractal landscape of heights up to `density` laid over the image, the sum scaled back to its brightest value.

    Args:
        image: shape (H, W, C).
        rng: where the landscape is drawn from.
        density: of the fog.
        decay: by how much finer structures are flatter; see `landscape`.
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
    """Drops of pale water that glisten at their edges, or of brown mud.

    Args:
        image: shape (H, W, C).
        rng: where drops are drawn from.
        mean, sd: of the noise that they are drawn from.
        sigma: of the Gaussian that this noise is smoothed with, in pixels.
        threshold: below which there is no drop.
        strength: of water: its highest opacity; of mud: sigma of the Gaussian that smooths its edge.
        mud: whether it is mud.
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
    """How much light drops reflect: their distance from an edge, equalised and lit from one side."""
    edge = wet & ~binary_erosion(wet)
    distance = np.minimum(distance_transform_edt(~edge), FARTHEST)
    steps = uniform_filter(distance, 3, mode="mirror").round(3).astype(int)
    below = np.cumsum(np.bincount(steps.ravel()))
    level = (below[steps] - below[steps.min()]) / max(below[-1] - below[steps.min()], 1)
    return uniform_filter(correlate(level, EMBOSS, mode="mirror").clip(0, 1), 3, mode="mirror")


def landscape(rng: np.random.Generator, size: int, decay: float) -> np.ndarray:
    """Heights from 0 to 1 that repeat at the borders, (size, size), by the diamond-square algorithm.

    Args:
        rng: where they are drawn from.
        size: a power of 2.
        decay: structures of half the size are decay² times flatter.
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
