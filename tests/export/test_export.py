"""Exported students load in timm with equal outputs, and their card describes the run."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import yaml
from bs4 import BeautifulSoup
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt
from PIL import Image
from safetensors.torch import load_file
from timm.data import create_transform, resolve_model_data_config
from torch import nn
from torch.utils.data import TensorDataset

import lkd
from lkd import Recipe, export
from lkd.data import load
from lkd.export import push
from lkd.export.card import card
from lkd.models.slak import SLaK
from lkd.runs.store import Run, Store

pytestmark = pytest.mark.usefixtures("one_thread")

SHORT = {"data": "digits", "train_images": 64}
CONVNEXT = {"dims": (8, 8, 16, 16), "depths": (1, 1, 1, 1)}
STUDENTS = {
    "test_resnet": Recipe(student="test_resnet", **SHORT),
    "mini_slak": Recipe(student="mini_slak", student_args={"kernel_sizes": [9, 9, 7]}, **SHORT),
    "convnext_bn_tiny": Recipe(student="convnext_bn_tiny", student_args=CONVNEXT, **SHORT),
}
ODD = "a|b `c` ``` <script>x</script> *d* [e](javascript:f) {{ g }}"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("exported")
        patch.setenv("LKD_HOME", str(folder))
        yield folder


@pytest.fixture(scope="module", params=STUDENTS)
def run(request: pytest.FixtureRequest, home: Path) -> Run:
    return lkd.run(STUDENTS[request.param])


@pytest.fixture(scope="module")
def taught(home: Path) -> Run:
    teacher = Recipe(student="mini_convnext", lr=3e-3, **SHORT)
    return lkd.run(Recipe(student="mini_resnet", teacher=teacher, objective="nkd", epochs=2, **SHORT))


def rendered(text: str) -> BeautifulSoup:
    """A card as a page shows it, without its front matter."""
    return BeautifulSoup(MarkdownIt("gfm-like").render(text.split("\n---\n", 1)[1]), "html.parser")


def rows(page: BeautifulSoup, heading: str) -> dict[str, str]:
    """The first two columns of the table under a heading."""
    table = page.find(["h2"], string=heading).find_next("table")
    return {row.find_all("td")[0].text: row.find_all("td")[1].text for row in table.select("tbody tr")}


# The model ----------------------------------------------------------------------------------------------------------


def test_timm_rebuilds_the_student_with_equal_outputs(run: Run, tmp_path: Path) -> None:
    folder = export.export(run, tmp_path / "student")
    again = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    images = torch.randn(4, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(again(images), run.student(images), rtol=1e-4, atol=1e-5)
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md", "config.json", "model.safetensors", "recipe.json"
    ]  # fmt: skip
    assert Recipe.from_dict(json.loads((folder / "recipe.json").read_text())) == run.recipe


def test_timms_own_preprocessing_of_the_pictures_gives_the_accuracy_of_the_run(run: Run, tmp_path: Path) -> None:
    again = timm.create_model(f"local-dir:{export.export(run, tmp_path)}", pretrained=True).eval()
    transform = create_transform(**resolve_model_data_config(again))
    test = load("digits").test
    pictures = torch.stack([transform(Image.fromarray(image[0].numpy())) for image in test.images])
    with torch.no_grad():
        right = (again(pictures).argmax(1) == test.labels).float().mean()
    assert 100 * float(right) == pytest.approx(run.metrics["test_top1"], abs=0.41)
    assert again.pretrained_cfg["label_names"] == [str(number) for number in range(10)]


@pytest.mark.slow
def test_a_convnext_with_batch_norm_becomes_timms_own(home: Path, tmp_path: Path) -> None:
    run = lkd.run(STUDENTS["convnext_bn_tiny"])
    export.export(run, tmp_path)
    again = timm.create_model(f"local-dir:{tmp_path}")
    assert isinstance(run.student, SLaK) and type(again).__module__.startswith("timm.")
    text = (tmp_path / "README.md").read_text()
    assert "It was trained as ` convnext_bn_tiny `, and converted to timm's" in text and "import lkd" not in text


def test_the_configuration_has_nothing_of_other_weights(home: Path, tmp_path: Path) -> None:
    export.export(lkd.run(STUDENTS["test_resnet"]), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())["pretrained_cfg"]
    assert not {"tag", "license", "origin_url", "paper_ids", "hf_hub_id", "test_input_size"} & config.keys()
    assert config["input_size"] == [1, 32, 32] and config["crop_pct"] == 1.0


def test_the_runs_own_student_stays_as_it_was(run: Run, tmp_path: Path) -> None:
    before = dict(run.student.pretrained_cfg)
    export.export(run, tmp_path)
    assert run.student.pretrained_cfg == before


@pytest.mark.slow
@pytest.mark.parametrize("student", STUDENTS)
def test_the_code_of_the_card_loads_it_and_needs_lkd_only_for_its_own_networks(
    student: str, home: Path, tmp_path: Path
) -> None:
    folder = export.export(lkd.run(STUDENTS[student]), tmp_path / "student")
    code = rendered((folder / "README.md").read_text()).select_one("pre code.language-python").text
    hidden = "" if student == "mini_slak" else "import sys; sys.modules['lkd'] = None\n"
    check = "\nfrom PIL import Image\nprint(model(transform(Image.new('L', (32, 32)))[None]).shape)"
    done = subprocess.run([sys.executable, "-c", hidden + code + check], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.strip() == "torch.Size([1, 10])", done.stderr


# The card -----------------------------------------------------------------------------------------------------------


def test_the_hub_reads_the_front_matter(taught: Run, tmp_path: Path) -> None:
    folder = export.export(taught, tmp_path, license="mit")
    about = ModelCard.load(folder / "README.md").data.to_dict()
    assert about == {
        "license": "mit",
        "library_name": "timm",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "timm", "knowledge-distillation"],
        "metrics": ["accuracy"],
    }


def test_the_card_has_recipe_teacher_metrics_data_versions_and_papers(taught: Run, tmp_path: Path) -> None:
    export.export(taught, tmp_path / "student")
    page = rendered((tmp_path / "student" / "README.md").read_text())
    assert page.h1.text == "student"
    recipe = rows(page, "Recipe")
    assert (recipe["student"], recipe["teacher"], recipe["objective"]) == ("mini_resnet", "mini_convnext", "nkd")
    assert (recipe["epochs"], recipe["train_images"]) == ("2", "64") and "batch_size" not in recipe
    teacher = rows(page, "Teacher")
    assert (teacher["run"], teacher["lr"]) == (taught.recipe.teacher.run_id, "0.003")
    assert teacher["weights"] == taught.provenance["teacher"]["weights"]
    figures = page.find("h2", string="Evaluation").find_next("table").select("tbody tr")
    told = [[cell.text for cell in row.select("td")] for row in figures]
    assert told[1][:3] == ["test", "250", f"{taught.metrics['test_top1']:.2f}"] and told[0][0] == "val"
    assert rows(page, "Data")["licence"] == "not stated" and rows(page, "Data")["training images"] == "64"
    made = rows(page, "Training environment")
    assert (made["torch"], made["lkd"]) == (torch.__version__.split("+")[0], taught.provenance["lkd"])
    cited = {link["href"] for link in page.find("h2", string="Citation").find_all_next("a")}
    assert cited == {"https://arxiv.org/abs/2305.19412", "https://arxiv.org/abs/2305.15781"}


def test_a_missing_licence_is_unknown_and_a_baseline_has_no_teacher(run: Run, tmp_path: Path) -> None:
    text = (export.export(run, tmp_path) / "README.md").read_text()
    assert yaml.safe_load(text.split("---")[1])["license"] == "unknown"
    assert "## Teacher" not in text and "knowledge-distillation" not in text


@pytest.mark.parametrize(("data", "named"), [("hfds:me/flowers", ["me/flowers"]), ("folder:/a|b`<i>", None)])
def test_any_name_stays_text(data: str, named: list[str] | None, tmp_path: Path) -> None:
    recipe = Recipe(
        data=data,
        student="resnet18",
        student_args={"note": f"{ODD}\n---\n# h"},
        teacher="resnet34.a1_in1k",
        objective="kd",
    )
    about = {
        "size": [3, 224, 224],
        "mean": [0.5],
        "std": [0.5],
        "classes": [ODD],
        "images": {"train": 5, "val": 6, "test": 7},
    }
    metrics = {"val_top1": 1.0, "val_loss": 2.0, "test_top1": 3.0, "test_loss": 4.0}
    origin = {"lkd": ODD, "packages": {ODD: ODD}, "teacher": {"name": ODD, "commit": None}}
    (tmp_path / "provenance.json").write_text(json.dumps(origin))
    run = Run(recipe, tmp_path, metrics, nn.Identity)
    text = card(run, "resnet18", "resnet18", about, ODD, f'local-dir:{ODD}"', license='mit"\nlibrary_name: other')
    front = yaml.safe_load(text.split("\n---\n")[0].removeprefix("---\n"))
    assert (front["library_name"], front.get("datasets")) == ("timm", named)
    assert front["license"] == 'mit"\nlibrary_name: other'
    page = rendered(text)
    assert not page.select("script, i, img") and page.h1.text == ODD and len(page.select("h1")) == 1
    assert {link["href"].split("/")[2] for link in page.select("a")} == {"arxiv.org"}
    assert rows(page, "Data")["name"] == data.replace(":/", ":") and rows(page, "Training environment")[ODD] == ODD
    assert rows(page, "Teacher") == {"name": ODD, "commit": "not stated"}
    compile(page.select_one("code.language-python").text, "card", "exec")


def test_the_card_of_a_student_given_as_a_network_mentions_its_weights(store: Store, tmp_path: Path) -> None:
    given = timm.create_model("test_resnet", in_chans=1, num_classes=10)
    run = lkd.train(given, profile="smoke", **SHORT, epochs=1, store=store)
    page = rendered((export.export(run, tmp_path) / "README.md").read_text())
    assert "started from the weights of a given network" in page.find("p").text


# Refusals -----------------------------------------------------------------------------------------------------------


def test_a_published_record_has_nothing_to_export(taught: Run, tmp_path: Path) -> None:
    record = Run(taught.recipe, tmp_path, taught.metrics, taught.build)
    with pytest.raises(FileNotFoundError, match=f"run {taught.recipe.run_id} has no weights in .*lkd.run first"):
        export.export(record, tmp_path / "student")
    assert not (tmp_path / "student").exists()


def test_a_student_that_timm_did_not_make_is_refused(store: Store, tmp_path: Path) -> None:
    run = lkd.train(nn.Sequential(nn.Flatten(), nn.Linear(1024, 10)), profile="smoke", **SHORT, store=store)
    with pytest.raises(ValueError, match="Sequential has no configuration to save"):
        export.export(run, tmp_path / "student")
    assert not (tmp_path / "student").exists()


def test_runs_from_before_data_were_recorded_take_them_from_the_data_set(store: Store, tmp_path: Path) -> None:
    def without_record(run: Run) -> Run:
        old = {name: value for name, value in run.provenance.items() if name not in ("data", "manifest")}
        (run.path / "manifest.json").unlink()
        (run.path / "provenance.json").write_text(json.dumps(old))
        found = store.find(run.recipe)
        assert found is not None
        return found

    by_name = lkd.run(Recipe(student="mini_resnet", **SHORT), store=store)
    expected = export.export(by_name, tmp_path / "new")
    again = export.export(without_record(by_name), tmp_path / "old")
    assert (again / "config.json").read_bytes() == (expected / "config.json").read_bytes()
    pairs = TensorDataset(torch.rand(80, 1, 16, 16), torch.arange(80) % 4)
    in_memory = lkd.train("mini_resnet", data=(pairs, pairs), profile="smoke", train_images=64, epochs=1, store=store)
    told = (export.export(in_memory, tmp_path / "memory") / "README.md").read_text()
    assert "given network" not in told
    with pytest.raises(ValueError, match=r"in-memory data.*resume=False"):
        export.export(without_record(in_memory), tmp_path / "memory")


# The hub ------------------------------------------------------------------------------------------------------------


class FakeHub:
    """Stands for the hub: keeps what it is sent."""

    calls: list[tuple[str, dict[str, Any]]]
    files: dict[str, bytes]

    def __init__(self, **_: Any):
        type(self).calls, type(self).files = [], {}

    def create_repo(self, repo_id: str, **how: Any) -> str:
        self.calls.append(("create_repo", {"repo_id": repo_id, **how}))
        return f"https://huggingface.co/{repo_id}"

    def upload_folder(self, *, folder_path: str, **how: Any) -> None:
        self.calls.append(("upload_folder", how))
        self.files |= {path.name: path.read_bytes() for path in Path(folder_path).iterdir()}


def test_a_push_uploads_the_exported_files(taught: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lkd.export.timm_model.HfApi", FakeHub)
    assert push(taught, "me/my-student", license="mit") == "https://huggingface.co/me/my-student"
    created, uploaded = FakeHub.calls
    assert created == ("create_repo", {"repo_id": "me/my-student", "private": True, "exist_ok": True})
    assert uploaded[1]["repo_id"] == "me/my-student" and taught.recipe.run_id in uploaded[1]["commit_message"]
    folder = export.export(taught, tmp_path, repo_id="me/my-student", license="mit")
    assert FakeHub.files == {path.name: path.read_bytes() for path in folder.iterdir()}
    assert '"hf-hub:me/my-student"' in FakeHub.files["README.md"].decode()
    assert load_file(folder / "model.safetensors").keys() == taught.student.state_dict().keys()
    push(taught, "me/my-student", private=False)
    assert FakeHub.calls[0][1]["private"] is False


@pytest.mark.parametrize("repo_id", ["student", "a/b/c", "me/", "me/--x", "", 3])
def test_an_impossible_name_is_refused_before_anything_is_sent(
    repo_id: Any, taught: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    FakeHub()
    monkeypatch.setattr("lkd.export.timm_model.HfApi", FakeHub)
    with pytest.raises(ValueError, match=r"(?i)repo.id"):
        push(taught, repo_id)
    assert not FakeHub.calls
