"""Calls of derivatives: the derivative is built as IR and put in the place of the call.

    slope = grad(f)

    def h(x):                         func h(%x) {
        return slope(x) ** 2     ->     %y = ...            # f
                                        %grad_x = ...       # its backward sweep
                                        %value = pow(%grad_x, 2)

So a derivative inside a differentiated function is differentiated again like any other statement.
"""

from __future__ import annotations

import ast
import inspect
from dataclasses import replace
from typing import Any

import numpy as np

from flatgrad.frontend.refs import Buffer, Ref
from flatgrad.frontend.scopes import Closure
from flatgrad.frontend.source import read_source
from flatgrad.frontend.state import State
from flatgrad.frontend.trees import held_in
from flatgrad.frontend.values import flattened, kind_of, read, wrap
from flatgrad.ir.dims import Dim
from flatgrad.ir.ops import (
    Apply,
    Block,
    Const,
    Function,
    Op,
    Operand,
    Requirement,
    Slot,
    Value,
    substitute,
)
from flatgrad.ir.types import Scalar
from flatgrad.primitives.core import IDENTITY
from flatgrad.primitives.registry import PRIMITIVES
from flatgrad.primitives.symbolic import (
    Symbol,
    apply_function,
    is_number,
    is_symbolic,
    symbol_of,
)


def derived_behind(callee: Any) -> Any:
    """The derivative that a function computes; None for other functions."""
    derived = getattr(callee, "__flatgrad__", None)
    return derived if getattr(derived, "wrapper", None) is callee else None


DERIVING = ("grad", "value_and_grad", "jvp", "hvp", "vjp", "linearize", "jacfwd", "jacrev",
            "jacobian", "value_and_jacobian", "hessian")  # fmt: skip


def is_deriving(callee: Any) -> bool:
    """Whether this is `flatgrad.grad` or one of its kind."""
    home = getattr(callee, "__module__", None)
    return home in ("flatgrad.api", "flatgrad.modes") and callee.__name__ in DERIVING


def call_deriving(
    lowerer: Any, node: ast.Call, callee: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """`grad(f)`, which is a function; `jvp(f, (x,), (dot_x,))`, which calls one.

    Raises
    ------
    UnsupportedError
        For the other kinds, which run parts of their own while running.
    """
    try:
        given = inspect.signature(callee).bind(*args, **kwargs).arguments
    except TypeError as caught:
        raise lowerer.refuse(node, "static-evaluation", f"TypeError: {caught}") from None
    name, function = callee.__name__, given.pop("function", None)
    if isinstance(function, Closure):
        stub = function.stub()
        lowerer.shared.stubs[stub] = function
        function = stub
    primals, tangents = given.pop("primals", None), given.pop("tangents", None)
    if name not in DERIVING[:4] or not callable(function) or is_symbolic(read(given)):
        raise lowerer.refuse(
            node, "unsupported-call", f"`{name}` inside a differentiated function",
            "call it from outside, or use grad, value_and_grad, jvp or hvp",
        )  # fmt: skip
    made = lowerer.static(node, callee, function, structural=True, **given)
    if primals is None:
        return made
    derived = derived_behind(made)
    owners = list(derived.seeds)[: len(primals)]
    if not len(primals) == len(tangents or ()) == len(owners):
        raise lowerer.refuse(node, "bad-tangent", "there is one tangent for each argument")
    values = dict(zip(owners, primals, strict=True))
    values |= {derived.seeds[k]: dot for k, dot in zip(owners, tangents, strict=True)}
    return call_derived(lowerer, node, made, (), values)


def call_derived(
    lowerer: Any, node: ast.Call, callee: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """The result of a derived function, its operations appended.

    Raises
    ------
    UnsupportedError
        If it is no gradient or tangent, or its arguments are no numbers and arrays.
    """
    derived, shared = derived_behind(callee), lowerer.shared
    if shared.differentiate is None or not hasattr(derived, "request"):
        text = lowerer.source.segment(node.func)
        raise lowerer.refuse(
            node, "unsupported-call", f"the derivative of `{text}` is not supported",
            "call a function made by grad, value_and_grad, jvp or hvp",
        )  # fmt: skip
    if derived.stacks():
        raise lowerer.refuse(
            node, "unsupported-call", "stacks of tangents inside a differentiated function",
            "call it from outside",
        )  # fmt: skip
    if shared.depth >= 64:
        raise lowerer.refuse(node, "too-deep", "a recursion that does not end")
    closure = shared.stubs.get(derived.primal)
    if closure is None:
        inner = type(lowerer)(read_source(derived.primal), shared)
    else:
        inner = lowerer.inside(closure, {})
    with lowerer.at(node):
        given = derived.spread(_arguments(lowerer, inner, node, derived, args, kwargs))
    values = given.values
    examples = replace(given, values={name: _example(value) for name, value in values.items()})
    request = derived.request(examples)
    tangents = derived.tangents()
    seeds = {leaf: values.pop(leaf) for name in tangents for leaf in given.leaves(name)}
    inputs = _inputs(lowerer, node, values, derived.differentiated(examples))
    dots = [
        _tangent(lowerer, node, seed, inputs.get(given.owners[name]))
        for name, seed in seeds.items()
        if name in request.tangents
    ]
    start = len(lowerer.builder.block.ops)
    trees = {name: tree for name, tree in given.trees.items() if name not in tangents}
    fn = _lowered(lowerer, inner, node, (trees, values), inputs)
    fn = shared.differentiate(fn, request, lowerer.source.span(node))
    return _appended(lowerer, fn, start, list(inputs.values()), dots)


def _arguments(
    lowerer: Any,
    inner: Any,
    node: ast.Call,
    derived: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> dict[str, Any]:
    """The argument of each parameter, the arrays in it as what they contain now."""
    try:
        bound = derived.signature.bind(*args, **kwargs)
    except TypeError as caught:
        raise lowerer.refuse(node, "static-evaluation", f"TypeError: {caught}") from None
    given = set(bound.arguments)
    bound.apply_defaults()
    values = {
        name: read(value if name in given else inner.default(name, value))
        for name, value in bound.arguments.items()
    }
    for name, value in values.items():
        for held in held_in(value):
            raise lowerer.refuse(
                node, "unsupported-argument",
                f"`{name}` of a derivative is {kind_of(held)}", "pass numbers and arrays",
            )  # fmt: skip
    return values


def _example(value: Any) -> Any:
    """A value of the type of an argument, from which is seen by what is differentiated."""
    if not isinstance(value, Symbol):
        return value
    kind = value.type
    if not isinstance(kind, Scalar):
        return np.ones((1,) * kind.ndim, kind.dtype)
    number = np.dtype(kind.dtype).type(1)
    return number.item() if kind.weak else number


def _inputs(
    lowerer: Any, node: ast.Call, values: dict[str, Any], differentiated: set[str]
) -> dict[str, Value]:
    """For each parameter by which is differentiated, a value of its own."""
    inputs: dict[str, Value] = {}
    builder = lowerer.builder
    for name in values:
        if name not in differentiated or not _is_value(values[name]):
            continue
        value = values[name]
        if is_number(value):
            operand: Operand = Const(float(value))
        else:
            if value.type.dtype == "int64" and value.ndim == 0:
                with lowerer.at(node):
                    value = apply_function(float, (value,), {}, builder)
            operand = value.value
        made = builder.apply(PRIMITIVES[IDENTITY], (operand,), {"x": Slot(0)}, operand.type)
        made.name = name
        inputs[name] = made
        values[name] = Symbol(made, builder)
    return inputs


def _is_value(value: Any) -> bool:
    return isinstance(value, Symbol) or (is_number(value) and not isinstance(value, bool))


def _tangent(lowerer: Any, node: ast.Call, tangent: Any, owner: Value | None) -> Operand:
    """A tangent as an operand of the type of its value."""
    if owner is None:
        raise lowerer.refuse(
            node, "unsupported-call", "tangents of tangents inside a differentiated function",
            "call the second `jvp` from outside",
        )  # fmt: skip
    kind = owner.type
    if is_number(tangent) and not kind.ndim:
        return Const(float(tangent) if kind.weak else np.dtype(kind.dtype).type(tangent))
    found = tangent.type if isinstance(tangent, Symbol) else None
    if found is None or (found.dtype, found.ndim) != (kind.dtype, kind.ndim):
        raise lowerer.refuse(
            node, "operand-type", f"the tangent of `{owner.name}` is {found}, not {kind}"
        )
    for axis, (one, other) in enumerate(zip(found.shape, kind.shape, strict=True)):
        if one != other:
            _require(lowerer, node, owner, axis, (one, other))
    return tangent.value


def _require(
    lowerer: Any, node: ast.Call, owner: Value, axis: int, sizes: tuple[Any, Any]
) -> None:
    """A tangent is as long as its value; refused where that cannot be checked before running."""
    message = f"the tangent of `{owner.name}` has another length in axis {axis}"
    atoms = {atom for size in sizes if isinstance(size, Dim) for atom in size.atoms}
    if not atoms or not atoms <= lowerer.builder.lengths.keys():
        raise lowerer.refuse(node, "shape-mismatch", message)
    span = lowerer.source.span(node)
    made = Requirement(*sizes, lambda _: message, span, guard=True)
    lowerer.builder.requirements.append(made)


def _lowered(
    lowerer: Any,
    inner: Any,
    node: ast.Call,
    given: tuple[dict[str, Any], dict[str, Any]],
    inputs: dict[str, Value],
) -> Function:
    """The differentiated function as IR over `inputs`; its operations are in the block, too.

    `given` are the trees of its parameters, and the value of each leaf.
    """
    builder = lowerer.builder
    start = len(builder.block.ops)
    trees, values = given
    leaves = {name: wrap(value) for name, value in values.items()}
    for name, tree in trees.items():
        inner.env[name] = inner.parameter(tree, leaves)
    buffers = [found.buffer for found in leaves.values() if isinstance(found, Ref)]
    inner.depends_on_code()
    before = State([*lowerer.roots(), *inner.spaces()[1:]])
    result = lowerer.entered(inner)
    name = getattr(inner.source.node, "name", "<lambda>")
    _check_writes(lowerer, node, buffers, name)
    results: list[Operand] = []
    tree = flattened(read(result), results)
    for param, value in inputs.items():
        value.name = param  # whatever variable of the function it was last assigned to
    if before.changed():
        raise lowerer.refuse(
            node, "unsupported-write", f"`{name}` changes what belongs to the function around it",
            "return what it computes, and differentiate that",
        )  # fmt: skip
    before.restore()  # what was read of a view in there is part of what is differentiated
    block = Block(tuple(inputs.values()), builder.block.ops[start:], tuple(results))
    return Function(name, block, tree, builder.lengths)


def _check_writes(lowerer: Any, node: ast.Call, buffers: list[Buffer], name: str) -> None:
    """Refuse writes to one of several arrays: they may share memory."""
    others = len(buffers) + len(lowerer.shared.captures.hidden)
    if others > 1 and any(buffer.writes for buffer in buffers):
        raise lowerer.refuse(
            node, "unsupported-write", f"`{name}` writes to its argument",
            "let it make a copy first, `x = x.copy()`",
        )  # fmt: skip


def _appended(
    lowerer: Any, fn: Function, start: int, inputs: list[Value], tangents: list[Operand]
) -> Any:
    """Put the operations of the derivative into the block; its result."""
    builder = lowerer.builder
    dots = [param for param in fn.params if param not in inputs]
    known: dict[Value, Operand] = dict(zip(dots, tangents, strict=True))
    known |= {value: builder.made[value].operands[0] for value in inputs}
    ops: list[Op] = []
    if all(isinstance(op, Apply) for op in fn.body.ops):
        ops = [_rewired(op, known) for op in fn.body.ops if isinstance(op, Apply)]
    else:  # blocks inside read the inputs: these stay, as statements
        for value, operand in known.items():
            value.kept = True
            if value in dots:
                origin = replace(builder.origin, sweep="derived")
                named = PRIMITIVES[IDENTITY], (operand,), {"x": Slot(0)}, (value,)
                ops.append(Apply(*named, origin))
        ops += fn.body.ops
        known = {}
    for k, op in enumerate(ops):
        if op.origin.sweep != "forward":
            ops[k] = replace(op, origin=replace(op.origin, sweep="derived"))
    builder.block.ops[start:] = ops
    for op in ops:
        for value in op.results:
            builder.made[value] = op
    builder.requirements += fn.requirements
    results = [known.get(item, item) for item in fn.results]  # type: ignore[arg-type]
    return wrap(substitute(fn.tree, lambda k: symbol_of(results[k], builder)))


def _rewired(op: Apply, known: dict[Value, Operand]) -> Apply:
    """`op` reading the arguments of the call."""
    operands = tuple(known.get(o, o) for o in op.operands)  # type: ignore[arg-type]
    return replace(op, operands=operands)
