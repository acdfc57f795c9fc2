"""Pages built from the package and the published records: Sphinx rebuilds them when either changes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

from lkd.runs.provenance import source_hash
from lkd.util.files import PUBLISHED

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

_MARK = "lkd_made_from"


def sources() -> str:
    """A digest (16 hexadecimal digits) of the package and the published records."""
    digest = hashlib.sha256(source_hash().encode())
    for path in sorted(PUBLISHED.glob("*.zip")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def note_sources(env: BuildEnvironment) -> None:
    """Record that the page being read depends on the package and the published records."""
    env.metadata[env.docname][_MARK] = sources()


def outdated_pages(
    app: Sphinx, env: BuildEnvironment, added: set[str], changed: set[str], removed: set[str]
) -> Iterable[str]:
    """The pages whose sources changed after they were built (handles `env-get-outdated`)."""
    now = sources()
    return [page for page, metadata in env.metadata.items() if metadata.get(_MARK, now) != now]
