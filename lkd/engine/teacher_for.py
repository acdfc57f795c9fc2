"""A teacher's outputs along a stream: from a tape that is there or is to be made, or else from the teacher itself."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from lkd.engine.accelerators import agreed, exclusive, processes
from lkd.engine.setup import RunSetup
from lkd.engine.tape import Tape, TapedTeacher, bytes_needed
from lkd.engine.teacher import FrozenTeacher, Teacher, TopKTeacher, weights_hash
from lkd.recipe import Recipe
from lkd.runs.store import Store


def teacher_for(
    setup: RunSetup, teacher: FrozenTeacher | None, store: Store, write: bool, accelerator: Accelerator
) -> Teacher | None:
    """The source of a teacher's outputs: a tape that is there, or made if `write`; else the teacher itself."""
    if teacher is None:
        return None
    recipe = setup.recipe
    teacher.model.to(accelerator.device)
    if agreed(write or _tape_path(content(setup, teacher), recipe.teacher_top_k, store).is_dir()):
        return TapedTeacher(make_tape(setup, teacher, store), teacher)
    return teacher if recipe.teacher_top_k is None else TopKTeacher(teacher, recipe.teacher_top_k)


def make_tape(setup: RunSetup, teacher: FrozenTeacher, store: Store) -> Tape:
    """The tape of a recipe's teacher along its stream, made if it was not there.

    Raises:
        FileNotFoundError, OSError, ValueError: a tape that is damaged, or whose manifest lists other content; names it
            and the remedy.
    """
    about = content(setup, teacher)
    path = _tape_path(about, setup.recipe.teacher_top_k, store)
    with exclusive(store, path.name):
        if processes().is_main_process and not path.is_dir():
            Tape.make(path, **_form(setup), about={**about, "recipe": setup.recipe.to_dict()})
    processes().wait_for_everyone()
    tape = Tape(path)
    tape.check_content({**about, **_form(setup)})
    return tape


def content(setup: RunSetup, teacher: FrozenTeacher) -> dict[str, Any]:
    """Everything that decides the outputs on a tape: weights and network of the teacher, its input, and the stream."""
    recipe = setup.recipe
    given = recipe.teacher
    return {
        "teacher": weights_hash(teacher.model),
        "network": given.run_id if isinstance(given, Recipe) else given,
        "code": recipe.own_code.get("teacher"),
        "scale": teacher.scale.flatten().tolist(),
        "shift": teacher.shift.flatten().tolist(),
        "stages": teacher.stages,
        "precision": recipe.precision,
        "stream": recipe.stream_id,
        "images": setup.fingerprint,
    }


def tape_bytes(setup: RunSetup, store: Store) -> int:
    """How much disk a recipe's tape will take; 0 where there is one along its stream already, or no teacher."""
    recipe = setup.recipe
    if recipe.teacher is None or any((store.folder / "tapes").glob(f"*-{recipe.stream_id}-*")):
        return 0
    return bytes_needed(_form(setup))


def _form(setup: RunSetup) -> dict[str, Any]:
    """How many records a recipe's tape has, and what is in one."""
    recipe, outputs = setup.recipe, setup.teacher_outputs
    return {
        "epochs": recipe.epochs,
        "samples": setup.stream.steps * recipe.batch_size,
        "classes": len(setup.data.classes),
        "top_k": recipe.teacher_top_k,
        "maps": tuple(tuple(each.shape[1:]) for each in outputs.maps) if outputs else (),
    }


def _tape_path(about: Mapping[str, Any], top_k: int | None, store: Store) -> Path:
    digest = hashlib.sha256(json.dumps({**about, "top_k": top_k}, sort_keys=True).encode()).hexdigest()[:16]
    return store.folder / "tapes" / f"{about['teacher']}-{about['stream']}-{digest}"
