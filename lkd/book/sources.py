"""Pages that are made from the package and the published records: they are made anew when either has changed."""

import hashlib
from collections.abc import Iterable

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

from lkd.runs.provenance import source_hash
from lkd.util.files import PUBLISHED

_MARK = "lkd_made_from"


def sources() -> str:
    """16 hexadecimal digits that change with the package and with the published records."""
    digest = hashlib.sha256(source_hash().encode())
    for path in sorted(PUBLISHED.glob("*.zip")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def note_sources(env: BuildEnvironment) -> None:
    """Say that the page being read is made from the package and the published records."""
    env.metadata[env.docname][_MARK] = sources()


def outdated_pages(
    app: Sphinx, env: BuildEnvironment, added: set[str], changed: set[str], removed: set[str]
) -> Iterable[str]:
    """The pages whose sources have changed since they were made (handles `env-get-outdated`)."""
    now = sources()
    return [page for page, metadata in env.metadata.items() if metadata.get(_MARK, now) != now]
