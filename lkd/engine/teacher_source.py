"""Source of a teacher's outputs: an existing or new tape, or the teacher itself."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from lkd.engine.accelerators import broadcast_flag, main_process_lock, processes
from lkd.engine.setup import RunSetup
from lkd.engine.tape import Tape, TapedTeacher, bytes_needed
from lkd.engine.teacher import FrozenTeacher, Teacher, TopKTeacher, weights_hash
from lkd.objectives.outputs import compute_outputs
from lkd.recipe import Recipe
from lkd.runs.store import Store
from lkd.util.files import json_digest

TEST_OUTPUTS = "test_outputs"
"""Folder of a store with the teachers' outputs on test images, which all students of a teacher share."""


def teacher_on_stream(
    setup: RunSetup, teacher: FrozenTeacher | None, store: Store, write: bool, accelerator: Accelerator
) -> Teacher | None:
    """A teacher's outputs along the stream: an existing tape, a new one if `write`, otherwise the teacher itself."""
    if teacher is None:
        return None
    recipe = setup.recipe
    teacher.model.to(accelerator.device)
    if broadcast_flag(write or _tape_path(tape_content(setup, teacher), recipe.teacher_top_k, store).is_dir()):
        return TapedTeacher(make_tape(setup, teacher, store), teacher)
    return teacher if recipe.teacher_top_k is None else TopKTeacher(teacher, recipe.teacher_top_k)


def teacher_on_test_images(
    setup: RunSetup, teacher: FrozenTeacher | None, store: Store, accelerator: Accelerator
) -> Teacher | None:
    """A teacher's logits on the test images: a tape, which all students of this teacher share."""
    if teacher is None:
        return None
    plain = copy.copy(teacher)
    plain.forward, plain.stages = compute_outputs, 0  # uncompiled: other batch sizes would recompile it
    plain.model.to(accelerator.device)
    about = {name: value for name, value in tape_content(setup, plain).items() if name != "stream"}
    path = store.folder / TEST_OUTPUTS / f"{about['teacher']}-{json_digest(about)[:16]}"
    return TapedTeacher(_open_tape(path, setup, about, _test_form(setup), store), plain)


def make_tape(setup: RunSetup, teacher: FrozenTeacher, store: Store) -> Tape:
    """The tape of a recipe's teacher along its stream; created if it does not exist.

    Raises:
        FileNotFoundError, OSError, ValueError: a damaged tape, or a manifest with other content; names it and the
            remedy.
    """
    about = tape_content(setup, teacher)
    return _open_tape(_tape_path(about, setup.recipe.teacher_top_k, store), setup, about, _form(setup), store)


def _open_tape(path: Path, setup: RunSetup, about: Mapping[str, Any], form: Mapping[str, Any], store: Store) -> Tape:
    """The tape in a folder, checked against its content and form; created if it does not exist."""
    with main_process_lock(store, path.name):
        if processes().is_main_process and not path.is_dir():
            Tape.make(path, **form, about={**about, "recipe": setup.recipe.to_dict()})
    processes().wait_for_everyone()
    tape = Tape(path)
    tape.check_content({**about, **form})
    return tape


def tape_content(setup: RunSetup, teacher: FrozenTeacher) -> dict[str, Any]:
    """Everything that determines the outputs on a tape: the teacher's weights, network and input, and the stream."""
    recipe = setup.recipe
    given = recipe.teacher
    return {
        "teacher": weights_hash(teacher.model),
        "network": given.run_id if isinstance(given, Recipe) else given,
        "code": recipe.own_code.get("teacher"),
        "stages": teacher.stages if isinstance(teacher.stages, int) else list(teacher.stages),
        "precision": recipe.precision,
        "stream": recipe.stream_id,
        "images": setup.fingerprint,
    }


def tape_bytes(setup: RunSetup, store: Store) -> int:
    """Disk space in bytes of a recipe's new tape; 0 without a teacher, or if its stream has a tape already."""
    recipe = setup.recipe
    if recipe.teacher is None or any((store.folder / "tapes").glob(f"*-{recipe.stream_id}-*")):
        return 0
    return bytes_needed(_form(setup))


def test_tape_bytes(setup: RunSetup) -> int:
    """Disk space in bytes of the teacher's outputs on the test images; 0 without a teacher."""
    return 0 if setup.recipe.teacher is None else bytes_needed(_test_form(setup))


def _form(setup: RunSetup) -> dict[str, Any]:
    """The number and content of the records of a recipe's tape, as arguments of `Tape.make`."""
    recipe, outputs = setup.recipe, setup.teacher_outputs
    return {
        "epochs": recipe.epochs,
        "samples": setup.stream.steps * recipe.batch_size,
        "classes": len(setup.data.classes),
        "top_k": recipe.teacher_top_k,
        "maps": tuple(tuple(each.shape[1:]) for each in outputs.maps) if outputs else (),
    }


def _test_form(setup: RunSetup) -> dict[str, Any]:
    """The number and content of the records of a teacher's outputs on the test images, as arguments of `Tape.make`."""
    return {"epochs": 1, "samples": len(setup.data.test), "classes": len(setup.data.classes), "top_k": None, "maps": ()}


def _tape_path(about: Mapping[str, Any], top_k: int | None, store: Store) -> Path:
    digest = json_digest({**about, "top_k": top_k})[:16]
    return store.folder / "tapes" / f"{about['teacher']}-{about['stream']}-{digest}"
