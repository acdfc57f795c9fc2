"""The answer on the front page comes from the verdicts: its word, how sure it is, its runs and their command."""

from bs4 import BeautifulSoup
from throwaway import first

from lkd.book.summary import headline_html
from lkd.paper.claims import claims
from lkd.paper.verdicts import Verdict
from lkd.study import Effect, distillation

QUESTION = "logits-large-kernels-over-transformers"
ONCE, OFTEN = Effect(0.36, 0.37, 2.0, 1, 3), Effect(1.5, 0.25, 4.0, 3, 5)


def column(profile: str, found: Effect | None, word: str = "not run", **about: float) -> list[Verdict]:
    """Every claim not run, but for the one that the book asks."""
    return [
        Verdict(claim=claim, profile=profile, word=word, found=found, **about)
        if claim.id == QUESTION
        else Verdict(claim=claim, profile=profile, word="not run")
        for claim in claims().values()
    ]


def page(columns: dict[str, list[Verdict]], shown: str | None = None) -> BeautifulSoup:
    return BeautifulSoup(headline_html(columns, shown), "html.parser")


def sentence(columns: dict[str, list[Verdict]]) -> str:
    return " ".join(first(page(columns), "p").get_text().split())


def test_those_runs_answer_that_were_repeated_most() -> None:
    once, often = column("small", ONCE, "inconclusive"), column("reference", OFTEN, "supported", p=0.01)
    for columns in ({"small": once, "reference": often}, {"reference": often, "small": once}):
        told = sentence(columns)
        low, high = OFTEN.interval()
        assert told.startswith(f"At this scale: yes. The claim “{claims()[QUESTION].says}” is supported: +1.50 points")
        assert f"95 % interval {low:.2f} to {high:.2f}." in told
        assert told.endswith("lkd run logit_kd -p profile=reference.")
        rows = [[cell.get_text(" ") for cell in row.select("td")] for row in page(columns).select("tbody tr")]
        assert [row[0] for row in rows] == list(columns)
        assert {row[1].split()[0] for row in rows} == {"inconclusive", "supported"}
        assert all(f"{len(claims()) - 1} not run" in row[-1] for row in rows)


def test_what_makes_the_answer_unsure_is_said() -> None:
    assert "At this scale: not decided." in sentence({"small": column("small", ONCE, "inconclusive")})
    assert "trained once, so nothing can be decided" in sentence({"small": column("small", ONCE, "inconclusive")})
    unsure = sentence({"reference": column("reference", OFTEN, "inconclusive", times=4.0)})
    assert "About 4 times as many teachers and 4 times as many students" in unsure and "trained once" not in unsure
    assert "At this scale: no." in sentence({"reference": column("reference", OFTEN, "contradicted", p=0.01)})


def test_the_runs_are_counted_and_lead_to_their_table() -> None:
    small = {"small": column("small", ONCE, "inconclusive")}
    link = first(page(small, "small"), "p a")
    assert link["href"] == "../notebooks/logit_kd.html#table-runs"
    assert f"The {len(distillation('small').recipes)} runs" in link.get_text()


def test_where_the_page_shows_other_runs_there_is_a_command_and_no_link() -> None:
    soup = page({"reference": column("reference", OFTEN, "supported", p=0.01)}, "small")
    assert not soup.select("p a")
    commands = [code.get_text() for code in soup.select("code.lkd-command")]
    whole = "lkd run logit_kd -p profile=reference"
    assert commands == [f"{whole} -p published=True", "make site", whole]


def test_what_nobody_ran_is_no_answer_but_a_command() -> None:
    told = sentence({"not run": column("small", None)})
    assert "At this scale: not run." in told and "has not been run." in told and "interval" not in told
    assert "lkd run logit_kd -p profile=small" in told


def test_names_are_no_markup() -> None:
    soup = page({"<script>alert(1)</script>": column("small", None)})
    assert not soup.select("script") and "<script>alert(1)</script>" in soup.get_text()
