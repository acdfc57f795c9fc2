"""Hostile archives of records are refused by name; nothing is written or executed."""

import io
import json
import pickle
import re
import stat
import struct
import tracemalloc
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from short_runs import RECIPE, saved

from lkd.runs import published as records
from lkd.runs.manifest import MANIFEST
from lkd.runs.published import publish, published_flops, unpacked
from lkd.runs.store import Store
from lkd.study.measure import measured
from lkd.util import archives
from lkd.util.archives import LARGEST_FILE, open_archive, path_within

ID, OTHER = RECIPE.run_id, "0123456789abcdef"
MEASURED = f"{ID}/measured/erf-44136fa3.npz"
REMEDY = r"take the file from the repository again|publish it again with this version of lkd"
Files = dict[str, bytes]


class Trap:
    """Its pickle creates a file when it is loaded."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def arrays(**values: Any) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **values)
    return file.getvalue()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """The files of an archive with one record."""
    folder = tmp_path_factory.mktemp("honest")
    run = saved(store := Store(folder / "store"))
    (run / "measured").mkdir()
    (run / MEASURED.partition("/")[2]).write_bytes(arrays(map=np.ones(2)))
    publish([RECIPE], store, folder / "smoke.zip", {"erf": 7})
    with zipfile.ZipFile(folder / "smoke.zip") as archive:
        return {name.replace("0/", f"{ID}/"): archive.read(name) for name in archive.namelist()}


@pytest.fixture(autouse=True)
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is written outside the folder of unpacked records."""
    monkeypatch.setenv("LKD_HOME", str(tmp_path / "deep" / "home"))
    yield
    written = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert all(re.match(r"[a-z]+\.zip|deep/home/published/[0-9a-f]{16}/(locks|runs)/", name) for name in written)


def digested(files: Files) -> Files:
    """The files of an archive with one run in batch 0, with its correct digest and sizes in the index."""
    record = {name.partition("/")[2]: content for name, content in files.items() if name.startswith(f"{ID}/")}
    sizes = {name: len(content) for name, content in record.items()}
    index = {ID: [0, records._record_digest(record), sizes]}
    return {**files, "index.json": json.dumps(index).encode()}


def zipped(files: Files, *more: tuple[zipfile.ZipInfo | str, bytes]) -> bytes:
    """An archive of files, with the run in batch 0."""
    file = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        warnings.simplefilter("ignore")  # of names that stand twice
        for name, content in [*files.items(), *more]:
            if isinstance(name, str):
                archive.writestr(name.replace(f"{ID}/", "0/"), content)
            else:
                archive.writestr(name, content)
    return file.getvalue()


def info(name: str, mode: int = 0, **said: int) -> zipfile.ZipInfo:
    about = zipfile.ZipInfo(name.replace(f"{ID}/", "0/"))
    about.external_attr = mode << 16
    for word, value in said.items():
        setattr(about, word, value)
    return about


def changed(name: str, content: bytes) -> Callable[[Files], bytes]:
    """An archive with correct digests and one changed file of the record."""
    return lambda files: zipped(digested({**files, f"{ID}/{name}": content}))


def without(name: str) -> Callable[[Files], bytes]:
    return lambda files: zipped(digested({each: files[each] for each in files if each != f"{ID}/{name}"}))


def added(name: str | zipfile.ZipInfo, content: bytes = b"x") -> Callable[[Files], bytes]:
    """An archive with one more file, included in the digests."""
    text = name if isinstance(name, str) else name.filename

    def made(files: Files) -> bytes:
        known = digested({**files, text: content})
        return zipped({each: known[each] for each in known if each != text}, (name, content))

    return made


def indexed(index: Any) -> Callable[[Files], bytes]:
    text = index if isinstance(index, bytes) else json.dumps(index).encode()
    return lambda files: zipped({**files, "index.json": text})


def entry(batch: Any = 0, digest: Any = None, run: str = ID, **sizes: Any) -> Callable[[Files], bytes]:
    """An archive with an altered entry of its run in the index; `sizes` of files by the name of their stem."""

    def made(files: Files) -> bytes:
        ((_, right, known),) = json.loads(digested(files)["index.json"]).values()
        known |= {f"{stem}.json": size for stem, size in sizes.items()}
        return indexed({run: [batch, digest or right, known]})(files)

    return made


def patched(before: bytes, after: bytes) -> Callable[[Files], bytes]:
    """All occurrences of some bytes in the finished archive are replaced."""

    def made(files: Files) -> bytes:
        content = zipped(files)
        assert before in content and len(before) == len(after)
        return content.replace(before, after)

    return made


def directory(offset: int, form: str, value: int) -> Callable[[Files], bytes]:
    """Another number in the first entry of the list of files."""

    def made(files: Files) -> bytes:
        content = bytearray(zipped(files))
        struct.pack_into(form, content, content.index(b"PK\x01\x02") + offset, value)
        return bytes(content)

    return made


def ending(offset: int, form: str, value: int) -> Callable[[Files], bytes]:
    """Another number in the end record of the archive."""

    def made(files: Files) -> bytes:
        content = bytearray(zipped(files))
        struct.pack_into(form, content, len(content) - 22 + offset, value)
        return bytes(content)

    return made


def together(files: Files) -> bytes:
    """Files of the maximum size."""
    content = bytearray(zipped({f"{ID}/measured/erf{n}-00000000.npz": b"x" for n in range(17)}))
    for found in re.finditer(b"PK\x01\x02", bytes(content)):
        struct.pack_into("<L", content, found.start() + 24, LARGEST_FILE)
    return bytes(content)


def many(files: Files) -> bytes:
    """More empty files than the list may have."""
    entry = (
        struct.pack("<4s6H3L5H2L", b"PK\x01\x02", *(20, 20, 0, 0, 0, 0), *(0, 0, 0), *(8, 0, 0, 0, 0), 0, 0) + b"a" * 8
    )
    listed = entry * 100_000
    return listed + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 65535, 65535, len(listed), 0, 0)


def recipe(**fields: Any) -> bytes:
    return json.dumps({**RECIPE.to_dict(), **fields}).encode()


def shape(**arguments: Any) -> bytes:
    return json.dumps({"in_chans": 1, "num_classes": 10, **arguments}).encode()


LINK, FIFO, FOLDER = stat.S_IFLNK | 0o777, stat.S_IFIFO | 0o644, stat.S_IFDIR | 0o755

HOSTILE: dict[str, Callable[[Files], bytes]] = {
    # Names
    "parent": added("../escaped.json"),
    "parent of a run": added(f"{ID}/../../../../escaped.py"),
    "parent within measured": added(f"{ID}/measured/../../../escaped-44136fa3.npz"),
    "absolute": added("/tmp/lkd-escaped"),
    "absolute within a run": added(f"{ID}//tmp/lkd-escaped"),
    "drive": added("C:/lkd-escaped.json"),
    "backslash": added(f"{ID}\\..\\..\\escaped.json"),
    "UNC": added("\\\\host\\share\\escaped.json"),
    "home": added("~/escaped"),
    "dot": added(f"{ID}/./recipe.json"),
    "line break": added(f"{ID}/recipe.json\n"),
    "NUL": patched(b"0/student.json", b"0/student\0json"),
    "wide slash": added(f"{ID}∕recipe.json"),
    "hidden character": added(f"{ID}/recipe.json\u200b"),
    "folder": added(f"{ID}/measured/"),
    "foreign file": added("setup.py"),
    "foreign file of a run": added(f"{ID}/student.safetensors"),
    "pickle": added(f"{ID}/objects.pt"),
    "other ending": added(f"{ID}/measured/erf-44136fa3.npy"),
    "id in capitals": added(f"{ID.upper()}x/recipe.json"),
    "short id": added("0123/recipe.json"),
    "long name": added("a" * 60_000),
    # Twice
    "twice": lambda files: zipped(files, ("index.json", files["index.json"])),
    "twice, otherwise": lambda files: zipped(files, (f"{ID}/recipe.json", b"{}")),
    "case twin": added(f"{ID}/Recipe.json"),
    "case twin of the id": lambda files: zipped(files, (f"{ID.upper()}/recipe.json", files[f"{ID}/recipe.json"])),
    # Special files
    "link": lambda files: zipped({**files}, (info(f"{ID}/measured/erf-00000000.npz", LINK), b"/etc/passwd")),
    "link in place of a file": lambda files: zipped(
        {name: files[name] for name in files if name != "flops.json"}, (info("flops.json", LINK), b"/etc/passwd")
    ),
    "pipe": added(info(MEASURED.replace("erf", "pipe"), FIFO)),
    "device": added(info(MEASURED.replace("erf", "device"), stat.S_IFCHR | 0o644)),
    "socket": added(info(MEASURED.replace("erf", "socket"), stat.S_IFSOCK | 0o644)),
    "folder by its mode": added(info(MEASURED.replace("erf", "folder"), FOLDER)),
    "folder by DOS": lambda files: directory(38, "<L", 0x10)(files),
    # Forms that are not read
    "encrypted": directory(8, "<H", 0x1),
    "strongly encrypted": directory(8, "<H", 0x41),
    "bzip2": directory(10, "<H", zipfile.ZIP_BZIP2),
    "LZMA": directory(10, "<H", zipfile.ZIP_LZMA),
    "unknown compression": directory(10, "<H", 99),
    "64-bit form": lambda files: (whole := zipped(files))[:-22] + b"PK\x06\x07" + b"\0" * 16 + whole[-22:],
    "comment": ending(20, "<H", 5),
    # Sizes
    "size announced": directory(24, "<L", LARGEST_FILE + 1),
    "size announced smaller": directory(24, "<L", 3),
    "size announced larger": directory(24, "<L", 60_000),
    "place elsewhere": directory(42, "<L", 2**31),
    "list of files elsewhere": ending(16, "<L", 2**31),
    "list of files larger": ending(12, "<L", 2**22 + 1),
    "list of files cut": ending(12, "<L", 40),
    "many files": many,
    "together too large": together,
    # The index
    "index of a list": indexed([ID]),
    "index of a number": indexed(7),
    "index of null": indexed(None),
    "index of numbers": indexed({ID: 7}),
    "index of objects": indexed({ID: {"digest": OTHER}}),
    "index of short entries": indexed({ID: [0, OTHER]}),
    "index with another digest": entry(digest=OTHER),
    "index with a digest that is a number": entry(digest=7),
    "index with a path": entry(run="../../x"),
    "index with another batch": entry(batch=1),
    "index with a negative batch": entry(batch=-1),
    "index with a batch that is a path": entry(batch="../0"),
    "index with a batch that is true": entry(batch=False),
    "index with a larger size": entry(metrics=10**9),
    "index with a smaller size": entry(metrics=1),
    "index with a negative size": entry(metrics=-1),
    "index with a size that is no whole number": entry(metrics=1.5),
    "index with a size that is null": entry(metrics=None),
    "index with a file that is not there": entry(notes=1),
    "index with a run that is not there": lambda files: indexed(
        {**json.loads(digested(files)["index.json"]), OTHER: [0, OTHER, {"metrics.json": 0}]}
    )(files),
    "index with sizes that are a list": indexed({ID: [0, OTHER, [1, 2]]}),
    "index without the run": indexed({}),
    "index in depth": indexed(b"[" * 100_000),
    "index of a pickle": indexed(pickle.dumps({ID: [0, OTHER, {}]})),
    "index of no text": indexed(b"\xff\xfe\xfa"),
    "no index": lambda files: zipped({name: files[name] for name in files if name != "index.json"}),
    "no files": lambda files: zipped({}),
    # The record
    "no recipe": without("recipe.json"),
    "no figures": without("metrics.json"),
    "other recipe": changed("recipe.json", recipe(lr=1.0)),
    "recipe of a list": changed("recipe.json", b"[]"),
    "recipe of a number": changed("recipe.json", b"3"),
    "recipe in depth": changed("recipe.json", b'{"teacher":' * 20_000),
    "recipe with another field": changed("recipe.json", recipe(command="rm")),
    "recipe of an unknown network": changed("recipe.json", recipe(student="nothing")),
    "recipe of the hub": changed("recipe.json", recipe(student="hf-hub:me/net")),
    "recipe with a file of weights": changed("recipe.json", recipe(student_args={"checkpoint_path": "/tmp/x.pt"})),
    "recipe of a pickle": changed("recipe.json", pickle.dumps({"data": "digits"})),
    "student with a file of weights": changed("student.json", shape(checkpoint_path="x.pt")),
    "student with weights of the hub": changed("student.json", shape(pretrained=True)),
    "student of too many classes": changed("student.json", shape(num_classes=10**9)),
    "student of a list": changed("student.json", b"[]"),
    "measurement that is no archive": changed(MEASURED.partition("/")[2], b"no archive"),
    "measurement of a pickle": changed(MEASURED.partition("/")[2], pickle.dumps([1])),
    "measurement with a foreign file": changed(MEASURED.partition("/")[2], zipped({"x.py": b"x"})),
    "measurement that is a bomb": changed(MEASURED.partition("/")[2], zipped({"x.npy": bytes(LARGEST_FILE + 1)})),
    # Other files
    "nothing": lambda files: b"",
    "text": lambda files: b"no archive",
    "tar": lambda files: b"recipe.json" + bytes(600),
    "gzip": lambda files: zlib.compress(b"x" * 1000, wbits=31),
    "an end alone": lambda files: b"PK\x05\x06" + bytes(18),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_is_refused_by_name_and_nothing_is_written(name: str, files: Files, tmp_path: Path) -> None:
    path = tmp_path / "smoke.zip"
    path.write_bytes(HOSTILE[name](files))
    with pytest.raises((ValueError, OSError), match=rf"{re.escape(str(path))}.*({REMEDY})"):
        unpacked(path)
    assert not list(tmp_path.rglob("runs"))


def test_an_honest_archive_is_read(files: Files, tmp_path: Path) -> None:
    path = tmp_path / "smoke.zip"
    path.write_bytes(zipped(digested(files)))
    run = unpacked(path).find(RECIPE)
    assert run is not None and run.metrics == {"test_top1": 9.5}
    assert {file.relative_to(run.path).as_posix() for file in run.path.rglob("*") if file.is_file()} == {
        MANIFEST,
        *(name.partition("/")[2] for name in files if name.startswith(ID)),
    }


def test_an_archive_that_is_cut_anywhere_is_refused(files: Files, tmp_path: Path) -> None:
    whole, path = zipped(digested(files)), tmp_path / "smoke.zip"
    for length in {0, 1, 21, 22, len(whole) - 1, *range(0, len(whole), len(whole) // 60)} - {len(whole)}:
        path.write_bytes(whole[:length])
        with pytest.raises((ValueError, OSError), match=REMEDY):
            unpacked(path)
    assert not list(tmp_path.rglob("runs"))


def test_an_archive_with_a_changed_byte_is_refused_or_holds_the_same(files: Files, tmp_path: Path) -> None:
    whole, path = zipped(digested(files)), tmp_path / "smoke.zip"
    for place in range(0, len(whole), len(whole) // 120):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        try:
            folder = unpacked(path).folder / "runs"
        except (ValueError, OSError) as error:
            assert re.search(REMEDY, str(error)), place
            continue
        assert all((folder / name).read_bytes() == files[name] for name in files if "/" in name), place


@pytest.mark.parametrize("announced", [LARGEST_FILE + 1, 10])
def test_a_bomb_is_refused_before_it_is_inflated(announced: int, tmp_path: Path) -> None:
    bomb = io.BytesIO(zipped({"index.json": bytes(4 * LARGEST_FILE)}))
    struct.pack_into("<L", bomb.getbuffer(), bomb.getvalue().index(b"PK\x01\x02") + 24, announced)
    tracemalloc.start()
    try:
        with (
            pytest.raises(ValueError, match="are allowed")
            if announced > LARGEST_FILE
            else pytest.raises(zipfile.BadZipFile)
        ):
            with open_archive(bomb, re.compile("index[.]json")) as archive:
                archive.read("index.json")
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("flops", ["[]", '{"erf": "7"}', '{"erf": -1}', '{"erf": 1e400}', '{"erf": {}}', "{"])
def test_operations_that_are_no_numbers_are_refused(
    flops: str, files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "FOLDER", tmp_path)
    (tmp_path / "smoke.zip").write_bytes(zipped({**files, "flops.json": flops.encode()}))
    with pytest.raises(ValueError, match=REMEDY):
        published_flops("smoke")


def test_a_measurement_that_is_a_pickle_is_not_executed(files: Files, tmp_path: Path) -> None:
    sly = arrays(map=np.array([Trap(tmp_path / "sprung")], dtype=object))
    (tmp_path / "smoke.zip").write_bytes(zipped(digested({**files, MEASURED: sly})))
    run = unpacked(tmp_path / "smoke.zip").find(RECIPE)
    assert run is not None
    with pytest.raises(ValueError, match=r"erf-44136fa3.npz is damaged or no measurement \(Object arrays"):
        measured(run, "erf", lambda run: pytest.fail("it was measured"))
    assert not (tmp_path / "sprung").exists()


def test_an_unreadable_archive_is_not_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(store := Store(tmp_path / "deep" / "home" / "published" / OTHER))
    monkeypatch.setattr(archives, "LARGEST_FILE", 100)
    with pytest.raises(
        ValueError, match=r"smoke.zip is not written, .*: '.*recipe.json' has \d+ bytes, at most 100 are allowed"
    ):
        publish([RECIPE], store, tmp_path / "smoke.zip")
    assert not (tmp_path / "smoke.zip").exists()


# Unpacked records -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "alter",
    [
        lambda run: (run / "metrics.json").write_text('{"test_top1": 99.9}'),
        lambda run: (run / "history.csv").unlink(),
        lambda run: (run / "history.csv").write_bytes((run / "history.csv").read_bytes()[:9]),
        lambda run: next((run / "measured").iterdir()).write_bytes(b""),
        lambda run: (run / "measured" / "cost-44136fa3.npz").write_bytes(arrays(x=1)),
        lambda run: (run / "measured" / "other.npz").write_bytes(b""),
        lambda run: run.rename(run.with_name(OTHER)),
    ],
    ids=["figures", "no history", "history cut", "empty measurement", "measurement more", "strange file", "moved"],
)
def test_an_unpacked_record_that_was_altered_is_unpacked_again(
    alter: Callable[[Path], Any], files: Files, tmp_path: Path
) -> None:
    path = tmp_path / "smoke.zip"
    path.write_bytes(zipped(digested(files)))
    run = unpacked(path).path(RECIPE)
    alter(run)
    assert unpacked(path).path(RECIPE) == run
    there = (file for file in run.rglob("*") if file.is_file() and file.name != MANIFEST)
    found = {file.relative_to(run.parent).as_posix(): file.read_bytes() for file in there}
    assert found == {name: content for name, content in files.items() if "/" in name}


def test_a_record_is_not_written_through_a_link(files: Files, tmp_path: Path) -> None:
    path = tmp_path / "smoke.zip"
    path.write_bytes(zipped(digested(files)))
    run = unpacked(path).path(RECIPE)
    run.rename(run.with_name(OTHER))
    (tmp_path / "elsewhere").mkdir()
    run.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=r"links to .*elsewhere, outside its folder: remove"):
        unpacked(path)
    with pytest.raises(ValueError, match="outside its folder"):
        path_within(tmp_path / "elsewhere", "../x")
