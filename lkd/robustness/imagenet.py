"""Evaluation on local copies of ImageNet-C, -A, -R and -Sketch, under named protocols."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Normalize, Resize, ToTensor

from lkd.data import subset
from lkd.data.image_files import SIZE, FileSplit
from lkd.data.prefetch import prefetch
from lkd.engine import evaluate_batches
from lkd.engine.evaluate import BATCH_SIZE, process_share
from lkd.models.inference import device_of, in_eval_mode
from lkd.robustness.corruptions import SEED, chosen_pairs
from lkd.robustness.folders import CLASSES, SETS, Part, class_indices, find, images_of
from lkd.robustness.scores import CORRUPTIONS, SEVERITIES
from lkd.util.checks import check_flag, check_whole, unknown
from lkd.util.progress import progress_bar

PROTOCOLS = {
    "standard": (CenterCrop(SIZE),),
    "l2s": (Resize(256, InterpolationMode.BICUBIC), CenterCrop(SIZE)),
}
"""Preprocessing to 224x224. "standard": ImageNet-C's stored images, which have this size, unchanged; "l2s": resized and
cropped, as by L2S's authors, for images of any size."""


def imagenet_robustness(
    model: nn.Module,
    folder: str | Path,
    sets: Iterable[str] = ("C", "A", "R", "Sketch"),
    *,
    protocols: Iterable[str] = ("standard", "l2s"),
    corruptions: Iterable[str] = CORRUPTIONS,
    severities: Iterable[int] = SEVERITIES,
    count: int | None = None,
    restrict: bool = True,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    workers: int = 0,
    accelerator: Accelerator | None = None,
) -> pd.DataFrame:
    """Errors of a model of ImageNet-1k's 1000 classes on ImageNet-C, -A, -R and -Sketch.

    The folder contains `imagenet-c/TYPE/SEVERITY/`, `imagenet-a/`, `imagenet-r/` and `sketch/` as unpacked, with one
    folder per class, named by WordNet id. All folders and their classes are checked before the evaluation starts.

    Args:
        model: maps images `(B, 3, 224, 224)` to logits of 1000 classes.
        folder: folder of the sets.
        sets: keys of `SETS`.
        protocols: keys of `PROTOCOLS`, for ImageNet-C; images of the other sets have any size and always use "l2s".
        corruptions, severities: types and severities of ImageNet-C.
        count: maximum number of images per folder, a fixed stratified subset; None for all.
        restrict: restrict predictions on A and R to the 200 classes of the set, as their authors define; False to
            predict among all 1000.
        mean, std: normalisation of images in [0, 1], one value per channel; by default from the model's
            `pretrained_cfg`.
        workers: number of data loading processes.
        accelerator: distributes the work over its processes; None for one process on the model's device.

    Returns:
        Columns set, protocol, corruption and severity ("none" and 0 for sets without), classes (number of possible
        predictions), images (their number) and error (top-1, in [0, 1]). `imagenet_c_scores` computes means of it.

    Raises:
        FileNotFoundError: a folder is missing; the message states where to get the set.
        KeyError, TypeError, ValueError: an unknown set, protocol, type or severity; a folder with other classes than
            its set; a model with other classes or input size, or without known mean and std; a damaged image.

    Source: D. Hendrycks and T. Dietterich, arXiv 1903.12261; D. Hendrycks et al., arXiv 1907.07174 and 2006.16241;
    H. Wang et al., arXiv 1905.13549.

    Example:
        >>> import tempfile, timm
        >>> from PIL import Image
        >>> from timm.data import ImageNetInfo
        >>> from lkd.robustness import class_indices, imagenet_robustness
        >>> names = ImageNetInfo().label_names()
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for index in class_indices("A"):
        ...         path = Path(folder, "imagenet-a", names[index], "1.png")
        ...         path.parent.mkdir(parents=True)
        ...         Image.new("RGB", (40, 30)).save(path)
        ...     table = imagenet_robustness(timm.create_model("test_resnet"), folder, ["A"], count=2)
        >>> table[["set", "protocol", "classes", "images"]].to_records(index=False).tolist()
        [('A', 'l2s', 200, 2)]
    """
    check_flag("restrict", restrict)
    pairs = chosen_pairs(corruptions, severities)
    shown = _known("protocol", protocols, PROTOCOLS)
    if count is not None:
        check_whole("count", count, 1)
    names = _known("set", sets, SETS)
    parts = [part for name in names for part in find(name, Path(folder).expanduser(), shown, pairs)]
    mean, std = _statistics(model, mean, std)
    _check_model(model)
    rows = []
    with progress_bar(len(parts)) as bar:
        for part in parts:
            answers = class_indices(part.set) if restrict else tuple(range(CLASSES))
            split = images_of(part, answers)
            if count is not None:
                split = subset(split, min(count, len(split)), SEED)
            transform = Compose([*PROTOCOLS[part.protocol], ToTensor(), Normalize(mean, std)])
            chosen = [indices for indices in process_share(len(split), accelerator).split(BATCH_SIZE) if len(indices)]
            batches = prefetch(partial(_batch, split, transform), chosen, workers)
            top1 = evaluate_batches(_Among(model, answers), batches, accelerator)["top1"]
            rows.append((*part[:-1], len(answers), len(split), 1 - top1 / 100))
            bar.update()
    return pd.DataFrame(rows, columns=[*Part._fields[:-1], "classes", "images", "error"])


def _batch(split: FileSplit, transform: Compose, indices: Tensor) -> tuple[Tensor, Tensor]:
    """The transformed images at `indices`, and their labels."""
    images, labels = zip(*(split.read(index, skip_damaged=False) for index in indices.tolist()), strict=True)
    return torch.stack([transform(image) for image in images]), torch.tensor(labels)


class _Among(nn.Module):
    """A model with logits restricted to some classes, in the given order."""

    def __init__(self, model: nn.Module, indices: Sequence[int]):
        super().__init__()
        self.model, self.indices = model, list(indices)
        self.train(model.training)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, len(indices))."""
        logits: Tensor = self.model(images)
        return logits[:, self.indices]


def _known(argument: str, values: Iterable[str], known: Iterable[str]) -> list[str]:
    if isinstance(values, str):
        raise TypeError(f"{argument}s must be a list of names, got {values!r}: give [{values!r}]")
    names = list(values)
    if not names or len(set(names)) < len(names):
        raise ValueError(f"{argument}s must name one or more, each once, got {names!r}")
    for name in names:
        if name not in known:
            raise KeyError(unknown(argument, name, known))
    return names


def _check_model(model: nn.Module) -> None:
    """Refuse a model that does not map an image of 224x224 to 1000 logits."""
    image = torch.zeros(1, 3, SIZE, SIZE, device=device_of(model))
    try:
        with in_eval_mode(model), torch.no_grad():
            logits = model(image)
    except (AssertionError, RuntimeError, ValueError) as error:
        raise ValueError(f"model does not accept images (B, 3, {SIZE}, {SIZE}): {error}") from error
    if not isinstance(logits, Tensor) or logits.shape != (1, CLASSES):
        got = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
        raise ValueError(f"model must give logits (B, {CLASSES}), in the order of ImageNet-1k, got {got} for one image")


def _statistics(
    model: nn.Module, mean: Sequence[float] | None, std: Sequence[float] | None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std for the normalisation of the model's images."""
    config = getattr(model, "pretrained_cfg", None)
    config = config if isinstance(config, Mapping) else {}
    values = []
    for name, given in (("mean", mean), ("std", std)):
        if (value := config.get(name) if given is None else given) is None:
            raise ValueError(
                f"{name} is unknown: the model has no {name} in a pretrained_cfg, so pass {name}=(r, g, b)"
            )
        if len(value) != 3:
            raise ValueError(f"{name} must have one value for each of 3 channels, got {value!r}")
        values.append(tuple(float(channel) for channel in value))
    return values[0], values[1]
