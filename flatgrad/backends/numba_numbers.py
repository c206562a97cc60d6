"""Short implementations of functions that give numbers.

    min(n, m)    x.view(np.int64)    np.sum(a)    np.mean(a)
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.core import cgutils, types
from numba.core.typing import signature
from numba.np.arrayobj import make_array

from flatgrad.backends.numba_lean import LEAN, Lean


def _sign_of_equals(args: Any, kws: Any) -> Any:
    """`min(n, m)` of ints, or of floats of one type."""
    kinds = [types.unliteral(kind) for kind in args]
    if kws or len(kinds) < 2 or len({*kinds}) > 1:
        return None
    if kinds[0] not in (types.intp, types.float64, types.float32):
        return None
    return signature(kinds[0], *kinds)


def _chosen(comparison: str) -> Any:
    """What writes the choice of the number that is less, or greater, than the others.

    As in Python, one that comes later must be so; no comparison with nan holds.
    """

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        best, *others = args
        is_float = isinstance(sig.return_type, types.Float)
        compare = builder.fcmp_ordered if is_float else builder.icmp_signed
        for other in others:
            better = compare(comparison, other, best)
            best = builder.select(better, other, best)
        return best

    return lower


def _sign_view(args: Any, kws: Any) -> Any:
    """`x.view(np.int64)` of a number."""
    if kws or len(args) != 2 or not isinstance(args[1], types.DTypeSpec):
        return None
    kinds = args[0], args[1].dtype
    if not all(isinstance(kind, types.Float | types.Integer) for kind in kinds):
        return None
    if kinds[0].bitwidth != kinds[1].bitwidth:
        return None
    return signature(kinds[1], *args)


def _view(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    """The same bits as a number of another type."""
    return builder.bitcast(args[0], context.get_value_type(sig.return_type))


def _sign_total(args: Any, kws: Any) -> Any:
    """`np.sum(a)` of float64 without gaps."""
    if kws or len(args) != 1 or type(args[0]) is not types.Array or not args[0].ndim:
        return None
    if args[0].dtype != types.float64 or args[0].layout not in "CF":
        return None
    return signature(types.float64, *args)


def _total(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    """The sum of the elements in the order of memory."""
    array = make_array(sig.args[0])(context, builder, args[0])
    total = cgutils.alloca_once_value(builder, context.get_constant(types.float64, 0.0))
    with cgutils.for_range(builder, array.nitems) as loop:
        item = builder.load(builder.gep(array.data, [loop.index]))
        builder.store(builder.fadd(builder.load(total), item), total)
    return builder.load(total)


def _mean(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    """The sum over the number of elements: nan for none."""
    array = make_array(sig.args[0])(context, builder, args[0])
    total = _total(context, builder, sig, args)
    return builder.fdiv(total, builder.sitofp(array.nitems, total.type))


LEAN.update({
    min: Lean(_sign_of_equals, _chosen("<")),
    max: Lean(_sign_of_equals, _chosen(">")),
    (types.Float, "view"): Lean(_sign_view, _view),
    (types.Integer, "view"): Lean(_sign_view, _view),
    np.sum: Lean(_sign_total, _total),
    np.mean: Lean(_sign_total, _mean),
})  # fmt: skip
