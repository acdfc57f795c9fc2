"""The end of a chapter: verdicts in sentences, and the results that would change them."""

import pytest
from test_verdicts import helped_by, judged, noisy

from lkd.paper.claims import claims
from lkd.paper.lessons import learned, nearest_change, reversals
from lkd.paper.verdicts import LEVEL, VERDICTS, Verdict
from lkd.study import Effect


def test_a_chapter_ends_in_sentences_with_decided_claims_first() -> None:
    helped = helped_by({"mini_slak", "mini_convnext"}, 2.0)
    text = learned(judged("logit_kd", "exploratory", helped))
    words = [line.split("**")[1] for line in text.splitlines() if line.startswith("- ")]
    assert words[0] == "Supported:" and words == sorted(words, key=lambda word: VERDICTS.index(word[:-1].lower()))
    assert "At this scale (Fashion" in text and "95 % interval" in text and "exploratory" in text


def test_teachers_that_were_trained_once_are_named_so() -> None:
    verdicts = judged("logit_kd", "small", noisy)
    assert "each teacher was trained once" in learned(verdicts) and "Several instances" in reversals(verdicts)


def word_of(claim: str, mean: float, correction: float) -> str:
    """The verdict by the definition: the decision with a corrected p-value below the level."""
    found = Effect(mean, 0.1, 12.0, 5, 5)
    p = {word: each * correction for word, each in claims()[claim].p_values(found).items()}
    significant = [word for word in p if p[word] < LEVEL]
    no_difference = "no difference that matters"
    return no_difference if no_difference in significant else min(significant, key=p.__getitem__, default="not decided")


@pytest.mark.parametrize("correction", [1.0, 2.5])
@pytest.mark.parametrize(
    ("claim", "mean"),
    [
        ("logits-larger-kernels-more", 0.9),
        ("logits-larger-kernels-more", -0.9),
        ("logits-larger-kernels-more", 0.01),
        ("vanilla-matches-dkd", -0.3),
        ("vanilla-matches-dkd", 1.2),
    ],
)
def test_the_verdict_changes_at_the_nearest_change_and_not_before(claim: str, mean: float, correction: float) -> None:
    found = Effect(mean, 0.1, 12.0, 5, 5)
    raw = claims()[claim].p_values(found)
    word = word_of(claim, mean, correction)
    assert word != "not decided"
    verdict = Verdict(claim=claims()[claim], profile="small", word=word, found=found, p=min(raw.values()) * correction)
    shift, then = nearest_change(verdict)
    assert shift > 0
    outcomes = {word_of(claim, mean + sign * (shift + 1e-6), correction) for sign in (-1, 1)}
    before = {word_of(claim, mean + sign * (shift - 1e-6), correction) for sign in (-1, 1)}
    assert then in outcomes and before == {word}
    assert f"and {then} if the mean of {mean:+.2f} were {shift:.2f} points" in reversals([verdict])


def test_an_open_claim_names_the_repetitions_that_would_decide_it() -> None:
    claim = claims()["logits-larger-kernels-more"]
    open_one = Verdict(claim=claim, profile="small", word="not decided", found=Effect(0.2, 0.2, 8.0, 3, 3), times=6.0)
    assert "about 6 times as many teacher instances and student seeds" in reversals([open_one])
