"""Images that stay in their data set give the identity, the batches and the runs of the same images in memory."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import lkd
from lkd.data import Augmentation, Images, fingerprint, from_datasets, subset
from lkd.engine.launch import launch
from lkd.engine.setup import _check_range
from lkd.runs.store import Store

EVERYTHING = Augmentation(
    crop=2, flip=True, cutout=3, mixup=0.4, cutmix=1.0, smoothing=0.1, repeats=2, balance="sampling"
)


class Drawn:
    """Images that are made when they are asked for; keeps count of the readings."""

    def __init__(self, count: int, seed: int, kind: str):
        self.count, self.seed, self.kind = count, seed, kind
        self.readings = 0

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Any, int]:
        self.readings += 1
        pixels = np.random.default_rng((self.seed, index)).integers(0, 256, (12, 12, 3), dtype=np.uint8)
        image = Image.fromarray(pixels) if self.kind == "PIL" else torch.from_numpy(pixels).movedim(2, 0) / 255
        return image, index * index % 5


def both(kind: str = "PIL", **settings: Any) -> tuple[Images, Images]:
    """The same data sets in memory and read when needed."""
    in_memory, lazy = (
        from_datasets(Drawn(60, 0, kind), Drawn(20, 1, kind), in_memory=in_memory, **settings)
        for in_memory in (True, False)
    )
    return in_memory, lazy


def same_batches(one: Any, other: Any) -> bool:
    pairs = list(zip(one, other, strict=True))
    return bool(pairs) and all(torch.equal(a, b) for ours, theirs in pairs for a, b in zip(ours, theirs, strict=True))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", ["PIL", "floats"])
@pytest.mark.parametrize("with_val", [False, True])
def test_identity_and_statistics_are_those_in_memory(kind: str, with_val: bool) -> None:
    settings = {"val": Drawn(10, 2, kind)} if with_val else {}
    memory, lazy = both(kind, **settings)
    assert (lazy.mean, lazy.std, lazy.classes, lazy.size) == (memory.mean, memory.std, memory.classes, memory.size)
    assert fingerprint(lazy) == fingerprint(memory)
    for name, split in lazy.splits.items():
        assert torch.equal(split.images, memory.splits[name].images)
        assert torch.equal(split.labels, memory.splits[name].labels)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("augmentation", [Augmentation(), EVERYTHING])
@pytest.mark.parametrize("workers", [0, 2])
def test_the_stream_has_the_bits_of_the_one_in_memory(augmentation: Augmentation, workers: int) -> None:
    memory, lazy = both()
    streams = [data.stream(subset(data.train, 40, seed=1), augmentation, 8, seed=3) for data in (memory, lazy)]
    ours, theirs = (stream.batches(2, first_step=1, workers=workers) for stream in streams)
    assert same_batches(ours, theirs)
    indices = torch.tensor([4, 0, 3])
    assert same_batches(*(data.batches(data.test, indices, 2, workers) for data in (memory, lazy)))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_only_the_images_of_a_batch_are_read() -> None:
    train = Drawn(60, 0, "PIL")
    data = from_datasets(train, Drawn(20, 1, "PIL"), in_memory=False)
    stream, before = data.stream(data.train, Augmentation(cutmix=1.0), 8, seed=0), train.readings
    stream.batch(0, 0)
    assert train.readings - before == 8
    fingerprint(data)
    before = train.readings
    fingerprint(data)
    assert train.readings == before


def lie(data: Drawn) -> None:
    data.seed += 1


def relabel(data: Drawn) -> None:
    reading = Drawn.__getitem__
    data.__class__ = type("Other", (Drawn,), {"__getitem__": lambda self, index: (reading(self, index)[0], 3)})


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("change", [lie, relabel])
def test_a_sample_that_changes_later_is_named(change: Callable[[Drawn], None]) -> None:
    train = Drawn(60, 0, "PIL")
    data = from_datasets(train, Drawn(20, 1, "PIL"), in_memory=False)
    change(train)
    with pytest.raises(ValueError, match=r"train\[\d+\] differs from its first reading: remove random transforms"):
        list(data.stream(data.train, Augmentation(), 8, seed=0).batches(0))


def test_the_same_mistakes_are_refused_and_warned_of() -> None:
    pairs = [(torch.rand(3, 8, 8), k % 3) for k in range(30)]
    with pytest.raises(ValueError, match=r"train\[30\] is \(3, 8, 9\).*train\[0\] \(3, 8, 8\)"):
        from_datasets([*pairs, (torch.rand(3, 8, 9), 0)], pairs, in_memory=False)
    black = [(torch.zeros(1, 4, 4, dtype=torch.uint8), 0)] * 20
    with pytest.raises(ValueError, match="every value of every train image is 0"):
        from_datasets(black, black, in_memory=False)
    with pytest.warns(UserWarning, match="30 of 30 test images are in train as well"):
        from_datasets(pairs, list(pairs), in_memory=False)
    with pytest.warns(UserWarning, match="test images .* differ from train images"):
        from_datasets(pairs, [(255 * image, label) for image, label in pairs], in_memory=False)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.usefixtures("one_thread")
def test_a_run_is_the_one_of_the_same_images_in_memory(tmp_path: Path) -> None:
    memory, lazy = both()
    settings: dict[str, Any] = dict(profile="smoke", epochs=1, batch_size=16, train_images=48, flip=True)
    first = lkd.train("mini_resnet", data=memory, **settings, store=Store(tmp_path / "memory"))
    options = lkd.Options(workers=1)
    second = lkd.train("mini_resnet", data=lazy, **settings, store=Store(tmp_path / "lazy"), options=options)
    assert (first.recipe.run_id, first.metrics) == (second.recipe.run_id, second.metrics)
    pairs = zip(first.student.state_dict().values(), second.student.state_dict().values(), strict=True)
    assert all(torch.equal(ours, theirs) for ours, theirs in pairs)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_is_sent_to_another_process_is_the_same_there() -> None:
    _, lazy = both()
    known = fingerprint(lazy)
    sent = pickle.loads(pickle.dumps(lazy))
    readings = sent.train.samples.dataset.readings
    assert fingerprint(sent) == known and sent.train.samples.dataset.readings == readings
    ours, theirs = (data.stream(data.train, EVERYTHING, 8, seed=3).batches(1) for data in (lazy, sent))
    assert same_batches(ours, theirs)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_data_set_of_a_notebook_is_not_sent_to_other_processes(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    _, lazy = both()
    monkeypatch.setattr(Drawn, "__module__", "__main__")
    recipe = lkd.Recipe(data="digits", student="mini_resnet")
    with pytest.raises(
        ValueError, match="a data set cannot be sent to other processes: Drawn is defined in a notebook"
    ):
        launch(recipe, store, {"memory:1": lazy}, True, 2, lkd.Options(), 1)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_teacher_with_its_own_normalisation_needs_images_in_range() -> None:
    pairs = [(5 * torch.rand(3, 8, 8), k % 3) for k in range(40)]
    data = from_datasets(pairs, pairs, in_memory=False)
    with pytest.raises(ValueError, match=r"for images in \[0, 1\], but train images range from .* to \d"):
        _check_range("teacher", "resnet18", data)
