"""The function that computes what was requested, as IR: a derivative is a `Function` again.

    Request("grad", ("x",))                                  f  ->  f_grad
    Request("grad", ("x",), inner=Request("grad", ("x",)))   f  ->  f_grad  ->  f_grad_grad
    Request("hvp", ("x",), inner=Request("grad", ("x",)))    f  ->  f_grad  ->  f_grad_hvp
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from flatgrad.errors import Span, error
from flatgrad.ir.ops import Apply, Block, Const, Function, Op, Operand, Slot, Value
from flatgrad.ir.trees import children, rebuilt
from flatgrad.ir.types import Scalar
from flatgrad.options import DEFAULT, Options
from flatgrad.primitives.core import IDENTITY
from flatgrad.transform.clone import all_ops, picked, rewired_outside, with_blocks
from flatgrad.transform.cse import merge_common
from flatgrad.transform.dce import eliminate_dead
from flatgrad.transform.forward import Unit, forward
from flatgrad.transform.numbering import order, prefixed, renumber, stamp_tangents
from flatgrad.transform.reverse import reverse
from flatgrad.transform.simplify import simplify
from flatgrad.transform.vector_forward import stacked_parameters

Direction = tuple[str, Unit | None]
"""A parameter that is a number, or an array with the index of an element and the shape."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be compiled: which derivative, of which parameters, and how.

    kind         results                              new parameters
    grad         gradients                            none
    value_and_grad
    jvp          results of f, their tangents         `dot_x` for each of `wrt`
    hvp          the tangents alone                   the same
    linearize    as jvp, in two halves                the same, in the second half
    vjp          results of f, gradients; two halves  an adjoint for each float result
    jacfwd       Jacobians of all results             none
    value_and_jacfwd

    `rows` says of jvp and hvp how many tangents they take at once, as stacks: 0 for one that is no
    stack, 1 for stacks of one, 2 for more. `directions` are those in which a Jacobian is swept
    without stacks (see `columns.py`).

    `inner` is the derivative that is differentiated again. `seeds` are the names of the new
    parameters. `form` is the tree in which gradients are returned, with a Slot for each of `wrt`;
    without it one comes bare, several in a tuple.
    """

    kind: str
    wrt: tuple[str, ...]
    has_aux: bool = False
    options: Options = DEFAULT
    inner: Request | None = None
    form: Any = None
    seeds: tuple[str, ...] = ()
    rows: int = 0
    directions: tuple[Direction, ...] | None = None

    @property
    def name(self) -> str:
        """What is appended to the name of the function."""
        return f"{self.inner.name}_{self.kind}" if self.inner is not None else self.kind

    @property
    def tangents(self) -> tuple[str, ...]:
        """The parameters that are tangents."""
        return (*(self.inner.tangents if self.inner is not None else ()), *self.seeds)

    @property
    def in_stacks(self) -> bool:
        """Whether it carries several tangents at once."""
        return self.rows > 0 or self.kind in ELSEWHERE

    @property
    def title(self) -> str:
        """`%s` with a function's name in it, in the words of messages."""
        inner = self.inner.title if self.inner is not None else "`%s`"
        return f"the derivative of {inner}"


ELSEWHERE: dict[str, Callable[[Function, Request], Function]] = {}
"""Kinds that are built in modules of their own, which enter them here."""

SPLIT = ("linearize", "vjp")
"""Kinds that are compiled in two halves."""


def differentiate(fn: Function, request: Request, span: Span | None) -> Function:
    """The function that computes what was requested; errors are shown at `span`."""
    if request.kind == "primal":
        return fn
    if request.inner is not None:
        fn = differentiate_inside(fn, request.inner, span)
    if request.kind in ("grad", "value_and_grad"):
        return gradient(fn, request, span)
    if request.kind == "vjp":
        return pulled(fn, request, span)
    if request.kind in ELSEWHERE:
        return ELSEWHERE[request.kind](fn, request)
    return pushed(fn, request)


def differentiate_inside(fn: Function, request: Request, span: Span | None) -> Function:
    """A derivative that is to be differentiated again, cleaned up for that."""
    fn = differentiate(fn, request, span)
    for run in BETWEEN:
        fn = run(fn)
    return fn


def without_constants(fn: Function) -> Function:
    """Constants of a derivative, such as `grad_L = 1.0`, written where they are read."""
    known: dict[Value, Operand] = {}

    def inside(block: Block) -> Block:
        ops: list[Op] = []
        for op in block.ops:
            op = with_blocks(rewired_outside(op, known), inside)
            constant = _constant(op) if isinstance(op, Apply) else None
            if constant is None:
                ops.append(op)
            else:
                known[op.results[0]] = constant
        return Block(block.params, ops, tuple([picked(item, known) for item in block.yields]))

    return replace(fn, body=inside(fn.body))


def _constant(op: Apply) -> Const | None:
    """The number that an operation of a backward sweep always gives."""
    if op.primitive.function not in FOLDED or op.origin.sweep == "forward":
        return None
    numbers = [o.value for o in op.operands if isinstance(o, Const)]
    kinds = {type(number) for number in numbers}
    if len(numbers) != len(op.operands) or float not in kinds or not kinds <= {int, float}:
        return None
    return Const(op.primitive.function(*numbers))


FOLDED = (IDENTITY, operator.add, operator.mul, operator.neg)

BETWEEN = (
    without_constants, eliminate_dead, simplify, without_constants, simplify, merge_common,
)  # fmt: skip
"""Passes before a derivative is differentiated again: what they remove would be differentiated."""


def parameters(fn: Function, request: Request) -> list[Value]:
    """The parameters by which is differentiated; hidden ones have names of their own."""
    visible = fn.params[: len(fn.params) - len(fn.hidden)]
    named = {param.name: param for param in visible}
    return [named[name] for name in request.wrt]


def gradient(fn: Function, request: Request, span: Span | None) -> Function:
    """With the backward sweep of the one number that is returned."""
    output, aux = split_output(fn, request, span)
    before = set(all_ops(fn.body))
    number = order(fn, "grad")
    wrt = parameters(fn, request)
    fn, adjoints = reverse(fn, wrt, output=output.index)
    renumber(fn, before, "grad", number)
    results: list[Operand] = []
    value: Any = None
    if request.kind == "value_and_grad":
        value = collect(fn.results, (output, aux) if request.has_aux else output, results)
    elif request.has_aux:
        value = collect(fn.results, aux, results)
    gradients = tuple(_add(results, adjoint) for adjoint in adjoints)
    tree: Any = gradients if len(gradients) > 1 else gradients[0]
    if request.form is not None:
        tree = mapped(request.form, lambda k: gradients[k])
    if request.kind == "value_and_grad":
        tree = (value, tree)
    elif request.has_aux:
        tree = (tree, value)
    return replace(fn, body=Block(fn.params, fn.body.ops, tuple(results)), tree=tree)


def pushed(fn: Function, request: Request) -> Function:
    """With the tangents of all results, given those of the parameters."""
    before = set(all_ops(fn.body))
    number = order(fn, "dot")
    wrt = parameters(fn, request)
    count = len(fn.params)
    fn, tangents = forward(fn, wrt, halves=request.kind == "linearize")
    stamp_tangents(fn, before)
    renumber(fn, before, "dot", number)
    dots = fn.params[count:]
    names = request.seeds or [f"{prefixed('dot', number)}_{name}" for name in request.wrt]
    for dot, param, name in zip(dots, wrt, names, strict=True):
        dot.name, dot.of = name, (prefixed("dot", number), param)
    visible = count - len(fn.hidden)
    params = (*fn.params[:visible], *dots, *fn.params[visible:count])
    results: list[Operand] = [] if request.kind == "hvp" else list(fn.results)

    slots_of = {
        k: _add(results, tangent)
        for k, tangent in enumerate(tangents)
        if fn.results[k].type.differentiable
    }
    tree = mapped(fn.tree, slots_of.get, None)
    tree = tree if request.kind == "hvp" else (fn.tree, tree)
    fn = replace(fn, body=Block(params, fn.body.ops, tuple(results)), tree=tree)
    if request.rows:
        tangent_slots = [slot.index for slot in slots_of.values()]
        fn = stacked_parameters(cleaned(fn), dots, tangent_slots, one=request.rows == 1)
    return fn


def cleaned(fn: Function) -> Function:
    """A function with tangents, cleaned up before these become stacks."""
    for run in (eliminate_dead, simplify, merge_common, simplify, eliminate_dead):
        fn = run(fn)
    return fn


def pulled(fn: Function, request: Request, span: Span | None) -> Function:
    """With the backward sweep for given adjoints of all float results."""
    seeds: dict[int, Operand] = {}
    new: list[Value] = []
    number = order(fn, "grad")
    for k, result in enumerate(fn.results):
        if result.type.differentiable:
            name = getattr(result, "name", None) or "y"
            seed = Value(result.type, f"{prefixed('grad', number)}_{name}", kept=True)
            seeds[k] = seed
            new.append(seed)
    if not new:
        raise error(
            "non-scalar-output", f"`{fn.name}` returns no float number or array", span,
            help="return what is to be differentiated",
        )  # fmt: skip
    before = set(all_ops(fn.body))
    visible = len(fn.params) - len(fn.hidden)
    params = (*fn.params[:visible], *new, *fn.params[visible:])
    wrt = parameters(fn, request)
    fn = replace(fn, body=Block(params, fn.body.ops, fn.body.yields))
    fn, adjoints = reverse(fn, wrt, seeds=seeds)
    renumber(fn, before, "grad", number)
    results = (*fn.results, *adjoints)
    count = len(fn.results)
    gradients = tuple(Slot(count + k) for k in range(len(adjoints)))
    return replace(fn, body=Block(params, fn.body.ops, results), tree=(fn.tree, gradients))


def waiting(fn: Function, request: Request) -> tuple[Value, ...]:
    """The new parameters of a derivative in two halves."""
    first = len(fn.params) - len(fn.hidden)
    count = len(request.wrt)
    if request.kind == "vjp":
        count = sum(item.type.differentiable for item in fn.results[: early_results(fn)])
    return fn.params[first - count : first]


def early_results(fn: Function) -> int:
    """The number of leaves of the results of f itself."""
    return len(list(slots(fn.tree[0])))


def _add(results: list[Operand], operand: Operand) -> Slot:
    results.append(operand)
    return Slot(len(results) - 1)


def collect(values: Sequence[Operand], tree: Any, results: list[Operand]) -> Any:
    """`tree` with its leaves moved to `results`."""
    return mapped(tree, lambda k: _add(results, values[k]))


KEEP = object()


def mapped(tree: Any, pick: Any, static: Any = KEEP) -> Any:
    """`tree` with `pick(index)` for each slot, and `static`, if given, for what is no slot."""
    if isinstance(tree, Slot):
        return pick(tree.index)
    items = children(tree)
    if items is not None:
        return rebuilt(tree, [mapped(item, pick, static) for item in items])
    return tree if static is KEEP else static


def slots(tree: Any) -> Iterator[int]:
    """The slots of a tree, in the order in which they stand."""
    if isinstance(tree, Slot):
        yield tree.index
    for item in children(tree) or ():
        yield from slots(item)


def split_output(fn: Function, request: Request, span: Span | None) -> tuple[Slot, Any]:
    """The differentiated leaf of the result, and the rest.

    Raises
    ------
    ArgumentError
        If the function does not return one float number (and, with has_aux, something else).
    """
    name = f"`{fn.name}`" if request.inner is None else request.inner.title % fn.name
    output, aux = fn.tree, None
    if request.has_aux:
        if not (isinstance(fn.tree, tuple) and len(fn.tree) == 2):
            raise error(
                "bad-aux", f"has_aux=True, but {name} does not return a pair", span,
                help="return (loss, auxiliary)",
            )  # fmt: skip
        output, aux = fn.tree
    kind = fn.results[output.index].type if isinstance(output, Slot) else None
    if not isinstance(kind, Scalar) or not kind.differentiable:
        found = "nothing" if output is None else kind if kind else f"a {type(output).__name__}"
        help = (
            "reduce the result with np.sum or np.mean, or return (loss, auxiliary) "
            "with has_aux=True"
        )
        if request.inner is not None:
            help = "the derivative of an array is a Jacobian: flatgrad.jacobian, flatgrad.hessian"
        raise error(
            "non-scalar-output",
            f"grad needs a function that returns one float number; {name} returns {found}",
            span,
            help=help,
        )
    return output, aux


__all__ = ["SPLIT", "Request", "all_ops", "differentiate", "early_results", "mapped", "waiting"]

