"""Studies: grids of recipes that answer one question, with tidy tables as the result."""

from lkd.study.compare import Effect, compared, effect, paper_tables
from lkd.study.grid import Grid, Study
from lkd.study.questions import distillation, features, growing, kernels, longer, matched, variants_of_kd
from lkd.study.results import Results, by_cell
from lkd.study.speed import learning_speed
from lkd.study.traits import erf_table, measure_erf, measure_robustness, robustness_table, traits

__all__ = [
    "Effect",
    "Grid",
    "Results",
    "Study",
    "by_cell",
    "compared",
    "distillation",
    "effect",
    "erf_table",
    "features",
    "growing",
    "kernels",
    "learning_speed",
    "longer",
    "matched",
    "measure_erf",
    "measure_robustness",
    "paper_tables",
    "robustness_table",
    "traits",
    "variants_of_kd",
]
