"""Execute chapters: a clean notebook and parameters in, an executed copy out."""

import ast
import hashlib
import shlex
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
import papermill
from jupyter_client import AsyncKernelManager, BlockingKernelClient
from jupyter_core.utils import run_sync
from nbclient.exceptions import DeadKernelError
from nbformat import NotebookNode
from papermill.exceptions import PapermillExecutionError

from lkd.book.parameters import Declared, check_values
from lkd.book.sources import sources
from lkd.runs.provenance import provenance
from lkd.util.checks import unknown
from lkd.util.files import CHECKOUT, home, replacing, require_checkout
from lkd.util.progress import shown_here
from lkd.util.values import typed

if TYPE_CHECKING:
    from lkd.profiles import Profile

NOTEBOOKS = {path.stem: path for path in sorted((CHECKOUT / "notebooks").glob("*.ipynb"))}
"""The chapters' clean notebooks, by name."""

EXAMPLES = {path.stem: path for path in sorted((CHECKOUT / "notebooks" / "examples").glob("*.ipynb"))}
"""The examples' clean notebooks, by name; they have no parameters."""

_KERNEL = "python3"
_START_SECONDS = 120


class ChapterError(RuntimeError):
    """A chapter that stopped with an error."""


class Kernel(AsyncKernelManager):
    """A kernel that records its shutdown: on Ctrl-C nbclient shuts it down and then fails on the dead kernel."""

    stopped = False

    async def shutdown_kernel(self, *args: Any, **how: Any) -> None:  # type: ignore[override]
        """End the kernel."""
        self.stopped = True
        await super().shutdown_kernel(*args, **how)


@contextmanager
def shared_kernel() -> Iterator[Kernel]:
    """A kernel shared by chapters: imports stay loaded, variables are deleted between chapters."""
    manager = Kernel(kernel_name=_KERNEL)
    try:
        yield manager
    finally:
        if manager.has_kernel:
            run_sync(manager.shutdown_kernel)(now=True)


def run_chapter(
    name: str,
    parameters: Mapping[str, Any],
    *,
    output: str | Path | None = None,
    again: bool = False,
    kernel: Kernel | None = None,
) -> Path:
    """Execute a chapter with papermill, unless its copy is up to date with source, package and parameters.

    Args:
        name: the name of a notebook in `notebooks/` or `notebooks/examples/`.
        parameters: values for its parameters; others keep their defaults.
        output: path of the executed copy; by default that of the book.
        again: execute it even if the copy is up to date.
        kernel: a kernel from `shared_kernel`; by default a new one.

    Returns:
        The path of the executed copy.

    Raises:
        FileNotFoundError: the package is not in a checkout of the project.
        KeyError: an unknown chapter, parameter, profile, model or objective, with the nearest known name.
        TypeError: a parameter of another type than the chapter declares.
        ValueError: an invalid parameter value or profile file, with the place and the reason.
        ChapterError: the chapter stopped; its copy so far is kept next to `output`, which is unchanged.
        KeyboardInterrupt: it was interrupted; `output` is unchanged.
    """
    declared = check_chapter(name, parameters)
    defaults, scale = _defaults(declared), _scale(parameters)
    parameters = {**parameters, **({"profile": scale.source} if scale else {})}
    parameters = {parameter: value for parameter, value in parameters.items() if value != defaults[parameter]}
    path = Path(output).expanduser().resolve() if output else home() / "chapters" / f"{name}.ipynb"
    key = _key(_source(name), {**parameters, "profile": scale} if "profile" in parameters else parameters)
    if again or _key_of(path) != key:
        with replacing(path) as temporary, nullcontext(kernel) if kernel else shared_kernel() as manager:
            _execute(name, parameters, temporary, path, manager)
            _describe(temporary, _record(name, key, declared, parameters))
    return path


def check_chapter(name: str, parameters: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Check names and values of parameters as `run_chapter` does; return the chapter's declared parameters."""
    require_checkout("chapters")
    declared = papermill.inspect_notebook(str(_source(name)))
    kinds = {each: Declared(about["inferred_type_name"], about["default"]) for each, about in declared.items()}
    check_values(kinds, parameters, f"parameter of chapter {name!r}")
    if parameters.keys() - {"profile", "published"}:
        _check_runs(name, {**_defaults(declared), **parameters}["profile"], parameters)
    return declared


def _source(name: str) -> Path:
    """The clean notebook of a chapter or example."""
    known = NOTEBOOKS | EXAMPLES
    if name not in known:
        raise KeyError(unknown("chapter", name, known))
    return known[name]


def _check_runs(chapter: str, profile: str, parameters: Mapping[str, Any]) -> None:
    """Refuse parameters from which no runs can be built."""
    from lkd.study import chapters

    known = chapters.CHAPTERS[chapter].parameters if chapter in chapters.CHAPTERS else ()
    if given := {name: parameters[name] for name in known if name in parameters}:
        chapters.studies_of(chapter, profile, **given)


def _scale(parameters: Mapping[str, Any]) -> "Profile | None":
    """The profile in the parameters; None if it is the chapter's default."""
    from lkd.profiles import Profile

    return Profile.load(parameters["profile"]) if "profile" in parameters else None


def _execute(name: str, parameters: Mapping[str, Any], temporary: Path, path: Path, kernel: Kernel) -> None:
    if kernel.has_kernel:
        _forget(kernel)
    try:
        with shown_here():
            papermill.execute_notebook(
                str(_source(name)),
                str(temporary),
                dict(parameters),
                kernel_name=_KERNEL,
                km=kernel,
                progress_bar=False,
                start_timeout=_START_SECONDS,
                extra_arguments=["--IPKernelApp.log_level=40"],
            )
    except Exception as error:
        if kernel.stopped:
            raise KeyboardInterrupt from error
        if isinstance(error, PapermillExecutionError):
            reason = f"{error.ename}: {error.evalue}"
        elif isinstance(error, DeadKernelError):
            reason = "a dead kernel, possibly out of memory"
        else:
            raise
        failed = path.with_suffix(".failed.ipynb")
        shutil.copyfile(temporary, failed)
        raise ChapterError(f"chapter {name} stopped with {reason}\nIts notebook so far is {failed}") from error


def _forget(kernel: Kernel) -> None:
    """Delete all variables of a running kernel."""
    client = BlockingKernelClient()
    client.load_connection_info(kernel.get_connection_info())
    client.start_channels()
    try:
        client.execute("%reset_selective -f ^[^_]", reply=True, timeout=_START_SECONDS)
    finally:
        client.stop_channels()


def _key(source: Path, parameters: Mapping[str, Any]) -> str:
    content = f"{source.read_text()}\0{sorted(parameters.items())!r}\0{sources()}"
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _key_of(path: Path) -> str | None:
    try:
        return nbformat.read(path, 4).metadata.get("lkd", {}).get("key")
    except (FileNotFoundError, ValueError):
        return None


def _record(
    name: str, key: str, declared: Mapping[str, Mapping[str, str]], parameters: Mapping[str, Any]
) -> dict[str, Any]:
    """The record of an executed copy, for the book; `parameters` are those that differ from their defaults."""
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
    settings = [f"{key}={typed(value)}" for key, value in parameters.items()]
    words = ["lkd", "run", name, *(word for setting in settings for word in ("-p", setting))]
    origin = {field: value for field, value in provenance().items() if field != "started"}
    return {
        "key": key,
        "profile": used.get("profile"),
        "parameters": rows,
        "command": shlex.join(words),
        "provenance": origin,
    }


def _defaults(declared: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    return {parameter: ast.literal_eval(about["default"]) for parameter, about in declared.items()}


def _describe(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record into an executed copy, and hide its parameter cells on the page."""
    notebook: NotebookNode = nbformat.read(path, 4)
    notebook.metadata["lkd"] = dict(record)
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if "parameters" in tags or "injected-parameters" in tags:
            cell.metadata["tags"] = [*tags, "remove-input"]
    nbformat.write(notebook, path)
