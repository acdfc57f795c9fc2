"""Detection of losses that are not finite, without waiting for a GPU at each step."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

READ_INTERVAL = 20
"""Interval (passes) at which losses on a GPU are read."""

SCALED_PATIENCE = 20
"""Consecutive fp16 overflows that raise; fewer occur while the loss scale falls."""


class LossCheck:
    """Raises for losses that are not finite.

    Reading a loss waits for the device that computes it. On a CPU, each loss is read at once; on a GPU, every
    `READ_INTERVAL` passes. Call `flush` before a state is kept.

    Args:
        device: the device of the losses.
        patience: number of consecutive losses that are not finite before an error.

    Example:
        >>> import torch
        >>> from lkd.engine.loss_check import LossCheck
        >>> check = LossCheck(torch.device("cpu"))
        >>> check({"total": torch.tensor(float("nan"))}, lambda: "epoch 1, step 3")
        Traceback (most recent call last):
        FloatingPointError: the loss is not finite in epoch 1, step 3: total = nan
    """

    def __init__(self, device: torch.device, patience: int = 1):
        self.every = 1 if device.type == "cpu" else READ_INTERVAL
        self.patience, self.in_a_row, self.first = patience, 0, ""
        self._unread: list[tuple[Mapping[str, Tensor], Callable[[], str]]] = []

    def __call__(self, terms: Mapping[str, Tensor], place: Callable[[], str]) -> None:
        """Take the terms of a loss, with a function that names their place in the training.

        Raises:
            FloatingPointError: a loss that is not finite; names the place of the first one and its terms.
        """
        self._unread.append(({name: term.detach() for name, term in terms.items()}, place))
        if len(self._unread) == self.every:
            self.flush()

    def flush(self) -> None:
        """Read all losses since the last call; raises as `__call__`."""
        if not self._unread:
            return
        unread, self._unread = self._unread, []
        finite = torch.stack([terms["total"] for terms, _ in unread]).isfinite().tolist()
        for (terms, place), good in zip(unread, finite, strict=True):
            self.in_a_row = 0 if good else self.in_a_row + 1
            if self.in_a_row == 1:
                values = ", ".join(f"{name} = {term.item():g}" for name, term in terms.items())
                self.first = f"{place()}: {values}"
            if self.in_a_row >= self.patience:
                after = f"; {self.in_a_row} in a row" if self.patience > 1 else ""
                raise FloatingPointError(f"the loss is not finite in {self.first}{after}")
