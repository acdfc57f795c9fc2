"""Differences at the papers' scale equal those counted by hand from their tables; about 1 second."""

import pytest

from lkd.paper import table
from lkd.paper.claims import CONTRADICTED, NO_DIFFERENCE, SUPPORTED, claims
from lkd.paper.papers_scale import reads_as, reported

TRANSFORMERS = ("CSWin-T", "Swin-T", "ViT-S")


def test_the_lead_of_teachers_in_the_logs_is_the_mean_over_sets_and_students() -> None:
    leads, wider = [], []
    for name in ("a", "r", "sketch"):
        log = table(f"l2s_logs_students_{name}")
        for student in ("ResNet-50", "ConvNeXt-T"):
            top1 = {row.teacher: row.top1 for row in log.itertuples() if row.student == student}
            others = [top1[teacher] for teacher in TRANSFORMERS if teacher in top1]
            leads.append((top1["SLaK-T"] + top1["ConvNeXt-T"]) / 2 - sum(others) / len(others))
            wider.append(top1["SLaK-T"] - top1["ConvNeXt-T"])
    found = reported()
    assert found["logits-modern-convnets-over-transformers"].difference == pytest.approx(sum(leads) / 6)
    assert found["logits-larger-kernels-more"].difference == pytest.approx(sum(wider) / 6)


def test_each_number_belongs_to_a_claim_and_has_its_sign() -> None:
    found = {name: round(each.difference, 2) for name, each in reported().items()}
    assert found.keys() <= claims().keys()
    assert found["vanilla-dist-ahead-on-small-data"] == 2.17 and found["vanilla-matches-dist"] == -0.46
    assert found["vanilla-dist-gap-shrinks"] == 2.63
    assert found["kernels-are-more-accurate"] == 0.1 and found["kernels-saturate"] == -0.1


@pytest.mark.parametrize(
    ("claim", "difference", "word"),
    [
        ("logits-nkd-over-kd", 0.25, SUPPORTED),
        ("logits-nkd-over-kd", 0.24, NO_DIFFERENCE),
        ("logits-nkd-over-kd", -0.25, CONTRADICTED),
        ("robustness-inherited", -0.5, SUPPORTED),
        ("robustness-inherited", 0.5, CONTRADICTED),
        ("kernels-saturate", -0.49, SUPPORTED),
        ("kernels-saturate", 0.5, CONTRADICTED),
        ("vanilla-matches-dkd", -3.0, SUPPORTED),
        ("vanilla-matches-dkd", 0.5, CONTRADICTED),
    ],
)
def test_a_difference_reads_by_the_rule_of_its_claim(claim: str, difference: float, word: str) -> None:
    assert reads_as(claims()[claim], difference) == word
