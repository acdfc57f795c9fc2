"""ARIA roles of a page's parts, for screen readers."""

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx


def list_references(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Make bibliography entries items of the list that docutils puts them in (handles `html-page-context`)."""
    if doctree is not None:
        context["body"] = context["body"].replace('role="doc-biblioentry"', 'role="listitem"')
