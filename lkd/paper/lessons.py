"""The text at the end of a chapter: its verdicts as sentences, and the results that would change them."""

from collections.abc import Sequence

from scipy import stats

from lkd.paper.claims import CONTRADICTED, NO_DIFFERENCE, SUPPORTED
from lkd.paper.verdicts import LEVEL, NOT_DECIDED, VERDICTS, Verdict
from lkd.profiles import Profile
from lkd.runs.public_names import public
from lkd.util.markdown import plain

_NOT_RUN = "No claim of this page was run."


def learned(verdicts: Sequence[Verdict]) -> str:
    """The verdicts as sentences in Markdown, decided ones first, with the scale that they hold for.

    Example:
        >>> from lkd.paper.lessons import learned
        >>> from lkd.paper.verdicts import judge
        >>> print(learned(judge("smoke", {"teacher_size": None})))
        No claim of this page was run.
    """
    if not (run := _run(verdicts)):
        return _NOT_RUN
    scale = Profile.load(run[0].profile)
    head = f"At this scale ({plain(public(scale.description).rstrip('.'))}):"
    return "\n".join([head, "", *(f"- **{each.word.capitalize()}:** {_sentence(each)}" for each in run)])


def reversals(verdicts: Sequence[Verdict]) -> str:
    """The results that would change the verdicts, as a list in Markdown in the order of `learned`.

    For a decided claim, the smallest shift of its mean that changes the verdict, at the same standard error and
    correction. For any other claim, the repetitions that would decide it.

    Example:
        >>> from lkd.paper.lessons import reversals
        >>> from lkd.paper.verdicts import judge
        >>> print(reversals(judge("smoke", {"teacher_size": None})))
        No claim of this page was run.
    """
    return "\n".join(f"- {plain(each.claim.says)} {_reversal(each)}" for each in _run(verdicts)) or _NOT_RUN


def _run(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """The verdicts that have a difference, decided ones first."""
    return sorted((each for each in verdicts if each.found), key=lambda each: VERDICTS.index(each.word))


def _sentence(verdict: Verdict) -> str:
    """The claim with its difference, interval, and certainty."""
    found, claim = verdict.found, verdict.claim
    assert found is not None
    low, high = found.interval()
    numbers = f"{found.mean:+.2f} {claim.unit}"
    if low == low:
        numbers += f", 95 % interval {low:.2f} to {high:.2f}"
    if verdict.trained_once:
        numbers += "; each teacher was trained once"
    else:
        numbers += f"; {'confirmatory' if verdict.confirmatory else 'exploratory'}"
    return f"{plain(claim.says)} ({numbers}.)"


def _reversal(verdict: Verdict) -> str:
    """The result that would change a verdict."""
    if verdict.trained_once:
        return "*Not decided*: each teacher was trained once. Several instances of each would decide it."
    if verdict.word == NOT_DECIDED:
        if verdict.times != verdict.times:
            return "*Not decided*: it was not repeated."
        many = f"about {verdict.times:.0f} times as many teacher instances and student seeds"
        return f"*Not decided*: {many} would probably decide it, if the difference stays the same."
    assert verdict.found is not None
    shift, word = nearest_change(verdict)
    return (
        f"*{verdict.word.capitalize()}*, and {word} if the mean of {verdict.found.mean:+.2f} were "
        f"{shift:.2f} {verdict.claim.unit} {_direction(verdict)}."
    )


def _direction(verdict: Verdict) -> str:
    if verdict.claim.expects == "at most":
        return "higher" if verdict.word == SUPPORTED else "lower"
    small = verdict.word == (SUPPORTED if verdict.claim.expects == "within" else NO_DIFFERENCE)
    return "farther from 0" if small else "closer to 0"


def nearest_change(verdict: Verdict) -> tuple[float, str]:
    """Smallest shift of the mean that changes a decided claim, and its verdict then, at the same error and correction.

    Args:
        verdict: one that is decided.
    """
    found, claim = verdict.found, verdict.claim
    assert found is not None
    smallest = min(claim.p_values(found).values())
    level = LEVEL * smallest / verdict.p if smallest else LEVEL
    one_sided, two_sided = (found.error * float(stats.t.isf(tail, found.freedom)) for tail in (level, level / 2))
    size, m = abs(found.mean), claim.matters
    if claim.expects == "at most":
        return abs(found.mean - m) - one_sided, NOT_DECIDED
    if claim.expects == "within":
        return (m - size - one_sided if verdict.word == SUPPORTED else size - m - two_sided), NOT_DECIDED
    equivalent = m - one_sided  # up to this size there is no difference that matters
    if verdict.word == NO_DIFFERENCE:
        expected = SUPPORTED if (found.mean > 0) == (claim.expects == "above") else CONTRADICTED
        return equivalent - size, expected if equivalent > two_sided else NOT_DECIDED
    return size - max(two_sided, equivalent), NO_DIFFERENCE if equivalent > two_sided else NOT_DECIDED
