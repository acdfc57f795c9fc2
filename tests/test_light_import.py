"""`import lkd` costs next to nothing, and every example in a docstring runs as it is written."""

import doctest
import subprocess
import sys
from importlib import import_module, metadata
from pathlib import Path

import pytest
from short_runs import RECIPE, saved

import lkd
from lkd.data import fashion_mnist
from lkd.runs import provenance
from lkd.util.files import home

HEAVY = ("torch", "timm", "pandas", "papermill", "IPython", "sphinx", "plotly", "lkd.models", "lkd.engine")
PACKAGE = Path(lkd.__file__).parent
USERS_HOME = home()
SLOW = ("lkd.api", "lkd.export.graph", "lkd.export.latency", "lkd.export.onnx_file", "lkd.export.onnx_model")


def output_of(script):
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout


def test_import_lkd_loads_nothing_heavy():
    loaded = output_of("import sys, lkd; print(*sys.modules)").split()
    assert "lkd" in loaded and not set(HEAVY) & set(loaded)


@pytest.mark.parametrize(
    "words", [["list"], ["show", RECIPE.run_id], ["prune"], ["compare", RECIPE.run_id, RECIPE.run_id]]
)
def test_commands_on_the_store_load_nothing_that_computes(words, store, monkeypatch):
    saved(store)
    monkeypatch.setenv("LKD_HOME", str(store.folder))
    script = f"""
import sys
from lkd.cli import app
try:
    app(["store", *{words}])
except SystemExit:
    print(*sys.modules)
"""
    loaded = output_of(script).split()
    assert "lkd.runs.catalogue" in loaded and not {"torch", "timm", "lkd.models", "lkd.engine"} & set(loaded)


@pytest.mark.slow
def test_what_lkd_promises_is_there_when_asked_for():
    script = "import sys, lkd; print([getattr(lkd, name).__name__ for name in lkd.__all__], 'torch' in sys.modules)"
    assert output_of(script).strip() == f"{lkd.__all__} True"


@pytest.mark.slow
def test_completion_offers_what_there_is_and_nothing_else():
    script = "import lkd; names = dir(lkd); print(names, [getattr(lkd, name) is None for name in names])"
    names, _, missing = output_of(script).strip().rpartition("] [")
    assert "True" not in missing and "distill" in names and "export" in names and "__version__" in names
    assert not any(name in names for name in ("Any", "import_module", "wrapt", "TYPE_CHECKING", "_HOMES"))
    assert output_of("import lkd; print(lkd.export.export.__name__, lkd.runs.store.Store.__name__)") == "export Store\n"


def test_the_version_is_that_of_the_installed_package(monkeypatch):
    assert lkd.__version__ == metadata.version("lkd")

    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(provenance, "version", missing)
    assert lkd.__version__ == "not installed"


def test_a_run_is_shown_in_one_line(store):
    saved(store)
    run = store.find(RECIPE)
    assert repr(run) == f"<Run {RECIPE.run_id}: mini_resnet, label, digits, seed 0, test top-1 9.50 %>"
    assert len(repr([run])) < 120


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'lkd' has no attribute 'distil'"):
        lkd.distil  # noqa: B018


def modules_with_examples():
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if ">>> " in path.read_text():
            yield pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else [])


@pytest.mark.parametrize("name", list(modules_with_examples()))
def test_examples_run_as_they_are_written(name, tmp_path, monkeypatch):
    monkeypatch.setenv("LKD_HOME", str(tmp_path))
    if name == "lkd.data.fashion_mnist":
        monkeypatch.setenv("LKD_HOME", str(USERS_HOME))
        if all(map(fashion_mnist._missing, (USERS_HOME / "data" / "fashion-mnist", fashion_mnist.DEBIAN_FOLDER))):
            pytest.skip("Fashion-MNIST is not on this machine")
    monkeypatch.setattr(fashion_mnist, "_downloaded", no_network)
    result = doctest.testmod(import_module(name))
    assert result.attempted > 0 and result.failed == 0


def no_network(*_):
    raise AssertionError("an example asks the network for data")
