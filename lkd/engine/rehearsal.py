"""One step of training on copies, before a teacher is trained for it or processes are started."""

from dataclasses import replace

import torch

from lkd.engine.accelerators import make_accelerator, own_accelerators
from lkd.engine.options import Options
from lkd.engine.setup import RunSetup
from lkd.engine.trainer import Trainer, ddp_arguments, failures_named
from lkd.util.torch_defaults import torch_defaults


@torch_defaults()
@own_accelerators()
@torch.random.fork_rng()
def rehearse(setup: RunSetup, processes: int = 1, options: Options | None = None) -> None:
    """Make one step of training in training mode, with the share of a batch that each process gets; keep nothing.

    A teacher that is still to be trained takes part with its first weights. Nothing is compiled.

    Args:
        setup: the recipe, with its data and networks.
        processes: how many will share a batch.
        options: how training goes about it.

    Raises:
        ValueError: the step fails; says with how many images, and why.
        FloatingPointError: a loss that is not finite.
    """
    recipe = setup.recipe
    plain = replace(options or Options(), compile_student=False, compile_teacher=False, trackers=())
    share = setup.stream.batch(0, 0, processes=processes)
    with failures_named(setup, len(share.images)):
        accelerator = make_accelerator(recipe.precision, kwargs_handlers=[ddp_arguments(setup)])
        teacher = setup.untrained_teacher()
        if teacher:
            teacher.model.to(accelerator.device)
        training = Trainer(setup, teacher, accelerator, plain)
        training.network.train()
        training.take_step(share)
