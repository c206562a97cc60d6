"""What a trip of a loop with loops inside does with the arrays and sums that the loop carries.

    for i in range(n):                          square   each trip has its own: written, then read
        for a in range(d):                      grad_u   the trips only add to it
            square[a] = x[i, a] * x[i, a]       total    a sum
        for a in range(d):
            total += square[a]
            grad_u[a] += square[a]

If that is all, the trips depend on each other only by sums. Every array is followed from version to
version (a *thread*); only its latest version may be read or written. Which of its elements a trip
has certainly written is kept as *facts*: `(c, WHOLE)` says that the row `c` is.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from flatgrad.analysis.activity import slots
from flatgrad.analysis.affine import Affine, Integers
from flatgrad.analysis.dependence import LENGTHS
from flatgrad.analysis.independent import SUMS
from flatgrad.analysis.ranges import Trips, never_below_zero
from flatgrad.analysis.threads import (
    WHOLE,
    Dependent,
    Fact,
    Thread,
    View,
    base_of,
    covers,
    defined_inside,
    mentions,
    scalar_entries,
    value_of,
)
from flatgrad.ir.ops import (
    Apply,
    Block,
    Const,
    For,
    If,
    Operand,
    Value,
    operands_of,
)
from flatgrad.primitives.index import ADD_ITEM, SET_ITEM

FLOATS = ("float64", "float32")
DTYPES = (*FLOATS, "int64", "bool")
FOLLOWED = (operator.getitem, SET_ITEM, ADD_ITEM)


class Nest:
    """A loop and what its trips do; raises Dependent where they depend on each other.

    `threads` by version; `sums` the versions of the sums by their first; `views` parts of arrays;
    `varying` the numbers that may differ from trip to trip.
    """

    def __init__(self, loop: For, integers: Integers, around: tuple[Trips, ...] = ()) -> None:
        self.loop = loop
        self.integers = integers
        self.index = loop.body.params[0]
        self.threads: dict[Value, Thread] = {}
        self.current: dict[Thread, Value] = {}
        self.sums: dict[Value, Value] = {}
        self.newest: dict[Value, Value] = {}
        self.views: dict[Value, View] = {}
        self.varying: set[Value] = {self.index}
        self.facts: dict[Thread, set[Fact]] = {}
        self.zeros: dict[Thread, set[Fact]] = {}
        trips = Trips.of(loop, integers)
        if trips is None or loop.exits or abs(loop.step.value) != 1:  # type: ignore[union-attr]
            raise Dependent
        self.around = (*around, trips)
        self.inside = defined_inside(loop.body)
        self.enter()
        self.block(loop.body)
        self.leave()
        self.vary()

    # What comes in and goes out.

    def enter(self) -> None:
        for init, param, item, result in slots(self.loop):
            if item is param:
                continue
            if param.type.ndim:
                thread = Thread(param, result)
                self.open(thread)
                if self.is_zero(init):
                    self.zeros[thread].add((WHOLE,) * param.type.ndim)
            elif param.type.dtype in FLOATS:
                self.sums[param] = self.newest[param] = param
            else:
                raise Dependent

    def open(self, thread: Thread) -> None:
        self.threads[thread.first] = thread
        self.current[thread] = thread.first
        self.facts[thread] = set()
        self.zeros[thread] = set()

    def leave(self) -> None:
        """Say what kind of array each thread is."""
        for init, param, item, _ in slots(self.loop):
            if item is param:
                continue
            if param in self.sums:
                if self.newest[param] is not item:
                    raise Dependent
                continue
            thread = self.threads[param]
            if self.current[thread] is not item:
                raise Dependent
            thread.kind = self.kind(thread, init)

    def kind(self, thread: Thread, init: Operand) -> str:
        rank = thread.first.type.ndim
        if not thread.reads and not thread.sets:
            return "added"
        if self.own_elements(thread):
            return "elements"
        if not thread.early:
            return "private"
        if self.is_zero(init) and (WHOLE,) * rank in self.zeros[thread]:
            return "restored"
        raise Dependent

    def is_zero(self, init: Operand) -> bool:
        made = self.integers.made.get(init) if isinstance(init, Value) else None
        return made is not None and made.primitive.function in (np.zeros, np.zeros_like)

    def own_elements(self, thread: Thread) -> bool:
        """Whether some entry of the index is the same throughout, and another in every trip."""
        if not thread.places:
            return False
        for axis in range(len(min(thread.places, key=len))):
            found = {place[axis] for place in thread.places}
            if len(found) != 1:
                continue
            (entry,) = found
            outside = not any(v in self.inside and v is not self.index for v, _ in entry.terms)
            if outside and entry.factor(self.index) and never_below_zero(entry, self.around):
                return True
        return False

    # The walk.

    def block(self, block: Block) -> None:
        for op in block.ops:
            match op:
                case Apply():
                    self.apply(op)
                case If():
                    self.branches(op)
                case For():
                    self.nested(op)
                case _:
                    raise Dependent

    def followed(self, operand: Operand) -> bool:
        """Whether an operand is a sum, an array that is followed, or a part of one."""
        return isinstance(operand, Value) and (
            operand in self.threads or operand in self.views or operand in self.sums
        )

    def apply(self, op: Apply) -> None:
        function = op.primitive.function
        if op.primitive.effect or op.primitive.body is not None or op.primitive.opaque:
            raise Dependent
        if function in LENGTHS:
            return
        if function is operator.getitem:
            self.read(op)
        elif function in (SET_ITEM, ADD_ITEM):
            self.write(op)
        elif any(operand in self.sums for operand in op.operands):
            self.add(op)
        elif any(self.followed(operand) for operand in op.operands):
            raise Dependent
        elif op.result.type.ndim and function in (np.empty, np.zeros):
            self.open(Thread(op.result))
            self.facts[self.threads[op.result]].add((WHOLE,) * op.result.type.ndim)

    def add(self, op: Apply) -> None:
        """A sum grows."""
        total, *rest = op.operands
        first = self.sums.get(total) if isinstance(total, Value) else None
        if first is None or op.primitive.function not in SUMS or self.newest[first] is not total:
            raise Dependent
        if op.result.type.dtype != total.type.dtype or any(self.followed(o) for o in rest):
            raise Dependent
        self.sums[op.result] = first
        self.newest[first] = op.result

    def located(self, base: Value, entries: tuple[Any, ...]) -> tuple[Thread | None, Any]:
        """The thread of an array and the whole index into it."""
        view = self.views.get(base)
        if view is not None:
            base, entries = view.base, (*view.entries, *entries)
        thread = self.threads.get(base)
        if thread is not None and self.current[thread] is not base:
            raise Dependent
        return thread, entries

    def read(self, op: Apply) -> None:
        base = base_of(op)
        if not isinstance(base, Value):
            raise Dependent
        entries = scalar_entries(op)
        if entries is None:
            if self.followed(base):
                raise Dependent
            return
        thread, index = self.located(base, entries)
        if op.result.type.ndim:
            whole = self.views[base].base if base in self.views else base
            self.views[op.result] = View(whole, index)
            return
        if thread is not None:
            self.note_read(thread, index)

    def note_read(self, thread: Thread, index: tuple[Any, ...]) -> None:
        thread.reads += 1
        place = tuple(self.integers.of(entry) for entry in index)
        thread.places.append(place)
        rest = thread.first.type.ndim - len(place)
        if not self.is_written(thread, (*place, *[WHOLE for _ in range(rest)])):
            thread.early = True

    def is_written(self, thread: Thread, place: Fact) -> bool:
        return any(
            all(known in (WHOLE, entry) for known, entry in zip(fact, place, strict=True))
            for fact in self.facts[thread]
        )

    def write(self, op: Apply) -> None:
        base, entries, value = base_of(op), scalar_entries(op), value_of(op)
        thread = self.threads.get(base) if isinstance(base, Value) else None
        if thread is None or entries is None or self.current[thread] is not base:
            raise Dependent
        place = tuple(self.integers.of(entry) for entry in entries)
        rest = thread.first.type.ndim - len(place)
        thread.places.append(place)
        adds = op.primitive.function is ADD_ITEM
        if rest or value.type.ndim:
            self.whole_value(op, value, rest)
        elif isinstance(value, Value) and self.followed(value):
            raise Dependent
        fact: Fact = (*place, *[WHOLE for _ in range(rest)])
        if adds:
            thread.adds += 1
            if not self.is_written(thread, fact):
                thread.early = True
            self.zeros[thread] = set()
        else:
            thread.sets += 1
            self.facts[thread].add(fact)
            if isinstance(value, Const) and value.value == 0:
                self.zeros[thread].add(fact)
            else:
                self.zeros[thread] = set()
        self.threads[op.result] = thread
        self.current[thread] = op.result

    def whole_value(self, op: Apply, value: Operand, rest: int) -> None:
        """A row is written: by the elements of another array, all of which are there."""
        if op.primitive.function is ADD_ITEM or value.type.ndim != rest:
            raise Dependent
        if not isinstance(value, Value):
            raise Dependent
        source, index = self.located(value, ())
        if source is not None:
            self.note_read(source, index)

    def branches(self, op: If) -> None:
        """Branches may compute numbers and read, no more."""
        if any(result.type.ndim for result in op.results):
            raise Dependent
        for block in (op.then, op.orelse):
            for nested in block.ops:
                if isinstance(nested, If):
                    self.branches(nested)
                    continue
                plain = isinstance(nested, Apply) and nested.primitive.function is not SET_ITEM
                if not plain or nested.primitive.function is ADD_ITEM:  # type: ignore[union-attr]
                    raise Dependent
                if any(value.type.ndim for value in nested.results):
                    raise Dependent
                if any(operand in self.sums for operand in operands_of(nested)):
                    raise Dependent
                self.apply(nested)  # type: ignore[arg-type]
            if any(self.followed(item) for item in block.yields):
                raise Dependent

    def nested(self, op: For) -> None:
        trips = Trips.of(op, self.integers)
        if trips is None or op.exits:
            raise Dependent
        before = {thread: set(facts) for thread, facts in self.facts.items()}
        zeros = {thread: set(facts) for thread, facts in self.zeros.items()}
        written = self.enter_nested(op)
        for thread in written:
            self.zeros[thread] = set()
        starts = {thread: len(thread.places) for thread in self.current}
        self.around = (*self.around, trips)
        self.block(op.body)
        self.around = self.around[:-1]
        inside = defined_inside(op.body)
        for thread in list(self.current):
            if thread not in starts:
                continue
            whole = self.generalised(op, thread, self.facts[thread] - before[thread], inside)
            self.facts[thread] = before[thread] | whole
            if thread in written:
                fresh = self.generalised(op, thread, self.zeros[thread], inside)
                if self.axis_of_own(op, thread.places[starts[thread] :]) is None:
                    fresh = set()
                same = {one for one in zeros[thread] & self.zeros[thread]
                        if not any(mentions(entry, inside) for entry in one)}  # fmt: skip
                self.zeros[thread] = fresh | same
            else:
                self.zeros[thread] = zeros[thread]
        self.leave_nested(op)

    def enter_nested(self, op: For) -> list[Thread]:
        """The parameters of a loop inside stand for what it starts from."""
        written = []
        for init, param, item, _ in slots(op):
            if init in self.sums:
                first = self.sums[init]
                if self.newest[first] is not init:
                    raise Dependent
                self.sums[param] = first
                self.newest[first] = param
            elif param.type.ndim:
                thread = self.threads.get(init)  # type: ignore[arg-type]
                if thread is None and item is param:
                    continue
                if thread is None or self.current[thread] is not init:
                    raise Dependent
                self.threads[param] = thread
                self.current[thread] = param
                if item is not param:
                    written.append(thread)
            elif self.followed(init):
                raise Dependent
        return written

    def leave_nested(self, op: For) -> None:
        for _, param, item, result in slots(op):
            if param in self.sums:
                first = self.sums[param]
                if self.newest[first] is not item:
                    raise Dependent
                self.sums[result] = first
                self.newest[first] = result
            elif param in self.threads:
                thread = self.threads[param]
                if self.current[thread] is not item:
                    raise Dependent
                self.threads[result] = thread
                self.current[thread] = result
            elif self.followed(item):
                raise Dependent

    def generalised(
        self, op: For, thread: Thread, facts: set[Fact], inside: set[Value]
    ) -> set[Fact]:
        """What the facts of one trip say after all trips."""
        index = op.body.params[0]
        found: set[Fact] = set()
        for fact in facts:
            moving = [k for k, entry in enumerate(fact) if mentions(entry, inside)]
            if not moving or len(moving) > 1:
                continue  # there may have been no trip
            (axis,) = moving
            bare = fact[axis] == Affine(frozenset({(index, 1)}))
            if bare and covers(op, thread.first.type.shape[axis]):
                found.add((*fact[:axis], WHOLE, *fact[axis + 1 :]))
        return found

    def axis_of_own(self, op: For, places: list[tuple[Affine, ...]]) -> int | None:
        """The axis along which each trip of a loop inside stays at its own index."""
        bare = Affine(frozenset({(op.body.params[0], 1)}))
        for axis in range(len(min(places, key=len, default=()))):
            if all(place[axis] == bare for place in places):
                return axis
        return None

    # What differs from trip to trip.

    def vary(self) -> None:
        before = -1
        while before != len(self.varying):
            before = len(self.varying)
            self.vary_block(self.loop.body)

    def vary_block(self, block: Block) -> None:
        for op in block.ops:
            match op:
                case Apply():
                    if any(value.type.dtype not in DTYPES for value in op.results):
                        raise Dependent
                    if self.is_varying(op):
                        self.varying.update(op.results)
                        if op.result.type.ndim and op.primitive.function not in FOLLOWED:
                            raise Dependent
                case If():
                    self.vary_block(op.then)
                    self.vary_block(op.orelse)
                    chosen = op.condition in self.varying
                    rows = zip(op.results, op.then.yields, op.orelse.yields, strict=True)
                    for result, *items in rows:
                        if chosen or any(item in self.varying for item in items):
                            self.varying.add(result)
                case For():
                    if any(o in self.varying for o in (op.start, op.stop, op.step)):
                        raise Dependent
                    for init, param, item, result in slots(op):
                        if init in self.varying or item in self.varying:
                            self.varying.update((param, result))
                    self.vary_block(op.body)

    def is_varying(self, op: Apply) -> bool:
        if op.primitive.function in LENGTHS:
            return False
        if any(operand in self.varying for operand in op.operands):
            return True
        if op.primitive.function is not operator.getitem:
            return False
        base = base_of(op)
        if base in self.threads:
            return True
        view = self.views.get(base)  # type: ignore[arg-type]
        if view is None:
            return False
        return view.base in self.threads or any(entry in self.varying for entry in view.entries)
