"""Teachers from the files that the papers' authors released, each file known again by its checksum."""

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import NamedTuple

import timm
import yaml
from torch import nn

from lkd.models import load_checkpoint
from lkd.util.checks import unknown
from lkd.util.files import home, read_json, replacing, sha256
from lkd.util.locks import lock_at
from lkd.util.waiting import held

_FILE = Path(__file__).parents[1] / "paper" / "files.yaml"
_KNOWN = "authors_files.json"


class AuthorsFile(NamedTuple):
    """A released file of weights, as far as the sources at hand state it; None is not stated.

    Args:
        model: the network, by its name for `timm.create_model`.
        file: what it is called.
        url: of the file, or of the page that gives it.
        where: in words.
        source: where this was read.
    """

    model: str
    file: str | None
    url: str | None
    where: str
    source: str

    @property
    def remedy(self) -> str:
        """How to get it."""
        return f"get {self.file or 'it'} from {self.url or self.where + ' (its address is not stated in the sources)'}"


@cache
def authors_files() -> Mapping[str, AuthorsFile]:
    """The released files by the names that `authors_teacher` takes.

    Example:
        >>> from lkd.models.released import authors_files
        >>> authors_files()["l2s_convnext_tiny"].model
        'convnext_bn_tiny'
    """
    return {name: AuthorsFile(**about) for name, about in yaml.safe_load(_FILE.read_text()).items()}


def authors_teacher(name: str, path: str | os.PathLike[str]) -> nn.Module:
    """The network of a released file, with its weights, in eval mode: a teacher for `lkd.distill`.

    The sources state no checksums. That of the file is written down when it is first read, in `authors_files.json` of
    lkd's home, and another file under the same name is refused from then on.

    Args:
        name: a key of `authors_files`.
        path: of the file, as you have downloaded it; nothing in it is executed.

    Raises:
        KeyError: an unknown name, with the nearest known one.
        FileNotFoundError: there is no such file; says where to get it.
        ValueError: another file than before, or one that is damaged or of another network.

    Example:
        >>> from lkd.models.released import authors_teacher
        >>> authors_teacher("vanillakd_resnet50", "nowhere.pth")
        Traceback (most recent call last):
        FileNotFoundError: no file nowhere.pth: get resnet50-83.078.pth from https://github.com/Hao840/vanillaKD/releases/download/checkpoint/resnet50-83.078.pth
    """
    if name not in authors_files():
        raise KeyError(unknown("file of the authors", name, authors_files()))
    about, path = authors_files()[name], Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}: {about.remedy}")
    entry = {
        "sha256": sha256(path),
        "file": str(path.resolve()),
        "first_used": datetime.now(UTC).date().isoformat(),
    }
    book = home() / _KNOWN
    with held(lock_at(Path(f"{book}.lock")), f"checks {name}"):
        known = read_json(book, "remove it: teachers' files are then known anew") if book.exists() else {}
        first = known.get(name, entry)
        if first["sha256"] != entry["sha256"]:
            raise ValueError(
                f"{path} is not the file that was first used as {name} ({first['file']}, on {first['first_used']}): "
                f"its SHA-256 is {entry['sha256']}, that one's {first['sha256']}. If it is damaged, {about.remedy}; "
                f"if the authors replaced theirs, remove {name} from {book}"
            )
        model: nn.Module = load_checkpoint(timm.create_model(about.model), path).eval()
        if first is entry:
            with replacing(book) as temporary:
                temporary.write_text(json.dumps({**known, name: entry}, indent=1))
    return model
