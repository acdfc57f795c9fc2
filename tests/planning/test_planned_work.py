"""The work of recipes, compared with counts by hand and real forward passes; hours on GPUs."""

from dataclasses import replace

import pytest
import timm
import torch
from timm.models import register_model
from torch import nn

from lkd import Recipe
from lkd.data import load
from lkd.engine.jobs import Job
from lkd.engine.teacher_check import check_image_count
from lkd.models.cost import cost
from lkd.planning import GPUS, Work, memory, seconds_on, work, work_of
from lkd.planning.data_shape import Shape, data_shape, missing_weights
from lkd.planning.network_cost import network_cost
from lkd.planning.timing import makespan
from lkd.study import schedule_lengths

PASS = 4 * 9 * 32 * 32 + 4 * 32 * 32 * 10
"""Multiply-accumulates of `by_hand`: a 3x3 convolution to four channels, and a linear layer."""

KEPT = 4 * (32 * 32 + 4 * 32 * 32)
"""Bytes saved for its backward pass: the image, and the rectified map, which the linear layer shares."""


@register_model
def by_hand(pretrained: bool = False, in_chans: int = 1, num_classes: int = 10, **_: object) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(in_chans, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 32 * 32, num_classes)
    )


ALONE = Recipe(data="digits", student="by_hand", train_images=150, epochs=3, batch_size=64)
TEACHER = replace(ALONE, train_images=None, epochs=1)
TAUGHT = replace(ALONE, teacher=TEACHER, objective="kd")
STEPS, IMAGES = 3 * 2, 3 * 2 * 64


def evaluated(epochs: int) -> int:
    digits = load("digits")
    return epochs * min(500, len(digits.val)) + len(digits.val) + len(digits.test)


def test_a_network_counted_by_hand() -> None:
    found = network_cost(ALONE, data_shape(ALONE).shape)
    assert found.macs == PASS and found.activation_bytes == KEPT
    assert found.parameter_bytes == found.state_bytes == 4 * (4 * 9 + 4 + 4096 * 10 + 10)


@pytest.mark.parametrize("name", ["mini_slak", "mini_swin", "mini_cswin", "mini_vit", "mini_resnet", "resnet18"])
def test_work_counted_without_data_is_that_of_a_real_pass(name: str) -> None:
    shape = Shape(1, 1, 1, 10, 3, (32, 32))
    real = cost(timm.create_model(name, in_chans=3, num_classes=10), 3, (32, 32))
    assert network_cost(Recipe(data="digits", student=name), shape).macs == real.macs


@pytest.mark.parametrize("name", ["swinv2_cr_tiny_ns_224", "convnext_atto"])
def test_a_network_that_reads_its_initial_weights_is_counted_like_any_other(name: str) -> None:
    made = timm.create_model(name, num_classes=10)
    found = network_cost(Recipe(data="digits", student=name), Shape(1, 1, 1, 10, 3, (224, 224)))
    assert found.parameter_bytes == sum(4 * weight.numel() for weight in made.parameters())
    assert found.state_bytes == sum(each.numel() * each.element_size() for each in made.state_dict().values())


def test_training_is_three_passes_and_a_teacher_is_asked_where_no_tape_is_read() -> None:
    alone = work_of(Job("run", ALONE), taped=False)
    own = 2 * PASS * (3 * IMAGES + evaluated(3))
    assert alone == (STEPS, IMAGES, evaluated(3), own)
    checked = min(check_image_count(10), len(load("digits").val))
    assert work_of(Job("run", TAUGHT), taped=True) == alone._replace(flops=own + 2 * PASS * checked)
    assert work_of(Job("run", TAUGHT), taped=False) == alone._replace(flops=own + 2 * PASS * (IMAGES + checked))
    assert work_of(Job("tape", TAUGHT), taped=False) == (STEPS, IMAGES, 0, 2 * PASS * IMAGES)


def test_a_training_that_may_stop_is_looked_at_every_fifty_steps() -> None:
    small = replace(ALONE, batch_size=1)  # 150 steps an epoch: looks before steps 51 and 101
    extra = work_of(Job("run", replace(small, stop_top1=90.0)), False).evaluated - evaluated(3)
    assert extra == 3 * 2 * min(2000, len(load("digits").val))


def test_the_work_of_a_study_is_that_of_its_teachers_tapes_and_students() -> None:
    by_nkd = replace(TAUGHT, objective="nkd")
    jobs = [Job("run", TEACHER), Job("tape", TAUGHT), Job("run", TAUGHT), Job("run", by_nkd)]
    each = [work_of(job, taped=True) for job in jobs]
    found = work([TAUGHT, by_nkd])
    assert (found.steps, found.images) == (sum(one.steps for one in each), sum(one.images for one in each))
    assert (found.single, found.half) == (sum(one.flops for one in each), 0)
    assert work([TAUGHT]).flops == each[0].flops + work_of(Job("run", TAUGHT), taped=False).flops


def test_a_run_that_two_studies_ask_for_is_counted_once() -> None:
    assert work([TEACHER, TAUGHT], [TEACHER, TAUGHT, ALONE]).flops == work([TAUGHT]).flops + work([ALONE]).flops


def test_hours_on_a_gpu_follow_from_its_peak() -> None:
    hour = Work(steps=1, images=1, half=312 * 3600 * 10**12, single=19.5 * 3600 * 10**12)
    assert hour.hours_on("a100", utilisation=1) == pytest.approx(2)
    assert hour.hours_on("a100", utilisation=0.25, gpus=4) == pytest.approx(2)
    assert seconds_on("v100", 15.7e12, half=False, utilisation=1) == pytest.approx(1)
    assert all(gpu.half > gpu.single for gpu in GPUS.values())


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"gpu": "a10O"}, KeyError, "unknown GPU 'a10O': did you mean 'a10"),
        ({"gpu": "a100", "utilisation": 0}, ValueError, "utilisation must be above 0"),
        ({"gpu": "a100", "utilisation": 1.5}, ValueError, "at most 1, got 1.5"),
        ({"gpu": "a100", "gpus": 0}, ValueError, "gpus must be at least 1, got 0"),
    ],
)
def test_what_is_no_gpu_is_refused(arguments: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        work([ALONE]).hours_on(**arguments)


# Memory -------------------------------------------------------------------------------------------------------------


def test_memory_of_a_process_by_hand() -> None:
    weights = 4 * (40 + 40970)
    assert memory(ALONE) == (weights, weights, 2 * weights, 0, 64 * KEPT, 0)
    assert memory(replace(TAUGHT, ema=0.9)) == (weights, weights, 2 * weights, weights, 64 * KEPT, weights)


def test_activations_are_those_of_the_images_that_go_through_at_once() -> None:
    assert memory(ALONE, processes=4).activations == 16 * KEPT
    assert memory(replace(ALONE, accumulation=2)).activations == 32 * KEPT
    assert memory(replace(ALONE, precision="bf16")).activations == 32 * KEPT


def test_a_pretrained_teacher_weighs_what_its_network_does_with_and_without_a_tag() -> None:
    tagged = replace(ALONE, teacher="resnet18.a1_in1k", objective="kd")
    weights = sum(4 * each.numel() for each in timm.create_model("resnet18", in_chans=1).parameters())
    found = memory(tagged)
    assert found == memory(replace(tagged, teacher="resnet18"))
    assert weights < found.teacher + 4 * 990 * 513 < 1.01 * weights  # 10 classes instead of 1,000, and buffers


# Missing data and weights -------------------------------------------------------------------------------------------


def test_of_data_that_is_not_there_nothing_is_said_but_what_to_do() -> None:
    recipe = Recipe(data="folder:/nowhere/pets", student="resnet18", image_size=64)
    found = data_shape(recipe)
    assert found.shape is None and "/nowhere/pets" in found.missing and "it needs train/" in found.missing
    assert work([recipe]) is None and memory(recipe) is None


def test_imagenet_that_is_not_there_is_taken_for_the_published_one() -> None:
    found = data_shape(Recipe(data="folder:/nowhere/imagenet", student="resnet18"))
    assert found.shape == (1_231_167, 50_000, 50_000, 1000, 3, (224, 224))
    assert "its size is taken for ImageNet-1k's" in found.missing


def test_weights_that_are_not_in_the_cache_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("lkd.planning.data_shape.in_hub_cache", lambda _: None)
    assert "'resnet18' are not in the cache: they are downloaded from timm/resnet18" in missing_weights("resnet18")
    monkeypatch.setattr("lkd.planning.data_shape.in_hub_cache", lambda _: "model.safetensors")
    assert missing_weights("resnet18") == ""


# Parallel jobs ------------------------------------------------------------------------------------------------------


def test_processes_side_by_side_take_no_less_than_a_chain_and_no_more_than_one_process() -> None:
    from lkd.planning.work import job_graphs

    (graph,) = job_graphs([schedule_lengths("smoke").recipes])
    torch.manual_seed(0)
    seconds = dict(zip(graph, torch.rand(len(graph)).tolist(), strict=True))

    def chain(job: Job) -> float:
        return seconds[job] + max(map(chain, graph[job]), default=0.0)

    longest, total = max(map(chain, graph)), sum(seconds.values())
    assert makespan(graph, seconds, 1) == pytest.approx(total)
    assert makespan(graph, seconds, len(graph)) == pytest.approx(longest)
    assert max(longest, total / 2) <= makespan(graph, seconds, 2) < 0.7 * total
