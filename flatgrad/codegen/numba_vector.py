"""Elementary functions inside loops over elements.

    np.exp(x_i)      ->      exp_f64(x_i)

`np.exp` of a number is a call of libm, which keeps the loop around it scalar. Where `SOURCES` has a
text for a function, it is printed into the module and called instead. Nothing is registered by
default: `register(sources, names)` is where a set of such functions is put in.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable

from flatgrad.codegen.expressions import call, name
from flatgrad.codegen.numba_site import Site, fitted

SUFFIXES = {"float64": "f64", "float32": "f32"}

Sources = Callable[[str, str], dict[str, str]]
"""The texts for a function and a dtype, by name, each with its decorator; what it calls first."""

SOURCES: dict[str, Sources] = {}


def register(sources: Sources, names: Iterable[str]) -> None:
    """Use `sources(name, dtype)` for these functions; `exp` is then `exp_f64` or `exp_f32`."""
    for one in names:
        SOURCES[one] = sources


def vector_call(site: Site, helpers: dict[str, str]) -> ast.expr | None:
    """The call of a function that vectorises, whose text goes to `helpers`; None if there is none.

    Its operands must have the dtype of the result.
    """
    key = site.op.primitive.name
    kinds = [operand.type.dtype for operand in site.op.operands]
    if key not in SOURCES or site.dtype not in SUFFIXES or set(kinds) != {site.dtype}:
        return None
    for title, text in SOURCES[key](key, site.dtype).items():
        helpers.setdefault(title, text)
    args = fitted(site.op, site.operands)
    return call(name(f"{key}_{SUFFIXES[site.dtype]}"), args, {})
