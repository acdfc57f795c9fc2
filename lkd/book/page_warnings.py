"""What is wrong with a page: said as a Sphinx warning in every build until it is mended."""

from collections.abc import Iterable

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

_LOGGER = logging.getLogger(__name__)
_MARK = "lkd_faulty"


def report(env: BuildEnvironment, message: str, subtype: str, line: int | None = None) -> None:
    """Warn about the page being read, and have the next build read it again.

    Sphinx warns while it reads a page, and does not read an unchanged page twice: without the mark,
    a strict build that failed would pass when it is merely repeated.
    """
    env.metadata[env.docname][_MARK] = True
    _LOGGER.warning(message, type="lkd", subtype=subtype, location=(env.docname, line))


def faulty_pages(
    app: Sphinx, env: BuildEnvironment, added: set[str], changed: set[str], removed: set[str]
) -> Iterable[str]:
    """The pages that the last build warned about (handles `env-get-outdated`)."""
    return [page for page, metadata in env.metadata.items() if _MARK in metadata]
