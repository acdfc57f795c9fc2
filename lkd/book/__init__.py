"""The Sphinx extension of the book: executed chapters, their figures, and local copies of the scripts they need.

The modules below are imported in `setup`: the command line uses some of them without Sphinx.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx


def setup(app: "Sphinx") -> dict[str, Any]:
    """Register the extension with Sphinx."""
    from lkd.book import (
        accessibility,
        api_links,
        comparison,
        costs,
        front_page,
        ledger,
        losses,
        offline,
        page_warnings,
        pages,
        published_tables,
        sharing,
        sources,
    )
    from lkd.util.files import home

    app.add_config_value("lkd_chapters", lambda config: str(home() / "chapters"), "env", types=str)
    app.add_directive("comparison", comparison.Comparison)
    app.add_directive("costs", costs.Costs)
    app.add_directive("models", costs.Models)
    app.add_directive("findings", front_page.Findings)
    app.add_directive("headline", front_page.Headline)
    app.add_directive("ledger", ledger.Ledger)
    app.add_directive("losses", losses.Losses)
    app.add_directive("published", published_tables.PublishedTable)
    app.add_directive("published-paper", published_tables.PublishedPaper)
    for extension in ("sphinx.ext.autodoc", "sphinx.ext.napoleon"):
        app.setup_extension(extension)
    app.connect("autodoc-skip-member", api_links.skip_field)
    app.connect("autodoc-process-docstring", api_links.say_where_used, priority=900)
    app.connect("config-inited", offline.use_local_mathjax)
    app.connect("config-inited", pages.announce_smoke)
    app.connect("config-inited", sharing.drop_launch_buttons)
    app.connect("env-get-outdated", page_warnings.faulty_pages)
    app.connect("env-get-outdated", sources.outdated_pages)
    app.connect("source-read", pages.show_executed)
    app.connect("html-page-context", comparison.add_script)
    app.connect("html-page-context", ledger.load_filters)
    app.connect("html-page-context", losses.add_script)
    app.connect("html-page-context", sharing.describe)
    app.connect("html-page-context", offline.drop_thebe, priority=900)
    app.connect("html-page-context", offline.drop_mathjax, priority=900)
    app.connect("html-page-context", accessibility.list_references)
    app.connect("build-finished", offline.copy_scripts)
    app.add_css_file("lkd.css")
    app.add_js_file("figures.js", loading_method="defer")
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
