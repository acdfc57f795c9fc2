"""Claims: rules that find their numbers, p-values of each decision, and the file of claims."""

from pathlib import Path

import pytest
import yaml
from scipy import stats

from lkd.paper import claims as module
from lkd.paper.claims import FAMILIES, claims, read_claims
from lkd.study import Effect


def test_there_are_claims_of_both_papers_each_with_its_place() -> None:
    papers = [claim.paper for claim in claims().values()]
    assert papers.count("L2S") >= 10 and papers.count("VanillaKD") >= 5
    assert all(claim.place and claim.says.endswith(".") for claim in claims().values())


def test_the_primary_family_has_at_most_ten_claims() -> None:
    counts = {family: [claim.family for claim in claims().values()].count(family) for family in FAMILIES}
    assert 0 < counts["primary"] <= 10 and sum(counts.values()) == len(claims())


def test_no_two_claims_test_the_same_rows_of_the_same_table() -> None:
    rules = [(c.study, c.table, c.value, str(c.where), str(c.high), str(c.low)) for c in claims().values()]
    assert len(set(rules)) == len(rules)


@pytest.mark.parametrize(
    ("id", "mean", "word"),
    [
        ("logits-help-at-all", 1.0, "supported"),
        ("logits-help-at-all", -1.0, "contradicted"),
        ("logits-help-at-all", 0.1, "no difference that matters"),
        ("robustness-inherited", -1.0, "supported"),
        ("robustness-inherited", 1.0, "contradicted"),
        ("teacher-size", 0.1, "supported"),
        ("teacher-size", -0.9, "contradicted"),
        ("teacher-size", 0.9, "contradicted"),
        ("vanilla-matches-dkd", -2.0, "supported"),
        ("vanilla-matches-dkd", 0.1, "supported"),
        ("vanilla-matches-dkd", 0.9, "contradicted"),
    ],
)
def test_the_likeliest_decision_is_the_one_the_difference_calls_for(id: str, mean: float, word: str) -> None:
    found = claims()[id].p_values(Effect(mean, 0.05, 8.0, 9, 9))
    assert min(found, key=found.__getitem__) == word and found[word] < 0.05


@pytest.mark.parametrize("mean", [-0.3, 0.0, 0.2, 0.6])
def test_decisions_agree_with_intervals(mean: float) -> None:
    """Supported or contradicted by the 95 % interval, equivalent or not inferior by the 90 % interval."""
    found = Effect(mean, 0.1, 8.0, 9, 9)
    (low, high), (low90, high90) = found.interval(), found.interval(0.9)
    signed, matched = claims()["logits-help-at-all"], claims()["vanilla-matches-dkd"]
    decided = {word: p < 0.05 for word, p in signed.p_values(found).items()}
    assert decided == {
        "supported": low > 0,
        "contradicted": high < 0,
        "no difference that matters": -signed.matters < low90 and high90 < signed.matters,
    }
    assert (matched.p_values(found)["supported"] < 0.05) == (high90 < matched.matters)


def test_a_p_value_is_that_of_scipy() -> None:
    values = [0.3, 0.1, 0.5, 0.4, 0.2]
    spread = stats.sem(values)
    p = claims()["logits-help-at-all"].p_values(Effect(0.3, spread, 4.0, 5, 1))
    assert p["supported"] == pytest.approx(stats.ttest_1samp(values, 0).pvalue)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"study": "logits"}, "claim 'x': unknown study 'logits': did you mean 'logit_kd'"),
        ({"table": "gain"}, "claim 'x': unknown table 'gain': did you mean 'gains'"),
        ({"expects": "over"}, "claim 'x': unknown expects 'over'"),
        ({"family": "first"}, "claim 'x': unknown family 'first'"),
        ({"matters": 0}, "claim 'x': matters must be above 0, got 0"),
        ({"matter": 0}, "claim 'x': unknown key 'matter': did you mean 'matters'"),
    ],
)
def test_a_rule_that_cannot_be_read_is_refused(change: dict, message: str, tmp_path: Path) -> None:
    content = yaml.safe_load(module._FILE.read_text())
    content["claims"] = [{**content["claims"][0], "id": "x", **change}]
    (tmp_path / "claims.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(ValueError, match=message):
        read_claims(tmp_path / "claims.yaml")


def test_wording_does_not_belong_to_a_rule(tmp_path: Path) -> None:
    content = yaml.safe_load(module._FILE.read_text())
    before = claims()[content["claims"][0]["id"]].digest
    for change, same in (({"says": "In other words."}, True), ({"matters": 0.3}, False), ({"expects": "below"}, False)):
        one = {**content, "claims": [{**content["claims"][0], **change}]}
        (tmp_path / "claims.yaml").write_text(yaml.safe_dump(one))
        (read,) = read_claims(tmp_path / "claims.yaml").values()
        assert (read.digest == before) == same
