"""A trial step on copies of the networks, before a teacher is trained or processes are started."""

from dataclasses import replace

from lkd.engine.accelerators import fork_accelerator_state, make_accelerator
from lkd.engine.options import Options
from lkd.engine.setup import RunSetup
from lkd.engine.trainer import Trainer, ddp_arguments, explain_failures
from lkd.util.torch_defaults import fork_random_state, torch_defaults


@torch_defaults()
@fork_accelerator_state()
def trial_step(setup: RunSetup, processes: int = 1, options: Options | None = None) -> None:
    """Run one training step on one process's share of a batch, and discard the result.

    A teacher that is not trained yet has its initial weights. Nothing is compiled.

    Args:
        processes: number of processes that will share a batch.

    Raises:
        ValueError: the step fails; names the number of images and the cause.
        FloatingPointError: the loss is not finite.
    """
    recipe = setup.recipe
    plain = replace(options or Options(), compile_student=False, compile_teacher=False, trackers=())
    share = setup.stream.batch(0, 0, processes=processes)
    with fork_random_state(), explain_failures(setup, len(share.images)):
        accelerator = make_accelerator(recipe.precision, kwargs_handlers=[ddp_arguments(setup)])
        teacher = setup.untrained_teacher()
        if teacher:
            teacher.model.to(accelerator.device)
        trainer = Trainer(setup, teacher, accelerator, plain)
        trainer.network.train()
        trainer.take_step(share)
        trainer.loss_check.flush()
