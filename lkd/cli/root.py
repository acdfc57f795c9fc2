"""The `lkd` command itself: how it refuses, how it stops, and what it says to programs."""

import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup


class Commands(TyperGroup):
    """A group of commands: a wrong command line, a missing package and Ctrl-C are answered in one line each."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Show the help where no command is named."""
        if not args and not ctx.resilient_parsing:
            typer.echo(ctx.get_help())
            ctx.exit()
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Carry out the command that was named."""
        try:
            return super().invoke(ctx)
        except ImportError as error:
            remedy = ": chapters need `pip install 'lkd[book]'` and a checkout of the project" if error.name else ""
            say(f"{error}{remedy}")
            raise typer.Exit(2) from error
        except KeyboardInterrupt as error:
            say("stopped; what was finished is kept: the same command goes on from there")
            raise typer.Exit(130) from error

    def main(self, *args: Any, **extra: Any) -> Any:
        """Read the command line, carry it out, and end this process."""
        try:
            sys.exit(super().main(*args, **{**extra, "standalone_mode": False}))
        except typer.TyperException as error:
            context = getattr(error, "ctx", None)
            told = " ".join(error.format_message().split())
            told += "" if told.endswith((".", "?")) else "."
            say(f"{told} See: {context.command_path} --help" if context else told)
            sys.exit(error.exit_code)


app = typer.Typer(cls=Commands, add_completion=True, pretty_exceptions_enable=False)


@contextmanager
def refusals() -> Iterator[None]:
    """Say in one line what was refused, and end with 2; with 1 where numbers that are not finite ended the work."""
    try:
        yield
    except (KeyError, ImportError, OSError, TypeError, ValueError) as error:
        say(error.args[0] if isinstance(error, KeyError) else error)
        raise typer.Exit(2) from error
    except FloatingPointError as error:
        say(error)
        raise typer.Exit(1) from error


def say(message: object) -> None:
    """A message to people, on stderr."""
    typer.echo(f"lkd: {message}", err=True)


def report(faults: Iterable[str]) -> None:
    """Name what was damaged or foreign among many entries and was skipped, and end with 1; go on if there was none."""
    for fault in (told := list(faults)):
        say(fault)
    if told:
        raise typer.Exit(1)


def say_json(value: Any) -> None:
    """A result to programs, on stdout; null for a number that is not finite, which JSON does not have."""
    typer.echo(json.dumps(_finite(value), indent=1, allow_nan=False))


def assignments(option: str, texts: Sequence[str] | None) -> dict[str, Any]:
    """Values by name of an option that is typed as NAME=VALUE, once for each name."""
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
    """Knowledge distillation with large-kernel teachers: rerun a chapter of the book, or distil models of your own.

    Results go to stdout, all else to stderr; --json, where a command has it, makes the result JSON.

    Exit codes: 0 done. 1 the work failed, or a check found a fault. 2 refused: the command line, a file or a recipe is
    wrong, and nothing was done. 130 stopped by Ctrl-C: the same command goes on.

    Environment: LKD_HOME is the folder of data, runs and executed chapters.

    Example: lkd distill mini_resnet mini_slak --data digits --profile smoke
    """
