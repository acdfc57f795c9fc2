"""Plans: what studies take, before anything is run."""

from lkd.planning.chapter_plan import plan_chapter
from lkd.planning.footprint import Memory, memory
from lkd.planning.gpus import GPU, GPUS, UTILISATION, seconds_on
from lkd.planning.report import Plan
from lkd.planning.studies import MEASURE, plan
from lkd.planning.work import JobWork, Work, work, work_of

__all__ = [
    "GPU",
    "GPUS",
    "MEASURE",
    "UTILISATION",
    "JobWork",
    "Memory",
    "Plan",
    "Work",
    "memory",
    "plan",
    "plan_chapter",
    "seconds_on",
    "work",
    "work_of",
]
