"""The profiles of the papers: settings of the sources in the recipes of the studies."""

from collections.abc import Mapping
from typing import Any

import pytest
import timm
from torch import nn

from lkd.engine.optimizer import make_optimizer, make_schedule
from lkd.profiles import Profile
from lkd.recipe import Recipe
from lkd.study import Study, distillation, kd_variants, kernel_sizes, method_variants, schedule_lengths, trait_study

STEPS = 1000
"""Steps of an epoch, for schedules."""

L2S = {
    "optimizer": "adamw", "optimizer_args": {}, "lr": 4e-3, "weight_decay": 0.05, "clip": None, "schedule": "cosine",
    "schedule_args": {"min_lr": 1e-6}, "image_size": 224, "crop_pct": 0.875, "interpolation": "bicubic", "flip": True,
    "crop_scale": 0.08, "auto_augment": "rand-m9-mstd0.5-inc1", "color_jitter": 0.0, "erasing": 0.25, "mixup": 0.8,
    "cutmix": 1.0, "smoothing": 0.1, "repeats": 1, "precision": "no", "accumulation": 8, "train_images": None,
    "data": "folder:imagenet",
}  # fmt: skip
"""Section 9.1 of the definitions, and our choices for settings that it does not state."""

A2 = L2S | {
    "optimizer": "lamb", "lr": 5e-3, "weight_decay": 0.02, "schedule_args": {"min_lr": 1e-6, "warmup_lr": 1e-6},
    "crop_pct": 0.95, "auto_augment": "rand-m7-mstd0.5", "erasing": 0.0, "mixup": 0.1, "smoothing": 0.0, "repeats": 3,
    "precision": "fp16", "batch_size": 2048, "ema": None, "seed": 42, "student_args": {"drop_path_rate": 0.05},
    "sparsity": 0.0, "accumulation": 1,
}  # fmt: skip
"""Section 9.2."""

SLAK_T = {"sparsity": 0.4, "prune_rate": 0.5, "prune_every": 2000, "sparse_scope": "all"}
"""Section 6.1."""


def teacher(profile: str, model: str) -> Recipe:
    return next(
        r for r in distillation(profile).recipes if r.teacher is None and r.student == model and r.epochs == 300
    )


def students(study: Study, model: str) -> list[Recipe]:
    return [recipe for recipe in study.recipes if recipe.teacher is not None and recipe.student == model]


def has(recipe: Recipe, expected: Mapping[str, Any]) -> None:
    assert {name: getattr(recipe, name) for name in expected} == expected


def warmup_epochs(recipe: Recipe) -> float:
    """Number of epochs until the learning rate is highest, by the schedule of training."""
    optimizer = make_optimizer(recipe, nn.Linear(1, 1))
    schedule = make_schedule(recipe, optimizer, STEPS)
    rates = []
    for step in range(30 * STEPS):
        rates.append(optimizer.param_groups[0]["lr"])
        schedule.step_update(step + 1)
    assert max(rates) == pytest.approx(recipe.lr) and rates[0] == recipe.schedule_args.get("warmup_lr", 0.0)
    return rates.index(max(rates)) / STEPS


# L2S ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("profile", "epochs"), [("imagenet", 120), ("imagenet_300", 300)])
def test_students_of_l2s(profile: str, epochs: int) -> None:
    drop_path = {"resnet50": {}, "convnext_bn_tiny": {"drop_path_rate": 0.1}}
    for model, batch in (("resnet50", 1024), ("convnext_bn_tiny", 2048)):
        recipes = students(distillation(profile), model)
        assert {r.objective for r in recipes} == {"kd", "nkd"} and len({r.teacher_name for r in recipes}) == 5
        for recipe in recipes:
            has(recipe, L2S | {"epochs": epochs, "batch_size": batch, "ema": None, "seed": 0, "sparsity": 0.0})
            assert recipe.student_args == drop_path[model]
        assert warmup_epochs(recipes[0]) == 20


@pytest.mark.parametrize("profile", ["imagenet", "imagenet_300", "imagenet_vanilla", "imagenet_vanilla_a1"])
def test_teachers_of_l2s(profile: str) -> None:
    slak = teacher(profile, "slak_tiny")
    has(slak, L2S | SLAK_T | {"epochs": 300, "batch_size": 4096, "ema": 0.9999, "seed": 0})
    assert slak.student_args == {"drop_path_rate": 0.1} and warmup_epochs(slak) == 20
    for model in ("convnext_tiny", "cswin_tiny", "swin_tiny_patch4_window7_224", "vit_small_2020"):
        has(teacher(profile, model), L2S | {"epochs": 300, "batch_size": 4096, "ema": 0.9999, "sparsity": 0.0})


def test_objectives_of_l2s() -> None:
    found = {r.objective: r.objective_args for r in students(distillation("imagenet"), "resnet50")}
    assert found == {"kd": {"temperature": 1, "alpha": 0.1}, "nkd": {"temperature": 1, "gamma": 1}}


def test_feature_maps_are_compared_as_in_the_released_code() -> None:
    study = method_variants("imagenet", chapter="feature_kd")
    for recipe in students(study, "resnet50"):
        objective, variant = recipe.make_objective(), study.label(recipe)["variant"]
        for part in (objective, *getattr(objective, "addends", ())):
            if hasattr(part, "normalize"):
                whitened = {"FD, whitened over channels": "channels", "FD, whitened over the map": "chw"}
                assert (part.normalize, part.kind, part.beta) == (whitened.get(variant, "none"), "smooth_l1", 2.0)
                assert part.weight == 1.0 and part.stages == (3 if variant == "FD, three maps" else 1)


def test_kernels_are_those_of_slaks_table() -> None:
    study = kernel_sizes("imagenet")
    made = {study.label(r)["kernel"]: r.teacher for r in students(study, "resnet50")}
    for name, sizes in (
        ("51, 49, 47, 13", None),
        ("31, 29, 27, 13", [31, 29, 27, 13]),
        ("61, 59, 57, 13", [61, 59, 57, 13]),
    ):
        assert made[name].student == "slak_tiny" and made[name].student_args.get("kernel_sizes") == sizes
        has(made[name], SLAK_T)
    assert made["51, 49, 47, 13"] == teacher("imagenet", "slak_tiny")
    model = timm.create_model("slak_tiny")
    assert [stage[0].large_kernel.LoRA1.conv.weight.shape[2] for stage in model.stages] == [51, 49, 47, 13]
    assert made["7, 7, 7, 7"].student == "convnext_bn_tiny"


def test_schedules_of_120_and_300_epochs() -> None:
    for profile in ("imagenet", "imagenet_300"):
        assert {recipe.epochs for recipe in students(schedule_lengths(profile), "resnet50")} == {120, 300}


def test_receptive_fields_are_measured_as_replknet_does() -> None:
    study = trait_study("imagenet")
    label = study.label(students(study, "resnet50")[0])
    assert (label["erf_size"], label["erf_images"], label["corrupted_images"]) == (1024, 50, None)


# VanillaKD ----------------------------------------------------------------------------------------------------------


def strong(profile: str) -> list[Recipe]:
    whole = {"sizes": [1231167], "strengths": ["strong"]}
    return students(kd_variants(profile, **whole), "resnet50")


@pytest.mark.parametrize(
    ("profile", "own"),
    [
        ("imagenet_vanilla", {"epochs": 300}),
        ("imagenet_vanilla_a1", {"epochs": 600, "weight_decay": 0.01, "mixup": 0.2, "smoothing": 0.1}),
    ],
)
def test_students_of_vanilla_kd(profile: str, own: dict[str, Any]) -> None:
    recipes = students(distillation(profile), "resnet50")
    assert {recipe.student for recipe in distillation(profile).recipes if recipe.teacher} == {"resnet50"}
    for recipe in recipes:
        has(recipe, A2 | own)
    for recipe in strong(profile):
        has(recipe, A2 | own | {"train_images": 1231167})
    assert warmup_epochs(recipes[0]) == 5


@pytest.mark.parametrize("profile", ["imagenet_vanilla", "imagenet_vanilla_a1"])
def test_losses_of_vanilla_kd(profile: str) -> None:
    found = {recipe.objective: recipe.make_objective() for recipe in strong(profile)[::-1]}
    assert set(found) == {"vanilla", "dkd", "dist"} and {objective.hard for objective in found.values()} == {"bce"}
    dkd, dist = found["dkd"], found["dist"]
    assert (dkd.temperature, dkd.alpha, dkd.beta, dkd.label) == (1, 1, 2, 1)
    assert (dist.temperature, dist.beta, dist.gamma, dist.label) == (1, 1, 1, 1)


def test_students_learn_from_30_and_60_percent_of_the_images_that_are_not_held_out() -> None:
    images, held_out = 1_281_167, 50_000
    shares = [size / (images - held_out) for size in Profile.load("imagenet").chapters["vanilla_kd"]["sizes"]]
    assert shares == pytest.approx([0.3, 0.6, 1], abs=1e-6)


# All ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", ["imagenet_300", "imagenet_vanilla", "imagenet_vanilla_a1"])
def test_teachers_are_trained_once_for_all_profiles_of_imagenet(profile: str) -> None:
    def teacher_ids(name: str) -> set[str]:
        return {recipe.teacher.run_id for recipe in distillation(name).recipes if recipe.teacher}

    assert teacher_ids(profile) == teacher_ids("imagenet")
