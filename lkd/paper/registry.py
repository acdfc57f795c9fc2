"""Registration: evidence that a rule is older than the runs that it decides.

Each run records a hash of the files of rules and designs (`lkd.runs.provenance.rules_hash`). `registered.yaml` lists
the rules and designs of each hash; git history dates its entries. A verdict is confirmatory if all its runs were
trained under the present rule of the claim and the present design of the profile, with new seeds.

After a change of a rule or design: `python -m lkd.paper.registry`.
"""

from dataclasses import asdict
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from lkd.paper.claims import Claim, claims
from lkd.profiles import PROFILES, Profile
from lkd.recipe import Recipe
from lkd.runs.provenance import REGISTERED_PROFILES, rules_hash
from lkd.study import Results
from lkd.util.files import json_digest

FIRST_NEW_SEED = 5
"""Smallest seed, of students and teachers, that the exploratory runs did not use."""

_FILE = Path(__file__).with_name("registered.yaml")


def is_confirmatory(claim: Claim, profile: str, results: Results) -> bool:
    """Whether all runs of a study are newer than a claim's rule and the profile's design, and have new seeds."""
    if profile not in REGISTERED_PROFILES:
        return False
    rule, design = claim.digest, design_digest(profile)
    for run in results.runs:
        entry = registered().get(run.provenance.get("rules", ""))
        if entry is None or entry["claims"].get(claim.id) != rule or entry["designs"].get(profile) != design:
            return False
        if not _has_new_seeds(run.recipe):
            return False
    return True


def design_digest(profile: str) -> str:
    """8 hexadecimal digits that identify the design of a profile: its models, settings, instances and seeds."""
    values = {name: value for name, value in asdict(Profile.load(profile)).items() if name not in _NOT_DESIGN}
    return json_digest(values)[:8]


@cache
def registered() -> dict[str, dict[str, Any]]:
    """The registered rules and designs, by their hash."""
    return {entry["rules"]: entry for entry in yaml.safe_load(_FILE.read_text()) or []}


def register() -> str:
    """Append the present rules and designs to `registered.yaml`, unless they are registered; returns their hash."""
    if (present := rules_hash()) not in registered():
        entry = {
            "rules": present,
            "date": datetime.now(UTC).date().isoformat(),
            "designs": {name: design_digest(name) for name in REGISTERED_PROFILES if name in PROFILES},
            "claims": {name: claim.digest for name, claim in claims().items()},
        }
        with _FILE.open("a") as file:
            file.write(yaml.safe_dump([entry], sort_keys=False))
        registered.cache_clear()
    return present


_NOT_DESIGN = ("name", "source", "description")


def _has_new_seeds(recipe: Recipe) -> bool:
    seeds = [recipe.seed, *([recipe.teacher.seed] if isinstance(recipe.teacher, Recipe) else [])]
    return min(seeds) >= FIRST_NEW_SEED


if __name__ == "__main__":
    print(register())
