"""What is written for each function on Numba, where plain text will not do.

    WRITERS[np.sum](site)      an expression, or None: the plain text is right
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

from flatgrad.codegen import numba_helpers as numba_text
from flatgrad.codegen.expressions import call, dotted, literal, name, subscript, write
from flatgrad.codegen.numba_index import indexed
from flatgrad.codegen.numba_site import Site, fit, fitted, unsupported
from flatgrad.ir.ops import Slot
from flatgrad.primitives.typerules import normalize_axes

Writer = Callable[[Site], ast.expr | None]


def _reduction(
    make: Callable[..., numba_text.Helper], plain: str
) -> Writer:
    """A reduction: the plain text where it is right, else the helper."""

    def writer(site: Site) -> ast.expr | None:
        kind = site.kinds[0]
        if kind.ndim == 0:
            return _of_number(site, plain)
        attributes = {key: site.static(key) for key in site.op.arguments if key not in ("x", "a")}
        if numba_text.native(plain, (kind.ndim,), dtype=kind.dtype, **attributes) and (
            kind.dtype != "bool" and site.dtype == kind.dtype
        ):
            return None
        axes = site.static("axis")
        axes = None if axes is None else normalize_axes(axes, kind.ndim)
        keywords = {"ddof": site.static("ddof", 0)} if plain in ("var", "std") else {}
        if plain not in ("any", "all"):
            keywords["dtype"] = site.dtype
        helper = make(kind.ndim, axes, site.static("keepdims", False), **keywords)
        return site.helper(helper, site.operands[0])

    return writer


def _of_number(site: Site, plain: str) -> ast.expr:
    """A reduction of a single number."""
    node = literal(site.operands[0])
    kind = dotted(f"np.{site.dtype}") if site.dtype != "bool" else name("bool")
    if plain in ("var", "std", "ptp"):
        return ast.BinOp(node, ast.Sub(), node)
    if plain == "norm":
        return call(dotted("np.abs"), [node], {})
    return call(kind, [node], {})


def _matmul(site: Site) -> ast.expr | None:
    a, b = site.kinds
    if max(a.ndim, b.ndim) <= 2 and a.dtype == b.dtype and a.dtype.startswith("float"):
        return None
    dtypes = (a.dtype, b.dtype)
    if not all(dtype.startswith("float") for dtype in dtypes):
        raise unsupported(site.op)
    return site.helper(numba_text.matmul(a.ndim, b.ndim, dtypes), *site.operands)


def _pair(make: Callable[..., numba_text.Helper]) -> Writer:
    """np.dot and np.inner."""

    def writer(site: Site) -> ast.expr | None:
        a, b = site.kinds
        if a.ndim == 0 or b.ndim == 0:
            left, right = fitted(site.op, [literal(arg) for arg in site.operands])
            return ast.BinOp(left, ast.Mult(), right)
        return site.helper(make(a.ndim, b.ndim, (a.dtype, b.dtype)), *site.operands)

    return writer


def _outer(site: Site) -> ast.expr | None:
    a, b = site.kinds
    if a.ndim and b.ndim and a.dtype == b.dtype:
        return None
    return site.helper(numba_text.outer(a.ndim, b.ndim, site.dtype), *site.operands)


def _trace(site: Site) -> ast.expr | None:
    rank = site.kinds[0].ndim
    offset, one, other = (site.static(k, d) for k, d in (("offset", 0), ("axis1", 0), ("axis2", 1)))
    return site.helper(numba_text.trace(rank, offset, one, other, site.dtype), site.operands[0])


def _where(site: Site) -> ast.expr | None:
    ranks = tuple(kind.ndim for kind in site.kinds)
    if site.dtype == "float64" and all(kind.dtype == "float64" for kind in site.kinds[1:]):
        return None
    return site.helper(numba_text.where(ranks, site.dtype), *site.operands)  # type: ignore[arg-type]


def _scalar_function(text: str) -> Writer:
    def writer(site: Site) -> ast.expr | None:
        ranks = [kind.ndim for kind in site.kinds]
        helper = numba_text.elementwise(text, ranks, site.dtype)
        return site.helper(helper, *fitted(site.op, [literal(arg) for arg in site.operands]))

    return writer


def _floor_divide(site: Site) -> ast.expr | None:
    if not any(kind.ndim for kind in site.kinds) or not site.dtype.startswith("float"):
        return write(site.op, fitted(site.op, [literal(arg) for arg in site.operands]))
    return _scalar_function("floor_divide")(site)


def _absolute(site: Site) -> ast.expr | None:
    return call(dotted("np.abs"), [literal(site.operands[0])], {})


def _axes_helper(make: Callable[..., numba_text.Helper]) -> Writer:
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


def _reshape(site: Site) -> ast.expr | None:
    shape = site.arguments["shape"]
    shape = shape if isinstance(shape, tuple | list | ast.expr) else (shape,)
    shape = tuple(shape) if isinstance(shape, list) else shape
    if site.kinds[0].ndim == 0:
        return call(dotted("np.full"), [literal(shape), literal(site.operands[0])], {})
    return site.helper(numba_text.reshape(site.kinds[0].ndim), site.operands[0], shape)


def _broadcast_to(site: Site) -> ast.expr | None:
    shape = site.arguments["shape"]
    if isinstance(shape, tuple | list | ast.expr):
        return None
    return call(dotted("np.broadcast_to"), [literal(site.operands[0]), literal((shape,))], {})


def _getitem(site: Site) -> ast.expr | None:
    plan = indexed(site.arguments["index"], site.types["index"], site.kinds[0].ndim)
    if plan is None:
        return None
    base = literal(site.operands[0])
    view = subscript(base, plan.view) if plan.view is not None else base
    return site.helper(numba_text.gather(plan.pattern), view, *plan.entries)


def _sequence(site: Site) -> ast.expr | None:
    """concatenate and stack take tuples, of one dtype."""
    items, kinds = site.operands[0], site.kinds[0]
    if not isinstance(items, tuple | list):
        raise unsupported(site.op)
    if any(isinstance(kind, tuple | list) for kind in kinds):
        raise unsupported(site.op)
    axis = site.static("axis", 0)
    if axis is None:
        return site.helper(numba_text.concatenate_flat([k.ndim for k in kinds]), *items)
    nodes = [fit(literal(item), kind, site.dtype) for item, kind in zip(items, kinds, strict=True)]
    axis = normalize_axes(axis, site.op.result.type.ndim)[0]
    keywords = {"axis": literal(axis)} if axis else {}
    return call(dotted(site.op.primitive.text), [ast.Tuple(nodes, ast.Load())], keywords)


def _norm(site: Site) -> ast.expr | None:
    kind, order, axis = site.kinds[0], site.static("ord"), site.static("axis")
    if kind.ndim == 0:
        return _of_number(site, "norm")
    axes = None if axis is None else normalize_axes(axis, kind.ndim)
    if order == "fro" or (order is None and axis is None):
        order = 2
    elif (kind.ndim if axes is None else len(axes)) != 1:
        raise unsupported(site.op)
    helper = numba_text.norm_axes(
        kind.ndim, axes, site.static("keepdims", False), 2 if order is None else order, site.dtype
    )
    return site.helper(helper, site.operands[0])


def _cumulative(kind: str) -> Writer:
    def writer(site: Site) -> ast.expr | None:
        rank, axis = site.kinds[0].ndim, site.static("axis")
        if rank == 0:
            return site.helper(numba_text.stacked_scalars(1, site.dtype), site.operands[0])
        axis = None if axis is None else normalize_axes(axis, rank)[0]
        helper = numba_text.cumulative(kind, rank, axis, site.dtype)
        return site.helper(helper, site.operands[0])

    return writer


def _triangle(kind: str) -> Writer:
    def writer(site: Site) -> ast.expr | None:
        helper = numba_text.triangle(kind, site.kinds[0].ndim)
        return site.helper(helper, site.operands[0], site.arguments.get("k", 0))

    return writer


def _diag(site: Site) -> ast.expr | None:
    helper = numba_text.diag(site.kinds[0].ndim)
    return site.helper(helper, site.operands[0], site.arguments.get("k", 0))


def _diagonal(site: Site) -> ast.expr | None:
    one, other = site.static("axis1", 0), site.static("axis2", 1)
    helper = numba_text.diagonal(site.kinds[0].ndim, one, other)
    return site.helper(helper, site.operands[0], site.arguments.get("offset", 0))


def _tile(site: Site) -> ast.expr | None:
    reps = site.arguments["reps"]
    reps = tuple(reps) if isinstance(reps, tuple | list) else (reps,)
    if site.kinds[0].ndim == 0:
        return call(dotted("np.full"), [literal(reps), literal(site.operands[0])], {})
    return site.helper(numba_text.tile(site.kinds[0].ndim, len(reps)), site.operands[0], reps)


def _repeat(site: Site) -> ast.expr | None:
    rank, axis = site.kinds[0].ndim, site.static("axis")
    if rank == 0:
        count = (site.arguments["repeats"],)
        return call(dotted("np.full"), [literal(count), literal(site.operands[0])], {})
    axis = None if axis is None else normalize_axes(axis, rank)[0]
    each = isinstance(site.types["repeats"], tuple | list) or getattr(site.types["repeats"], "ndim", 0) > 0
    repeats = site.arguments["repeats"]
    repeats = call(dotted("np.array"), [literal(list(repeats))], {}) if isinstance(repeats, tuple | list) else repeats
    return site.helper(numba_text.repeat(rank, axis, each), site.operands[0], repeats)


def _roll(site: Site) -> ast.expr | None:
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


def _pad(site: Site) -> ast.expr | None:
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


def _array(site: Site) -> ast.expr | None:
    """np.array of one array is a copy; of numbers, and of arrays of one shape, a stack."""
    items, kinds = site.operands[0], site.kinds[0]
    if not isinstance(items, tuple | list):
        node = literal(items)
        if kinds.dtype != site.dtype:
            return call(ast.Attribute(node, "astype", ast.Load()), [dotted(f"np.{site.dtype}")], {})
        return call(ast.Attribute(node, "copy", ast.Load()), [], {})
    if all(getattr(kind, "ndim", None) == 0 for kind in kinds):
        return site.helper(numba_text.stacked_scalars(len(items), site.dtype), *items)
    if any(isinstance(kind, tuple | list) for kind in kinds):
        raise unsupported(site.op)
    nodes = [fit(literal(item), kind, site.dtype) for item, kind in zip(items, kinds, strict=True)]
    return call(dotted("np.stack"), [ast.Tuple(nodes, ast.Load())], {})


def _created(site: Site) -> ast.expr | None:
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


def _eye(site: Site) -> ast.expr | None:
    rows = site.arguments["N"]
    columns = site.arguments.get("M")
    k, dtype = site.arguments.get("k", 0), dotted(f"np.{site.dtype}")
    args = [literal(arg) for arg in (rows, rows if columns is None else columns, k)]
    return call(dotted("np.eye"), [*args, dtype], {})


def _linspace(site: Site) -> ast.expr | None:
    start, stop = site.operands
    helper = numba_text.linspace(bool(site.static("endpoint", True)), site.dtype)
    return site.helper(helper, start, stop, site.arguments.get("num", 50))


def _einsum(site: Site) -> ast.expr | None:
    """The explicit subscripts without an Ellipsis are a loop nest; `units` are axes of length 1."""
    subscripts = site.op.arguments["subscripts"]
    if "." in subscripts or "->" not in subscripts:
        raise unsupported(site.op)
    operands = site.arguments.get("operands", [site.arguments.get("x")])
    kinds = site.types.get("operands", [site.types.get("x")])
    terms = subscripts.replace(" ", "").split("->")[0].split(",")
    long = {c for t, kind in zip(terms, kinds, strict=True) for c, n in zip(t, kind.shape, strict=True) if n != 1}
    units = tuple(
        tuple(k for k, (c, n) in enumerate(zip(t, kind.shape, strict=True)) if n == 1 and c in long)
        for t, kind in zip(terms, kinds, strict=True)
    )
    helper = numba_text.einsum(subscripts, [k.dtype for k in kinds], units)
    return site.helper(helper, *operands)


def _tensordot(site: Site) -> ast.expr | None:
    a, b = site.kinds
    axes = site.static("axes", 2)
    if isinstance(axes, int):
        pairs = tuple(range(a.ndim - axes, a.ndim)), tuple(range(axes))
    else:
        left, right = [(one,) if isinstance(one, int) else tuple(one) for one in axes]
        pairs = tuple(k % a.ndim for k in left), tuple(k % b.ndim for k in right)
    helper = numba_text.tensordot(a.ndim, b.ndim, pairs, (a.dtype, b.dtype))
    return site.helper(helper, *site.operands)


def _vdot(site: Site) -> ast.expr | None:
    flat = [
        numba_text.reshape(kind.ndim) if kind.ndim else numba_text.stacked_scalars(1, kind.dtype)
        for kind in site.kinds
    ]
    a, b = [
        site.helper(helper, item, (-1,)) if kind.ndim else site.helper(helper, item)
        for helper, item, kind in zip(flat, site.operands, site.kinds, strict=True)
    ]
    dtypes = (site.kinds[0].dtype, site.kinds[1].dtype)
    return site.helper(numba_text.matmul(1, 1, dtypes), a, b)


def _product_of_others(site: Site) -> ast.expr | None:
    kind, axis = site.kinds[0], site.static("axis")
    if kind.ndim == 0:
        return call(dotted(f"np.{kind.dtype}"), [literal(1.0)], {})
    axes = None if axis is None else normalize_axes(axis, kind.ndim)
    return site.helper(numba_text.product_of_others(kind.ndim, axes), site.operands[0])


def _matrices(site: Site) -> ast.expr | None:
    """LAPACK calls take matrices of one floating dtype."""
    kinds = site.kinds
    if kinds[0].ndim != 2 or any(kind.ndim > 2 for kind in kinds[1:]):
        raise unsupported(site.op)
    nodes = [literal(item) for item in site.operands]
    nodes = [fit(node, kind, site.dtype) for node, kind in zip(nodes, kinds, strict=True)]
    # LAPACK wants contiguous memory; Numba copies where it must, and warns.
    return call(dotted(site.op.primitive.text), nodes, {})


def _sort(site: Site) -> ast.expr | None:
    if site.kinds[0].ndim != 1 or site.static("kind") is not None:
        raise unsupported(site.op)
    return call(dotted("np.sort"), [literal(site.operands[0])], {})


def _clip(site: Site) -> ast.expr | None:
    """np.minimum(np.maximum(x, low), high), as Numba's np.clip takes no numbers."""
    nodes = dict(zip(_operand_keys(site), fitted(site.op, _flat(site)), strict=True))
    keys = list(nodes)
    node = nodes[keys[0]]
    for key in keys[1:]:
        function = "np.maximum" if key in ("a_min", "min", "low") else "np.minimum"
        node = call(dotted(function), [node, nodes[key]], {})
    return node


def _operand_keys(site: Site) -> list[str]:
    return [
        key for key in site.op.primitive.operand_names if isinstance(site.op.arguments.get(key), Slot)
    ]


def _flat(site: Site) -> list[ast.expr]:
    return [literal(site.arguments[key]) for key in _operand_keys(site)]


def _astype(site: Site) -> ast.expr | None:
    kind = dotted("np.bool_" if site.dtype == "bool" else f"np.{site.dtype}")
    if site.kinds[0].ndim == 0:
        return call(kind, [literal(site.operands[0])], {})
    return call(ast.Attribute(literal(site.operands[0]), "astype", ast.Load()), [kind], {})


WRITERS: dict[str, Writer] = {
    "sum": _reduction(numba_text.sum_axes, "sum"),
    "mean": _reduction(numba_text.mean_axes, "mean"),
    "prod": _reduction(numba_text.prod_axes, "prod"),
    "max": _reduction(numba_text.max_axes, "max"),
    "min": _reduction(numba_text.min_axes, "min"),
    "ptp": _reduction(numba_text.ptp_axes, "ptp"),
    "var": _reduction(numba_text.var_axes, "var"),
    "std": _reduction(numba_text.std_axes, "std"),
    "any": _reduction(numba_text.any_axes, "any"),
    "all": _reduction(numba_text.all_axes, "all"),
    "norm": _norm,
    "cumsum": _cumulative("sum"),
    "cumprod": _cumulative("prod"),
    "matmul": _matmul,
    "dot": _pair(numba_text.dot),
    "inner": _pair(numba_text.inner),
    "outer": _outer,
    "trace": _trace,
    "einsum": _einsum,
    "tensordot": _tensordot,
    "vdot": _vdot,
    "product_of_others": _product_of_others,
    "sort": _sort,
    **dict.fromkeys(("inv", "solve", "det", "cholesky"), _matrices),
    "where": _where,
    "clip": _clip,
    "floordiv": _floor_divide,
    "floor_divide": _floor_divide,
    "abs": _absolute,
    "expand_dims": _axes_helper(numba_text.expand_dims),
    "squeeze": _axes_helper(numba_text.squeeze),
    "flip": _axes_helper(numba_text.flip),
    "reshape": _reshape,
    "broadcast_to": _broadcast_to,
    "getitem": _getitem,
    "concatenate": _sequence,
    "stack": _sequence,
    "array": _array,
    "triu": _triangle("triu"),
    "tril": _triangle("tril"),
    "diag": _diag,
    "diagonal": _diagonal,
    "tile": _tile,
    "repeat": _repeat,
    "roll": _roll,
    "pad": _pad,
    "eye": _eye,
    "linspace": _linspace,
    "astype": _astype,
    **dict.fromkeys(
        ("zeros", "ones", "empty", "full", "zeros_like", "ones_like", "empty_like", "full_like",
         "identity_matrix", "arange"),
        _created,
    ),
}  # fmt: skip
PLAIN: frozenset[str] = frozenset(
    """
    transpose swapaxes moveaxis ravel flatten copy argmax argmin argsort identity dim size float
    int bool float32 float64 ascontiguousarray round
    """.split()  # noqa: SIM905
)
"""Functions that are no elementwise ones and can be written as for NumPy."""
