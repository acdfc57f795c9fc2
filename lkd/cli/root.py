"""The `lkd` command: errors, interrupts and JSON output shared by all commands."""

import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup


class Commands(TyperGroup):
    """A group of commands that reports a wrong command line, a missing package and Ctrl-C in one line each."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Show the help when no command is given."""
        if not args and not ctx.resilient_parsing:
            typer.echo(ctx.get_help())
            ctx.exit()
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except ImportError as error:
            remedy = ": chapters need `pip install 'lkd[book]'` and a checkout of the project" if error.name else ""
            say(f"{error}{remedy}")
            raise typer.Exit(2) from error
        except KeyboardInterrupt as error:
            say("stopped; finished work is kept: the same command resumes")
            raise typer.Exit(130) from error

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run the command line and end this process."""
        try:
            sys.exit(super().main(*args, **{**extra, "standalone_mode": False}))
        except typer.TyperException as error:
            context = getattr(error, "ctx", None)
            message = " ".join(error.format_message().split())
            message += "" if message.endswith((".", "?")) else "."
            say(f"{message} See: {context.command_path} --help" if context else message)
            sys.exit(error.exit_code)


app = typer.Typer(cls=Commands, add_completion=True, pretty_exceptions_enable=False)


@contextmanager
def errors_reported() -> Iterator[None]:
    """Report an error in one line; exit with 2, or with 1 if numbers that are not finite ended the work."""
    try:
        yield
    except (KeyError, ImportError, OSError, TypeError, ValueError) as error:
        say(error.args[0] if isinstance(error, KeyError) else error)
        raise typer.Exit(2) from error
    except FloatingPointError as error:
        say(error)
        raise typer.Exit(1) from error


def say(message: object) -> None:
    """Print a message to stderr."""
    typer.echo(f"lkd: {message}", err=True)


def report(faults: Iterable[str]) -> None:
    """Name skipped entries, damaged or foreign, and exit with 1 if there are any."""
    for fault in (found := list(faults)):
        say(fault)
    if found:
        raise typer.Exit(1)


def say_json(value: Any) -> None:
    """Print a result as JSON to stdout, with null for numbers that are not finite."""
    typer.echo(json.dumps(_finite(value), indent=1, allow_nan=False))


def assignments(option: str, texts: Sequence[str] | None) -> dict[str, Any]:
    """Values by name, of an option given as NAME=VALUE once for each name."""
    from lkd.util.values import read_value

    values: dict[str, Any] = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise typer.BadParameter(f"{option} takes NAME=VALUE, got {text!r}")
        if name in values:
            raise typer.BadParameter(f"{option} gives {name!r} twice: leave one of them out")
        values[name] = read_value(value)
    return values


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@app.callback()
def lkd() -> None:
    """Knowledge distillation with large-kernel teachers: rerun a chapter of the book, or distil your own models.

    Results go to stdout, messages to stderr. Commands with --json print the result as JSON.

    Exit codes: 0 done. 1 the work failed, or a check found a fault. 2 refused: the command line, a file or a recipe is
    wrong, and nothing was done. 130 stopped by Ctrl-C: the same command resumes.

    Environment: LKD_HOME is the folder of data, runs and executed chapters.

    Example: lkd distill mini_resnet mini_slak --data digits --profile smoke
    """
