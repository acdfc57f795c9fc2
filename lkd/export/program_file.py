"""Export of networks as programs of `torch.export`."""

import json
import os

import torch
from torch import nn

from lkd.data import DataSet
from lkd.export.difference import compare
from lkd.export.file_card import Exported, metadata, write_card
from lkd.export.graph import traced
from lkd.export.quiet import quiet
from lkd.export.subject import COMPARED, subject
from lkd.runs.store import Run
from lkd.util.checks import check_flag
from lkd.util.files import file_path, replacing

_LOADING = """import numpy as np
import torch

program = torch.export.load({name}).module()


def logits_of(images):
    return program(torch.from_numpy(images)).detach().numpy()"""


def export_program(
    model: Run | nn.Module, path: str | os.PathLike[str], *, data: DataSet | str | None = None, fold: bool = False
) -> Exported:
    """Export a network as a program of `torch.export`, which PyTorch loads without this package, and its card.

    The program takes normalised images `(batch, C, H, W)` and gives logits. Its outputs are compared with the network's
    on 32 test images before the file is kept. The file `lkd.json` within it has the metadata of the card.

    Args:
        model: a run with weights, or a trained network.
        path: the file to write, ending in ".pt2"; an existing file is replaced.
        data: the images that the network takes, a name or a data set; by default those of the run.
        fold: fold batch norms into convolutions; see `lkd.models.fold_batchnorm`.

    Raises:
        FileNotFoundError: a run without weights.
        FloatingPointError: logits that are not finite.
        TypeError, ValueError: a network, data or path that does not fit, a network that cannot be traced or folded, or
            a file that differs from the network.

    Example:
        >>> import tempfile, timm, torch, lkd
        >>> from lkd.export import export_program
        >>> model = timm.create_model("mini_resnet", in_chans=1, num_classes=10)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     found = export_program(model, f"{folder}/student.pt2", data="digits", fold=True)
        ...     torch.export.load(found.path).module()(torch.zeros(7, 1, 32, 32)).shape
        torch.Size([7, 10])
    """
    path = file_path(path, ".pt2")
    check_flag("fold", fold)
    exported = subject(model, data, fold)
    images = exported.images("test", COMPARED)
    about = metadata(exported, fold)
    program = traced(exported.name, exported.model, images)
    with replacing(path) as temporary, quiet():
        torch.export.save(program, temporary, extra_files={"lkd.json": json.dumps(about, indent=1)})
        comparison = compare(torch.export.load(temporary).module(), exported.model, images)
    found = Exported(path, path.with_suffix(".md"), path.stat().st_size, comparison)
    write_card(found, about, _LOADING.format(name=json.dumps(path.name)))
    return found
