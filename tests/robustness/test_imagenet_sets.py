"""Evaluation on synthetic folders of ImageNet-C, -A, -R and -Sketch, under each protocol."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.data import ImageNetInfo
from torch import nn

from lkd.data import DamagedImage
from lkd.robustness import PROTOCOLS, SETS, class_indices, imagenet_c_scores, imagenet_robustness, subset_top1

pytestmark = pytest.mark.usefixtures("one_thread")

NAMES = ImageNetInfo().label_names()
FEW = (3, 7, 500)
"""Classes of the synthetic ImageNet-C and -Sketch."""

PIXELS = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}


class Reader(nn.Module):
    """Predicts the class encoded in an image: its brightness, is an index of `FEW` or other classes."""

    def __init__(self, classes):
        super().__init__()
        self.classes = nn.Parameter(torch.tensor(classes, dtype=torch.float32), requires_grad=False)
        self.seen = []

    def forward(self, images):
        self.seen.append(images)
        level = (8 * (images.mean((1, 2, 3)) / 2 + 0.5)).round().long().clamp(0, len(self.classes) - 1)
        logits = torch.zeros(len(images), 1000)
        logits[torch.arange(len(images)), self.classes.long()[level]] = 1.0
        return logits


def paint(path, level, size=(224, 224)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (round(level * 255 / 8),) * 3).save(path)


def fill(folder, classes, size=(224, 224)):
    """One image per class, with the index of the class, modulo 8, encoded in its brightness."""
    for place, index in enumerate(classes):
        paint(folder / NAMES[index] / "1.JPEG", place % 8, size)
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets")
    for name in ("fog", "snow"):
        for severity in (1, 5):
            fill(folder / "imagenet-c" / name / str(severity), FEW)
    fill(folder / "sketch", FEW, (300, 260))
    fill(folder / "imagenet-a", class_indices("A"), (40, 30))
    fill(folder / "ImageNet-R", class_indices("R"), (30, 40))
    (folder / "imagenet-a" / "README.txt").write_text("not a class")
    return folder


@pytest.fixture
def sets(made, tmp_path):
    """A separate copy that tests may modify."""
    return Path(shutil.copytree(made, tmp_path / "sets"))


@pytest.fixture(autouse=True)
def few_classes(monkeypatch):
    for name in ("C", "Sketch"):
        monkeypatch.setitem(SETS, name, SETS[name]._replace(indices=FEW))


def run(model, folder, *sets, **given):
    chosen = {"corruptions": ["fog", "snow"], "severities": [1, 5]}
    return imagenet_robustness(model, folder, sets, **{**chosen, **PIXELS, **given})


# From folders to a table --------------------------------------------------------------------------------------------


def test_one_row_a_folder_and_protocol(made):
    model = Reader(FEW).train()
    table = run(model, made, "C", "Sketch")
    assert list(table.columns) == ["set", "protocol", "corruption", "severity", "classes", "images", "error"]
    expected = [("C", p, c, s, 3, 3) for p in ("standard", "l2s") for c in ("fog", "snow") for s in (1, 5)]
    assert list(table.drop(columns="error").itertuples(index=False, name=None)) == [
        *expected, ("Sketch", "l2s", "none", 0, 3, 3),
    ]  # fmt: skip
    assert (table.error == 0).all() and model.training
    assert set(imagenet_c_scores(table).values()) == {None}


def test_labels_are_places_of_sorted_wordnet_ids(made):
    """A model that predicts the first class for the last errs on the last class only."""
    table = run(Reader((FEW[2], FEW[1], FEW[2])), made, "Sketch")
    assert table.error.tolist() == pytest.approx([1 / 3])


@pytest.mark.slow
def test_a_and_r_are_answered_among_their_200_classes(made):
    """A model that prefers class 0, which is in neither set, to the correct one."""

    class Distracted(Reader):
        def forward(self, images):
            logits = super().forward(images)
            logits[:, 0] = 2.0
            return logits

    for name in ("A", "R"):
        model = Distracted(class_indices(name)[:8])
        among = run(model, made, name)
        assert (among.classes[0], among.images[0], among.severity[0]) == (200, 200, 0)
        assert among.error[0] == pytest.approx(1 - 8 / 200)
        logits = torch.cat([model(images) for images in model.seen[1:]])
        assert subset_top1(logits, torch.arange(200), class_indices(name)) == pytest.approx(100 * 8 / 200)
        everything = run(model, made, name, restrict=False)
        assert (everything.classes[0], everything.error[0]) == (1000, 1.0)


def test_a_part_of_the_images_has_classes_in_proportion(made):
    model = Reader(FEW)
    table = run(model, made, "A", "C", count=2, severities=[1], protocols=["l2s"])
    assert table.images.tolist() == [2, 2, 2]
    assert torch.equal(model.seen[2], model.seen[3]), "the same images of every type"
    assert run(model, made, "C", count=9, severities=[1], corruptions=["fog"]).images.tolist() == [3, 3]


def test_workers_change_nothing(made):
    model = Reader(FEW)
    pictures = []
    for workers in (0, 1):
        model.seen.clear()
        run(model, made, "Sketch", workers=workers)
        pictures.append(model.seen[-1])
    assert torch.equal(*pictures)


# Protocols ----------------------------------------------------------------------------------------------------------


def test_a_stored_picture_stays_as_it_is_or_is_enlarged_and_cropped(sets):
    """One protocol keeps a white frame of 12 pixels; the other, which crops 14 pixels of it, removes most of it."""
    shutil.rmtree(sets / "imagenet-c")
    pixels = np.zeros((224, 224, 3), np.uint8)
    pixels[:12], pixels[-12:], pixels[:, :12], pixels[:, -12:] = 255, 255, 255, 255
    for index in FEW:
        path = sets / "imagenet-c" / "fog" / "1" / NAMES[index] / "1.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(pixels).save(path)
    model = Reader(FEW)
    run(model, sets, "C", corruptions=["fog"], severities=[1])
    _, standard, l2s = model.seen
    assert torch.equal(standard[0], torch.from_numpy(pixels).permute(2, 0, 1) / 127.5 - 1)
    assert l2s.shape == standard.shape and (l2s[:, :, 0] < 0.5).all() and (l2s < -0.9).float().mean() > 0.98


def test_the_protocol_of_the_authors_is_timm_s_at_seven_eighths():
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 260, 3), dtype=np.uint8))
    whole = timm.data.create_transform((3, 224, 224), interpolation="bicubic", crop_pct=0.875, normalize=False)
    shown = picture
    for step in PROTOCOLS["l2s"]:
        shown = step(shown)
    assert np.array_equal(np.asarray(shown).transpose(2, 0, 1), whole(picture).numpy())


def test_the_model_s_own_statistics_are_used(made):
    model = Reader(FEW)
    model.pretrained_cfg = {"mean": (0.0, 0.5, 0.0), "std": (1.0, 0.5, 0.25)}
    run(model, made, "Sketch", mean=None, std=None)
    black = model.seen[-1][0, :, 0, 0]
    assert black.tolist() == [0.0, -1.0, 0.0]
    run(model, made, "Sketch", mean=(0.5, 0.5, 0.5), std=None)
    assert model.seen[-1][0, :, 0, 0].tolist() == [-0.5, -1.0, -2.0]


# Invalid inputs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("C", r"ImageNet-C: there is no folder .*imagenet-c or .*ImageNet-C: get it from https://zenodo.*2235448"),
        ("A", r"ImageNet-A: .*get it from https://github.com/hendrycks/natural-adv-examples .* leave 'A' out of sets"),
        ("R", r"ImageNet-R: .*https://github.com/hendrycks/imagenet-r "),
        ("Sketch", r"ImageNet-Sketch: .*https://github.com/HaohanWang/ImageNet-Sketch "),
    ],
)
def test_a_missing_folder_is_named_with_where_to_get_it(tmp_path, name, message):
    with pytest.raises(FileNotFoundError, match=message):
        run(Reader(FEW), tmp_path, name)


def test_a_missing_type_or_severity_is_named_before_anything_is_evaluated(sets):
    shutil.rmtree(sets / "imagenet-c" / "snow" / "5")
    model = Reader(FEW)
    with pytest.raises(FileNotFoundError, match=r"no folder .*imagenet-c/snow/5: get snow from https://zenodo"):
        run(model, sets, "A", "C")
    assert model.seen == []


def test_classes_of_another_set_are_named(sets):
    shutil.rmtree(sets / "imagenet-a")
    shutil.copytree(sets / "ImageNet-R", sets / "imagenet-a")
    with pytest.raises(
        ValueError, match=r"imagenet-a is missing 'n\d+', .* and 109 more and has extra .* the 200 classes of its"
    ):
        run(Reader(FEW), sets, "A")
    (sets / "sketch" / NAMES[7]).rename(sets / "sketch" / "goldfish")
    with pytest.raises(
        ValueError, match=f"sketch is missing '{NAMES[7]}' and has extra 'goldfish' compared with the 3 classes"
    ):
        run(Reader(FEW), sets, "Sketch")


def test_hidden_folders_are_no_classes_and_images_outside_class_folders_are_named(sets):
    (sets / "sketch" / ".ipynb_checkpoints").mkdir()
    assert run(Reader(FEW), sets, "Sketch").images.tolist() == [3]
    shutil.copy(sets / "sketch" / NAMES[7] / "1.JPEG", sets / "sketch" / "2.JPEG")
    with pytest.raises(ValueError, match=r"sketch/2\.JPEG is outside class folders"):
        run(Reader(FEW), sets, "Sketch")


def test_a_class_without_images_is_named(sets):
    (sets / "sketch" / NAMES[7] / "1.JPEG").unlink()
    with pytest.raises(ValueError, match=f"sketch is missing '{NAMES[7]}' compared with"):
        run(Reader(FEW), sets, "Sketch")
    for path in (sets / "sketch").glob("*/*"):
        path.unlink()
    with pytest.raises(FileNotFoundError, match=r"sketch has no images: get them from https://github.com/Haohan"):
        run(Reader(FEW), sets, "Sketch")


def test_a_damaged_image_is_named(sets):
    path = sets / "sketch" / NAMES[7] / "1.JPEG"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(DamagedImage, match=f"{NAMES[7]}/1.JPEG cannot be decoded"):
        run(Reader(FEW), sets, "Sketch")


class Other(nn.Module):
    """A model with other logits."""

    def __init__(self, result):
        super().__init__()
        self.weight, self.result = nn.Parameter(torch.zeros(1)), result

    def forward(self, images):
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (torch.zeros(1, 10), r"model must give logits \(B, 1000\), .* got shape \(1, 10\) for one image"),
        ({"logits": torch.zeros(1, 1000)}, "got a dict for one image"),
        (
            AssertionError("Input height (224) doesn't match model (384)"),
            r"does not accept images \(B, 3, 224, 224\): In",
        ),
    ],
)
def test_a_model_of_other_classes_or_sizes_is_refused(made, result, message):
    with pytest.raises(ValueError, match=message):
        run(Other(result), made, "Sketch")


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"sets": "C"}, TypeError, r"sets must be a list of names, got 'C': give \['C'\]"),
        ({"sets": ["D"]}, KeyError, "unknown set 'D'. There are: A, C, R, Sketch"),
        ({"sets": []}, ValueError, r"sets must name one or more, each once, got \[\]"),
        ({"protocols": ["L2S"]}, KeyError, "unknown protocol 'L2S'"),
        ({"protocols": ["l2s", "l2s"]}, ValueError, "protocols must name one or more, each once"),
        ({"corruptions": ["fogg"]}, KeyError, "unknown corruption 'fogg'"),
        ({"severities": [6]}, ValueError, "severity must be .* got 6"),
        ({"count": 0}, ValueError, "count must be at least 1, got 0"),
        (
            {"mean": None},
            ValueError,
            r"mean is unknown: the model has no mean in a pretrained_cfg, so pass mean=\(r, g, b\)",
        ),
        ({"std": None}, ValueError, "std is unknown"),
        ({"std": (0.5,)}, ValueError, r"std must have one value for each of 3 channels, got \(0.5,\)"),
    ],
)
def test_a_call_that_makes_no_sense_is_refused_before_anything_is_evaluated(made, given, error, message):
    model = Reader(FEW)
    with pytest.raises(error, match=message):
        imagenet_robustness(model, made, **{"sets": ["Sketch"], **PIXELS, **given})
    assert model.seen == []
