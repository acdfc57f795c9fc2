"""Sources of data, splits, and their errors. Needs no network."""

import functools
import gzip
import hashlib
import http.server
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, Subset, TensorDataset
from torchvision.datasets import FashionMNIST, ImageFolder

from lkd import data
from lkd.data import Images, Split, fashion_mnist, fingerprint, from_datasets, load, subset
from lkd.data.images import channel_statistics, hold_out, stratified_order

TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = fashion_mnist.SHA256


def numbered(labels: list[int] | Tensor, channels: int = 1) -> Split:
    """A split of unique images: image i encodes i in two bytes."""
    labels = torch.as_tensor(labels)
    images = torch.zeros(len(labels), channels, 2, 2, dtype=torch.uint8)
    images[:, 0, 0, 0] = torch.arange(len(labels)) % 256
    images[:, 0, 0, 1] = torch.arange(len(labels)) // 256
    return Split(images, labels)


def numbers(split: Split) -> list[int]:
    corner = split.images[:, 0, 0, :].long()
    return (corner[:, 0] + 256 * corner[:, 1]).tolist()


def images_of(split: Split, **changes: object) -> Images:
    settings: dict = {
        "name": "made",
        "classes": ("a", "b"),
        "train": split,
        "val": split,
        "test": split,
        "mean": (0.5,),
        "std": (0.25,),
    }
    return Images(**(settings | changes))


# Splits -------------------------------------------------------------------------------------------------------------


def test_hold_out_takes_classes_in_proportion_and_keeps_the_order() -> None:
    split = numbered(torch.tensor([0] * 60 + [1] * 30 + [2] * 10)[torch.randperm(100, generator=torch.manual_seed(0))])
    rest, held = hold_out(split, 20, seed=3)
    assert held.labels.bincount().tolist() == [12, 6, 2]
    assert rest.labels.bincount().tolist() == [48, 24, 8]
    assert sorted(numbers(rest) + numbers(held)) == list(range(100))
    assert numbers(rest) == sorted(numbers(rest)) and numbers(held) == sorted(numbers(held))
    assert torch.equal(held.labels, split.labels[numbers(held)])


@pytest.mark.parametrize("count", [1, 7, 10, 23, 499])
def test_equal_classes_are_never_more_than_one_image_apart(count: int) -> None:
    split = numbered(torch.arange(500) % 10)
    sizes = subset(split, count, seed=1).labels.bincount(minlength=10)
    assert sizes.sum() == count
    assert sizes.max() - sizes.min() <= 1


def test_a_smaller_subset_is_the_beginning_of_a_larger_one() -> None:
    split = numbered(torch.arange(600) % 3)
    small, large = numbers(subset(split, 100, seed=5)), numbers(subset(split, 250, seed=5))
    assert large[:100] == small
    assert len(set(large)) == 250


def test_draws_depend_on_the_seed_alone() -> None:
    split = numbered(torch.arange(300) % 3)
    first = numbers(subset(split, 50, seed=0))
    assert first == numbers(subset(split, 50, seed=0))
    assert set(first) != set(numbers(subset(split, 50, seed=1)))


def test_the_order_is_the_one_that_earlier_runs_had() -> None:
    assert stratified_order(torch.arange(30) % 3, seed=0)[:8].tolist() == [2, 21, 10, 11, 4, 6, 26, 28]


def test_a_class_without_images_takes_no_part() -> None:
    assert sorted(stratified_order(torch.tensor([5, 5, 2, 2]), seed=0).tolist()) == [0, 1, 2, 3]


@pytest.mark.parametrize("count", [0, 10, 11])
def test_hold_out_leaves_no_part_empty(count: int) -> None:
    with pytest.raises(ValueError, match=f"hold out {count} of 10 images: count must be 1 to 9"):
        hold_out(numbered([0] * 10), count, seed=0)


@pytest.mark.parametrize("count", [0, 11])
def test_subset_names_the_numbers_it_cannot_serve(count: int) -> None:
    with pytest.raises(ValueError, match=f"take {count} of 10 images: count must be 1 to 10"):
        subset(numbered([0] * 10), count, seed=0)


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor])
def test_take_follows_the_indices(kind: Callable) -> None:
    taken = numbered([4, 5, 6, 7]).take(kind([3, 0, 3]))
    assert numbers(taken) == [3, 0, 3]
    assert taken.labels.tolist() == [7, 4, 7]
    assert len(taken) == 3


def test_take_copies() -> None:
    split = numbered([0, 1])
    split.take([0]).images.fill_(9)
    assert numbers(split) == [0, 1]


@pytest.mark.parametrize(
    ("indices", "error", "message"),
    [
        (torch.tensor([True, False]), TypeError, "mask.nonzero"),
        ([0.5], TypeError, "indices are torch.float32"),
        ([], ValueError, "indices are empty"),
        ([2], IndexError, "out of bounds"),
    ],
)
def test_take_refuses(indices: list | Tensor, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        numbered([0, 1]).take(indices)


# Split and Images ---------------------------------------------------------------------------------------------------

GREY = torch.zeros(2, 1, 4, 4, dtype=torch.uint8)
LABELS = torch.tensor([0, 1])


@pytest.mark.parametrize(
    ("images", "labels", "error", "message"),
    [
        (GREY.double(), LABELS, TypeError, "images are torch.float64"),
        (GREY[0], LABELS, ValueError, r"shape \(1, 4, 4\): give \(N, C, H, W\)"),
        (GREY[:0], LABELS[:0], ValueError, r"shape \(0, 1, 4, 4\)"),
        (torch.full((2, 1, 4, 4), torch.nan), LABELS, ValueError, "2 of 2 images .* NaN .* first of them image 0"),
        (GREY.numpy(), LABELS, TypeError, "images are a ndarray: give a tensor"),
        (GREY, LABELS.tolist(), TypeError, "labels are a list: give a tensor"),
        (torch.zeros(2, 32, 32, 3), LABELS, ValueError, r"shape \(2, 32, 32, 3\), read as .*permute\(2, 0, 1\)"),
        (torch.zeros(2, 28, 28, 1), LABELS, ValueError, "channels do not seem to be first"),
        (torch.zeros(2, 32, 3, 32), LABELS, ValueError, "channels do not seem to be first"),
        (GREY, LABELS.int(), TypeError, r"labels are torch.int32.*torch.int64"),
        (GREY, LABELS[:1], ValueError, r"shape \(1,\) for 2 images"),
        (GREY, LABELS[:, None], ValueError, r"shape \(2, 1\) for 2 images"),
        (GREY, LABELS - 1, ValueError, "down to -1, the label of image 0: .* leave out"),
    ],
)
def test_split_refuses(images: Tensor, labels: Tensor, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Split(images, labels)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": ("a",)}, r"label 1, classes names 1"),
        ({"test": Split(GREY, LABELS + 1)}, r"test has label 2, classes names 2"),
        ({"val": Split(GREY.float(), LABELS)}, r"val images are torch.float32, train images torch.uint8"),
        ({"test": Split(GREY.expand(2, 3, 4, 4), LABELS)}, r"test images have shape \(3, 4, 4\).*\(1, 4, 4\)"),
        ({"val": Split(GREY[:, :, :3], LABELS)}, r"val images have shape \(1, 3, 4\)"),
        ({"mean": (0.5, 0.5)}, "mean has 2 values for 1 channels"),
        ({"std": ()}, "std has 0 values"),
        ({"mean": (float("nan"),)}, "mean is .*finite"),
        ({"std": (0.0,)}, "above 0"),
        ({"mean": (127.5,)}, r"mean is \(127.5,\): for uint8 images, give it for images scaled to \[0, 1\]"),
        ({"std": (60.0,)}, r"std is \(60.0,\): for uint8 images"),
        (
            {"train": Split(GREY, LABELS + 1), "val": Split(GREY, LABELS + 1), "test": Split(GREY, LABELS + 1)},
            "not from 1",
        ),
    ],
)
def test_images_refuses(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        images_of(Split(GREY, LABELS), **changes)


def test_images_knows_channels_and_size() -> None:
    made = images_of(Split(torch.zeros(2, 1, 5, 7), LABELS))
    assert made.channels == 1
    assert made.size == (5, 7)


def test_channel_statistics_are_those_of_numpy() -> None:
    images = torch.randint(0, 256, (50, 3, 9, 5), dtype=torch.uint8, generator=torch.manual_seed(0))
    images[:, 1] //= 3
    scaled = images.numpy() / 255
    mean, std = channel_statistics(images)
    assert mean == pytest.approx(scaled.mean((0, 2, 3)), rel=1e-12)
    assert std == pytest.approx(scaled.std((0, 2, 3)), rel=1e-12)
    with pytest.raises(TypeError, match=r"torch\.float32"):
        channel_statistics(images.float())


# Custom data sets ---------------------------------------------------------------------------------------------------

COLOUR = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)


@pytest.mark.parametrize(
    "image",
    [
        COLOUR,
        COLOUR.copy(order="F"),
        Image.fromarray(COLOUR),
        Image.fromarray(np.dstack([COLOUR, np.full((4, 6), 255, np.uint8)])),
        torch.from_numpy(COLOUR).permute(2, 0, 1),
    ],
    ids=["array", "array in Fortran order", "PIL", "PIL with opacity", "tensor"],
)
def test_every_kind_of_colour_image_gives_the_same_pixels(image: object) -> None:
    pairs = [(image, 0), (image, 1)]
    images = from_datasets(pairs, pairs, val=pairs)
    assert torch.equal(images.train.images[1], torch.from_numpy(COLOUR).permute(2, 0, 1))
    assert (images.channels, images.size) == (3, (4, 6))


@pytest.mark.parametrize("image", [COLOUR[..., 0], Image.fromarray(COLOUR[..., 0].copy())], ids=["array", "PIL"])
def test_grey_images_get_a_channel(image: object) -> None:
    pairs = [(image, 0)]
    images = from_datasets(pairs, pairs, val=pairs)
    assert torch.equal(images.test.images, torch.from_numpy(COLOUR[..., 0].copy())[None, None])


def test_pil_images_of_any_mode_get_the_mode_of_the_first_or_the_given_one() -> None:
    grey, colour = Image.fromarray(COLOUR[..., 0].copy()), Image.fromarray(COLOUR)
    palette, bits = colour.convert("P"), grey.convert("1")
    mixed = from_datasets([(each, 0) for each in (palette, grey, bits, colour)], [(grey, 0)], val=[(colour, 0)])
    expected = [np.asarray(each.convert("RGB")) for each in (palette, grey, bits, colour)]
    assert np.array_equal(mixed.train.images.permute(0, 2, 3, 1), np.stack(expected))
    assert torch.equal(mixed.test.images[0, 0], torch.from_numpy(COLOUR[..., 0].copy()))
    with pytest.raises(ValueError, match=r"test\[0\] has PIL mode 'RGB', but that of train\[0\] is grey"):
        from_datasets([(grey, 0)], [(colour, 0)], val=[(grey, 0)])
    asked = from_datasets([(grey, 0)], [(colour, 0)], val=[(bits, 0)], mode="L")
    assert np.array_equal(asked.test.images[0, 0], np.asarray(colour.convert("L")))


def test_of_16_bits_the_upper_8_are_kept_as_in_files_and_transparency_is_said_once() -> None:
    deep = Image.fromarray((np.arange(64, dtype=np.uint16) * 1000).reshape(8, 8))
    assert deep.mode == "I;16"
    read = from_datasets([(deep, 0)], [(deep, 0)], val=[(deep, 0)])
    assert read.train.images.flatten().tolist() == [value * 1000 >> 8 for value in range(64)]
    clear = Image.fromarray(np.dstack([COLOUR, COLOUR[..., 0]]))
    with pytest.warns(UserWarning, match=r"image of train\[0\] has transparent pixels") as told:
        read = from_datasets([(clear, 0)] * 4, [(Image.fromarray(COLOUR), 0)], val=[(Image.fromarray(COLOUR), 0)])
    assert sum("transparent" in str(each.message) for each in told) == 1
    assert torch.equal(read.train.images[3], torch.from_numpy(COLOUR).permute(2, 0, 1))


def test_float_arrays_are_read_as_float_tensors_are() -> None:
    array = np.random.default_rng(0).random((4, 6, 3))
    pairs, tensors = [(array, 0)], [(torch.from_numpy(array).permute(2, 0, 1), 0)]
    assert fingerprint(from_datasets(pairs, pairs, val=pairs)) == fingerprint(
        from_datasets(tensors, tensors, val=tensors)
    )


def test_dicts_are_read_as_pairs_are() -> None:
    source = numbered(torch.arange(40) % 4)
    pairs = list(zip(source.images, source.labels.tolist(), strict=True))
    usual = [{"image": image, "label": label, "id": 7} for image, label in pairs]
    other = [{"image": None, "label": None, "pixel_values": image, "fine_label": label} for image, label in pairs]
    named = from_datasets(other, Subset(other, range(9)), image_key="pixel_values", label_key="fine_label")
    assert (
        fingerprint(named)
        == fingerprint(from_datasets(usual, usual[:9]))
        == fingerprint(from_datasets(pairs, pairs[:9]))
    )


def test_class_names_are_those_of_the_data_set(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for place, name in enumerate(("cat", "dog", "eel")):
            (tmp_path / split / name).mkdir(parents=True)
            for copy in range(2):
                pixels = np.full((4, 4, 3), 40 * place + copy + 100 * (split == "test"), np.uint8)
                Image.fromarray(pixels).save(tmp_path / split / name / f"{copy}.png")
    train, test = ImageFolder(tmp_path / "train"), ImageFolder(tmp_path / "test")
    images = from_datasets(Subset(train, [0, 1, 2, 3, 4, 5]), test, val=test)
    assert images.classes == ("cat", "dog", "eel")
    assert images.train.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert from_datasets(train, test, val=test, classes=["a", "b", "c"]).classes == ("a", "b", "c")
    merged = ImageFolder(tmp_path / "train", target_transform=lambda label: min(label, 1))
    assert from_datasets(merged, merged, val=merged).classes == ("0", "1")
    train.classes = [("cat", "house cat"), ("dog",), ("eel",)]
    assert from_datasets(train, train, val=train).classes[0] == "cat, house cat"


def test_hugging_face_data_sets_are_read_as_they_are() -> None:
    datasets = pytest.importorskip("datasets")
    names, pictures = ["cat", "dog"], [Image.fromarray(COLOUR + place) for place in range(8)]
    columns = {"img": pictures, "fine": [0, 1] * 4, "coarse": [0] * 8}
    one = {"img": datasets.Image(), "fine": datasets.ClassLabel(names=names)}
    two = datasets.Features({**one, "coarse": datasets.ClassLabel(names=["animal"])})
    fine = datasets.Dataset.from_dict(columns, features=two)
    with pytest.raises(KeyError, match=r"'coarse', 'fine', 'img', not 'label': .*label_key="):
        from_datasets(fine, fine, val=fine)
    images = from_datasets(fine, fine, val=fine, label_key="fine")
    assert images.classes == ("cat", "dog") and images.train.labels.tolist() == columns["fine"]
    assert torch.equal(images.train.images, torch.stack([torch.from_numpy(COLOUR + k) for k in range(8)]).movedim(3, 1))
    plain = fine.remove_columns("coarse")
    for read in (plain, Subset(plain, range(8)), plain.with_format("torch"), plain.with_format("numpy")):
        assert fingerprint(from_datasets(read, read, val=read)) == fingerprint(images)
    with pytest.raises(TypeError, match=r"train is a IterableDataset without .*without streaming=True"):
        from_datasets(plain.to_iterable_dataset(), plain)
    with pytest.raises(TypeError, match=r"train is a DatasetDict without .* contains 'train'"):
        from_datasets(datasets.DatasetDict({"train": plain}), plain)


def test_validation_is_held_out_of_train() -> None:
    source = numbered(torch.arange(200) % 4)
    images = from_datasets(TensorDataset(source.images, source.labels), TensorDataset(source.images, source.labels))
    assert sorted(numbers(images.train) + numbers(images.val)) == list(range(200))
    assert images.val.labels.bincount().tolist() == [5, 5, 5, 5]
    assert numbers(images.test) == list(range(200))
    assert (images.mean, images.std) == channel_statistics(images.train.images)
    assert images.classes == ("0", "1", "2", "3")


def test_a_given_validation_set_leaves_train_whole() -> None:
    pairs = [(image, 0) for image in numbered([0] * 10).images]
    images = from_datasets(pairs, pairs[:3], val=pairs[:2], classes=["only"])
    assert [len(split) for split in images.splits.values()] == [10, 2, 3]
    assert images.classes == ("only",)


def test_float_images_are_used_as_they_are() -> None:
    pixels = torch.randn(20, 2, 3, 3, dtype=torch.float64)
    pairs = [(image, torch.tensor(index % 2)) for index, image in enumerate(pixels)]
    images = from_datasets(pairs, pairs, val=pairs)
    assert torch.equal(images.train.images, pixels.float())
    assert images.train.labels.tolist() == [0, 1] * 10
    assert (images.mean, images.std) == ((0.0, 0.0), (1.0, 1.0))


def test_the_highest_label_of_any_split_counts_as_a_class() -> None:
    pairs = [(GREY[0], 0), (GREY[0] + 1, 1)]
    assert from_datasets(pairs, [(GREY[0], 3)], val=pairs).classes == ("0", "1", "2", "3")


GOOD = (torch.rand(1, 4, 4), 0)


class Loaded(list):
    """A data set that knows its split, like those of Hugging Face and torchvision."""

    train: bool

    def __init__(self, pairs: list, split: str):
        super().__init__(pairs)
        self.split = split


class Endless(IterableDataset):
    """An iterable data set with a length."""

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        return iter([GOOD])


class Lying:
    """A data set with one sample less than its length."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return [GOOD, GOOD][index]


class Broken(Lying):
    """A data set with a missing file for its second image."""

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if index == 1:
            raise FileNotFoundError("no cat.png")
        return GOOD


@pytest.mark.parametrize(
    ("train", "error", "message"),
    [
        (iter([GOOD]), TypeError, "train is a list_iterator without __len__ and __getitem__"),
        ([], ValueError, "train is empty"),
        ([GOOD, {"image": 1}], KeyError, r"train\[1\] has the keys 'image', not 'label'.* label_key="),
        ([{}], KeyError, r"train\[0\] has the keys \(none\), not 'image'"),
        ([{"img": GOOD[0], "label": 0}], KeyError, r"'img', 'label', not 'image': .* image_key='img'"),
        ([{"image": GOOD[0], "fine_label": 0, "x": 1}], KeyError, r"not 'label': .* label_key='fine_label'"),
        (
            [{"image": GOOD[0], "label": 0}, {"image": GOOD[0]}],
            KeyError,
            r"train\[1\] has the keys 'image', not 'label'",
        ),
        ([GOOD, (1, 2, 3)], TypeError, r"train\[1\] is a tuple of 3"),
        ([GOOD, GOOD, (torch.rand(1, 4, 5), 0)], ValueError, r"train\[2\] is \(1, 4, 5\).*train\[0\] \(1, 4, 4\)"),
        ([GOOD, (GREY[0], 0)], ValueError, r"train\[1\] is \(1, 4, 4\) torch.uint8.*torch.float32"),
        ([GOOD, ("cat.png", 0)], TypeError, r"train\[1\] is a str"),
        ([(torch.rand(4, 4), 0)], ValueError, r"tensor of shape \(4, 4\): give \(C, H, W\)"),
        ([(torch.ones(1, 4, 4, dtype=torch.int64), 0)], TypeError, "tensor of torch.int64"),
        ([(np.zeros((4, 4, 3), np.int64), 0)], TypeError, "array of int64: give uint8 or a float dtype"),
        ([(np.full((4, 4, 3), np.nan), 0)], ValueError, r"train\[0\] has values that are NaN"),
        ([(np.zeros(4, dtype=np.uint8), 0)], ValueError, r"array of shape \(4,\)"),
        ([(Image.new("F", (4, 4)), 0)], ValueError, r"PIL mode 'F', and its pixels are floating-point .* 8 or 16 bits"),
        ([(Image.new("I", (4, 4)), 0)], ValueError, r"PIL mode 'I', and its pixels are 32-bit integers"),
        (
            [(Image.new("LA", (4, 4)), 0), (Image.new("RGB", (4, 4)), 0)],
            ValueError,
            r"train\[1\] has PIL mode 'RGB', but that of train\[0\] is grey: pass mode='RGB' or mode='L'",
        ),
        ([GOOD, (Path("cat.png"), 0)], TypeError, r"train\[1\] is a \w*Path: give .* PIL.Image.open\(path\)"),
        ([({"bytes": b"", "path": None}, 0)], TypeError, r"train\[0\] is a dict: .*cast_column\(key, datasets.Image"),
        ([([[0, 1], [1, 0]], 0)], TypeError, r"image of train\[0\] is a list: .*with_format\('torch'\)"),
        ("folder", TypeError, "train is a str without"),
        ([GOOD, (GOOD[0], None)], TypeError, r"label of train\[1\] is None .* leave out samples without a class"),
        ([GOOD, (GOOD[0], torch.tensor([0, 1, 1]))], TypeError, r"shape \(3,\): .* several classes is not supported"),
        ([(torch.rand(4, 4).mul(255).byte(), 0)], ValueError, r"shape \(4, 4\): give .*image\[None\]"),
        ([GOOD, (np.zeros((3, 32, 32), np.uint8), 0)], ValueError, r"train\[1\] .*\(3, 32, 32\).*transpose\(1, 2, 0\)"),
        ([(np.zeros((1, 28, 28), np.uint8), 0)], ValueError, r"looks like \(C, H, W\): give image.transpose"),
        (
            [GOOD, (torch.rand(32, 32, 3), 0)],
            ValueError,
            r"train\[1\], read as .*\(32, 32, 3\): .*permute\(2, 0, 1\)",
        ),
        (
            [GOOD, (torch.full((1, 4, 4), torch.inf), 0)],
            ValueError,
            r"image of train\[1\] has values that are NaN or inf",
        ),
        ([GOOD, (np.zeros((32, 3, 32), np.uint8), 0)], ValueError, r"train\[1\], read as \(C, H, W\), .*\(32, 32, 3\)"),
        ([(torch.full((1, 4, 4), 1e300, dtype=torch.float64), 0)], ValueError, r"train\[0\] has .* \(in float32\)"),
        ([GOOD, (3, GOOD[0])], TypeError, r"train\[1\] is a \(label, image\) pair: swap them"),
        ((torch.rand(4, 1, 4, 4), torch.zeros(4)), TypeError, r"train\[0\] is a Tensor: .*TensorDataset\(X, y\)"),
        ([GOOD, (GOOD[0], "cat")], TypeError, r"label of train\[1\] is 'cat' \(str\)"),
        ([GOOD, (GOOD[0], 1.0)], TypeError, r"label of train\[1\] is 1.0 \(float\): .* here 1, with int\(label\)"),
        ([GOOD, (GOOD[0], True)], TypeError, r"label of train\[1\] is True .* here 1, with int"),
        ([GOOD, (GOOD[0], -1)], ValueError, r"label of train\[1\] is -1: number .* leave out"),
        ([GOOD, (GOOD[0], torch.tensor([0, 1, 0]))], TypeError, r"train\[1\] is a Tensor of shape \(3,\): .*argmax"),
        ([GOOD, (GOOD[0], np.array([2]))], TypeError, r"train\[1\] is a ndarray of shape \(1,\): .*label.item\(\)"),
        ([GOOD, (GOOD[0], torch.tensor([2]))], TypeError, r"train\[1\] is a Tensor of shape \(1,\): .*label.item\(\)"),
        ([GOOD, (GOOD[0], [0, 1])], TypeError, r"label of train\[1\] is \[0, 1\] \(list\).* several classes"),
        ({"train": [GOOD]}, TypeError, "train is a dict without __len__ and __getitem__ of indices.*contains 'train'"),
        (Endless(), TypeError, "train is a Endless without"),
        (DataLoader([GOOD]), TypeError, r"train is a DataLoader without .*loader.dataset"),
        (Lying(), ValueError, r"train\[2\] cannot be read \(IndexError: .*\): correct __len__, which is 3"),
        (Broken(), OSError, r"train\[1\] cannot be read \(FileNotFoundError: no cat.png\): repair it or leave it out"),
    ],
)
def test_from_datasets_refuses(train: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        from_datasets(train, [GOOD], val=[GOOD])


def test_a_file_that_is_cut_off_is_named(tmp_path: Path) -> None:
    Image.fromarray(COLOUR.repeat(20, 0).repeat(20, 1)).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:200])
    pictures = [(Image.open(tmp_path / name), 0) for name in ("whole.png", "cut.png")]
    with pytest.raises(OSError, match=r"train\[1\] cannot be decoded \(.*truncated.*\): repair it or leave it out"):
        from_datasets(pictures, pictures[:1], val=pictures[:1])


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"image_key": "img"}, TypeError, r"image_key is 'img', but train\[0\] is a tuple: leave it out"),
        (
            {"mode": "L"},
            TypeError,
            r"mode is 'L', but the image of train\[0\] is a Tensor, not a PIL image: leave mode",
        ),
        ({"mode": "rgb"}, KeyError, "unknown mode 'rgb': did you mean 'RGB'"),
        ({"in_memory": "no"}, TypeError, "in_memory must be True or False, got 'no'"),
    ],
)
def test_from_datasets_refuses_settings(settings: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        from_datasets([GOOD], [GOOD], val=[GOOD], **settings)


def test_data_sets_for_each_other_s_split_are_refused() -> None:
    train, val, test = (Loaded([GOOD], split) for split in ("train", "validation", "test"))
    with pytest.raises(ValueError, match=r"test is the split 'val' of its data set, and val the split 'test': swap"):
        from_datasets(train, val, val=test)
    mnist = Loaded([GOOD], ""), Loaded([GOOD], "")
    mnist[0].train, mnist[1].train = True, False
    with pytest.raises(ValueError, match=r"train is the split 'test' of its data set, and test the split 'train'"):
        from_datasets(mnist[1], mnist[0], val=[GOOD])


def test_images_that_do_not_fit_into_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lkd.data.custom.available_memory", lambda: 20 * GOOD[0].nbytes)
    assert len(from_datasets([GOOD] * 9, [GOOD] * 2).test) == 2
    with pytest.raises(ValueError, match=r"12 images of \(1, 4, 4\) torch.float32 need .* GB .* in_memory=False"):
        from_datasets([GOOD] * 10, [GOOD] * 2)


@pytest.mark.parametrize("share", [0, 1, -0.1, 0.01])
def test_from_datasets_refuses_a_share_that_leaves_a_part_empty(share: float) -> None:
    with pytest.raises(ValueError, match=f"val_share (must be above 0 and below 1, got )?{share}"):
        from_datasets([GOOD] * 10, [GOOD], val_share=share)


def test_from_datasets_says_which_argument_is_wrong() -> None:
    with pytest.raises(ValueError, match="test is empty"):
        from_datasets([GOOD] * 2, [], val=[GOOD])
    with pytest.raises(ValueError, match=r"val\[1\] has label 1, classes names 1 .*: name every class"):
        from_datasets([GOOD], [GOOD], val=[GOOD, (GOOD[0], 1)], classes=["only"])
    with pytest.raises(TypeError, match="classes is 'only': give a list of names"):
        from_datasets([GOOD], [GOOD], val=[GOOD], classes="only")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([1, 2, 3, 4], r"from 1 to 4 \(the label of train\[3\]\), with 4 different ones: number the classes 0 to 3"),
        ([0, 5, 9], r"from 0 to 9 .* with 3 different ones: .*classes=\[str\(k\) for k in range\(10\)\]"),
        ([0, 1, 255], r"from 0 to 255 \(the label of train\[2\]\).* leave out samples that have no class"),
        ([0, 10**12], "from 0 to 1000000000000"),
    ],
)
def test_labels_that_do_not_number_classes_are_refused(labels: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_datasets([(GOOD[0], label) for label in labels], [(GOOD[0], labels[0])], val=[(GOOD[0], labels[0])])


def test_classes_may_be_named_that_have_no_image() -> None:
    few = [(image, label) for image, label in zip(torch.rand(8, 1, 4, 4), [1, 2, 3, 4] * 2, strict=True)]
    with pytest.warns(UserWarning, match="no split has an image of class '0': the network gets outputs"):
        named = from_datasets(few, few, val=few, classes=[str(k) for k in range(5)])
    assert len(named.classes) == 5
    with pytest.raises(ValueError, match=r"train\[3\] has label 4, .*number the classes from 0, not from 1"):
        from_datasets(few, few, val=few, classes=["a", "b", "c", "d"])


def test_training_images_that_a_cast_made_black_are_refused() -> None:
    black = [((image.clamp(max=0.99)).byte(), 0) for image in torch.rand(4, 1, 4, 4)]
    with pytest.raises(ValueError, match=r"every value of every train image is 0: .* multiply them by 255"):
        from_datasets(black, black, val=black)


# Fingerprint --------------------------------------------------------------------------------------------------------


def changed(split: Split, field: str) -> Split:
    """The split with the last element of its images or labels changed by one."""
    tensors = {"images": split.images.clone(), "labels": split.labels.clone()}
    tensors[field].view(-1)[-1] ^= 1
    return Split(**tensors)


@pytest.mark.parametrize("name", ["train", "val", "test"])
@pytest.mark.parametrize("field", ["images", "labels"])
def test_fingerprint_sees_one_changed_value(name: str, field: str) -> None:
    split = numbered([0, 1, 0, 1])
    assert fingerprint(images_of(split)) != fingerprint(images_of(split, **{name: changed(split, field)}))


@pytest.mark.parametrize("changes", [{"classes": ("a", "c")}, {"mean": (0.4,)}, {"std": (0.2,)}])
def test_fingerprint_sees_classes_and_statistics(changes: dict) -> None:
    split = numbered([0, 1])
    assert fingerprint(images_of(split)) != fingerprint(images_of(split, **changes))


def test_fingerprint_sees_shape_and_type_of_the_same_bytes() -> None:
    flat = torch.zeros(2, 1, 4, 4, dtype=torch.uint8)
    reshaped, floats = flat.reshape(2, 1, 2, 8), torch.zeros(2, 1, 2, 2)
    assert len({fingerprint(images_of(Split(pixels, LABELS))) for pixels in (flat, reshaped, floats)}) == 3


def test_fingerprint_does_not_see_name_or_memory_layout() -> None:
    split = numbered([0, 1], channels=3)
    strided = Split(split.images.to(memory_format=torch.channels_last), split.labels)
    statistics = {"mean": (0.5,) * 3, "std": (0.5,) * 3}
    ours = images_of(split, **statistics)
    assert not strided.images.is_contiguous()
    assert fingerprint(ours) == fingerprint(images_of(strided, name="other", **statistics))


def test_fingerprint_is_the_same_in_every_process() -> None:
    assert fingerprint(images_of(numbered([0, 1, 0, 1]))) == "2c9dba7618723d67"


# Digits -------------------------------------------------------------------------------------------------------------


def test_digits_has_its_splits() -> None:
    images = load("digits")
    assert [len(split) for split in images.splits.values()] == [1297, 250, 250]
    assert (images.channels, images.size, images.classes) == (1, (32, 32), tuple("0123456789"))
    assert images.train.images.dtype == torch.uint8
    for split in (images.val, images.test):
        assert set(split.labels.bincount().tolist()) <= {24, 25, 26}


def test_digits_are_the_originals_enlarged() -> None:
    from sklearn.datasets import load_digits

    centres = np.clip((np.arange(32) + 0.5) / 4 - 0.5, 0, 7)
    weights = np.stack([np.interp(centres, np.arange(8), unit) for unit in np.eye(8)], axis=1)
    bundled, images = load_digits(), load("digits")
    enlarged = np.round(weights @ bundled.images @ weights.T * 255 / 16).astype(np.uint8)
    labels = {image.tobytes(): label for image, label in zip(enlarged, bundled.target, strict=True)}
    assert enlarged.min() == 0 and enlarged.max() == 255
    for split in images.splits.values():
        for image, label in zip(split.images.numpy(), split.labels.tolist(), strict=True):
            assert labels.pop(image.tobytes()) == label
    assert not labels


def test_digits_are_the_same_on_every_machine() -> None:
    assert fingerprint(load("digits")) == "01610ed4ed2964ef"


# Fashion-MNIST ------------------------------------------------------------------------------------------------------


def idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
    return header + array.astype(np.uint8).tobytes()


def made(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    return np.random.default_rng(seed).integers(0, 256, (count, 28, 28)), np.arange(count) % 10


@pytest.fixture(scope="module")
def small() -> dict[str, bytes]:
    """Four unpacked files in the format of Fashion-MNIST: 60 training images and 20 test images."""
    arrays = (*made(60, seed=0), *made(20, seed=1))
    return {name: idx(array) for name, array in zip(fashion_mnist.SHA256, arrays, strict=True)}


def write(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(gzip.compress(content, compresslevel=1))
    return folder


@pytest.fixture
def nowhere(small: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder of a machine without Fashion-MNIST, mirrors and apt; `small` replaces the data set."""
    monkeypatch.setattr(
        fashion_mnist, "SHA256", {name: hashlib.sha256(content).hexdigest() for name, content in small.items()}
    )
    monkeypatch.setattr(fashion_mnist, "VALIDATION", 10)
    monkeypatch.setattr(fashion_mnist, "DEBIAN_FOLDER", tmp_path / "usr/share/datasets/fashion-mnist")
    monkeypatch.setattr(FashionMNIST, "mirrors", [])
    monkeypatch.setenv("LKD_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path / "home" / "data" / "fashion-mnist"


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The address of a local web server, and the folder it serves."""
    served = tmp_path / "served"
    served.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *words: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(served))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/", served
        server.shutdown()
        thread.join()


def install_apt(tmp_path: Path, payload: Path, exit_code: int = 0) -> None:
    """Fake apt-get and dpkg-deb that unpack a package with `payload` in the Debian folder."""
    commands = tmp_path / "bin"
    commands.mkdir(exist_ok=True)
    place = fashion_mnist.DEBIAN_FOLDER.relative_to("/")
    scripts = {
        "apt-get": f'echo "$@" > {tmp_path}/asked; echo "E: no lists" >&2; : > data_1_all.deb; exit {exit_code}',
        "dpkg-deb": f'test "$1" = -x && test -f "$2" && /bin/mkdir -p "$3/{place}" && /bin/cp {payload}/* "$3/{place}"',
    }
    for name, script in scripts.items():
        (commands / name).write_text(f"#!/bin/sh\n{script}\n")
        (commands / name).chmod(0o755)


def test_fashion_mnist_is_parsed_padded_and_split(small: dict[str, bytes], nowhere: Path, tmp_path: Path) -> None:
    images = fashion_mnist.fashion_mnist(write(tmp_path / "given", small))
    pixels, labels = made(60, seed=0)
    tested, test_labels = made(20, seed=1)
    assert torch.equal(images.test.images[:, 0, 2:30, 2:30], torch.as_tensor(tested, dtype=torch.uint8))
    assert images.test.images.shape == (20, 1, 32, 32)
    assert images.test.images.sum(dtype=torch.int64) == tested.sum()
    assert images.test.labels.tolist() == test_labels.tolist()
    assert images.train.labels.bincount().tolist() == [5] * 10
    assert images.val.labels.bincount().tolist() == [1] * 10
    originals = {pixel.astype(np.uint8).tobytes(): label for pixel, label in zip(pixels, labels, strict=True)}
    for split in (images.train, images.val):
        for image, label in zip(split.images, split.labels.tolist(), strict=True):
            assert originals.pop(image[0, 2:30, 2:30].numpy().tobytes()) == label
    assert not originals
    assert (images.mean, images.std) == channel_statistics(images.train.images)
    assert images.classes[9] == "Ankle boot"


def test_the_class_names_are_torchvisions() -> None:
    assert list(fashion_mnist.CLASSES) == FashionMNIST.classes
    assert list(fashion_mnist.SHA256) == [name for name, _ in FashionMNIST.resources]


def marked(small: dict[str, bytes], value: int) -> dict[str, bytes]:
    """The files with another first test label, which identifies their source."""
    content = bytearray(small[TEST_LABELS])
    content[8] = value
    return small | {TEST_LABELS: bytes(content)}


def test_places_are_looked_up_in_order(
    small: dict[str, bytes], nowhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mirror: tuple[str, Path]
) -> None:
    address, served = mirror
    monkeypatch.setattr(FashionMNIST, "mirrors", [address])
    given, packaged = tmp_path / "given", tmp_path / "packaged"
    places = [given, nowhere, fashion_mnist.DEBIAN_FOLDER, served, packaged]
    for value, place in enumerate(places):
        write(place, marked(small, value))
    install_apt(tmp_path, packaged)

    def accept_only(value: int) -> None:
        accepted = hashlib.sha256(marked(small, value)[TEST_LABELS]).hexdigest()
        monkeypatch.setitem(fashion_mnist.SHA256, TEST_LABELS, accepted)

    def empty(place: Path) -> None:
        for file in place.iterdir():
            file.unlink()

    accept_only(0)
    assert fashion_mnist.fashion_mnist(given).test.labels[0] == 0
    for value, place in enumerate(places[1:], start=1):
        accept_only(value)
        assert fashion_mnist.fashion_mnist().test.labels[0] == value
        empty(nowhere)
        empty(place)


def test_what_a_mirror_gives_is_kept(
    small: dict[str, bytes], nowhere: Path, monkeypatch: pytest.MonkeyPatch, mirror: tuple[str, Path]
) -> None:
    address, served = mirror
    write(served, small)
    monkeypatch.setattr(FashionMNIST, "mirrors", ["http://127.0.0.1:9/", address])
    first = fashion_mnist.fashion_mnist()
    monkeypatch.setattr(FashionMNIST, "mirrors", [])
    assert fingerprint(fashion_mnist.fashion_mnist()) == fingerprint(first)
    assert sorted(path.name for path in nowhere.iterdir()) == sorted(small)


def test_what_the_package_gives_is_kept(small: dict[str, bytes], nowhere: Path, tmp_path: Path) -> None:
    install_apt(tmp_path, write(tmp_path / "packaged", small))
    assert len(fashion_mnist.fashion_mnist().test) == 20
    assert (tmp_path / "asked").read_text().split()[-2:] == ["download", "dataset-fashion-mnist"]
    assert sorted(path.name for path in nowhere.iterdir()) == sorted(small)


def test_a_mirror_with_other_files_is_passed_over(
    small: dict[str, bytes], nowhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mirror: tuple[str, Path]
) -> None:
    address, served = mirror
    write(served, marked(small, 9))
    monkeypatch.setattr(FashionMNIST, "mirrors", [address])
    with pytest.raises(FileNotFoundError, match=rf"{address}: .*{TEST_LABELS}: sha256 .* expected"):
        fashion_mnist.fashion_mnist()
    assert not list(nowhere.iterdir())
    install_apt(tmp_path, write(tmp_path / "packaged", small))
    assert fashion_mnist.fashion_mnist().test.labels[0] == 0


def test_a_mirror_that_never_answers_is_given_up(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fashion_mnist, "MIRROR_TIMEOUT_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(FashionMNIST, "mirrors", [f"http://127.0.0.1:{silent.getsockname()[1]}/"])
        began = time.monotonic()
        with pytest.raises(FileNotFoundError, match="timed out"):
            fashion_mnist.fashion_mnist()
    assert time.monotonic() - began < 2
    assert socket.getdefaulttimeout() is None


def test_the_error_lists_every_place_and_the_remedies(
    small: dict[str, bytes], nowhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FashionMNIST, "mirrors", ["http://127.0.0.1:9/"])
    write(nowhere, {TRAIN_IMAGES: small[TRAIN_IMAGES]})
    install_apt(tmp_path, tmp_path, exit_code=100)
    with pytest.raises(FileNotFoundError) as caught:
        fashion_mnist.fashion_mnist()
    lines = str(caught.value).splitlines()
    assert lines[1] == f"  {nowhere}: missing {TRAIN_LABELS}, {TEST_IMAGES}, {TEST_LABELS}"
    assert lines[2] == f"  {fashion_mnist.DEBIAN_FOLDER}: no such folder"
    assert re.fullmatch(r"  http://127.0.0.1:9/: .*refused.*", lines[3])
    assert lines[4] == "  apt-get download dataset-fashion-mnist: apt-get ended with 100: E: no lists"
    assert f"into {nowhere}; or run apt install dataset-fashion-mnist; or pass the folder" in lines[5]


def test_a_machine_without_apt_says_so(nowhere: Path) -> None:
    with pytest.raises(FileNotFoundError, match="apt-get download dataset-fashion-mnist: this machine has no apt-get"):
        fashion_mnist.fashion_mnist()


def test_a_given_folder_is_never_passed_over(small: dict[str, bytes], nowhere: Path, tmp_path: Path) -> None:
    write(nowhere, small)
    with pytest.raises(FileNotFoundError, match="absent: no such folder"):
        fashion_mnist.fashion_mnist(tmp_path / "absent")
    partial = write(tmp_path / "partial", {name: small[name] for name in (TRAIN_IMAGES, TEST_IMAGES, TEST_LABELS)})
    with pytest.raises(FileNotFoundError, match=rf"partial: missing {TRAIN_LABELS}\. Put"):
        fashion_mnist.fashion_mnist(partial)


def corrupt(folder: Path, small: dict[str, bytes], how: str) -> None:
    """Files with another label, a truncated end, or no gzip format in the last one."""
    write(folder, marked(small, 9))
    path = folder / TEST_LABELS
    if how == "cut":
        path.write_bytes(path.read_bytes()[:-10])
    elif how == "text":
        path.write_bytes(b"<html>not found</html>")


@pytest.mark.parametrize("how", ["other", "cut", "text"])
@pytest.mark.parametrize(
    ("place", "remedy"), [("given", "replace it"), ("cache", "delete it"), ("debian", "apt-get install --reinstall")]
)
def test_a_corrupt_file_is_named_and_nothing_else_is_tried(
    small: dict[str, bytes], nowhere: Path, tmp_path: Path, place: str, remedy: str, how: str
) -> None:
    folder = {"given": tmp_path / "given", "cache": nowhere, "debian": fashion_mnist.DEBIAN_FOLDER}[place]
    corrupt(folder, small, how)
    install_apt(tmp_path, write(tmp_path / "packaged", small))
    reason = f"expected {fashion_mnist.SHA256[TEST_LABELS]}" if how == "other" else "not a complete gzip file"
    with pytest.raises(ValueError, match=f"{folder / TEST_LABELS}.*{reason}.*{remedy}"):
        fashion_mnist.fashion_mnist(folder if place == "given" else None)
    assert not (tmp_path / "asked").exists()


def test_two_at_once_fetch_once(small: dict[str, bytes], nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = []

    def slowly(folder: Path) -> None:
        fetched.append(folder)
        time.sleep(0.1)
        write(folder, small)

    monkeypatch.setattr(fashion_mnist, "_sources", lambda: [("here", slowly)])
    loaded: list[Images] = []
    threads = [threading.Thread(target=lambda: loaded.append(fashion_mnist.fashion_mnist())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(fetched) == 1
    assert fingerprint(loaded[0]) == fingerprint(loaded[1])


# By name ------------------------------------------------------------------------------------------------------------


def test_load_reads_a_source_once_a_process() -> None:
    assert load("digits") is load("digits")
    assert load("digits").name == "digits"


def test_load_passes_the_folder_on(
    small: dict[str, bytes], nowhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "given", small)
    monkeypatch.setenv("HOME", str(tmp_path))
    images = load("fashion_mnist", "~/given")
    assert images.name == "fashion_mnist"
    assert images is load("fashion_mnist", tmp_path / "given")


def test_load_refuses_names_and_folders(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="unknown data set 'fashionmnist': did you mean 'fashion_mnist'"):
        load("fashionmnist")
    with pytest.raises(ValueError, match=r"'digits' does not use one"):
        load("digits", tmp_path)


def test_every_source_is_listed() -> None:
    assert set(data.SOURCES) == {"digits", "fashion_mnist", "tiny_imagenet_32", "cifar10_jpeg"}
