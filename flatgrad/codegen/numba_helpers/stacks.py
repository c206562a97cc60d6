"""Products of a matrix with each matrix of a stack, but for those that are 0.

    add_products_2d(x, a, b, w)
        for i in range(x.shape[0]):
            if is_zero_2d(b[i]):
                continue
            x[i] += (a @ b[i]) * w
"""

from __future__ import annotations

from flatgrad.codegen.numba_helpers.linalg import matmul
from flatgrad.codegen.numba_helpers.text import Helper, define

SMALL = 64
"""Matrices of up to so many elements are multiplied by loops; NumPy's product starts slowly."""


def is_zero() -> Helper:
    """Whether a matrix is 0; NaN is not."""
    body = [
        "for i in range(x.shape[0]):",
        "    for j in range(x.shape[1]):",
        "        if x[i, j] != 0.0:",
        "            return False",
        "return True",
    ]
    return define("is_zero_2d", "x", "whether every element is 0", body)


def stack_product() -> Helper:
    """a @ b for a matrix and a stack."""
    body = [
        "if a.shape[1] != b.shape[1]:",
        '    raise ValueError("operands could not be multiplied")',
        "out = np.zeros((b.shape[0], a.shape[0], b.shape[2]), np.float64)",
        "left = np.ascontiguousarray(a)",
        "for i in range(b.shape[0]):",
        "    part = b[i]",
        "    if is_zero_2d(part):",
        "        continue",
        f"    if part.size > {SMALL}:",
        "        out[i] = np.dot(left, np.ascontiguousarray(part))",
        "        continue",
        "    for k in range(a.shape[0]):",
        "        for m in range(part.shape[1]):",
        "            total = 0.0",
        "            for j in range(part.shape[0]):",
        "                total += left[k, j] * part[j, m]",
        "            out[i, k, m] = total",
        "return out",
    ]
    return define("stack_product", "a, b", "a @ b[i] for each i", body, (is_zero(),))


def stack_times() -> Helper:
    """a @ b for a stack of small matrices and a matrix."""
    whole = matmul(3, 2)
    body = [
        "if a.shape[2] != b.shape[0]:",
        '    raise ValueError("operands could not be multiplied")',
        f"if a.shape[1] * a.shape[2] > {SMALL} or b.size > {SMALL}:",
        f"    return {whole.name}(a, b)",
        "out = np.zeros((a.shape[0], a.shape[1], b.shape[1]), np.float64)",
        "for i in range(a.shape[0]):",
        "    part = a[i]",
        "    if is_zero_2d(part):",
        "        continue",
        "    for k in range(part.shape[0]):",
        "        for m in range(b.shape[1]):",
        "            total = 0.0",
        "            for j in range(part.shape[1]):",
        "                total += part[k, j] * b[j, m]",
        "            out[i, k, m] = total",
        "return out",
    ]
    return define("stack_times", "a, b", "a[i] @ b for each i", body, (whole, is_zero()))


def add_products(rank: int) -> Helper:
    """x += (a @ b) * w, where `w` is a number or has one for each row of `a`.

    Small products are made column by column, so that the inner loops go along the rows of `a`.
    """
    scale = "w[k, 0]" if rank else "w"
    name = "add_products_by_row" if rank else "add_products"
    wrong = "x.shape[0] != b.shape[0] or x.shape[1] != a.shape[0] or x.shape[2] != b.shape[2]"
    if rank:
        wrong += " or w.shape[0] != a.shape[0]"
    body = [
        f"if {wrong} or a.shape[1] != b.shape[1]:",
        '    raise ValueError("operands could not be multiplied")',
        "left, columns = np.ascontiguousarray(a), np.ascontiguousarray(a.T)",
        "total, scale = np.empty(a.shape[0], np.float64), np.empty(a.shape[0], np.float64)",
        "for k in range(scale.size):",
        f"    scale[k] = {scale}",
        "for i in range(b.shape[0]):",
        "    part, to = b[i], x[i]",
        "    if is_zero_2d(part):",
        "        continue",
        f"    if part.size <= {SMALL}:",
        "        for m in range(part.shape[1]):",
        "            total[:] = 0.0",
        "            for j in range(part.shape[0]):",
        "                factor, column = part[j, m], columns[j]",
        "                for k in range(total.size):",
        "                    total[k] += column[k] * factor",
        "            for k in range(total.size):",
        "                to[k, m] += total[k] * scale[k]",
        "    else:",
        "        found = np.dot(left, np.ascontiguousarray(part))",
        "        for k in range(to.shape[0]):",
        "            for m in range(to.shape[1]):",
        "                to[k, m] += found[k, m] * scale[k]",
    ]
    summary = "x[i] += (a @ b[i]) * w, but for those b[i] that are 0"
    return define(name, "x, a, b, w", summary, body, (is_zero(),))
