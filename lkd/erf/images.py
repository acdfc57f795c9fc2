"""Images for measuring receptive fields."""

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
"""Orders of selecting images."""


def sample_images(
    data: DataSet | Tensor | str | Path,
    size: int,
    count: int = 50,
    *,
    split: str = "val",
    order: str = "stratified",
    seed: int = 0,
) -> Tensor:
    """Normalised images, resized bicubically to `size` x `size` without keeping the aspect ratio.

    The default is a random sample stratified by class: 50 ImageNet images come from 50 classes. RepLKNet uses the first
    50 images of ImageNet's validation folder, all of one class: pass that folder and `order="first"`. The same
    arguments give the same images in the same order.

    Args:
        data: a data set (`lkd.data.load`, or your own); a folder of images with one folder per class, normalised by
            ImageNet's mean and std; or normalised float32 images `(N, C, H, W)`, treated as one class.
        size: height and width of the images.
        count: number of images.
        split: "train", "val" or "test" of a data set.
        order: "stratified", or "first" for the first images in the order of the data.
        seed: seed of the stratified sample.

    Returns:
        `(count, C, size, size)`, float32.

    Raises:
        TypeError: data of another type; a size or count that is not an integer.
        KeyError: an unknown split or order.
        FileNotFoundError: the folder is missing or has no images.
        ValueError: a size or count below 1; more images than available; a damaged image.

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
        raise ValueError(f"count is {count}, but there are {len(labels)} images: reduce count")
    chosen = stratified_order(labels, seed)[:count] if order == "stratified" else np.arange(count)
    if isinstance(known, Files):
        return known.normalise(_pixels(known, split, chosen, size))
    return known.normalise(resize(known.splits[split].take(chosen).images, [size, size], InterpolationMode.BICUBIC))


def _data_set(data: DataSet | Tensor | str | Path) -> Images | Files:
    """A data set; a tensor or folder becomes one that uses all its images for every split."""
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
            raise FileNotFoundError(f"there is no folder {path}: for a data set by name, pass lkd.data.load(name)")
        found = folder_split(path)
        pictures = found.split()
        return Files(str(path), found.classes, pictures, pictures, pictures, View())
    raise TypeError(f"data must be a data set, a folder or a tensor, got a {type(data).__name__}")


def _pixels(data: Files, split: str, indices: np.ndarray, size: int) -> Tensor:
    """Read images as uint8 `(N, 3, size, size)`."""
    read = [data.splits[split].read(index, data.view.damaged == "skip")[0] for index in indices.tolist()]
    resized = [np.asarray(picture.resize((size, size), Image.Resampling.BICUBIC)) for picture in read]
    return torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2)
