"""Plans: work, time, memory and disk space of studies, before they are run."""

from lkd.planning.gpus import GPU, GPUS, UTILISATION, seconds_on
from lkd.planning.plans import MEASURE, plan, plan_chapter
from lkd.planning.report import Plan
from lkd.planning.work import JobWork, Memory, Work, memory, work, work_of

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
