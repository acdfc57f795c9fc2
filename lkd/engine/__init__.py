"""Training and evaluation on the devices that Accelerate finds."""

from typing import Any

from lkd.engine.callbacks import Callback, StopRun, TrainingState
from lkd.engine.evaluate import evaluate, evaluate_batches
from lkd.engine.options import Options
from lkd.engine.run import run
from lkd.util.old_names import renamed

__all__ = ["Callback", "Options", "StopRun", "TrainingState", "evaluate", "evaluate_batches", "run"]

_OLD_NAMES = {"distill": "lkd.api:distill", "train": "lkd.api:train"}


def __getattr__(name: str) -> Any:
    return renamed(__name__, name, _OLD_NAMES)
