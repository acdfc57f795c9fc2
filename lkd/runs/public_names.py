"""What leaves this machine: names, without the folders that lead to them here."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from lkd.util.checks import some

if TYPE_CHECKING:
    from lkd.runs.store import Run

_PREFIX = r"((?:folder|tar|hfds|wds|local-dir|file):(?://(?=/))?)?"
_FAR = r"~[\w.-]*[\\/]|[A-Za-z]:[\\/]|\\\\|\.\.[\\/]"
"""How a path begins from a home, a drive, a share, or the folder above."""

_CHARACTER = r"[^\s\"'`<>|()\[\],;]"
"""Of a path that stands among other words."""

_WHOLE = re.compile(rf"{_PREFIX}((?:{_FAR}|/(?!/)).*)", re.DOTALL)
_QUOTED = re.compile(rf"(?<=[\"']){_PREFIX}((?:{_FAR}|/(?!/))[^\"'\n]*)(?=[\"'])")
_WITHIN = re.compile(rf"(?<![\w.:/\\~<-]){_PREFIX}((?:{_FAR}|/(?!/)(?={_CHARACTER}*/)){_CHARACTER}*)")

_SEEN = ("data", "classes", "students", "teachers", "damaged files", "machines")


def public(value: Any, root: str | Path = "") -> Any:
    """A plain value as others may see it: paths that lead through folders of this machine, by their last name.

    Args:
        value: texts, numbers, and mappings and lists of them.
        root: a folder; paths within it are given from there on.

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
    """Names as others may see them, by themselves; those that become alike are numbered.

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


def seen(runs: Iterable["Run"]) -> dict[str, str]:
    """What others will see of runs that are given away, by kind: names of data, classes and networks, and the machine.

    Args:
        runs: which.
    """
    names: dict[str, set[str]] = {kind: set() for kind in _SEEN}
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
    """A path from a folder on, if it lies there, or else its last name."""
    if root and path.startswith(f"{root.rstrip('/')}/"):
        return path[len(root.rstrip("/")) + 1 :]
    return re.split(r"[\\/]", path.rstrip("\\/"))[-1] or path


def profile_name(profile: str) -> str:
    """The name of a profile, given its name or the path of its YAML file.

    Raises:
        TypeError: no text.

    Example:
        >>> from lkd.runs.public_names import profile_name
        >>> profile_name("small"), profile_name("scales/mine.yaml")
        ('small', 'mine')
    """
    if not isinstance(profile, str):
        raise TypeError(f"profile must be a name or the path of a YAML file, got {profile!r}")
    return Path(profile).stem if profile.endswith((".yaml", ".yml")) else profile
