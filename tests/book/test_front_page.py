"""The answers on the front page come from the verdicts: their words, numbers, scale, and command."""

from bs4 import BeautifulSoup
from throwaway import first

from lkd.book.front_page import answers_html, best_verdicts, findings_html, scale_html
from lkd.paper.claims import claims
from lkd.paper.verdicts import Verdict
from lkd.study import Effect

QUESTION, KERNELS, VANILLA = (
    "logits-modern-convnets-over-transformers",
    "logits-larger-kernels-more",
    "vanilla-matches-dkd",
)
ONCE, OFTEN = Effect(0.36, 0.37, 2.0, 1, 3), Effect(1.5, 0.25, 4.0, 3, 5)


def column(profile: str, words: dict[str, str], found: Effect = OFTEN, confirmatory: bool = False) -> list[Verdict]:
    """Verdicts with these words; every other claim was not run."""
    return [
        Verdict(claim=claim, profile=profile, word=words[claim.id], found=found, p=0.01, confirmatory=confirmatory)
        if claim.id in words
        else Verdict(claim=claim, profile=profile, word="not run")
        for claim in claims().values()
    ]


def page(columns: dict[str, list[Verdict]], shown: dict[str, str | None] | None = None) -> BeautifulSoup:
    best = best_verdicts(columns)
    return BeautifulSoup(answers_html(best) + scale_html(best, shown or {}), "html.parser")


def answer(*columns: list[Verdict]) -> str:
    return " ".join(first(page({str(n): each for n, each in enumerate(columns)}), "p").get_text().split())


def test_each_question_is_answered_in_a_sentence_with_its_numbers() -> None:
    low, high = OFTEN.interval()
    told = answer(column("small", {QUESTION: "supported", KERNELS: "contradicted", VANILLA: "supported"}))
    assert told == (
        "For small ConvNets, modern ConvNets (SLaK, ConvNeXt) are better teachers than transformers "
        f"(+1.50 [{low:.2f}, {high:.2f}] points). SLaK's larger kernels make a worse teacher than ConvNeXt's "
        f"(+1.50 [{low:.2f}, {high:.2f}] points). With more data and a strong recipe, DKD does not beat plain "
        "distillation "
        f"(+1.50 [{low:.2f}, {high:.2f}] points)."
    )


def test_no_answer_is_made_up() -> None:
    told = answer(column("small", {QUESTION: "not decided"}, ONCE))
    assert told.startswith("It is not decided whether modern ConvNets") and "each teacher trained once" in told
    assert told.endswith("The comparison of plain distillation with DKD was not run.")
    assert "equally good" in answer(column("small", {QUESTION: "no difference that matters"}))


def test_each_claim_is_answered_by_its_confirmatory_runs_then_by_most_runs_whatever_the_verdict() -> None:
    small = column("small", {QUESTION: "supported", KERNELS: "supported", VANILLA: "supported"}, ONCE)
    explored = column("exploratory", {QUESTION: "supported", KERNELS: "not decided"})
    confirmed = column("reference", {QUESTION: "not decided"}, ONCE, confirmatory=True)
    best = best_verdicts({"a": small, "b": explored, "c": confirmed})
    assert [best[name].profile for name in (QUESTION, KERNELS, VANILLA)] == ["reference", "exploratory", "small"]
    assert best[KERNELS].word == "not decided"


def test_answers_of_several_scales_name_the_scale_of_each() -> None:
    small = column("small", {QUESTION: "supported", VANILLA: "supported"}, ONCE)
    confirmed = column("reference", {VANILLA: "supported"}, confirmatory=True)
    first_scale, second = page({"a": small, "b": confirmed}).select("p.lkd-note")
    assert first_scale.get_text().startswith("Scale of answers 1 and 2: ") and "are exploratory" in first_scale.text
    assert second.get_text().startswith("Scale of answer 3: ") and "are confirmatory" in second.text
    assert first(second, "code").get_text() == "lkd run vanilla_kd -p profile=reference"


def test_primary_claims_are_shown_decided_ones_first() -> None:
    verdicts = column("small", {KERNELS: "not decided", VANILLA: "supported"})
    soup = BeautifulSoup(findings_html({verdict.claim.id: verdict for verdict in verdicts}), "html.parser")
    rows = [row.select("td") for row in soup.select("tbody tr")]
    assert len(rows) == sum(claim.family == "primary" for claim in claims().values())
    assert rows[0][0].get_text() == claims()[VANILLA].says
    assert rows[0][1].select_one("svg circle") and "not decided" not in rows[0][2].get_text()


def test_the_scale_has_its_command_and_a_link_only_where_the_page_shows_it() -> None:
    columns = {"here": column("small", {QUESTION: "supported"})}
    scale = page(columns, {"logit_kd": "small"}).select("p")[1]
    assert first(scale, "a")["href"] == "../notebooks/logit_kd.html#table-runs"
    assert first(scale, "code").get_text() == "lkd run logit_kd -p profile=small"
    assert not page(columns, {"logit_kd": "smoke"}).select("p")[1].select("a")
