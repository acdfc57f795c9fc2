"""The files of profiles: where they lie, and what each says over what it extends."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from lkd.runs.public_names import profile_name
from lkd.util.checks import unknown
from lkd.util.values import Loader

PROFILES = {path.stem: path for path in sorted(Path(__file__).parent.glob("*.yaml"))}
"""The files of the profiles that come with lkd, by name."""

Texts = tuple[tuple[Path, str], ...]
"""A profile's file with its text, and those that it extends, one after the other."""

_EXTENDS = "extends"


def find(profile: str, folder: Path | None = None) -> Path:
    """The file of a profile.

    Args:
        profile: a name in `PROFILES`, or the path of a YAML file.
        folder: from which the path leads there; by default the working directory.

    Raises:
        FileNotFoundError: no such file.
        KeyError: an unknown name, with the nearest there is.
        TypeError: no text.
    """
    name = profile_name(profile)
    if profile in PROFILES:
        return PROFILES[profile]
    if name == profile:
        raise KeyError(f"{unknown('profile', profile, PROFILES)}, and files that end in .yaml")
    path = (folder or Path.cwd()) / Path(profile).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}, which profile {profile!r} names")
    return path.resolve()


def texts(path: Path, above: tuple[Path, ...] = ()) -> Texts:
    """A profile's file, and those that it extends in turn.

    Args:
        path: the file.
        above: those that have led to it.

    Raises:
        OSError: a file that cannot be read.
        ValueError: a file that is no YAML, extends what is not there, or itself in the end; names file and line.
    """
    if path in above:
        circle = " extends ".join(each.name for each in (*above[above.index(path) :], path))
        raise ValueError(f"{above[-1]}: extends: it goes in a circle, {circle}")
    try:
        text = path.read_text("utf8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8, so no YAML: {error.reason}") from error
    except OSError as error:
        raise OSError(f"{path} cannot be read ({error.strerror}): give a profile that can be") from error
    values = _parsed(path, text)
    if _EXTENDS not in values:
        return ((path, text),)
    try:
        base = find(values[_EXTENDS], path.parent)
    except (FileNotFoundError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: extends: {error.args[0]}") from error
    return ((path, text), *texts(base, (*above, path)))


def own_values(path: Path, text: str) -> dict[str, Any]:
    """What a file says itself."""
    return {key: value for key, value in _parsed(path, text).items() if key != _EXTENDS}


def over(base: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """One mapping over another; mappings within them likewise, and None over a mapping or list takes it away.

    Example:
        >>> from lkd.profiles.reading import over
        >>> over({"a": {"x": 1, "y": 2}, "b": [3]}, {"a": {"y": 4}, "b": None})
        {'a': {'x': 1, 'y': 4}}
    """
    merged = {**base, **values}
    for key, value in values.items():
        if value is None and isinstance(base.get(key), Mapping | list):
            del merged[key]
        elif isinstance(value, Mapping) and isinstance(base.get(key), Mapping):
            merged[key] = over(base[key], value)
    return merged


@cache
def _parsed(path: Path, text: str) -> Mapping[str, Any]:
    try:
        values = yaml.load(text, Loader)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ValueError(f"{path}{line}: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} must map keys to values, as in `extends: small`, it holds {values!r}")
    return values
