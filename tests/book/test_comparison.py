"""The comparison of published runs: its numbers, and the page in a browser."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from playwright.sync_api import Browser, Page, Route
from throwaway import Book, executed, first

from lkd.book.comparison import comparison_html
from lkd.book.comparison_cells import Cell, profile_cells
from lkd.figures import ALONE, family, styles
from lkd.recipe import Recipe
from lkd.runs.store import Run, Store
from lkd.study import distillation, effect, trait_study
from lkd.study.grid import WithoutWeightsError

GAINS = (1.0, 2.0, 3.0)
"""By seed, what every teacher gives to every student."""


class Records(Store):
    """Runs that were never run."""

    def find(self, recipe: Recipe, build: object = None) -> Run:
        top1 = 50.0 + recipe.seed + (GAINS[recipe.seed % 3] if recipe.teacher else 0.0)
        epochs = range(1, recipe.epochs + 1)
        history = pd.DataFrame({"epoch": epochs, "val_top1": [top1 * epoch / recipe.epochs for epoch in epochs]})
        self.path(recipe).mkdir(parents=True, exist_ok=True)
        history.to_csv(self.path(recipe) / "history.csv", index=False)
        return Run(recipe, self.path(recipe), {"val_top1": top1, "test_top1": top1}, lambda: pytest.fail("weights"))


@pytest.fixture(scope="module", autouse=True)
def measured() -> Iterator[None]:
    """Fields and errors of runs on Fashion-MNIST; those of other runs were not measured."""

    def field(run: Run, size: int, count: int) -> np.ndarray:
        if run.recipe.data != "fashion_mnist":
            raise WithoutWeightsError
        return np.random.default_rng(int(run.recipe.run_id, 16)).random((8, 8))

    def errors(run: Run, count: int) -> pd.DataFrame:
        wrong = (0.4 if run.recipe.teacher else 0.5) + run.recipe.seed / 100
        return pd.DataFrame({"corruption": ["clean", "fog"], "severity": [0, 1], "error": [0.2, wrong]})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lkd.study.trait_tables.erf_of", field)
        patch.setattr("lkd.study.trait_tables.errors_of", errors)
        yield


@pytest.fixture(scope="module", autouse=True)
def all_teachers() -> Iterator[None]:
    """Grids of all five teachers at every scale."""
    five = ["mini_slak", "mini_convnext", "mini_cswin", "mini_swin", "mini_vit"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lkd.study.distillation", partial(distillation, teachers=five))
        patch.setattr("lkd.study.trait_study", partial(trait_study, teachers=five))
        yield


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> list[Cell]:
    return profile_cells("small", Records(tmp_path_factory.mktemp("records")))


class Uneven(Records):
    """Runs with accuracies of their own."""

    def find(self, recipe: Recipe, build: object = None) -> Run:
        run = super().find(recipe, build)
        run.metrics["test_top1"] += int(recipe.run_id, 16) % 1000 / 1000
        return run


@pytest.fixture(scope="module")
def exploratory(tmp_path_factory: pytest.TempPathFactory) -> list[Cell]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lkd.study.distillation", partial(distillation, students=["mini_resnet"]))
        patch.setattr("lkd.study.trait_study", partial(trait_study, students=["mini_resnet"]))
        return profile_cells("exploratory", Uneven(tmp_path_factory.mktemp("records")))


def of(found: list[Cell], teacher: str, objective: str, student: str = "mini_resnet") -> Cell:
    (cell,) = [c for c in found if (c["teacher"], c["objective"], c["student"]) == (teacher, objective, student)]
    return cell


# The numbers --------------------------------------------------------------------------------------------------------


def test_there_is_a_cell_for_each_way_to_teach_a_student_and_for_each_student_alone(small: list[Cell]) -> None:
    names = {(cell["student"], cell["teacher"], cell["objective"]) for cell in small}
    assert len(names) == len(small) == 5 * 2 * 2 + 2
    assert {cell["profile"] for cell in small} == {"small"}


def test_a_mean_has_its_t_interval_and_its_number_of_runs(small: list[Cell]) -> None:
    half = 4.302653 / 3**0.5
    gain = {"mean": 2, "low": 2 - half, "high": 2 + half, "n": 3}
    top1 = {"mean": 53, "low": 53 - 2 * half, "high": 53 + 2 * half, "n": 3}
    assert of(small, "mini_slak", "kd")["direct_gain"] == pytest.approx(gain)
    assert of(small, "mini_slak", "nkd")["distilled_top1"] == pytest.approx(top1)


def test_a_student_alone_counts_once_a_seed_and_gains_nothing(small: list[Cell]) -> None:
    alone = of(small, ALONE, "label")
    assert "direct_gain" not in alone
    assert (alone["distilled_top1"]["mean"], alone["distilled_top1"]["n"]) == (51, 3)
    assert (alone["error"]["mean"], alone["error"]["n"]) == (pytest.approx(51), 3)


def test_a_learning_curve_is_the_mean_by_epoch(small: list[Cell]) -> None:
    epochs = 12
    expected = [(50 + 1 + 2) * epoch / epochs for epoch in range(1, epochs + 1)]
    assert of(small, "mini_vit", "kd")["curve"]["val_top1"] == pytest.approx(expected)
    assert of(small, ALONE, "label")["curve"]["epoch"] == list(range(1, epochs + 1))


def test_differences_are_paired_with_the_intervals_of_the_verdicts(exploratory: list[Cell], tmp_path: Path) -> None:
    gains = distillation("exploratory", students=["mini_resnet"]).find(Uneven(tmp_path)).gains
    ahead, others = {"teacher": ["mini_slak"]}, {"teacher": ["mini_convnext", "mini_cswin", "mini_swin", "mini_vit"]}
    kd = gains[gains.objective == "kd"]
    slak = gains[gains.teacher == "mini_slak"]
    lead = effect(kd, "direct_gain", ahead, others)
    over_kd = effect(slak, "direct_gain", {"objective": ["nkd"]}, {"objective": ["kd"]})
    for cell, column, seen in (("kd", "lead", lead), ("nkd", "over_kd", over_kd)):
        low, high = seen.interval()
        assert of(exploratory, "mini_slak", cell)[column] == pytest.approx(
            {"mean": seen.mean, "low": low, "high": high, "n": 15}
        )
    means = kd.groupby("teacher").direct_gain.mean()
    assert lead.mean == pytest.approx(means["mini_slak"] - means.drop("mini_slak").mean())


def test_runs_that_share_a_teacher_are_not_independent(exploratory: list[Cell], tmp_path: Path) -> None:
    gains = distillation("exploratory", students=["mini_resnet"]).find(Uneven(tmp_path)).gains
    rows = gains[(gains.objective == "kd") & (gains.teacher == "mini_slak")]
    low, high = effect(rows, "direct_gain").interval()
    assert of(exploratory, "mini_slak", "kd")["direct_gain"] == pytest.approx(
        {"mean": rows.direct_gain.mean(), "low": low, "high": high, "n": 15}
    )


def test_presets_select_a_quantity_of_the_profile_with_most_runs(small: list[Cell], exploratory: list[Cell]) -> None:
    soup = BeautifulSoup(comparison_html({"small": small, "exploratory": exploratory}), "html.parser")
    items = {str(first(item, "a")["href"]): item.get_text() for item in soup.select(".lkd-presets li")}
    assert list(items) == [
        f"#quantity={each}&profile=exploratory" for each in ("lead", "over_kd", "area_gain", "share", "error")
    ]
    best = max((cell for cell in exploratory if "over_kd" in cell), key=lambda cell: cell["over_kd"]["mean"])
    told = items["#quantity=over_kd&profile=exploratory"]
    assert told.startswith(f"KD against NKD Lead of NKD over KD: from {best['over_kd']['mean']:.2f} points (ResNet, ")
    assert family(best["teacher"]) in told.partition(" to ")[0]


def test_traits_stand_where_they_were_measured(small: list[Cell]) -> None:
    assert of(small, "mini_slak", "nkd")["error"]["mean"] == pytest.approx(41)
    assert "error" not in of(small, "mini_slak", "kd") and "share" not in of(small, "mini_slak", "kd")


def test_one_run_has_no_interval(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lkd.study.distillation", lambda profile: distillation(profile, seeds=[0]))
    found = profile_cells("small", Records(tmp_path))
    assert of(found, "mini_slak", "kd")["direct_gain"] == {"mean": 1.0, "low": None, "high": None, "n": 1}
    assert "nan" not in comparison_html({"small": found}).lower().replace("nano", "")


def test_what_was_not_measured_is_left_out_and_said(tmp_path: Path) -> None:
    found = profile_cells("smoke", Records(tmp_path))
    assert found and not any("share" in cell for cell in found)
    text = BeautifulSoup(comparison_html({"small": [], "smoke": found}), "html.parser").get_text()
    assert "Not measured on the published runs of profile smoke: effective receptive field." in text
    assert "Profile small is not shown: not all of these runs are published" in text


def test_a_store_that_lacks_runs_has_no_cells(store: Store) -> None:
    assert profile_cells("small", store) == []


# The page -----------------------------------------------------------------------------------------------------------


def test_the_table_and_its_csv_have_the_numbers(small: list[Cell]) -> None:
    soup = BeautifulSoup(comparison_html({"small": small}), "html.parser")
    table = first(soup, ".lkd-table")
    (row,) = [r for r in table.select("tbody tr") if r.get_text(" ").startswith("small mini_resnet mini_slak kd")]
    assert [cell.text for cell in row.select("td")][4:] == [
        "2.00 [-0.48, 4.48], n = 3",
        "53.00 [48.03, 57.97], n = 3",
        "0.00 [0.00, 0.00], n = 3",
        "–",
        "1.08 [-0.26, 2.43], n = 3",
        "–",
        "–",
    ]
    lines = unquote(str(first(table, "a")["href"])).partition(",")[2].splitlines()
    assert lines[0] == "profile,student,teacher,objective,measure,unit,mean,95 % low,95 % high,runs"
    assert len(lines) == 1 + 20 + 22 + 20 + 10 + 20 + 2 * 12


def test_names_are_no_markup(small: list[Cell]) -> None:
    sly = '</script><b title="">'
    soup = BeautifulSoup(comparison_html({"small": [{**cell, "student": sly} for cell in small]}), "html.parser")
    assert not soup.select("b")
    assert json.loads(first(soup, "script").text)["cells"][0]["student"] == sly
    assert first(soup, "input[name=student]")["value"] == sly


@pytest.mark.slow
def test_three_hundred_distilled_runs_weigh_less_than_150_kb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both = ["mini_resnet", "mini_convnext_nano"]
    monkeypatch.setattr("lkd.study.distillation", lambda profile: distillation(profile, students=both))
    monkeypatch.setattr("lkd.study.trait_study", lambda profile: trait_study(profile, students=both))
    found = profile_cells("exploratory", Records(tmp_path))
    assert sum(cell["direct_gain"]["n"] for cell in found if "direct_gain" in cell) == 300
    assert len(comparison_html({"reference": found}).encode()) < 150_000


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Book:
    folder = tmp_path_factory.mktemp("book")
    book = Book.written_to(folder)
    book.run(executed())
    (book.root / "notes.md").write_text("# Notes\n\n```{comparison}\n```\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lkd.runs.published.profiles", lambda: ["small", "smoke"])
        patch.setattr("lkd.runs.published.published", lambda profile: Records(folder / profile))
        status, output = book.build()
    assert status == 0, output
    return book


@pytest.mark.slow
def test_where_nothing_is_published_the_page_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lkd.runs.published.FOLDER", tmp_path / "published")
    book = Book.written_to(tmp_path)
    book.run(executed())
    (book.root / "notes.md").write_text("# Notes\n\n```{comparison}\n```\n")
    status, output = book.build()
    assert status == 0, output
    assert "No runs are published that could be compared." in book.page("notes").get_text()
    assert not book.page("notes").select("script[src*=comparison]")


@pytest.mark.slow
def test_its_script_is_on_its_page_alone(built: Book) -> None:
    assert len(built.page("notes").select("script[src*='comparison.js'][defer]")) == 1
    assert not built.page("index").select("script[src*=comparison]")
    assert not built.page().select("script[src*=comparison]")


class Reader:
    """A reader with the page open, without network; `complaints` are the errors."""

    def __init__(self, built: Book, browser: Browser, address: str = "", width: int = 1280):
        self.page: Page = browser.new_context(viewport={"width": width, "height": 900}).new_page()
        self.complaints: list[str] = []
        self.page.route("**/*", self._local_only)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda said: self.complaints.append(said.text) if said.type == "error" else None)
        self.page.goto(built.html("notes").as_uri() + address)

    def _local_only(self, route: Route) -> None:
        if route.request.url.startswith("file:"):
            return route.continue_()
        self.complaints.append(route.request.url)
        return route.abort()

    def box(self, label: str):
        return self.page.get_by_label(label, exact=True)

    def rows(self) -> list[list[str]]:
        """The names in the rows that are seen of the first table."""
        seen = self.page.locator(".lkd-table").first.locator("tbody tr:visible").all_inner_texts()
        return [row.split("\t")[:4] for row in seen]

    def drawn(self, number: int) -> list[dict]:
        """The traces of a figure, once it is drawn from its current JSON."""
        figure = self.page.locator(".lkd-figure").nth(number)
        figure.scroll_into_view_if_needed()
        expected = len(json.loads(figure.locator("script").text_content() or "")["data"])
        drawn = figure.locator(".lkd-plot")
        self.page.wait_for_function(
            "([plot, count]) => plot.data?.length === count", arg=[drawn.element_handle(), expected]
        )
        return drawn.evaluate("plot => plot.data")

    def status(self) -> str:
        return self.page.get_by_role("status").inner_text()


@pytest.mark.slow
class TestInABrowser:
    def test_boxes_choose_rows_and_what_is_drawn(self, built: Book, browser: Browser) -> None:
        reader = Reader(built, browser)
        everyone = {trace["name"] for trace in reader.drawn(0)}
        assert len(reader.rows()) == 44 and reader.status().startswith("44 of 44 rows")
        assert everyone == {"SLaK", "ConvNeXt", "CSWin", "Swin", "ViT"}
        reader.box("mini_vit").focus()
        reader.page.keyboard.press("Space")
        reader.box("smoke").uncheck()
        assert {tuple(row[:1] + row[2:3]) for row in reader.rows()} == {
            ("small", teacher) for teacher in ("mini_slak", "mini_convnext", "mini_cswin", "mini_swin", ALONE)
        }
        assert {trace["name"] for trace in reader.drawn(0)} == everyone - {"ViT"}
        assert {trace["name"] for trace in reader.drawn(7)} == everyone - {"ViT"} | {"student alone"}
        assert reader.status() == "18 of 44 rows are shown."
        assert reader.complaints == []

    def test_a_link_restores_the_choice_and_a_button_shows_all(self, built: Book, browser: Browser) -> None:
        reader = Reader(built, browser)
        for label in ("small", "KD", "mini_slak"):
            reader.box(label).uncheck()
        address = reader.page.evaluate("location.hash")
        other = Reader(built, browser, address)
        assert other.rows() == reader.rows() and len(other.rows()) == 2 * 4 + 2
        assert not other.box("KD").is_checked() and other.box("NKD").is_checked()
        assert "Without effective receptive field." in other.status()
        assert not other.page.locator(".lkd-figure").nth(5).is_visible()
        other.page.get_by_role("button", name="Show all").click()
        other.page.wait_for_function("location.hash === ''")
        assert len(other.rows()) == 44 and other.box("KD").is_checked()
        assert reader.complaints == other.complaints == []

    def test_a_figure_with_none_of_the_taught_is_left_out_and_said(self, built: Book, browser: Browser) -> None:
        reader = Reader(built, browser, "#profile=small&objective=kd")
        without = "lead of NKD over KD, effective receptive field, error on corrupted images"
        assert reader.status() == f"12 of 44 rows are shown. Without {without}."
        visible = [figure.is_visible() for figure in reader.page.locator(".lkd-figure").all()]
        assert visible == [True, True, True, False, True, False, False, True]
        reader.box(ALONE).uncheck()
        assert reader.status().startswith("10 of 44 rows are shown. Without")

    def test_a_preset_shows_one_quantity_and_its_column(self, built: Book, browser: Browser) -> None:
        reader = Reader(built, browser)
        reader.page.get_by_role("link", name="Which teacher is ahead?").click()
        reader.page.wait_for_function("document.querySelectorAll('.lkd-figure[hidden]').length === 7")
        assert reader.page.locator(".lkd-figure").nth(2).is_visible() and len(reader.drawn(2)) == 5
        heads = reader.page.locator(".lkd-table").first.locator("thead th:visible").all_inner_texts()
        assert heads == ["profile", "student", "teacher", "objective", "lead over the other teachers (points)"]
        assert not reader.box("learning curves").is_checked() and reader.complaints == []

    def test_a_link_may_name_some_of_one_kind_alone(self, built: Book, browser: Browser) -> None:
        reader = Reader(built, browser, "#teacher=mini_vit")
        assert len(reader.rows()) == 8 and {row[2] for row in reader.rows()} == {"mini_vit"}

    def test_a_link_to_a_heading_changes_no_choice(self, built: Book, browser: Browser) -> None:
        reader = Reader(built, browser, "#teacher=mini_vit")
        reader.page.evaluate("location.hash = '#notes'")
        reader.page.wait_for_timeout(100)
        assert len(reader.rows()) == 8
        assert len(Reader(built, browser, "#notes").rows()) == 44

    def test_a_teacher_looks_as_in_all_figures_of_the_book(self, built: Book, browser: Browser) -> None:
        reader = Reader(built, browser)
        curves = reader.drawn(7)
        looks = {t["name"]: (t["line"]["color"], t["marker"]["symbol"], t["line"]["dash"]) for t in curves}
        looks[ALONE] = looks.pop("student alone")
        assert looks == styles(pd.Series(list(looks)))
        for trace in reader.drawn(0):
            assert (trace["marker"]["color"], trace["marker"]["symbol"]) == looks[trace["name"]][:2]

    def test_each_figure_can_be_saved_and_tells_its_code(self, built: Book, browser: Browser) -> None:
        reader = Reader(built, browser)
        reader.drawn(0)
        with reader.page.expect_download() as saving:
            reader.page.get_by_role("button", name="Save figure 1 as PNG").click()
        assert saving.value.suggested_filename == "direct_gain.png"
        codes = reader.page.locator(".lkd-code pre").all_text_contents()
        assert len(codes) == 8 and 'Axis("direct_gain"' in codes[0] and "figures.learning_curves(" in codes[7]

    def test_what_is_drawn_anew_still_follows_the_theme(self, built: Book, browser: Browser) -> None:
        reader = Reader(built, browser)
        reader.drawn(0)
        reader.box("mini_vit").uncheck()
        reader.drawn(0)
        colour = "() => getComputedStyle(document.querySelector('.lkd-plot .xtitle')).fill"
        reader.page.evaluate("document.documentElement.dataset.theme = 'light'")
        light = reader.page.evaluate(colour)
        reader.page.evaluate("document.documentElement.dataset.theme = 'dark'")
        reader.page.wait_for_function(f"light => ({colour})() !== light", arg=light)
        assert len(reader.drawn(0)) == 4

    def test_nothing_overflows_a_phone(self, built: Book, browser: Browser) -> None:
        reader = Reader(built, browser, width=390)
        for number in range(reader.page.locator(".lkd-figure").count()):
            reader.drawn(number)
        reader.page.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")
        assert reader.page.evaluate("document.documentElement.scrollWidth") <= 390
        assert reader.complaints == []

    def test_without_scripts_all_rows_stand_there(self, built: Book, browser: Browser) -> None:
        page = browser.new_context(java_script_enabled=False).new_page()
        page.goto(built.html("notes").as_uri())
        assert page.locator(".lkd-table").first.locator("tbody tr:visible").count() == 44
        assert page.locator(".lkd-table").nth(1).locator("tbody tr:visible").count() == 44
        assert not page.locator("form.lkd-choice").is_visible() and not page.locator(".lkd-figure").first.is_visible()
