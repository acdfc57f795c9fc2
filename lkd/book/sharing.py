"""Previews of shared pages, and launch buttons."""

from html import escape
from textwrap import shorten
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config

_PICTURE = {"image": "preview.png", "image:width": "1200", "image:height": "630"}
_LONGEST = 200


def describe(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Add a page's title and first paragraph as meta tags, for search and previews (handles `html-page-context`).

    The page's address and preview image need absolute URLs, that is `html.baseurl` in `_config.yml`.
    """
    if doctree is None:
        return
    first = next(doctree.findall(nodes.paragraph), nodes.paragraph())
    words = shorten(first.astext(), _LONGEST, placeholder=" …")
    tags = {"title": app.env.titles[pagename].astext(), "description": words, "type": "article"}
    tags |= {"site_name": app.config.html_title}
    if base := app.config.html_baseurl:
        picture = {**_PICTURE, "image": f"{base.rstrip('/')}/_static/{_PICTURE['image']}"}
        tags |= {"url": f"{base.rstrip('/')}/{app.builder.get_target_uri(pagename)}", **picture}
    properties = "".join(f'<meta property="og:{name}" content="{escape(text)}">\n' for name, text in tags.items())
    context["metatags"] += f'<meta name="description" content="{escape(words)}">\n{properties}'


def drop_launch_buttons(app: Sphinx, config: Config) -> None:
    """Keep the launch buttons that support the repository in `_config.yml`, if it has one (handles `config-inited`)."""
    options = config.html_theme_options
    repository, buttons = options.get("repository_url"), options.get("launch_buttons", {})
    if not repository:
        buttons = {}
    elif "github.com" not in repository:
        buttons = {**buttons, "colab_url": ""}
    config.html_theme_options = {**options, "launch_buttons": buttons}
