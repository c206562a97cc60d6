"""The order in which operations can stand: each after what it needs, else as they stood."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import TypeVar

Node = TypeVar("Node")


def in_order(nodes: Sequence[Node], needs: Sequence[set[int]]) -> list[Node] | None:
    """The nodes, each after those it needs and else as they are; None if some need each other.

    `needs[k]` are the places in `nodes` of what `nodes[k]` needs (Kahn, Topological sorting of
    large networks, 1962).
    """
    readers: list[list[int]] = [[] for _ in nodes]
    for k, needed in enumerate(needs):
        for one in needed:
            readers[one].append(k)
    missing = [len(needed) for needed in needs]
    ready = [k for k, count in enumerate(missing) if not count]
    found: list[Node] = []
    while ready:
        k = heapq.heappop(ready)
        found.append(nodes[k])
        for other in readers[k]:
            missing[other] -= 1
            if not missing[other]:
                heapq.heappush(ready, other)
    return found if len(found) == len(nodes) else None
