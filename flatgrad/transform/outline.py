"""Gives large functions that are called several times, and checkpointed ones, a text of their own.

    a = ...; b = ...; h = ...        # layer(x, W1)          h = layer(x, W1)
    a = ...; b = ...; y = ...        # layer(h, W2)    ->    y = layer(h, W2)

Calls are lowered in place, so whatever a call can be is understood by then. Here the operations of
calls that do the same become one function: what they read is its parameters, what is read of them
its results. Values never change, so this is right wherever the operations stand together.
"""

from __future__ import annotations

import operator
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from flatgrad.ir.dims import Dim, Size, SliceLength, opaque, substituted
from flatgrad.ir.ops import (
    Apply,
    Block,
    CallSite,
    For,
    Function,
    If,
    Op,
    Operand,
    Origin,
    Slot,
    Value,
    While,
    all_reads,
    blocks_of,
    called_functions,
)
from flatgrad.ir.types import Scalar, Type
from flatgrad.primitives.callee import call_of, function_of
from flatgrad.transform.clone import all_ops, copied_block
from flatgrad.transform.functions import finished
from flatgrad.transform.same import Pattern
from flatgrad.transform.split import reads

LARGE = 40
"""Operations beyond which a function that is called several times stays a function."""

OFTEN = 2
"""Calls from which on it does."""


@dataclass(eq=False)
class Region:
    """The operations `first` to `last` of a block, which are those of the call at `site`.

    `uses` says for blocks how often each value is read in them.
    """

    block: Block
    site: CallSite
    first: int
    last: int
    uses: dict[int, Counter[Operand]]

    @cached_property
    def outlined(self) -> Outlined:
        """The call as a function."""
        return Outlined(self)

    @cached_property
    def pattern(self) -> Pattern:
        """What it does."""
        return Pattern(self.outlined.function)

    @cached_property
    def own_uses(self) -> Counter[Operand]:
        """How often each value is read here."""
        return Counter(all_reads(Block((), self.ops)))

    def is_read_outside(self, value: Value) -> bool:
        """Whether the rest of the block reads a value."""
        if id(self.block) not in self.uses:
            self.uses[id(self.block)] = Counter(all_reads(self.block))
        return self.uses[id(self.block)][value] > self.own_uses[value]

    @property
    def ops(self) -> list[Op]:
        """The operations."""
        return self.block.ops[self.first : self.last + 1]

    @cached_property
    def size(self) -> int:
        """How many operations they are, those in blocks counted."""
        return sum(1 for _ in all_ops(Block((), self.ops)))

    @property
    def rank(self) -> tuple[int, bool, int]:
        """Which come first: large ones, checkpoints before what is in them, few Python numbers.

        What takes NumPy's numbers takes Python's, too.
        """
        weak = sum(value.type.weak for value in self.inner.names)
        return -self.size, not self.site.checkpoint, weak

    @property
    def inner(self) -> CallSite:
        """The call that says what the parameters are called; that of what was checkpointed."""
        for op in self.ops:
            for site in sites(op):
                if site.outer is self.site and self.site.checkpoint:
                    return site
        return self.site


def outline(fn: Function) -> Function:
    """The function with such calls as calls; its blocks are changed."""
    bodies = [(fn.body, frozenset[CallSite]())]
    while True:
        group = _next_group([region for body, own in bodies for region in _regions(body, own)])
        if not group:
            break
        bodies.append((_call(group).body, frozenset(around(group[0].site))))
    for callee in called_functions(fn.body):
        finished(callee)
    return fn


def _call(group: list[Region]) -> Function:
    """Put calls in the place of operations that are all the same; the function."""
    made = [region.outlined for region in group]
    site = group[0].site
    callee = function_of(
        made[0].function, checkpoint=site.checkpoint, comments=group[0].inner.comments
    )
    for region, one in sorted(zip(group, made, strict=True), key=lambda pair: -pair[0].first):
        origin = Origin(region.site.span, "forward", None, region.site.outer)
        call = call_of(callee, one.operands, one.results, origin)
        region.block.ops[region.first : region.last + 1] = [call]
        for value in one.results:
            if not value.kept and value.name != value.part:
                value.name = callee.name
    return made[0].function


def sites(op: Op) -> Iterator[CallSite]:
    """The calls in whose functions an operation stands, innermost first."""
    yield from around(op.origin.site)


def around(site: CallSite | None) -> Iterator[CallSite]:
    """A call and those in whose functions it stands."""
    while site is not None:
        yield site
        site = site.outer


def _regions(body: Block, own: frozenset[CallSite]) -> list[Region]:
    """The calls whose operations stand together, without those of which this is the function."""
    places: dict[CallSite, list[tuple[Block, int]]] = defaultdict(list)

    def visit(block: Block, known: frozenset[CallSite]) -> None:
        for k, op in enumerate(block.ops):
            found = [site for site in sites(op) if site not in known]
            for site in found:
                places[site].append((block, k))
            for inner in blocks_of(op):
                visit(inner, known.union(found))

    visit(body, own)
    regions = []
    uses: dict[int, Counter[Operand]] = {}
    for site, found in places.items():
        block, first = found[0]
        together = [(block, first + k) for k in range(len(found))]
        if all(one[0] is block for one in found) and found == together:
            regions.append(Region(block, site, first, first + len(found) - 1, uses))
    return regions


def _next_group(regions: list[Region]) -> list[Region]:
    """The largest of the calls that become one: those that do the same, and are large enough."""
    counts: dict[Any, int] = defaultdict(int)
    for region in regions:
        counts[region.site.function] += 1
    large = [
        region for region in regions
        if region.site.checkpoint or (counts[region.site.function] >= OFTEN and region.size > LARGE)
    ]  # fmt: skip
    for region in sorted(large, key=lambda one: one.rank):
        if not region.outlined.results:
            continue
        alike = [other for other in regions if other is region or _does_same(region, other)]
        if region.site.checkpoint or (len(alike) >= OFTEN and not any(map(_stays, alike))):
            return [region, *[other for other in alike if other is not region]]
    return []


def _does_same(one: Region, other: Region) -> bool:
    """Whether the function of one call does for another."""
    calls = one.site, other.site
    if calls[0].function != calls[1].function or calls[0].checkpoint != calls[1].checkpoint:
        return False
    return one.size == other.size and one.pattern.serves(other.pattern)


def _stays(region: Region) -> bool:
    """Whether the operations of a call had better stay where they are."""
    return writes_to_outside(region.ops) or _is_branch_of_where(region)


class Outlined:
    """A call as a function: `operands` and `results` are those of the call."""

    def __init__(self, region: Region) -> None:
        self.site = region.inner
        ops = region.ops
        inside = {value for op in ops for value in op.results}
        read = dict.fromkeys(v for op in ops for v in reads(op) if v not in inside)
        given = [value for value in self.site.names if value in read]
        self.operands = tuple(dict.fromkeys([*given, *read]))
        returned = [value for value in self.site.results if value in inside]
        others = [value for op in ops for value in op.results if region.is_read_outside(value)]
        self.results = tuple(dict.fromkeys([*returned, *others]))
        self.atoms: dict[str, Size] = {}
        self.function = self.build(ops)

    def build(self, ops: list[Op]) -> Function:
        """The function, of values of its own."""
        mapping: dict[Value, Operand] = {}
        params = []
        lengths: dict[str, tuple[Value, int]] = {}
        names: set[str] = set()
        for value in self.operands:
            param = Value(value.type, self.parameter_name(value, names), kept=True)
            self.measure(param)
            mapping[value] = param
            params.append(param)
        for param in params:
            param.type = self.typed(param.type)
            for axis, size in enumerate(param.type.shape):
                if isinstance(size, Dim) and size.is_atom:
                    lengths.setdefault(size.name, (param, axis))
        body = copied_block(Block((), ops, self.results), mapping, self.twin)
        for old, new in mapping.items():
            if isinstance(new, Value) and new.of is not None:
                prefix, primal = new.of
                copy = mapping.get(primal)
                new.of = (prefix, copy) if isinstance(copy, Value) else None
            name = self.site.results.get(old)
            if name is not None and isinstance(new, Value) and old not in self.operands:
                new.name, new.kept = name, True
        body.params = tuple(params)
        tree = tuple(Slot(k) for k in range(len(self.results)))
        name = self.site.name if self.site.name.isidentifier() else "f"
        return Function(name, body, tree if len(tree) != 1 else Slot(0), lengths)

    def parameter_name(self, value: Value, taken: set[str]) -> str:
        """What a parameter is called: as in the user's function, or as the value."""
        base = self.site.names.get(value) or value.name or value.part or "value"
        name, count = base, 0
        while name in taken:
            count += 1
            name = f"{base}_{count}"
        taken.add(name)
        return name

    def measure(self, param: Value) -> None:
        """Name the lengths after the parameters of the function."""
        for axis, size in enumerate(param.type.shape):
            if isinstance(size, int) or not size.is_atom or opaque(size):
                continue
            if not isinstance(size.name, SliceLength):
                self.atoms.setdefault(size.name, Dim.atom(f"{param.name}.shape[{axis}]"))

    def typed(self, kind: Type) -> Type:
        """A type with these lengths."""
        return retyped(kind, self.length)

    def length(self, atom: str) -> Size:
        """A length of the caller's; one that no parameter has is none of a parameter's."""
        if atom not in self.atoms:
            self.atoms[atom] = Dim.atom(atom if atom.startswith("?") else f"outer.{atom}")
        return self.atoms[atom]

    def twin(self, value: Value) -> Value:
        """A copy of a value; the user's variables stay statements of their own."""
        users = value.name is not None and value.part in (None, value.name)
        name, part = value.name, value.part
        if users and name is not None:
            name = name.removeprefix(f"{self.site.name}_") or name
        elif part is not None and part == self.site.part:  # of the returned value
            name, part = f"value{(name or part).removeprefix(part)}", "value"
        made = Value(self.typed(value.type), name, kept=value.kept or users, part=part)
        made.of = value.of
        return made


def retyped(kind: Type, length: Any) -> Type:
    """A type with other lengths."""
    if isinstance(kind, Scalar):
        return replace(kind, size=substituted(kind.size, length)) if kind.size is not None else kind
    return replace(kind, shape=tuple(substituted(size, length) for size in kind.shape))


def writes_to_outside(ops: list[Op]) -> bool:
    """Whether an array that operations get from outside is written to."""
    inside = {value for op in ops for value in op.results}
    foreign = {v for op in ops for v in reads(op) if v not in inside and v.type.ndim}

    def visit(block: Block) -> bool:
        for op in block.ops:
            match op:
                case Apply():
                    primitive = op.primitive
                    slot = op.arguments.get(primitive.in_place or primitive.alias)
                    base = op.operands[slot.index] if isinstance(slot, Slot) else None
                    if base in foreign:
                        if primitive.in_place is not None:
                            return True
                        foreign.update(op.results)
                case If():
                    if visit(op.then) or visit(op.orelse):
                        return True
                    for result, *yields in zip(
                        op.results, op.then.yields, op.orelse.yields, strict=True
                    ):
                        if not foreign.isdisjoint(v for v in yields if isinstance(v, Value)):
                            foreign.add(result)
                case For() | While():
                    params = op.body.params[1:] if isinstance(op, For) else op.body.params
                    for init, param, result in zip(op.inits, params, op.results, strict=True):
                        if init in foreign:
                            foreign.update((param, result))
                    if visit(op.body):
                        return True
        return False

    return visit(Block((), ops))


def _is_branch_of_where(region: Region) -> bool:
    """Whether a result is selected elementwise: what is known of its adjoint would be lost."""
    found: set[Operand] = {value for op in region.ops for value in op.results}
    for op in all_ops(Block((), region.block.ops[region.last + 1 :])):
        if not isinstance(op, Apply) or found.isdisjoint(op.operands):
            continue
        if op.primitive.function is np.where and not found.isdisjoint(op.operands[1:]):
            return True
        if op.primitive.elementwise or op.primitive.function is operator.getitem:
            found.update(op.results)
    return False
