"""Sparse training against slow versions of its rules, in one process and two, killed and resumed, and as a recipe."""

import copy
import math
import multiprocessing
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torch.distributed as dist
import torch.nn.functional as F
from accelerate import Accelerator
from timm.utils import ModelEmaV3
from torch import Tensor, nn

import lkd
from lkd import Recipe
from lkd.data import load, subset
from lkd.engine import Options
from lkd.engine.checkpoint import Checkpoints
from lkd.engine.setup import RunSetup
from lkd.engine.trainer import Trainer
from lkd.models.slak import SLaK
from lkd.runs.store import Store
from lkd.sparse import SparseTraining, snip_densities, sparse_parameters

pytestmark = pytest.mark.usefixtures("one_thread")

RECIPE = Recipe(
    data="digits", student="mini_slak", train_images=128, batch_size=32, epochs=2, sparsity=0.4, prune_every=3
)
"""Eight steps, with updates of the masks after the third and the sixth."""


def batch(seed: int = 0, count: int = 16) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 1, 16, 16, generator=generator), torch.arange(count) % 4


def small_slak() -> nn.Module:
    """Two stages, with all kinds of parameters, away from the start where layer scale hides the blocks."""
    torch.manual_seed(0)
    return SLaK(1, 4, dims=(8, 12), depths=(1, 1), kernel_sizes=(9, 7), small_kernel=5, patch_size=2, layer_scale=0.5)


def begun(model: nn.Module, **settings: Any) -> SparseTraining:
    sparse = SparseTraining(model, **{"steps": 100, "update_every": 3, **settings})
    sparse.start(*batch())
    return sparse


def train(model: nn.Module, optimizer: torch.optim.Optimizer, seed: int, precision: torch.dtype | None = None) -> None:
    """One step of the optimizer, on the batch of a seed."""
    images, labels = batch(seed)
    with torch.autocast("cpu", precision, enabled=precision is not None):
        loss = F.cross_entropy(model(images), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def masked(sparse: SparseTraining) -> bool:
    """Whether every weight without a place is 0."""
    return not any(sparse.parameters[name][~mask].any() for name, mask in sparse.masks.items())


def copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def same(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def zero_share(model: nn.Module, scope: str = "all") -> float:
    weights = sparse_parameters(model, scope).values()
    return sum(int((weight == 0).sum()) for weight in weights) / sum(weight.numel() for weight in weights)


# Densities ----------------------------------------------------------------------------------------------------------


def slow_densities(model: nn.Module, images: Tensor, labels: Tensor, share: float) -> dict[str, float]:
    """Scores from difference quotients, one weight at a time, and a sorted list of them."""
    scores = []
    for name, parameter in model.named_parameters():
        for index in range(parameter.numel() if parameter.ndim in (2, 4) else 0):
            value, losses = parameter.data.view(-1)[index].item(), []
            for shifted in (value + 1e-5, value - 1e-5):
                parameter.data.view(-1)[index] = shifted
                losses.append(F.cross_entropy(model(images), labels).item())
            parameter.data.view(-1)[index] = value
            scores.append((abs(value * (losses[0] - losses[1]) / 2e-5), name))
    best = sorted(scores, reverse=True)[: round(share * len(scores))]
    sizes = {name: sum(name == other for _, other in scores) for _, name in scores}
    return {name: sum(name == other for _, other in best) / size for name, size in sizes.items()}


@pytest.mark.parametrize("sparsity", [0.1, 0.4, 0.9])
def test_densities_are_the_shares_among_the_highest_scores(sparsity: float) -> None:
    torch.manual_seed(3)
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.ReLU(), nn.MaxPool2d(7), nn.Flatten(), nn.LayerNorm(12), nn.Linear(12, 4)
    ).double()
    images, labels = batch()
    expected = slow_densities(model, images.double(), labels, 1 - sparsity)
    found = snip_densities(model, images.double(), labels, sparsity=sparsity)
    assert set(found) == {"0.weight", "5.weight"}
    assert found == pytest.approx(expected)


def test_equal_scores_count_in_part() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(256, 8), nn.Linear(8, 4))
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    assert snip_densities(model, *batch(), sparsity=0.4) == {"1.weight": pytest.approx(0.6), "2.weight": 0.6}


class Noisy(nn.Module):
    """Batch norm and dropout, a parameter that is frozen and one that is not used."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(256, 8), nn.BatchNorm1d(8), nn.Linear(8, 4)
        self.unused = nn.Parameter(torch.ones(2, 2))
        self.first.weight.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        return self.last(F.dropout(self.norm(self.first(images.flatten(1))), training=self.training))


@pytest.mark.parametrize("training", [True, False])
def test_the_model_and_the_global_random_state_are_left_as_they_were(training: bool) -> None:
    torch.manual_seed(0)
    model = Noisy().train(training)
    model.last.weight.grad = torch.ones(4, 8)
    before, random_state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    densities = snip_densities(model, *batch())
    assert same(before, model.state_dict()) and torch.equal(torch.get_rng_state(), random_state)
    assert all(module.training == training for module in model.modules())
    assert [p.requires_grad for p in (model.first.weight, model.last.weight)] == [False, True]
    assert model.first.weight.grad is None and torch.equal(model.last.weight.grad, torch.ones(4, 8))
    assert densities["unused"] == 0 < densities["first.weight"]


def test_scores_see_the_statistics_of_the_batch_and_no_dropout() -> None:
    model = Noisy()
    first = snip_densities(model, *batch())
    nn.init.constant_(model.norm.running_mean, 7.0)
    with torch.no_grad():
        assert snip_densities(model.eval(), *batch()) == first


# First masks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sparsity", [0.4, 0.8])
def test_a_fresh_network_has_the_sparsity_asked_for_and_each_tensor_its_density(sparsity: float) -> None:
    torch.manual_seed(0)
    model = timm.create_model("mini_slak", in_chans=1, num_classes=10)
    images, labels = load("digits").normalise(load("digits").train.images[:32]), load("digits").train.labels[:32]
    sparse = SparseTraining(model, steps=10, sparsity=sparsity)
    densities = snip_densities(model, images, labels, sparsity=sparsity)
    sparse.start(images, labels)
    assert zero_share(model) == pytest.approx(sparsity, abs=0.01)
    for name, mask in sparse.masks.items():
        d, n = densities[name], mask.numel()
        assert abs(int(mask.sum()) - d * n) < 1 + 5 * math.sqrt(n * d * (1 - d)), name
        assert torch.equal(sparse.parameters[name] != 0, mask)
    assert all(densities[name] > 0.9 for name in sparse.parameters.keys() - sparse.masks.keys())


def test_a_tensor_that_would_keep_99_per_cent_is_left_dense(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(256, 200), nn.Linear(200, 200), nn.Linear(200, 4))
    densities = {"1.weight": 0.98, "2.weight": 0.999, "3.weight": 1.0}
    monkeypatch.setattr("lkd.sparse.snip_densities", lambda *_, **__: densities)
    sparse = begun(model)
    assert list(sparse.masks) == ["1.weight"]
    assert [int((p == 0).sum()) > 0 for p in sparse.parameters.values()] == [True, False, False]


def test_masks_are_random_and_follow_the_seed_alone() -> None:
    torch.manual_seed(1)
    first = begun(small_slak(), seed=5)
    state = torch.get_rng_state()
    second = begun(small_slak(), seed=5)
    assert not same(first.masks, begun(small_slak(), seed=6).masks)
    assert same(first.masks, second.masks)
    for model, sparse in ((first.model, first), (second.model, second)):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for step in range(3):
            torch.manual_seed(step if sparse is first else 77)
            train(model, optimizer, step)
            state = torch.get_rng_state()
            sparse.step()
            assert torch.equal(torch.get_rng_state(), state)
    assert same(first.masks, second.masks) and same(first.model.state_dict(), second.model.state_dict())


def test_without_sparsity_nothing_is_masked() -> None:
    sparse = begun(small_slak(), sparsity=0)
    sparse.step()
    assert sparse.masks == {} and zero_share(sparse.model) == 0


def test_large_kernels_are_the_two_long_branches_and_nothing_else() -> None:
    model = small_slak()
    before = copy.deepcopy(model.state_dict())
    sparse = begun(model, scope="large_kernels", sparsity=0.5)
    branches = [f"stages.{i}.0.large_kernel.{branch}.conv.weight" for i in (0, 1) for branch in ("LoRA1", "LoRA2")]
    assert list(sparse.parameters) == branches and set(sparse.masks) <= set(branches)
    assert zero_share(model, "large_kernels") == pytest.approx(0.5, abs=0.1)
    assert {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])} == set(
        sparse.masks
    )


# Updates ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("done", "rate"), [(0, 0.3), (50, 0.1525), (100, 0.005), (150, 0.005)])
def test_the_rate_falls_by_a_cosine_to_a_two_hundredth(done: int, rate: float) -> None:
    sparse = begun(small_slak(), prune_rate=0.3, update_every=1000)
    for _ in range(done):
        sparse.step()
    assert sparse.rate == pytest.approx(rate)


def with_masks(model: nn.Module, masks: dict[str, Tensor], **settings: Any) -> SparseTraining:
    """Sparse training of a model, begun with masks given by hand."""
    sparse = SparseTraining(model, steps=10, update_every=1, **settings)
    state = {"settings": sparse._settings(), "steps_done": 0, "masks": masks, "dense": []}
    sparse.load_state_dict(state)
    return sparse


def slowly_dropped(weights: list[float], mask: list[bool], rate: float) -> set[int]:
    """The active weights of smallest magnitude, of equal ones the first, one after the other."""
    active = [index for index, on in enumerate(mask) if on]
    dropped: set[int] = set()
    for _ in range(math.ceil(rate * len(active))):
        dropped.add(min((i for i in active if i not in dropped), key=lambda i: abs(weights[i])))
    return dropped


@pytest.mark.parametrize("seed", range(4))
def test_an_update_drops_the_smallest_and_grows_at_empty_places_from_0(seed: int) -> None:
    torch.manual_seed(seed)
    model = nn.Linear(7, 5, bias=False)
    model.weight.data = torch.randint(-9, 10, (5, 7)).float()  # with equal magnitudes, and zeros that are active
    mask = torch.rand(5, 7) < 0.6
    sparse = with_masks(model, {"weight": mask}, prune_rate=0.4, seed=seed)
    before = (model.weight * mask).flatten().tolist()
    sparse.step()
    dropped = slowly_dropped(before, mask.flatten().tolist(), 0.005 + 0.395 * (1 + math.cos(math.pi / 10)) / 2)
    after, now = model.weight.flatten().tolist(), sparse.masks["weight"].flatten().tolist()
    assert dropped
    for index, (old, new) in enumerate(zip(before, after, strict=True)):
        survived = bool(mask.flatten()[index]) and index not in dropped
        assert new == (old if survived else 0)
        assert now[index] or not survived


def test_as_many_weights_grow_as_are_dropped_on_average() -> None:
    model = nn.Linear(400, 300, bias=False)
    mask = torch.rand(300, 400) < 0.6
    sparse = with_masks(model, {"weight": mask}, prune_rate=0.5)
    sparse.step()
    active, dropped = int(mask.sum()), math.ceil(sparse.rate * int(mask.sum()))
    empty = mask.numel() - active + dropped
    chance = dropped / empty
    grown = int(sparse.masks["weight"].sum()) - (active - dropped)
    assert abs(grown - dropped) < 5 * math.sqrt(empty * chance * (1 - chance))
    assert int((model.weight != 0).sum()) == active - dropped
    places = sparse.masks["weight"] & (model.weight == 0)
    assert 0.3 < (places & mask).sum() / places.sum() < 0.5, "places just emptied and old ones are alike"


def test_masks_move_every_so_many_steps_and_not_between() -> None:
    sparse = begun(small_slak(), update_every=3)
    moved, last = [], copied(sparse.masks)
    for step in range(1, 8):
        for parameter in sparse.parameters.values():
            parameter.data += 0.01
        sparse.step()
        if not same(last, sparse.masks):
            moved.append(step)
        last = copied(sparse.masks)
    assert moved == [3, 6]


# In force -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", [None, torch.bfloat16], ids=["float32", "bfloat16"])
def test_masks_are_in_force_after_every_step_for_weights_and_their_average(precision: torch.dtype | None) -> None:
    model = small_slak()
    sparse, optimizer = begun(model), torch.optim.AdamW(model.parameters(), lr=0.01)
    average = ModelEmaV3(model, decay=0.7)
    for step in range(7):
        train(model, optimizer, step, precision)
        sparse.step()
        sparse.update_average(average)
        assert masked(sparse)
        assert not any(average.module.get_parameter(name)[~mask].any() for name, mask in sparse.masks.items())
    assert zero_share(model) == pytest.approx(0.4, abs=0.05)


def test_masks_are_in_force_where_a_gradient_scaler_skips_a_step() -> None:
    model = small_slak()
    sparse, optimizer = begun(model, update_every=2), torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=16.0)
    for step in range(4):
        images, labels = batch(step)
        optimizer.zero_grad()
        scaler.scale(F.cross_entropy(model(images), labels) * (math.inf if step == 1 else 1)).backward()
        before = copied(sparse.parameters)
        scaler.step(optimizer)
        scaler.update()
        assert same(before, sparse.parameters) == (step == 1)
        sparse.step()
        assert masked(sparse) and all(parameter.isfinite().all() for parameter in model.parameters())
    assert sparse.steps_done == 4


@pytest.mark.parametrize("device", [None, torch.device("cpu")])
def test_the_average_follows_the_rule_entry_by_entry(device: torch.device | None) -> None:
    decay, model = 0.6, small_slak()
    sparse, optimizer = begun(model, update_every=2), torch.optim.AdamW(model.parameters(), lr=0.01)
    average = ModelEmaV3(model, decay=decay, device=device)
    slow = {name: parameter.detach().flatten().tolist() for name, parameter in model.named_parameters()}
    fresh = 0
    for step in range(6):
        train(model, optimizer, step)
        sparse.step()
        sparse.update_average(average)
        for name, parameter in model.named_parameters():
            mask = sparse.masks.get(name, torch.ones_like(parameter, dtype=torch.bool)).flatten().tolist()
            for index, (weight, on) in enumerate(zip(parameter.detach().flatten().tolist(), mask, strict=True)):
                old = slow[name][index]
                takes = name in sparse.masks and on and old == 0
                fresh += takes and weight != 0
                usual = decay * old + (1 - decay) * weight
                slow[name][index] = 0.0 if not on else weight if takes else usual
    assert fresh > 20
    for name, parameter in average.module.named_parameters():
        torch.testing.assert_close(parameter.flatten(), torch.tensor(slow[name]), rtol=1e-5, atol=1e-8, msg=name)
        assert torch.equal(parameter.flatten() == 0, torch.tensor(slow[name]) == 0)


def test_a_new_weights_average_is_the_weight_to_the_bit() -> None:
    model = nn.Linear(7, 5)
    mask = torch.rand(5, 7) < 0.5
    model.weight.data *= mask
    average = ModelEmaV3(model, decay=0.9999)
    nn.init.zeros_(average.module.weight)
    with_masks(model, {"weight": mask}).update_average(average)
    assert torch.equal(average.module.weight, model.weight)


# Saved and resumed --------------------------------------------------------------------------------------------------


def train_with_checkpoints(folder: Path, killed_at: int | None) -> None:
    """Ten steps, saved after every second one; from the last save where there is one; killed in the midst of a step."""
    torch.set_num_threads(1)
    torch.manual_seed(0 if killed_at is None else 1)
    model = small_slak()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    sparse, average = SparseTraining(model, steps=10, update_every=3, seed=2), ModelEmaV3(model, decay=0.7)
    if (folder / "saved.pt").exists():
        saved = torch.load(folder / "saved.pt", weights_only=True)
        for name, owner in (("model", model), ("optimizer", optimizer), ("average", average.module)):
            owner.load_state_dict(saved[name])
        sparse.load_state_dict(saved["sparse"])
    else:
        sparse.start(*batch())
    for step in range(sparse.steps_done, 10):
        train(model, optimizer, step)
        if step == killed_at:
            os.kill(os.getpid(), signal.SIGKILL)
        sparse.step()
        sparse.update_average(average)
        if step % 2:
            states = {"model": model, "optimizer": optimizer, "average": average.module, "sparse": sparse}
            torch.save({name: owner.state_dict() for name, owner in states.items()}, folder / "new.pt")
            (folder / "new.pt").rename(folder / "saved.pt")


@pytest.mark.slow
@pytest.mark.parametrize("killed_at", [4, 8])
def test_a_killed_and_resumed_training_ends_where_an_uninterrupted_one_does(killed_at: int, tmp_path: Path) -> None:
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    train_with_checkpoints(tmp_path / "whole", None)
    process = multiprocessing.get_context("spawn").Process(
        target=train_with_checkpoints, args=(tmp_path / "killed", killed_at)
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    halfway = torch.load(tmp_path / "killed" / "saved.pt", weights_only=True)
    assert halfway["sparse"]["steps_done"] == killed_at
    train_with_checkpoints(tmp_path / "killed", None)
    whole, resumed = (torch.load(tmp_path / name / "saved.pt", weights_only=True) for name in ("whole", "killed"))
    for part in ("model", "average"):
        assert same(whole[part], resumed[part])
    assert same(whole["sparse"]["masks"], resumed["sparse"]["masks"])
    assert whole["sparse"]["steps_done"] == resumed["sparse"]["steps_done"] == 10
    assert not same(whole["sparse"]["masks"], halfway["sparse"]["masks"])


def test_a_mask_keeps_a_weight_that_has_grown_and_not_yet_moved_from_0() -> None:
    sparse = begun(small_slak(), update_every=1)
    sparse.step()
    again = SparseTraining(sparse.model, steps=100, update_every=1)
    again.load_state_dict(sparse.state_dict())
    assert same(again.masks, sparse.masks)
    assert any((sparse.parameters[name][mask] == 0).any() for name, mask in again.masks.items())


def test_a_state_is_not_changed_by_later_steps() -> None:
    sparse = begun(small_slak(), update_every=1)
    state = sparse.state_dict()
    before = copied(state["masks"])
    sparse.step()
    assert same(state["masks"], before) and state["steps_done"] == 0


Change = Callable[[dict[str, Any]], Any]
BRANCH = "stages.0.0.large_kernel.LoRA1.conv.weight"
WRONG_STATES: dict[str, tuple[Change, type[Exception], str]] = {
    "settings": (
        lambda state: state["settings"].update(seed=4),
        ValueError,
        "state is of a training with seed=4, this one has seed=0",
    ),
    "part": (
        lambda state: state.pop("dense"),
        ValueError,
        "state has no dense: give the result of",
    ),
    "missing": (lambda state: state["masks"].pop(BRANCH), ValueError, f"state lacks {BRANCH}: load it into the model"),
    "unexpected": (
        lambda state: state["masks"].update(other=torch.ones(1).bool()),
        ValueError,
        "state has unexpected other: load it into the model",
    ),
    "shape": (
        lambda state: state["masks"].update({BRANCH: torch.ones(8, 1, 5, 9).bool()}),
        ValueError,
        rf"mask of {BRANCH} has shape \(8, 1, 5, 9\), the parameter \(8, 1, 9, 5\)",
    ),
    "dtype": (
        lambda state: state["masks"].update({BRANCH: torch.ones(8, 1, 9, 5)}),
        TypeError,
        f"mask of {BRANCH} must be a bool tensor, got torch.float32",
    ),
    "steps": (lambda state: state.update(steps_done=-1), ValueError, "steps_done must be at least 0, got -1"),
}


@pytest.mark.parametrize(("change", "error", "message"), WRONG_STATES.values(), ids=WRONG_STATES)
def test_the_state_of_another_training_is_refused(change: Change, error: type[Exception], message: str) -> None:
    state = begun(small_slak()).state_dict()
    change(state)
    sparse = SparseTraining(small_slak(), steps=100, update_every=3)
    with pytest.raises(error, match=message):
        sparse.load_state_dict(state)
    with pytest.raises(ValueError, match="has not started"):
        sparse.step()


# What is refused ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"steps": 0}, ValueError, "steps must be at least 1, got 0"),
        ({"steps": 2.0}, TypeError, "steps must be a whole number, got 2.0"),
        ({"sparsity": 1}, ValueError, "sparsity must be at least 0 and below 1, got 1"),
        ({"sparsity": -0.1}, ValueError, "sparsity must be at least 0 and below 1, got -0.1"),
        ({"sparsity": math.nan}, ValueError, "sparsity must be at least 0 and below 1, got nan"),
        ({"sparsity": "0.4"}, TypeError, "sparsity must be a number, got '0.4'"),
        ({"prune_rate": 0.001}, ValueError, "prune_rate must be at least 0.005 and at most 1, got 0.001"),
        ({"prune_rate": 1.5}, ValueError, "prune_rate must be at least 0.005 and at most 1, got 1.5"),
        ({"update_every": 0}, ValueError, "update_every must be at least 1, got 0"),
        ({"seed": -1}, ValueError, "seed must be at least 0, got -1"),
        ({"scope": "large_kernel"}, ValueError, "unknown scope 'large_kernel': did you mean 'large_kernels'"),
        ({"scope": ["all"]}, ValueError, r"unknown scope \['all'\]"),
        ({"model": nn.Linear(3, 2), "scope": "large_kernels"}, ValueError, "scope 'large_kernels' has no parameter in"),
        ({"model": nn.LayerNorm(3)}, ValueError, "scope 'all' has no parameter in a LayerNorm"),
        ({"model": "mini_slak"}, TypeError, "model must be an nn.Module, got a str"),
    ],
    ids=str,
)
def test_wrong_settings_are_refused_by_name(settings: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        SparseTraining(**{"model": nn.Linear(3, 2), "steps": 10, **settings})


def test_what_needs_masks_is_refused_before_the_start_and_a_second_start_too() -> None:
    sparse = SparseTraining(small_slak(), steps=10)
    for call in (sparse.step, sparse.state_dict, lambda: sparse.masks, lambda: sparse.update_average(None)):
        with pytest.raises(ValueError, match="sparse training has not started: call start"):
            call()
    sparse.start(*batch())
    with pytest.raises(ValueError, match="sparse training has already started"):
        sparse.start(*batch())


def test_an_average_of_another_model_is_refused() -> None:
    with pytest.raises(ValueError, match=r"average is of another model without downsample_layers"):
        begun(small_slak()).update_average(ModelEmaV3(nn.Linear(3, 2)))


@pytest.mark.parametrize(
    ("images", "labels", "error", "message"),
    [
        (batch()[0], F.one_hot(batch()[1]).float(), TypeError, r"labels are torch.float32: give class indices"),
        (batch()[0], batch()[1][:3], ValueError, r"labels must have shape \(16,\), one per image, got \(3,\)"),
        (batch()[0] * math.inf, batch()[1], ValueError, "the gradient of this batch is not finite"),
        (batch()[0], [0] * 16, TypeError, "images and labels must be tensors, got Tensor and list"),
    ],
    ids=["mixed", "too few", "infinite", "list"],
)
def test_a_batch_that_cannot_score_is_refused(
    images: Tensor, labels: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        snip_densities(small_slak(), images, labels)


# Two processes ------------------------------------------------------------------------------------------------------


def work(rank: int, folder: Path) -> None:
    """Train a sparse student together with another process, and write what this one holds in the end."""
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT="0")
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=2)
    accelerator = Accelerator(cpu=True)
    sparse = SparseTraining(small_slak(), steps=10)
    sparse.start(*batch(seed=rank))
    setting = RunSetup(RECIPE, {})
    torch.manual_seed(rank)
    training = Trainer(setting, None, accelerator, Options())
    training.run(lambda images: None, Checkpoints(folder / "checkpoints"))
    masks, student = training.masks, training.task.student
    weights = {name: parameter.data for name, parameter in student.named_parameters()}
    processes = torch.tensor(accelerator.num_processes)
    torch.save({"other batches": sparse.masks, "masks": masks, "weights": weights, "n": processes}, folder / f"{rank}")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_hold_the_same_masks_and_weights(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=work, args=(rank, tmp_path)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    first, second = (torch.load(tmp_path / str(rank), weights_only=True) for rank in range(2))
    assert first["n"] == second["n"] == 2
    for part in ("other batches", "masks", "weights"):
        assert first[part] and same(first[part], second[part]), part
    assert not any(first["weights"][name][~mask].any() for name, mask in first["masks"].items())


# As a recipe --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes", [{}, {"ema": 0.7}, {"precision": "bf16"}, {"sparse_scope": "large_kernels"}], ids=str
)
def test_a_sparse_run_keeps_its_masks_and_is_zero_just_outside_them(changes: dict[str, Any], store: Store) -> None:
    recipe = replace(RECIPE, **changes)
    run = lkd.run(recipe, store=store)
    found = store.find(recipe)
    assert found is not None and same(found.masks, run.masks)
    for name, mask in run.masks.items():
        assert torch.equal(run.student.get_parameter(name) != 0, mask), name
    assert zero_share(run.student, recipe.sparse_scope) == pytest.approx(0.4, abs=0.02)
    assert run.masks.keys() <= sparse_parameters(run.student, recipe.sparse_scope).keys()


@pytest.mark.slow
def test_a_sparse_run_begins_with_a_fixed_batch_that_is_not_augmented(store: Store) -> None:
    recipe = replace(RECIPE, prune_every=100, mixup=0.5, crop=2, smoothing=0.1, seed=3)
    data = load("digits")
    torch.manual_seed(3)
    student = timm.create_model("mini_slak", in_chans=1, num_classes=10)
    sparse = SparseTraining(student, steps=8, update_every=100, seed=3)
    part = subset(subset(data.train, 128, seed=3), 32, seed=0)
    sparse.start(data.normalise(part.images), part.labels)
    assert same(lkd.run(recipe, store=store).masks, sparse.masks)


@pytest.mark.slow
def test_sparse_training_is_set_as_the_recipe_says_over_all_its_steps(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, init = [], SparseTraining.__init__

    def watched(sparse: SparseTraining, *arguments: Any, **settings: Any) -> None:
        init(sparse, *arguments, **settings)
        made.append(sparse)

    monkeypatch.setattr(SparseTraining, "__init__", watched)
    names = {"sparsity": 0.6, "sparse_scope": "large_kernels", "prune_rate": 0.3, "prune_every": 5, "seed": 7}
    lkd.run(replace(RECIPE, **names), store=store)
    (sparse,) = made
    settings = sparse.state_dict()["settings"]
    assert list(settings.values()) == [8, 0.6, 0.3, 5, "large_kernels", 7]
    assert sparse.steps_done == 8 and sparse.rate == 0.005


@pytest.mark.slow
def test_the_same_sparse_recipe_gives_the_same_run(tmp_path: Path) -> None:
    first, second = (lkd.run(RECIPE, store=Store(tmp_path / name)) for name in ("first", "second"))
    assert same(first.masks, second.masks) and same(first.student.state_dict(), second.student.state_dict())


@pytest.mark.slow
def test_a_dense_run_is_what_it_is_without_sparse_training(store: Store, tmp_path: Path) -> None:
    dense = replace(RECIPE, student="mini_resnet", sparsity=0.0)
    run = lkd.run(dense, store=store)
    other = lkd.run(replace(dense, sparse_scope="large_kernels", prune_rate=0.1, prune_every=1), store=store)
    assert same(run.student.state_dict(), other.student.state_dict())
    assert run.masks == {} and not list(run.path.glob("masks*"))


def test_a_student_without_large_kernels_is_refused_before_training(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lkd.engine.trainer.Trainer.run", lambda *_: pytest.fail("it trained"))
    with pytest.raises(ValueError, match="scope 'large_kernels' has no parameter in a ByobNet"):
        lkd.run(replace(RECIPE, student="mini_resnet", sparse_scope="large_kernels"), store=store)


@pytest.mark.slow
def test_a_sparse_teacher_is_another_teacher(store: Store) -> None:
    student = Recipe(data="digits", student="mini_resnet", train_images=128, teacher=RECIPE, objective="kd")
    dense = replace(student, teacher=replace(RECIPE, sparsity=0.0))
    assert student.run_id != dense.run_id
    lkd.run(student, store=store)
    assert store.find(RECIPE) is not None
