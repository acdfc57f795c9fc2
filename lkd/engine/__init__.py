"""Training: recipes carried out on whatever devices Accelerate finds."""

from lkd.api import distill, train
from lkd.engine.evaluate import evaluate
from lkd.engine.options import Options
from lkd.engine.run import run

__all__ = ["Options", "distill", "evaluate", "run", "train"]
