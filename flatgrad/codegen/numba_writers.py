"""What is written for each function on Numba, where plain text will not do.

    WRITERS[np.sum](site)      an expression, or None: the plain text is right
"""

from __future__ import annotations

import ast
from collections.abc import Callable

from flatgrad.codegen import numba_helpers as numba_text
from flatgrad.codegen.expressions import call, dotted, literal, name, subscript
from flatgrad.codegen.numba_elementwise import ELEMENTWISE, flat_operands
from flatgrad.codegen.numba_shapes import (
    array,
    axes_helper,
    broadcast_to,
    created,
    diag,
    diagonal,
    eye,
    getitem,
    linspace,
    pad,
    repeat,
    reshape,
    roll,
    sequence,
    tile,
    triangle,
)
from flatgrad.codegen.numba_site import Site, Writer, fit, fitted, unsupported
from flatgrad.codegen.numpy_dialect import plain_function
from flatgrad.primitives.revolve import revolve_next, revolve_places
from flatgrad.primitives.segments import block_size, segment_size
from flatgrad.primitives.typerules import normalize_axes


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
        left, right = [literal(item) for item in site.operands]
        return ast.BinOp(left, ast.MatMult(), right)
    dtypes = (a.dtype, b.dtype)
    if site.dtype == "int64" and max(a.ndim, b.ndim) <= 2:
        return site.helper(numba_text.matmul_of_ints(a.ndim, b.ndim), *site.operands)
    if site.dtype != numba_text.result_dtype(dtypes):
        raise unsupported(site.op)
    return site.helper(numba_text.matmul(a.ndim, b.ndim, dtypes), *site.operands)


def _stack_product(site: Site) -> ast.expr:
    is_left = site.kinds[0].ndim == 3
    helper = numba_text.stack_times() if is_left else numba_text.stack_product()
    return site.helper(helper, *site.operands)


def _tiny(side: str) -> Writer:
    return lambda site: site.helper(numba_text.times_tiny(side), *site.operands)


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


def _slogdet(part: int) -> Writer:
    """The sign, or the logarithm, of the determinant of one matrix; Numba's is never float32."""

    def writer(site: Site) -> ast.expr:
        found = subscript(_matrices(site), part)
        return call(dotted("np.float32"), [found], {}) if site.dtype == "float32" else found

    return writer


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


def _einsum(site: Site) -> ast.expr | None:
    """The explicit subscripts without an Ellipsis are a loop nest; `units` are axes of length 1."""
    subscripts = site.op.arguments["subscripts"]
    if "." in subscripts or "->" not in subscripts:
        raise unsupported(site.op)
    operands = site.arguments.get("operands", [site.arguments.get("x")])
    kinds = site.types.get("operands", [site.types.get("x")])
    terms = subscripts.replace(" ", "").split("->")[0].split(",")
    sizes = [list(zip(t, kind.shape, strict=True)) for t, kind in zip(terms, kinds, strict=True)]
    long = {letter for term in sizes for letter, n in term if n != 1}
    units = tuple(
        tuple(k for k, (letter, n) in enumerate(term) if n == 1 and letter in long)
        for term in sizes
    )
    products = not site.dialect.options.deterministic
    helper = numba_text.einsum(subscripts, [k.dtype for k in kinds], units, products)
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


def _matrices(site: Site) -> ast.expr:
    """LAPACK calls take matrices of one floating dtype."""
    kinds = site.kinds
    if kinds[0].ndim != 2 or any(kind.ndim > 2 for kind in kinds[1:]):
        raise unsupported(site.op)
    nodes = [literal(item) for item in site.operands]
    nodes = [fit(node, kind, site.dtype) for node, kind in zip(nodes, kinds, strict=True)]
    # LAPACK wants contiguous memory; Numba copies where it must, and warns.
    return call(dotted(site.op.primitive.text), nodes, {})


def _cholesky(site: Site) -> ast.expr | None:
    """LAPACK's comes in Fortran order; all that reads its rows is faster in C order."""
    return call(dotted("np.ascontiguousarray"), [_matrices(site)], {})


def _triangle_of(kind: str) -> Writer:
    """Half, fold or mirror a lower triangle."""

    def writer(site: Site) -> ast.expr | None:
        helper = numba_text.lower_triangle(kind, site.kinds[0].ndim, site.dtype)
        return site.helper(helper, site.operands[0])

    return writer


def _solve_lower(site: Site) -> ast.expr | None:
    nodes = [literal(item) for item in site.operands]
    nodes = [fit(node, kind, site.dtype) for node, kind in zip(nodes, site.kinds, strict=True)]
    helper = numba_text.solve_lower(
        site.kinds[1].ndim, site.static("transposed", False), site.dtype,
        in_order=site.dialect.options.deterministic,
    )  # fmt: skip
    return site.helper(helper, *nodes)


def _inverse_lower(site: Site) -> ast.expr | None:
    return site.helper(numba_text.inverse_lower(site.dtype), site.operands[0])


def _argsort(site: Site) -> ast.expr | None:
    """Numba sorts vectors; its merge sort is the stable one."""
    if site.kinds[0].ndim != 1:
        raise unsupported(site.op)
    keywords: dict[str, ast.expr] = {}
    if site.static("kind") == "stable":
        keywords["kind"] = ast.Constant("mergesort")
    return call(dotted("np.argsort"), [literal(site.operands[0])], keywords)


def _sort(site: Site) -> ast.expr | None:
    if site.kinds[0].ndim != 1 or site.static("kind") is not None:
        raise unsupported(site.op)
    return call(dotted("np.sort"), [literal(site.operands[0])], {})


def _plus(site: Site) -> ast.expr | None:
    if site.dialect.options.deterministic:
        return None
    return site.helper(numba_text.PLUS, *site.operands)


def _astype(site: Site) -> ast.expr | None:
    kind = dotted("np.bool_" if site.dtype == "bool" else f"np.{site.dtype}")
    if site.kinds[0].ndim == 0:
        return call(kind, [literal(site.operands[0])], {})
    return call(ast.Attribute(literal(site.operands[0]), "astype", ast.Load()), [kind], {})


def _own_text(function: Callable[..., object]) -> Writer:
    """A function of flatgrad's whose text is right for Numba, too."""

    def writer(site: Site) -> ast.expr | None:
        text = ast.unparse(plain_function(function)) + "\n"
        return site.helper(numba_text.Helper(function.__name__, text), *flat_operands(site))

    return writer


def _count_nonzero(site: Site) -> ast.expr:
    x, kind = literal(site.operands[0]), site.kinds[0]
    tests = x if kind.dtype == "bool" else ast.Compare(x, [ast.NotEq()], [literal(0)])
    if not kind.ndim:
        return call(name("int"), [tests], {})
    axes, keepdims = site.static("axis"), site.static("keepdims", False)
    if axes is None and not keepdims:
        return call(dotted("np.count_nonzero"), [x], {})
    axes = None if axes is None else normalize_axes(axes, kind.ndim)
    return site.helper(numba_text.sum_axes(kind.ndim, axes, keepdims, "int64"), tests)


WRITERS: dict[str, Writer] = {
    "revolve_next": _own_text(revolve_next),
    "revolve_places": _own_text(revolve_places),
    "segment_size": _own_text(segment_size),
    "block_size": _own_text(block_size),
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
    "count_nonzero": _count_nonzero,
    "norm": _norm,
    "cumsum": _cumulative("sum"),
    "cumprod": _cumulative("prod"),
    "matmul": _matmul,
    "stack_product": _stack_product,
    "tiny_left": _tiny("left"),
    "tiny_right": _tiny("right"),
    "dot": _pair(numba_text.dot),
    "inner": _pair(numba_text.inner),
    "outer": _outer,
    "trace": _trace,
    "einsum": _einsum,
    "tensordot": _tensordot,
    "vdot": _vdot,
    "product_of_others": _product_of_others,
    "sort": _sort,
    "argsort": _argsort,
    **dict.fromkeys(("inv", "solve", "det"), _matrices),
    "cholesky": _cholesky,
    **{kind: _triangle_of(kind) for kind in numba_text.TRIANGLES},
    "solve_lower": _solve_lower,
    "inverse_lower": _inverse_lower,
    **ELEMENTWISE,
    "sign_of_det": _slogdet(0),
    "log_of_det": _slogdet(1),
    "expand_dims": axes_helper(numba_text.expand_dims),
    "squeeze": axes_helper(numba_text.squeeze),
    "flip": axes_helper(numba_text.flip),
    "reshape": reshape,
    "broadcast_to": broadcast_to,
    "getitem": getitem,
    "concatenate": sequence,
    "stack": sequence,
    "array": array,
    "triu": triangle("triu"),
    "tril": triangle("tril"),
    "diag": diag,
    "diagonal": diagonal,
    "tile": tile,
    "repeat": repeat,
    "roll": roll,
    "pad": pad,
    "eye": eye,
    "linspace": linspace,
    "astype": _astype,
    "plus": _plus,
    "smaller": lambda site: call(dotted("min"), list(site.operands), {}),
    **dict.fromkeys(
        ("zeros", "ones", "empty", "full", "zeros_like", "ones_like", "empty_like", "full_like",
         "identity_matrix", "arange"),
        created,
    ),
}  # fmt: skip
PLAIN: frozenset[str] = frozenset(
    """
    transpose swapaxes moveaxis ravel flatten copy argmax argmin identity dim size float
    int bool float32 float64 ascontiguousarray round trips stop_gradient and or not searchsorted
    flatnonzero cross part
    """.split()  # noqa: SIM905
)
"""Functions that are no elementwise ones and can be written as for NumPy."""
