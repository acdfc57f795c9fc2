"""Objectives of one's own: classes, instances and functions beside the names in `OBJECTIVES`."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from torch import Tensor

from lkd.objectives.base import Objective, Outputs
from lkd.objectives.by_name import OBJECTIVES
from lkd.util.checks import unknown
from lkd.util.identity import NoStableContentError, digest
from lkd.util.installed import package

Loss = Callable[..., Tensor | Mapping[str, Tensor]]
"""A function of student logits, teacher logits and target, which returns the loss or its terms by name."""

Given = str | Objective | type[Objective] | Loss
"""An objective by name, as an instance or class, or as a function."""

_TENSORS = ("student_logits", "teacher_logits", "target")


class FunctionObjective(Objective):
    """An objective from a function of student logits, teacher logits and target.

    Args:
        function: returns the loss as a scalar, or its terms by name. No gradient flows into the teacher's logits.
        parameters: further keyword arguments of the function.

    Raises:
        TypeError: arguments that the function does not take.

    Example:
        >>> import torch
        >>> from lkd.objectives import Outputs, kd_loss
        >>> from lkd.objectives.own import FunctionObjective
        >>> logits, label = torch.zeros(1, 4), torch.tensor([2])
        >>> sorted(FunctionObjective(kd_loss, alpha=0.5)(Outputs(logits), Outputs(logits), label))
        ['kd_loss', 'total']
    """

    def __init__(self, function: Loss, **parameters: Any):
        super().__init__()
        self.function, self.given = function, parameters
        self.term = getattr(function, "__name__", type(function).__name__).strip("<>")
        _check_call(function, self.term, parameters)

    def terms(self, student: Outputs, teacher: Outputs, target: Tensor) -> dict[str, Tensor]:
        """The terms that the function returns; a single loss has the name of the function.

        Raises:
            TypeError, ValueError: terms that are not scalar tensors, or a term `total`.
        """
        result = self.function(student.logits, teacher.logits.detach(), target, **self.given)
        terms = dict(result) if isinstance(result, Mapping) else {self.term: result}
        if "total" in terms or not terms:
            raise ValueError(f"objective {self.term!r} must return its terms without their sum, got {sorted(terms)}")
        for name, term in terms.items():
            if not isinstance(term, Tensor) or term.ndim:
                got = f"shape {tuple(term.shape)}" if isinstance(term, Tensor) else f"a {type(term).__name__}"
                raise TypeError(f"objective {self.term!r} must return scalar tensors, got {got} for term {name!r}")
        return terms


class _OfOneFunction(FunctionObjective):
    """Base of the classes that stand for a function in `OBJECTIVES`."""

    loss: ClassVar[Loss]

    def __init__(self, **parameters: Any):
        super().__init__(type(self).loss, **parameters)

    @classmethod
    def hyperparameters(cls) -> list[str]:
        """Names of the function's parameters after the three tensors."""
        return list(_own_parameters(cls.loss))

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """Default values of these parameters."""
        values = {name: parameter.default for name, parameter in _own_parameters(cls.loss).items()}
        return {name: value for name, value in values.items() if value is not inspect.Parameter.empty}


def _check_call(function: Loss, name: str, parameters: Mapping[str, Any]) -> None:
    """Refuse a function that does not take three tensors and these parameters."""
    try:
        inspect.signature(function).bind(*_TENSORS, **parameters)
    except (TypeError, ValueError) as error:  # ValueError: a function of C has no signature
        raise TypeError(
            f"objective {name!r} must be a function of ({', '.join(_TENSORS)}) and its parameters: {error}"
        ) from error


def _own_parameters(function: Loss) -> dict[str, inspect.Parameter]:
    parameters = list(inspect.signature(function).parameters.values())[len(_TENSORS) :]
    return {each.name: each for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)}


def make_objective(objective: Given, parameters: Mapping[str, Any]) -> Objective:
    """An objective from a name, class, instance or function.

    Args:
        objective: a name in `OBJECTIVES`; a class, or an instance, which has its parameters already; or a function of
            student logits, teacher logits and target, which returns the loss or its terms by name.
        parameters: parameters of the objective.

    Raises:
        KeyError: an unknown name, with the nearest known one.
        TypeError: something else, or an unknown parameter.

    Example:
        >>> from lkd.objectives.own import make_objective
        >>> make_objective("kd", {"alpha": 0.5}).alpha
        0.5
    """
    if isinstance(objective, Objective):
        if parameters:
            raise TypeError(f"objective has its parameters already, got {', '.join(parameters)} as well: leave it out")
        return objective
    if isinstance(objective, str):
        return _instance(OBJECTIVES[objective], f"objective {objective!r}", parameters)
    if isinstance(objective, type) and issubclass(objective, Objective):
        return _instance(objective, objective.__name__, parameters)
    if not callable(objective) or isinstance(objective, type):
        raise TypeError(_refusal(objective))
    return FunctionObjective(objective, **parameters)


def _instance(kind: type[Objective], name: str, parameters: Mapping[str, Any]) -> Objective:
    known = kind.hyperparameters()
    for parameter in parameters:
        if parameter not in known:
            raise TypeError(unknown(f"parameter of {name}", parameter, known))
    return kind(**parameters)


def _refusal(objective: object) -> str:
    return (
        f"objective must be a name, one of {', '.join(OBJECTIVES)}, an Objective, or a function of "
        f"({', '.join(_TENSORS)}), got {objective!r}"
    )


# For recipes --------------------------------------------------------------------------------------------------------


def registered(objective: Given) -> tuple[str, dict[str, Any]]:
    """An objective's name in `OBJECTIVES` and its parameters; a class or function is added under its own name.

    Args:
        objective: as for `make_objective`. Of an instance, the parameters are those that differ from the defaults.

    Raises:
        TypeError: an objective without a name or without content to compare; an instance that its class and parameters
            do not make again.
        ValueError: the name of one of lkd's own objectives.

    Example:
        >>> from lkd.objectives import FD
        >>> from lkd.objectives.own import registered
        >>> registered(FD(stages=2))
        ('fd', {'stages': 2})
    """
    if isinstance(objective, str):
        return objective, {}
    if isinstance(objective, FunctionObjective) and not isinstance(objective, _OfOneFunction):
        return _register(objective.function), dict(objective.given)
    if isinstance(objective, Objective):
        return _register(type(objective)), _parameters(objective)
    return _register(objective), {}


def _register(objective: type[Objective] | Loss) -> str:
    if isinstance(objective, type) and issubclass(objective, Objective):
        kind = objective
    elif callable(objective) and not isinstance(objective, type):
        kind = _class_of(objective)
    else:
        raise TypeError(_refusal(objective))
    if name := next((name for name, known in OBJECTIVES.items() if known is kind), None):
        return name
    name = kind.__name__
    if (known := OBJECTIVES.get(name)) and package(known) == "lkd":
        raise ValueError(f"objective {name!r} has the name of one of lkd's own: give the class or function another")
    try:
        digest(kind, f"objective {name!r}")
    except NoStableContentError as error:
        raise TypeError(
            f"{error}: the identity of its runs would change each time. Create it inside the function, or pass plain "
            "values as parameters"
        ) from error
    OBJECTIVES[name] = kind
    return name


def _class_of(function: Loss) -> type[Objective]:
    """The class that stands for a function in `OBJECTIVES`."""
    name = getattr(function, "__name__", "")
    if not inspect.isroutine(function) or inspect.ismethod(function) or not name.isidentifier():
        kind = "a lambda" if name == "<lambda>" else f"a {type(function).__name__}"
        partly = ", and pass its parameters to lkd.distill" if isinstance(function, functools.partial) else ""
        raise TypeError(
            f"objective is {kind}, which has no name for the identity of its runs: define a function with def{partly}"
        )
    if inspect.isbuiltin(function):
        raise TypeError(f"objective {name!r} is a function of C: call it in a function of ({', '.join(_TENSORS)})")
    _check_call(function, name, dict.fromkeys(_own_parameters(function)))
    members = {"loss": staticmethod(function), "__module__": function.__module__, "__doc__": function.__doc__}
    return type(name, (_OfOneFunction,), members)


def _parameters(objective: Objective) -> dict[str, Any]:
    """The parameters of an instance that differ from the defaults."""
    kind, name = type(objective), type(objective).__name__
    remedy = f"pass the class and its parameters, objective={name}, weight=2.0 for example"
    if isinstance(objective, _OfOneFunction):
        return dict(objective.given)
    try:
        values = objective.values()
    except AttributeError as error:
        raise TypeError(f"objective does not keep its parameters as attributes ({error}): {remedy}") from error
    defaults = kind.defaults()
    given = {key: value for key, value in values.items() if key not in defaults or value != defaults[key]}
    try:
        same = digest(kind(**given), name) == digest(objective, name)
    except NoStableContentError as error:
        raise TypeError(f"{error}: the identity of its runs would change each time: {remedy}") from error
    if not same:
        raise TypeError(f"objective was changed after its creation, so that {name} cannot make it again: {remedy}")
    return {key: list(value) if isinstance(value, tuple) else value for key, value in given.items()}


# For other processes ------------------------------------------------------------------------------------------------


def importable(name: str) -> type[Objective] | Loss:
    """The class or function behind a name in `OBJECTIVES`, which other processes can import.

    Raises:
        ValueError: it is defined in a notebook or script.

    Example:
        >>> from lkd.objectives.own import importable
        >>> importable("kd").__name__
        'KD'
    """
    kind = OBJECTIVES[name]
    given = kind.loss if issubclass(kind, _OfOneFunction) else kind
    if given.__module__ == "__main__" or "<locals>" in given.__qualname__:
        raise ValueError(
            f"objective {name!r} cannot be sent to other processes: it is defined in a notebook, script or function; "
            "define it at the top of an importable file, or use num_processes=1"
        )
    return given


def add(name: str, given: type[Objective] | Loss) -> None:
    """Add a class or function of `importable` to `OBJECTIVES` under a name.

    Example:
        >>> from lkd.objectives import KD
        >>> from lkd.objectives.own import add
        >>> add("kd", KD)
    """
    OBJECTIVES[name] = given if isinstance(given, type) else _class_of(given)
