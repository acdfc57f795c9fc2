"""A text in place of True or False counts as true: it is refused wherever it would decide a result."""

from collections.abc import Callable

import numpy as np
import pytest
import timm
import torch

import lkd
from lkd import Recipe
from lkd.data import Augmentation, from_datasets
from lkd.engine import Options
from lkd.erf import area_ratios, contribution_map, erf_distance
from lkd.export import push
from lkd.robustness import imagenet_robustness
from lkd.runs.published import published
from lkd.runs.store import Store
from lkd.study import distillation

MAP = np.ones((9, 9))
PAIRS = [(torch.zeros(1, 8, 8), index % 2) for index in range(20)]
MODEL = timm.create_model("test_resnet")


def recipe(**fields: object) -> Recipe:
    return Recipe(data="digits", student="mini_resnet", **fields)


WRONG: list[tuple[str, Callable[[], object]]] = [
    ("log must be True or False, got 'no'", lambda: area_ratios(MAP, log="no")),
    ("log must be True or False, got 'false'", lambda: erf_distance(MAP, MAP, log="false")),
    ("progress must be True or False, got 'no'", lambda: contribution_map(MODEL, torch.zeros(1), progress="no")),
    ("restrict must be True or False, got 'false'", lambda: imagenet_robustness(MODEL, ".", restrict="false")),
    ("private must be True or False, got 'false'", lambda: push(None, "me/student", private="false")),
    ("flip must be True or False, got 'no'", lambda: Augmentation(flip="no")),
    ("flip must be True or False, got 'no'", lambda: recipe(flip="no")),
    ("tape must be True or False, got 'no'", lambda: Options(tape="no")),
    ("student_args has the string 'false' for 'use_grn'", lambda: recipe(student_args={"use_grn": "false"})),
    ("optimizer_args has the string 'No' for 'nesterov'", lambda: recipe(optimizer_args={"nesterov": "No"})),
    ("val_share must be a number, got '0.1'", lambda: from_datasets(PAIRS, PAIRS, val_share="0.1")),
    ("seeds must be a list of int, got [True]", lambda: distillation("smoke", seeds=[True])),
    ("profile must be a name or the path of a YAML file, got True", lambda: distillation("smoke").published(True)),
    ("profile must be a name or the path of a YAML file, got 1", lambda: published(1)),
    ("resume must be True or False, got 'false'", lambda: lkd.run(recipe(), resume="false")),
    ("recipe must be a lkd.Recipe, got 'mini_vit': to train", lambda: lkd.run("mini_vit")),
    (
        "store must be a Store of lkd.runs.store, got 'runs': write Store('runs')",
        lambda: lkd.run(recipe(), store="runs"),
    ),
    ("options must be lkd.Options, got {'tape': 1}", lambda: lkd.train("mini_vit", data="digits", options={"tape": 1})),
    ("num_processes must be a whole number, got '2'", lambda: lkd.run(recipe(), num_processes="2")),
    ("objective must be a name", lambda: lkd.distill("mini_vit", "mini_slak", data="digits", objective=["kd"])),
    ("workers must be a whole number, got '2'", lambda: distillation("smoke").run(Store("store"), workers="2")),
]


@pytest.mark.parametrize(("message", "call"), WRONG, ids=[message for message, _ in WRONG])
def test_a_text_for_another_type_is_refused(
    message: str, call: Callable[[], object], tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TypeError) as refused:
        call()
    assert message in str(refused.value)
