"""Each file and folder of a data set is read, ignored with a note in the summary, or raises an error."""

import gzip
import io
import os
import shutil
import socket
import tarfile
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lkd.data import accounted, load
from lkd.data.hugging_face import _columns
from lkd.data.image_files import DamagedImage

CLASSES = ("ant", "bee")
NFC, NFD = (unicodedata.normalize(form, "Bär") for form in ("NFC", "NFD"))


def paint(path: Path, level: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (level,) * 3).save(path)


def fill(folder: Path, *classes: str, count: int = 2, ending: str = "png") -> None:
    for label in classes:
        for number in range(count):
            paint(folder / label / f"{number}.{ending}", number)


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    for split in ("train", "val", "test"):
        fill(tmp_path / "pets" / split, *CLASSES)
    return tmp_path / "pets"


def account_of(folder: Path, scheme: str = "folder") -> str:
    return accounted(load(f"{scheme}:{folder}")).removeprefix(f"{scheme}:{folder}: ")


# Reading ------------------------------------------------------------------------------------------------------------


def test_the_account_of_plain_folders_is_their_counts(pets: Path) -> None:
    assert account_of(pets) == "2 classes; train 4, val 4, test 4 images"
    shutil.rmtree(pets / "test")
    assert account_of(pets) == "2 classes; train 3, val 1 (held out of train), test 4 (from val) images"


@pytest.mark.parametrize("ending", ["webp", "bmp", "TIF", "tiff", "gif", "ppm", "JPG", "jp2"])
def test_a_class_of_any_kind_that_pillow_reads_counts(pets: Path, ending: str) -> None:
    for split in ("train", "val", "test"):
        fill(pets / split, "cow", count=1, ending=ending)
    data = load(f"folder:{pets}", image_size=8)
    assert data.classes == ("ant", "bee", "cow")
    assert len(next(data.batches(data.val, torch.arange(5), 5))[0]) == 5


def test_folders_below_a_class_folder_are_of_its_class(pets: Path) -> None:
    for split in ("train", "val", "test"):
        shutil.rmtree(pets / split)
        for label in ("cat", "dog"):
            fill(pets / split / label, "indoor", "outdoor", count=1)
    data = load(f"folder:{pets}")
    assert data.classes == ("cat", "dog") and data.val.labels.tolist() == [0, 0, 1, 1]
    assert "images below a class folder count for it (4 of train, 4 of val, 4 of test)" in accounted(data)


def test_class_folders_in_one_folder_are_found_and_that_is_said(pets: Path) -> None:
    (pets / "train").rename(pets / "images")
    (pets / "train").mkdir()
    (pets / "images").rename(pets / "train" / "images")
    assert load(f"folder:{pets}").classes == CLASSES
    assert account_of(pets).endswith("; the classes are the folders of train/images")


def test_links_to_images_and_class_folders_are_followed(pets: Path, tmp_path: Path) -> None:
    (pets / "train" / "bee").rename(tmp_path / "elsewhere")
    (pets / "train" / "bee").symlink_to(tmp_path / "elsewhere")
    (pets / "train" / "ant" / "0.png").rename(tmp_path / "one.png")
    (pets / "train" / "ant" / "0.png").symlink_to(tmp_path / "one.png")
    assert account_of(pets) == "2 classes; train 4, val 4, test 4 images"


def test_a_class_in_two_unicode_forms_is_one(pets: Path) -> None:
    for split, label in (("train", NFC), ("val", NFD), ("test", NFC)):
        fill(pets / split, label, "Bz")
    data = load(f"folder:{pets}")
    assert set(data.classes) == {*CLASSES, NFC, "Bz"}
    for split in data.splits.values():
        named = [split.listing.name(int(index)).split("/")[-2] for index in split.indices]
        assert [unicodedata.normalize("NFC", name) for name in named] == [data.classes[label] for label in split.labels]


@pytest.mark.parametrize(
    ("train", "val", "test"), [("Train", "VAL", "Test"), ("training", "valid", "testing"), ("TRAIN", "dev", "test")]
)
def test_splits_may_have_other_names(pets: Path, train: str, val: str, test: str) -> None:
    for name, other in (("train", train), ("val", val), ("test", test)):
        (pets / name).rename(pets / other)
    data = load(f"folder:{pets}")
    assert [Path(split.listing.place).name for split in data.splits.values()] == [train, val, test]
    assert f"val 4 (from {val})" in accounted(data) or val == "VAL"


def test_a_link_to_a_split_is_no_second_candidate(pets: Path) -> None:
    (pets / "validation").symlink_to("val")
    assert account_of(pets) == "2 classes; train 4, val 4, test 4 images"


def test_a_changed_folder_is_listed_again(pets: Path) -> None:
    before = load(f"folder:{pets}")
    paint(pets / "train" / "ant" / "9.png")
    assert len(load(f"folder:{pets}").train) == len(before.train) + 1
    (pets / "train" / "ant" / "9.png").unlink()
    assert len(load(f"folder:{pets}").train) == len(before.train)


def test_an_order_that_torchvision_does_not_give_is_said(tmp_path: Path) -> None:
    for split in ("train", "val"):
        fill(tmp_path / split, *map(str, range(1, 13)), count=1)
    expected = "class order: by value (1, 2, 3, ..., 12); torchvision's ImageFolder sorts as text (1, 10, 11, ..., 9)"
    assert account_of(tmp_path).endswith(expected)


# Ignored files ------------------------------------------------------------------------------------------------------


def test_what_a_rule_leaves_aside_is_counted(pets: Path) -> None:
    shutil.copytree(pets / "train" / "ant", pets / "train" / ".ipynb_checkpoints")
    shutil.copytree(pets / "train" / "ant", pets / "train" / "__MACOSX")
    fill(pets / "train" / "bee", "@eaDir")
    (pets / "val" / ".DS_Store").touch()
    (pets / "val" / "ant" / "Thumbs.db").touch()
    (pets / "val" / "ant" / "._0.png").touch()
    (pets / "val" / "ant" / "boxes.xml").touch()
    (pets / "LICENSE").touch()
    fill(pets / "extra", "cat")
    assert account_of(pets) == (
        "2 classes; train 4, val 4, test 4 images; ignored: 3 hidden, 3 of the operating system, 1 of other types "
        "('val/ant/boxes.xml'), 2 outside the splits ('LICENSE', 'extra')"
    )


def test_links_to_folders_above_multiply_nothing(pets: Path) -> None:
    (pets / "train" / "ant" / "back").symlink_to("..")
    (pets / "train" / "all").symlink_to(pets)
    (pets / "train" / "bee" / "self").symlink_to(".")
    expected = (
        "train 4, val 4, test 4 images; ignored: 3 linking to a parent folder ('train/all', 'train/ant/back', ...)"
    )
    assert account_of(pets).endswith(expected)


def test_test_images_without_labels_are_accounted_for(pets: Path) -> None:
    for path in (pets / "test").glob("*/*"):
        path.rename(pets / "test" / f"{path.parent.name}{path.name}")
    assert "; the 4 images of test have no labels: not used" in account_of(pets)


def test_test_images_in_one_folder_that_is_no_class_have_no_labels(pets: Path) -> None:
    shutil.rmtree(pets / "test")
    fill(pets / "test", "images", count=3)
    assert account_of(pets) == (
        "2 classes; train 3, val 1 (held out of train), test 4 (from val) images; the 3 images of test have no labels: "
        "not used"
    )


# Errors -------------------------------------------------------------------------------------------------------------


def bound(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server, pytest.MonkeyPatch.context() as patch:
        patch.chdir(path.parent)
        server.bind(path.name)


def levels(pets: Path) -> None:
    for split in ("train", "val", "test"):
        shutil.rmtree(pets / split)
        fill(pets / split / "animal", "cat", "dog")
        fill(pets / split / "vehicle", "bus", "car")


def flat(pets: Path) -> None:
    for path in list((pets / "val").glob("*/*")):
        path.rename(pets / "val" / f"{path.parent.name}{path.name}")


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "an empty class": (lambda pets: (pets / "train" / "emu").mkdir(), r"train has no image in 'emu': add images of"),
    "an empty class of val": (
        lambda pets: [path.unlink() for path in (pets / "val" / "ant").iterdir()],
        r"val has no image in 'ant'",
    ),
    "a kind that Pillow does not read": (
        lambda pets: (pets / "train" / "ant" / "7.HEIC").touch(),
        r"ant/7\.HEIC has a format that Pillow cannot read \(\.heic\): convert it",
    ),
    "an image without an ending": (
        lambda pets: (pets / "train" / "ant" / "0.png").rename(pets / "train" / "ant" / "photo"),
        r"ant/photo is an image \(PNG\) without a matching extension: rename or remove it",
    ),
    "two levels of classes": (levels, r"no image in 'animal', 'vehicle', only in their subfolders \('bus', .* either"),
    "a broken link": (
        lambda pets: (pets / "train" / "ant" / "7.png").symlink_to("gone.png"),
        r"ant/7\.png is a link to gone\.png, which does not exist: fix or remove",
    ),
    "a link to itself": (lambda pets: (pets / "train" / "cow").symlink_to("cow"), "train/cow is a link to cow, which"),
    "a broken split": (
        lambda pets: [shutil.rmtree(pets / "val"), (pets / "val").symlink_to("gone")],
        "val is a link to gone, which does not exist",
    ),
    "one folder twice": (
        lambda pets: (pets / "train" / "ant" / "more").symlink_to("../bee"),
        r"train/(bee|ant/more) and .* are the same folder, and its images would count twice: remove the link",
    ),
    "a FIFO": (lambda pets: os.mkfifo(pets / "train" / "ant" / "7.png"), r"ant/7\.png is a FIFO, which cannot be read"),
    "a socket": (lambda pets: bound(pets / "train" / "socket"), "train/socket is a socket, which cannot be read"),
    "a device": (
        lambda pets: (pets / "train" / "ant" / "zero.png").symlink_to("/dev/zero"),
        r"ant/zero\.png is a device, which cannot be read",
    ),
    "a link to a FIFO outside": (
        lambda pets: [os.mkfifo(pets / "pipe"), (pets / "train" / "ant" / "7.png").symlink_to("../../pipe")],
        r"ant/7\.png is a FIFO",
    ),
    "a FIFO for a split": (lambda pets: [shutil.rmtree(pets / "val"), os.mkfifo(pets / "val")], "val is a FIFO"),
    "a link to all devices": (
        lambda pets: (pets / "train" / "ant" / "all").symlink_to("/dev"),
        r"ant/all/\w+ is a (FIFO|socket|device)",
    ),
    "folders without end": (
        lambda pets: (pets / "train" / "ant" / "/".join("d" * 150)).mkdir(parents=True),
        r"d/d is nested in more than 100 folders: move it up",
    ),
    "two forms of one name": (
        lambda pets: fill(pets / "train", NFC, NFD),
        "train has two folders 'Bär', which differ only in the Unicode form of their names: move",
    ),
    "another case": (
        lambda pets: (pets / "val" / "ant").rename(pets / "val" / "Ant"),
        "val lacks 'ant' and adds 'Ant' .* 'ant' and 'Ant' may be the same class: give all splits the same",
    ),
    "two validation splits": (
        lambda pets: shutil.copytree(pets / "val", pets / "validation"),
        "has 'val', 'validation', and each could be the val split: keep one",
    ),
    "a split of an unknown name": (
        lambda pets: (pets / "train").rename(pets / "learn"),
        "has no train/: it needs train/ .*; it has 'learn'",
    ),
    "no labels in val": (flat, r"val/ant0\.png is outside class folders: put each image"),
    "one class": (lambda pets: shutil.rmtree(pets / "train" / "ant"), "train has only one class, 'bee'"),
    "a name of another encoding": (
        lambda pets: shutil.copytree(pets / "train" / "ant", os.fsdecode(os.fsencode(pets / "train") + b"/B\xe4r")),
        r"B\\udce4r/.\.png' is not valid UTF-8: rename it",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_is_refused_by_name(pets: Path, case: str) -> None:
    spoil, message = REFUSED[case]
    spoil(pets)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        load(f"folder:{pets}")


def test_a_file_that_becomes_a_fifo_is_not_waited_for(pets: Path) -> None:
    data = load(f"folder:{pets}")
    path = Path(data.train.listing.name(0))
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ValueError, match="is a FIFO, which cannot be read"):
        data.train.listing.image(0)


def test_an_image_file_that_would_fill_the_memory_is_damaged(pets: Path) -> None:
    data = load(f"folder:{pets}")
    os.truncate(data.train.listing.name(0), 1 << 36)
    with pytest.raises(DamagedImage, match="its file has 68,719,476,736 bytes, more than any image"):
        data.train.listing.image(0)


def test_a_folder_that_cannot_be_listed_is_named(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = os.scandir

    def denied(path: str) -> object:
        if str(path).endswith("train/bee"):
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(OSError, match=r"train/bee cannot be listed \(Permission denied\): change its permissions"):
        load(f"folder:{pets}")


@pytest.mark.parametrize("link", [os.link, lambda source, target: target.symlink_to(source)], ids=["hard", "symbolic"])
def test_one_file_in_two_splits_is_warned_about(pets: Path, link: Callable[[Path, Path], object]) -> None:
    link(pets / "train" / "ant" / "0.png", pets / "val" / "ant" / "7.png")
    with pytest.warns(UserWarning, match=r"val has 1 of the files of .*train as well \('ant/7\.png'\), .*remove them"):
        load(f"folder:{pets}")


@pytest.mark.parametrize("link", [os.link, lambda source, target: target.symlink_to(source)], ids=["hard", "symbolic"])
def test_one_file_under_two_classes_is_warned_about(pets: Path, link: Callable[[Path, Path], object]) -> None:
    link(pets / "train" / "ant" / "0.png", pets / "train" / "bee" / "7.png")
    told = r"train has 1 of its files twice, 'ant/0\.png' \(class 'ant'\) and 'bee/7\.png' \(class 'bee'\) for example"
    with pytest.warns(UserWarning, match=told):
        load(f"folder:{pets}")


# Tar files ----------------------------------------------------------------------------------------------------------

Packed = dict[str, bytes | tarfile.TarInfo]


def image(level: int = 0) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (level,) * 3).save(file, "PNG")
    return file.getvalue()


def other(kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo()
    info.type, info.linkname = kind, target
    return info


def packed(members: Packed) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, member in members.items():
            info = member if isinstance(member, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.name, content = name, member if isinstance(member, bytes) else b""
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


PLAIN: Packed = {f"{label}/{number}.png": image(10 * number) for label in CLASSES for number in range(2)}


@pytest.fixture
def tars(tmp_path: Path) -> Path:
    for split in ("train", "val", "test"):
        (tmp_path / f"{split}.tar").write_bytes(packed(PLAIN))
    return tmp_path


def levels_of(folder: Path) -> list[tuple[int, str]]:
    """Brightness and class of each training image."""
    data = load(f"tar:{folder}")
    images = (data.train.listing.image(int(index)) for index in data.train.indices)
    labels = (data.classes[label] for label in data.train.labels)
    return [(int(np.asarray(one).max()), label) for one, label in zip(images, labels, strict=True)]


@pytest.mark.filterwarnings("ignore:.* of its files twice")
def test_members_of_a_tar_file_are_accounted_for(tars: Path) -> None:
    more: Packed = {
        "ant/queens/7.png": image(70), "ant/8.png": other(tarfile.SYMTYPE, "../bee/1.png"),
        "ant/9.png": other(tarfile.LNKTYPE, "ant/8.png"), "./bee/0.png": image(50), "ant/._0.png": b"",
        ".git/a.png": b"", ".git/b.png": b"", "__MACOSX/ant/0.png": b"", "notes.txt": b"",
    }  # fmt: skip
    (tars / "train.tar").write_bytes(packed(PLAIN | more))
    assert account_of(tars, "tar") == (
        "2 classes; train 7, val 4, test 4 images; images below a class folder count for it (1 of train.tar); "
        "ignored: 2 hidden, 1 of the operating system, 1 of other types ('train.tar/notes.txt'), 1 replaced later in "
        "the tar file ('train.tar/bee/0.png')"
    )
    expected = [(50, "bee"), *zip((0, 10, 10, 10, 70), ["ant"] * 5, strict=True), (10, "bee")]
    assert levels_of(tars) == expected


def test_tar_files_in_a_tar_file_name_classes(tars: Path) -> None:
    inner: Packed = {f"{label}.tar": packed({"0.png": image(9), "1.png": image(8)}) for label in CLASSES}
    (tars / "train.tar").write_bytes(packed(inner))
    assert levels_of(tars) == [(9, "ant"), (8, "ant"), (9, "bee"), (8, "bee")]
    assert load(f"tar:{tars}").train.listing.name(0) == str(tars / "train.tar" / "ant.tar" / "0.png")


@pytest.mark.parametrize("label", ["000000.cls", "000000.json"])
@pytest.mark.parametrize("folder", ["train", "val"])
def test_shards_of_webdataset_are_refused(tars: Path, folder: str, label: str) -> None:
    (tars / f"{folder}.tar").unlink()
    (tars / folder).mkdir()
    for shard in ("shard-000000.tar", "shard-000001.tar"):
        (tars / folder / shard).write_bytes(packed({"000000.png": image(), label: b"0"}))
    told = rf"shard-00000[01]\.tar has '{label}' next to '000000\.png', like a shard of WebDataset: .*unpack them"
    with pytest.raises(ValueError, match=told):
        load(f"tar:{tars}")


def test_a_changed_tar_file_is_listed_again(tars: Path) -> None:
    assert len(load(f"tar:{tars}").train) == 4
    (tars / "train.tar").write_bytes(packed(PLAIN | {"ant/7.png": image()}))
    assert len(load(f"tar:{tars}").train) == 5


def boasting(name: str, kind: bytes = tarfile.REGTYPE) -> bytes:
    """The header of a member with an alleged size of 32 GiB."""
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, 1 << 35
    return info.tobuf(tarfile.GNU_FORMAT)


def nested(levels: int) -> bytes:
    """A tar file nested in `levels` others."""
    return packed({"x.tar": nested(levels - 1)}) if levels else packed(PLAIN)


def sparse() -> bytes:
    """A tar file with a member that is marked as sparse but is not."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("ant/7.png")
        info.size = 4
        info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9"}
        tar.addfile(info, io.BytesIO(b"abcd"))
    return file.getvalue()


ONE_MEMBER = 1024
"""Bytes of a header and one block of content."""

BROKEN: dict[str, tuple[Callable[[], bytes], str]] = {
    "cut in a member": (lambda: packed(PLAIN)[:1600], "train.tar is damaged or no plain tar file"),
    "cut between members": (lambda: packed(PLAIN)[:2048], "damaged at byte 2,048"),
    "damaged": (
        lambda: packed(PLAIN)[:1024] + b"?" * 4096,
        "train.tar is truncated, .* at byte 1,024: copy or",
    ),
    "a header of zeros": (
        lambda: packed(PLAIN)[:ONE_MEMBER] + bytes(512) + packed(PLAIN)[ONE_MEMBER + 512 :],
        "damaged at byte 1,024: copy",
    ),
    "a hole of zeros": (
        lambda: packed(PLAIN)[:ONE_MEMBER] + bytes(1 << 21) + packed(PLAIN)[ONE_MEMBER:],
        "train.tar continues after its end",
    ),
    "half of the end": (lambda: packed(PLAIN)[: 4 * ONE_MEMBER + 512], "train.tar is truncated"),
    "a header of attributes that would fill the memory": (
        lambda: boasting("x", tarfile.XHDTYPE) + packed(PLAIN),
        r"train.tar is damaged or no plain tar file \(a header of 34,359,738,368 bytes\)",
    ),
    "a name that would fill the memory": (
        lambda: boasting("././@LongLink", tarfile.GNUTYPE_LONGNAME) + packed(PLAIN),
        r"\(a header of 34,359,738,368 bytes\)",
    ),
    "attributes that make no sense": (sparse, "train.tar is damaged or no plain tar file"),
    "tar files without end": (lambda: nested(9), r"(x\.tar/){8}x\.tar is nested in more than 8 tar files: unpack"),
    "joined": (
        lambda: 2 * packed(PLAIN),
        "train.tar continues after its end, like tar files joined with cat: put",
    ),
    "compressed": (lambda: gzip.compress(packed(PLAIN)), "no plain tar file .*: unpack it if it is compressed"),
    "empty": (lambda: b"", "train.tar is damaged or no plain tar file"),
    "a link to nothing": (
        lambda: packed(PLAIN | {"ant/7.png": other(tarfile.SYMTYPE, "gone.png")}),
        "train.tar/ant/7.png is a link to gone.png, which is not a file in .*train.tar: pack files instead",
    ),
    "a link to itself": (
        lambda: packed(PLAIN | {"ant/7.png": other(tarfile.SYMTYPE, "7.png")}),
        "ant/7.png is a link to 7.png, which is not a file",
    ),
    "a link to a folder": (
        lambda: packed(PLAIN | {"cow": other(tarfile.SYMTYPE, "bee"), "bee": other(tarfile.DIRTYPE)}),
        "train.tar/cow is a link to bee, which is not a file",
    ),
    "a FIFO": (lambda: packed(PLAIN | {"ant/7.png": other(tarfile.FIFOTYPE)}), "ant/7.png is a FIFO or a device"),
    "an empty class": (lambda: packed(PLAIN | {"emu": other(tarfile.DIRTYPE)}), "train.tar has no image in 'emu'"),
    "an unreadable kind": (lambda: packed(PLAIN | {"ant/7.heic": b"?"}), r"train.tar/ant/7.heic has a format that"),
    "no ending": (lambda: packed(PLAIN | {"ant/7": image()}), r"train.tar/ant/7 is an image \(PNG\) without a"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_tar_file_that_cannot_be_read_whole_is_refused(tars: Path, case: str) -> None:
    content, message = BROKEN[case]
    (tars / "train.tar").write_bytes(content())
    with pytest.raises(ValueError, match=message):
        load(f"tar:{tars}")


def test_an_image_in_a_tar_file_that_would_fill_the_memory_is_refused(tars: Path) -> None:
    whole = packed(PLAIN)
    with (tars / "train.tar").open("wb") as file:
        file.write(whole[: 4 * ONE_MEMBER] + boasting("ant/7.png"))
        file.seek(1 << 35, os.SEEK_CUR)
        file.write(bytes(1024))
    with pytest.raises(ValueError, match=r"train.tar/ant/7.png has 34,359,738,368 bytes, more than any image"):
        load(f"tar:{tars}")


@pytest.mark.parametrize(
    "make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero"), lambda path: path.symlink_to("gone")]
)
@pytest.mark.parametrize("name", ["train.tar", "train/2.tar"])
def test_what_is_no_file_is_refused_among_tar_files(tars: Path, name: str, make: Callable[[Path], object]) -> None:
    (tars / "train").mkdir()
    (tars / "train.tar").rename(tars / "train" / "1.tar")
    make(tars / name)
    with pytest.raises((ValueError, FileNotFoundError), match=f"{name} is a (FIFO|device|link to gone)"):
        load(f"tar:{tars}")


def test_two_places_of_one_split_in_tar_files_are_refused(tars: Path) -> None:
    (tars / "train").mkdir()
    shutil.copy(tars / "train.tar", tars / "train" / "a.tar")
    with pytest.raises(ValueError, match=r"has 'train', 'train\.tar', and each could be the train split"):
        load(f"tar:{tars}")


# Hugging Face -------------------------------------------------------------------------------------------------------


class ClassLabel:
    """A class-label column, like that of datasets."""


class Value(ClassLabel):
    """Any other column."""


def test_columns_are_found_by_name_or_else_by_type() -> None:
    images = type("Image", (), {})()
    assert _columns({"image": Value(), "label": Value()}, "here") == ("image", "label")
    assert _columns({"img": images, "fine": ClassLabel(), "id": Value()}, "here") == ("img", "fine")
    with pytest.raises(ValueError, match=r"here has the columns 'coarse', .*, and 'coarse', 'fine' of type Cl"):
        _columns({"image": images, "fine": ClassLabel(), "coarse": ClassLabel()}, "here")
    with pytest.raises(ValueError, match=r"here has the columns 'text', and none of type Image: rename the one to use"):
        _columns({"text": Value()}, "here")
