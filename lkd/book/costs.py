"""Directives for costs: `{costs}` of the chapters at each published scale, `{models}` of this book's networks."""

from html import escape

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from lkd.book.sources import note_sources
from lkd.book.table_output import csv_link, html_table


class Costs(SphinxDirective):
    """A table for each published profile."""

    def run(self) -> list[nodes.Node]:
        """Tables as HTML, each with its CSV."""
        from lkd.runs.published import profiles

        note_sources(self.env)
        return [nodes.raw("", costs_html(profile), format="html") for profile in profiles()]


def costs_html(profile: str) -> str:
    """Runs, minutes and saved time by chapter of a published profile; empty if no chapter is complete."""
    from lkd.runs.published import published
    from lkd.study.chapters import costs

    table = costs(profile, published(profile))
    if not table.runs.any():
        return ""
    once, again = table.minutes.iloc[-2:]
    columns, rows = list(table.columns), table.astype(object).to_numpy().tolist()
    return (
        f"<p>Profile <code>{escape(profile)}</code>: the store saves {1 - once / again:.0%} of the training "
        "time.</p>"
        f"{html_table(columns, rows, 1)}{csv_link(columns, rows, f'costs-{profile}.csv')}"
    )


class Models(SphinxDirective):
    """Parameters, multiply-accumulates and speed of the networks in the first chapter."""

    def run(self) -> list[nodes.Node]:
        """The table as HTML, with its CSV; nothing if nothing is published."""
        note_sources(self.env)
        return [nodes.raw("", models_html(), format="html")]


def models_html() -> str:
    """A table with a row per network, as measured in the published runs."""
    import pandas as pd

    from lkd.runs.published import profiles, published
    from lkd.study import distillation

    found = [distillation(profile).find(published(profile)) for profile in reversed(profiles())]
    tables = [results.costs for results in found if results]
    if not tables:
        return ""
    table = pd.concat(tables)
    table = table[~table.drop(columns="images/s").duplicated()]
    columns, rows = list(table.columns), table.astype(object).to_numpy().tolist()
    return html_table(columns, rows, 1) + csv_link(columns, rows, "models.csv")
