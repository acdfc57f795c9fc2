"""Commands on chapters: run and show them, list their cost, publish their runs, judge claims."""

from pathlib import Path
from typing import Annotated, Any

import typer

from lkd.cli import completion
from lkd.cli.options import Json
from lkd.cli.root import app, assignments, errors_reported, report, say, say_json

Names = Annotated[
    list[str],
    typer.Argument(
        metavar="CHAPTER...",
        help="Names of notebooks in notebooks/ or notebooks/examples/, without .ipynb.",
        autocompletion=completion.chapters,
    ),
]


@app.command()
def run(
    chapters: Names,
    parameter: Annotated[
        list[str] | None,
        typer.Option("--parameter", "-p", metavar="NAME=VALUE", help="A parameter and its value, a Python literal."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Path of the executed notebook; by default in the book.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Execute chapters again.")] = False,
) -> None:
    """Execute chapters. Runs in the store are not trained again.

    Example: lkd run logit_kd -p seeds='[0]' -p teachers='["mini_slak"]'
    """
    from lkd.book.runner import check_chapter, shared_kernel

    if output and len(chapters) > 1:
        raise typer.BadParameter(f"--output is for one chapter, got {len(chapters)}")
    if output and output.suffix != ".ipynb":
        raise typer.BadParameter(f"--output must be a notebook and end in .ipynb, got {output}")
    parameters = assignments("-p", parameter)
    with errors_reported(), shared_kernel() as kernel:
        for chapter in chapters:
            check_chapter(chapter, parameters)
        for chapter in chapters:
            _execute(chapter, parameters, output=output, again=again, kernel=kernel)


@app.command()
def show(
    chapters: Names,
) -> None:
    """Execute chapters from the published records, without training, unless they were executed here.

    Each chapter is shown at its largest published scale. The chapter `your_own` and the examples, which have no
    published runs, run with their defaults and train for seconds.

    Example: lkd show logit_kd erf
    """
    from lkd.book.executed import read_copy
    from lkd.book.runner import EXAMPLES, check_chapter, shared_kernel
    from lkd.util.files import home

    with errors_reported(), shared_kernel() as kernel:
        for chapter in chapters:
            check_chapter(chapter, {})
        for chapter in chapters:
            copy = read_copy(home() / "chapters", chapter)
            if chapter in EXAMPLES or copy.notebook is None or copy.from_records:
                profile = _largest_published(chapter)
                _execute(chapter, {"profile": profile, "published": True} if profile else {}, kernel=kernel)


@app.command()
def chapters(
    profile: Annotated[
        list[str] | None,
        typer.Option(
            "--profile", help="A scale, by its name or YAML file; by default all.", autocompletion=completion.profiles
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the chapters and their cost in each profile: runs, training images, and minutes if they are published.

    Minutes are for one CPU core, summed over the published runs. Chapters share runs: together they cost less.

    A damaged run counts as one to do; it is named at the end, and the exit code is 1.

    Example: lkd chapters --profile small
    """
    from lkd.runs.catalogue import unfinished_runs
    from lkd.util.files import home_folder, require_checkout

    with errors_reported():
        require_checkout("chapters")
        found = [_costs(name) for name in profile or completion.profiles("")]
    ids = {run for costs in found for cost in costs["chapters"].values() for run in cost["runs"]}
    missing, faults = unfinished_runs(home_folder(), ids)
    rows = [_cost(name, costs, missing) for name in completion.chapters("") for costs in found]
    if as_json:
        say_json(rows)
    else:
        _print_costs(rows)
    report(faults)


def _costs(profile: str) -> dict[str, Any]:
    """Name of a profile and cost of its chapters as plain values, cached."""
    from lkd.runs.result_cache import cache_result, cached_result, input_digests
    from lkd.util.files import PUBLISHED, home_folder

    if found := cached_result(home_folder(), "costs", profile):
        return dict(found)

    from lkd.planning.chapter_costs import chapter_costs
    from lkd.profiles import Profile
    from lkd.profiles.profile_files import find_profile, read_files

    name = Profile.load(profile).name
    files = input_digests([*(path for path, _ in read_files(find_profile(profile))), PUBLISHED / f"{name}.zip"])
    costs = {"profile": name, "chapters": {key: cost._asdict() for key, cost in chapter_costs(profile).items()}}
    cache_result(home_folder(), "costs", profile, files, costs)
    return costs


def _cost(chapter: str, costs: dict[str, Any], missing: set[str]) -> dict[str, Any]:
    """Cost of a chapter, with the number of all and of missing runs."""
    cost = costs["chapters"].get(chapter, {"runs": [], "images": 0, "minutes": None})
    counts = {"runs": len(cost["runs"]), "to_do": len(missing & {*cost["runs"]})}
    return {"chapter": chapter, "profile": costs["profile"], **cost, **counts}


def _print_costs(costs: list[dict[str, Any]]) -> None:
    for cost in costs:
        if cost["profile"] == costs[0]["profile"]:
            typer.echo(cost["chapter"])
        line = f"  {cost['profile']:20} {cost['runs']:5} runs, {cost['to_do']:5} to do"
        if cost["images"] is not None:
            line += f", {cost['images'] / 1e6:6.2f} M training images"
        typer.echo(line + ("" if cost["minutes"] is None else f", {cost['minutes']:5.1f} min"))


@app.command()
def publish(
    profile: Annotated[
        str,
        typer.Argument(metavar="PROFILE", help="The scale of the runs.", autocompletion=completion.profiles),
    ],
) -> None:
    """Write the records of a profile's complete studies to book/published/.

    First lists the names that others will see in them: data, classes, networks and the machine.

    Example: lkd publish small
    """
    from lkd.planning import work
    from lkd.profiles import PROFILES, Profile
    from lkd.runs.public_names import disclosed_names
    from lkd.runs.published import FOLDER, ids
    from lkd.runs.published import publish as write
    from lkd.runs.store import Store
    from lkd.study.chapters import CHAPTERS, STUDIES, complete
    from lkd.util.files import require_checkout

    with errors_reported():
        require_checkout("published records")
        if Profile.load(profile).source not in PROFILES:
            raise ValueError(f"{profile} is not one of lkd's profiles, and only these are published: add it to them")
        store = Store()
        whole = {name: study(profile) for name, study in STUDIES.items() if complete(name, profile, store)}
        if not whole:
            raise FileNotFoundError(f"no study of profile {profile!r} is done: `lkd run` its chapters first")
        path = FOLDER / f"{profile}.zip"
        before = set(ids(path)) if path.exists() else set()
        chapters = {name: list(chapter.studies) for name, chapter in CHAPTERS.items() if chapter.studies}
        done = {name: [whole[each] for each in names] for name, names in chapters.items() if {*names} <= whole.keys()}
        found = {name: work(*(study.recipes for study in studies)) for name, studies in done.items()}
        flops = {name: total.flops for name, total in found.items() if total}
        recipes = [recipe for study in whole.values() for recipe in study.recipes]
        for kind, names in disclosed_names(filter(None, map(store.find, recipes))).items():
            say(f"{path} shows {kind}: {names}")
        write(recipes, store, path, flops)
        missing = ", ".join(sorted(set(STUDIES) - set(whole))) or "none"
        gone = len(before - set(ids(path)))
        typer.echo(
            f"{path}: {', '.join(whole)} ({path.stat().st_size / 2**20:.1f} MiB); not run: {missing}; "
            f"runs removed from the previous file: {gone}"
        )


@app.command()
def claims(
    profile: Annotated[
        str,
        typer.Option(
            "--profile",
            help="The scale of the runs, by its name or YAML file.",
            autocompletion=completion.profiles,
        ),
    ] = "small",
    name: Annotated[str | None, typer.Argument(metavar="CLAIM", help="One claim's id; all by default.")] = None,
    published: Annotated[bool, typer.Option("--published", help="Judge by the published records.")] = False,
    as_json: Json = False,
) -> None:
    """Judge the papers' claims by the runs of this machine: verdict, mean and 95 % interval.

    A damaged run is named at the end, and the exit code is 1; the claims that need it read "not run".

    Example: lkd claims --profile exploratory --published
    """
    from lkd.runs.result_cache import cached_result
    from lkd.util.checks import unknown
    from lkd.util.files import home_folder

    with errors_reported():
        rows = None if published else cached_result(home_folder(), "claims", profile)
        known = [row["claim"] for row in rows] if rows else _claims()
        if name is not None and name not in known:
            raise KeyError(unknown("claim", name, known))
        faults: list[str] = []
        if published:
            rows = _judged_by_records(profile)
        elif rows is None:
            from lkd.paper.verdict_rows import judge_runs

            rows, faults = judge_runs(profile, home_folder())
        rows = [row for row in rows if name in (None, row["claim"])]
    if as_json:
        say_json(rows)
    else:
        _print_verdicts(rows)
    report(faults)


def _claims() -> list[str]:
    from lkd.paper.claims import claims

    return list(claims())


def _judged_by_records(profile: str) -> list[dict[str, Any]]:
    from lkd.paper.verdict_rows import rows_of
    from lkd.paper.verdicts import ledger
    from lkd.profiles import Profile
    from lkd.runs.published import published

    Profile.load(profile)
    return rows_of(ledger(profile, published(profile)))


def _print_verdicts(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        found = "" if row["mean"] is None else f"{row['mean']:+.2f} [{row['low']:.2f}, {row['high']:.2f}] {row['unit']}"
        typer.echo(f"{row['verdict']:26} {row['claim']:42} {found}")


def _execute(chapter: str, parameters: dict[str, Any], **how: Any) -> None:
    """Execute a chapter and print its path; exit with 1 if it stopped."""
    from lkd.book.runner import ChapterError, run_chapter

    try:
        typer.echo(run_chapter(chapter, parameters, **how))
    except ChapterError as error:
        say(error)
        raise typer.Exit(1) from error


def _largest_published(chapter: str) -> str | None:
    """The largest profile with all studies of a chapter published, if any."""
    from lkd.runs.published import profiles, published
    from lkd.study.chapters import CHAPTERS, complete

    known = [name for name in ("reference", "exploratory", "small") if name in profiles()]
    studies = CHAPTERS[chapter].studies if chapter in CHAPTERS else {}
    for profile in known if studies else ():
        records = published(profile)
        if all(complete(study, profile, records) for study in studies):
            return profile
    return None
