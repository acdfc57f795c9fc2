"""Who answers for a teacher: itself, or a tape that is there or is to be made."""

import hashlib
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from lkd.engine.accelerators import agreed, alone, processes
from lkd.engine.setting import Setting
from lkd.engine.tape import Tape, TapedTeacher, bytes_needed
from lkd.engine.teacher import BriefTeacher, LiveTeacher, Teacher, weights_hash
from lkd.store import Store


def answering(
    setting: Setting, teacher: LiveTeacher | None, store: Store, write: bool, accelerator: Accelerator
) -> Teacher | None:
    """Who answers for the teacher: a tape that is there or, if `write`, is to be made; or the teacher itself."""
    if teacher is None:
        return None
    recipe = setting.recipe
    teacher.model.to(accelerator.device)
    if agreed(write or _tape_path(setting, teacher, store).is_dir()):
        return TapedTeacher(make_tape(setting, teacher, store), teacher)
    return teacher if recipe.teacher_top_k is None else BriefTeacher(teacher, recipe.teacher_top_k)


def make_tape(setting: Setting, teacher: LiveTeacher, store: Store) -> Tape:
    """The tape of a recipe's teacher along its stream, made if it was not there."""
    recipe, path = setting.recipe, _tape_path(setting, teacher, store)
    with alone(store, path.name):
        if processes().is_main_process and not path.is_dir():
            about = {"teacher": weights_hash(teacher.model), "stream": recipe.stream_id, "recipe": recipe.to_dict()}
            Tape.make(path, **_form(setting), about=about)
    processes().wait_for_everyone()
    return Tape(path)


def tape_bytes(setting: Setting, store: Store) -> int:
    """How much disk a recipe's tape will take; 0 where there is one along its stream already, or no teacher."""
    recipe = setting.recipe
    if recipe.teacher is None or any((store.folder / "tapes").glob(f"*-{recipe.stream_id}-*")):
        return 0
    return bytes_needed(_form(setting))


def _form(setting: Setting) -> dict[str, Any]:
    """How many records a recipe's tape has, and what is in one."""
    recipe = setting.recipe
    return {
        "epochs": recipe.epochs,
        "samples": setting.stream.steps * recipe.batch_size,
        "classes": len(setting.data.classes),
        "top_k": recipe.teacher_top_k,
        "maps": tuple(tuple(each.shape[1:]) for each in setting.teacher_outputs.maps) if setting.stages else (),
    }


def _tape_path(setting: Setting, teacher: LiveTeacher, store: Store) -> Path:
    """Another one for another teacher, normalisation, stream, number of images or form of the records."""
    recipe = setting.recipe
    seen = hashlib.sha256(repr((teacher.scale.tolist(), teacher.shift.tolist())).encode())
    seen.update(setting.stream.split.labels.numpy().tobytes())
    kind = f"{recipe.precision}-{recipe.teacher_top_k or 'all'}-{teacher.stages}"
    name = f"{weights_hash(teacher.model)}-{recipe.stream_id}-{seen.hexdigest()[:8]}-{kind}"
    return store.folder / "tapes" / name
