"""The forest plot of verdicts: positions, cut intervals, and its text."""

from bs4 import BeautifulSoup

from lkd.book.forest import forest
from lkd.paper.claims import claims
from lkd.paper.verdicts import Verdict
from lkd.study import Effect

CLAIM = claims()["logits-modern-convnets-over-transformers"]


def marks(mean: float, error: float = 0.01) -> tuple[float, list[float], BeautifulSoup]:
    verdict = Verdict(claim=CLAIM, profile="small", word="supported", found=Effect(mean, error, 8.0, 9, 9))
    soup = BeautifulSoup(forest([verdict]), "html.parser")
    line = soup.select_one("g line")
    return float(soup.select_one("circle")["cx"]), [float(line["x1"]), float(line["x2"])], soup


def test_a_difference_of_the_smallest_that_matters_is_at_the_edge_of_the_band() -> None:
    middle, _, soup = marks(0.0)
    edge, _, _ = marks(CLAIM.matters)
    band = soup.select_one(".lkd-band")
    assert edge == float(band["x"]) + float(band["width"]) and middle == float(soup.select_one(".lkd-zero")["x1"])


def test_an_interval_surrounds_its_mean_and_stays_inside_the_picture() -> None:
    mean, (low, high), soup = marks(0.3, 0.05)
    assert low < mean < high
    _, ends, _ = marks(1.0, 100.0)
    width = float(soup.select_one("svg")["viewbox"].split()[2])
    assert ends[0] >= 0 and ends[1] <= width


def test_the_text_of_the_picture_names_claim_word_and_difference() -> None:
    alt = marks(0.3)[2].select_one("svg")["aria-label"]
    assert alt == f"{CLAIM.id}: supported, +0.30 points"


def test_a_claim_that_was_not_run_has_an_empty_row() -> None:
    soup = BeautifulSoup(forest([Verdict(claim=CLAIM, profile="small", word="not run")]), "html.parser")
    assert not soup.select("circle") and "not run" in soup.select_one("svg")["aria-label"]
