"""What is written for shapes, indices and new arrays on Numba, where plain text will not do.

    expand_dims(x, (0, 2))       expand_dims_2d_axes02(x)
    x[rows, columns]             gather_array1d_array1d(x, rows, columns)
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

from flatgrad.codegen import numba_helpers as numba_text
from flatgrad.codegen.expressions import call, dotted, literal, subscript
from flatgrad.codegen.numba_helpers.text import NUMPY_DTYPES
from flatgrad.codegen.numba_index import indexed
from flatgrad.codegen.numba_site import Site, Writer, fit, unsupported
from flatgrad.ir.ops import Apply, Const
from flatgrad.primitives.typerules import normalize_axes


def axes_helper(make: Callable[..., numba_text.Helper]) -> Writer:
    """expand_dims, squeeze and flip: the axes are part of the helper."""

    def writer(site: Site) -> ast.expr | None:
        kind = site.kinds[0]
        axis = site.static("axis")
        if make is numba_text.expand_dims:
            many = len(axis) if isinstance(axis, tuple | list) else 1
            if kind.ndim == 0:
                ones, kind_of = literal((1,) * many), dotted(f"np.{kind.dtype}")
                return call(dotted("np.full"), [ones, literal(site.operands[0]), kind_of], {})
            axes = normalize_axes(axis, kind.ndim + many)
        elif axis is None and make is numba_text.squeeze:
            axes = tuple(k for k, size in enumerate(kind.shape) if size == 1)
        else:
            axes = normalize_axes(axis, kind.ndim)
        if make is numba_text.squeeze and not axes:
            return literal(site.operands[0])
        if make is numba_text.squeeze and len(axes) == kind.ndim:
            return subscript(literal(site.operands[0]), (0,) * kind.ndim)
        return site.helper(make(kind.ndim, axes), site.operands[0])

    return writer


def reshape(site: Site) -> ast.expr | None:
    shape = site.arguments["shape"]
    shape = shape if isinstance(shape, tuple | list | ast.expr) else (shape,)
    shape = tuple(shape) if isinstance(shape, list) else shape
    if site.kinds[0].ndim == 0:
        ones = (1,) * site.op.result.type.ndim
        return call(dotted("np.full"), [literal(ones), literal(site.operands[0])], {})
    return site.helper(numba_text.reshape(site.kinds[0].ndim), site.operands[0], shape)


def broadcast_to(site: Site) -> ast.expr | None:
    shape = site.arguments["shape"]
    if site.op.result.type.ndim == 0 == site.kinds[0].ndim:
        # Numba has no `grad_x[0] += y` for an array without axes; a number of this dtype will do.
        return call(dotted(NUMPY_DTYPES[site.dtype]), [literal(site.operands[0])], {})
    if isinstance(shape, tuple | list | ast.expr):
        return None
    return call(dotted("np.broadcast_to"), [literal(site.operands[0]), literal((shape,))], {})


def getitem(site: Site) -> ast.expr | None:
    plan = indexed(site.arguments["index"], site.types["index"], site.kinds[0].ndim)
    if site.arguments["index"] is Ellipsis:  # which Numba does not always compile alone
        return subscript(literal(site.operands[0]), (slice(None),) * site.kinds[0].ndim)
    if plan is None:
        return None
    base = literal(site.operands[0])
    view = subscript(base, plan.view) if plan.view is not None else base
    return site.helper(numba_text.gather(plan.pattern), view, *plan.entries)


def sequence(site: Site) -> ast.expr | None:
    """concatenate and stack take tuples, of one dtype."""
    items, kinds = site.operands[0], site.kinds[0]
    if not isinstance(items, tuple | list):
        raise unsupported(site.op)
    nested = any(isinstance(kind, tuple | list) for kind in kinds)
    if nested and is_table(site.op) and "dtype" not in site.arguments:
        return None  # [[0, 1], [2, 2]]: Numba reads it as NumPy does
    nodes = [_listed(site, item, kind) for item, kind in zip(items, kinds, strict=True)]
    axis = site.static("axis", 0)
    if axis is None:
        ranks = [len(_shape_of(kind)) for kind in kinds]
        return site.helper(numba_text.concatenate_flat(ranks), *nodes)
    axis = normalize_axes(axis, site.op.result.type.ndim)[0]
    keywords = {"axis": literal(axis)} if axis else {}
    return call(dotted(site.op.primitive.text), [ast.Tuple(nodes, ast.Load())], keywords)


def triangle(kind: str) -> Writer:
    def writer(site: Site) -> ast.expr | None:
        helper = numba_text.triangle(kind, site.kinds[0].ndim)
        return site.helper(helper, site.operands[0], site.arguments.get("k", 0))

    return writer


def diag(site: Site) -> ast.expr | None:
    helper = numba_text.diag(site.kinds[0].ndim)
    return site.helper(helper, site.operands[0], site.arguments.get("k", 0))


def diagonal(site: Site) -> ast.expr | None:
    one, other = site.static("axis1", 0), site.static("axis2", 1)
    helper = numba_text.diagonal(site.kinds[0].ndim, one, other)
    return site.helper(helper, site.operands[0], site.arguments.get("offset", 0))


def tile(site: Site) -> ast.expr | None:
    reps = site.arguments["reps"]
    reps = tuple(reps) if isinstance(reps, tuple | list) else (reps,)
    if site.kinds[0].ndim == 0:
        return call(dotted("np.full"), [literal(reps), literal(site.operands[0])], {})
    return site.helper(numba_text.tile(site.kinds[0].ndim, len(reps)), site.operands[0], reps)


def repeat(site: Site) -> ast.expr | None:
    rank, axis = site.kinds[0].ndim, site.static("axis")
    if rank == 0:
        count = (site.arguments["repeats"],)
        return call(dotted("np.full"), [literal(count), literal(site.operands[0])], {})
    axis = None if axis is None else normalize_axes(axis, rank)[0]
    kind, repeats = site.types["repeats"], site.arguments["repeats"]
    listed = isinstance(kind, tuple | list)
    each = listed or getattr(kind, "ndim", 0) > 0
    if listed:
        repeats = call(dotted("np.array"), [literal(list(repeats))], {})
    return site.helper(numba_text.repeat(rank, axis, each), site.operands[0], repeats)


def roll(site: Site) -> ast.expr | None:
    rank, axis = site.kinds[0].ndim, site.static("axis")
    shift = site.arguments["shift"]
    if axis is None:
        if isinstance(shift, tuple | list):
            raise unsupported(site.op)
        return site.helper(numba_text.roll(rank), site.operands[0], shift)
    axes = [axis] if isinstance(axis, int) else list(axis)
    axes = [one % rank for one in axes]
    shifts = list(shift) if isinstance(shift, tuple | list) else [shift] * len(axes)
    if len(set(axes)) != len(axes):
        raise unsupported(site.op)
    amount = shifts[0] if len(shifts) == 1 else tuple(shifts)
    return site.helper(numba_text.roll(rank, tuple(axes)), site.operands[0], amount)


def pad(site: Site) -> ast.expr | None:
    if site.static("mode", "constant") != "constant":
        raise unsupported(site.op)
    rank, width = site.kinds[0].ndim, site.arguments["pad_width"]
    value = site.arguments.get("constant_values", 0.0)
    if isinstance(value, tuple | list | ast.expr):
        raise unsupported(site.op)
    if not isinstance(width, tuple | list):
        pairs: Any = ((width, width),) * rank
    elif not isinstance(width[0], tuple | list):
        pairs = (tuple(width),) * rank if len(width) == 2 else ((width[0], width[0]),) * rank
    else:
        pairs = tuple(tuple(pair) for pair in (width if len(width) == rank else [width[0]] * rank))
    return site.helper(numba_text.pad(rank), site.operands[0], pairs, float(value))


def array(site: Site) -> ast.expr | None:
    """np.array of one array is a copy; of numbers, and of arrays of one shape, a stack."""
    items, kinds = site.operands[0], site.kinds[0]
    if not isinstance(items, tuple | list):
        node = literal(items)
        if kinds.ndim == 0:
            return call(dotted(f"np.{site.dtype}"), [node], {})
        if kinds.dtype != site.dtype:
            return call(ast.Attribute(node, "astype", ast.Load()), [dotted(f"np.{site.dtype}")], {})
        return call(ast.Attribute(node, "copy", ast.Load()), [], {})
    if all(getattr(kind, "ndim", None) == 0 for kind in kinds):
        return site.helper(numba_text.stacked_scalars(len(items), site.dtype), *items)
    if any(isinstance(kind, tuple | list) for kind in kinds):
        if is_table(site.op) and "dtype" not in site.arguments:
            return None  # [[0, 1], [2, 2]]: Numba reads it as NumPy does
        return _listed(site, items, kinds)
    nodes = [fit(literal(item), kind, site.dtype) for item, kind in zip(items, kinds, strict=True)]
    return call(dotted("np.stack"), [ast.Tuple(nodes, ast.Load())], {})


def _listed(site: Site, items: Any, kinds: Any) -> ast.expr:
    """A list of lists: of numbers alone, a vector in another shape; else stacks of stacks."""
    if not isinstance(kinds, tuple | list):
        return fit(literal(items), kinds, site.dtype)
    numbers = _numbers(items, kinds)
    if not numbers:
        raise unsupported(site.op)
    if all(kind.ndim == 0 for _, kind in numbers):
        helper = numba_text.stacked_scalars(len(numbers), site.dtype)
        flat = site.helper(helper, *[item for item, _ in numbers])
        shape = _shape_of(kinds)
        if len(shape) == 1:
            return flat
        return call(ast.Attribute(flat, "reshape", ast.Load()), [literal(shape)], {})
    nodes = [_listed(site, item, kind) for item, kind in zip(items, kinds, strict=True)]
    return call(dotted("np.stack"), [ast.Tuple(nodes, ast.Load())], {})


def _shape_of(kinds: Any) -> tuple[Any, ...]:
    """The shape of an array, or of a nested list."""
    if not isinstance(kinds, tuple | list):
        return tuple(kinds.shape)
    return (len(kinds), *(_shape_of(kinds[0]) if kinds else ()))


def _numbers(items: Any, kinds: Any) -> list[tuple[Any, Any]]:
    """What is in a nested list, with its types."""
    if not isinstance(kinds, tuple | list):
        return [(items, kinds)]
    pairs = zip(items, kinds, strict=True)
    return [found for item, kind in pairs for found in _numbers(item, kind)]


def is_table(op: Apply) -> bool:
    """Whether a nested list holds constants of one type alone."""
    kinds = {type(operand.value) for operand in op.operands if isinstance(operand, Const)}
    return len(kinds) == 1 and all(isinstance(operand, Const) for operand in op.operands)


def created(site: Site) -> ast.expr | None:
    """zeros, ones, full, eye and kin: the dtype as NumPy's, which Numba knows."""
    overrides: dict[str, ast.expr] = {}
    if "dtype" in site.op.arguments:
        overrides["dtype"] = dotted("np.bool_" if site.dtype == "bool" else f"np.{site.dtype}")
    arguments = site.arguments | overrides
    args, kwargs = site.op.primitive.call_form(arguments)
    nodes = {key: literal(item) for key, item in kwargs.items()}
    if site.op.primitive.name in ("zeros", "ones", "empty", "full") and "shape" in nodes:
        args = [nodes.pop("shape"), *args]
    shape = args[0] if args else None
    if site.op.primitive.name in ("zeros", "ones", "empty", "full") and isinstance(shape, list):
        args[0] = tuple(shape)
    return call(dotted(site.op.primitive.text), [literal(arg) for arg in args], nodes)


def eye(site: Site) -> ast.expr | None:
    rows = site.arguments["N"]
    columns = site.arguments.get("M")
    k, dtype = site.arguments.get("k", 0), dotted(f"np.{site.dtype}")
    args = [literal(arg) for arg in (rows, rows if columns is None else columns, k)]
    return call(dotted("np.eye"), [*args, dtype], {})


def linspace(site: Site) -> ast.expr | None:
    start, stop = site.operands
    helper = numba_text.linspace(bool(site.static("endpoint", True)), site.dtype)
    return site.helper(helper, start, stop, site.arguments.get("num", 50))
