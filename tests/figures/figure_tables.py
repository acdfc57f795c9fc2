"""Small tables for figures, and what figures show."""

import itertools

import numpy as np
import pandas as pd

STUDENTS, OBJECTIVES = ["small", "smaller"], ["kd", "nkd"]
TEACHERS = {
    "mini_slak": "SLaK",
    "mini_convnext": "ConvNeXt",
    "mini_cswin": "CSWin",
    "mini_swin": "Swin",
    "mini_vit": "ViT",
}
BOTH = ("mini_slak", "mini_vit")


def gains_table(teachers=BOTH, seeds=(0, 1, 2)):
    """One row per run, each with different accuracies."""
    cells = list(itertools.product(STUDENTS, teachers, OBJECTIVES, seeds))
    table = pd.DataFrame(cells, columns=["student", "teacher", "objective", "seed"])
    alone, gains = (np.random.default_rng(seed).normal(mean, 2, len(table)) for seed, mean in ((1, 70), (0, 1)))
    return table.assign(student_top1=alone, distilled_top1=alone + gains, direct_gain=gains)


def curves_table(teachers=BOTH, seeds=(0, 1), epochs=4):
    """One row per epoch of a run, of baselines and distilled students."""
    kinds = [(student, None, "label", 100.0) for student in STUDENTS]
    kinds += [(s, t, o, 100.0) for s in STUDENTS for t in teachers for o in OBJECTIVES]
    rows = [(*kind, seed, epoch) for kind in kinds for seed in seeds for epoch in range(1, epochs + 1)]
    table = pd.DataFrame(rows, columns=["student", "teacher", "objective", "train_images", "seed", "epoch"])
    return table.assign(val_top1=np.random.default_rng(0).uniform(20, 90, len(table)))


def panel_of(figure, trace):
    """Student and objective of a trace's panel, from the name above it."""
    (name,) = [note.text for note in figure.layout.annotations if note.yref == f"{trace.yaxis} domain"]
    student, objective = name.removeprefix("<b>Student ").split("</b>, ")
    return student, objective.lower()


def marks(figure, visible=True):
    """The traces with means: not the bands, nor hidden views."""
    shown = [trace for trace in figure.data if trace.visible in ((None, True) if visible else (False,))]
    return [trace for trace in shown if trace.mode != "none"]


def bands(figure):
    return [trace for trace in figure.data if trace.mode == "none" and trace.visible in (None, True)]


def name_of(trace):
    return trace.name or trace.y[0]


def frame_of(figure):
    """The numbers beside a figure."""
    return pd.DataFrame(figure.layout.meta["table"]["rows"], columns=figure.layout.meta["table"]["columns"])
