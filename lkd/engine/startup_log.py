"""The first lines of a run: data, student, teacher, objective, steps."""

from lkd.data import accounted
from lkd.engine.setup import RunSetup
from lkd.engine.teacher_check import TeacherCheck
from lkd.engine.trainer import Trainer
from lkd.objectives import OBJECTIVES
from lkd.recipe import Recipe
from lkd.util.progress import log, say


def log_startup(setup: RunSetup, trainer: Trainer, check: TeacherCheck | None, shown: bool) -> None:
    """Print the first lines of a run, or write them to the log.

    Args:
        trainer: the trainer before its first step, perhaps resumed from a checkpoint.
        check: the teacher's accuracy; None without a teacher.
        shown: print to the terminal instead of the log.
    """
    for line in _lines(setup, trainer, check):
        if shown:
            say(line)
        else:
            log.info(line)


def _lines(setup: RunSetup, trainer: Trainer, check: TeacherCheck | None) -> list[str]:
    recipe, weights = setup.recipe, list(trainer.task.student.parameters())
    count = sum(each.numel() for each in weights)
    trained = sum(each.numel() for each in weights if each.requires_grad)
    share = "all trained" if trained == count else f"{trained / 1e6:.2f} M of them trained"
    resumed = f", resumed after step {trainer.steps_done}" if trainer.steps_done else ""
    lines = [accounted(setup.data), f"student {setup.student_name}: {count / 1e6:.2f} M parameters, {share}"]
    if check:
        lines.append(f"teacher {check.name}: top-1 {check.top1:.1f} % on {len(check.labels)} validation images")
    lines.append(f"objective {describe_objective(recipe)}")
    steps = f"{recipe.epochs} epochs of {setup.stream.steps} steps{resumed}"
    return [*lines, f"run {recipe.run_id}: {len(setup.stream.split):,} training images, {steps}"]


def describe_objective(recipe: Recipe) -> str:
    """A recipe's objective with all its parameters, including defaults.

    Example:
        >>> from lkd import Recipe
        >>> from lkd.engine.startup_log import describe_objective
        >>> describe_objective(Recipe(data="digits", student="mini_vit", teacher="mini_slak", objective="kd"))
        'kd: temperature 1, alpha 0.1'
    """
    parameters = {**OBJECTIVES[recipe.objective].defaults(), **recipe.objective_args}
    parameters = {name: value for name, value in parameters.items() if value != ()}
    values = (f"{value:g}" if isinstance(value, float) else str(value) for value in parameters.values())
    pairs = ", ".join(map(" ".join, zip(parameters, values, strict=True)))
    return f"{recipe.objective}: {pairs}" if pairs else recipe.objective
