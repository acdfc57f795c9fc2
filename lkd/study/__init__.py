"""Studies: grids of recipes, with their results as tidy tables."""

from typing import Any

from lkd.study.agreement import agreement_table, class_gains
from lkd.study.compare import Effect, accuracy_regression, additions, compared, effect, paper_tables, with_baseline
from lkd.study.compare_with_published import compare_with_published
from lkd.study.grid import Grid, Study
from lkd.study.results import Results, by_cell
from lkd.study.speed import learning_speed
from lkd.study.student_errors import changed_images, class_accuracy, confusion
from lkd.study.studies import (
    distillation,
    kd_variants,
    kernel_sizes,
    matched,
    method_variants,
    schedule_lengths,
    teacher_sizes,
    trait_study,
)
from lkd.study.trait_tables import (
    check_changed_images,
    check_field_size,
    erf_distances,
    erf_maps,
    erf_ratios,
    erf_table,
    errors_by_type,
    imagenet_table,
    measure_erf,
    measure_robustness,
    robustness_table,
)
from lkd.util.old_names import renamed

__all__ = [
    "Effect",
    "Grid",
    "Results",
    "Study",
    "accuracy_regression",
    "additions",
    "agreement_table",
    "by_cell",
    "changed_images",
    "check_changed_images",
    "check_field_size",
    "class_accuracy",
    "class_gains",
    "compare_with_published",
    "compared",
    "confusion",
    "distillation",
    "effect",
    "erf_distances",
    "erf_maps",
    "erf_ratios",
    "erf_table",
    "errors_by_type",
    "imagenet_table",
    "kd_variants",
    "kernel_sizes",
    "learning_speed",
    "matched",
    "measure_erf",
    "measure_robustness",
    "method_variants",
    "paper_tables",
    "robustness_table",
    "schedule_lengths",
    "teacher_sizes",
    "trait_study",
    "with_baseline",
]

_OLD_NAMES = {
    "growing": "lkd.study:teacher_sizes",
    "kernels": "lkd.study:kernel_sizes",
    "longer": "lkd.study:schedule_lengths",
    "reproduced": "lkd.study:compare_with_published",
    "traits": "lkd.study:trait_study",
    "variants_of_kd": "lkd.study:kd_variants",
    "ways": "lkd.study:method_variants",
    "with_alone": "lkd.study:with_baseline",
}


def __getattr__(name: str) -> Any:
    return renamed(__name__, name, _OLD_NAMES)
