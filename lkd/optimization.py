"""Checks of the optimizer and learning rate schedule of a recipe: names and arguments of timm."""

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from timm.optim import get_optimizer_info, list_optimizers
from timm.scheduler import create_scheduler_v2

from lkd.util.checks import check_number, check_whole, unknown

if TYPE_CHECKING:
    from lkd.recipe import Recipe

SCHEDULES: Mapping[str, tuple[str, ...]] = {
    "cosine": ("min_lr", "k_decay"),
    "tanh": ("min_lr",),
    "step": ("decay_epochs", "decay_rate"),
    "constant": (),
    "multistep": ("decay_milestones", "decay_rate"),
    "poly": ("min_lr", "decay_rate", "k_decay"),
    "wsd": ("min_lr", "decay_epochs", "decay_fn"),
    "rsqrt": ("min_lr", "decay_epochs", "decay_fn", "stable_timescale"),
}
"""timm's schedules by name, with the arguments of `create_scheduler_v2` that each uses in addition to `_OF_ALL`."""

NOISE = ("noise", "noise_pct", "noise_std", "noise_seed")
_OF_ALL = ("warmup_lr", *NOISE)
"""Arguments that every schedule uses."""

_CYCLES = ("cycle_mul", "cycle_decay", "cycle_limit")
_DECAYS = ("linear", "1-sqrt", "cosine", "power", "exp")
_DEFAULTS = {name: each.default for name, each in inspect.signature(create_scheduler_v2).parameters.items()}

_GROUPS = ("layer_decay_no_opt_scale", "fallback_list", "param_group_fn")
LAYER_ARGUMENTS = ("layer_decay", "layer_decay_min_scale")
"""Arguments of `create_optimizer_v2` for learning rates that decrease from the head to the stem."""
_OF_EVERY_OPTIMIZER = (*LAYER_ARGUMENTS, "filter_bias_and_bn", "fallback_no_weight_decay")


# Optimizers ---------------------------------------------------------------------------------------------------------


def check_optimizer(name: str, arguments: Mapping[str, Any]) -> None:
    """Refuse an unsupported optimizer, and arguments without effect.

    Args:
        name: timm's name of the optimizer.
        arguments: its arguments, without learning rate and weight decay.

    Raises:
        KeyError: an unknown name; the message has the nearest known one.
        ValueError: Lookahead; an optimizer that needs second derivatives; an argument that the optimizer does not take,
            that timm silently drops, or that is a recipe field.

    Example:
        >>> from lkd.optimization import check_optimizer
        >>> check_optimizer("sgd", {"momentum": 0.8})
    """
    names = [str(known) for known in list_optimizers()]
    inner = str(name).removeprefix("lookahead_")
    if inner != name and inner in names:
        raise ValueError(f"optimizer is {name!r}, but Lookahead is not supported: give {inner!r}")
    if name not in names:
        raise KeyError(unknown("optimizer", name, names))
    if get_optimizer_info(name).second_order:
        raise ValueError(f"optimizer {name!r} needs second derivatives, which training does not compute: use another")
    for argument in arguments:
        if reason := _refused(name, argument):
            raise ValueError(f"optimizer {name!r} cannot be made with {dict(arguments)}: {reason}")
    _check_betas(name, arguments.get("betas"))
    _check_layer_decay(arguments)


def _refused(optimizer: str, argument: str) -> str | None:
    """The reason to refuse an argument of an optimizer, or None."""
    if argument in ("lr", "weight_decay"):
        return f"set the recipe's {argument} instead of optimizer_args {argument!r}"
    if argument in _GROUPS:
        return f"{argument!r} groups parameters by their names, which is not supported: leave it out"
    accepted = _optimizer_arguments(optimizer)
    if accepted is None or argument in accepted:
        return None
    return unknown("argument", argument, accepted)


def _optimizer_arguments(optimizer: str) -> list[str] | None:
    """The arguments of an optimizer; None if timm imports its package only when it creates the optimizer."""
    cls = get_optimizer_info(optimizer).opt_class
    if isinstance(cls, str):
        return None
    specific = inspect.signature(cls).parameters.keys() - {"params", "lr", "weight_decay"}
    return [*specific, *_OF_EVERY_OPTIMIZER]


def _check_betas(optimizer: str, betas: Any) -> None:
    count = get_optimizer_info(optimizer).num_betas
    if betas is not None and (not isinstance(betas, Sequence) or isinstance(betas, str) or len(betas) != count):
        raise ValueError(f"optimizer_args betas of {optimizer!r} must be a list of {count} numbers, got {betas!r}")


def _check_layer_decay(arguments: Mapping[str, Any]) -> None:
    for name in LAYER_ARGUMENTS:
        if name in arguments:
            check_number(f"optimizer_args {name}", arguments[name], 0, 1)
    if arguments.get("layer_decay") == 0:
        raise ValueError("optimizer_args layer_decay must be above 0, got 0: 0.75 is usual for fine-tuning")
    if arguments.get("layer_decay_min_scale") == 1:
        raise ValueError("optimizer_args layer_decay_min_scale must be below 1, got 1: all layers get the full rate")
    if "layer_decay_min_scale" in arguments and "layer_decay" not in arguments:
        raise ValueError("optimizer_args layer_decay_min_scale has no effect without layer_decay: leave it out")


# Schedules ----------------------------------------------------------------------------------------------------------


def check_schedule(recipe: "Recipe") -> None:
    """Refuse an unknown schedule, arguments without effect, and invalid values.

    Args:
        recipe: only its `schedule`, `schedule_args`, `lr`, `warmup` and `epochs` are read.

    Raises:
        KeyError: an unknown schedule; the message has the nearest known one.
        TypeError: an unknown argument, or a value of another type.
        ValueError: an argument without effect, or a value out of range.

    Example:
        >>> from lkd import Recipe
        >>> from lkd.optimization import check_schedule
        >>> check_schedule(Recipe(data="digits", student="mini_vit", schedule="poly", schedule_args={"decay_rate": 1}))
    """
    if recipe.schedule not in list(SCHEDULES):
        raise KeyError(unknown("schedule", recipe.schedule, SCHEDULES))
    known = {*_OF_ALL, *_CYCLES}.union(*SCHEDULES.values())
    for name, value in recipe.schedule_args.items():
        if name not in known:
            raise TypeError(unknown("argument of a schedule", name, known))
        if _as_tuple(value) != _DEFAULTS[name]:
            _check_used(recipe, name)
        if value is not None or _DEFAULTS[name] is not None:
            _check_schedule_value(recipe, name, value)
    if recipe.schedule == "rsqrt" and not recipe.warmup and recipe.schedule_args.get("stable_timescale") is None:
        raise ValueError("schedule 'rsqrt' needs warmup above 0, got 0: set it, or schedule_args stable_timescale")


def times_were_steps(recipe: "Recipe") -> bool:
    """Whether a schedule has a time that earlier versions of lkd counted in steps, with other results.

    Args:
        recipe: only its `schedule` and `schedule_args` are read.

    Example:
        >>> from lkd import Recipe
        >>> from lkd.optimization import times_were_steps
        >>> times_were_steps(Recipe(data="digits", student="mini_vit", schedule="step"))
        True
    """
    arguments = recipe.schedule_args
    if recipe.schedule == "step":
        return (arguments.get("decay_epochs") or 0) < 1
    if recipe.schedule == "multistep":
        return "decay_milestones" not in arguments
    return recipe.schedule == "rsqrt" and arguments.get("stable_timescale") is not None


def _check_used(recipe: "Recipe", name: str) -> None:
    """Refuse an argument without effect on a recipe's schedule."""
    if name in _CYCLES:
        raise ValueError(
            f"schedule_args has {name!r}: a run is one cycle of its schedule, {recipe.epochs} epochs; leave it out"
        )
    if name not in (uses := (*SCHEDULES[recipe.schedule], *_OF_ALL)):
        raise ValueError(
            f"schedule_args has {name!r}, which schedule {recipe.schedule!r} does not use: leave it out (it uses "
            f"{', '.join(uses)})"
        )
    if name == "warmup_lr" and not recipe.warmup:
        raise ValueError("schedule_args has 'warmup_lr', but warmup is 0: leave it out, or set warmup")
    if name in NOISE and recipe.schedule_args.get("noise") is None:
        raise ValueError(f"schedule_args has {name!r} without 'noise': leave it out, or give 'noise' too")


def _check_schedule_value(recipe: "Recipe", name: str, value: Any) -> None:
    label = f"schedule_args {name}"
    if name in ("min_lr", "warmup_lr"):
        check_number(label, value, 0)
        if value > recipe.lr:
            raise ValueError(f"{label} must be at most lr {recipe.lr:g}, got {value:g}")
    elif name == "decay_milestones":
        _check_ascending(label, value)
    elif name == "noise":
        _check_noise(label, value)
    elif name == "decay_fn":
        if value not in _DECAYS:
            raise KeyError(unknown(label, value, _DECAYS))
    elif name == "noise_seed":
        check_whole(label, value, 0)
    else:
        share = name == "noise_pct" or (name == "decay_rate" and recipe.schedule != "poly")
        check_number(label, value, 0, 1 if share else float("inf"), above=True)


def _check_ascending(label: str, value: Any) -> None:
    """Refuse anything but a strictly ascending list of positive numbers."""
    if not isinstance(value, list) or not value:
        raise TypeError(f"{label} must be a list of numbers, got {value!r}")
    for each in value:
        check_number(label, each, 0, above=True)
    if value != sorted(set(value)):
        raise ValueError(f"{label} must be in ascending order, got {value!r}")


def _check_noise(label: str, value: Any) -> None:
    """Check the start of the noise, or its start and end, as shares of the schedule."""
    shares = value if isinstance(value, list) else [value]
    if len(shares) not in (1, 2) or shares != sorted(shares):
        raise ValueError(f"{label} must be a share of the schedule, or two in ascending order, got {value!r}")
    for share in shares:
        check_number(label, share, 0, 1)


def _as_tuple(value: Any) -> Any:
    """A list as a tuple, as in timm's defaults."""
    return tuple(value) if isinstance(value, list) else value
