"""Elementary functions inside loops over elements.

    np.exp(x_i)      ->      exp_f64(x_i)

`np.exp` of a number is a call of libm, which keeps the loop around it scalar. The functions of
`flatgrad.vector_math` have no branches, so LLVM takes several elements at a time.
"""

from __future__ import annotations

import ast

from flatgrad.codegen.expressions import call, dotted, name
from flatgrad.codegen.numba_site import Site, fitted
from flatgrad.vector_math import DECORATOR, FUNCTIONS, numba_name, numba_sources

USED = frozenset(FUNCTIONS) - {"pow"}
"""All but powers: most exponents are known."""
NAMESAKES = {"lgamma": "gammaln"}
"""What `math` calls them."""


def vector_call(site: Site, helpers: dict[str, str]) -> ast.expr | None:
    """The call of a function that vectorises, whose text goes to `helpers`; None if there is none.

    Its operands must have the dtype of the result; ints that have 64 bits are converted to float64.
    """
    key = NAMESAKES.get(site.op.primitive.name, site.op.primitive.name)
    kinds = {operand.type.dtype for operand in site.op.operands}
    if any(operand.type.ndim for operand in site.op.operands):
        return None
    if key not in USED or site.dtype not in ("float64", "float32"):
        return None
    whole = {"int64"} if site.dtype == "float64" else set()
    if not kinds <= {site.dtype} | whole:
        return None
    for title, text in numba_sources(key, site.dtype).items():
        helpers.setdefault(title, f"{DECORATOR}\n{text}" if text.startswith("def ") else text)
    nodes = [
        call(dotted("np.float64"), [node], {}) if operand.type.dtype == "int64" else node
        for node, operand in zip(fitted(site.op, site.operands), site.op.operands, strict=True)
    ]
    return call(name(numba_name(key, site.dtype)), nodes, {})
