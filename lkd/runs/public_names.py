"""Names for publication, without the paths of this machine."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from lkd.util.checks import some

if TYPE_CHECKING:
    from lkd.runs.store import Run

_PREFIX = r"((?:folder|tar|hfds|wds|local-dir|file):(?://(?=/))?)?"
_FAR = r"~[\w.-]*[\\/]|[A-Za-z]:[\\/]|\\\\|\.\.[\\/]"
"""Start of a path from a home, a drive, a network share, or the parent folder."""

_CHARACTER = r"[^\s\"'`<>|()\[\],;]"
"""A character of a path within other text."""

_WHOLE = re.compile(rf"{_PREFIX}((?:{_FAR}|/(?!/)).*)", re.DOTALL)
_QUOTED = re.compile(rf"(?<=[\"']){_PREFIX}((?:{_FAR}|/(?!/))[^\"'\n]*)(?=[\"'])")
_WITHIN = re.compile(rf"(?<![\w.:/\\~<-]){_PREFIX}((?:{_FAR}|/(?!/)(?={_CHARACTER}*/)){_CHARACTER}*)")

_DISCLOSED = ("data", "classes", "students", "teachers", "damaged files", "machines")


def public(value: Any, root: str | Path = "") -> Any:
    """A copy of a value for publication: paths on this machine are reduced to their last name.

    Args:
        value: strings, numbers, and mappings and lists of them.
        root: a folder; paths inside it become relative to it.

    Example:
        >>> from lkd.runs.public_names import public
        >>> public({"data": "folder:/home/me/clients/pets", "epochs": 3, "note": "see ~/notes/a.txt"})
        {'data': 'folder:pets', 'epochs': 3, 'note': 'see a.txt'}
        >>> public(["/data/pets/train/cat/1.png", "https://example.org/a/b"], root="/data/pets")
        ['train/cat/1.png', 'https://example.org/a/b']
    """
    if isinstance(value, Mapping):
        return {public(name, root): public(each, root) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [public(each, root) for each in value]
    return _text(str(value), str(root)) if isinstance(value, str | PurePath) else value


def called(names: Iterable[str]) -> dict[str, str]:
    """Public names by name; names that become equal are numbered.

    Example:
        >>> from lkd.runs.public_names import called
        >>> called(["mini_slak", "/home/me/a/net", "/home/me/b/net"])
        {'mini_slak': 'mini_slak', '/home/me/a/net': 'net', '/home/me/b/net': 'net (2)'}
    """
    found: dict[str, str] = {}
    for name in names:
        alike = sum(public(name) == public(other) for other in found if other != name)
        found[name] = f"{public(name)} ({alike + 1})" if alike else public(name)
    return found


def disclosed_names(runs: Iterable["Run"]) -> dict[str, str]:
    """The names that published runs show, by kind: data, classes, networks, damaged files and machines."""
    names: dict[str, set[str]] = {kind: set() for kind in _DISCLOSED}
    for run in runs:
        recipe, origin = run.recipe, run.provenance
        names["data"].add(recipe.data)
        names["classes"].update((origin.get("data") or {}).get("classes", ()))
        names["students"].add(recipe.student)
        names["teachers"].update(filter(None, [recipe.teacher_name]))
        names["damaged files"].update(origin.get("damaged_files", ()))
        names["machines"].update(filter(None, [origin.get("hardware")]))
    return {kind: some(set(public(list(each)))) for kind, each in names.items() if each}


def _text(text: str, root: str) -> str:
    if whole := _WHOLE.fullmatch(text):
        return (whole[1] or "") + _shortened(whole[2], root)
    for form in (_QUOTED, _WITHIN):
        text = form.sub(lambda found: (found[1] or "") + _shortened(found[2], root), text)
    return text


def _shortened(path: str, root: str) -> str:
    """A path relative to the root, or its last name if it is outside."""
    if root and path.startswith(f"{root.rstrip('/')}/"):
        return path[len(root.rstrip("/")) + 1 :]
    return re.split(r"[\\/]", path.rstrip("\\/"))[-1] or path


def profile_name(profile: str) -> str:
    """The name of a profile, from its name or the path of its YAML file.

    Raises:
        TypeError: not a string.

    Example:
        >>> from lkd.runs.public_names import profile_name
        >>> profile_name("small"), profile_name("scales/mine.yaml")
        ('small', 'mine')
    """
    if not isinstance(profile, str):
        raise TypeError(f"profile must be a name or the path of a YAML file, got {profile!r}")
    return Path(profile).stem if profile.endswith((".yaml", ".yml")) else profile
