"""Dynamic sparse training: weights are masked from the first step on, and the masks change during training.

SLaK's teachers are trained this way (Liu et al. 2022, arXiv 2207.03620; code VITA-Group/SLaK, sparse_core.py). Zeros
are stored and multiplied like other weights; `lkd.models.cost` computes a network's cost with and without them.
"""

import copy
import hashlib
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lkd.util.checks import check_number, check_whole, unknown

SCOPES: dict[str, Callable[[str, nn.Parameter], bool]] = {
    "all": lambda name, parameter: parameter.ndim in (2, 4),
    "large_kernels": lambda name, parameter: parameter.ndim == 4 and not {"LoRA1", "LoRA2"}.isdisjoint(name.split(".")),
}
"""Sparse parameters: all matrices and kernels, or the two long branches of SLaK's kernels."""

LAST_RATE = 0.005
"""Prune rate at the end of training."""

_DENSE = 0.99
"""Minimum density from which a tensor stays dense."""


class SparseTraining:
    """Masks for the weights of a network during training, and their updates.

    `start` draws a mask for every tensor in scope, with the density from `snip_densities`. After each optimizer step,
    `step` multiplies the weights by their masks. Every `update_every` steps it also updates the mask of each tensor: it
    drops the `ceil(rate * active)` active weights of smallest magnitude, then grows a new weight, initialised to 0, at
    each empty entry with probability `dropped / empty`. In step t the rate is

        rate = 0.005 + (prune_rate - 0.005) (1 + cos(pi t / steps)) / 2

    Random draws depend on (seed, step, parameter's name) only and are made on the CPU: masks are equal on all devices
    and in all processes, and global random state is neither used nor changed. The optimizer's state is not reset, so a
    new weight starts with the moments accumulated at its entry.

    The authors' code differs in two points: a weight that is dropped and grown in the same update keeps its value, and
    no mask is applied under mixed precision.

    Args:
        model: the trained model with float32 parameters, not a wrapper such as `DistributedDataParallel`.
        steps: optimizer steps of the whole training; later steps use the final rate.
        sparsity: share of zeros among all weights in scope, at least 0 and below 1.
        prune_rate: initial rate, 0.005 to 1.
        update_every: steps between updates of the masks.
        scope: a name in `SCOPES`: "all" (parameters with 2 or 4 dimensions) or "large_kernels".
        seed: seed of all random draws.

    Raises:
        TypeError, ValueError: an invalid value; a model without a parameter in scope.

    Example:
        >>> import torch
        >>> from timm.utils import ModelEmaV3
        >>> from lkd.sparse import SparseTraining
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
        >>> images, labels = torch.randn(32, 1, 8, 8), torch.arange(32) % 10
        >>> optimizer = torch.optim.AdamW(model.parameters())
        >>> sparse = SparseTraining(model, steps=20, sparsity=0.4, update_every=5)
        >>> sparse.start(images, labels)
        >>> average = ModelEmaV3(model, decay=0.9)
        >>> for _ in range(20):
        ...     torch.nn.functional.cross_entropy(model(images), labels).backward()
        ...     optimizer.step()
        ...     sparse.step()
        ...     sparse.update_average(average)
        >>> bool(model[1].weight[~sparse.masks["1.weight"]].any())
        False
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        steps: int,
        sparsity: float = 0.4,
        prune_rate: float = 0.5,
        update_every: int = 2000,
        scope: str = "all",
        seed: int = 0,
    ):
        check_whole("steps", steps, 1)
        check_number("sparsity", sparsity, 0, 1, below=True)
        check_number("prune_rate", prune_rate, LAST_RATE, 1)
        check_whole("update_every", update_every, 1)
        check_whole("seed", seed, 0)
        self.model, self.parameters = model, sparse_parameters(model, scope)
        self.steps, self.sparsity, self.prune_rate = steps, float(sparsity), float(prune_rate)
        self.update_every, self.scope, self.seed = update_every, scope, seed
        self.steps_done = 0
        self._masks: dict[str, Tensor] | None = None

    @property
    def masks(self) -> dict[str, Tensor]:
        """Masks by parameter's name, bool tensors of its shape on its device; dense tensors have none.

        Raises:
            ValueError: training has not started.
        """
        if self._masks is None:
            raise ValueError("sparse training has not started: call start(images, labels), or load_state_dict(state)")
        return self._masks

    @property
    def rate(self) -> float:
        """Share of the active weights that a mask update drops at the current step."""
        done = min(self.steps_done / self.steps, 1)
        return LAST_RATE + (self.prune_rate - LAST_RATE) * (1 + math.cos(math.pi * done)) / 2

    @torch.no_grad()
    def start(self, images: Tensor, labels: Tensor) -> None:
        """Draw the initial masks and apply them; a tensor stays dense if its mask keeps 99 % or more.

        With an initialised `torch.distributed`, call this in all processes; they use the densities of the first.

        Args:
            images, labels: one batch, as for `snip_densities`.

        Raises:
            ValueError: training has already started, or see `snip_densities`.
        """
        if self._masks is not None:
            raise ValueError("sparse training has already started: create a new SparseTraining to restart")
        densities = snip_densities(self.model, images, labels, sparsity=self.sparsity, scope=self.scope)
        drawn = {name: self._draw(name, density) for name, density in self._of_first_process(densities).items()}
        self._masks = {name: mask for name, mask in drawn.items() if int(mask.sum()) < _DENSE * mask.numel()}
        self._apply()

    @torch.no_grad()
    def step(self) -> None:
        """Apply the masks, and update them when due; call it after every optimizer step.

        A step that a gradient scaler skips counts too, as in a learning-rate schedule.

        Raises:
            ValueError: training has not started.
        """
        self._apply()
        self.steps_done += 1
        if self.steps_done % self.update_every == 0:
            for name, mask in self.masks.items():
                self._update(name, mask)

    @torch.no_grad()
    def update_average(self, average: ModelEmaV3, step: int | None = None) -> None:
        """Update the moving average of the weights; call it after `step`, instead of `average.update(model)`.

        Entries outside the mask become 0; active entries with an average of 0 become the weight. All others, and dense
        parameters, follow `decay * average + (1 - decay) * weight`.

        Args:
            average: timm's average of `model`, on any device.
            step: as for `average.update`.

        Raises:
            ValueError: training has not started, or the average is of another model.
        """
        masks, averaged = self.masks, dict(average.module.named_parameters())
        if missing := sorted(masks.keys() - averaged.keys()):
            raise ValueError(f"average is of another model without {missing[0]}: create it from the trained model")
        for name, mask in masks.items():
            value = averaged[name]
            filled = torch.where(value == 0, self.parameters[name].to(value), value)
            value.copy_(filled.masked_fill_(~mask.to(value.device), 0))
        average.update(self.model, step)

    def state_dict(self) -> dict[str, Any]:
        """Settings, finished steps, masks, and names of the dense tensors, as tensors and plain values.

        Raises:
            ValueError: training has not started.

        Example:
            >>> import torch
            >>> from lkd.sparse import SparseTraining
            >>> sparse = SparseTraining(torch.nn.Linear(64, 10), steps=20)
            >>> sparse.start(torch.randn(32, 64), torch.arange(32) % 10)
            >>> SparseTraining(torch.nn.Linear(64, 10), steps=20).load_state_dict(sparse.state_dict())
        """
        dense = [name for name in self.parameters if name not in self.masks]
        return {"settings": self._settings(), "steps_done": self.steps_done, "masks": dict(self.masks), "dense": dense}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state; load the model's weights separately, before or after.

        Raises:
            TypeError: a mask that is not a bool tensor.
            ValueError: a state with other settings, parameters or shapes.
        """
        _check_state(state, self._settings(), self.parameters)
        self.steps_done = state["steps_done"]
        self._masks = {name: mask.to(self.parameters[name].device, copy=True) for name, mask in state["masks"].items()}

    def _settings(self) -> dict[str, Any]:
        names = ("steps", "sparsity", "prune_rate", "update_every", "scope", "seed")
        return {name: getattr(self, name) for name in names}

    def _apply(self) -> None:
        for name, mask in self.masks.items():
            self.parameters[name].masked_fill_(~mask, 0)

    def _update(self, name: str, mask: Tensor) -> None:
        weight = self.parameters[name]
        pruned = _pruned(weight, mask, self.rate)
        weight.masked_fill_(~pruned, 0)
        active = int(pruned.sum())
        dropped, empty = int(mask.sum()) - active, mask.numel() - active
        self.masks[name] = pruned | self._draw(name, dropped / max(empty, 1))

    def _draw(self, name: str, probability: float) -> Tensor:
        """A random mask for a parameter; each entry is True with the given probability."""
        digest = hashlib.sha256(f"{self.seed} {self.steps_done} {name}".encode()).digest()
        generator = torch.Generator("cpu").manual_seed(int.from_bytes(digest[:8], "big"))
        parameter = self.parameters[name]
        return (torch.rand(parameter.shape, generator=generator, device="cpu") < probability).to(parameter.device)

    def _of_first_process(self, densities: dict[str, float]) -> dict[str, float]:
        if not (dist.is_available() and dist.is_initialized()):
            return densities
        device = next(self.model.parameters()).device
        values = torch.tensor(list(densities.values()), dtype=torch.float64, device=device)
        dist.broadcast(values, src=0)
        return dict(zip(densities, values.tolist(), strict=True))


def snip_densities(
    model: nn.Module, images: Tensor, labels: Tensor, *, sparsity: float = 0.4, scope: str = "all"
) -> dict[str, float]:
    """Density of each tensor under SNIP, which keeps the `1 - sparsity` of all weights with highest `|w dL/dw|`.

    `L` is the mean cross-entropy of one batch. Batch norm uses the batch's statistics; dropout and drop path are off.
    Ties at the threshold count fractionally, so the densities keep exactly the requested share of all weights.

    Args:
        model: maps images to logits `(B, classes)`; it is not changed, including running statistics and gradients.
        images: input of the model, `(B, ...)`.
        labels: `(B,)` int64, class indices of an unmixed batch.
        sparsity: share of all weights in scope to remove, at least 0 and below 1.
        scope: a name in `SCOPES`.

    Returns:
        Density by parameter's name, 0 to 1.

    Raises:
        TypeError, ValueError: an invalid argument; no parameter in scope; a loss that is not finite.

    Source: Lee et al. 2019, arXiv 1810.02340; as in VITA-Group/SLaK, sparse_core.py.

    Example:
        >>> import torch
        >>> from lkd.sparse import snip_densities
        >>> model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2))
        >>> densities = snip_densities(model, torch.randn(6, 8), torch.arange(6) % 2, sparsity=0.5)
        >>> round(128 * densities["0.weight"] + 32 * densities["2.weight"])
        80
    """
    check_number("sparsity", sparsity, 0, 1, below=True)
    sparse_parameters(model, scope)
    if not isinstance(images, Tensor) or not isinstance(labels, Tensor):
        raise TypeError(f"images and labels must be tensors, got {type(images).__name__} and {type(labels).__name__}")
    if labels.dtype != torch.int64:
        raise TypeError(f"labels are {labels.dtype}: give class indices (torch.int64) of an unmixed batch")
    if labels.shape != images.shape[:1]:
        raise ValueError(f"labels must have shape ({len(images)},), one per image, got {tuple(labels.shape)}")
    scores = _scores(model, images, labels, scope)
    all_scores = torch.cat([score.flatten() for score in scores.values()])
    if not all_scores.isfinite().all():
        raise ValueError("the gradient of this batch is not finite: check the images, or lower the initial weights")
    kept = max(1, round((1 - sparsity) * len(all_scores)))
    threshold = all_scores.kthvalue(len(all_scores) - kept + 1).values
    tied = (kept - int((all_scores > threshold).sum())) / int((all_scores == threshold).sum())
    return {
        name: (int((score > threshold).sum()) + tied * int((score == threshold).sum())) / score.numel()
        for name, score in scores.items()
    }


def sparse_parameters(model: nn.Module, scope: str) -> dict[str, nn.Parameter]:
    """The parameters in a scope, by name.

    Raises:
        TypeError: a model that is not a module.
        ValueError: an unknown scope, or no parameter in it.

    Example:
        >>> from torch import nn
        >>> from lkd.sparse import sparse_parameters
        >>> list(sparse_parameters(nn.Linear(3, 2), "all"))
        ['weight']
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be an nn.Module, got a {type(model).__name__}")
    if scope not in list(SCOPES):
        raise ValueError(unknown("scope", scope, SCOPES))
    found = {name: parameter for name, parameter in model.named_parameters() if SCOPES[scope](name, parameter)}
    if not found:
        raise ValueError(f"scope {scope!r} has no parameter in a {type(model).__name__}: give another model or scope")
    return found


def _scores(model: nn.Module, images: Tensor, labels: Tensor, scope: str) -> dict[str, Tensor]:
    """`|w dL/dw|` of the parameters in scope, computed on a copy of the model."""
    twin = copy.deepcopy(model).eval().requires_grad_()
    for module in twin.modules():
        if isinstance(module, _BatchNorm):
            module.train()
    weights = sparse_parameters(twin, scope)
    device = next(twin.parameters()).device
    with torch.enable_grad():
        loss = F.cross_entropy(twin(images.to(device)).float(), labels.to(device))
    gradients = torch.autograd.grad(loss, list(weights.values()), materialize_grads=True)
    return {
        name: (weight.detach() * gradient).abs().float()
        for (name, weight), gradient in zip(weights.items(), gradients, strict=True)
    }


def _pruned(weight: Tensor, mask: Tensor, rate: float) -> Tensor:
    """The mask without the `ceil(rate * active)` active weights of smallest magnitude; ties drop the first."""
    order = weight.abs().masked_fill(~mask, math.inf).flatten().argsort(stable=True)
    dropped = order[: math.ceil(rate * int(mask.sum()))]
    return mask.flatten().index_fill(0, dropped, False).view_as(mask)


def _check_state(state: Mapping[str, Any], settings: dict[str, Any], parameters: Mapping[str, nn.Parameter]) -> None:
    if missing := {"settings", "steps_done", "masks", "dense"} - state.keys():
        raise ValueError(f"state has no {', '.join(sorted(missing))}: give the result of SparseTraining.state_dict()")
    theirs = state["settings"]
    for name, ours in settings.items():
        if theirs.get(name) != ours:
            raise ValueError(f"state is of a training with {name}={theirs.get(name)!r}, this one has {name}={ours!r}")
    check_whole("steps_done", state["steps_done"], 0)
    names = [*state["masks"], *state["dense"]]
    missing, extra = parameters.keys() - set(names), set(names) - parameters.keys()
    for problem, wrong in (("lacks", missing), ("has unexpected", extra)):
        if wrong:
            raise ValueError(f"state {problem} {', '.join(sorted(wrong))}: load it into the model it was saved with")
    for name, mask in state["masks"].items():
        if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
            raise TypeError(f"mask of {name} must be a bool tensor, got {getattr(mask, 'dtype', type(mask).__name__)}")
        if mask.shape != parameters[name].shape:
            shapes = f"{tuple(mask.shape)}, the parameter {tuple(parameters[name].shape)}"
            raise ValueError(f"mask of {name} has shape {shapes}: load it into the model it was saved with")
