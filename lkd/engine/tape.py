"""Tapes: a teacher's outputs along a stream, recorded once and read by later students of the same stream."""

import json
import os
import shutil
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from lkd.data import Batch
from lkd.engine.teacher import Teacher
from lkd.engine.top_k import TopK, compress, expand
from lkd.objectives import Outputs
from lkd.objectives.tensors import hard_label
from lkd.recipe import Recipe
from lkd.util.files import json_digest, read_json, reading, replacing, reserve, temporary_beside, writing

_RECORDS, _MANIFEST = "records.bin", "manifest.json"


class Tape:
    """A memory-mapped file of a teacher's outputs, with a record of fixed size for each sample of each epoch.

    Each record ends with a checksum of its content, position and tape. A record that is incomplete, damaged or moved
    counts as missing. Any number of processes may read and write at the same time, since all write equal content.

    Args:
        folder: a folder created by `Tape.make`.

    Raises:
        FileNotFoundError, OSError, ValueError: a file of the tape is missing or damaged; names it and the remedy.

    Example:
        >>> import tempfile, torch
        >>> from lkd.data import Batch
        >>> from lkd.engine.tape import Tape
        >>> from lkd.objectives import Outputs
        >>> tape = Tape.make(tempfile.mkdtemp() + "/tape", epochs=1, samples=4, classes=10)
        >>> batch = Batch(torch.zeros(2, 1, 8, 8), torch.tensor([3, 1]), positions=torch.tensor([0, 2]))
        >>> tape.read(0, batch) is None
        True
        >>> tape.write(0, batch, Outputs(torch.ones(2, 10)))
        >>> tape.read(0, batch).logits.shape
        torch.Size([2, 10])
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.manifest = read_manifest(self.folder)
        self.classes, self.top_k = self.manifest["classes"], self.manifest["top_k"]
        shape = self.manifest["epochs"], self.manifest["samples"]
        records = self.folder / _RECORDS
        mode: Literal["r+", "r"] = "r+" if os.access(records, os.W_OK) else "r"
        with reading(records, "records of this tape", _remedy(self.folder)):
            if (size := records.stat().st_size) != (expected := bytes_needed(self.manifest)):
                raise ValueError(f"it has {size:,} bytes, not {expected:,}")
            self.records = np.memmap(records, _record(self.manifest), mode, shape=shape)

    @classmethod
    def make(
        cls,
        folder: str | Path,
        *,
        epochs: int,
        samples: int,
        classes: int,
        top_k: int | None = None,
        maps: tuple[tuple[int, ...], ...] = (),
        about: Mapping[str, Any] | None = None,
    ) -> "Tape":
        """Create an empty tape and reserve its disk space. Only one process at a time may create a folder's tape.

        Args:
            folder: the tape's folder; it must not exist.
            epochs, samples: number of epochs of the stream, and samples per epoch.
            classes: C.
            top_k: number of classes stored of each distribution (see `lkd.engine.top_k`); None for all logits.
            maps: shape `(c, h, w)` of each feature map.
            about: further entries of the manifest.

        Raises:
            OSError: too little space; names the space needed.
        """
        folder = Path(folder)
        manifest: dict[str, Any] = {
            "epochs": epochs,
            "samples": samples,
            "classes": classes,
            "top_k": top_k,
            "maps": maps,
        }
        manifest |= about or {}
        manifest["key"] = _key(manifest)
        needed = bytes_needed(manifest)
        with writing(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder.parent).free
        if needed > free:
            raise OSError(
                f"the tape {folder.name} takes {needed:,} bytes, {folder.parent} has {free:,} free: make room, record "
                "fewer classes (teacher_top_k), or train without a tape"
            )
        for left_by_a_kill in folder.parent.glob(f".{folder.name}.*"):
            shutil.rmtree(left_by_a_kill, ignore_errors=True)
        temporary = temporary_beside(folder)
        with writing(folder):
            temporary.mkdir()
            try:
                reserve(temporary / _RECORDS, needed)
                (temporary / _MANIFEST).write_text(json.dumps({**manifest, "bytes": needed}, indent=1))
                temporary.rename(folder)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
        return cls(folder)

    def check_content(self, expected: Mapping[str, Any]) -> None:
        """Compare the manifest with expected entries.

        Raises:
            ValueError: an entry differs; names the first one and the remedy.
        """
        for name, value in json.loads(json.dumps(expected)).items():
            if (listed := self.manifest.get(name)) != value:
                raise ValueError(
                    f"{self.folder / _MANIFEST} lists {name} {listed}, expected {value}: {_remedy(self.folder)}"
                )

    def write(self, epoch: int, batch: Batch, outputs: Outputs) -> None:
        """Record the teacher's outputs for a batch.

        Raises:
            PermissionError: the tape is read-only.
        """
        if not self.records.flags.writeable:
            raise PermissionError(
                f"the tape {self.folder} has missing records and cannot be written: make it writable, or remove it"
            )
        positions = batch.positions.cpu().numpy()
        records = np.zeros(len(positions), self.records.dtype)
        for name, value in self._columns(batch, outputs).items():
            records[name] = value.float().cpu().numpy() if value.is_floating_point() else value.cpu().numpy()
        records["check"] = self._checks(records, epoch, positions)
        self.records[epoch, positions] = records

    def read(self, epoch: int, batch: Batch) -> Outputs | None:
        """The recorded outputs for a batch, on its device; None if a record is missing or damaged."""
        positions = batch.positions.cpu().numpy()
        records = self.records[epoch, positions]
        if (records["check"] != self._checks(records, epoch, positions)).any():
            return None
        values = {name: torch.from_numpy(records[name].copy()).to(batch.images.device) for name in records.dtype.names}
        maps = tuple(values[f"map{i}"] for i in range(len(self.manifest["maps"])))
        if self.top_k is None:
            return Outputs(values["logits"], maps)
        short = TopK(*(values[name] for name in TopK._fields))
        return Outputs(expand(short, hard_label(batch.target), self.classes), maps)

    def recorded(self) -> int:
        """The number of records written, without verifying their checksums."""
        return self.records.size if self.complete else int(np.count_nonzero(self.records["check"]))

    def damaged(self) -> int:
        """The number of records with a wrong checksum."""
        return sum(self._damaged(epoch) for epoch in range(len(self.records)))

    def _damaged(self, epoch: int) -> int:
        records = self.records[epoch]
        places = np.flatnonzero(records["check"])
        written = records[places]
        return int((written["check"] != self._checks(written, epoch, places)).sum())

    @property
    def complete(self) -> bool:
        """Whether every record was written, as set by `finish`."""
        return self.manifest.get("complete", False)

    def finish(self) -> None:
        """Mark the tape as complete in its manifest, if all records are written."""
        if not self.complete and self.recorded() == self.records.size:
            self.records.flush()
            self.manifest["complete"] = True
            with replacing(self.folder / _MANIFEST) as temporary:
                temporary.write_text(json.dumps(self.manifest, indent=1))

    def _checks(self, records: np.ndarray, epoch: int, positions: np.ndarray) -> np.ndarray:
        """A nonzero checksum of each record with its position and its tape's key (older tapes have no key)."""
        content = records.view(np.uint8).reshape(len(records), records.itemsize)[:, :-4]
        key = self.manifest.get("key", "")
        places = (zlib.crc32(f"{key}{epoch} {position}".encode()) for position in positions)
        return np.array([zlib.crc32(row, place) or 1 for row, place in zip(content, places, strict=True)], np.uint32)

    def _columns(self, batch: Batch, outputs: Outputs) -> dict[str, Tensor]:
        maps = {f"map{i}": value for i, value in enumerate(outputs.maps)}
        if self.top_k is None:
            return {"logits": outputs.logits, **maps}
        return {**compress(outputs.logits, hard_label(batch.target), self.top_k)._asdict(), **maps}


class TapedTeacher:
    """A teacher with a tape: it runs only on batches that are not on the tape, and records its outputs."""

    def __init__(self, tape: Tape, teacher: Teacher):
        self.tape, self.teacher = tape, teacher

    def __call__(self, epoch: int, batch: Batch) -> Outputs:
        """Outputs for the batch."""
        if (found := self.tape.read(epoch, batch)) is not None:
            return found
        self.tape.write(epoch, batch, self.teacher(epoch, batch))
        written = self.tape.read(epoch, batch)
        assert written is not None
        return written


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read a tape's manifest: its teacher, stream and recipe, and the number and form of its records.

    Raises:
        FileNotFoundError, OSError, ValueError: the manifest is missing or damaged; names it and the remedy.
    """
    path = folder / _MANIFEST
    manifest = read_json(path, _remedy(folder))
    with reading(path, "manifest of a tape", _remedy(folder)):
        if manifest.get("key", _key(manifest)) != _key(manifest):  # older tapes have none
            raise ValueError("it was altered after it was written")
        if bytes_needed(manifest) <= 0 or not isinstance(manifest.get("recipe", {}), dict):
            raise ValueError("it has no records")
    return manifest


def _key(manifest: Mapping[str, Any]) -> str:
    """A digest of the manifest's entries at the creation of the tape."""
    made = {name: value for name, value in manifest.items() if name not in ("key", "bytes", "complete")}
    return json_digest(made)[:16]


def _remedy(folder: Path) -> str:
    return f"remove {folder}, and repeat the command to record the tape again"


def bytes_needed(form: Mapping[str, Any]) -> int:
    """Total bytes of a tape's records; `form` holds the arguments of `Tape.make`."""
    return form["epochs"] * form["samples"] * _record(form).itemsize


def _record(manifest: Mapping[str, Any]) -> np.dtype[Any]:
    """The layout of a record: little-endian float32, except for the top-K classes and the checksum."""
    k = manifest["top_k"]
    logits: list[tuple[Any, ...]] = (
        [("logits", "<f4", (manifest["classes"],))]
        if k is None
        else [("values", "<f4", (k,)), ("classes", "<i4", (k,)), ("label", "<f4"), ("rest", "<f4")]
    )
    maps = [(f"map{i}", "<f4", tuple(shape)) for i, shape in enumerate(manifest["maps"])]
    return np.dtype([*logits, *maps, ("check", "<u4")])


def recipe_of(manifest: Mapping[str, Any]) -> Recipe | None:
    """The recipe for which a tape was recorded; None if this version of lkd refuses it."""
    try:
        return Recipe.from_stored(manifest["recipe"])
    except (KeyError, TypeError, ValueError):
        return None
