"""Carry out chapters: a clean notebook and parameters in, an executed copy out."""

import ast
import hashlib
import shlex
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import nbformat
import papermill
import yaml
from nbclient.exceptions import DeadKernelError
from nbformat import NotebookNode
from papermill.exceptions import PapermillExecutionError

from lkd.checks import unknown
from lkd.files import CHECKOUT, home, replacing
from lkd.progress import shown_here
from lkd.provenance import provenance, source_hash

CHAPTERS = {path.stem: path for path in sorted((CHECKOUT / "notebooks").glob("*.ipynb"))}
"""The chapters' clean sources, by name."""

PUBLISHED = CHECKOUT / "book" / "published"
"""Where the published records lie, which chapters show beside their own numbers."""

_START_SECONDS = 120


class ChapterError(RuntimeError):
    """A chapter that stopped with an error."""


def run_chapter(
    name: str, parameters: Mapping[str, Any], *, output: str | Path | None = None, again: bool = False
) -> Path:
    """Execute a chapter with papermill, unless that has been done with this source, package and parameters.

    Args:
        name: of a notebook in `notebooks/`.
        parameters: values for names in its cell of parameters; the others keep their defaults.
        output: where the executed copy goes; by default to where the book looks for it.
        again: execute it even if that has been done.

    Returns:
        The path of the executed copy.

    Raises:
        FileNotFoundError: the package does not lie in a checkout of the project.
        KeyError: an unknown chapter or parameter, with the nearest known name.
        ChapterError: the chapter stopped; its copy so far is kept beside `output`, which is left as it was.
    """
    declared = check_chapter(name, parameters)
    defaults = _defaults(declared)
    parameters = {parameter: value for parameter, value in parameters.items() if value != defaults[parameter]}
    path = Path(output).expanduser().resolve() if output else home() / "chapters" / f"{name}.ipynb"
    key = _key(CHAPTERS[name], parameters)
    if again or _key_of(path) != key:
        with replacing(path) as temporary:
            _execute(name, parameters, temporary, path)
            _describe(temporary, _record(name, key, declared, parameters))
    return path


def check_chapter(name: str, parameters: Iterable[str]) -> dict[str, dict[str, str]]:
    """What a chapter declares of its parameters; refuses, as `run_chapter` does, what it does not know."""
    if not CHAPTERS:
        raise FileNotFoundError(
            "there are no chapters here: they come with a checkout of the project, not with the package"
        )
    if name not in CHAPTERS:
        raise KeyError(unknown("chapter", name, CHAPTERS))
    declared = papermill.inspect_notebook(str(CHAPTERS[name]))
    for parameter in parameters:
        if parameter not in declared:
            raise KeyError(unknown(f"parameter of chapter {name!r}", parameter, declared))
    return declared


def read_value(text: str) -> Any:
    """A parameter's value as typed on a command line: a Python literal, else YAML, else the text itself.

    Example:
        >>> from lkd.book.chapters import read_value
        >>> read_value("[0, 1]"), read_value("1e-3"), read_value("None"), read_value("small")
        ([0, 1], 0.001, None, 'small')
    """
    for read in (ast.literal_eval, yaml.safe_load):
        with suppress(ValueError, SyntaxError, yaml.YAMLError):
            return read(text)
    return text


def _typed(value: Any) -> str:
    """A value as `read_value` reads it back."""
    return value if isinstance(value, str) and read_value(value) == value else repr(value)


def _execute(name: str, parameters: Mapping[str, Any], temporary: Path, path: Path) -> None:
    try:
        with shown_here():
            papermill.execute_notebook(
                str(CHAPTERS[name]),
                str(temporary),
                dict(parameters),
                kernel_name="python3",
                progress_bar=False,
                start_timeout=_START_SECONDS,
                extra_arguments=["--IPKernelApp.log_level=40"],
            )
    except (PapermillExecutionError, DeadKernelError) as error:
        if isinstance(error, PapermillExecutionError):
            reason = f"{error.ename}: {error.evalue}"
        else:
            reason = "a dead kernel, perhaps for lack of memory"
        failed = path.with_suffix(".failed.ipynb")
        shutil.copyfile(temporary, failed)
        raise ChapterError(f"chapter {name} stopped with {reason}\nIts notebook so far is {failed}") from error


def _key(source: Path, parameters: Mapping[str, Any]) -> str:
    published = [hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(PUBLISHED.glob("*.zip"))]
    content = f"{source.read_text()}\0{sorted(parameters.items())!r}\0{source_hash()}\0{published}"
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _key_of(path: Path) -> str | None:
    try:
        return nbformat.read(path, 4).metadata.get("lkd", {}).get("key")
    except (FileNotFoundError, ValueError):
        return None


def _record(
    name: str, key: str, declared: Mapping[str, Mapping[str, str]], parameters: Mapping[str, Any]
) -> dict[str, Any]:
    """What the book tells of an executed copy; `parameters` are those that differ from their defaults."""
    used = {**_defaults(declared), **parameters}
    rows = [
        {
            "name": parameter,
            "type": about["inferred_type_name"],
            "default": repr(default),
            "used": repr(used[parameter]),
            "help": about["help"],
        }
        for (parameter, about), default in zip(declared.items(), _defaults(declared).values(), strict=True)
    ]
    settings = [f"{key}={_typed(value)}" for key, value in parameters.items()]
    words = ["lkd", "run", name, *(word for setting in settings for word in ("-p", setting))]
    origin = {field: value for field, value in provenance().items() if field != "started"}
    return {
        "key": key, "profile": used["profile"], "parameters": rows, "command": shlex.join(words), "provenance": origin
    }  # fmt: skip


def _defaults(declared: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    return {parameter: ast.literal_eval(about["default"]) for parameter, about in declared.items()}


def _describe(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record into an executed copy, and hide its cells of parameters from the page."""
    notebook: NotebookNode = nbformat.read(path, 4)
    notebook.metadata["lkd"] = dict(record)
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if "parameters" in tags or "injected-parameters" in tags:
            cell.metadata["tags"] = [*tags, "remove-input"]
    nbformat.write(notebook, path)
