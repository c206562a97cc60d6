"""Text of the functions that Numba lacks or gets wrong, each for given ranks and axes.

    sum_axes(rank=2, axes=0).source
        def sum_axis0_2d(x):
            out = np.full((x.shape[1],), 0.0, np.float64)
            for i in range(x.shape[0]):
                for j in range(x.shape[1]):
                    out[j] += x[i, j]
            return out

A generated module prints the helpers it needs (`in_order`) at its top, under
`@numba.njit(cache=True, error_model="numpy")`; nothing here imports Numba. Helpers keep float32,
take arrays of any memory layout and, but for those called `set_...` and `add_...`, change none.
"""

from flatgrad.codegen.numba_helpers.einsum import einsum
from flatgrad.codegen.numba_helpers.elementwise import (
    PLUS,
    SCALARS,
    elementwise,
    scalar,
    stacked_scalars,
    where,
)
from flatgrad.codegen.numba_helpers.indexing import (
    add_items,
    add_outer,
    add_region,
    gather,
    pattern_rank,
    result_rank,
    set_items,
    set_region,
)
from flatgrad.codegen.numba_helpers.linalg import (
    dot,
    inner,
    matmul,
    matmul_of_ints,
    outer,
    result_dtype,
    tensordot,
    trace,
)
from flatgrad.codegen.numba_helpers.native import native
from flatgrad.codegen.numba_helpers.reductions import (
    all_axes,
    any_axes,
    average_axes,
    cumulative,
    logsumexp_axes,
    max_axes,
    mean_axes,
    min_axes,
    norm_axes,
    prod_axes,
    product_of_others,
    ptp_axes,
    std_axes,
    sum_axes,
    var_axes,
)
from flatgrad.codegen.numba_helpers.shapes import (
    concatenate_flat,
    diag,
    diagonal,
    expand_dims,
    flip,
    linspace,
    pad,
    repeat,
    reshape,
    roll,
    squeeze,
    tile,
    triangle,
)
from flatgrad.codegen.numba_helpers.stacks import add_products, stack_product, stack_times
from flatgrad.codegen.numba_helpers.text import INDICES, Helper, in_order
from flatgrad.codegen.numba_helpers.tiny import has_tiny, is_finite, times_tiny
from flatgrad.codegen.numba_helpers.triangular import (
    TRIANGLES,
    inverse_lower,
    lower_triangle,
    solve_lower,
)

__all__ = [
    "INDICES", "Helper", "in_order", "native",
    "all_axes", "any_axes", "average_axes", "cumulative", "logsumexp_axes", "max_axes", "mean_axes",
    "min_axes", "norm_axes", "prod_axes", "product_of_others", "ptp_axes", "std_axes",
    "sum_axes", "var_axes",
    "dot", "einsum", "inner", "matmul", "matmul_of_ints", "outer", "result_dtype",
    "tensordot", "trace",
    "concatenate_flat", "diag", "diagonal", "expand_dims", "flip", "linspace", "pad", "repeat",
    "reshape", "roll", "squeeze", "tile", "triangle",
    "PLUS", "SCALARS", "elementwise", "scalar", "stacked_scalars", "where",
    "add_items", "add_outer", "add_region", "gather", "pattern_rank", "result_rank", "set_items",
    "set_region",
    "add_products", "stack_product", "stack_times", "has_tiny", "is_finite", "times_tiny",
    "TRIANGLES", "inverse_lower", "lower_triangle", "solve_lower",
]  # fmt: skip
