"""The examples and losses of the directive `{losses}`, and their values by `lkd.objectives`."""

import inspect
from typing import NamedTuple

CLASSES = ("cat", "dog", "car")


class Image(NamedTuple):
    """Logits of teacher and student for an image, and its true class as an index."""

    teacher: tuple[float, ...]
    student: tuple[float, ...]
    label: int


class Example(NamedTuple):
    """An image and a temperature, and a sentence on its lesson."""

    name: str
    sentence: str
    image: Image
    temperature: float = 1


COMPANY = (Image((1, 4, -2), (0.5, 1.5, 0), 1), Image((-1, -2, 4), (0, -0.5, 1), 2))
"""The other images of the batch that DIST needs."""

_STUDENT = (2, -1, 1)

EXAMPLES = (
    Example(
        "A good teacher",
        "The teacher knows the cat, and that it resembles a dog more than a car. The student is less sure, and sees a "
        "car before a dog.",
        Image((4, 2, -2), _STUDENT, 0),
    ),
    Example(
        "A confident teacher",
        "The teacher is so sure of the cat that the teacher part of KD and vanilla KD pulls the dog down too. In NKD "
        "and DKD the non-target part still pulls it up.",
        Image((6, 1, -3), _STUDENT, 0),
    ),
    Example(
        "Dark knowledge",
        "The student is as sure of the cat as the teacher, but mixes up dog and car. DKD's target part is 0: what is "
        "left to learn lies in the other classes.",
        Image((4, 2, -2), (4, -2, 2), 0),
    ),
    Example(
        "A wrong teacher",
        "The teacher takes the cat for a dog. With α = 0.1 in KD the label wins, in vanilla KD the teacher. NKD's "
        "target part nearly vanishes.",
        Image((1, 4, -2), _STUDENT, 0),
    ),
    Example(
        "Temperature 4",
        "The first example at T = 4: unlikely classes count for more, and the factor T² keeps the pull of KD and DKD "
        "from shrinking. DIST's grows.",
        Image((4, 2, -2), _STUDENT, 0),
        temperature=4,
    ),
    Example(
        "Equal logits",
        "The student equals the teacher. DKD is 0. NKD is not, as it is a cross-entropy, and its target part still "
        "pulls, as do the label parts of KD and vanilla KD.",
        Image((4, 2, -2), (4, 2, -2), 0),
    ),
)


class Slider(NamedTuple):
    """A parameter of an objective with the range of its slider, from 0, and the one term that it weighs, if so."""

    name: str
    letter: str
    most: float
    step: float
    term: str = ""


class Term(NamedTuple):
    """A part of a loss: the objective's name for it, the page's, and its formula as HTML."""

    name: str
    title: str
    formula: str


class Method(NamedTuple):
    """An objective by its name in recipes, with its two parts, a sentence on their meaning as HTML, and its sliders."""

    objective: str
    title: str
    terms: tuple[Term, Term]
    sentence: str
    sliders: tuple[Slider, ...] = ()


METHODS = (
    Method(
        "kd",
        "KD",
        (
            Term("kd", "teacher", "αT² KL(p<sub>t</sub><sup>T</sup> ‖ p<sub>s</sub><sup>T</sup>)"),
            Term("label", "label", "+ (1 − α) CE(z<sub>s</sub>, y)"),
        ),
        "The teacher part moves the student's softened distribution to the teacher's; the label part raises the true "
        "class.",
        (Slider("alpha", "α", 1, 0.05),),
    ),
    Method(
        "nkd",
        "NKD",
        (
            Term("target", "target", "− p<sub>t,y</sub> log p<sub>s,y</sub>"),
            Term("non_target", "non-target", "− γT² Σ<sub>i≠y</sub> N<sub>t,i</sub> log N<sub>s,i</sub>"),
        ),
        "The target part raises the true class, as far as the teacher believes in it; the non-target part gives the "
        "other classes the teacher's proportions.",
        (Slider("gamma", "γ", 4, 0.1, "non_target"),),
    ),
    Method(
        "dkd",
        "DKD",
        (
            Term("target", "target", "αT² KL(b<sub>t</sub> ‖ b<sub>s</sub>)"),
            Term("non_target", "non-target", "+ βT² KL(N<sub>t</sub> ‖ N<sub>s</sub>)"),
        ),
        "The target part (TCKD) makes the student as sure of the true class as the teacher; the non-target part (NCKD) "
        "pulls as NKD's. KD has both, but weighs the second by 1 − p<sub>t,y</sub><sup>T</sup>"
        '<span class="lkd-live"> = <output name="rest" aria-live="off">0.000</output></span>.',
        (Slider("alpha", "α", 4, 0.1, "target"), Slider("beta", "β", 8, 0.1, "non_target")),
    ),
    Method(
        "dist",
        "DIST",
        (
            Term("inter", "over classes", "βT² (1 − mean ρ<sub>classes</sub>)"),
            Term("intra", "over images", "+ γT² (1 − mean ρ<sub>images</sub>)"),
        ),
        "The first part correlates both networks over the classes of each image, the second over the images of each "
        "class. Two more images, a dog and a car with fixed logits, complete the batch.",
        (Slider("beta", "β", 4, 0.1, "inter"), Slider("gamma", "γ", 4, 0.1, "intra")),
    ),
    Method(
        "vanilla",
        "Vanilla KD",
        (
            Term("kd", "teacher", "KL(p<sub>t</sub> ‖ p<sub>s</sub>)"),
            Term("label", "label", "+ BCE(z<sub>s</sub>, y)"),
        ),
        "The teacher part is KD's with T = 1 and α = 1; the label part is a binary cross-entropy for each class.",
    ),
)


def controls(example: Example) -> dict[str, float]:
    """Values of all controls of the page by name: the example's, and the objectives' default parameters."""
    from lkd.objectives import OBJECTIVES

    image = example.image
    values: dict[str, float] = {"label": image.label, "temperature": example.temperature}
    for who, logits in (("teacher", image.teacher), ("student", image.student)):
        values |= {f"{who}-{name}": z for name, z in zip(CLASSES, logits, strict=True)}
    for method in METHODS:
        known = inspect.signature(OBJECTIVES[method.objective]).parameters
        values |= {f"{method.objective}-{each.name}": known[each.name].default for each in method.sliders}
    return values


class Part(NamedTuple):
    """The value of a term, and its gradient with respect to the student's logits of the first image."""

    value: float
    gradient: list[float]


def parts_of(method: Method, example: Example) -> dict[str, Part]:
    """The terms of a loss for an example at its temperature, with the other parameters at their defaults.

    DKD and DIST are without the label loss that recipes add.

    Example:
        >>> from lkd.book.loss_examples import EXAMPLES, METHODS, parts_of
        >>> {name: round(part.value, 3) for name, part in parts_of(METHODS[0], EXAMPLES[0]).items()}
        {'kd': 0.033, 'label': 0.314}
    """
    import torch

    from lkd.objectives import OBJECTIVES, Outputs

    kind = OBJECTIVES[method.objective]
    own = {"temperature": example.temperature, "label": 0.0}
    objective = kind(**{name: own[name] for name in kind.hyperparameters() if name in own})
    batch = [example.image, *(COMPANY if method.objective == "dist" else ())]
    student = torch.tensor([image.student for image in batch], dtype=torch.float64, requires_grad=True)
    teacher = torch.tensor([image.teacher for image in batch], dtype=torch.float64)
    target = torch.tensor([image.label for image in batch])
    terms = objective.terms(Outputs(student), Outputs(teacher), target)
    return {
        name: Part(term.item(), torch.autograd.grad(term, student, retain_graph=True)[0][0].tolist())
        for name, term in terms.items()
    }
