"""The `lkd` command."""

from lkd.cli import chapters, data, doctor, models, plan, runs, store, study, tapes, traits
from lkd.cli.root import app

__all__ = ["app", "chapters", "data", "doctor", "models", "plan", "runs", "store", "study", "tapes", "traits"]
