"""Random states of a training process."""

import hashlib
import random
from typing import Any, cast

import numpy as np
import torch


def seed_of(*key: int) -> int:
    """A seed that depends on all numbers of a key."""
    return int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:7], "big")


def seed_all(seed: int) -> None:
    """Seed PyTorch, and for custom networks also Python and NumPy."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)


def random_state() -> dict[str, Any]:
    """The random states of PyTorch, Python and NumPy, as tensors and plain values."""
    kind, keys, *rest = cast(tuple[Any, ...], np.random.get_state())
    return {
        "cpu": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(keys.astype(np.int64)), *rest),
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Restore what `random_state` returned."""
    torch.set_rng_state(state["cpu"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
    if "python" in state:  # older checkpoints have none
        version, words, gauss = state["python"]
        random.setstate((version, tuple(words), gauss))
        kind, keys, *rest = state["numpy"]
        np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
