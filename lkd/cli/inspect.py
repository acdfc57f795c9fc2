"""Commands on trained models: accuracy, receptive field, robustness."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lkd.cli.options import ImageSize, Json, OwnData, Trained, Workers
from lkd.cli.root import app, errors_reported, say_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy as np
    import pandas as pd
    from torch import Tensor

    from lkd.runs.resolve import ModelWithData


@app.command()
def evaluate(
    model: Trained,
    data: OwnData = None,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
    image_size: ImageSize = 0,
    workers: Workers = 0,
    as_json: Json = False,
) -> None:
    """Evaluate a trained model: top-1 accuracy in percent, and mean cross-entropy with the labels in nats.

    Example: lkd evaluate resnet50.a1_in1k --data folder:/data/imagenet --split val --workers 8
    """
    from lkd.engine import evaluate_batches
    from lkd.engine.evaluate import BATCH_SIZE, process_share
    from lkd.runs.resolve import load_with_data
    from lkd.runs.store import Store
    from lkd.util.checks import unknown
    from lkd.util.progress import progress_bar

    with errors_reported():
        chosen = load_with_data(model, Store(), data, image_size)
        if split not in chosen.data.splits:
            raise KeyError(unknown("split", split, chosen.data.splits))
        images = chosen.data.splits[split]
        batches = chosen.data.batches(images, process_share(len(images)), BATCH_SIZE, workers)
        with progress_bar(len(images)) as bar:
            found = evaluate_batches(_on_device(chosen.model), _counted(batches, bar), name=f"images of {split}")
    if as_json:
        say_json({"model": model, "data": chosen.data.name, "split": split, "images": len(images), **found})
    else:
        typer.echo(
            f"{model} on {len(images):,} images of {chosen.data.name} ({split}): "
            f"top-1 {found['top1']:.2f} %, loss {found['loss']:.4f}"
        )


@app.command()
def erf(
    model: Trained,
    data: OwnData = None,
    size: Annotated[int, typer.Option(min=1, help="Side of the enlarged images, in pixels.")] = 1024,
    count: Annotated[int, typer.Option(min=1, help="Number of images, with classes in proportion.")] = 50,
    save: Annotated[
        Path | None, typer.Option(dir_okay=False, help="File for the map: .npz, or .png of its logarithm.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure the effective receptive field of a trained model, by RepLKNet's procedure.

    Prints, for each threshold, the side and area share of the smallest central square that contains more than that
    share of all contributions, for the logarithm of the map and for the map itself; and the effective share of the
    image. All depend on the size of the images.

    Example: lkd erf resnet50.a1_in1k --data folder:/data/imagenet --save map.png
    """
    from lkd.erf import area_ratios, effective_share
    from lkd.runs.resolve import load_with_data
    from lkd.runs.store import Store

    if save and save.suffix not in (".npz", ".png"):
        raise typer.BadParameter(f"--save must end in .npz or .png, got {save}")
    with errors_reported():
        field = _field(load_with_data(model, Store(), data, 0), data, size, count)
        if save:
            _save_map(field, save)
    rows = {
        kind: [row._asdict() for row in area_ratios(field, log=kind == "logarithm")] for kind in ("logarithm", "plain")
    }
    share = effective_share(field)
    if as_json:
        say_json({"model": model, "size": size, "count": count, "effective_share": share, "area_ratios": rows})
        return
    typer.echo(f"{model}, {count} images of {size} x {size} pixels: effective share {share:.2%}")
    for kind, ratios in rows.items():
        for row in ratios:
            reached = f"side {row['side']:5} {row['ratio']:8.2%}" if row["side"] else "not reached"
            typer.echo(f"  {kind:10} more than {row['threshold']:4.0%}: {reached}")


@app.command()
def robustness(
    model: Trained,
    data: OwnData = None,
    count: Annotated[int | None, typer.Option(min=1, help="Maximum number of images; by default all.")] = None,
    imagenet: Annotated[
        Path | None, typer.Option(help="Folder with imagenet-c, imagenet-a, imagenet-r and sketch.")
    ] = None,
    sets: Annotated[str, typer.Option(help="ImageNet sets to evaluate.")] = "C,A,R,Sketch",
    workers: Workers = 0,
    as_json: Json = False,
) -> None:
    """Measure the robustness of a trained model: top-1 errors on changed images, in percent.

    For data in memory: 19 corruptions at 5 severities. For models of ImageNet's 1000 classes: the sets in --imagenet.

    Examples: lkd robustness 3f2a --count 1000

    lkd robustness resnet50.a1_in1k --imagenet /data --sets A,R
    """
    from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

    from lkd.robustness import imagenet_c_scores, imagenet_robustness
    from lkd.runs.resolve import load_trained, load_with_data, resolve
    from lkd.runs.store import Store

    with errors_reported():
        if imagenet is None:
            table = _errors(load_with_data(model, Store(), data), data, count)
            means: dict[str, Any] = _corruption_means(table)
        else:
            if data is not None:
                raise ValueError(f"--data {data!r} and --imagenet both name the images: leave one of them out")
            network, _ = load_trained(model, Store())
            by_timm = isinstance(resolve(model, Store()), str)
            mean, std = (None, None) if by_timm else (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
            table = imagenet_robustness(
                _on_device(network), imagenet, sets.split(","), count=count, mean=mean, std=std, workers=workers
            )
            others = table[table.set != "C"]
            means = imagenet_c_scores(table) | {
                f"ImageNet-{name}": 100 * rows.error.mean() for name, rows in others.groupby("set", sort=False)
            }
    if as_json:
        say_json({"model": model, "percent": means, "rows": table.to_dict("records")})
        return
    for name, value in means.items():
        typer.echo(f"{name:32} {'not run' if value is None else f'{value:6.2f}'}")


def _on_device(model: Any) -> Any:
    """Move a model to this machine's GPU, if it has one."""
    import torch

    return model.to("cuda" if torch.cuda.is_available() else "cpu")


def _counted(batches: "Iterable[tuple[Tensor, Tensor]]", bar: Any) -> "Iterator[tuple[Tensor, Tensor]]":
    """Batches that advance a progress bar."""
    for images, labels in batches:
        yield images, labels
        bar.update(len(labels))


def _field(chosen: "ModelWithData", data: str | None, size: int, count: int) -> "np.ndarray":
    """A model's contribution map; stored with the run if measured on the run's images."""
    from lkd.erf import at_size, contribution_map, sample_images
    from lkd.study.measure import erf_of

    if chosen.run is not None and data is None:
        return erf_of(chosen.run, size, count)
    resized = at_size(_on_device(chosen.model), size)
    return contribution_map(resized, sample_images(chosen.data, size, count), progress=True)


def _save_map(field: "np.ndarray", path: Path) -> None:
    """Write a contribution map as an array named "map", or its logarithm as a grey image, black for 0."""
    import numpy as np
    from PIL import Image

    from lkd.util.files import replacing

    with replacing(path) as temporary:
        if path.suffix == ".npz":
            np.savez_compressed(temporary, map=field)
        else:
            brightness = np.log10(field + 1)
            Image.fromarray((255 * brightness / brightness.max()).round().astype(np.uint8)).save(temporary)


def _errors(chosen: "ModelWithData", data: str | None, count: int | None) -> "pd.DataFrame":
    """Errors on corrupted images in memory; stored with the run if measured on the run's images."""
    from lkd.data import Images
    from lkd.robustness import corruption_errors
    from lkd.study.measure import errors_of

    if not isinstance(chosen.data, Images):
        raise ValueError(f"corruptions need images in memory, {chosen.data.name} has files: see --imagenet")
    if chosen.run is not None and data is None:
        return errors_of(chosen.run, count or len(chosen.data.test))
    return corruption_errors(_on_device(chosen.model), chosen.data, count)


def _corruption_means(table: "pd.DataFrame") -> dict[str, float]:
    """Errors in percent: clean, the mean over all types, and each type's mean over severities."""
    from lkd.robustness import CLEAN, by_corruption, mean_error

    errors = by_corruption(table)
    clean = float(table[table.corruption == CLEAN].error.iloc[0])
    return {CLEAN: 100 * clean, "mean": mean_error(errors)} | {name: 100 * error for name, error in errors.items()}
