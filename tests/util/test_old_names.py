"""Names that the README or the book once showed still work, and warn. Costs 3 s."""

import subprocess
import sys
from importlib import import_module

import pytest

import lkd.engine
import lkd.engine.teacher
import lkd.paper.claims
import lkd.study
from lkd.util.old_names import MODULES

NAMES = [
    *((lkd.study, old, new) for old, new in lkd.study._OLD_NAMES.items()),
    *((lkd.engine, old, new) for old, new in lkd.engine._OLD_NAMES.items()),
    *((lkd.engine.teacher, old, new) for old, new in lkd.engine.teacher._OLD_NAMES.items()),
    *((lkd.paper.claims, old, new) for old, new in lkd.paper.claims._OLD_NAMES.items()),
]


@pytest.mark.parametrize("old", MODULES)
def test_an_old_module_is_the_new_one(old: str) -> None:
    sys.modules.pop(old, None)
    with pytest.warns(FutureWarning, match=f"{old} is now {MODULES[old]}"):
        module = import_module(old)
    assert module is sys.modules[MODULES[old]] and module.__spec__.name == MODULES[old]


@pytest.mark.parametrize(("module", "old", "new"), NAMES, ids=[old for _, old, _ in NAMES])
def test_an_old_name_is_the_new_object(module, old: str, new: str) -> None:
    place, _, name = new.partition(":")
    with pytest.warns(FutureWarning, match=f"{old} is now {place}.{name}"):
        assert getattr(module, old) is getattr(import_module(place), name)


def test_the_warning_points_to_the_callers_line() -> None:
    code = "import warnings\nwarnings.simplefilter('error')\nfrom lkd.store import Store"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1 and "lkd.store is now lkd.runs.store" in done.stderr
