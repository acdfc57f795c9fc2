"""Classes by the names of folders: which folder names the class, in which order, and the same in every split."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from lkd.util.checks import some

Folders = tuple[str, ...]


def wrapper(folders: Collection[Folders]) -> Folders:
    """The folders that hold all class folders: those on the way to every image, before the one that names its class.

    Args:
        folders: those that hold images, each by the names that lead to it.

    Example:
        >>> from lkd.data.classes import wrapper
        >>> wrapper([("images", "cat"), ("images", "dog")]), wrapper([("cat",), ("dog",)])
        (('images',), ())
    """
    depth = 0
    while folders and all(len(one) > depth + 1 for one in folders) and len({one[depth] for one in folders}) == 1:
        depth += 1
    return next(iter(folders))[:depth] if folders else ()


def named(folders: Collection[Folders], place: str) -> dict[Folders, str]:
    """The class of the images of each folder: the name of the first folder on the way to them, below `wrapper`.

    Args:
        folders: those that hold images.
        place: where they lie, for people.

    Returns:
        "" for images that lie outside class folders.

    Raises:
        ValueError: no folder of the first level holds an image itself, and those of the second level all have names of
            their own: either could be the classes.

    Example:
        >>> from lkd.data.classes import named
        >>> named([("cat", "indoor"), ("cat", "outdoor"), ("dog", "indoor")], "train").values()
        dict_values(['cat', 'cat', 'dog'])
    """
    depth = len(wrapper(folders))
    _check_levels([one[depth:] for one in folders], place)
    return {one: one[depth] if len(one) > depth else "" for one in folders}


def _check_levels(folders: Iterable[Folders], place: str) -> None:
    above = defaultdict(set)
    for one in folders:
        if len(one) < 2:
            return
        above[one[-1]].add(one[0])
    if above and all(len(names) == 1 for names in above.values()):
        raise ValueError(
            f"{place} has no image in {some({name for names in above.values() for name in names})}, but in folders of "
            f"these ({some(above)}), and either could be the classes: put the images of each class directly into a "
            "folder named for it"
        )


def natural_key(name: str) -> list[int | str]:
    """timm's key of this name, which sorts numbers in names by value; timm's own fails on digits such as "²".

    Example:
        >>> from lkd.data.classes import natural_key
        >>> natural_key("m² of 10")
        ['m² of ', 10, '']
    """
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name.lower())]


def ordered(names: Iterable[str], place: str) -> dict[str, str]:
    """The classes in timm's order: numbers in names by value, letters without case, names of one rank as text.

    Args:
        names: of class folders.
        place: where they lie, for people.

    Returns:
        By the name of the folder, that of the class: the same in Unicode's composed form (NFC).

    Raises:
        ValueError: two names that are one in this form.

    Example:
        >>> from lkd.data.classes import ordered
        >>> list(ordered(["10", "9", "Dog", "cat"], "train"))
        ['9', '10', 'cat', 'Dog']
    """
    classes: dict[str, str] = {}
    for name in sorted(names, key=lambda name: (natural_key(name), name)):
        composed = unicodedata.normalize("NFC", name)
        if composed in classes.values():
            raise ValueError(
                f"{place} has two folders {composed!r}, which differ in the Unicode form of their names alone: move "
                "the images of one into the other"
            )
        classes[name] = composed
    return classes


def order_note(classes: Sequence[str]) -> str:
    """How the order of classes differs from that of torchvision; "" where it does not.

    Example:
        >>> from lkd.data.classes import order_note
        >>> order_note(["1", "2", "10"]), order_note(["cat", "dog"])
        ("class order: by value (1, 2, 10); torchvision's ImageFolder sorts as text (1, 10, 2)", '')
    """
    if list(classes) == (text := sorted(classes)):
        return ""
    kinds: dict[str, Callable[[str], Any]] = {"without case": str.lower, "by value": natural_key}
    kind = next(
        (kind for kind, key in kinds.items() if sorted(text, key=key) == list(classes)), "by decomposed letters"
    )
    return f"class order: {kind} ({_shown(classes)}); torchvision's ImageFolder sorts as text ({_shown(text)})"


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names if len(names) < 6 else [*names[:3], "...", names[-1]])


def check_same(classes: Collection[str], other: Collection[str], place: str, other_place: str) -> None:
    """Refuse a split whose classes differ from those of the training split.

    Args:
        classes: of the training split, which lies at `place`.
        other: of the other split, which lies at `other_place`.

    Raises:
        ValueError: classes that are in one of them only; names those that differ in case or in marks.
    """
    lacking, extra = set(classes) - set(other), set(other) - set(classes)
    if not lacking and not extra:
        return
    differences = [f"{text} {some(names)}" for text, names in (("lacks", lacking), ("adds", extra)) if names]
    alike = _alike(lacking, extra)
    raise ValueError(
        f"{other_place} {' and '.join(differences)} compared with the classes of {place}: "
        + (f"{' and '.join(map(repr, alike))} may be one class: " if alike else "")
        + "give all splits the same class folders, each with an image"
    )


def _alike(lacking: Iterable[str], extra: Iterable[str]) -> tuple[str, str] | None:
    """Two names that have the same letters and digits."""
    letters = {_letters(name): name for name in sorted(lacking)}
    pairs = ((letters[_letters(name)], name) for name in sorted(extra) if _letters(name) in letters)
    return next(pairs, None)


def _letters(name: str) -> str:
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKD", name).casefold()))
