"""Teachers from the papers' released weight files."""

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
    """A released weight file, as the sources describe it; None if not stated.

    Args:
        model: name of the network for `timm.create_model`.
        file: file name.
        url: address of the file or its download page.
        where: description of the location.
        source: where the file is documented.
    """

    model: str
    file: str | None
    url: str | None
    where: str
    source: str

    @property
    def remedy(self) -> str:
        """How to get the file."""
        return f"get {self.file or 'it'} from {self.url or self.where + ' (its address is not in the sources)'}"


@cache
def authors_files() -> Mapping[str, AuthorsFile]:
    """The released files, by their names for `authors_teacher`.

    Example:
        >>> from lkd.models.released import authors_files
        >>> authors_files()["l2s_convnext_tiny"].model
        'convnext_bn_tiny'
    """
    return {name: AuthorsFile(**about) for name, about in yaml.safe_load(_FILE.read_text()).items()}


def authors_teacher(name: str, path: str | os.PathLike[str]) -> nn.Module:
    """Load the network of a released file in eval mode, as a teacher for `lkd.distill`.

    The sources state no checksums. The first use of a file records its checksum in `authors_files.json` of lkd's home;
    later, another file under the same name is refused.

    Args:
        name: a key of `authors_files`.
        path: path of the downloaded file; nothing in it is executed.

    Raises:
        KeyError: an unknown name, with the nearest known one.
        FileNotFoundError: the file is missing; the message states where to get it.
        ValueError: another file than at first use, a damaged file, or one of another network.

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
    register = home() / _KNOWN
    with held(lock_at(Path(f"{register}.lock")), f"checks {name}"):
        known = read_json(register, "remove it: checksums are then recorded again") if register.exists() else {}
        first = known.get(name, entry)
        if first["sha256"] != entry["sha256"]:
            raise ValueError(
                f"{path} is not the file that was first used as {name} ({first['file']}, on {first['first_used']}): "
                f"its SHA-256 is {entry['sha256']}, not {first['sha256']}. If it is damaged, {about.remedy}; "
                f"if the authors replaced their file, remove {name} from {register}"
            )
        model: nn.Module = load_checkpoint(timm.create_model(about.model), path).eval()
        if first is entry:
            with replacing(register) as temporary:
                temporary.write_text(json.dumps({**known, name: entry}, indent=1))
    return model
