"""The first lines of a run: its data, student and teacher, as they were counted and checked."""

from lkd.data import accounted
from lkd.engine.setup import RunSetup
from lkd.engine.teacher_check import TeacherCheck
from lkd.engine.trainer import Trainer
from lkd.util.progress import log, say


def announce(setting: RunSetup, training: Trainer, check: TeacherCheck | None, shown: bool) -> None:
    """Write the first lines of a run, at most four.

    Args:
        setting: the recipe, with its data.
        training: before its first step, or its first one after a checkpoint.
        check: of the teacher; None without one.
        shown: on the terminal; else in the log.
    """
    for line in _lines(setting, training, check):
        if shown:
            say(line)
        else:
            log.info(line)


def _lines(setting: RunSetup, training: Trainer, check: TeacherCheck | None) -> list[str]:
    recipe, weights = setting.recipe, list(training.lesson.student.parameters())
    count = sum(each.numel() for each in weights)
    trained = sum(each.numel() for each in weights if each.requires_grad)
    share = "all trained" if trained == count else f"{trained / 1e6:.2f} M of them trained"
    resumed = f", resumed after {training.steps_done}" if training.steps_done else ""
    lines = [accounted(setting.data), f"student {setting.student_name}: {count / 1e6:.2f} M parameters, {share}"]
    if check:
        lines.append(f"teacher {check.name}: right on {check.top1:.1f} % of {len(check.labels)} validation images")
    steps = f"{recipe.epochs} epochs of {setting.stream.steps} steps{resumed}"
    return [*lines, f"run {recipe.run_id}: {len(setting.stream.split):,} training images, {steps}"]
