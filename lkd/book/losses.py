"""The directive `{losses}`: losses of an example with three classes; `losses.js` computes and draws them by sliders."""

from html import escape
from itertools import product
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from lkd.book.figure_output import script_json
from lkd.book.loss_examples import CLASSES, COMPANY, EXAMPLES, METHODS, Method, controls, parts_of
from lkd.book.sources import note_sources
from lkd.book.table_output import captioned, csv_link, html_table

_MARK = "lkd_losses"


class Losses(SphinxDirective):
    """The losses of logits with sliders, and tables of the examples."""

    def run(self) -> list[nodes.Node]:
        """The form that `losses.js` follows, and tables of all examples."""
        note_sources(self.env)
        self.env.metadata[self.env.docname][_MARK] = True
        return [nodes.raw("", losses_html(), format="html")]


def add_script(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Load `losses.js` on a page with the losses (handles `html-page-context`)."""
    if _MARK in app.env.metadata.get(pagename, {}):
        app.add_js_file("losses.js", loading_method="defer")


def losses_html() -> str:
    """The form, its data for `losses.js`, and tables of all examples."""
    data = {
        "classes": CLASSES,
        "others": [image._asdict() for image in COMPANY],
        "examples": [{"sentence": example.sentence, "values": controls(example)} for example in EXAMPLES],
    }
    return f"""
<div class="lkd-losses">
<script type="application/json">{script_json(data)}</script>
<form autocomplete="off">
<div class="lkd-example">{_choice()}{_logits()}</div>
<div class="lkd-methods">{"".join(map(_method, METHODS))}</div>
</form>
<p class="lkd-unseen" role="status"></p>
<details class="lkd-data"><summary>All examples as tables</summary>{_example_table()}{_loss_table()}</details>
</div>
"""


def _choice() -> str:
    """Buttons for the examples, the sentence on the present one, and the true class."""
    buttons = "".join(
        f'<button type="button" data-example="{place}" aria-pressed="false">{escape(example.name)}</button>'
        for place, example in enumerate(EXAMPLES)
    )
    options = "".join(f'<option value="{place}">{name}</option>' for place, name in enumerate(CLASSES))
    return (
        f'<div class="lkd-examples" role="group" aria-label="Examples">{buttons}</div>'
        f'<p class="lkd-sentence">{escape(EXAMPLES[0].sentence)}</p>'
        f'<p class="lkd-truth"><label for="loss-label">The image shows a</label> '
        f'<select id="loss-label" name="label">{options}</select></p>'
    )


def _logits() -> str:
    """For each class the logits of both networks as sliders, with their probabilities as bars; the temperature."""
    values = controls(EXAMPLES[0])
    boxes = [
        f"<fieldset><legend>{name}</legend>"
        + "".join(
            f'<div class="lkd-logit" data-who="{who}">'
            f"{_slider(f'{who}-{name}', who, (-6, 6, 0.1), values[f'{who}-{name}'])}"
            f'<svg aria-hidden="true"><rect width="0"/></svg>{_output("p")}</div>'
            for who in ("teacher", "student")
        )
        + "</fieldset>"
        for name in CLASSES
    ]
    temperature = _slider("temperature", "temperature T", (0.5, 10, 0.5), values["temperature"])
    heads = '<p class="lkd-heads" aria-hidden="true"><span>logit</span><span>probability at T</span></p>'
    return f'{heads}{"".join(boxes)}<div class="lkd-parameter">{temperature}</div>'


def _method(method: Method) -> str:
    """A loss: formula and meaning, value and parts, sliders, and its pull on the student's logits."""
    name, values = method.objective, controls(EXAMPLES[0])
    formula = " ".join(f'<span class="lkd-part-{term.name}">{term.formula}</span>' for term in method.terms)
    parts = "".join(
        f'<p class="lkd-part lkd-part-{term.name}"><span>{term.title}</span>{_output("part")}</p>'
        for term in method.terms
    )
    sliders = "".join(
        f'<div class="lkd-parameter lkd-part-{each.term}">'
        f"{_slider(key := f'{name}-{each.name}', each.letter, (0, each.most, each.step), values[key])}</div>"
        for each in method.sliders
    )
    return f"""
<section data-method="{name}" data-title="{method.title}" aria-labelledby="loss-of-{name}">
<h2 id="loss-of-{name}"><a href="methods.html#methods-{name}">{method.title}</a></h2>
<p class="lkd-formula">{formula}</p>
<p class="lkd-meaning">{method.sentence}</p>
<div class="lkd-value"><p class="lkd-part"><span>loss</span>{_output("loss")}</p>
<svg class="lkd-shares" aria-hidden="true">{_bars(method, "0", "0")}</svg>{parts}{sliders}</div>
<div class="lkd-pulls" role="group" aria-label="{method.title}: pull on the student's logits">
<p>pull on the student</p>{"".join(_pull(method, each) for each in CLASSES)}
<p class="lkd-axis" aria-hidden="true">{_output("low")}<span>0</span>{_output("high")}</p></div>
</section>"""


def _pull(method: Method, name: str) -> str:
    """The pull on the logit of a class: a bar for each part, a mark for their sum, and the sum as a number."""
    return (
        f'<p class="lkd-pull"><span>{name}</span><svg aria-hidden="true"><line x1="50%" x2="50%" y2="100%"/>'
        f'{_bars(method, "3", "9")}<rect class="lkd-net" width="2"/></svg>{_output("net")}</p>'
    )


def _bars(method: Method, *tops: str) -> str:
    """An empty bar for each part."""
    pairs = zip(method.terms, tops, strict=True)
    return "".join(f'<rect class="lkd-part-{term.name}" y="{top}" width="0"/>' for term, top in pairs)


def _slider(name: str, label: str, span: tuple[float, float, float], value: float) -> str:
    """A labelled slider and its value as text; `span` is its least and greatest value and its step."""
    least, most, step = span
    digits = len(f"{step:g}".partition(".")[2])
    return (
        f'<label for="loss-{name}">{label}</label><input type="range" id="loss-{name}" name="{name}" min="{least:g}" '
        f'max="{most:g}" step="{step:g}" value="{value:g}">'
        f'<output for="loss-{name}" aria-live="off">{value:.{digits}f}</output>'
    )


def _output(name: str) -> str:
    """A number that the script writes."""
    return f'<output name="{name}" aria-live="off">0.000</output>'


def _example_table() -> str:
    """The examples with their logits and probabilities."""
    import torch

    columns = ["example", "network", "temperature", *(f"logit of {name}" for name in CLASSES)]
    columns += [f"p of {name}" for name in CLASSES]
    rows = []
    for example in EXAMPLES:
        for who in ("teacher", "student"):
            logits = getattr(example.image, who)
            p = (torch.tensor(logits, dtype=torch.float64) / example.temperature).softmax(0).tolist()
            rows.append([example.name, who, example.temperature, *logits, *p])
    caption = f"The examples, with the probabilities p at their temperature. All images show a {CLASSES[0]}."
    return captioned(caption, html_table(columns, rows, 3) + csv_link(columns, rows, "loss-examples.csv"))


def _loss_table() -> str:
    """The losses of the examples with their parts and pulls; the CSV has the pull of each part."""
    pulled = [f"pull on {name}" for name in CLASSES]
    rows, tidy = [], []
    for example, method in product(EXAMPLES, METHODS):
        parts = parts_of(method, example)
        named = [(term.title, *parts[term.name]) for term in method.terms]
        pulls = {title: [0.0 - slope for slope in gradient] for title, _, gradient in named}
        net = [round(sum(each), 3) + 0.0 for each in zip(*pulls.values(), strict=True)]
        sums = " + ".join(f"{title} {value:.3f}" for title, value, _ in named)
        total = sum(value for _, value, _ in named)
        rows.append([example.name, method.title, total, sums, *net])
        tidy += [[example.name, method.title, title, value, *pulls[title]] for title, value, _ in named]
    caption = (
        "Losses of the examples with the default parameters, their parts, and their pull on the student's logits: the "
        "gradient with the opposite sign."
    )
    shown = html_table(["example", "method", "loss", "parts", *pulled], rows, 3)
    return captioned(caption, shown + csv_link(["example", "method", "part", "value", *pulled], tidy, "losses.csv"))
