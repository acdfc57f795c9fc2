"""Studies: grids of recipes that answer one question, with tidy tables as the result."""

from lkd.study.compare import Effect, additions, compared, effect, paper_tables, with_alone
from lkd.study.compare_with_published import reproduced
from lkd.study.grid import Grid, Study
from lkd.study.results import Results, by_cell
from lkd.study.speed import learning_speed
from lkd.study.studies import distillation, growing, kernels, longer, matched, traits, variants_of_kd, ways
from lkd.study.traits import (
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

__all__ = [
    "Effect",
    "Grid",
    "Results",
    "Study",
    "additions",
    "by_cell",
    "check_changed_images",
    "check_field_size",
    "compared",
    "distillation",
    "effect",
    "erf_distances",
    "erf_maps",
    "erf_ratios",
    "erf_table",
    "errors_by_type",
    "growing",
    "imagenet_table",
    "kernels",
    "learning_speed",
    "longer",
    "matched",
    "measure_erf",
    "measure_robustness",
    "paper_tables",
    "reproduced",
    "robustness_table",
    "traits",
    "variants_of_kd",
    "ways",
    "with_alone",
]
