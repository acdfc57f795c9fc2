"""The page of the losses: its script and tables against `lkd.objectives`; sliders, links and colours in a browser."""

import csv
import json
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import torch
from bs4 import BeautifulSoup
from playwright.sync_api import Browser, Page

from lkd.book.loss_examples import CLASSES, COMPANY, EXAMPLES, METHODS, Example, Method, parts_of
from lkd.book.losses import losses_html
from lkd.objectives import OBJECTIVES, Outputs, dist_loss, dkd_loss, kd_loss, nkd_loss, vanilla_kd_loss
from lkd.util.files import CHECKOUT

STATIC = CHECKOUT / "book" / "_static"
SCRIPT = STATIC / "losses.js"
GROUNDS = {"light": "#ffffff", "dark": "#121212"}
"""The grounds of the theme's two modes."""

Image = dict[str, Any]


# The formulas of the script -----------------------------------------------------------------------------------------


def images() -> list[Image]:
    """Images of random logits, each true class in turn; equal logits, equal classes, and the ends of the sliders."""
    rng = torch.Generator().manual_seed(0)
    pairs = (4 * torch.randn(6, 2, 3, generator=rng, dtype=torch.float64)).tolist()
    pairs += [[[1.0, 2.0, 3.0]] * 2, [[0.0, 0.0, 0.0], [2.0, 0.0, -1.0]], [[6.0, -6.0, -6.0], [-6.0, 6.0, -6.0]]]
    return [{"student": one, "teacher": other, "label": place % 3} for place, (one, other) in enumerate(pairs)]


def terms(objective: str, batch: list[Image], parameters: dict[str, float]) -> dict[str, tuple[float, list[float]]]:
    """Value and gradient, with respect to the first image's student, of each term in `lkd.objectives`."""
    student, teacher = (
        torch.tensor([each[who] for each in batch], dtype=torch.float64) for who in ("student", "teacher")
    )
    student.requires_grad_()
    found = OBJECTIVES[objective](**parameters).terms(
        Outputs(student), Outputs(teacher), torch.tensor([each["label"] for each in batch])
    )
    slopes = {name: torch.autograd.grad(term, student, retain_graph=True)[0][0] for name, term in found.items()}
    return {name: (term.item(), slopes[name].tolist()) for name, term in found.items()}


def settings(method: Method) -> Iterator[dict[str, float]]:
    """Parameters of an objective: all combinations of small and large weights and three temperatures."""
    named = {each.name: (0.3, each.most) for each in method.sliders}
    known = OBJECTIVES[method.objective].hyperparameters()
    if "temperature" in known:
        named["temperature"] = (0.5, 1.0, 4.0)
    for values in product(*named.values()):
        yield dict(zip(named, values, strict=True))


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.objective)
def test_the_script_has_the_values_and_gradients_of_the_package(method: Method, browser: Browser) -> None:
    others = [image._asdict() for image in COMPANY] if method.objective == "dist" else []
    cases = [[image, each] for image in images() for each in settings(method)]
    page = browser.new_page()
    page.add_script_tag(path=SCRIPT)
    loss = "([method, cases, others]) => cases.map(([image, each]) => lkdLosses.methods[method](image, each, others))"
    seen = page.evaluate(loss, [method.objective, cases, others])
    page.close()
    without_label = {"label": 0.0} if method.objective in ("dkd", "dist") else {}
    assert len(seen) == len(cases) >= 9
    for (image, parameters), script in zip(cases, seen, strict=True):
        expected = terms(method.objective, [image, *others], parameters | without_label)
        assert list(script) == list(expected) == [term.name for term in method.terms]
        for name, (value, gradient) in expected.items():
            assert script[name]["value"] == pytest.approx(value, rel=1e-6, abs=1e-6), (name, image, parameters)
            assert script[name]["gradient"] == pytest.approx(gradient, rel=1e-6, abs=1e-6), (name, image, parameters)


# The tables ---------------------------------------------------------------------------------------------------------


def loss_and_pull(objective: str, example: Example) -> tuple[float, list[float]]:
    """The loss of an example by the function of `lkd.objectives`, and its gradient with the opposite sign."""
    batch = [example.image, *(COMPANY if objective == "dist" else ())]
    student = torch.tensor([image.student for image in batch], dtype=torch.float64, requires_grad=True)
    teacher = torch.tensor([image.teacher for image in batch], dtype=torch.float64)
    label, temperature = torch.tensor([image.label for image in batch]), float(example.temperature)
    loss = {
        "kd": lambda: kd_loss(student, teacher, label, temperature=temperature),
        "nkd": lambda: nkd_loss(student, teacher, label, temperature=temperature),
        "dkd": lambda: dkd_loss(student, teacher, label, temperature=temperature),
        "dist": lambda: dist_loss(student, teacher, temperature=temperature),
        "vanilla": lambda: vanilla_kd_loss(student, teacher, label),
    }[objective]()
    loss.backward()
    assert student.grad is not None
    return loss.item(), (-student.grad[0]).tolist()


def table_and_csv() -> tuple[list[list[str]], list[list[str]]]:
    table = BeautifulSoup(losses_html(), "html.parser").select(".lkd-table")[1]
    link = str(table.select("a")[0]["href"])
    rows = [[cell.get_text() for cell in row.select("td")] for row in table.select("tbody tr")]
    return rows, list(csv.reader(unquote(link).partition(",")[2].splitlines()))[1:]


def test_the_table_has_the_losses_and_pulls_of_every_example() -> None:
    rows, _ = table_and_csv()
    assert len(rows) == len(EXAMPLES) * len(METHODS)
    for row, (example, method) in zip(rows, product(EXAMPLES, METHODS), strict=True):
        loss, pull = loss_and_pull(method.objective, example)
        assert row[:2] == [example.name, method.title]
        assert [float(row[place]) for place in (2, 4, 5, 6)] == pytest.approx([loss, *pull], abs=5.1e-4)
        assert not any(cell == "-0.000" for cell in row)


def test_the_parts_in_the_csv_sum_to_the_loss() -> None:
    _, tidy = table_and_csv()
    for place, (example, method) in enumerate(product(EXAMPLES, METHODS)):
        parts = tidy[2 * place : 2 * place + 2]
        assert [part[:3] for part in parts] == [[example.name, method.title, term.title] for term in method.terms]
        loss, pull = loss_and_pull(method.objective, example)
        sums = [sum(float(part[column]) for part in parts) for column in range(3, 7)]
        assert sums == pytest.approx([loss, *pull], abs=1e-9)


def pulls(example: str, objective: str) -> dict[str, list[float]]:
    found = parts_of(
        next(method for method in METHODS if method.objective == objective),
        next(each for each in EXAMPLES if each.name == example),
    )
    return {name: [-slope for slope in part.gradient] for name, part in found.items()}


def test_the_examples_show_what_their_sentences_say() -> None:
    cat, dog = 0, 1
    assert all(
        pulls("A confident teacher", each)["kd"][dog] < 0 < pulls("A good teacher", each)["kd"][dog]
        for each in ("kd", "vanilla")
    )
    assert all(sum(part[dog] for part in pulls("A confident teacher", each).values()) > 0 for each in ("nkd", "dkd"))
    assert pulls("Dark knowledge", "dkd")["target"] == pytest.approx([0, 0, 0])
    assert sum(part[cat] for part in pulls("A wrong teacher", "kd").values()) > 0
    assert sum(part[cat] for part in pulls("A wrong teacher", "vanilla").values()) < 0
    assert pulls("A wrong teacher", "nkd")["target"][cat] < 0.1 * pulls("A good teacher", "nkd")["target"][cat]
    assert pulls("Equal logits", "nkd")["target"][cat] > 0.1
    assert all(part == pytest.approx([0, 0, 0]) for part in pulls("Equal logits", "dkd").values())
    for objective, term in (("kd", "kd"), ("dkd", "non_target"), ("dist", "inter")):
        assert pulls("Temperature 4", objective)[term][dog] > pulls("A good teacher", objective)[term][dog] > 0


# The page -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def opened(tmp_path: Path, browser: Browser) -> Iterator[Callable[..., Page]]:
    """Opens a page with nothing but the losses and their files; `complaints` are errors of its script."""
    path, complaints, contexts = tmp_path / "page.html", [], []
    files = STATIC.as_uri()
    head = f'<link rel="stylesheet" href="{files}/lkd.css"><script defer src="{files}/losses.js"></script>'
    path.write_text(f'<!doctype html><meta charset="utf-8">{head}{losses_html()}', "utf8")

    def open_page(address: str = "", width: int = 1280, scripts: bool = True) -> Page:
        contexts.append(browser.new_context(viewport={"width": width, "height": 800}, java_script_enabled=scripts))
        page = contexts[-1].new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(path.as_uri() + address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def shown(page: Page) -> dict[str, list[float]]:
    """The loss and the pulls that the page shows for each objective."""
    script = "boxes => boxes.map(box => [...box.querySelectorAll('[name=loss], [name=net]')].map(each => each.value))"
    texts = page.locator("[data-method]").evaluate_all(script)
    numbers = [[float(text.replace("−", "-")) for text in each] for each in texts]
    return {method.objective: each for method, each in zip(METHODS, numbers, strict=True)}


def expected(example: Example) -> dict[str, Any]:
    found = {method.objective: loss_and_pull(method.objective, example) for method in METHODS}
    return {name: pytest.approx([loss, *pull], abs=5.1e-4) for name, (loss, pull) in found.items()}


def test_examples_by_keys_show_the_losses_of_the_package(opened: Callable[..., Page]) -> None:
    page = opened()
    for example in EXAMPLES:
        button = page.get_by_role("button", name=example.name)
        button.focus()
        page.keyboard.press("Enter")
        assert button.get_attribute("aria-pressed") == "true"
        assert page.locator("button[aria-pressed=true]").count() == 1
        assert page.locator(".lkd-sentence").inner_text() == example.sentence
        assert shown(page) == expected(example)


def test_a_slider_moves_by_keys_and_all_that_follows_it(opened: Callable[..., Page]) -> None:
    page = opened()
    slider = page.get_by_role("group", name="dog").get_by_label("student")
    slider.focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    page.get_by_label("The image shows a").select_option("dog")
    moved = Example("", "", EXAMPLES[0].image._replace(student=(2, -0.5, 1), label=1))
    assert shown(page) == expected(moved)
    row = page.locator("[data-who=student]").nth(1)
    p = torch.tensor([2, -0.5, 1], dtype=torch.float64).softmax(0)[1].item()
    assert row.locator("output").all_inner_texts() == ["−0.5", f"{p:.3f}"]
    assert float(row.locator("rect").get_attribute("width").rstrip("%")) == pytest.approx(100 * p)
    assert page.locator("button[aria-pressed=true]").count() == 0
    assert page.locator(".lkd-sentence").inner_text().startswith("Your own example.")
    assert page.locator("p[role=status]").inner_text().startswith("Losses: KD ")


def test_a_link_restores_the_sliders_and_is_short_for_what_is_usual(opened: Callable[..., Page]) -> None:
    page = opened()
    page.get_by_role("button", name="Temperature 4").click()
    assert page.evaluate("location.hash") == "#temperature=4"
    beta = page.locator("[data-method=dkd]").get_by_label("β")
    beta.fill("0.5")
    beta.dispatch_event("change")
    address = page.evaluate("location.hash")
    assert address == "#temperature=4&dkd-beta=0.5"
    other = opened(address)
    assert shown(other) == shown(page) and other.get_by_label("temperature T").input_value() == "4"
    other.get_by_role("button", name="A good teacher").click()
    assert other.evaluate("location.hash") == ""


def test_an_address_cannot_break_the_page(opened: Callable[..., Page]) -> None:
    usual = shown(opened())
    assert shown(opened("#loss-of-kd")) == usual
    page = opened("#label=7&temperature=x&kd-alpha=&teacher-cat=1e9&nothing=1&dist-beta=NaN")
    assert page.get_by_label("The image shows a").input_value() == "0"
    assert page.get_by_role("group", name="cat").get_by_label("teacher").input_value() == "6"
    assert page.get_by_label("temperature T").input_value() == "1"


def test_without_scripts_formulas_and_tables_stand_there_and_nothing_that_does_not_work(
    opened: Callable[..., Page],
) -> None:
    page = opened(scripts=False)
    assert page.locator("input, select, button, output").filter(visible=True).count() == 0
    assert page.locator(".lkd-formula").filter(visible=True).count() == len(METHODS)
    assert page.locator(".lkd-table").nth(1).locator("tbody tr").filter(visible=True).count() == 30


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_overflows_or_jumps(opened: Callable[..., Page], width: int) -> None:
    page = opened(width=width)
    boxes = "boxes => boxes.map(box => Math.round(box.getBoundingClientRect().top))"
    parts = page.locator(".lkd-losses :is(section, fieldset, .lkd-value p, .lkd-pulls p, .lkd-data)")
    before = parts.evaluate_all(boxes)
    for example in EXAMPLES:
        page.get_by_role("button", name=example.name).click()
        assert parts.evaluate_all(boxes) == before
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    fits = "all => all.every(each => each.scrollWidth <= each.clientWidth + 1)"
    assert page.locator("form :is(p, .lkd-logit, .lkd-parameter)").evaluate_all(fits)


def luminance(colour: str) -> float:
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("scheme", GROUNDS)
def test_parts_have_the_contrast_of_text_and_the_two_of_a_loss_different_colours(
    opened: Callable[..., Page], scheme: str
) -> None:
    page = opened()
    page.evaluate("scheme => { document.documentElement.dataset.theme = scheme; }", scheme)
    to_hex = (
        "each => '#' + getComputedStyle(each).fill.match(/\\d+/g).map(c => (+c).toString(16).padStart(2, '0')).join('')"
    )
    for method in METHODS:
        bars = page.locator(f"[data-method={method.objective}] .lkd-shares rect").all()
        colours = [bar.evaluate(to_hex) for bar in bars]
        assert len(set(colours)) == 2
        for colour in colours:
            light, dark = sorted((luminance(colour), luminance(GROUNDS[scheme])), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (method.objective, colour)


def test_the_script_is_small_and_its_data_names_every_control() -> None:
    assert SCRIPT.stat().st_size < 12_000
    soup = BeautifulSoup(losses_html(), "html.parser")
    controls = {str(each["name"]) for each in soup.select("input, select")}
    data = json.loads(soup.select("script")[0].text)
    assert data["classes"] == list(CLASSES) and all(set(each["values"]) == controls for each in data["examples"])
    labelled = {str(label["for"]) for label in soup.select("label")}
    assert labelled == {str(each["id"]) for each in soup.select("input, select")}
