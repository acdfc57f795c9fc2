"""Runs on disk: found by the recipe's id, written atomically, verified with their manifest when read."""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import timm
import torch
from filelock import FileLock
from safetensors import SafetensorError
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import Tensor, nn

from lkd.recipe import Recipe
from lkd.runs.catalogue import read_metrics
from lkd.runs.manifest import MANIFEST, MASKS, STUDENT, check_file, check_records, write_manifest
from lkd.runs.predictions import PREDICTIONS, read_predictions, write_predictions
from lkd.runs.public_names import public
from lkd.util.checks import check_whole, some
from lkd.util.files import home_folder, read_history, read_json, reading, temporary_beside, writing
from lkd.util.locks import lock_at
from lkd.util.torch_defaults import torch_defaults

_SHAPE = {"in_chans": 2**10, "num_classes": 2**20}
"""Student arguments that follow from the data, with their maxima."""


@dataclass(frozen=True, eq=False, repr=False)
class Run:
    """A finished run.

    Reading a missing or damaged file raises FileNotFoundError, OSError or ValueError with the file and the remedy.

    Attributes:
        recipe: the recipe.
        path: the run's folder in the store.
        metrics: final metrics by name, on `val` and `test`: `top1` and, on `test`, the calibration error `ece` and the
            `agreement` with the teacher in percent; `loss` and, on `test`, the divergence `kl` from it in nats.
        build: builds the student's network, without its trained weights.
    """

    recipe: Recipe
    path: Path
    metrics: Mapping[str, float]
    build: Callable[[], nn.Module]

    def __repr__(self) -> str:
        recipe, top1 = self.recipe, self.metrics.get("test_top1")
        names = recipe.student if recipe.teacher is None else f"{recipe.teacher_name} -> {recipe.student}"
        about = f"{names}, {recipe.objective}, {public(recipe.data)}, seed {recipe.seed}"
        return f"<Run {recipe.run_id}: {about}" + (">" if top1 is None else f", test top-1 {top1:.2f} %>")

    @cached_property
    def history(self) -> pd.DataFrame:
        """One row per epoch: mean training loss and its terms, metrics on at most 500 validation images."""
        return read_history(self.path / "history.csv", remedy(self.path))

    @cached_property
    def predictions(self) -> pd.DataFrame:
        """`label` and `predicted` class of each test image, in the order of the labels; see `lkd.runs.predictions`.

        Raises:
            FileNotFoundError: a run from before predictions were kept.
        """
        if not (self.path / PREDICTIONS).exists() and not self._lists(PREDICTIONS):
            raise FileNotFoundError(
                f"run {self.recipe.run_id} is from before lkd kept predictions: train it again with resume=False"
            )
        self._compare(PREDICTIONS)
        return read_predictions(self.path / PREDICTIONS, remedy(self.path))

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """Package versions, source hash, hardware, threads, start and duration."""
        return read_json(self.path / "provenance.json", remedy(self.path))

    @cached_property
    @torch_defaults()
    @torch.random.fork_rng(devices=[])
    def student(self) -> nn.Module:
        """The trained student, in eval mode."""
        model, path, listed = self.build(), self.path / STUDENT, self._compare(STUDENT)
        with reading(path, "weights of this student", remedy(self.path)):
            if not listed:
                _check_weights(load_file(path), model)
            load_model(model, path)
        if not listed:
            self._write_missing_manifest()
        return model.eval()

    @cached_property
    def masks(self) -> dict[str, Tensor]:
        """Boolean masks of the active weights of sparse training, by parameter name; empty for dense training."""
        path = self.path / MASKS
        if not (self.recipe.sparsity or path.exists()):
            return {}
        self._compare(MASKS)
        with reading(path, "masks", remedy(self.path)):
            return load_file(path)

    def verify(self) -> None:
        """Read and check all files of the run, and write its manifest if the run is from before manifests.

        Raises:
            FileNotFoundError, OSError, ValueError: a file is missing, damaged or altered; names it and the remedy.
        """
        for part in ("history", "provenance", "student", "masks"):
            getattr(self, part)

    def _lists(self, name: str) -> bool:
        """Whether the run's manifest lists a file."""
        manifest = self.path / MANIFEST
        return manifest.exists() and name in read_json(manifest, remedy(self.path))["files"]

    def _compare(self, name: str) -> bool:
        """Compare a file with the manifest; return False for a run from before manifests."""
        listed = (self.path / MANIFEST).exists()
        if listed:
            check_file(self.path, name, self.recipe.run_id, remedy(self.path))
        return listed

    def _write_missing_manifest(self) -> None:
        """Write the manifest of a run from before manifests, after reading its other files."""
        epochs = len(self.history)
        if epochs < self.recipe.epochs and self.recipe.stop_top1 is None:
            path = self.path / "history.csv"
            raise ValueError(f"{path} has {epochs} of {self.recipe.epochs} epochs: {remedy(self.path)}")
        for file in ("provenance", "masks"):
            getattr(self, file)
        with suppress(OSError):  # a read-only store
            write_manifest(self.path, self.recipe.run_id)


def _check_weights(weights: Mapping[str, Tensor], model: nn.Module) -> None:
    """Refuse weights with another dtype than the network's, which PyTorch would cast, and non-finite weights."""
    for name, tensor in model.state_dict().items():
        if name in weights and weights[name].dtype != tensor.dtype:
            raise ValueError(f"{name} is {weights[name].dtype}, expected {tensor.dtype}")
    _check_finite({name: weights[name] for name, _ in model.named_parameters() if name in weights})


def _check_finite(values: Mapping[str, Tensor]) -> None:
    if names := [name for name, value in values.items() if not value.isfinite().all()]:
        raise FloatingPointError(f"{some(names)}: not finite")


def check_shape(shape: Mapping[str, Any], recipe: Recipe) -> None:
    """Raise an error for student arguments that are not in the recipe: some arguments of timm read files."""
    if shape.keys() != _SHAPE.keys() | recipe.student_args.keys():
        raise ValueError(f"its arguments {', '.join(shape)[:80]} are not those of its recipe")
    for name, value in shape.items():
        if name in _SHAPE:
            check_whole(name, value, 1, _SHAPE[name])
        elif value != recipe.student_args[name]:
            raise ValueError(f"{name} differs from its recipe")


def remedy(path: Path) -> str:
    """The remedy for a damaged run in a folder."""
    return f"remove {path}, and repeat the command, which runs the recipe again"


class Store:
    """A folder of runs, shared by any number of processes.

    Args:
        folder: the store's folder; by default lkd's home folder.

    Example:
        >>> import tempfile
        >>> from lkd import Recipe
        >>> from lkd.runs.store import Store
        >>> Store(tempfile.mkdtemp()).find(Recipe(data="digits", student="mini_vit")) is None
        True
    """

    def __init__(self, folder: str | Path | None = None):
        self.folder = home_folder() if folder is None else Path(folder).expanduser().resolve()

    def path(self, recipe: Recipe) -> Path:
        """The folder of a recipe's run, whether it exists or not."""
        return self.folder / "runs" / recipe.run_id

    def find(self, recipe: Recipe, build: Callable[[], nn.Module] | None = None) -> Run | None:
        """The finished run of a recipe, or None.

        Args:
            build: builds the student's network; needed only if timm does not know the student.

        Raises:
            FileNotFoundError, OSError, ValueError: a file is missing, damaged or altered, or the folder contains
                another run; names the file and the remedy.
        """
        path = self.path(recipe)
        self._recover(path)
        if not path.is_dir():
            return None
        _unless_replaced(path, lambda: _check_run_records(path, recipe.run_id))
        metrics = read_metrics(path, remedy(path))
        shape = read_json(path / "student.json", remedy(path))

        def build_from_timm() -> nn.Module:
            with reading(path / "student.json", f"arguments of {recipe.student!r}", remedy(path)):
                check_shape(shape, recipe)
                return timm.create_model(recipe.student, **shape)

        return Run(recipe, path, metrics, build or build_from_timm)

    def by_id(self, run_id: str) -> Run:
        """The finished run with an id.

        Raises:
            FileNotFoundError: no run has this id.
            KeyError, TypeError, ValueError: the recipe needs another version of the package, or code that this process
                has not registered.
        """
        path = self.folder / "runs" / run_id / "recipe.json"
        if not path.is_file():
            raise FileNotFoundError(f"the store {self.folder} has no run {run_id}: `lkd store list` lists its runs")
        recipe = Recipe.from_stored(read_json(path, remedy(path.parent)))
        if (run := self.find(recipe)) is None:
            raise ValueError(f"run {run_id} was made by another version of lkd, which is needed to use it")
        return run

    def lock(self, name: str) -> FileLock:
        """A reentrant lock between processes, for work called `name`.

        Raises:
            OSError: files of this store cannot be written or locked; names the folder and the remedy.
        """
        folder = self.folder / "locks"
        with writing(folder, "remove what is in its place, or set LKD_HOME to a folder that you can write to"):
            folder.mkdir(parents=True, exist_ok=True)
        return lock_at(folder / f"{name}.lock")

    def save(
        self,
        recipe: Recipe,
        student: nn.Module,
        shape: Mapping[str, int],
        metrics: Mapping[str, float],
        history: pd.DataFrame,
        provenance: Mapping[str, Any],
        masks: Mapping[str, Tensor] | None = None,
        predictions: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        """Write a run atomically, replacing an earlier run of the same recipe.

        Args:
            shape: `in_chans` and `num_classes`, to rebuild the student by timm.
            metrics: final metrics.
            history: one row per epoch.
            provenance: see `lkd.runs.provenance`.
            masks: masks of sparse training, by parameter name.
            predictions: label and predicted class of each test image, int64, shape (N,).

        Raises:
            FloatingPointError: a metric or weight is not finite.
            OSError: the folder cannot be written; names it and the remedy. No partial files remain.
        """
        _check_finite({name: torch.tensor(value) for name, value in metrics.items()} | dict(student.named_parameters()))
        provenance = {**provenance, "manifest": True}
        values = {"recipe": recipe.to_dict(), "student": shape, "metrics": metrics, "provenance": provenance}
        with self._atomic_folder(self.path(recipe)) as folder:
            for name, content in values.items():
                (folder / f"{name}.json").write_text(json.dumps(content, indent=1))
            history.to_csv(folder / "history.csv", index=False)
            save_model(student, str(folder / STUDENT))
            if predictions:
                write_predictions(folder / PREDICTIONS, *predictions, known=shape["num_classes"])
            if masks:
                save_file({name: mask.contiguous() for name, mask in masks.items()}, folder / MASKS)
            for weights in folder.glob("*.safetensors"):  # safetensors makes files readable by their owner only
                weights.chmod((folder / "recipe.json").stat().st_mode)
            write_manifest(folder, recipe.run_id)

    @contextmanager
    def _atomic_folder(self, path: Path) -> Iterator[Path]:
        """A temporary folder next to `path`, which becomes `path` if the block succeeds; else it is removed."""
        with writing(path, "make room, and run again"):
            path.parent.mkdir(parents=True, exist_ok=True)
            for left_by_a_kill in path.parent.glob(f".{path.name}.tmp-*"):
                shutil.rmtree(left_by_a_kill, ignore_errors=True)
            temporary = temporary_beside(path)
            temporary.mkdir()
            try:
                yield temporary
                for file in temporary.iterdir():
                    with file.open("rb") as written:
                        os.fsync(written.fileno())
                self._replace(path, temporary)
            except SafetensorError as error:
                raise OSError(f"{path} could not be written ({error}): make room, and run again") from error
            finally:
                shutil.rmtree(temporary, ignore_errors=True)

    def _replace(self, path: Path, temporary: Path) -> None:
        """Move a finished folder to its path; between the two renames, the earlier run is kept aside."""
        with self.lock(f"replace-{path.name}"):
            if path.exists():
                shutil.rmtree(_backup_path(path), ignore_errors=True)
                path.rename(_backup_path(path))
            temporary.rename(path)
        shutil.rmtree(_backup_path(path), ignore_errors=True)

    def _recover(self, path: Path) -> None:
        """Restore a run that a killed process had moved aside."""
        if path.is_dir() or not _backup_path(path).is_dir():
            return
        with self.lock(f"replace-{path.name}"):
            if not path.is_dir() and _backup_path(path).is_dir():
                _backup_path(path).rename(path)


def _backup_path(path: Path) -> Path:
    return path.with_name(f".{path.name}.before")


def _check_run_records(path: Path, run_id: str) -> None:
    """Compare a run's records with its manifest; without a manifest, compare the recipe's id with the run's id."""
    if not check_records(path, run_id, remedy(path)):
        with reading(path / "recipe.json", "recipe", remedy(path)):
            if (found := Recipe.from_stored(read_json(path / "recipe.json", remedy(path))).run_id) != run_id:
                raise ValueError(f"it is the recipe of run {found}")


def _unless_replaced(path: Path, check: Callable[[], None]) -> None:
    """Check a folder, and check again if another process has replaced it meanwhile."""
    before = path.stat().st_ino
    try:
        check()
    except (OSError, ValueError):
        if path.is_dir() and path.stat().st_ino == before:
            raise
        check()
