"""Sphinx warnings about a page, repeated in every build until the fault is fixed."""

from collections.abc import Iterable

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

_LOGGER = logging.getLogger(__name__)
_MARK = "lkd_faulty"


def report(env: BuildEnvironment, message: str, subtype: str, line: int | None = None) -> None:
    """Warn about the page being read, and mark it to be read again in the next build.

    Sphinx does not read an unchanged page twice: without the mark, a failed strict build would pass when repeated.
    """
    env.metadata[env.docname][_MARK] = True
    _LOGGER.warning(message, type="lkd", subtype=subtype, location=(env.docname, line))


def faulty_pages(
    app: Sphinx, env: BuildEnvironment, added: set[str], changed: set[str], removed: set[str]
) -> Iterable[str]:
    """The pages with warnings in the last build (handles `env-get-outdated`)."""
    return [page for page, metadata in env.metadata.items() if _MARK in metadata]
