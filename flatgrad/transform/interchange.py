"""Loops in the order in which arrays lie in memory.

    for j in range(m):                      s_row = np.zeros(m)
        s = 0.0                             for i in range(n):
        for i in range(n):                      for j in range(m):
            s += A[i, j] * x[i]      ->             s_row[j] += A[i, j] * x[i]
        total += np.tanh(s)                 for j in range(m):
                                                total += np.tanh(s_row[j])

A loop and the one inside it change places where the innermost loop then touches fewer lines of the
cache (`analysis/strides.py`), and where that is certainly right (`analysis/loop_pairs.py`,
`directions.py`). Before differentiation the user's loops are brought into this order, and their
adjoints follow; after it, adjoints that want another one. With `ordered`, no sum gets another order
of its terms; with `threads`, trips that threads could share stay so.
"""

from __future__ import annotations

from dataclasses import replace

from flatgrad.analysis.affine import Integers
from flatgrad.analysis.apart import Places
from flatgrad.analysis.loop_pairs import Pair, Stays
from flatgrad.analysis.shared import shared
from flatgrad.analysis.strides import lines_per_trip
from flatgrad.ir.ops import Block, For, Function, Op, size_of
from flatgrad.transform.clone import all_ops, with_blocks
from flatgrad.transform.dce import eliminate_dead
from flatgrad.transform.handed_on import without_handed_on
from flatgrad.transform.loop_parts import Parts

SHARE = 0.7
"""What is left of the lines at most, where it is worth while."""

LEAST = 0.5
"""So many lines must be saved in each trip: there is an array that is read across its rows."""

FEWEST = 8
"""Loops of fewer trips than this, where that is known, do not become innermost."""

MOST = 24
"""So many pairs of a function change places at most."""


def interchange(fn: Function, *, ordered: bool = False, threads: bool = False) -> Function:
    """The function with its loops in the order of memory; the same object if they are."""
    if not any(holds_loop(op) for op in all_ops(fn.body)):
        return fn
    found = eliminate_dead(replace(fn, body=without_handed_on(fn.body)))
    for count in range(MOST):
        body = _Search(found, ordered, threads).block(found.body)
        if body is None:
            return found if count else fn
        found = eliminate_dead(replace(found, body=body))
    return found


def holds_loop(op: Op) -> bool:
    """Whether a loop has loops in it."""
    return isinstance(op, For) and any(isinstance(one, For) for one in op.body.ops)


class _Search:
    """Looks for a pair of loops that should change places, the innermost ones first."""

    def __init__(self, fn: Function, ordered: bool, threads: bool) -> None:
        self.places = Places.of_function(fn)
        self.lengths = fn.lengths
        self.ordered = ordered
        self.threads = threads

    def block(self, block: Block) -> Block | None:
        """The block with one pair in another order; None if there is none."""
        for place, op in enumerate(block.ops):
            made = self.inside(op) or self.swapped(op)
            if made is not None:
                ops = [*block.ops[:place], *made, *block.ops[place + 1 :]]
                return Block(block.params, ops, block.yields)
        return None

    def inside(self, op: Op) -> list[Op] | None:
        """The operation with a pair in one of its blocks in another order."""
        found = False

        def change(block: Block) -> Block:
            nonlocal found
            made = None if found else self.block(block)
            found = found or made is not None
            return made or block

        changed = with_blocks(op, change)
        return [changed] if found else None

    def swapped(self, op: Op) -> list[Op] | None:
        """What stands in the place of a loop and the one inside it."""
        pair = Pair.of(op, self.places, self.ordered) if isinstance(op, For) else None
        if pair is None or not self.is_worth_while(pair):
            return None
        try:
            pair.take_apart()
        except Stays:
            return None
        if holds_loop(pair.outer) and holds_loop(pair.inner) and not pair.is_perfect:
            return None
        made = Parts(pair, self.lengths).built()
        if self.threads and shared(pair.outer, self.places.integers) is not None:
            integers = Integers.of_block(Block((), made))
            if any(holds_loop(one) and shared(one, integers) is None for one in made
                   if isinstance(one, For)):  # fmt: skip
                return None
        return made

    def is_worth_while(self, pair: Pair) -> bool:
        outer, inner = pair.outer, pair.inner
        if _is_short(outer):
            return False
        now, then = (
            lines_per_trip(inner.body, loop.body.params[0], self.places.integers)
            for loop in (inner, outer)
        )
        return then < SHARE * now and now - then > LEAST


def _is_short(loop: For) -> bool:
    """Whether a loop is known to have few trips."""
    start, stop = size_of(loop.start), size_of(loop.stop)
    return isinstance(start, int) and isinstance(stop, int) and abs(stop - start) < FEWEST
