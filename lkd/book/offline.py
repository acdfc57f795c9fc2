"""Scripts of the pages come from installed packages: pages load nothing from other hosts."""

import importlib.metadata
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.builders.html import StandaloneHTMLBuilder
from sphinx.config import Config
from sphinx.util.osutil import copyfile

PLOTLY = "plotly.min.js"
MATHJAX = "tex-svg-full.js"


def installed_file(distribution: str, name: str) -> Path:
    """The path of the file `name` of an installed distribution.

    Raises:
        FileNotFoundError: the distribution has no such file.
    """
    for file in importlib.metadata.files(distribution) or []:
        if file.name == name:
            return Path(str(file.locate()))
    raise FileNotFoundError(
        f"{distribution} is installed without {name}: run `pip install --force-reinstall {distribution}`"
    )


def use_local_mathjax(app: Sphinx, config: Config) -> None:
    """Use the book's own MathJax file (handles `config-inited`)."""
    config.mathjax_path = MATHJAX


def drop_thebe(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Remove Thebe's scripts and styles from a page (handles `html-page-context`).

    Jupyter Book adds them to every page, twice, with the address of another host, even if no page can run live.
    """
    for files in ("script_files", "css_files"):
        context[files] = [file for file in context[files] if not _is_thebe(file)]


def drop_mathjax(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Remove MathJax from a page without equations (handles `html-page-context`).

    Sphinx counts equations of a page's subpages too: without this the first page would load it needlessly.
    """
    if doctree is None or not any(isinstance(node, nodes.math | nodes.math_block) for node in doctree.findall()):
        context["script_files"] = [file for file in context["script_files"] if MATHJAX not in str(file.filename)]


def _is_thebe(file: Any) -> bool:
    """Whether an entry of Sphinx's lists is Thebe's file or its constants in the page."""
    return "thebe" in f"{file.filename} {file.attributes.get('body', '')}"


def copy_scripts(app: Sphinx, exception: Exception | None) -> None:
    """Copy Plotly and MathJax to the site (handles `build-finished`)."""
    if exception is not None or not isinstance(app.builder, StandaloneHTMLBuilder):
        return
    static = Path(app.outdir) / "_static"
    copyfile(installed_file("plotly", PLOTLY), static / PLOTLY)
    copyfile(installed_file("sphinx-mathjax-offline", MATHJAX), static / MATHJAX)
