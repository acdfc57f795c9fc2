"""Classes from folder names: find the class folders, order them, and compare them between splits."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from lkd.util.checks import some

Folders = tuple[str, ...]


def class_root(folders: Collection[Folders]) -> Folders:
    """The path of the innermost folder that contains all class folders; `()` for the top folder.

    Args:
        folders: folders that contain images, each as the names on its path.

    Example:
        >>> from lkd.data.classes import class_root
        >>> class_root([("images", "cat"), ("images", "dog")]), class_root([("cat",), ("dog",)])
        (('images',), ())
    """
    depth = 0
    while folders and all(len(one) > depth + 1 for one in folders) and len({one[depth] for one in folders}) == 1:
        depth += 1
    return next(iter(folders))[:depth] if folders else ()


def classes_by_folder(folders: Collection[Folders], place: str) -> dict[Folders, str]:
    """The class of each folder: the name of the first folder on its path below `wrapper`.

    Args:
        folders: folders that contain images.
        place: their location, for messages.

    Returns:
        Class name by folder, "" for images outside class folders.

    Raises:
        ValueError: no first-level folder contains an image directly, and all second-level names are unique: either
            level could be the classes.

    Example:
        >>> from lkd.data.classes import classes_by_folder
        >>> classes_by_folder([("cat", "indoor"), ("cat", "outdoor"), ("dog", "indoor")], "train").values()
        dict_values(['cat', 'cat', 'dog'])
    """
    depth = len(class_root(folders))
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
            f"{place} has no image in {some({name for names in above.values() for name in names})}, only in their "
            f"subfolders ({some(above)}), and either could be the classes: put the images of each class directly into "
            "a folder named after the class"
        )


def natural_key(name: str) -> list[int | str]:
    """timm's natural sort key, which compares numbers by value; unlike timm's own, it accepts digits such as "²".

    Example:
        >>> from lkd.data.classes import natural_key
        >>> natural_key("m² of 10")
        ['m² of ', 10, '']
    """
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name.lower())]


def ordered_classes(names: Iterable[str], place: str) -> dict[str, str]:
    """The classes in timm's order: numbers by value, letters without case, ties as text.

    Args:
        names: names of class folders.
        place: their location, for messages.

    Returns:
        Class name by folder name; class names are in Unicode's composed form (NFC).

    Raises:
        ValueError: two names with the same composed form.

    Example:
        >>> from lkd.data.classes import ordered_classes
        >>> list(ordered_classes(["10", "9", "Dog", "cat"], "train"))
        ['9', '10', 'cat', 'Dog']
    """
    classes: dict[str, str] = {}
    for name in sorted(names, key=lambda name: (natural_key(name), name)):
        composed = unicodedata.normalize("NFC", name)
        if composed in classes.values():
            raise ValueError(
                f"{place} has two folders {composed!r}, which differ only in the Unicode form of their names: move "
                "the images of one into the other"
            )
        classes[name] = composed
    return classes


def order_note(classes: Sequence[str]) -> str:
    """Describe how the order of classes differs from torchvision's; "" if it does not.

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


def check_same_classes(classes: Collection[str], other: Collection[str], place: str, other_place: str) -> None:
    """Raise a ValueError if a split has other classes than the training split.

    Args:
        classes: classes of the training split, located at `place`.
        other: classes of the other split, located at `other_place`.
    """
    missing, extra = set(classes) - set(other), set(other) - set(classes)
    if not missing and not extra:
        return
    differences = [f"{text} {some(names)}" for text, names in (("lacks", missing), ("adds", extra)) if names]
    similar = _similar(missing, extra)
    raise ValueError(
        f"{other_place} {' and '.join(differences)} compared with the classes of {place}: "
        + (f"{' and '.join(map(repr, similar))} may be the same class: " if similar else "")
        + "give all splits the same class folders, each with an image"
    )


def _similar(missing: Iterable[str], extra: Iterable[str]) -> tuple[str, str] | None:
    """Two names that differ only in case, diacritics or punctuation, if any."""
    letters = {_letters(name): name for name in sorted(missing)}
    pairs = ((letters[_letters(name)], name) for name in sorted(extra) if _letters(name) in letters)
    return next(pairs, None)


def _letters(name: str) -> str:
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKD", name).casefold()))
