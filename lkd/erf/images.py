"""Images to measure receptive fields on."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import resize

from lkd.data import DataSet, Files, Images, Split, View
from lkd.data.images import stratified_order
from lkd.data.sources import folder_split
from lkd.util.checks import check_whole, unknown

ORDERS = ("stratified", "first")
"""How images are chosen."""


def sample_images(
    data: DataSet | Tensor | str | Path,
    size: int,
    count: int = 50,
    *,
    split: str = "val",
    order: str = "stratified",
    seed: int = 0,
) -> Tensor:
    """Normalised images of one size: each resized bicubically to `size` x `size`, its aspect ratio not kept.

    RepLKNet takes the first 50 images of ImageNet's validation folder, which are all of one class: give that folder and
    `order="first"`. Here images are drawn at random with the classes in proportion, 50 classes among ImageNet's. Either
    way the same arguments give the same images in the same order.

    Args:
        data: a data set (`lkd.data.load`, or your own); a folder of pictures, in which folders are classes, normalised
            by ImageNet's mean and std; or float32 images `(N, C, H, W)`, normalised already and all of one class.
        size: side of the images.
        count: how many.
        split: "train", "val" or "test", of a data set.
        order: "stratified", or "first" for the first ones in the data's own order.
        seed: which ones, if stratified.

    Returns:
        `(count, C, size, size)`, float32.

    Raises:
        TypeError: data of another kind; a size or count that is no whole number.
        KeyError: an unknown split or order.
        FileNotFoundError: no such folder, or no picture in it.
        ValueError: a size or count below 1, or more images than there are; a damaged picture.

    Source: DingXiaoH/RepLKNet-pytorch, erf/visualize_erf.py.

    Example:
        >>> from lkd.data import load
        >>> from lkd.erf import sample_images
        >>> sample_images(load("digits"), size=128, count=20).shape
        torch.Size([20, 1, 128, 128])
    """
    check_whole("size", size, 1)
    check_whole("count", count, 1)
    if order not in ORDERS:
        raise KeyError(unknown("order", order, ORDERS))
    known = _data_set(data)
    if split not in known.splits:
        raise KeyError(unknown("split", split, known.splits))
    labels = known.splits[split].labels
    if count > len(labels):
        raise ValueError(f"count is {count}, but there are {len(labels)} images: ask for no more")
    chosen = stratified_order(labels, seed)[:count] if order == "stratified" else np.arange(count)
    if isinstance(known, Files):
        return known.normalise(_pixels(known, split, chosen, size))
    return known.normalise(resize(known.splits[split].take(chosen).images, [size, size], InterpolationMode.BICUBIC))


def _data_set(data: DataSet | Tensor | str | Path) -> Images | Files:
    """A tensor or a folder as a data set, each of whose splits is the whole."""
    if isinstance(data, Images | Files):
        return data
    if isinstance(data, Tensor):
        if data.dtype != torch.float32:
            raise TypeError(f"data is a tensor of {data.dtype}: give torch.float32, normalised as the model expects")
        whole = Split(data, torch.zeros(data.shape[:1], dtype=torch.int64))
        channels = data.shape[1]
        return Images("tensor", ("",), whole, whole, whole, (0.0,) * channels, (1.0,) * channels)
    if isinstance(data, str | Path):
        path = Path(data).expanduser()
        if not path.is_dir():
            raise FileNotFoundError(f"there is no folder {path}: for a data set by its name, give lkd.data.load(name)")
        found = folder_split(path)
        pictures = found.split()
        return Files(str(path), found.classes, pictures, pictures, pictures, View())
    raise TypeError(f"data must be a data set, a folder or a tensor, got a {type(data).__name__}")


def _pixels(data: Files, split: str, indices: np.ndarray, size: int) -> Tensor:
    """Pictures as uint8 `(N, 3, size, size)`."""
    read = [data.splits[split].read(index, data.view.damaged == "skip")[0] for index in indices.tolist()]
    resized = [np.asarray(picture.resize((size, size), Image.Resampling.BICUBIC)) for picture in read]
    return torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2)
