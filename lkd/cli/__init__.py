"""The `lkd` command."""

from lkd.cli import chapters, data, doctor, inspect, plan, production, run_recipe, store, study, tapes, train
from lkd.cli.root import app

__all__ = [
    "app",
    "chapters",
    "data",
    "doctor",
    "inspect",
    "plan",
    "production",
    "run_recipe",
    "store",
    "study",
    "tapes",
    "train",
]
