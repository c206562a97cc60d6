"""Elementary functions inside loops over elements.

    np.exp(x_i)      ->      exp_f64(x_i)

`np.exp` of a number is a call of libm, which keeps the loop around it scalar. The functions of
`flatgrad.vector_math` have no branches, so LLVM takes several elements at a time.
"""

from __future__ import annotations

import ast

from flatgrad.codegen.expressions import call, name
from flatgrad.codegen.numba_site import Site, fitted
from flatgrad.vector_math import DECORATOR, FUNCTIONS, numba_name, numba_sources

USED = frozenset(FUNCTIONS) - {"pow"}
"""All but powers: most exponents are known."""


def vector_call(site: Site, helpers: dict[str, str]) -> ast.expr | None:
    """The call of a function that vectorises, whose text goes to `helpers`; None if there is none.

    Its operands must have the dtype of the result.
    """
    key = site.op.primitive.name
    kinds = {operand.type.dtype for operand in site.op.operands}
    if any(operand.type.ndim for operand in site.op.operands):
        return None
    if key not in USED or kinds != {site.dtype} or site.dtype not in ("float64", "float32"):
        return None
    for title, text in numba_sources(key, site.dtype).items():
        helpers.setdefault(title, f"{DECORATOR}\n{text}" if text.startswith("def ") else text)
    return call(name(numba_name(key, site.dtype)), fitted(site.op, site.operands), {})
