"""What the package imports is what it declares, and what only the book needs is imported by the book only."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import lkd
from lkd.util.files import CHECKOUT

PACKAGE = Path(lkd.__file__).parent
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
OF_THE_BOOK = {*(PACKAGE / "book").glob("*.py"), *(PACKAGE / "figures").glob("*.py")}
LIBRARY = set(PACKAGE.rglob("*.py")) - OF_THE_BOOK
NOT_IMPORTED = {"ipykernel", "jupyter-book", "sphinx-mathjax-offline", "statsmodels"}
"""A kernel, a program, a file, and a package for a table of a chapter."""
OF_TORCH = {"triton"}
"""Comes with PyTorch where that supports CUDA."""
FOR_TORCH = {"onnxscript"}
"""Imported by PyTorch's exporter."""


def names(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(line).name) for line in requirements}


CORE, BOOK = names(PROJECT["dependencies"]), names(EXTRAS["book"])
OF_EXAMPLES = names([*EXTRAS["lightning"], *EXTRAS["transformers"]])
NOT_OPTIONAL = ("bench", "book", "dev", "lightning", "transformers")
OPTIONAL = set().union(*(names(lines) for extra, lines in EXTRAS.items() if extra not in NOT_OPTIONAL))


def modules(nodes: list[ast.AST]) -> Iterator[str]:
    """Top-level names of the modules that some nodes import."""
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and not node.level:
            yield str(node.module).partition(".")[0]
        elif isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)


def imported(paths: set[Path], *, at_once: bool = False) -> set[str]:
    """The distributions that files import; those imported `at_once` are imported with the file itself."""
    found = packages_distributions()
    trees = [ast.parse(path.read_text()) for path in paths]
    nodes = [node for tree in trees for node in (tree.body if at_once else ast.walk(tree))]
    foreign = set(modules(nodes)) - sys.stdlib_module_names - {"lkd"}
    return {canonicalize_name(found.get(module, [module])[0]) for module in foreign}


@pytest.mark.slow
def test_the_library_imports_what_it_declares_and_the_rest_only_when_it_is_asked_for() -> None:
    assert imported(LIBRARY, at_once=True) <= CORE | OF_TORCH
    assert imported(LIBRARY) <= CORE | OPTIONAL | OF_TORCH


def test_the_book_imports_what_it_declares() -> None:
    assert imported(OF_THE_BOOK) <= CORE | BOOK


@pytest.mark.slow
def test_nothing_is_declared_that_is_not_used() -> None:
    examples = "".join(path.read_text() for path in (CHECKOUT / "notebooks" / "examples").glob("*.ipynb"))
    assert all(f"from {name} import " in examples for name in OF_EXAMPLES)
    assert imported(LIBRARY) >= CORE - FOR_TORCH
    assert imported(LIBRARY | OF_THE_BOOK) >= (BOOK | OPTIONAL) - FOR_TORCH - NOT_IMPORTED


def test_every_dependency_has_a_lowest_version_that_the_pinned_one_fulfils() -> None:
    lines = (CHECKOUT / "requirements.txt").read_text().splitlines()
    pinned = [Requirement(line) for line in lines if line and line[0] not in "#-"]
    versions = {canonicalize_name(each.name): str(each.specifier).removeprefix("==") for each in pinned}
    tested = ("book", "dev", "lightning", "transformers")
    declared = [*PROJECT["dependencies"], *(line for extra in tested for line in EXTRAS[extra])]
    for requirement in map(Requirement, declared):
        assert versions[canonicalize_name(requirement.name)] in requirement.specifier, requirement
    assert all(Requirement(line).specifier for line in PROJECT["dependencies"])


IMPORT_ALL = """
import importlib, pkgutil, sys

class Hiding:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, *where):
        return None if name.partition(".")[0] in sys.argv[1:] else self.finder.find_spec(name, *where)

    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = map(Hiding, sys.meta_path)
import lkd

for module in pkgutil.walk_packages(lkd.__path__, "lkd.", onerror=print):
    if module.name != "lkd.__main__":
        try:
            importlib.import_module(module.name)
        except ImportError as error:
            print(module.name)
            if module.name == "lkd.figures":
                assert "pip install 'lkd[figures]'" in str(error)
"""
"""Import every module of the package, without the top-level modules named; print the names of those that fail."""


@pytest.mark.slow
def test_without_the_books_packages_every_module_but_the_books_can_be_imported() -> None:
    there = packages_distributions().items()
    hidden = [name for name, found in there if canonicalize_name(found[0]) in {*BOOK, *OPTIONAL, "ipython"}]
    assert {"IPython", "nbformat", "papermill", "plotly", "sphinx"} <= set(hidden)
    done = subprocess.run([sys.executable, "-c", IMPORT_ALL, *hidden], capture_output=True, text=True, check=True)
    failed = set(done.stdout.split())
    others = {name for name in failed if not name.startswith(("lkd.book", "lkd.figures"))}
    assert others <= {"lkd.ops.triton_kernels"} and "lkd.figures" in failed
