"""What is written for elementwise functions on Numba, where plain text will not do.

    np.round(x, 1)      np.rint(x * 10.0) / 10.0        np.cbrt(x)      cbrt_2d(x)
"""

from __future__ import annotations

import ast

import numpy as np

from flatgrad.codegen import numba_helpers as numba_text
from flatgrad.codegen.expressions import call, dotted, literal, name, write
from flatgrad.codegen.numba_site import Site, Writer, fit, fitted, unsupported
from flatgrad.ir.ops import Slot
from flatgrad.ir.types import Scalar

FLOATS = {"float64", "float32"}


def _where(site: Site) -> ast.expr | None:
    ranks = tuple(kind.ndim for kind in site.kinds)
    kinds = {site.dtype, *[kind.dtype for kind in site.kinds[1:]]}
    if any(ranks) and kinds == {"float64"}:  # of numbers, Numba's own makes an array without axes
        return None
    if not any(ranks) and site.dialect.in_nest and len(kinds) == 1 and kinds <= FLOATS:
        condition, one, other = map(literal, site.operands)
        return ast.IfExp(condition, one, other)
    return site.helper(numba_text.where(ranks, site.dtype), *site.operands)


def _scalar_function(text: str) -> Writer:
    def writer(site: Site) -> ast.expr | None:
        ranks = [kind.ndim for kind in site.kinds]
        helper = numba_text.elementwise(text, ranks, site.dtype)
        return site.helper(helper, *fitted(site.op, [literal(arg) for arg in site.operands]))

    return writer


def _special(text: str) -> Writer:
    """A function of `scipy.special`; its namesake in `math` stands as it is."""
    write_special = _scalar_function(text)
    return lambda site: None if site.op.primitive.text.startswith("math.") else write_special(site)


def _rounded(site: Site) -> ast.expr:
    """np.round, which Numba has for numbers alone; as NumPy it scales, rounds and scales back."""
    x, own = literal(site.operands[0]), site.static("ndigits")
    if site.op.primitive.text == "round":  # Python's own, of a number
        return call(name("round"), [x] if own is None else [x, literal(own)], {})
    digits = site.static("decimals", 0)
    if not site.dtype.startswith("float"):
        raise unsupported(site.op)
    if not digits:
        return call(dotted("np.rint"), [x], {})
    scale = fit(literal(10.0 ** abs(digits)), Scalar("float64", weak=True), site.dtype)
    steps = (ast.Mult(), ast.Div()) if digits > 0 else (ast.Div(), ast.Mult())
    rounded = call(dotted("np.rint"), [ast.BinOp(x, steps[0], scale)], {})
    return ast.BinOp(rounded, steps[1], scale)


def _nan_to_num(site: Site) -> ast.expr:
    kind = site.kinds[0]
    if not site.dtype.startswith("float"):
        raise unsupported(site.op)
    info = np.finfo(site.dtype)
    high, low = site.static("posinf"), site.static("neginf")
    numbers = (
        site.static("nan", 0.0),
        float(info.max) if high is None else high,
        float(info.min) if low is None else low,
    )
    helper = numba_text.elementwise("nan_to_num", (kind.ndim, 0, 0, 0), site.dtype)
    return site.helper(helper, site.operands[0], *numbers)


def _floor_divide(site: Site) -> ast.expr | None:
    if not any(kind.ndim for kind in site.kinds) or not site.dtype.startswith("float"):
        return write(site.op, fitted(site.op, [literal(arg) for arg in site.operands]))
    return _scalar_function("floor_divide")(site)


def _absolute(site: Site) -> ast.expr | None:
    return call(dotted("np.abs"), [literal(site.operands[0])], {})


def operand_keys(site: Site) -> list[str]:
    """The names of the operands that are given."""
    arguments = site.op.arguments
    return [key for key in site.op.primitive.operand_names if isinstance(arguments.get(key), Slot)]


def flat_operands(site: Site) -> list[ast.expr]:
    return [literal(site.arguments[key]) for key in operand_keys(site)]


def _clip(site: Site) -> ast.expr | None:
    """np.minimum(np.maximum(x, low), high), as Numba's np.clip takes no numbers."""
    nodes = dict(zip(operand_keys(site), fitted(site.op, flat_operands(site)), strict=True))
    keys = list(nodes)
    node = nodes[keys[0]]
    for key in keys[1:]:
        function = "np.maximum" if key in ("a_min", "min", "low") else "np.minimum"
        node = call(dotted(function), [node, nodes[key]], {})
    return node


ELEMENTWISE: dict[str, Writer] = {
    "where": _where,
    "clip": _clip,
    "nan_to_num": _nan_to_num,
    "round": _rounded,
    "around": _rounded,
    "cbrt": _scalar_function("cbrt"),
    "erf": _special("erf"),
    "erfc": _special("erfc"),
    "gamma": _special("gamma"),
    "gammaln": _special("gammaln"),
    "psi": _special("psi"),
    "fmod": _scalar_function("fmod"),
    "heaviside": _scalar_function("heaviside"),
    "floordiv": _floor_divide,
    "floor_divide": _floor_divide,
    "abs": _absolute,
    "zeta": _scalar_function("zeta"),
}
