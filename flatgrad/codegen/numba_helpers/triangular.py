"""Lower triangles: halved, folded and mirrored, inverted, solved for vectors and matrices.

    solve_lower(1)
        def solve_lower_1d(a, b):
            x = np.empty(b.size, np.float64)
            for i in range(b.size):
                row, total = a[i], 0.0
                ...
                for k in range(i):
                    total = plus(total, row[k] * x[k])
                x[i] = (b[i] - total) / row[i]
            return x

NumPy's own factorise the matrix once more. Rows of the result are made of those before them, four
at a time, which is what reads the fewest numbers from memory.
"""

from __future__ import annotations

from flatgrad.codegen.numba_helpers.elementwise import PLUS
from flatgrad.codegen.numba_helpers.text import (
    INDICES,
    NUMPY_DTYPES,
    SUFFIXES,
    Helper,
    at,
    define,
    indented,
    loops,
)

TRIANGLES = {
    "half_lower": ("the lower triangle, with half of the diagonal", "{x}", "{x} / 2"),
    "fold_lower": ("x + x.T below the diagonal, x on it", "{x} + {mirrored}", "{x}"),
    "mirror_lower": ("the symmetric matrix with this lower triangle", "{x}", "{x}"),
}
"""For each, what it makes, its elements below the diagonal, and those on it."""


def lower_triangle(kind: str, rank: int, dtype: str = "float64") -> Helper:
    """One of TRIANGLES, of the last two axes."""
    summary, below, on = TRIANGLES[kind]
    *first, i, j = INDICES[:rank]
    place, mirrored, diagonal = [*first, i, j], [*first, j, i], [*first, i, i]
    x = at("x", place)
    lines = [f"{at('out', place)} = {below.format(x=x, mirrored=at('x', mirrored))}"]
    if kind == "mirror_lower":
        lines.append(f"{at('out', mirrored)} = {x}")
    inner = [
        f"for {j} in range({i}):",
        *indented(lines),
        f"{at('out', diagonal)} = {on.format(x=at('x', diagonal))}",
    ]
    made = f"np.zeros(x.shape, {NUMPY_DTYPES[dtype]})"
    body = [*_square("x", rank), f"out = {made}", *loops([*first, i], "x", inner), "return out"]
    return define(f"{kind}_{rank}d{SUFFIXES[dtype]}", "x", summary, body)


def _square(x: str, rank: int = 2) -> list[str]:
    """Lines that refuse a matrix of another form, of which elements would be read that are not."""
    return [
        f"if {x}.shape[{rank - 2}] != {x}.shape[{rank - 1}]:",
        '    raise np.linalg.LinAlgError("Last 2 dimensions of the array must be square")',
    ]


SINGULAR = [
    "if row[i] == 0.0:",
    '    raise np.linalg.LinAlgError("Singular matrix")',
]


def solve_lower(
    rank: int, transposed: bool = False, dtype: str = "float64", *, in_order: bool = False
) -> Helper:
    """A lower triangle, or its transpose, solved for a vector or for the columns of a matrix."""
    kind = NUMPY_DTYPES[dtype]
    lines = _columns(transposed, kind) if rank == 2 else (
        _transposed_vector(kind) if transposed else _vector(kind, in_order)
    )  # fmt: skip
    body = [
        *_square("a"),
        "if a.shape[0] != b.shape[0]:",
        '    raise ValueError("a matrix and a right-hand side of other lengths")',
        *lines,
        "return x",
    ]
    name = f"solve_lower{'_transposed' if transposed else ''}_{rank}d{SUFFIXES[dtype]}"
    summary = f"a{'.T' if transposed else ''} x = b for the lower triangle of a"
    summed = any("plus(" in line for line in lines)
    return define(name, "a, b", summary, body, (PLUS,) if summed else ())


def _vector(kind: str, in_order: bool) -> list[str]:
    term = "row[k] * x[k]"
    added = f"total += {term}" if in_order else f"total = plus(total, {term})"
    return [
        f"x = np.empty(b.size, {kind})",
        "for i in range(b.size):",
        "    row, total = a[i], 0.0",
        *indented(SINGULAR),
        "    for k in range(i):",
        f"        {added}",
        "    x[i] = (b[i] - total) / row[i]",
    ]


def _transposed_vector(kind: str) -> list[str]:
    return [
        f"x = np.empty(b.size, {kind})",
        "x[:] = b",
        "for i in range(b.size - 1, -1, -1):",
        "    row = a[i]",
        *indented(SINGULAR),
        "    found = x[i] / row[i]",
        "    x[i] = found",
        "    for k in range(i):",
        "        x[k] -= row[k] * found",
    ]


def _columns(transposed: bool, kind: str) -> list[str]:
    """From `first` to `last` are the rows of x that are known, and that row i is made of."""
    order = "range(n - 1, -1, -1)" if transposed else "range(n)"
    return [
        "n = a.shape[0]",
        f"x = np.empty(b.shape, {kind})",
        f"for i in {order}:",
        f"    out, row = x[i], {'a[:, i]' if transposed else 'a[i]'}",
        "    out[:] = b[i]",
        *indented(SINGULAR),
        f"    k, last = {'i + 1, n' if transposed else '0, i'}",
        *indented(_minus_rows("x", "last", "out.size", "out.size")),
        "    for j in range(out.size):",
        "        out[j] /= row[i]",
    ]


def _minus_rows(rows: str, last: str, four: str, one: str) -> list[str]:
    """`out -= row[k] * rows[k]` for all k below `last`, in the first columns, four and one rows."""
    names = [f"x{m}" for m in range(4)]
    terms = [f"f{m} * x{m}[j]" for m in range(4)]
    return [
        f"while k + 4 <= {last}:",
        f"    {', '.join(names)} = {', '.join(f'{rows}[k + {m}]' for m in range(4))}",
        f"    {', '.join(f'f{m}' for m in range(4))} = "
        f"{', '.join(f'row[k + {m}]' for m in range(4))}",
        f"    for j in range({four}):",
        f"        out[j] -= {' + '.join(terms)}",
        "    k += 4",
        f"while k < {last}:",
        f"    x0, f0 = {rows}[k], row[k]",
        f"    for j in range({one}):",
        "        out[j] -= f0 * x0[j]",
        "    k += 1",
    ]


def inverse_lower(dtype: str = "float64") -> Helper:
    """The inverse of a lower triangle, which is one itself."""
    body = [
        *_square("a"),
        "n = a.shape[0]",
        f"inverse = np.zeros((n, n), {NUMPY_DTYPES[dtype]})",
        "for i in range(n):",
        "    out, row, k = inverse[i], a[i], 0",
        *indented(SINGULAR),
        *indented(_minus_rows("inverse", "i", "k + 4", "k + 1")),
        "    scale = 1 / row[i]",
        "    if np.isinf(scale):  # the number is subnormal",
        "        for j in range(i):",
        "            out[j] /= row[i]",
        "    else:",
        "        for j in range(i):",
        "            out[j] *= scale",
        "    out[i] = scale",
        "return inverse",
    ]
    return define(f"inverse_lower{SUFFIXES[dtype]}", "a", "the inverse of a lower triangle", body)
