"""The `lkd` command."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from lkd.engine.tape import Tape
    from lkd.recipe import Recipe

app = typer.Typer(no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False)


tapes = typer.Typer(no_args_is_help=True)
app.add_typer(tapes, name="tape", help="The teachers' outputs that are kept along streams.")


@contextmanager
def refusals() -> Iterator[None]:
    """Say in one line what was refused, and end with 2."""
    try:
        yield
    except (KeyError, OSError, TypeError, ValueError) as error:
        typer.secho(f"lkd: {error.args[0] if isinstance(error, KeyError) else error}", err=True)
        raise typer.Exit(2) from error


@app.callback()
def lkd() -> None:
    """Knowledge distillation with large-kernel teachers: rerun a chapter of the book with your own parameters."""


@app.command()
def run(
    chapters: Annotated[list[str], typer.Argument(help="Names of notebooks in notebooks/, without .ipynb.")],
    parameter: Annotated[
        list[str] | None,
        typer.Option("--parameter", "-p", metavar="NAME=VALUE", help="A parameter and its value, a Python literal."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where the executed notebook goes; by default into the book.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Execute even what has been executed already.")] = False,
) -> None:
    """Execute chapters. Runs that the store has are not trained again.

    Example: lkd run logit_kd -p seeds='[0]' -p teachers='["mini_slak"]'
    """
    from lkd.book.chapters import ChapterError, check_chapter, run_chapter

    if output and len(chapters) > 1:
        raise typer.BadParameter(f"--output is for one chapter, got {len(chapters)}")
    if output and output.suffix != ".ipynb":
        raise typer.BadParameter(f"--output is a notebook and ends in .ipynb, got {output}")
    parameters = dict(_assignment(text) for text in parameter or [])
    with refusals():
        for chapter in chapters:
            check_chapter(chapter, parameters)
        for chapter in chapters:
            try:
                typer.echo(run_chapter(chapter, parameters, output=output, again=again))
            except ChapterError as error:
                typer.secho(error, err=True)
                raise typer.Exit(1) from error


@app.command()
def show(
    chapters: Annotated[list[str], typer.Argument(help="Names of notebooks in notebooks/, without .ipynb.")],
) -> None:
    """Execute chapters from the published records, training nothing, where they have not been executed here.

    Each is shown at the largest scale that is published of it. A chapter that has none, `your_own`, is run as it
    stands, which trains for seconds.
    """
    from lkd.book.chapters import check_chapter, run_chapter
    from lkd.book.copies import read_copy
    from lkd.files import home

    with refusals():
        for chapter in chapters:
            check_chapter(chapter, [])
            copy = read_copy(home() / "chapters", chapter)
            if copy.notebook is None or copy.from_records:
                profile = _published(chapter)
                typer.echo(run_chapter(chapter, {"profile": profile, "published": True} if profile else {}))


@app.command()
def chapters(
    profile: Annotated[list[str] | None, typer.Option("--profile", help="A scale; by default all.")] = None,
) -> None:
    """The chapters, and what each costs under each profile: runs, training images, minutes where it was published.

    Minutes are those of one CPU core, as published, summed over the runs.

    Chapters share runs: together they cost less than the sum.
    """
    from lkd.book.chapters import CHAPTERS
    from lkd.paper.evidence import CHAPTERS as STUDIES_OF
    from lkd.paper.evidence import STUDIES
    from lkd.profiles import PROFILES, Profile
    from lkd.store import Store

    with refusals():
        store, scales = Store(), [Profile.load(name).name for name in profile or sorted(PROFILES)]
        for name in sorted(CHAPTERS):
            typer.echo(name)
            for scale in scales:
                recipes = {recipe for study in STUDIES_OF[name] for recipe in STUDIES[study](scale).recipes}
                left = sum(store.find(recipe) is None for recipe in recipes)
                typer.echo(f"  {scale:10} {len(recipes):5} runs, {left:5} to do{_cost(recipes, scale)}")


@app.command()
def publish(
    profile: Annotated[str, typer.Argument(help="The scale whose runs are published.")],
) -> None:
    """Write the records of a profile's runs, as far as whole studies of them are done, to book/published/."""
    from lkd.paper.evidence import STUDIES, complete
    from lkd.profiles import Profile
    from lkd.records import FOLDER, ids
    from lkd.records import publish as write
    from lkd.store import Store

    with refusals():
        Profile.load(profile)
        store = Store()
        whole = {name: study(profile) for name, study in STUDIES.items() if complete(name, profile, store)}
        if not whole:
            raise FileNotFoundError(f"no study of profile {profile!r} is done: `lkd run` its chapters first")
        path = FOLDER / f"{profile}.zip"
        before = set(ids(path)) if path.exists() else set()
        write([recipe for study in whole.values() for recipe in study.recipes], store, path)
        lacking = ", ".join(sorted(set(STUDIES) - set(whole))) or "none"
        gone = len(before - set(ids(path)))
        typer.echo(
            f"{path}: {', '.join(whole)} ({path.stat().st_size / 2**20:.1f} MiB); not run: {lacking}; "
            f"runs that it held before and holds no longer: {gone}"
        )


@app.command()
def claims(
    profile: Annotated[str, typer.Option("--profile", help="The scale whose runs are judged.")] = "small",
    name: Annotated[str | None, typer.Argument(metavar="CLAIM", help="One claim's id; all by default.")] = None,
    published: Annotated[bool, typer.Option("--published", help="Judge by the published records.")] = False,
) -> None:
    """The papers' claims, and what this machine's runs say about each."""
    from lkd.checks import unknown
    from lkd.paper.claims import claims as known
    from lkd.paper.claims import ledger
    from lkd.profiles import Profile
    from lkd.records import published as records
    from lkd.store import Store

    with refusals():
        if name is not None and name not in known():
            raise KeyError(unknown("claim", name, known()))
        Profile.load(profile)
        for verdict in ledger(profile, records(profile) if published else Store()):
            if name in (None, verdict.claim.id):
                found = verdict.found
                told = f"{found.mean:+.2f} [{found.interval()[0]:.2f}, {found.interval()[1]:.2f}]" if found else ""
                typer.echo(f"{verdict.word:13} {verdict.claim.id:42} {told} {verdict.claim.unit if found else ''}")


@app.command("run-recipe")
def run_recipe(
    file: Annotated[Path, typer.Argument(help="A recipe as JSON: the recipe.json of a run, or one of your own.")],
) -> None:
    """Carry out one recipe, here or in the processes that `accelerate launch` has started.

    Example: accelerate launch --num_processes 8 -m lkd run-recipe recipe.json
    """
    from lkd.engine.launch import carry_out_task

    with refusals():
        carry_out_task(file)


@tapes.command("list")
def list_tapes() -> None:
    """The tapes of this machine's store: name, teacher, size, and how much of it is recorded."""
    for tape in _tapes():
        size, share = tape.manifest["bytes"] / 2**20, tape.recorded() / tape.records.size
        teacher = tape.manifest["recipe"]["teacher"]
        name = teacher if isinstance(teacher, str) else teacher["student"]
        typer.echo(f"{tape.folder.name}  {name}  {size:,.1f} MiB  {share:.0%}")


@tapes.command("verify")
def verify(
    name: Annotated[str | None, typer.Argument(help="A tape's name, or how it begins; all by default.")] = None,
    batches: Annotated[int, typer.Option(min=1, help="How many batches of each are asked for again.")] = 4,
) -> None:
    """Ask teachers again for some batches, and compare with what their tapes hold.

    Exits with 1 where a record differs by more than rounding, is damaged or missing.
    """
    from lkd.engine.recording import verify_tape
    from lkd.store import Store

    chosen = [tape for tape in _tapes() if tape.folder.name.startswith(name or "")]
    if name and not chosen:
        typer.secho(f"lkd: no tape is called {name!r}: `lkd tape list` names those there are", err=True)
        raise typer.Exit(2)
    wrong = False
    for tape in chosen:
        try:
            found = verify_tape(tape, Store(), batches)
            wrong |= found.difference > found.rounding
            typer.echo(f"{tape.folder.name}  largest difference {found.difference:g} (rounding: {found.rounding:.1g})")
        except (ValueError, KeyError) as error:
            wrong = True
            typer.secho(f"lkd: {error.args[0]}", err=True)
    raise typer.Exit(int(wrong))


def _tapes() -> "list[Tape]":
    from lkd.engine.tape import Tape
    from lkd.store import Store

    return [Tape(path.parent) for path in sorted((Store().folder / "tapes").glob("[!.]*/manifest.json"))]


def _published(chapter: str) -> str | None:
    """The largest profile of which all that a chapter asks is published."""
    from lkd.paper.evidence import CHAPTERS, complete
    from lkd.records import profiles, published

    known = [name for name in ("reference", "small") if name in profiles()]
    for profile in known if CHAPTERS.get(chapter) else ():
        if all(complete(study, profile, published(profile)) for study in CHAPTERS[chapter]):
            return profile
    return None


def _cost(recipes: "set[Recipe]", profile: str) -> str:
    """Training images, as far as they are known without the data, and minutes, if they are published."""
    from lkd.data import SOURCES, load
    from lkd.records import profiles, published

    told = ""
    if all(recipe.train_images or recipe.data in SOURCES for recipe in recipes):
        images = (recipe.epochs * (recipe.train_images or len(load(recipe.data).train)) for recipe in recipes)
        told += f", {sum(images) / 1e6:6.2f} M training images"
    records = published(profile) if profile in profiles() else None
    runs = [records.find(recipe) for recipe in recipes] if records else []
    if runs and all(runs):
        told += f", {sum(run.provenance['seconds'] for run in runs if run) / 60:5.1f} min"
    return told


def _assignment(text: str) -> tuple[str, object]:
    from lkd.book.chapters import read_value

    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise typer.BadParameter(f"-p takes NAME=VALUE, got {text!r}")
    return name, read_value(value)
