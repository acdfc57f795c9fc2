"""What the papers publish: numbers with where they stand and how they were seen."""

from lkd.paper.published import Number, Table, papers, published_table, table, tables, value

__all__ = ["Number", "Table", "papers", "published_table", "table", "tables", "value"]
