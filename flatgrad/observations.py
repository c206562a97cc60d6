"""All derivatives of the residuals of one observation, as numbers: a function of numbers alone.

    residual(camera, point)        ->      residual_entries(camera_0, ..., camera_10, point_0, ...)
        ...                                    ...
        return u, v                            return u, v, jacobian_u_camera_0, ...

It has a backward sweep for each residual. All arrays are taken apart into numbers, so that what is
common to the sweeps is computed once. A parameter on which a result does not depend has no entries
in its rows (`Leaf`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from flatgrad.analysis.activity import active
from flatgrad.codegen.module import Module, build_module
from flatgrad.derivatives import BETWEEN, all_ops, differentiate_inside
from flatgrad.errors import Span, error
from flatgrad.frontend.lower import Static, lower
from flatgrad.frontend.resolve import Capture, Captures
from flatgrad.frontend.source import Source
from flatgrad.ir.builder import Builder
from flatgrad.ir.ops import Apply, Block, Function, Operand, Origin, Slot, Value
from flatgrad.ir.printer import print_function
from flatgrad.ir.types import Scalar, Type
from flatgrad.ir.verify import verify
from flatgrad.options import Options
from flatgrad.pipeline import CLEAN_UP, new_dialect
from flatgrad.primitives.symbolic import (
    NeedInteger,
    NeedStatic,
    Symbol,
    apply_function,
    operand_of,
    symbol_of,
)
from flatgrad.transform.clone import rewired_block
from flatgrad.transform.cse import merge_common
from flatgrad.transform.elements import MOST, blank, is_small, known_shape, take_apart
from flatgrad.transform.paths import on_each_path
from flatgrad.transform.plain import without_marks
from flatgrad.transform.reverse import reverse

ENTRIES = 4096
"""An observation may have so many derivatives."""

INLINED = '@numba.njit(cache=True, error_model="numpy", boundscheck=True, forceinline=True)'


@dataclass(slots=True)
class Leaf:
    """A float result of the function: the number of its residuals, and what they depend on."""

    residuals: int
    by: tuple[str, ...]


@dataclass(slots=True)
class Observation:
    """The compiled function of one observation, to which `sparse_loop.py` adds the loop.

    `passed` says in which form it takes each parameter: the number of its elements, one by one,
    or None for the parameter as it is. Results are the residuals, if asked for, then for each leaf
    row by row the derivatives by the elements of the parameters in `by`.
    """

    name: str
    module: Module
    graph: Function
    passed: dict[str, tuple[int, ...] | None]
    leaves: list[Leaf]
    dtype: np.dtype[Any]
    with_value: bool
    captures: list[Capture]
    hidden: list[Capture]
    stages: dict[str, Callable[[], str]] = field(default_factory=dict)


def compile_observation(
    source: Source,
    signature: dict[str, Type | Static],
    wrt: Sequence[str],
    spread: Sequence[str],
    hidden_type: Callable[[str, Any], Type],
    backend: str,
    with_value: bool,
) -> Observation:
    """Run the passes for the types that one observation has.

    Parameters in `spread` are handed over by their elements.

    Raises
    ------
    FlatgradError
        If the function is outside the supported subset, or its residuals cannot be counted.
    """
    stages: dict[str, Callable[[], str]] = {"source": lambda: source.text}

    def keep(name: str, fn: Function) -> Function:
        stages[name] = lambda: print_function(fn)
        return fn

    fn, captures = _lowered(source, signature, hidden_type)
    keep("ir", fn)
    span = source.span(source.node)
    fn, numbers = _by_numbers(fn, {*wrt, *spread}, span)
    inputs = {name: numbers[name] for name in wrt}
    fn, leaves = _residuals(fn, inputs, span)
    fn = keep("numbers", merge_common(take_apart(fn)))
    dtype = _dtype(fn, inputs)
    fn = keep("entries", _differentiated(fn, leaves, inputs, with_value))
    fn = without_marks(fn)
    for name, run in CLEAN_UP:
        fn = keep(name, run(fn))
    verify(fn)
    dialect = new_dialect(Options(backend=backend))
    dialect.main_decorator = INLINED if backend == "numba" else None
    name = f"{fn.name}_entries"
    module = build_module(fn, name, dialect, source.comments)
    passed = {
        name: (known_shape(kind) if numbers.get(name) else None)
        for name, kind in signature.items()
        if not isinstance(kind, Static)
    }
    return Observation(
        name, module, fn, passed, leaves, dtype, with_value,
        list(captures.static.values()), list(captures.hidden.values()), stages,
    )  # fmt: skip


def _lowered(
    source: Source,
    signature: dict[str, Type | Static],
    hidden_type: Callable[[str, Any], Type],
) -> tuple[Function, Captures]:
    """The function as IR.

    Raises
    ------
    FlatgradError
        If it is outside the supported subset, or that of functions that are mapped.
    """

    def inside(fn: Function, request: Any, span: Span | None) -> Function:
        return differentiate_inside(fn, request, span)

    try:
        fn, captures = lower(source, signature, hidden_type, inside)
    except (NeedStatic, NeedInteger) as needed:
        name = needed.symbol.value.name
        raise needed.refusal or error(
            "data-dependent-static", f"the value of `{name}` is needed while compiling"
        ) from None
    span = source.span(source.node)
    if captures.written:
        name = min(captures.written)
        raise error(
            "unsupported-write", f"`{fn.name}` writes to its argument `{name}`", span,
            help=f"write to a copy: {name} = {name}.copy()",
        )  # fmt: skip
    for op in all_ops(fn.body):
        if isinstance(op, Apply) and op.primitive.hook is not None:
            raise error(
                "bad-hook", f"`{fn.name}` has a hook or a custom derivative, which stands in one "
                "backward sweep; here is one for each residual",
                op.origin.span, help="leave it out, or use jacobian",
            )  # fmt: skip
    return fn, captures


def _by_numbers(
    fn: Function, names: set[str], span: Span | None
) -> tuple[Function, dict[str, list[Value]]]:
    """The function with the elements of some parameters as its parameters, and these by name."""
    params: list[Value] = []
    block = Block()
    builder = Builder(block, fn.lengths)
    known: dict[Value, Operand] = {}
    numbers: dict[str, list[Value]] = {}
    for param in fn.params:
        name, shape = str(param.name), known_shape(param.type)
        if name in names and shape is None:
            raise error(
                "unsupported-argument",
                f"each observation depends on all elements of `{name}`, which are many", span,
                help="leave it out of argnums, or use jacobian",
            )  # fmt: skip
        numbers[name] = []
        if name not in names or shape is None or 0 in shape:
            params.append(param)
            continue
        if not shape:
            numbers[name] = [param]
        else:
            made = blank(param.type)
            for place in np.ndindex(*made.shape):
                text = "_".join([name, *map(str, place)])
                made[place] = Symbol(Value(Scalar(param.type.dtype), text, kept=True), builder)
            with builder.at(Origin(None, "forward", "parameter"), name):
                whole = apply_function(np.array, (made.tolist(),), {}, builder)
            whole.value.name, whole.value.kept = name, True
            known[param] = whole.value
            numbers[name] = [symbol.value for symbol in made.flat]
        params += numbers[name]
    body = rewired_block(fn.body, known)
    body = Block(tuple(params), [*block.ops, *body.ops], body.yields)
    return replace(fn, body=body, requirements=fn.requirements + builder.requirements), numbers


def _residuals(
    fn: Function, inputs: dict[str, list[Value]], span: Span | None
) -> tuple[Function, list[Leaf]]:
    """The function with the elements of its results as its results.

    Raises
    ------
    FlatgradError
        If they are no floats, or not a known number of them.
    """
    body = Block(fn.params, list(fn.body.ops))
    builder = Builder(body, fn.lengths)
    results: list[Operand] = []
    leaves: list[Leaf] = []
    for item in fn.results:
        _require_few(fn, item, span)
        shape: Any = item.type.shape
        before = len(results)
        with builder.at(Origin(None, "forward", "residual"), getattr(item, "name", None)):
            for place in np.ndindex(*shape):
                one = symbol_of(item, builder)[place] if shape else item
                results.append(operand_of(one) if shape else one)
        of_item = tuple(results[before:])
        found = active(fn.body, [one for own in inputs.values() for one in own], [item])
        by = tuple([name for name, own in inputs.items() if any(one in found for one in own)])
        leaves.append(Leaf(len(of_item), by))
    if not results:
        raise error(
            "non-scalar-output", f"`{fn.name}` returns nothing", span, help="return the residuals"
        )
    columns = sum(map(len, inputs.values()))
    if len(results) * columns > ENTRIES:
        raise error(
            "unsupported-argument",
            f"`{fn.name}` has {len(results)} residuals and {columns} inputs: more than {ENTRIES} "
            "derivatives for one observation",
            span, help="use jacobian, whose arrays may be large",
        )  # fmt: skip
    body.yields = tuple(results)
    return replace(fn, body=body, tree=_flat(results)), leaves


def _require_few(fn: Function, item: Operand, span: Span | None) -> None:
    """A result is a float, or a few of them whose number is known.

    Raises
    ------
    FlatgradError
        If not.
    """
    kind = item.type
    if not kind.differentiable:
        raise error(
            "non-scalar-output", f"`{fn.name}` returns {kind}, which is no residual", span,
            help="return floats and float arrays",
        )  # fmt: skip
    if not kind.ndim or is_small(kind):
        return
    if known_shape(kind) is None:
        words = "has a length that depends on data"
    else:
        size = math.prod(known_shape(kind) or ())
        words = f"has {size} elements, more than {MOST}" if size else "is empty"
    raise error(
        "data-dependent-static",
        f"a result of `{fn.name}` {words}: an observation has a few residuals, whose number is "
        "known while compiling",
        span, help="return numbers, or arrays of few elements",
    )  # fmt: skip


def _flat(results: Sequence[Operand]) -> Any:
    """The tree of results that are returned one after the other."""
    return Slot(0) if len(results) == 1 else tuple([Slot(k) for k in range(len(results))])


def _dtype(fn: Function, inputs: dict[str, list[Value]]) -> np.dtype[Any]:
    """The dtype of the derivatives: NumPy's for residuals and inputs, where floats adapt."""
    kinds = [item.type for item in (*fn.results, *[one for own in inputs.values() for one in own])]
    strict = [kind.dtype for kind in kinds if not kind.weak]
    return np.result_type(*strict) if strict else np.dtype("float64")


def _differentiated(
    fn: Function, leaves: Sequence[Leaf], inputs: dict[str, list[Value]], with_value: bool
) -> Function:
    """With the derivatives of each residual as results, after the residuals or instead."""
    count = len(fn.results)
    fn = on_each_path(fn, lambda path: _backwards(path, leaves, inputs))
    for run in BETWEEN:
        fn = run(fn)
    results = fn.results if with_value else fn.results[count:]
    return replace(fn, body=Block(fn.params, fn.body.ops, results), tree=_flat(results))


def _backwards(
    fn: Function, leaves: Sequence[Leaf], inputs: dict[str, list[Value]]
) -> Function:
    """The derivatives of each residual as further results, by a backward sweep for each."""
    k = 0
    for leaf in leaves:
        wrt = [value for name in leaf.by for value in inputs[name]]
        for _ in range(leaf.residuals):
            if wrt:
                fn, adjoints = reverse(fn, wrt, output=k)
                results = (*fn.body.yields, *adjoints)
                fn = replace(fn, body=Block(fn.params, fn.body.ops, results))
            k += 1
    return fn
