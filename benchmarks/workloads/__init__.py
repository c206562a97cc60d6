"""The workloads, one file per family."""

from __future__ import annotations

from benchmarks.workload import Workload
from benchmarks.workloads import adbench, networks, normal, recurrent, steps

ALL: list[Workload] = [
    *networks.WORKLOADS, *recurrent.WORKLOADS, *steps.WORKLOADS, *normal.WORKLOADS,
    *adbench.WORKLOADS,
]  # fmt: skip
FAMILIES = tuple(dict.fromkeys(each.family for each in ALL))
