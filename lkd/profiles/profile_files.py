"""Files of profiles: lookup, parsing and merging."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from lkd.runs.public_names import profile_name
from lkd.util.checks import unknown
from lkd.util.values import Loader

PROFILES = {path.stem: path for path in sorted(Path(__file__).parent.glob("*.yaml"))}
"""Files of the built-in profiles, by name."""

Texts = tuple[tuple[Path, str], ...]
"""Path and text of a profile's own file, then of the files that it extends."""

_EXTENDS = "extends"


def find_profile(profile: str, folder: Path | None = None) -> Path:
    """Find the file of a profile.

    Args:
        profile: a name in `PROFILES`, or the path of a YAML file.
        folder: base of a relative path; by default the working directory.

    Raises:
        FileNotFoundError: a missing file.
        KeyError: an unknown name, with the nearest known one.
        TypeError: not a string.
    """
    name = profile_name(profile)
    if profile in PROFILES:
        return PROFILES[profile]
    if name == profile:
        raise KeyError(f"{unknown('profile', profile, PROFILES)}, and files that end in .yaml")
    path = (folder or Path.cwd()) / Path(profile).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"profile {profile!r}: there is no file {path}")
    return path.resolve()


def read_files(path: Path, above: tuple[Path, ...] = ()) -> Texts:
    """Read a profile's file and all files that it extends.

    Args:
        above: files that extend it, to detect circles.

    Raises:
        OSError: an unreadable file.
        ValueError: invalid YAML, a missing base profile, or a circle; the message names file and line.
    """
    if path in above:
        circle = " extends ".join(each.name for each in (*above[above.index(path) :], path))
        raise ValueError(f"{above[-1]}: extends: there is a circle, {circle}")
    try:
        text = path.read_text("utf8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: {error.reason}") from error
    except OSError as error:
        raise OSError(f"{path} cannot be read ({error.strerror}): check its permissions") from error
    values = _parsed(path, text)
    if _EXTENDS not in values:
        return ((path, text),)
    try:
        base = find_profile(values[_EXTENDS], path.parent)
    except (FileNotFoundError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: extends: {error.args[0]}") from error
    return ((path, text), *read_files(base, (*above, path)))


def own_values(path: Path, text: str) -> dict[str, Any]:
    """Values of a file itself, without the profile that it extends."""
    return {key: value for key, value in _parsed(path, text).items() if key != _EXTENDS}


def merge(base: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Merge nested mappings, with precedence for `values`; None removes a mapping or list of `base`.

    Example:
        >>> from lkd.profiles.profile_files import merge
        >>> merge({"a": {"x": 1, "y": 2}, "b": [3]}, {"a": {"y": 4}, "b": None})
        {'a': {'x': 1, 'y': 4}}
    """
    merged = {**base, **values}
    for key, value in values.items():
        if value is None and isinstance(base.get(key), Mapping | list):
            del merged[key]
        elif isinstance(value, Mapping) and isinstance(base.get(key), Mapping):
            merged[key] = merge(base[key], value)
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
        raise ValueError(f"{path} must map keys to values, as in `extends: small`, got {values!r}")
    return values
