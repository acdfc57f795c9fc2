"""`python -m lkd` is the `lkd` command."""

from lkd.cli import app

app(prog_name="lkd")
