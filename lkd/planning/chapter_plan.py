"""The plan of a chapter of the book."""

from collections.abc import Iterator, Sequence
from typing import Any

from lkd.planning.report import Plan
from lkd.planning.studies import plan
from lkd.robustness import SETS
from lkd.study import Study, check_changed_images
from lkd.study.chapters import CHAPTERS, studies_of
from lkd.util.checks import unknown

_BESIDES = "The page itself comes on top: a kernel is started and figures are drawn, which takes some seconds."
_MEASURED = "So does what is measured on the trained models: effective receptive field, or errors on changed images."


def plan_chapter(
    chapter: str,
    profile: str = "small",
    *,
    parameters: dict[str, Any] | None = None,
    **how: Any,
) -> Plan:
    """Say what a chapter takes before it is run.

    Args:
        chapter: its name.
        profile: the scale.
        parameters: the chapter's own, as `lkd run` takes them: teachers, students, objectives, seeds, ...
        how: as for `plan`.

    Raises:
        KeyError, TypeError, ValueError: an unknown chapter, profile or model, or a parameter that makes no sense.

    Example:
        >>> from lkd.planning import plan_chapter
        >>> found = plan_chapter("longer_training", "smoke", parameters={"seeds": [0]}, measure=None)
        >>> found.counts["distilled"], found.missing
        (6, ())
    """
    given = dict(parameters or {})
    if chapter not in CHAPTERS:
        raise KeyError(unknown("chapter", chapter, CHAPTERS))
    if not CHAPTERS[chapter].studies:
        raise ValueError(f"chapter {chapter!r} asks no study of a profile: there is nothing to plan")
    if given.pop("published", False):
        raise ValueError("published is True: published runs are shown, nothing is trained and there is nothing to plan")
    images = {name: given.pop(name) for name in ("imagenet", "sets") if name in given}
    workers = given.pop("workers", None)
    studies = studies_of(chapter, profile, **given)
    return plan(
        *(study.recipes for study in studies),
        title=f"{chapter}, profile {profile}",
        workers=workers,
        missing=list(_changed_images(studies[0], **images)) if chapter == "robustness" else [],
        notes=[_BESIDES, *([_MEASURED] if CHAPTERS[chapter].measured else [])],
        **how,
    )


def _changed_images(study: Study, imagenet: str | None = None, sets: Sequence[str] = tuple(SETS)) -> Iterator[str]:
    """The first of the changed images that robustness is measured on that is not at hand."""
    try:
        check_changed_images(study, imagenet, sets)
    except (FileNotFoundError, ValueError) as error:
        yield str(error)
