"""The origin of a teacher's weights is recorded, and data with other classes are refused."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import timm
import torch
from safetensors.torch import save_file
from short import TAUGHT, TEACHER, Perceptron
from timm.data import ImageNetInfo
from timm.models import PretrainedCfg

import lkd
from lkd.data import Images, Split
from lkd.engine.teacher import weights_hash
from lkd.engine.teacher_origin import check_classes, weights_origin
from lkd.runs.store import Store

pytestmark = pytest.mark.usefixtures("one_thread")

NAME = "test_resnet.r160_in1k"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
WORDNET = tuple(ImageNetInfo().label_names())


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the Hugging Face hub, on a machine without network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub" / f"models--timm--{NAME}"


@pytest.fixture
def cached(hub: Path) -> Path:
    """The weights of a model in the hub's cache, as a download leaves them."""
    torch.manual_seed(0)
    path = hub / "snapshots" / COMMIT / "model.safetensors"
    path.parent.mkdir(parents=True)
    save_file(timm.create_model("test_resnet").state_dict(), path)
    (hub / "refs").mkdir()
    (hub / "refs" / "main").write_text(COMMIT)
    return path


def data(classes: tuple[str, ...]) -> Images:
    """A handful of pictures, of 1000 classes."""
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randint(256, (72, 3, 32, 32), dtype=torch.uint8, generator=generator)
    split = Split(pictures, torch.arange(72))
    return Images("pictures", classes, split, split.take(range(8)), split.take(range(8)), (0.5,) * 3, (0.5,) * 3)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_of_a_teacher_from_the_hub_revision_file_and_weights_are_recorded(cached: Path, store: Store) -> None:
    run = lkd.distill("test_resnet", NAME, data=data(WORDNET), objective="kd", profile="smoke", epochs=1, store=store)
    torch.manual_seed(0)
    assert run.provenance["teacher"] == {
        "name": NAME,
        "hub_id": f"timm/{NAME}",
        "commit": COMMIT,
        "file": "model.safetensors",
        "sha256": sha256(cached),
        "weights": weights_hash(timm.create_model("test_resnet")),
    }


def test_of_a_name_without_tag_the_tag_is_recorded(cached: Path) -> None:
    assert weights_origin("test_resnet") == weights_origin(NAME)
    assert weights_origin("test_resnet")["name"] == NAME


def test_where_the_hub_has_no_safetensors_the_other_file_is_the_one(cached: Path) -> None:
    other = cached.rename(cached.with_name("pytorch_model.bin"))
    told = weights_origin(NAME)
    assert (told["file"], told["commit"], told["sha256"]) == ("pytorch_model.bin", COMMIT, sha256(other))


def test_what_the_cache_does_not_tell_is_left_open(hub: Path) -> None:
    told = weights_origin(NAME)
    assert told == {"name": NAME, "hub_id": f"timm/{NAME}", "commit": None, "file": None, "sha256": None}


@pytest.mark.parametrize("source", ["file", "url"])
def test_weights_from_elsewhere_are_known_by_their_file(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "checkpoints" / "net-0123abcd.pth"
    path.parent.mkdir()
    path.write_bytes(b"weights")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    place: dict[str, Any] = {"file": str(path), "url": f"https://example.org/{path.name}?x=1"}
    config = PretrainedCfg(architecture="net", **{source: place[source]})
    monkeypatch.setattr(timm, "get_pretrained_cfg", lambda name: config)
    told = weights_origin("net")
    assert (told["name"], told["file"], told["sha256"]) == ("net", path.name, sha256(path))
    assert told.get("url") == config.url and "hub_id" not in told


def test_a_model_without_weights_has_no_origin() -> None:
    with pytest.raises(ValueError, match="model 'mini_slak' has no pretrained weights"):
        weights_origin("mini_slak")


@pytest.mark.slow
def test_a_teacher_trained_here_is_known_by_its_run_and_a_module_by_its_weights(store: Store) -> None:
    run = lkd.run(TAUGHT, store=store)
    told = run.provenance["teacher"]
    assert told.keys() == {"run", "weights"} and told["run"] == TEACHER.run_id
    module = Perceptron()
    run = lkd.distill("mini_resnet", module, data="digits", profile="smoke", epochs=1, store=store)
    assert run.provenance["teacher"] == {"weights": weights_hash(module)}
    assert lkd.run(TEACHER, store=store).provenance["teacher"] is None


def test_what_a_student_expects_of_images_is_recorded(store: Store) -> None:
    about = lkd.run(TEACHER, store=store).provenance["data"]
    assert about["size"] == [1, 32, 32] and about["classes"] == list("0123456789")
    assert about["images"] == {"train": 1297, "val": 250, "test": 250}
    assert 0.2 < about["mean"][0] < 0.5 and len(about["std"]) == 1


# Classes ------------------------------------------------------------------------------------------------------------


def swapped() -> Iterator[str]:
    first, second, *rest = WORDNET
    yield from (second, first, *rest)


REFUSED = {
    "another order": (tuple(swapped()), rf"the data has '{WORDNET[1]}' as class 0, which is '{WORDNET[0]}'"),
    "other classes": (("n00000001", *WORDNET[1:]), rf"does not have '{WORDNET[0]}' and adds 'n00000001'"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("classes", "message"), REFUSED.values(), ids=REFUSED)
def test_wordnet_classes_that_are_not_the_teachers_are_refused_before_any_training(
    classes: tuple[str, ...], message: str, cached: Path, store: Store
) -> None:
    with pytest.raises(ValueError, match=f"{message}.*teacher '{NAME}'.*order"):
        lkd.distill("test_resnet", NAME, data=data(classes), objective="kd", profile="smoke", store=store)
    assert not (store.folder / "runs").exists()


def test_classes_under_other_names_are_warned_of() -> None:
    with pytest.warns(UserWarning, match=r"1000 classes of imagenet-1k.*'0', '1', '10', '100', '101' and 995 more"):
        check_classes(NAME, [str(number) for number in range(1000)])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("teacher", "classes"),
    [
        (NAME, WORDNET),
        (NAME, ImageNetInfo().label_descriptions()),
        (NAME, WORDNET[:200]),
        (TEACHER, tuple(swapped())),
        ("memory:0123", tuple(swapped())),
        (None, tuple(swapped())),
    ],
)
def test_the_same_classes_and_those_that_nothing_is_known_of_pass(teacher: Any, classes: Any) -> None:
    check_classes(teacher, classes)
