"""Probable mistakes in data are read unchanged, with one warning that names split, index and remedy."""

import random
import re
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.utils.data import Subset, TensorDataset

from lkd.data import Images, Split, load
from lkd.data.custom import from_datasets
from lkd.data.images import fingerprint

Pairs = list[tuple[Tensor, int]]


def photos(count: int, seed: int, *, channels: int = 3, classes: int = 3) -> Pairs:
    """Smooth images in [0, 1], similar to photographs, with cycling classes."""
    draw = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, channels, 3, 3, generator=draw)
    smooth = torch.nn.functional.interpolate(coarse, (12, 12), mode="bilinear")
    return [(image, index % classes) for index, image in enumerate(smooth)]


def changed(pairs: Pairs, change: Callable[[Tensor], Tensor]) -> Pairs:
    return [(change(image), label) for image, label in pairs]


def bytes_of(image: Tensor) -> Tensor:
    return (255 * image).round().byte()


def normalised(image: Tensor) -> Tensor:
    return (image - 0.5) / 0.2


def reddish(image: Tensor) -> Tensor:
    return image * torch.tensor([1, 0.75, 0.5])[:, None, None]


TRAIN, TEST, VAL = photos(30, 0), photos(12, 1), photos(9, 2)


def messages_of(train: object, test: object, val: object = VAL, **settings: object) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        from_datasets(train, test, val=val, **settings)
    told = [warning for warning in caught if warning.category is UserWarning]
    assert all(warning.filename == __file__ for warning in told)
    return [str(warning.message) for warning in told]


def test_what_is_usual_is_read_without_a_word() -> None:
    def unlike(image: Tensor) -> Tensor:
        return 2 * image - 1

    for change in (lambda image: image, bytes_of, normalised, unlike, lambda image: image[:1], torch.Tensor.double):
        assert messages_of(*(changed(pairs, change) for pairs in (TRAIN, TEST, VAL))) == []
    bands = [photos(count, count, channels=13) for count in (30, 12, 9)]
    assert messages_of(*bands) == []
    whole = TensorDataset(torch.stack([bytes_of(image) for image, _ in TRAIN]), torch.arange(30, dtype=torch.int32) % 3)
    assert messages_of(Subset(whole, range(20)), Subset(whole, range(20, 30)), None, val_share=0.3) == []


def test_a_data_set_of_this_package_is_read_without_a_word(recwarn: pytest.WarningsRecorder) -> None:
    digits = load("digits")
    Images("again", digits.classes, digits.train, digits.val, digits.test, digits.mean, digits.std)
    assert [warning for warning in recwarn if warning.category is UserWarning] == []


def test_a_warning_changes_nothing() -> None:
    with pytest.warns(UserWarning, match="test is the same data set as train"):
        doubtful = from_datasets(TRAIN, TRAIN, val=VAL)
    assert fingerprint(doubtful) == fingerprint(from_datasets(TRAIN, list(TRAIN), val=VAL))
    assert torch.equal(doubtful.test.images, torch.stack([image for image, _ in TRAIN]))


# Values -------------------------------------------------------------------------------------------------------------

OF_255 = changed(TEST, lambda image: 255 * image)
VALUES = {
    "floats to 255 in test": (
        TRAIN,
        OF_255,
        r"test images \(\S+ to 2\d\d.*\) differ from train .*normalise all",
    ),
    "floats to 255 in train": (changed(TRAIN, lambda i: 255 * i), TEST, "test images .* differ from train images"),
    "normalised train": (changed(TRAIN, normalised), TEST, "test images .* differ from train images"),
    "normalised test": (TRAIN, changed(TEST, normalised), "test images .* differ from train images"),
    "test divided twice": (TRAIN, changed(TEST, lambda i: i / 255), "test images .* differ from train images"),
    "a bright test": (TRAIN, changed(TEST, lambda i: 1 - i.clamp(0.8, 1)), "test images .* differ from train"),
    "a black test": (TRAIN, changed(TEST, torch.zeros_like), "every value of every test image is 0: check"),
    "grey test": (TRAIN, changed(TEST, lambda i: i[:1].expand(3, -1, -1)), "all test images are grey \(three equal"),
    "grey train": (changed(TRAIN, lambda i: i[:1].expand(3, -1, -1)), TEST, "all train images are grey \(three equal"),
    "BGR in test": (
        changed(TRAIN, reddish),
        changed(TEST, lambda i: reddish(i).flip(0)),
        r"images is -0\.2.*RGB; OpenCV",
    ),
    "one at 255": ([*TRAIN, (255 * TRAIN[0][0], 0)], TEST, r"1 of 31 train images .*train\[30\] \(\S+ to 2\d\d"),
    "one of 0 and 1": (
        [*changed(TRAIN, bytes_of), ((TRAIN[0][0] > 0.5).byte(), 0)],
        changed(TEST, bytes_of),
        r"1 of 31 train images .*train\[30\] \(0 to 1\)",
    ),
    "one normalised": (TRAIN, [*TEST[:4], (normalised(TEST[4][0]), 0), *TEST[5:]], r"1 of 12 test .*test\[4\] \(-"),
    "one not normalised": ([TRAIN[0], *changed(TRAIN[1:], normalised)], changed(TEST, normalised), r"train\[0\] \(0"),
}


@pytest.mark.parametrize("case", VALUES)
def test_values_that_differ_in_range(case: str) -> None:
    train, test, message = VALUES[case]
    assert any(re.search(message, told) for told in messages_of(train, test, None, val_share=0.2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda i: 255 * i, r"train images are floats from \S+ to 2\d\d\S*, with .* of [3-9]\d"),
        (lambda i: i / 255, r"train images are floats from \S+ to 0.00\d+, .* give uint8 images, or floats"),
        (lambda i: (i > 0.5).byte(), "train images are uint8 with values 0 and 1 only: .* multiply by 255"),
        (torch.zeros_like, "every value of every train image is 0: check"),
    ],
)
def test_values_that_no_network_expects(change: Callable[[Tensor], Tensor], message: str) -> None:
    told = messages_of(*(changed(pairs, change) for pairs in (TRAIN, TEST, VAL)))
    assert [bool(re.search(message, each)) for each in told if "copies" not in each] == [True]


def test_images_of_one_s_own_are_looked_at_as_well() -> None:
    train, test = (
        Split(torch.stack([image for image, _ in pairs]), torch.arange(len(pairs)) % 3) for pairs in (TRAIN, TEST)
    )
    channels = (0.0,) * 3, (1.0,) * 3
    with pytest.warns(UserWarning, match="test images .* differ from train images"):
        Images("own", ("a", "b", "c"), train, train, Split(normalised(test.images), test.labels), *channels)
    with pytest.warns(UserWarning, match=r"train images are floats .* with a standard deviation of 5\."):
        twice = Split(normalised(normalised(train.images)), train.labels)
        Images("twice", ("a", "b", "c"), twice, twice, twice, *channels)


@pytest.mark.parametrize("axes", [(1, 2, 0), (2, 0, 1)])
def test_axes_that_are_doubtful(axes: tuple[int, int, int]) -> None:
    """64 x 64 pixels with 13 bands, which are last or in the middle."""
    train, test, val = ([(torch.rand(13, 64, 64).permute(axes), k % 2) for k in range(4)] for _ in range(3))
    (told,) = messages_of(train, test, val)
    assert re.search("images have 64 channels of (64 x 13|13 x 64) pixels: .* order", told)


# Classes ------------------------------------------------------------------------------------------------------------


def labelled(pairs: Pairs, *labels: int) -> Pairs:
    """The same images with the given labels, cycled."""
    return [(image, labels[index % len(labels)]) for index, (image, _) in enumerate(pairs)]


@pytest.mark.parametrize(
    ("train", "test", "settings", "messages"),
    [
        ((0, 1, 2), (0, 1, 2, 3), {}, ["train has no image of class '3'.*no network can learn", "val has no .*'3'"]),
        ((0, 1, 2, 3), (0, 1, 2), {}, ["val has no", "test has no image of class '3'.*its accuracy leaves that out"]),
        ((0, 1, 2), (0,), {}, ["test has no image of 2 of 3 classes, '1' and '2'|test has no .* '1', '2'"]),
        ((0, 1, 2), (0, 1, 2), {"classes": list("abcd")}, ["no split has an image of class 'd': .* never right"]),
        ((0, 1, 2), (0, 1, 2), {"classes": list("aab")}, ["classes names 'a' more than once"]),
    ],
)
def test_classes_that_a_split_lacks(train: tuple, test: tuple, settings: dict, messages: list[str]) -> None:
    told = messages_of(labelled(TRAIN, *train), labelled(TEST, *test), **settings)
    assert len(told) == len(messages) and all(map(re.search, messages, told))


def test_one_class_alone() -> None:
    (told,) = messages_of(*(labelled(pairs, 0) for pairs in (TRAIN, TEST, VAL)))
    assert told.startswith("there is only one class ('0')")


@pytest.mark.parametrize(
    ("counts", "message"),
    [((28, 1), "train has no image of class '1'"), ((27, 3), "val has no image of class '1'")],
)
def test_a_share_that_leaves_a_class_out(counts: tuple[int, int], message: str) -> None:
    few = [(image, int(index >= counts[0])) for index, (image, _) in enumerate(TRAIN[: sum(counts)])]
    share = 0.6 if counts[1] == 1 else 0.1
    told = messages_of(few, labelled(TEST, 0, 1), None, val_share=share, seed=1)
    assert any(message in each and "another val_share, or val)" in each for each in told)


class Named(list):
    """A data set with class names, like torchvision's."""

    def __init__(self, pairs: Pairs, classes: list[str]):
        super().__init__(pairs)
        self.classes = classes


@pytest.mark.parametrize(
    ("test", "settings", "message"),
    [
        (["cat", "eel", "dog"], {}, "label 1 is 'dog' in train and 'eel' in test: number the classes the same way"),
        (["cat", "eel"], {}, "label 1 is 'dog' in train and 'eel' in test"),
        (["cat", "dog", "eel"], {"classes": ["dog", "cat", "eel"]}, "label 0 is 'cat' in train and 'dog' in classes"),
    ],
)
def test_classes_in_another_order(test: list[str], settings: dict, message: str) -> None:
    train = Subset(Named(TRAIN, ["cat", "dog", "eel"]), range(30))
    (told,) = messages_of(train, Named(TEST, test), **settings)
    assert told.startswith(message)


def test_classes_in_one_order_under_other_names() -> None:
    named = [Named(pairs, ["cat", "dog", "eel"]) for pairs in (TRAIN, TEST, VAL)]
    assert messages_of(*named) == messages_of(*named, classes=["Katze", "Hund", "Aal"]) == []


# Random and repeated samples ----------------------------------------------------------------------------------------


class Flipped(list):
    """A data set that mirrors a random half of the images at each access."""

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, label = super().__getitem__(index)
        return image.flip(2) if random.random() < 0.5 else image, label


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("name", ["train", "val", "test"])
def test_random_transforms_are_refused(name: str, in_memory: bool) -> None:
    sets = {"train": TRAIN, "val": VAL, "test": TEST}
    random.seed(0)
    remedy = rf"remove random transforms .* set crop, flip .* give list\({name}\)"
    with pytest.raises(ValueError, match=rf"{name} is random \({name}\[\d+\], .* and others changed .*\): {remedy}"):
        from_datasets(**{**sets, name: Flipped(sets[name])}, in_memory=in_memory)


def test_one_reading_of_a_random_data_set_is_kept_on_request() -> None:
    random.seed(0)
    once = list(map(Flipped(TRAIN).__getitem__, range(30)))
    assert torch.equal(from_datasets(once, TEST, val=VAL).train.images, torch.stack([image for image, _ in once]))


@pytest.mark.parametrize(
    ("test", "val", "message"),
    [
        (TRAIN, VAL, "test is the same data set as train: its accuracy"),
        (TEST, TRAIN, "val is the same data set as train"),
        (TEST, TEST, "val is the same data set as test"),
        (TRAIN[:12], VAL, "12 of 12 test images are in train as well: an accuracy on them"),
        ([*TEST, *TRAIN[:2]], VAL, "2 of 14 test images are in train as well"),
        (TEST, [*VAL, TRAIN[3]], "1 of 10 val images are in train as well"),
        (TEST, [*VAL, TEST[3]], "1 of 10 val images are in test as well"),
        ([TEST[0]] * 3, VAL, "all 3 test images are copies of one"),
    ],
)
def test_images_that_are_there_twice(test: Pairs, val: Pairs, message: str) -> None:
    told = [each for each in messages_of(TRAIN, test, val) if "has no image" not in each and "differ from" not in each]
    assert len(told) == 1 and told[0].startswith(message)
