"""Rows of adjoints of which only the sum over the lanes is wanted are kept as that sum.

    for a in range(d):                              for a in range(d):
        for b in range(a):                              grad_y_sum = sum of grad_y over the lanes
            for lane in range(64):            ->        for b in range(a):
                grad_c[b, lane] += grad_y[lane] * q[a, b]   grad_c[b] += grad_y_sum * q[a, b]
    for b in range(d):                              for b in range(d):
        grad_m[b] -= sum of grad_c[b] over the lanes    grad_m[b] -= grad_c[b]

Of an array that each trip adds to and leaves as zeros, every element may be read only to be added
to what all trips add up, with factors that the lanes have in common. What is added to it is then
summed where it is computed, which is in fewer loops than where it is added, or the rows stay.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from typing import Any

from flatgrad.analysis.dependence import LENGTHS
from flatgrad.analysis.independent import SUMS
from flatgrad.analysis.nests import FLOATS, Nest
from flatgrad.analysis.threads import Thread, base_of, scalar_entries, value_of
from flatgrad.ir.ops import Apply, Block, Const, For, Op, Operand, Value, blocks_of, operands_of
from flatgrad.primitives.core import IDENTITY
from flatgrad.primitives.index import ADD_ITEM, SET_ITEM


@dataclass(slots=True)
class Term:
    """What a write adds: a number of each lane, and the calls that multiply it for all of them."""

    number: Value
    factors: list[Apply]
    early: bool
    """Whether the number is made in a block around that of the write."""


@dataclass(slots=True)
class Found:
    """Of one array: what is added to it, what is done with its elements, and what is dropped."""

    terms: dict[Op, Term] = field(default_factory=dict)
    once: set[Op] = field(default_factory=set)


class Summed:
    """The arrays of which only sums over the lanes are wanted.

    `terms` by write; `once` are operations that are done once for all lanes; `dropped` those that
    need not be done.
    """

    def __init__(self, nest: Nest, added: Any) -> None:
        self.nest, self.added = nest, added
        self.threads: set[Thread] = set()
        self.terms: dict[Op, Term] = {}
        self.once: set[Op] = set()
        self.dropped: set[Op] = set()
        self.home: dict[Op, tuple[Block, ...]] = {}
        self.maker: dict[Operand, Op] = {}
        self.uses: dict[Operand, list[Op | None]] = {}
        self.walk(nest.loop.body, ())
        self.bodies = {nest.loop.body, *[one.body for one in self.home if isinstance(one, For)]}
        for thread in {one for one in nest.threads.values() if one.kind == "restored"}:
            self.consider(thread)
        self.numbers = {term.number for term in self.terms.values()}

    def __contains__(self, op: Op) -> bool:
        return op in self.terms or op in self.once or op in self.dropped

    def made_by(self, write: Op) -> Op | None:
        """What makes the number of each lane that a write adds."""
        term = self.terms.get(write)
        return None if term is None else self.maker[term.number]

    def walk(self, block: Block, around: tuple[Block, ...]) -> None:
        for op in block.ops:
            self.home[op] = (*around, block)
            self.maker.update(dict.fromkeys(op.results, op))
            for operand in operands_of(op):
                self.uses.setdefault(operand, []).append(op)
            for inner in blocks_of(op):
                self.walk(inner, (*around, block))
        for item in block.yields:
            self.uses.setdefault(item, []).append(None)

    def consider(self, thread: Thread) -> None:
        """Note an array if all that is done with it allows it."""
        found = Found()
        for op in self.home:
            if not isinstance(op, Apply) or not self.touches(op, thread):
                continue
            if not self.is_allowed(op, found):
                return
        depths = {op: len(self.home[op]) for op in found.terms}
        inner = [term for op, term in found.terms.items() if depths[op] == max(depths.values())]
        if not inner or not all(term.early for term in inner):
            return
        self.threads.add(thread)
        self.terms |= found.terms
        self.once |= found.once
        self.dropped |= {one for term in found.terms.values() for one in term.factors}

    def touches(self, op: Apply, thread: Thread) -> bool:
        threads, views = self.nest.threads, self.nest.views
        bases = [views[o].base if o in views else o for o in op.operands]
        return any(threads.get(base) is thread for base in bases if isinstance(base, Value))

    def is_allowed(self, op: Apply, found: Found) -> bool:
        """Whether one operation on the array may be done for all lanes together."""
        function = op.primitive.function
        if function in LENGTHS:
            return True
        entries = scalar_entries(op) if function in (operator.getitem, SET_ITEM, ADD_ITEM) else None
        base = base_of(op) if entries is not None else None
        if entries is None or base not in self.nest.threads or not self.is_plain(op):
            return False
        if len(entries) != base.type.ndim or any(one in self.nest.varying for one in entries):
            return False
        if function is operator.getitem:
            found.once.add(op)
            return self.only_added(op, found)
        value = value_of(op)
        if function is SET_ITEM:
            found.once.add(op)
            return isinstance(value, Const) and value.value == 0
        term = self.term(op, value)
        if term is not None:
            found.terms[op] = term
        return term is not None

    def is_plain(self, op: Op) -> bool:
        """Whether an operation stands in loops only, in no branch."""
        return all(block in self.bodies for block in self.home[op])

    def only_added(self, op: Apply, found: Found) -> bool:
        """Whether a number goes nowhere but into sums over the lanes, multiplied at most."""
        nest = self.nest
        for use in self.uses.get(op.result, ()):
            if not isinstance(use, Apply) or not self.is_plain(use):
                return False
            function = use.primitive.function
            found.once.add(use)
            if function is ADD_ITEM:
                thread = nest.threads.get(base_of(use))  # type: ignore[arg-type]
                if thread is None or thread.kind != "added" or use in self.added:
                    return False
                entries = scalar_entries(use) or ()
                whole = len(entries) == use.result.type.ndim and value_of(use) is op.result
                if not whole or any(one in nest.varying for one in entries):
                    return False
            elif use.result in nest.sums:
                if function not in SUMS or use.operands.index(op.result) == 0:
                    return False
            elif not self.is_factor(use, op.result) or not self.only_added(use, found):
                return False
        return True

    def is_factor(self, op: Op | None, number: Operand) -> bool:
        """Whether a call multiplies a number by what all lanes have in common."""
        if not isinstance(op, Apply) or not self.is_plain(op):
            return False
        if op.result.type.dtype not in FLOATS:
            return False
        function = op.primitive.function
        if function in (operator.neg, IDENTITY):
            return True
        others = [one for one in op.operands if one is not number]
        return function is operator.mul and len(others) == 1 and others[0] not in self.nest.varying

    def term(self, op: Apply, value: Operand) -> Term | None:
        """What a write adds, in a number of each lane and factors."""
        factors: list[Apply] = []
        while self.uses.get(value) == [op if not factors else factors[-1]]:
            made = self.maker.get(value)
            if not isinstance(made, Apply) or self.home[made][-1] is not self.home[op][-1]:
                break
            varying = [one for one in made.operands if one in self.nest.varying]
            if len(varying) != 1 or not self.is_factor(made, varying[0]):
                break
            factors.append(made)
            value = varying[0]
        made = self.maker.get(value)
        if not isinstance(made, Apply) or not self.is_plain(made) or not isinstance(value, Value):
            return None
        nest = self.nest
        if value not in nest.varying or value in nest.sums or value.type.dtype not in FLOATS:
            return None
        if made.primitive.function in (SET_ITEM, ADD_ITEM) or value in nest.views:
            return None
        around = self.home[op]
        if self.home[made] != around[: len(self.home[made])]:
            return None
        return Term(value, factors[::-1], len(self.home[made]) < len(around))
