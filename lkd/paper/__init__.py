"""Published numbers of the papers, with their place and provenance."""

from lkd.paper.published_numbers import Number, Table, papers, published_table, table, tables, value

__all__ = ["Number", "Table", "papers", "published_table", "table", "tables", "value"]
