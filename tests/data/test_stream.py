"""The stream: order, augmentation and mixing of images, all determined by (seed, epoch, position)."""

import hashlib
import itertools

import numpy as np
import pytest
import torch
from scipy import stats

from lkd.data import Augmentation, Images, Split
from lkd.data.augment import boxes, crop_and_flip, soften

EVERYTHING = Augmentation(crop=2, flip=True, cutout=3, mixup=0.8, cutmix=1.0, smoothing=0.1)


def data_of(images, labels, classes, mean=None, std=None):
    split = Split(images, labels)
    channels = images.shape[1]
    mean, std = mean or (0.0,) * channels, std or (1.0,) * channels
    return Images("made", tuple(map(str, range(classes))), split, split, split, mean, std)


def numbered(count=40, size=(8, 8)):
    """Image i has the value i + 1 and is the only one of class i, so a mixture reveals its components."""
    values = torch.arange(1.0, count + 1)[:, None, None, None]
    return data_of(values.expand(count, 1, *size).clone(), torch.arange(count), count)


def noise(count=40, size=(8, 8), seed=0):
    rng = torch.Generator().manual_seed(seed)
    return data_of(torch.rand(count, 2, *size, generator=rng) + 0.5, torch.arange(count) % 10, 10)


def stream_of(data, augmentation=Augmentation(), batch_size=10, seed=0):  # noqa: B008
    return data.stream(data.train, augmentation, batch_size, seed)


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


# Reproducibility ----------------------------------------------------------------------------------------------------


def test_a_batch_does_not_depend_on_what_was_asked_before_nor_on_global_random_state():
    used = stream_of(noise(), EVERYTHING)
    for epoch, step in ((2, 3), (0, 0), (2, 1), (1, 2), (0, 3), (2, 3)):
        torch.manual_seed(step)
        np.random.seed(epoch)
        assert same(used.batch(epoch, step), stream_of(noise(), EVERYTHING).batch(epoch, step))


def test_asking_for_a_batch_leaves_global_random_state_and_the_images_alone():
    data = noise()
    before, state = data.train.images.clone(), torch.get_rng_state()
    stream_of(data, EVERYTHING).batch(0, 0)
    assert torch.equal(data.train.images, before) and torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("augmentation", [EVERYTHING, Augmentation(crop=2, flip=True)], ids=["mixed", "unmixed"])
@pytest.mark.parametrize("processes", [2, 3, 4])
def test_processes_together_get_the_batch_of_one(processes, augmentation):
    stream = stream_of(noise(80), augmentation, batch_size=24)
    whole = stream.batch(1, 2)
    shares = [stream.batch(1, 2, process, processes) for process in range(processes)]
    together = [torch.cat(parts) for parts in zip(*shares, strict=True)]
    order = together[2].argsort()
    assert same([part[order] for part in together], whole)
    assert [len(share.images) for share in shares] == [24 // processes] * processes


def test_a_process_holds_both_images_of_a_mixed_pair():
    stream = stream_of(noise(80), Augmentation(mixup=0.8), batch_size=24)
    for process in range(3):
        places = set((stream.batch(1, 2, process, 3).positions - 48).tolist())
        assert places == {23 - place for place in places}
    apart = stream_of(noise(80), batch_size=24).batch(1, 2, 1, 3).positions
    assert torch.equal(apart, torch.arange(49, 72, 3))


@pytest.mark.parametrize(
    ("mixup", "processes", "unit", "fitting"), [(0.0, 3, 3, "9 or 12"), (0.8, 2, 4, "8 or 12"), (0.8, 8, 16, "16")]
)
def test_a_batch_that_processes_cannot_share_evenly_is_refused_before_any_work(mixup, processes, unit, fitting):
    stream = stream_of(noise(), Augmentation(mixup=mixup))
    for ask in (stream.batch, stream.batches):
        place = (0, 0, 0, processes)
        with pytest.raises(
            ValueError, match=f"batch_size 10 .* by {processes} .* multiple of {unit}, such as {fitting}"
        ):
            ask(*place)


def test_batches_are_those_of_each_step_from_any_step_on():
    stream = stream_of(noise(), EVERYTHING)
    for first in range(5):
        for batch, step in zip(stream.batches(1, first, workers=3), range(first, 4), strict=True):
            assert same(batch, stream.batch(1, step))


DIGESTS = {
    "plain": (Augmentation(), "6a320ab9bbb63c8d", "ff7bbebfb96131d1"),
    "moved": (Augmentation(crop=2, flip=True, cutout=3), "5ccc203368d47458", "ce739dd299b8bf6a"),
    "mixed": (EVERYTHING, "b9bb5baf2b0ce6f7", "462fd10f9aeea1c7"),
}


@pytest.mark.parametrize("name", DIGESTS)
def test_a_stream_has_the_bits_that_earlier_runs_had(name):
    """Published runs name a stream: when this changes, `lkd.recipe.FORMAT` must."""
    augmentation, *expected = DIGESTS[name]
    pixels = torch.randint(256, (43, 3, 9, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    for images, digest in zip((pixels, pixels / 256), expected, strict=True):
        found = hashlib.sha256()
        stream = stream_of(data_of(images, torch.arange(43) % 10, 10, (0.5,) * 3, (0.25,) * 3), augmentation, seed=3)
        for tensor in itertools.chain(*stream.batches(0), *stream.batches(1)):
            found.update(str(tensor.dtype).encode() + tensor.contiguous().numpy().tobytes())
        assert found.hexdigest()[:16] == digest


@pytest.mark.parametrize("repeats", [2, 3])
def test_repeats_show_an_image_at_consecutive_positions_each_time_augmented_anew(repeats):
    stream = stream_of(numbered(40), Augmentation(repeats=repeats))
    shown = torch.cat([batch.target for batch in stream.batches(0)])
    assert stream.steps == 4 and len(shown) == 40
    once = stream_of(numbered(40)).batches(0)
    assert torch.equal(shown, torch.cat([batch.target for batch in once]).repeat_interleave(repeats)[:40])
    first = stream_of(noise(), Augmentation(crop=4, repeats=repeats)).batch(0, 0).images
    assert not torch.equal(first[0], first[1])


@pytest.mark.parametrize(
    "field", [{"crop_scale": 0.1}, {"color_jitter": 0.4}, {"auto_augment": "v0"}, {"erasing": 0.2}]
)
def test_augmentation_of_files_is_refused_for_images_in_memory(field):
    with pytest.raises(ValueError, match=f"{next(iter(field))} is .* no effect on images in memory: set it to"):
        stream_of(noise(), Augmentation(**field))


def test_seed_and_epoch_each_change_order_and_augmentation():
    views = [stream_of(noise(), Augmentation(crop=3), seed=s).batch(e, 0).images for s in (0, 1) for e in (0, 1)]
    assert all(not torch.equal(a, b) for a, b in itertools.combinations(views, 2))
    orders = [stream_of(numbered(), seed=s).batch(e, 0).target for s in (0, 1) for e in (0, 1)]
    assert all(not torch.equal(a, b) for a, b in itertools.combinations(orders, 2))


def test_the_order_of_a_seed_is_the_same_in_every_version():
    """Published runs name a seed: when this changes, `lkd.recipe.FORMAT` must."""
    assert stream_of(numbered(), seed=7).batch(3, 1).target[:6].tolist() == [25, 32, 22, 35, 12, 7]


def test_an_epoch_holds_each_image_once_and_drops_the_rest():
    stream = stream_of(numbered(43), batch_size=10)
    batches = [stream.batch(0, step) for step in range(stream.steps)]
    seen = torch.cat([batch.target for batch in batches]).tolist()
    assert stream.steps == 4 and len(seen) == len(set(seen)) == 40
    assert torch.cat([batch.positions for batch in batches]).tolist() == list(range(40))
    assert all(torch.equal(b.images[:, 0, 0, 0], b.target + 1.0) for b in batches)


def test_over_epochs_every_image_comes():
    stream = stream_of(numbered(43), batch_size=10)
    seen = {label for epoch in range(5) for step in range(4) for label in stream.batch(epoch, step).target.tolist()}
    assert seen == set(range(43))


def test_more_in_a_batch_than_there_are_images_is_refused():
    with pytest.raises(ValueError, match="batch_size 41 is more than the 40 training images"):
        stream_of(numbered(40), batch_size=41)
    assert stream_of(numbered(40), batch_size=40).steps == 1


@pytest.mark.parametrize(("name", "most"), [("crop", 8), ("cutout", 16)])
def test_augmentation_that_leaves_nothing_of_the_images_is_refused(name, most):
    stream_of(noise(), Augmentation(**{name: most - 1}))
    with pytest.raises(ValueError, match=f"{name} must be below {most} for images of side 8, got {most}"):
        stream_of(noise(), Augmentation(**{name: most}))


# Geometry -----------------------------------------------------------------------------------------------------------


def slow_crop_and_flip(image, down, right, flip):
    height, width = image.shape[1:]
    out = torch.zeros_like(image)
    for y in range(height):
        for x in range(width):
            row, column = y + down, (width - 1 - x if flip else x) + right
            if 0 <= row < height and 0 <= column < width:
                out[:, y, x] = image[:, row, column]
    return out


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_crop_and_flip_move_the_window_and_mirror_it(dtype):
    cases = list(itertools.product((-3, 0, 2), (-1, 0, 4), (False, True)))
    images = (torch.rand(len(cases), 2, 4, 5, generator=torch.Generator().manual_seed(0)) * 200 + 1).to(dtype)
    shift, flip = torch.tensor([case[:2] for case in cases]), torch.tensor([case[2] for case in cases])
    moved = crop_and_flip(images, shift, flip)
    assert moved.dtype == dtype
    for i, case in enumerate(cases):
        assert torch.equal(moved[i], slow_crop_and_flip(images[i], *case)), case


def test_a_box_lies_around_its_centre_and_ends_at_the_border():
    centre = torch.tensor([[0.5, 0.5], [0.0, 0.99], [0.5, 0.0], [0.3, 0.3]])
    sides = torch.tensor([[2, 3], [4, 4], [1, 6], [0, 5]])
    spans = [((3, 5), (4, 7)), ((0, 2), (7, 10)), ((4, 5), (0, 3)), ((0, 0), (0, 0))]
    for box, (rows, columns) in zip(boxes(centre, sides, (8, 10))[:, 0], spans, strict=True):
        expected = torch.zeros(8, 10, dtype=torch.bool)
        expected[slice(*rows), slice(*columns)] = True
        assert torch.equal(box, expected)


def views_and_originals(augmentation, count=400):
    """The augmented images of an epoch of random pixels, and their originals."""
    data = noise(count)
    plain, changed = (stream_of(data, a, batch_size=count).batch(0, 0) for a in (Augmentation(), augmentation))
    assert torch.equal(plain.target, changed.target)
    return changed.images, plain.images


@pytest.mark.slow
def test_crops_take_every_shift_up_to_the_limit_and_none_beyond():
    found = set()
    for view, image in zip(*views_and_originals(Augmentation(crop=1)), strict=True):
        shifts = [s for s in itertools.product(range(-2, 3), repeat=2) if torch.equal(view, moved(image, s))]
        assert len(shifts) == 1
        found.add(shifts[0])
    assert found == set(itertools.product((-1, 0, 1), repeat=2))


def moved(image, shift):
    return crop_and_flip(image[None], torch.tensor([shift]), torch.tensor([False]))[0]


def test_half_of_the_images_are_mirrored():
    assert 0.4 < np.mean(mirrored(*views_and_originals(Augmentation(flip=True)))) < 0.6


def test_cutout_blanks_one_square_in_all_channels_wherever_it_falls():
    views, images = views_and_originals(Augmentation(cutout=3))
    blank = views == 0
    assert torch.equal(views[~blank], images[~blank]) and torch.equal(blank[:, 0], blank[:, 1])
    inner = [b for b in blank[:, 0] if not torch.cat([b[0], b[-1], b[:, 0], b[:, -1]]).any()]
    assert len(inner) > 50 and all(b.sum() == 9 and b.any(0).sum() == b.any(1).sum() == 3 for b in inner)
    assert (blank[:, 0].any(0)).all() and blank[:, 0].sum((1, 2)).min() >= 4


def test_one_kind_of_augmentation_does_not_move_the_draws_of_another():
    def views(**augmentation):
        return stream_of(noise(), Augmentation(**augmentation)).batch(0, 0).images

    assert torch.equal(views(crop=2, smoothing=0.1), views(crop=2))
    flips = [mirrored(views(crop=crop, flip=True), views(crop=crop)) for crop in (0, 1, 2)]
    assert flips[0] == flips[1] == flips[2]


def mirrored(views, images):
    """For each view, whether it is the mirrored image; the others are the image itself."""
    flipped = [torch.equal(view, image.flip(2)) for view, image in zip(views, images, strict=True)]
    plain = [torch.equal(view, image) for view, image in zip(views, images, strict=True)]
    assert all(a != b for a, b in zip(flipped, plain, strict=True))
    return flipped


def test_cutout_shows_the_same_crop_around_the_blank():
    data, augmentation = noise(), Augmentation(crop=2, flip=True)
    plain = stream_of(data, augmentation).batch(0, 0).images
    cut = stream_of(data, Augmentation(crop=2, flip=True, cutout=3)).batch(0, 0).images
    assert torch.equal(cut[cut != 0], plain[cut != 0]) and (cut == 0).sum() > (plain == 0).sum()


# Balanced classes ---------------------------------------------------------------------------------------------------


def uneven():
    """Image i has the value i + 1; classes 0, 1 and 3 have 20, 4 and 6 images, class 2 none."""
    values = torch.arange(1.0, 31)[:, None, None, None]
    labels = torch.tensor([0] * 20 + [1] * 4 + [3] * 6)[torch.randperm(30, generator=torch.manual_seed(1))]
    return data_of(values.expand(30, 1, 4, 4).clone(), labels, 4)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_balanced_sampling_draws_each_class_equally_often_and_its_images_in_turns():
    data = uneven()
    stream = stream_of(data, Augmentation(balance="sampling"), batch_size=10)
    seen = torch.zeros(30, dtype=torch.int64)
    for epoch in range(40):
        batches = list(stream.batches(epoch))
        assert torch.cat([batch.target for batch in batches]).bincount(minlength=4).tolist() == [10, 10, 0, 10]
        shown = torch.cat([batch.images[:, 0, 0, 0] for batch in batches]).long() - 1
        assert torch.equal(data.train.labels[shown], torch.cat([batch.target for batch in batches]))
        times = shown.bincount(minlength=30)
        assert all(times[data.train.labels == label].unique().diff().le(1).all() for label in (0, 1, 3))
        seen += times
    assert seen.min() > 0


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("repeats", [1, 3])
def test_balanced_sampling_is_replayable_and_changes_the_order_alone(repeats):
    balanced = Augmentation(crop=1, flip=True, balance="sampling", repeats=repeats)
    used, fresh = (stream_of(uneven(), balanced) for _ in range(2))
    list(used.batches(0))
    assert same(used.batch(3, 1), fresh.batch(3, 1))
    assert not same(used.batch(3, 1), used.batch(4, 1))
    labels = torch.cat([batch.target for batch in stream_of(uneven(), balanced).batches(0)])
    assert sorted(labels.bincount()[[0, 1, 3]].tolist()) == ([10, 10, 10] if repeats == 1 else [9, 9, 12])
    equal = noise(40)
    ours = torch.cat([batch.target for batch in stream_of(equal, Augmentation(balance="sampling")).batches(0)])
    assert ours.bincount().tolist() == [4] * 10


def test_an_unknown_balance_is_refused():
    with pytest.raises(KeyError, match=r"unknown balance 'weights'\. There are: none, sampling"):
        Augmentation(balance="weights")


# Mixing -------------------------------------------------------------------------------------------------------------


def mixed(augmentation, count=40, batch_size=10, size=(8, 8), step=1):
    """A mixed batch of numbered images, and for each sample its own number and its partner's."""
    data = numbered(count, size)
    own = stream_of(data, batch_size=batch_size).batch(0, step).target
    return stream_of(data, augmentation, batch_size).batch(0, step), own, own.flip(0)


@pytest.mark.parametrize("kind", [{"mixup": 0.8}, {"cutmix": 1.0}, {"mixup": 0.8, "cutmix": 1.0}], ids=str)
def test_a_target_weighs_two_images_of_the_batch_as_the_pixels_do(kind):
    batch, own, partner = mixed(Augmentation(**kind), count=400, batch_size=200)
    assert batch.target.dtype == torch.float32
    torch.testing.assert_close(batch.target.sum(1), torch.ones(200))
    kept, given = batch.target[range(200), own], batch.target[range(200), partner]
    torch.testing.assert_close(kept + given, torch.ones(200))
    values = kept * (own + 1) + given * (partner + 1)
    torch.testing.assert_close(batch.images.mean((1, 2, 3)), values)
    assert kept.std() > 0.1


def test_cutmix_pastes_one_box_and_counts_its_pixels():
    batch, own, partner = mixed(Augmentation(cutmix=1.0), count=400, batch_size=200, size=(12, 16))
    for image, target, a, b in zip(batch.images[:, 0], batch.target, own, partner, strict=True):
        pasted = image == b + 1
        assert torch.equal(image[~pasted], torch.full_like(image[~pasted], a + 1.0))
        assert pasted.sum() == pasted.any(1).sum() * pasted.any(0).sum()
        assert target[b].item() == pytest.approx(pasted.float().mean().item(), abs=1e-6)


def test_mixup_shares_follow_the_beta_distribution():
    batch, own, _ = mixed(Augmentation(mixup=0.3), count=2000, batch_size=1000, size=(1, 1))
    shares = batch.target[range(1000), own].numpy()
    assert stats.kstest(shares, stats.beta(0.3, 0.3).cdf).pvalue > 0.01


def test_cutmix_keeps_its_share_by_boxes_of_the_map_s_shape():
    """A large alpha keeps about half: boxes have sqrt(1/2) of each side unless the border clips them."""
    batch, own, _ = mixed(Augmentation(cutmix=1e4), count=400, batch_size=400, size=(20, 40), step=0)
    pasted = batch.images[:, 0] != (own + 1.0)[:, None, None]
    whole = [box for box in pasted if not torch.cat([box[0], box[-1], box[:, 0], box[:, -1]]).any()]
    assert len(whole) > 10
    assert {(box.any(1).sum().item(), box.any(0).sum().item()) for box in whole} <= {(14, 28), (14, 27)}


def test_with_both_each_image_gets_one_or_the_other_evenly():
    batch, own, _ = mixed(Augmentation(mixup=1.0, cutmix=1.0), count=800, batch_size=400)
    levels = torch.tensor([len(image.unique()) for image in batch.images])
    touched = batch.target[range(400), own] < 1
    blended = (levels == 1) & touched & (batch.images[:, 0, 0, 0] != own + 1)
    assert 0.4 < blended.float().mean() < 0.6 and (levels <= 2).all()


def test_the_middle_of_an_odd_batch_stays_itself():
    batch, own, _ = mixed(Augmentation(mixup=1.0), batch_size=5)
    assert batch.target[2, own[2]] == 1 and (batch.images[2] == own[2] + 1).all()


# Labels and values --------------------------------------------------------------------------------------------------


def test_smoothing_spreads_its_share_over_all_classes():
    assert soften(torch.tensor([2]), 4, 0.2).tolist()[0] == pytest.approx([0.05, 0.05, 0.85, 0.05])
    target = stream_of(numbered(), Augmentation(smoothing=0.2)).batch(0, 0).target
    own = stream_of(numbered()).batch(0, 0).target
    assert torch.equal(target.argmax(1), own) and target.max().item() == pytest.approx(0.8 + 0.2 / 40)


def test_smoothed_and_mixed_targets_are_distributions():
    target = stream_of(noise(), EVERYTHING).batch(0, 0).target
    torch.testing.assert_close(target.sum(1), torch.ones(10))
    assert target.min().item() >= 0.01 - 1e-6


def test_plain_labels_stay_whole_numbers():
    assert stream_of(noise(), Augmentation(crop=1, cutout=2)).batch(0, 0).target.dtype == torch.int64


def test_uint8_is_normalised_as_shares_of_255_and_floats_as_they_are():
    pixels = torch.tensor([[0, 51], [255, 102]], dtype=torch.uint8).reshape(1, 1, 2, 2).repeat(4, 2, 1, 1)
    labels = torch.zeros(4, dtype=torch.int64)
    expected = torch.tensor([[[-1.0, -0.6], [1.0, -0.2]], [[-1.0, 0.0], [4.0, 1.0]]])
    for images in (pixels, pixels / 255):
        data = data_of(images, labels, 2, mean=(0.5, 0.2), std=(0.5, 0.2))
        batch = stream_of(data, batch_size=4).batch(0, 0)
        assert batch.images.dtype == torch.float32
        torch.testing.assert_close(batch.images[0], expected, rtol=0, atol=1e-6)
