"""The cheapest set of values to keep, so that all needed ones can be computed from them.

    s = W @ h;  t = s + b;  y = tanh(t)       needed: y, t       ->     keep t, compute y again

A minimum cut between what cannot be computed again and what is needed, found by augmenting paths;
of several, the one nearest to what is needed, which repeats least work.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable

INFINITE = 10**30

Node = Hashable


class _Network:
    """Residual capacities of a directed graph."""

    def __init__(self) -> None:
        self.capacity: dict[Node, dict[Node, int]] = {}

    def connect(self, start: Node, end: Node, capacity: int) -> None:
        room = self.capacity.setdefault(start, {})
        room[end] = room.get(end, 0) + capacity
        self.capacity.setdefault(end, {}).setdefault(start, 0)

    def saturate(self, source: Node, sink: Node) -> None:
        """Push flow along shortest paths until there are none."""
        while True:
            parent: dict[Node, Node] = {source: source}
            queue = deque([source])
            while queue and sink not in parent:
                node = queue.popleft()
                for end, room in self.capacity[node].items():
                    if room > 0 and end not in parent:
                        parent[end] = node
                        queue.append(end)
            if sink not in parent:
                return
            path = [sink]
            while path[-1] != source:
                path.append(parent[path[-1]])
            edges = list(zip(path[1:], path, strict=False))
            flow = min(self.capacity[a][b] for a, b in edges)
            for a, b in edges:
                self.capacity[a][b] -= flow
                self.capacity[b][a] += flow

    def reaching(self, sink: Node) -> set[Node]:
        """The nodes from which the sink can still be reached."""
        found, queue = {sink}, deque([sink])
        while queue:
            node = queue.popleft()
            for start in self.capacity[node]:
                if start not in found and self.capacity[start].get(node, 0) > 0:
                    found.add(start)
                    queue.append(start)
        return found


def cheapest_cut(
    needed: Iterable[Hashable],
    made_from: Callable[[Hashable], Iterable[Hashable] | None],
    cost: Callable[[Hashable], int],
) -> set[Hashable]:
    """The values to keep.

    `made_from(value)` gives the values from which it can be computed again, None if it cannot be.
    """
    network = _Network()
    network.capacity = {"source": {}, "sink": {}}
    queue = deque(dict.fromkeys(needed))
    for value in queue:
        network.connect((value, "out"), "sink", INFINITE)
    seen = set(queue)
    while queue:
        value = queue.popleft()
        network.connect((value, "in"), (value, "out"), cost(value))
        origins = made_from(value)
        if origins is None:
            network.connect("source", (value, "in"), INFINITE)
            continue
        for origin in origins:
            network.connect((origin, "out"), (value, "in"), INFINITE)
            if origin not in seen:
                seen.add(origin)
                queue.append(origin)
    network.saturate("source", "sink")
    near = network.reaching("sink")
    return {value for value in seen if (value, "out") in near and (value, "in") not in near}
