"""Values, operations, blocks and functions.

    %y: float64[N] = sum(%x, axis=0)                        Apply
    %r = if %c { yield %a } else { yield %b }               If
    %r = for %i in (0, %n, 1) carrying (%y = %y0) { ... }   For
    %r = while carrying (%y = %y0) { cond } { body }        While

Only these four kinds exist. Blocks have parameters and yields, as in MLIR's scf or a jaxpr; there
is no control-flow graph. Operations are never changed once built; a pass builds new ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from flatgrad.errors import Span
from flatgrad.ir.dims import Dim
from flatgrad.ir.trees import Record, children, rebuilt
from flatgrad.ir.types import Scalar, Type, constant_type


class Value:
    """The result of an operation or a block parameter; compared by identity.

    `name` is the variable it carries (the user's, or `grad_...`); `kept` says that it stays a
    statement of its own under that name; `part` names the variable whose statement it is part of;
    `of` is ("grad", s) for the adjoint of `s`, so that s_1 and grad_s_1 carry the same number.
    """

    __slots__ = ("kept", "name", "of", "part", "type")

    def __init__(
        self, type: Type, name: str | None = None, *, kept: bool = False, part: str | None = None
    ) -> None:
        self.type = type
        self.name = name
        self.kept = kept
        self.part = part
        self.of: tuple[str, Value] | None = None

    def __repr__(self) -> str:
        return f"%{self.name or self.part or '_'}: {self.type}"


class Const:
    """A number known while compiling."""

    __slots__ = ("type", "value")

    def __init__(self, value: Any) -> None:
        self.value = value
        self.type: Scalar = constant_type(value)

    def __repr__(self) -> str:
        return repr(self.value)


Operand = Value | Const


@dataclass(frozen=True, slots=True)
class Slot:
    """Stands in an argument tree for the operand with this index."""

    index: int


class PrimitiveLike(Protocol):
    """What the IR needs to know of a primitive."""

    name: str
    body: Function | None

    def evaluate(self, arguments: dict[str, Any]) -> Any:
        """The reference semantics: the result for concrete arguments."""


@dataclass(frozen=True, slots=True, eq=False)
class CallSite:
    """One call of a Python function that was lowered in place, inside the call `outer`, if any.

    `names` are the parameters by the values that came in, `results` the values that were returned
    with the names that they had, `part` the variable to whose statement the call belongs,
    `comments` those of the function's text. `checkpoint`: it stays a call, and is run again
    backwards.
    """

    function: Any
    name: str
    span: Span | None = None
    outer: CallSite | None = None
    checkpoint: bool = False
    part: str | None = None
    names: dict[Value, str] = field(default_factory=dict)
    results: dict[Value, str] = field(default_factory=dict)
    comments: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an operation comes from: the user's text, the sweep, the rule that made it.

    "early" is the sweep of what belongs to the backward one and stands in the forward one.

    `site` is the call in whose function the text stands, None in the compiled function itself.
    """

    span: Span | None = None
    sweep: str = "forward"
    rule: str | None = None
    site: CallSite | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Apply:
    """`results = primitive(arguments)`; `arguments` are trees whose `Slot`s are the operands.

    `spelling` only says how the call was written ("method"); it never changes the meaning.
    """

    primitive: Any
    operands: tuple[Operand, ...]
    arguments: dict[str, Any]
    results: tuple[Value, ...]
    origin: Origin = field(default_factory=Origin)
    spelling: str | None = None

    @property
    def result(self) -> Value:
        """The single result."""
        (value,) = self.results
        return value


@dataclass(slots=True, eq=False)
class Block:
    """Operations in order; `yields` are handed to the operation that holds the block."""

    params: tuple[Value, ...] = ()
    ops: list[Op] = field(default_factory=list)
    yields: tuple[Operand, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class If:
    """The yields of `then` or `orelse`, as `condition` says."""

    condition: Operand
    then: Block
    orelse: Block
    results: tuple[Value, ...]
    origin: Origin = field(default_factory=Origin)


@dataclass(frozen=True, slots=True, eq=False)
class For:
    """`body` for each index of range(start, stop, step); its first parameter is the index.

    The others are the carried values, from `inits` at first, then the yields of the last trip.
    With `exits`, the first yield is a bool: the loop ends after the trip that yields True.

    `checkpoint` says how the backward sweep gets the values of the trips: "sqrt" from segments that
    it runs again, "revolve" from so many `snapshots` of the carried values, "trip" by running each
    trip again from the values carried into it. None is a tape. The loop itself means the same.

    `vector`: the trips do not depend on each other but for sums, which may be taken in any order.
    `apart`: all indices are within their arrays, and each array that is written has memory that the
    loop sees under no other name.
    `free`: `vector`, and no index in it is out of bounds.
    `reuses`: each trip makes arrays of several KB, of the same shapes as the trip before.
    """

    start: Operand
    stop: Operand
    step: Operand
    inits: tuple[Operand, ...]
    body: Block
    results: tuple[Value, ...]
    exits: bool = False
    origin: Origin = field(default_factory=Origin)
    checkpoint: str | None = None
    snapshots: Operand | None = None
    vector: bool = False
    apart: bool = False
    free: bool = False
    reuses: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class While:
    """`body` as long as `condition` (a block over the carried values) yields True."""

    inits: tuple[Operand, ...]
    condition: Block
    body: Block
    results: tuple[Value, ...]
    exits: bool = False
    origin: Origin = field(default_factory=Origin)


Op = Apply | If | For | While


@dataclass(frozen=True, slots=True)
class Requirement:
    """Two lengths that must be equal where the user's code runs, and the words if they are not.

    `guard`: NumPy would not notice the difference, because one of them may be 1 and broadcast.
    """

    left: Any
    right: Any
    message: Callable[[dict[str, int]], str]
    span: Span | None
    guard: bool = False


@dataclass(slots=True, eq=False)
class Function:
    """A function: parameters and results of `body`, and the tree in which the results return.

    `lengths` maps the atoms of `Dim`s to the parameter and axis that they measure.
    A function that others call is the `body` of the primitive in their `Apply`.
    `hidden` are trailing parameters that carry captured values (closures, globals), by name.
    `places`, behind them, are arrays of the caller's into which results are written.
    """

    name: str
    body: Block
    tree: Any
    lengths: dict[str, tuple[Value, int]] = field(default_factory=dict)
    requirements: list[Requirement] = field(default_factory=list)
    hidden: tuple[str, ...] = ()
    doc: str | None = None
    places: tuple[Value, ...] = ()

    @property
    def params(self) -> tuple[Value, ...]:
        """The parameters in order, hidden ones last."""
        return self.body.params

    @property
    def results(self) -> tuple[Operand, ...]:
        """The leaves that are returned; `tree` says how."""
        return self.body.yields


def substitute(tree: Any, pick: Callable[[int], Any]) -> Any:
    """`tree` with each `Slot` replaced by `pick(index)`; containers and slices nest."""
    kind = type(tree)
    if kind is Slot:
        return pick(tree.index)
    if kind is dict:
        return {key: substitute(item, pick) for key, item in tree.items()}
    if kind is tuple:
        return tuple([substitute(item, pick) for item in tree])
    if kind is list:
        return [substitute(item, pick) for item in tree]
    if kind is slice:
        parts = (tree.start, tree.stop, tree.step)
        return slice(*[substitute(part, pick) for part in parts])
    if kind is Record or (isinstance(tree, tuple) and hasattr(kind, "_make")):
        return rebuilt(tree, [substitute(item, pick) for item in children(tree) or ()])
    return tree


def is_const(operand: Operand, number: int) -> bool:
    """Whether an operand is this constant."""
    return isinstance(operand, Const) and operand.value == number


def operands_of(op: Op) -> Iterator[Operand]:
    """What an operation itself reads, without the blocks it holds."""
    match op:
        case Apply():
            yield from op.operands
        case If():
            yield op.condition
        case For():
            yield from (op.start, op.stop, op.step, *op.inits)
            if op.snapshots is not None:
                yield op.snapshots
        case While():
            yield from op.inits


def blocks_of(op: Op) -> tuple[Block, ...]:
    """The blocks that an operation holds."""
    match op:
        case If():
            return op.then, op.orelse
        case For():
            return (op.body,)
        case While():
            return op.condition, op.body
    return ()


def reads_of(op: Op) -> Iterator[Operand]:
    """What an operation and the blocks inside it read."""
    yield from operands_of(op)
    for inner in blocks_of(op):
        yield from all_reads(inner)


def all_reads(block: Block) -> Iterator[Operand]:
    """Every operand that is read in a block and in the blocks inside it, yields included."""
    for op in block.ops:
        yield from reads_of(op)
    yield from block.yields


def called_functions(block: Block) -> dict[Any, None]:
    """The primitives called in a block that are functions of the program, those they call first."""
    found: dict[Any, None] = {}
    for op in block.ops:
        if isinstance(op, Apply) and op.primitive.body is not None:
            found |= called_functions(op.primitive.body.body)
            found[op.primitive] = None
        for inner in blocks_of(op):
            found |= called_functions(inner)
    return found


def size_of(operand: Operand) -> int | Dim | None:
    """The symbolic value of an int operand, where known."""
    kind = operand.type
    return kind.size if isinstance(kind, Scalar) else None
