"""Which versions of an array share memory in the emitted code.

    a1 = set_item(a0, i, v)      ->   a[i] = v             # a0 is dead and its memory is ours
                                 ->   a_1 = a.copy(); a_1[i] = v     # else

A loop whose body writes an array that it carries owns that array: what it starts from was made
here and is read by nobody else, or it is copied before the loop.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from flatgrad.codegen.liveness import Liveness
from flatgrad.ir.ops import (
    Apply,
    Block,
    For,
    Function,
    If,
    Op,
    Operand,
    Slot,
    Value,
    While,
    blocks_of,
    substitute,
)
from flatgrad.primitives.core import IDENTITY
from flatgrad.primitives.index import is_advanced

Roots = frozenset[Value]
Inside = dict[For | While, set[Value]]
NONE: Roots = frozenset()


def written_operand(op: Op) -> Value | None:
    """The array of which an in-place operation makes the next version."""
    if not isinstance(op, Apply) or op.primitive.in_place is None:
        return None
    slot = op.arguments[op.primitive.in_place]
    operand = op.operands[slot.index]
    return operand if isinstance(operand, Value) else None


def aliased_operand(op: Op) -> Value | None:
    """The operand whose memory the result of `op` may share."""
    if not isinstance(op, Apply) or op.primitive.alias is None or _is_element(op):
        return None
    if op.primitive.function is operator.getitem and is_copied(op):
        return None
    slot = op.arguments[op.primitive.alias]
    operand = op.operands[slot.index] if isinstance(slot, Slot) else None
    return operand if isinstance(operand, Value) else None


def _is_element(op: Apply) -> bool:
    """Whether `x[i, j]` is a number; with `...` it is a view without axes."""
    if op.primitive.function is not operator.getitem or op.result.type.ndim:
        return False
    index = op.arguments["index"]
    return all(entry is not Ellipsis for entry in (index if isinstance(index, tuple) else (index,)))


def is_copied(read: Apply) -> bool:
    """Whether `x[index]` is a copy: an array among the indices makes it one."""
    index = substitute(read.arguments["index"], lambda k: read.operands[k].type)
    entries = index if isinstance(index, tuple) else (index,)
    return any(is_advanced(entry) for entry in entries)


def can_augment(op: Apply) -> bool:
    """Whether the call is a sum or difference of arrays that gives its first a new value."""
    if op.primitive.operator not in ("+", "-") or not op.result.type.ndim:
        return False
    base, result = op.operands[0], op.result
    if not isinstance(base, Value) or result.name is None or base.name != result.name:
        return False
    return (base.type.dtype, base.type.shape) == (result.type.dtype, result.type.shape)


@dataclass(slots=True)
class Buffers:
    """Who may share memory with whom, and what is therefore written in place or copied.

    A root stands for one piece of memory: the value that allocated it, a parameter that came with
    it, or the variable of a loop. `roots` of a value are all that its memory may be. Only roots
    among `owned` may be written, and not through a value among `views`: its elements may coincide.
    `copied` are (loop, k, at entry or at the end of a trip) where a carried variable gets a copy.
    `parts` are slices that are copied where they are read, so that the array can be written.
    `wanted` are variables that loops should own to write in place, `hoped` those for which that is
    not worth a copy: `grad_W += ...` only saves an allocation.
    """

    live: Liveness
    parts: frozenset[Value] = frozenset()
    roots: dict[Value, Roots] = field(default_factory=dict)
    views: set[Value] = field(default_factory=set)
    owned: set[Value] = field(default_factory=set)
    in_place: set[Apply] = field(default_factory=set)
    copied: set[tuple[For | While, int, bool]] = field(default_factory=set)
    wanted: set[Value] = field(default_factory=set)
    hoped: set[Value] = field(default_factory=set)
    members: dict[Value, int] = field(default_factory=dict)

    def give(self, value: Value, roots: Roots, *, view: bool = False) -> None:
        """Say what the memory of `value` may be."""
        self.roots[value] = roots
        if view:
            self.views.add(value)
        for root in roots:
            self.members[root] = self.members.get(root, 0) | self._bit(value)

    def _bit(self, value: Value) -> int:
        return 0 if value in self.live.inline else self.live.bits[value]

    def of(self, operand: Operand) -> Roots:
        """The roots of an operand."""
        return self.roots.get(operand, NONE) if isinstance(operand, Value) else NONE

    def shared(self, roots: Iterable[Value], live: int) -> bool:
        """Whether a live value may have some of this memory."""
        return any(self.members.get(root, 0) & live for root in roots)

    def writable(self, operand: Operand) -> bool:
        """Whether this function owns the memory, as far as is known by now."""
        roots = self.of(operand)
        return bool(roots) and operand not in self.views and roots <= self.owned


def plan_buffers(fn: Function, live: Liveness) -> Buffers:
    """Decide which writes are done in place, and where loops copy arrays to own them."""
    found = _plan(fn, live, frozenset())
    parts = _blocking_parts(fn, found)
    if not parts:
        return found
    tried = _plan(fn, live, parts)
    better = tried.in_place > found.in_place and tried.copied <= found.copied
    return tried if better else found


def _blocking_parts(fn: Function, found: Buffers) -> frozenset[Value]:
    """Slices for the sake of which whole arrays are copied, in loops, before they are written."""
    live, parts = found.live, set()
    reads = {op.result for op in _applied(fn.body) if op.primitive.function is operator.getitem}
    for op in _applied(fn.body):
        base = written_operand(op)
        if base is None or op in found.in_place or not live.depth[op.result]:
            continue
        later = live.after[op] & ~live.bits[op.result]
        sharing = {v for v in found.views | found.roots.keys() if live.bits[v] & later
                   and v not in live.inline and found.of(v) & found.of(base)}  # fmt: skip
        if sharing <= reads:
            parts |= sharing
    return frozenset(parts)


def _applied(block: Block) -> Iterator[Apply]:
    for op in block.ops:
        if isinstance(op, Apply):
            yield op
        for inner in blocks_of(op):
            yield from _applied(inner)


def _plan(fn: Function, live: Liveness, parts: frozenset[Value]) -> Buffers:
    inner = _defined_inside(fn.body)
    wanted: set[Value] = set()
    while True:
        found = _Walk(Buffers(live, parts), inner, set(wanted))
        found.function(fn)
        more = found.buffers.wanted - wanted
        if not more:
            break
        wanted |= more
    hoped = found.buffers.hoped - wanted
    better = _with_hopes(found, inner, wanted, hoped, outwards=True)
    better = better or _with_hopes(found, inner, wanted, hoped, outwards=False)
    return (better or found).buffers


def _with_hopes(
    found: _Walk, inner: Inside, wanted: set[Value], hoped: set[Value], *, outwards: bool
) -> _Walk | None:
    """The walk in which loops own what they hope to, as far as that makes no copy necessary.

    With `outwards`, also the loops around them; None if that costs a copy.
    """
    while hoped:
        tried = _Walk(Buffers(found.live, found.buffers.parts), inner, wanted | hoped)
        tried.function(found.fn)
        more = tried.buffers.wanted - wanted - hoped
        extra = tried.buffers.copied - found.buffers.copied
        dear = {_carried(op)[k] for op, k, _ in extra}
        if outwards and more:
            hoped = hoped | more
            continue
        if not dear and not more:
            return tried
        if outwards or not (dear | more) & hoped:
            return None
        hoped = hoped - dear
    return None


def _carried(op: For | While) -> tuple[Value, ...]:
    return op.body.params[1:] if isinstance(op, For) else op.body.params


def _defined_inside(block: Block) -> Inside:
    """For each loop, the values that are defined in its body or condition."""
    found: Inside = {}

    def visit(block: Block) -> set[Value]:
        values = set(block.params)
        for op in block.ops:
            values.update(op.results)
            nested = set().union(*[visit(inner) for inner in blocks_of(op)])
            if isinstance(op, For | While):
                found[op] = nested
            values |= nested
        return values

    visit(block)
    return found


class _Walk:
    """One walk over the function, for given carried variables that loops are to own."""

    def __init__(self, buffers: Buffers, inner: Inside, wanted: set[Value]) -> None:
        self.buffers = buffers
        self.live = buffers.live
        self.inner = inner
        self.wanted = wanted
        self.carried = frozenset(param for op in inner for param in op.body.params)

    def function(self, fn: Function) -> None:
        self.fn = fn
        for param in fn.params:
            self.buffers.give(param, frozenset({param}))
        self.buffers.owned.update(fn.places)
        self.block(fn.body)

    def block(self, block: Block) -> None:
        for op in block.ops:
            match op:
                case Apply():
                    self.apply(op)
                case If():
                    self.branches(op)
                case For() | While():
                    self.loop(op)

    def apply(self, op: Apply) -> None:
        source, base = aliased_operand(op), written_operand(op)
        if source is not None and op.result not in self.buffers.parts:
            view = op.primitive.function is not IDENTITY or source in self.buffers.views
            self.buffers.give(op.result, self.buffers.of(source), view=view)
        elif base is not None and self.allowed(op, base):
            self.buffers.in_place.add(op)
            self.buffers.give(op.result, self.buffers.of(base))
        elif self.augmented(op):
            self.buffers.in_place.add(op)
            self.buffers.give(op.result, self.buffers.of(op.operands[0]))
        else:
            self.buffers.in_place.discard(op)
            if op.primitive.opaque and op.results:
                # A function of the user's may hand out what it was given.
                given = frozenset().union(*[self.buffers.of(operand) for operand in op.operands])
                self.buffers.give(op.result, given | {op.result}, view=True)
                return
            for result in op.results:
                # A number that a function hands over may be a view without axes.
                is_memory = result.type.ndim or op.primitive.body is not None
                fresh = frozenset({result}) if is_memory else NONE
                self.buffers.owned |= fresh
                self.buffers.give(result, fresh, view=op.primitive.function is np.broadcast_to)

    def allowed(self, op: Apply, base: Value) -> bool:
        """Whether nobody reads the old version, or what shares its memory, after the write."""
        roots = self.buffers.of(base)
        later = self.live.after[op] & ~self.live.bits[op.result]
        if self.buffers.writable(base) and not self.buffers.shared(roots, later):
            return True
        self.want(base, lambda root: not self.buffers.shared((root,), later))
        return False

    def augmented(self, op: Apply) -> bool:
        """Whether `a = a + e` in a loop may be `a += e`, with the same array afterwards."""
        if not can_augment(op) or not self.live.depth.get(op.result):
            return False
        base = op.operands[0]
        if base in self.live.inline:
            return False
        roots = self.buffers.of(base)
        read = self.live.after[op] & ~self.live.bits[op.result] | self.live.read(op.operands[1:])
        if self.buffers.writable(base) and not self.buffers.shared(roots, read):
            return True
        if base in self.carried and not self.buffers.shared((base,), read):
            self.buffers.hoped.add(base)
        return False

    def want(self, value: Operand, is_free: Callable[[Value], bool]) -> None:
        """Ask the loops to own those of their variables that `value` may be, if that helps."""
        if value in self.carried or value not in self.buffers.views:
            roots = self.buffers.of(value) & self.carried
            self.buffers.wanted |= {root for root in roots if is_free(root)}

    def branches(self, op: If) -> None:
        self.block(op.then)
        self.block(op.orelse)
        for one, other, result in zip(op.then.yields, op.orelse.yields, op.results, strict=True):
            view = one in self.buffers.views or other in self.buffers.views
            self.buffers.give(result, self.buffers.of(one) | self.buffers.of(other), view=view)

    def loop(self, op: For | While) -> None:
        """Carried variables that the loop owns are disjoint from all else at every trip.

        That holds on entry and, if it holds at the start of a trip, at its end: by `take`.
        The others may be anything that they start from or that a trip hands on.
        """
        params = op.body.params[1:] if isinstance(op, For) else op.body.params
        yields = op.body.yields[int(op.exits) :]
        self.enter(op, params)
        if isinstance(op, For):
            self.buffers.give(op.body.params[0], NONE)
        while True:
            if isinstance(op, While):
                for param, seen in zip(params, op.condition.params, strict=True):
                    view = param in self.buffers.views
                    self.buffers.give(seen, self.buffers.of(param), view=view)
                self.block(op.condition)
            self.block(op.body)
            if not self.widened(op, params, yields):
                break
        for k, param in enumerate(params):
            if param in self.wanted:
                self.take(op, k, yields, entry=False)
        self.results(op, params, yields)

    def enter(self, op: For | While, params: tuple[Value, ...]) -> None:
        own = [param in self.wanted for param in params]
        for k, (init, param) in enumerate(zip(op.inits, params, strict=True)):
            roots = self.buffers.of(init)
            if not own[k]:
                view = init in self.buffers.views
                self.buffers.give(param, roots | {param} if param.type.ndim else roots, view=view)
                continue
            self.take(op, k, op.inits, entry=True)
            self.buffers.owned.add(param)
            self.buffers.give(param, frozenset({param}))

    def take(self, op: For | While, k: int, given: tuple[Operand, ...], *, entry: bool) -> None:
        """Variable `k` gets the memory of `given[k]` if that is ours and free, else a copy."""
        copied = self.buffers.copied
        copied.discard((op, k, entry))
        others = [j for j in range(len(given)) if j != k and (op, j, entry) not in copied]

        def is_free(roots: Roots) -> bool:
            shared = self.buffers.shared(roots, self.live.through[op])
            return not shared and not any(roots & self.buffers.of(given[j]) for j in others)

        roots = self.buffers.of(given[k])
        if self.buffers.writable(given[k]) and is_free(roots):
            return
        self.want(given[k], lambda root: is_free(frozenset({root})))
        copied.add((op, k, entry))

    def widened(
        self, op: For | While, params: tuple[Value, ...], yields: tuple[Operand, ...]
    ) -> bool:
        """Add to the roots of carried variables what a trip hands on; whether that was news."""
        news = False
        for param, item in zip(params, yields, strict=True):
            if param in self.wanted:
                continue
            old = self.buffers.of(param)
            new = old | (self.buffers.of(item) - self.inner[op])
            viewed = item in self.buffers.views and param not in self.buffers.views
            if new != old or viewed:
                self.buffers.give(param, new, view=viewed)
                news = True
        return news

    def results(
        self, op: For | While, params: tuple[Value, ...], yields: tuple[Operand, ...]
    ) -> None:
        """What is left after the loop; variables that hand on each other's memory may share it."""
        groups = {param: {param} for param in params}
        makers: dict[Value, Value] = {}
        for param, item in zip(params, yields, strict=True):
            for root in self.buffers.of(item) & self.inner[op]:
                other = root if root in groups else makers.setdefault(root, param)
                merged = groups[param] | groups[other]
                for one in merged:
                    groups[one] = merged
        heads: dict[int, Value] = {}
        for param, result in zip(params, op.results, strict=True):
            if param in self.wanted:
                self.buffers.owned.add(result)
                self.buffers.give(result, frozenset({result}))
                continue
            if not result.type.ndim and not self.buffers.of(param):
                self.buffers.give(result, NONE)
                continue
            group = groups[param]
            head = heads.setdefault(id(group), result)
            found = {head}
            owned = True
            view = False
            for one, init, item in zip(params, op.inits, yields, strict=True):
                if one in group:
                    found |= self.buffers.of(init) | (self.buffers.of(item) - self.inner[op])
                    made = (self.buffers.of(item) & self.inner[op]) - set(params)
                    owned = owned and made <= self.buffers.owned
                    view = view or init in self.buffers.views or item in self.buffers.views
            (self.buffers.owned.add if owned else self.buffers.owned.discard)(head)
            self.buffers.give(result, frozenset(found), view=view)
