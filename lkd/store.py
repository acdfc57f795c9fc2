"""Runs on disk: found by their recipe's id, written whole or not at all."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import timm
import torch
from filelock import FileLock
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import Tensor, nn

from lkd.files import home
from lkd.recipe import Recipe
from lkd.torch_defaults import torch_defaults


@dataclass(frozen=True, eq=False)
class Run:
    """A recipe carried out.

    Attributes:
        recipe: what was run.
        path: its folder in the store.
        metrics: final figures by name: accuracies in percent, losses in nats, on `val` and `test`.
        build: makes the student's network, without its trained weights.
    """

    recipe: Recipe
    path: Path
    metrics: Mapping[str, float]
    build: Callable[[], nn.Module] = field(repr=False)

    @cached_property
    def history(self) -> pd.DataFrame:
        """One row an epoch: mean training loss and its terms, figures on at most 500 validation images."""
        return pd.read_csv(self.path / "history.csv")

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """Package versions, source hash, hardware, threads, start and duration."""
        return json.loads((self.path / "provenance.json").read_text())

    @cached_property
    @torch_defaults()
    @torch.random.fork_rng(devices=[])
    def student(self) -> nn.Module:
        """The trained student, in eval mode."""
        model = self.build()
        load_model(model, self.path / "student.safetensors")
        return model.eval()

    @cached_property
    def masks(self) -> dict[str, Tensor]:
        """Where weights of sparse training may differ from 0: bool, by parameter's name; empty for dense training."""
        path = self.path / "masks.safetensors"
        return load_file(path) if path.exists() else {}


class Store:
    """A folder of runs, shared by any number of processes.

    Args:
        folder: where it lies; by default the home of this machine's files.

    Example:
        >>> import tempfile
        >>> from lkd import Recipe
        >>> from lkd.store import Store
        >>> Store(tempfile.mkdtemp()).find(Recipe(data="digits", student="mini_vit")) is None
        True
    """

    def __init__(self, folder: str | Path | None = None):
        self.folder = home() if folder is None else Path(folder).expanduser().resolve()

    def path(self, recipe: Recipe) -> Path:
        """Where the run of a recipe lies, or would lie."""
        return self.folder / "runs" / recipe.run_id

    def find(self, recipe: Recipe, build: Callable[[], nn.Module] | None = None) -> Run | None:
        """The finished run of a recipe; None when there is none.

        Args:
            recipe: what to look for.
            build: makes the student's network; needed only for one that timm does not know.
        """
        path = self.path(recipe)
        if not path.is_dir():
            return None
        metrics = json.loads((path / "metrics.json").read_text())
        shape = json.loads((path / "student.json").read_text())
        return Run(recipe, path, metrics, build or (lambda: timm.create_model(recipe.student, **shape)))

    def by_id(self, run_id: str) -> Run:
        """The finished run of an id.

        Raises:
            FileNotFoundError: there is none.
            KeyError, TypeError, ValueError: its recipe names what this version of the package, or this process, does
                not have.
        """
        path = self.folder / "runs" / run_id / "recipe.json"
        if not path.is_file():
            raise FileNotFoundError(f"the store {self.folder} has no run {run_id}: `lkd store list` shows what it has")
        recipe = Recipe.from_dict(json.loads(path.read_text()))
        if (run := self.find(recipe)) is None:
            raise ValueError(f"run {run_id} was made by another version of lkd, which is needed to use it")
        return run

    def lock(self, name: str) -> FileLock:
        """A lock that one process at a time holds, as often as it likes, to make what is called `name`."""
        folder = self.folder / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / f"{name}.lock", is_singleton=True)

    def save(
        self,
        recipe: Recipe,
        student: nn.Module,
        shape: Mapping[str, int],
        metrics: Mapping[str, float],
        history: pd.DataFrame,
        provenance: Mapping[str, Any],
        masks: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Write a run; it appears in the store whole, replacing one of the same recipe.

        Args:
            recipe: what was run.
            student: the trained network.
            shape: what timm needs to build it again: `in_chans` and `num_classes`.
            metrics: final figures.
            history: one row an epoch.
            provenance: see `provenance`.
            masks: of sparse training, by parameter's name.

        Raises:
            OSError: the folder cannot be written; nothing is left behind.
        """
        path = self.path(recipe)
        path.parent.mkdir(parents=True, exist_ok=True)
        for left_by_a_kill in path.parent.glob(f".{path.name}.*"):
            shutil.rmtree(left_by_a_kill, ignore_errors=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
        try:
            values = {"recipe": recipe.to_dict(), "student": shape, "metrics": metrics, "provenance": provenance}
            for name, content in values.items():
                (temporary / f"{name}.json").write_text(json.dumps(content, indent=1))
            history.to_csv(temporary / "history.csv", index=False)
            save_model(student, str(temporary / "student.safetensors"))
            if masks:
                whole = {name: mask.contiguous() for name, mask in masks.items()}
                save_file(whole, temporary / "masks.safetensors")
            temporary.chmod(0o755)
            for file in temporary.iterdir():
                with file.open("rb") as written:
                    os.fsync(written.fileno())
            if path.exists():
                path.rename(temporary / "replaced")
            temporary.rename(path)
            shutil.rmtree(path / "replaced", ignore_errors=True)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
