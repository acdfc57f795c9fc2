"""One-line summary of a data set and of its ignored files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lkd.data.folders import RULES
from lkd.data.protocol import DataSet


@dataclass(frozen=True)
class Account:
    """Origin of the splits of a data set, and its ignored files and folders.

    Args:
        sources: origin of the images by split, where it differs from the split's name.
        ignored: names of ignored files and folders, by key of `lkd.data.folders.RULES`.
        notes: remarks, for example on how the classes were found.
    """

    sources: Mapping[str, str] = field(default_factory=dict)
    ignored: Mapping[str, Sequence[str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def accounted(data: DataSet) -> str:
    """Summarise a data set and its ignored files in one line, without decoding an image.

    Example:
        >>> from lkd.data import accounted, load
        >>> accounted(load("digits"))
        'digits: 10 classes; train 1,297, val 250, test 250 images'
    """
    account = getattr(data, "account", Account())
    sources = {name: f" ({source})" for name, source in account.sources.items()}
    counts = ", ".join(f"{name} {len(split):,}{sources.get(name, '')}" for name, split in data.splits.items())
    parts = [f"{data.name}: {len(data.classes):,} classes", f"{counts} images", *account.notes]
    if ignored := [_ignored(rule, account.ignored[rule]) for rule in RULES if account.ignored.get(rule)]:
        parts.append(f"ignored: {', '.join(ignored)}")
    return "; ".join(parts)


def _ignored(rule: str, names: Sequence[str]) -> str:
    count = f"{len(names):,} {RULES[rule]}"
    return count if rule in ("hidden", "system") else f"{count} ({_examples(names)})"


def _examples(names: Sequence[str]) -> str:
    return ", ".join([*map(repr, sorted(names)[:2]), *(["..."] if len(names) > 2 else [])])
