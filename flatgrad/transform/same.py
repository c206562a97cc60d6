"""Whether two functions do the same: equal operations in equal order, whatever things are called.

    func layer(%x: float64[N]) ...      is      func layer(%h: float64[M]) ...
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from flatgrad.ir.dims import Dim, Size, substituted
from flatgrad.ir.ops import Apply, Block, Const, For, Function, Op, Value, While, blocks_of
from flatgrad.ir.ops import operands_of as operands
from flatgrad.ir.types import Scalar, Type
from flatgrad.transform.clone import all_ops
from flatgrad.transform.cse import frozen


class Pattern:
    """What a function does: `one.serves(other)` if calls of `other` may be calls of `one`.

    A Python number may come for a NumPy number where all is in double precision: they differ in
    what they make of smaller types only.
    """

    def __init__(self, fn: Function) -> None:
        self.weak = tuple([param.type.weak for param in fn.params])
        self.narrow = _narrow(fn)
        try:
            self.key = _Numbered(self.narrow).function(fn)
            hash(self.key)
        except TypeError:  # a static argument that cannot be compared
            self.key = id(self)

    def serves(self, other: Pattern) -> bool:
        """Whether one function does for both."""
        if self.key != other.key or self.narrow != other.narrow:
            return False
        pairs = zip(self.weak, other.weak, strict=True)
        return all(theirs or not mine for mine, theirs in pairs)


def _narrow(fn: Function) -> bool:
    """Whether a type occurs that a NumPy number would widen."""
    values = [*fn.params, *[value for op in all_ops(fn.body) for value in op.results]]
    return any(value.type.dtype not in ("float64", "int64", "bool") for value in values)


class _Numbered:
    """Values and lengths by number, in the order in which they appear."""

    def __init__(self, exact: bool) -> None:
        self.exact = exact
        self.values: dict[Value, int] = {}
        self.atoms: dict[str, Size] = {}

    def function(self, fn: Function) -> Hashable:
        return self.block(fn.body)

    def block(self, block: Block) -> Hashable:
        params = self.defined(block.params)
        ops = tuple([self.op(op) for op in block.ops])
        return params, ops, tuple([self.operand(item) for item in block.yields])

    def op(self, op: Op) -> Hashable:
        read = tuple([self.operand(operand) for operand in operands(op)])
        blocks = tuple([self.block(inner) for inner in blocks_of(op)])
        what: Any = type(op).__name__
        if isinstance(op, Apply):
            what = (id(op.primitive), frozen(op.arguments))
        elif isinstance(op, For | While):
            what = (what, op.exits)
        return what, read, blocks, self.defined(op.results)

    def operand(self, operand: Any) -> Hashable:
        if isinstance(operand, Const):
            return type(operand.value).__name__, repr(operand.value), operand.type
        return self.values[operand]

    def defined(self, values: tuple[Value, ...]) -> Hashable:
        found = []
        for value in values:
            self.values[value] = len(self.values)
            found.append(self.type(value.type))
        return tuple(found)

    def type(self, kind: Type) -> Hashable:
        if isinstance(kind, Scalar):
            size = None if kind.size is None else self.size(kind.size)
            return kind.dtype, kind.weak and self.exact, size
        return kind.dtype, tuple([self.size(size) for size in kind.shape])

    def size(self, size: Size) -> Hashable:
        return substituted(size, self.atom) if isinstance(size, Dim) else size

    def atom(self, name: str) -> Size:
        """What is known of a length shows in its new name as it did in the old."""
        if name not in self.atoms:
            number = len(self.atoms)
            kind = ("?" if name[1:2].isdigit() else "?i") if name.startswith("?") else "n"
            self.atoms[name] = Dim.atom(f"{kind}{number}")
        return self.atoms[name]
