"""Images in files: listing, reproducible streams, and damaged images."""

import itertools
import os
import random
import shutil
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform
from timm.data.auto_augment import NAME_TO_OP
from timm.utils.misc import natural_key as timm_key

from lkd.data import Augmentation, DamagedImage, load, subset
from lkd.data.classes import natural_key, order_note, ordered_classes
from lkd.engine import evaluate

CLASSES = ("ant", "bee", "cat")
EVERYTHING = Augmentation(
    flip=True, mixup=0.8, cutmix=1.0, smoothing=0.1, crop_scale=0.2, auto_augment="rand-m9-mstd0.5-inc1", erasing=0.5
)
PER_CLASS = 8


def picture(number: int, size: tuple[int, int] = (56, 48)) -> Image.Image:
    """A smooth image, different for each number."""
    rng = np.random.default_rng(number)
    return Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize(size, Image.Resampling.BILINEAR)


def fill(folder: Path, classes: tuple[str, ...] = CLASSES, count: int = PER_CLASS, start: int = 0) -> Path:
    """Fill a folder with class folders of JPEG and PNG files."""
    for number, (label, index) in enumerate(itertools.product(classes, range(count)), start):
        path = folder / label / f"{index}.{('jpg', 'png', 'JPEG')[index % 3]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(number).save(path)
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set with three classes in train, val and test."""
    folder = tmp_path_factory.mktemp("pets")
    for start, (split, count) in enumerate({"train": PER_CLASS, "val": 2, "test": 3}.items()):
        fill(folder / split, count=count, start=100 * start)
    return folder


@pytest.fixture
def pets(made: Path, tmp_path: Path) -> Path:
    """A copy of the data set that a test can change."""
    return Path(shutil.copytree(made, tmp_path / "pets"))


def data_of(folder: Path, **view):
    return load(f"folder:{folder}", **{"image_size": 32, **view})


def stream_of(data, augmentation=EVERYTHING, batch_size=8, seed=0):
    return data.stream(data.train, augmentation, batch_size, seed)


def same(one, other) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def global_state() -> tuple:
    return random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()


# Names and listings -------------------------------------------------------------------------------------------------


def test_the_papers_policy_may_leave_a_colour_no_bits() -> None:
    """Magnitudes vary around a mean, and posterize can reach 0, which Pillow 13 refuses."""
    assert NAME_TO_OP["PosterizeIncreasing"](picture(0), 0).getextrema() == ((0, 0),) * 3


def test_a_folder_gives_classes_by_name_and_splits_with_labels(made: Path) -> None:
    data = data_of(made)
    assert (data.classes, data.channels, data.size) == (CLASSES, 3, (32, 32))
    assert {name: split.labels.bincount().tolist() for name, split in data.splits.items()} == {
        "train": [8, 8, 8], "val": [2, 2, 2], "test": [3, 3, 3],
    }  # fmt: skip
    assert all(split.labels.dtype == torch.int64 for split in data.splits.values())
    part = subset(data.train, 6, seed=0)
    assert part.labels.bincount().tolist() == [2, 2, 2]
    assert part.listing.name(int(part.indices[0])).split("/")[-2] == CLASSES[part.labels[0]]


def test_classes_with_numbers_are_ordered_by_value_and_names_of_one_rank_by_name(tmp_path: Path) -> None:
    for split in ("train", "val"):
        fill(tmp_path / split, ("10", "9", "b", "B", "07", "7"), count=1)
    data = data_of(tmp_path)
    assert data.classes == ("07", "7", "9", "10", "B", "b")
    names = [data.val.listing.name(int(index)).split("/")[-2] for index in data.val.indices]
    assert [data.classes[label] for label in data.val.labels] == names


def test_names_with_digits_that_are_no_numbers_have_an_order() -> None:
    assert list(ordered_classes(["m²", "²", "10", "9"], "train")) == ["9", "10", "m²", "²"]
    assert order_note(["9", "10", "²"]).startswith("class order: by value")
    usual = ["n01440764", "10", "9", "Dog", "cat 2b", "", "7", "٣"]
    assert [natural_key(name) for name in usual] == [timm_key(name) for name in usual]


def test_a_relative_path_lies_in_the_data_folder(made: Path, home: Path) -> None:
    (home / "data").mkdir(exist_ok=True)
    shutil.copytree(made, home / "data" / "relative")
    assert len(load("folder:relative").train) == 24
    assert load("folder:relative").size == (224, 224)


@pytest.mark.parametrize("renamed", ["val", "validation", "test"])
def test_with_one_split_besides_train_that_is_test_and_val_is_a_fixed_part_of_train(pets: Path, renamed: str) -> None:
    shutil.rmtree(pets / "test")
    fill(pets / "train", count=20)
    (pets / "val").rename(pets / renamed)
    data = data_of(pets)
    assert [len(split) for split in data.splits.values()] == [54, 6, 6]
    assert data.val.labels.bincount().tolist() == [2, 2, 2]
    assert data.test.listing.place == str(pets / renamed)
    held, kept = set(data.val.indices.tolist()), set(data.train.indices.tolist())
    assert held | kept == set(range(60)) and not held & kept
    copied = data_of(Path(shutil.copytree(pets, pets.with_name("copy"))))
    assert same((copied.val.indices, copied.val.labels), (data.val.indices, data.val.labels))


def test_a_test_folder_without_labels_counts_as_none(pets: Path) -> None:
    for path in (pets / "test").glob("*/*"):
        path.rename(pets / "test" / f"{path.parent.name}-{path.name}")
    data = data_of(pets)
    assert data.test.listing.place == str(pets / "val") and len(data.val) == 2


def tar(folder: Path, file: Path) -> None:
    with tarfile.open(file, "w") as archive:
        for path in sorted(folder.rglob("*.*"), reverse=True):
            archive.add(path, path.relative_to(folder))


def test_tar_files_give_what_their_folders_give(made: Path, tmp_path: Path) -> None:
    """One tar file per split, one per class, or several with class folders."""
    tar(made / "train", tmp_path / "train.tar")
    (tmp_path / "val").mkdir()
    for label in CLASSES:
        tar(made / "val" / label, tmp_path / "val" / f"{label}.tar")
    (tmp_path / "test").mkdir()
    tar(made / "test", tmp_path / "test" / "all.tar")
    files, packed = data_of(made), load(f"tar:{tmp_path}", image_size=32)
    assert packed.classes == files.classes
    for name, split in files.splits.items():
        assert torch.equal(packed.splits[name].labels, split.labels)
        everything = torch.arange(len(split))
        ours, theirs = (next(d.batches(d.splits[name], everything, 30)) for d in (files, packed))
        assert same(ours, theirs)
    if (opened := Path("/proc/self/fd")).is_dir():
        kept = [handle for handle in opened.iterdir() if os.path.realpath(handle).endswith(".tar")]
        assert not kept, "worker processes would share the place in a tar file that is read next"
    for workers in (0, 2):
        read = zip(stream_of(packed).batches(0, workers=workers), stream_of(files).batches(0), strict=True)
        assert all(same(one, other) for one, other in read)


def test_hugging_face_data_sets_need_their_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ImportError, match="run pip install datasets"):
        load("hfds:nobody/nothing")


@pytest.mark.slow
def test_a_hugging_face_data_set_gives_what_its_folder_gives(made: Path, tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    shutil.copytree(made, tmp_path / "pets")
    files, hugged = data_of(made), load(f"hfds:{tmp_path / 'pets'}", image_size=32)
    assert hugged.classes == files.classes
    for name, split in files.splits.items():
        assert hugged.splits[name].labels.bincount().tolist() == split.labels.bincount().tolist()
    images, _ = next(hugged.batches(hugged.val, torch.arange(6), 6))
    ours, _ = next(files.batches(files.val, torch.arange(6), 6))
    torch.testing.assert_close(sorted(images.mean((1, 2, 3)).tolist()), sorted(ours.mean((1, 2, 3)).tolist()))


# Errors -------------------------------------------------------------------------------------------------------------


def test_missing_folders_are_named_with_what_is_needed(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere: it needs train/ with one folder of images"):
        load(f"folder:{tmp_path / 'nowhere'}")
    with pytest.raises(FileNotFoundError, match=r"has no train/: it needs train/ .* val/"):
        load(f"folder:{tmp_path}")
    fill(tmp_path / "train")
    with pytest.raises(FileNotFoundError, match=r"has neither val/ \(or validation/\) nor test/: it needs"):
        load(f"folder:{tmp_path}")
    (tmp_path / "val").mkdir()
    with pytest.raises(FileNotFoundError, match=r"val has no image file .*jpg"):
        load(f"folder:{tmp_path}")
    with pytest.raises(FileNotFoundError, match=r"has no train\.tar: it needs train\.tar with"):
        load(f"tar:{tmp_path}")


def test_classes_that_differ_are_named(pets: Path) -> None:
    (pets / "val" / "cat").rename(pets / "val" / "cow")
    with pytest.raises(
        ValueError, match=r"val lacks 'cat' and adds 'cow' compared with the classes of .*train: give all"
    ):
        data_of(pets)


def test_images_outside_class_folders_are_named(pets: Path) -> None:
    (pets / "train" / "ant" / "0.jpg").rename(pets / "train" / "stray.jpg")
    with pytest.raises(ValueError, match=r"train/stray.jpg is outside class folders: put each"):
        data_of(pets)


def test_shards_are_refused_with_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"shards of WebDataset .* unpack them.*'folder:PATH'.*'tar:PATH'"):
        load("wds:somewhere")


@pytest.mark.parametrize("field", [{"crop": 2}, {"cutout": 3}])
def test_augmentation_of_images_in_memory_is_refused(made: Path, field: dict) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(field))} is .* no effect on images in files: set it to 0"):
        stream_of(data_of(made), Augmentation(**field))


def test_a_view_is_refused_where_it_is_wrong_or_has_no_effect(made: Path) -> None:
    with pytest.raises(ValueError, match=r"image_size is 32, but has no effect on images in memory \('digits'\)"):
        load("digits", image_size=32)
    with pytest.raises(ValueError, match="crop_pct must be above 0"):
        data_of(made, crop_pct=0.0)
    with pytest.raises(KeyError, match="unknown interpolation 'random'"):
        data_of(made, interpolation="random")
    with pytest.raises(ValueError, match=r"folder is 'here', but 'folder:.*' already names a folder: leave it out"):
        load(f"folder:{made}", "here")


# Reproducibility ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "augmentation", [EVERYTHING, Augmentation(color_jitter=0.4, repeats=3)], ids=["mixed", "plain"]
)
def test_the_same_bits_for_any_number_of_workers_and_any_first_step(made: Path, augmentation: Augmentation) -> None:
    data = data_of(made)
    expected = [stream_of(data, augmentation).batch(1, step) for step in range(3)]
    for workers, first in ((0, 0), (2, 0), (2, 1), (1, 2), (2, 3)):
        torch.manual_seed(workers)
        found = list(stream_of(data, augmentation).batches(1, first, workers=workers))
        assert len(found) == 3 - first
        assert all(same(one, other) for one, other in zip(found, expected[first:], strict=True))


@pytest.mark.parametrize("workers", [0, 2])
def test_reading_leaves_global_random_state_alone(made: Path, workers: int) -> None:
    data, before = data_of(made), global_state()
    list(stream_of(data).batches(0, workers=workers))
    list(data.batches(data.val, torch.arange(6), 4, workers))
    assert global_state() == before


def test_seed_epoch_and_position_each_change_what_is_drawn(made: Path) -> None:
    data = data_of(made)
    alone = data.train.take([0] * 8)
    kinds = [{"crop_scale": 0.2}, {"color_jitter": 0.4}, {"auto_augment": "rand-m9-mstd0.5-n4"}, {"erasing": 1.0}]
    for kind in kinds:
        augmentation = Augmentation(**kind)
        views = [
            image
            for seed, epoch in ((0, 0), (0, 1), (1, 0))
            for image in data.stream(alone, augmentation, 4, seed).batch(epoch, 0).images
        ]
        assert all(not torch.equal(a, b) for a, b in itertools.combinations(views, 2)), kind
    flipped = data.stream(alone, Augmentation(flip=True), 8, 0).batch(0, 0).images
    assert 1 < len({image.sum(0)[:, :4].sum().item() for image in flipped}) <= 3


@pytest.mark.parametrize("augmentation", [EVERYTHING, Augmentation(crop_scale=0.2)], ids=["mixed", "unmixed"])
def test_processes_together_get_the_batch_of_one(made: Path, augmentation: Augmentation) -> None:
    stream = stream_of(data_of(made), augmentation)
    whole = stream.batch(1, 2)
    shares = [next(stream.batches(1, 2, process, 2)) for process in range(2)]
    together = [torch.cat(parts) for parts in zip(*shares, strict=True)]
    assert set(together[2].tolist()) == set(range(16, 24)) and len(shares[0].images) == 4
    assert same([part[together[2].argsort()] for part in together], whole)


def test_each_image_of_a_mixed_batch_is_decoded_once(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = data_of(made)
    stream, decode, decoded = stream_of(data), data.train.listing.image, []
    monkeypatch.setattr(data.train.listing, "image", lambda index: decoded.append(index) or decode(index))
    for process in range(2):
        stream.batch(0, 0, process, 2)
    assert len(decoded) == len(set(decoded)) == 8


def test_images_are_mixed_as_in_memory(made: Path) -> None:
    """With or without erasing and cropping, a mixed sample combines the unmixed samples of both positions."""
    data, plain = data_of(made), {"crop_scale": 0.2, "erasing": 0.5}
    whole = stream_of(data, Augmentation(**plain)).batch(0, 1)
    mixed = stream_of(data, Augmentation(**plain, mixup=0.8)).batch(0, 1)
    for place in range(8):
        label, other = whole.target[place], whole.target[7 - place]
        kept = mixed.target[place, label] if label != other else None
        if kept is not None:
            expected = kept * whole.images[place] + (1 - kept) * whole.images[7 - place]
            torch.testing.assert_close(mixed.images[place], expected)


@pytest.mark.parametrize("repeats", [1, 3])
def test_repeats_show_each_drawn_image_so_often_with_its_own_augmentation(made: Path, repeats: int) -> None:
    data = data_of(made)
    numbered = data.train.__class__(data.train.listing, data.train.indices, torch.arange(24))
    stream = data.stream(numbered, Augmentation(crop_scale=0.2, repeats=repeats), 6, 0)
    batches = list(stream.batches(0))
    shown = torch.cat([batch.target for batch in batches])
    assert stream.steps == 4 and sorted(shown.bincount(minlength=24).tolist()) == sorted(
        [repeats] * (24 // repeats) + [0] * (24 - 24 // repeats)
    )
    images = torch.cat([batch.images for batch in batches])
    assert all(not torch.equal(a, b) for a, b in itertools.pairwise(images))
    if repeats == 3:
        assert all(len({int(shown[3 * k + place]) for place in range(3)}) == 1 for k in range(8))
        shares = [stream.batch(0, 0, process, 3).target for process in range(3)]
        assert same(shares, [shares[0]] * 3), "each process has each image once"


# Evaluation transforms ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("crop_pct", "interpolation"), [(0.875, "bicubic"), (1.0, "bilinear")])
def test_evaluation_shows_what_timm_shows(made: Path, crop_pct: float, interpolation: str) -> None:
    data = data_of(made, crop_pct=crop_pct, interpolation=interpolation)
    transform = create_transform(32, interpolation=interpolation, crop_pct=crop_pct)
    chosen = torch.tensor([4, 0, 5])
    batches = list(data.batches(data.val, chosen, 2))
    assert [len(labels) for _, labels in batches] == [2, 1]
    paths = sorted((made / "val").glob("*/*"))
    expected = torch.stack([transform(Image.open(paths[index]).convert("RGB")) for index in chosen])
    assert torch.equal(torch.cat([images for images, _ in batches]), expected)
    assert torch.cat([labels for _, labels in batches]).tolist() == [2, 0, 2]
    assert all(
        same(one, other) for one, other in zip(data.batches(data.val, chosen, 2, workers=2), batches, strict=True)
    )


def test_without_augmentation_a_stream_shows_what_is_evaluated(made: Path) -> None:
    data = data_of(made)
    batch = stream_of(data, Augmentation()).batch(0, 0)
    order = stream_of(data, Augmentation())._draws(0).order[:8]
    assert same((batch.images, batch.target), next(data.batches(data.train, order, 8)))


def test_normalise_undoes_and_makes_what_batches_hold(made: Path) -> None:
    data = data_of(made)
    images, _ = next(data.batches(data.val, torch.arange(6), 6))
    mean, std = (torch.tensor(values)[:, None, None] for values in (data.mean, data.std))
    pixels = images * std + mean
    torch.testing.assert_close(data.normalise(pixels), images)
    torch.testing.assert_close(data.normalise((pixels * 255).round().to(torch.uint8)), images)


def test_a_network_is_evaluated_on_files_as_by_hand(made: Path) -> None:
    data = data_of(made)
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten(), torch.nn.Linear(12, 3))
    images, labels = next(data.batches(data.test, torch.arange(9), 9))
    right = (model(images).argmax(1) == labels).float().mean().item()
    assert evaluate(model, data, data.test)["top1"] == pytest.approx(100 * right)


# Damaged images -----------------------------------------------------------------------------------------------------


def truncated(path: Path) -> None:
    picture(0, (200, 200)).save(path)
    path.write_bytes(path.read_bytes()[:1500])


DAMAGES = {
    "truncated": truncated,
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("no image"),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_image_stops_with_its_name(pets: Path, damage: str, workers: int) -> None:
    DAMAGES[damage](path := pets / "train" / "bee" / "3.jpg")
    data = data_of(pets)
    with pytest.raises(DamagedImage, match=f"{path} cannot be decoded .*: replace or remove it, or set damaged='skip'"):
        list(stream_of(data).batches(0, workers=workers))
    assert data.damaged_files == (str(path),)


@pytest.mark.parametrize("workers", [0, 2])
def test_skipped_images_are_counted_and_the_next_whole_one_takes_their_place(pets: Path, workers: int) -> None:
    paths = [pets / "train" / name for name in ("bee/3.jpg", "bee/4.png", "cat/7.png")]
    for path, damage in zip(paths, DAMAGES.values(), strict=True):
        damage(path)
    data = data_of(pets, damaged="skip")
    images, labels = next(data.batches(data.train, torch.arange(24), 24, workers))
    numbers = [*range(11), 13, 13, *range(13, 23), 0]
    assert labels.tolist() == [0] * 8 + [1] * 8 + [2] * 7 + [0]
    assert [int((images[:place] == images[place]).flatten(1).all(1).sum()) for place in range(24)] == [
        numbers[:place].count(number) for place, number in enumerate(numbers)
    ]
    assert sorted(data.damaged_files) == [str(path) for path in paths]
    stream = stream_of(data)
    assert all(same(a, b) for a, b in zip(stream.batches(0, workers=workers), stream.batches(0), strict=True))
    assert len(data.damaged_files) == 3


def test_where_no_image_is_whole_that_is_said(pets: Path) -> None:
    for path in (pets / "val").glob("*/*"):
        path.write_bytes(b"")
    data = data_of(pets, damaged="skip")
    with pytest.raises(ValueError, match=r"none of the 6 images of a split in .*val can be decoded"):
        list(data.batches(data.val, torch.arange(6), 6))


def test_a_file_that_cannot_be_read_is_not_taken_for_a_damaged_image(pets: Path) -> None:
    data = data_of(pets, damaged="skip")
    (pets / "train" / "ant" / "0.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"ant/0.jpg"):
        list(data.batches(data.train, torch.arange(24), 24))
    assert data.damaged_files == ()


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Use one thread, like the worker processes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
