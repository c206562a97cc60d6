"""Reductions over any axes, and running sums.

    sum_axes(2, axes=1)
        def sum_axis1_2d(x):
            out = np.empty((x.shape[0],), np.float64)
            for i in range(x.shape[0]):
                acc = 0.0
                for j in range(x.shape[1]):
                    acc += x[i, j]
                out[i] = acc
            return out

Floats are accumulated in float64 and rounded once at the end; `dtype` is that of the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flatgrad.codegen.numba_helpers.text import (
    INDICES,
    NUMPY_DTYPES,
    SUFFIXES,
    Axes,
    Helper,
    at,
    axes_name,
    cast,
    define,
    loops,
    nest,
    normal_axes,
    number_name,
    product_text,
    shape_of,
    tuple_text,
)


@dataclass(frozen=True, slots=True)
class _Kind:
    """How to reduce: `{acc}`, `{x}` and `{center}` (per position) are filled in.

    `center` is a helper whose result, one number per position, each element is compared with.
    """

    name: str
    start: str
    step: tuple[str, ...]
    finish: str = "{acc}"
    center: Helper | None = None
    nonempty: bool = False


def _reduction(kind: _Kind, rank: int, axes: Axes, keepdims: bool, dtype: str) -> Helper:
    which = normal_axes(axes, rank)
    kept = [axis for axis in range(rank) if axis not in which]
    name = reduction_name(kind.name, rank, which, keepdims, dtype)
    count = product_text(shape_of("x", which))
    body: list[str] = []
    if "count" in kind.finish or kind.nonempty:
        body.append(f"count = {count}")
    if kind.nonempty:
        body += [
            "if count == 0:",
            f'    raise ValueError("zero-size array to reduction operation {kind.name}")',
        ]
    if kind.center:
        body.append(f"center = {kind.center.name}(x)")
    trailing = not kept or which == tuple(range(len(kept), rank))
    write = _inner_loop if trailing else _outer_loop
    body += write(kind, rank, which, keepdims, dtype)
    over = f"axes {tuple_text([*map(str, which)])}" if kept else "all axes"
    summary = f"{kind.name} over {over}"
    return define(name, "x", summary, body, (kind.center,) if kind.center else ())


def reduction_name(
    kind: str, rank: int, axes: Sequence[int], keepdims: bool, dtype: str = "float64"
) -> str:
    """`sum_axis0_2d_keepdims_f32`."""
    kept = "_keepdims" if keepdims else ""
    return f"{kind}_{axes_name(axes, rank)}_{rank}d{kept}{SUFFIXES[dtype]}"


def _places(
    rank: int, axes: Sequence[int], keepdims: bool
) -> tuple[list[str], list[str], list[str]]:
    """The result's lengths, an element's place in it, and its place with all axes kept."""
    kept = [axis for axis in range(rank) if axis not in axes or keepdims]
    lengths = ["1" if axis in axes else f"x.shape[{axis}]" for axis in kept]
    full = ["0" if axis in axes else INDICES[axis] for axis in range(rank)]
    return lengths, [full[axis] for axis in kept], full


def _filled(kind: _Kind, acc: str, x: str, center: str) -> list[str]:
    return [line.format(acc=acc, x=x, center=center) for line in kind.step]


def _inner_loop(
    kind: _Kind, rank: int, axes: Sequence[int], keepdims: bool, dtype: str
) -> list[str]:
    """The last axes are reduced: one accumulator for each element of the result."""
    lengths, place, full = _places(rank, axes, keepdims)
    free = rank - len(axes)
    center = at("center", full) if free else "center"
    inner = nest(
        [(INDICES[axis], f"x.shape[{axis}]") for axis in axes],
        _filled(kind, "acc", at("x", INDICES[:rank]), center),
    )
    finish = kind.finish.format(acc="acc", center=center)
    if not lengths:
        return [f"acc = {kind.start}", *inner, f"return {cast(dtype, finish)}"]
    inner = [f"acc = {kind.start}", *inner, f"{at('out', place)} = {finish}"]
    return [
        f"out = np.empty({tuple_text(lengths)}, {NUMPY_DTYPES[dtype]})",
        *loops(INDICES[:free], "x", inner),
        "return out",
    ]


def _outer_loop(
    kind: _Kind, rank: int, axes: Sequence[int], keepdims: bool, dtype: str
) -> list[str]:
    """An earlier axis is reduced: accumulate in the result, walking `x` in memory order."""
    lengths, place, full = _places(rank, axes, keepdims)
    wide = "float64" if dtype == "float32" else dtype
    step = _filled(kind, at("out", place), at("x", INDICES[:rank]), at("center", full))
    center = "center" if keepdims else "center.reshape(out.shape)"
    finish = kind.finish.format(acc="out", center=center)
    if dtype == "float32":
        finish = f"({finish}).astype(np.float32)" if finish != "out" else "out.astype(np.float32)"
    return [
        f"out = np.full({tuple_text(lengths)}, {kind.start}, {NUMPY_DTYPES[wide]})",
        *loops(INDICES[:rank], "x", step),
        f"return {finish}",
    ]


def sum_axes(
    rank: int, axes: Axes = None, keepdims: bool = False, dtype: str = "float64"
) -> Helper:
    """np.sum; for a count of booleans `dtype="int64"`."""
    start = "0" if dtype == "int64" else "0.0"
    return _reduction(_Kind("sum", start, ("{acc} += {x}",)), rank, axes, keepdims, dtype)


def mean_axes(
    rank: int, axes: Axes = None, keepdims: bool = False, dtype: str = "float64"
) -> Helper:
    """np.mean."""
    kind = _Kind("mean", "0.0", ("{acc} += {x}",), "{acc} / count")
    return _reduction(kind, rank, axes, keepdims, dtype)


def prod_axes(
    rank: int, axes: Axes = None, keepdims: bool = False, dtype: str = "float64"
) -> Helper:
    """np.prod."""
    start = "1" if dtype == "int64" else "1.0"
    return _reduction(_Kind("prod", start, ("{acc} *= {x}",)), rank, axes, keepdims, dtype)


def _extreme(name: str, sign: str, rank: int, axes: Axes, keepdims: bool, dtype: str) -> Helper:
    low = name == "max"
    start = "-np.inf" if low else "np.inf"
    if dtype == "int64":
        start = f"np.iinfo(np.int64).{'min' if low else 'max'}"
    # `value != value` lets a NaN in; no comparison takes it out again.
    step = ("value = {x}", f"if value {sign} {{acc}} or value != value:", "    {acc} = value")
    return _reduction(_Kind(name, start, step, nonempty=True), rank, axes, keepdims, dtype)


def max_axes(
    rank: int, axes: Axes = None, keepdims: bool = False, dtype: str = "float64"
) -> Helper:
    """np.max; a NaN wins, as in NumPy."""
    return _extreme("max", ">", rank, axes, keepdims, dtype)


def min_axes(
    rank: int, axes: Axes = None, keepdims: bool = False, dtype: str = "float64"
) -> Helper:
    """np.min; a NaN wins, as in NumPy."""
    return _extreme("min", "<", rank, axes, keepdims, dtype)


def any_axes(rank: int, axes: Axes = None, keepdims: bool = False) -> Helper:
    """np.any."""
    kind = _Kind("any", "False", ("if {x}:", "    {acc} = True"))
    return _reduction(kind, rank, axes, keepdims, "bool")


def all_axes(rank: int, axes: Axes = None, keepdims: bool = False) -> Helper:
    """np.all."""
    kind = _Kind("all", "True", ("if not {x}:", "    {acc} = False"))
    return _reduction(kind, rank, axes, keepdims, "bool")


def ptp_axes(
    rank: int, axes: Axes = None, keepdims: bool = False, dtype: str = "float64"
) -> Helper:
    """np.ptp."""
    high = max_axes(rank, axes, keepdims, dtype)
    low = min_axes(rank, axes, keepdims, dtype)
    name = reduction_name("ptp", rank, normal_axes(axes, rank), keepdims, dtype)
    body = [f"return {high.name}(x) - {low.name}(x)"]
    return define(name, "x", "largest minus smallest", body, (high, low))


def _keeping(rank: int, axes: Axes) -> bool:
    return len(normal_axes(axes, rank)) < rank


def _spread(
    name: str, finish: str, rank: int, axes: Axes, keepdims: bool, ddof: float, dtype: str
) -> Helper:
    center = mean_axes(rank, axes, keepdims=_keeping(rank, axes))
    step = ("deviation = {x} - {center}", "{acc} += deviation * deviation")
    divisor = f"max(count - {ddof:g}, 0)" if ddof else "count"
    full_name = f"{name}_ddof{number_name(ddof)}" if ddof else name
    kind = _Kind(full_name, "0.0", step, finish.format(f"{{acc}} / {divisor}"), center)
    return _reduction(kind, rank, axes, keepdims, dtype)


def var_axes(
    rank: int,
    axes: Axes = None,
    keepdims: bool = False,
    ddof: float = 0,
    dtype: str = "float64",
) -> Helper:
    """np.var, in two passes."""
    return _spread("var", "{}", rank, axes, keepdims, ddof, dtype)


def std_axes(
    rank: int,
    axes: Axes = None,
    keepdims: bool = False,
    ddof: float = 0,
    dtype: str = "float64",
) -> Helper:
    """np.std, in two passes."""
    return _spread("std", "np.sqrt({})", rank, axes, keepdims, ddof, dtype)


_INFINITY = float("inf")


def norm_axes(
    rank: int,
    axes: Axes = None,
    keepdims: bool = False,
    order: float = 2,
    dtype: str = "float64",
) -> Helper:
    """np.linalg.norm of vectors, `order` as there; over several axes (Frobenius) only order 2.

    Raises
    ------
    ValueError
        If `order` is a matrix norm other than Frobenius.
    """
    if order != 2 and len(normal_axes(axes, rank)) > 1:
        raise ValueError(f"matrix norm of order {order}")
    size, power = "abs({x})", f"{order:.17g}"
    name = f"norm{number_name(order)}"
    if order == 2:
        kind = _Kind("norm", "0.0", ("{acc} += {x} * {x}",), "np.sqrt({acc})")
    elif order == 1:
        kind = _Kind(name, "0.0", (f"{{acc}} += {size}",))
    elif order == 0:
        kind = _Kind(name, "0.0", ("if {x} != 0:", "    {acc} += 1.0"))
    elif abs(order) == _INFINITY:
        sign, start = (">", "-np.inf") if order > 0 else ("<", "np.inf")
        step = (f"size = {size}", f"if size {sign} {{acc}} or size != size:", "    {acc} = size")
        kind = _Kind(name, start, step, nonempty=True)
    else:
        kind = _Kind(name, "0.0", (f"{{acc}} += {size} ** {power}",), f"{{acc}} ** (1 / {power})")
    return _reduction(kind, rank, axes, keepdims, dtype)


def logsumexp_axes(
    rank: int, axes: Axes = None, keepdims: bool = False, dtype: str = "float64"
) -> Helper:
    """scipy.special.logsumexp: no overflow, -inf and inf as there."""
    center = max_axes(rank, axes, keepdims=_keeping(rank, axes))
    # The largest itself counts 1, an infinity too, whose difference with itself is NaN.
    step = ("{acc} += 1.0 if {x} == {center} else math.exp({x} - {center})",)
    finish = "np.log({acc}) + {center}"
    kind = _Kind("logsumexp", "0.0", step, finish, center)
    return _reduction(kind, rank, axes, keepdims, dtype)


def average_axes(
    rank: int,
    axes: Axes = None,
    weights_rank: int = 0,
    keepdims: bool = False,
    dtype: str = "float64",
) -> Helper:
    """np.average; weights of x's own rank, or 1-d along a single axis; rank 0 is no weights.

    Raises
    ------
    ValueError
        If weights of this rank do not go with these axes.
    """
    if weights_rank == 0:
        return mean_axes(rank, axes, keepdims, dtype)
    which = normal_axes(axes, rank)
    if weights_rank not in (rank, 1) or (weights_rank < rank and len(which) != 1):
        raise ValueError(f"{weights_rank}-d weights over axes {axes} of {rank}")
    upper = sum_axes(rank, axes, keepdims, dtype)
    if weights_rank == rank:
        lower, spread = upper, "weights"
    else:
        lower = sum_axes(1, dtype=dtype)
        spread = at("weights", [":" if axis in which else "None" for axis in range(rank)])
    name = reduction_name(f"average_{weights_rank}d_weights", rank, which, keepdims, dtype)
    body = [f"return {upper.name}(x * {spread}) / {lower.name}(weights)"]
    return define(name, "x, weights", "weighted mean", body, (upper, lower))


def cumulative(kind: str, rank: int, axis: int | None = None, dtype: str = "float64") -> Helper:
    """np.cumsum (`kind="sum"`) or np.cumprod (`"prod"`); without an axis over the flat array."""
    sign, start = ("+=", "0") if kind == "sum" else ("*=", "1")
    start = start if dtype == "int64" else start + ".0"
    if axis is None and rank > 1:
        inner = cumulative(kind, 1, 0, dtype)
        name = f"cum{kind}_flat_{rank}d{SUFFIXES[dtype]}"
        return define(name, "x", f"running {kind}", [f"return {inner.name}(x.ravel())"], (inner,))
    (along,) = normal_axes(0 if axis is None else axis, rank)
    inside = nest(
        [(INDICES[along], f"x.shape[{along}]")],
        [f"acc {sign} {at('x', INDICES[:rank])}", f"{at('out', INDICES[:rank])} = acc"],
    )
    others = [(INDICES[k], f"x.shape[{k}]") for k in range(rank) if k != along]
    body = [
        f"out = np.empty(x.shape, {NUMPY_DTYPES[dtype]})",
        *nest(others, [f"acc = {start}", *inside]),
        "return out",
    ]
    name = f"cum{kind}_axis{along}_{rank}d{SUFFIXES[dtype]}"
    return define(name, "x", f"running {kind} along axis {along}", body)


def product_of_others(rank: int, axes: Axes = None) -> Helper:
    """For each element the product of the others that np.prod over `axes` takes with it."""
    taken = tuple(normal_axes(axes, rank))
    kept = tuple(axis for axis in range(rank) if axis not in taken)
    order = kept + taken
    inverse = tuple(order.index(axis) for axis in range(rank))
    rows = " * ".join(f"x.shape[{axis}]" for axis in kept) or "1"
    columns = " * ".join(f"x.shape[{axis}]" for axis in taken) or "1"
    body = [
        f"moved = np.ascontiguousarray(np.transpose(x, {order}))",
        f"rows = moved.reshape(({rows}, {columns}))",
        "out = np.empty_like(rows)",
        "for i in range(rows.shape[0]):",
        "    product = 1.0",
        "    for j in range(rows.shape[1]):",
        "        out[i, j] = product",
        "        product *= rows[i, j]",
        "    product = 1.0",
        "    for j in range(rows.shape[1] - 1, -1, -1):",
        "        out[i, j] *= product",
        "        product *= rows[i, j]",
        f"return np.transpose(out.reshape(moved.shape), {inverse})",
    ]
    suffix = "".join(str(axis) for axis in taken)
    return define(f"product_of_others_axis{suffix}_{rank}d", "x", "products without one", body)
