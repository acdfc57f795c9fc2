"""Published names and files contain no paths of this machine."""

import importlib
import json
import zipfile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import timm
import yaml
from nbformat import from_dict

from lkd import Recipe, export, figures
from lkd.book.front_page import best_verdicts, scale_html
from lkd.book.provenance_box import how_made
from lkd.engine.trackers import _config
from lkd.export.card import card
from lkd.paper.verdicts import ledger
from lkd.profiles import Profile
from lkd.runs.manifest import write_manifest
from lkd.runs.public_names import called, disclosed_names, public
from lkd.runs.published import publish
from lkd.runs.store import Run, Store
from lkd.tables import MIME_TYPE, Table, read
from lkd.util.progress import say

PRIVATE = "/home/me/my clients/ACME"
"""A private folder, which is published by its last name."""

SHOWN = {
    PRIVATE: "ACME",
    f"folder:{PRIVATE}/": "folder:ACME",
    f"tar:{PRIVATE}": "tar:ACME",
    f"hfds:{PRIVATE}": "hfds:ACME",
    "folder:../clients/ACME": "folder:ACME",
    "folder:~/clients/ACME": "folder:ACME",
    "~me/clients/ACME": "ACME",
    r"C:\Users\me\clients\ACME": "ACME",
    r"\\host\clients\ACME": "ACME",
    "file:///home/me/clients/ACME": "file://ACME",
    "see /home/me/clients/ACME.": "see ACME.",
    "(~/clients/ACME, /srv/clients/ACME)": "(ACME, ACME)",
    f"{{'a': '{PRIVATE}'}}": "{'a': 'ACME'}",
    "folder:ACME": "folder:ACME",
    "folder:pets/cats": "folder:pets/cats",
    "https://example.org/a/b.pth": "https://example.org/a/b.pth",
    "hf-hub:timm/resnet18.a1_in1k": "hf-hub:timm/resnet18.a1_in1k",
    "T-shirt/top": "T-shirt/top",
    "1/2 and/or 3/4": "1/2 and/or 3/4",
    r"\alpha": r"\alpha",
    "": "",
}


@pytest.mark.parametrize("text", SHOWN)
def test_a_path_is_shown_by_its_last_name_and_other_texts_as_they_are(text: str) -> None:
    assert public(text) == SHOWN[text]
    assert public({text: [text, (Path(PRIVATE), 3, None)]}) == {SHOWN[text]: [SHOWN[text], ["ACME", 3, None]]}


def test_files_of_the_data_are_shown_by_their_names_within_it() -> None:
    assert public([f"{PRIVATE}/train/cat/1.png", f"{PRIVATE}s/2.png"], PRIVATE) == ["train/cat/1.png", "2.png"]


def test_names_that_become_alike_stay_apart() -> None:
    names = [PRIVATE, "/srv/ACME", "ACME", "mini_vit"]
    assert called(names) == {PRIVATE: "ACME", "/srv/ACME": "ACME (2)", "ACME": "ACME (3)", "mini_vit": "mini_vit"}


# A student that is given away --------------------------------------------------------------------------------------


def saved(store: Store, **fields: Any) -> Run:
    """A finished run with a private path in every string field of its recipe and provenance."""
    data = {"size": [3, 32, 32], "mean": [0.5] * 3, "std": [0.5] * 3, "images": {"train": 5, "val": 6, "test": 7}}
    data["classes"] = [f"{PRIVATE}/cat", f"{PRIVATE}/dog"]
    origin = {name: PRIVATE for name in ("lkd", "source", "python", "hardware", "started")}
    origin |= {"packages": {PRIVATE: PRIVATE}, "data": data, "damaged_files": [f"{PRIVATE}/train/cat/1.png"]}
    origin |= {"teacher": {"name": PRIVATE, "file": f"{PRIVATE}/net.pth", "url": f"file://{PRIVATE}"}}
    recipe = Recipe(**{"data": f"folder:{PRIVATE}", "student": "test_resnet", **fields})
    metrics = {f"{split}_{name}": 1.0 for split in ("val", "test") for name in ("top1", "loss")}
    history = pd.DataFrame({"epoch": [1], "val_top1": [1.0]})
    student = timm.create_model("test_resnet", in_chans=3, num_classes=2)
    store.save(recipe, student, {"in_chans": 3, "num_classes": 2}, metrics, history, origin)
    found = store.find(recipe)
    assert found is not None
    return found


def shows_nothing_private(folder: Path) -> bool:
    """Whether no file except the weights, with their arbitrary bytes, contains a part of a private path."""
    texts = [file.read_bytes() for file in folder.iterdir() if file.suffix != ".safetensors"]
    return not any(word in text for text in texts for word in (b"clients", b"/home", b"/me"))


def test_an_exported_student_shows_no_folder(store: Store, tmp_path: Path) -> None:
    run = saved(store)
    folder = export.export(run, tmp_path / "clients" / "student", license=PRIVATE)
    assert shows_nothing_private(folder)
    text = (folder / "README.md").read_text()
    assert "folder:ACME" in text and '"local-dir:student"' in text
    assert "are reduced to their last name" in text and run.recipe.run_id in text
    exported = json.loads((folder / "recipe.json").read_text())
    assert exported == {**run.recipe.to_dict(), "data": "folder:ACME"} and Recipe.from_dict(exported)
    assert json.loads((folder / "config.json").read_text())["pretrained_cfg"]["label_names"] == ["cat", "dog"]


def test_a_card_shows_no_folder_of_a_teacher_or_of_arguments(store: Store, tmp_path: Path) -> None:
    run = saved(store)
    teacher = Recipe(data=f"tar:{PRIVATE}", student="test_resnet", student_args={"note": PRIVATE})
    recipe = Recipe(data=f"hfds:{PRIVATE}", student="test_resnet", teacher=teacher, objective="kd")
    taught = Run(recipe, run.path, run.metrics, run.build)
    text = card(taught, "test_resnet", "test_resnet", run.provenance["data"], "me/net", "hf-hub:me/net", PRIVATE)
    assert "clients" not in text and "/home" not in text
    assert "tar:ACME" in text and "datasets" not in yaml.safe_load(text.split("---")[1])


def test_disclosed_names_are_printed_before_a_push(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []

    class Hub:
        def __init__(self, **_: Any): ...

        def create_repo(self, repo_id: str, **_: Any) -> str:
            said.append(capsys.readouterr().err)
            return repo_id

        def upload_folder(self, *, folder_path: str, **_: Any) -> None:
            assert shows_nothing_private(Path(folder_path))

    monkeypatch.setattr("lkd.export.timm_model.HfApi", Hub)
    export.push(saved(store), "me/net")
    assert said[0].splitlines() == [
        "lkd: me/net shows data: 'folder:ACME'",
        "lkd: me/net shows classes: 'cat', 'dog'",
        "lkd: me/net shows students: 'test_resnet'",
        "lkd: me/net shows damaged files: '1.png'",
        "lkd: me/net shows machines: 'ACME'",
    ]


def test_importing_a_kernel_does_not_silence_messages(
    capsys: pytest.CaptureFixture[str],
) -> None:
    importlib.import_module("ipykernel.kernelapp")
    say("done")
    assert capsys.readouterr().err == "lkd: done\n"


def test_a_tracker_gets_no_private_path() -> None:
    told = _config(Recipe(data=f"folder:{PRIVATE}", student="test_resnet", student_args={"note": PRIVATE}))
    assert told["data"] == "folder:ACME" and told["student_args"] == '{"note": "ACME"}' and told["epochs"] == 1


# Records -----------------------------------------------------------------------------------------------------------


def test_a_published_record_names_files_within_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LKD_HOME", str(tmp_path / "clients"))
    store = Store(tmp_path / "store")
    run = saved(store, data="folder:pets")
    inside = str(tmp_path / "clients" / "data" / "pets" / "train" / "cat" / "1.png")
    (run.path / "provenance.json").write_text(json.dumps({**run.provenance, "damaged_files": [inside]}))
    write_manifest(run.path, run.recipe.run_id)
    publish([run.recipe], store, tmp_path / "small.zip")
    with zipfile.ZipFile(tmp_path / "small.zip") as archive:
        assert not any(word in archive.read(name) for name in archive.namelist() for word in (b"clients", b"/home"))
        told = json.loads(archive.read("0/provenance.json"))
    assert told["damaged_files"] == ["train/cat/1.png"] and told["teacher"]["file"] == "net.pth"
    assert disclosed_names([run])["data"] == "'folder:pets'"


@pytest.mark.parametrize("private", ["student", "teacher"])
def test_a_recipe_that_names_a_folder_of_this_machine_is_not_published(
    private: str, store: Store, tmp_path: Path
) -> None:
    recipe = Recipe(data=f"folder:{PRIVATE}", student="test_resnet")
    if private == "teacher":
        recipe = Recipe(data="folder:pets", student="test_resnet", teacher=recipe, objective="kd")
    with pytest.raises(ValueError, match=rf"run {recipe.run_id} cannot be published: .*ACME.*: put the data into"):
        publish([recipe], store, tmp_path / "small.zip")
    assert not (tmp_path / "small.zip").exists()


# Pages -------------------------------------------------------------------------------------------------------------


def test_a_page_shows_no_folder_that_a_chapter_was_given() -> None:
    used = {"profile": f"{PRIVATE}/mine.yaml", "data": f"folder:{PRIVATE}", "settings": {"a": [PRIVATE]}, "seeds": [0]}
    rows = [{"name": name, "default": "''", "used": repr(value), "help": "H."} for name, value in used.items()]
    origin = {"lkd": "1", "source": "2", "python": "3", "packages": {}, "hardware": "4"}
    command = f"lkd run erf -p 'profile={PRIVATE}/mine.yaml' -p 'settings={{\"a\": [\"{PRIVATE}\"]}}' -p seeds='[0]'"
    about = {"profile": used["profile"], "parameters": rows, "command": command, "provenance": origin}
    run = {"parameters": used, "duration": 3.0, "start_time": "2025-11-22T00:21:00+00:00"}
    text = how_made("erf", from_dict({"lkd": about, "papermill": run}))
    assert "clients" not in text and "/home" not in text and "last names" in text
    for shown in ("'mine.yaml'", "'folder:ACME'", "{'a': ['ACME']}", "profile=mine.yaml", "{profile: mine.yaml", "[0]"):
        assert shown in text


def test_tables_and_figures_show_no_folder() -> None:
    gains = pd.DataFrame(
        {"teacher": [PRIVATE, "mini_vit"], "student": PRIVATE, "objective": "kd", "direct_gain": [1.0, 2]}
    )
    shown = Table(gains.assign(data=f"folder:{PRIVATE}"), "runs", "Runs.")._repr_mimebundle_()
    drawn = figures.gains(gains).to_json()
    assert all(word not in f"{shown} {drawn}" for word in ("clients", "/home"))
    assert read(shown[MIME_TYPE]).data.tolist() == ["folder:ACME"] * 2
    assert read(shown[MIME_TYPE]).direct_gain.tolist() == [1.0, 2.0] and "ACME" in drawn


def test_a_profile_shows_no_folder(tmp_path: Path) -> None:
    path = tmp_path / "clients" / "mine.yaml"
    path.parent.mkdir()
    path.write_text(f"extends: smoke\ndescription: Pictures of '{PRIVATE}' and of /home/me/clients.\n")
    profile = Profile.load(str(path))
    front = scale_html(best_verdicts({"mine, here": ledger(profile.source, Store(tmp_path / "store"))}), {})
    assert all("/home" not in text and str(tmp_path) not in text for text in (profile.markdown, front))
    assert "Pictures of" in front and "profile=mine.yaml" in front
