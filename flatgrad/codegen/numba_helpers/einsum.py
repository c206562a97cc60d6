"""np.einsum as text: loops over all letters, or over the batch of products of matrices.

    einsum("bij,bjk->bik"):

        def einsum_bij_bjk_to_bik(x0, x1):
            ...
            out = np.empty((n_b, n_i, n_k), np.float64)
            if n_i * n_j * n_k > 256:
                for i_b in range(n_b):
                    left = np.ascontiguousarray(x0[i_b])
                    right = np.ascontiguousarray(x1[i_b])
                    out[i_b] = np.dot(left, right)
                return out
            for i_b in range(n_b):
                ...
"""

from __future__ import annotations

from collections.abc import Sequence

from flatgrad.codegen.numba_helpers.linalg import dtypes_suffix, result_dtype
from flatgrad.codegen.numba_helpers.text import (
    NUMPY_DTYPES,
    Helper,
    at,
    cast,
    define,
    nest,
    tuple_text,
)

LARGE = 256
"""Products of numbers from which on a call of BLAS is faster than loops."""


def einsum(
    subscripts: str,
    dtypes: Sequence[str] | None = None,
    unit_axes: Sequence[Sequence[int]] | None = None,
    products: bool = False,
) -> Helper:
    """np.einsum for explicit subscripts like "ij,jk->ik" without an ellipsis, as a loop nest.

    `unit_axes` names, for each operand, the axes of length 1 that broadcast against longer ones.
    With `products`, products of matrices are those of BLAS, but for tiny ones.
    """
    left, output = subscripts.replace(" ", "").split("->")
    operands = left.split(",")
    dtypes = dtypes or ["float64"] * len(operands)
    units = unit_axes or [()] * len(operands)
    names = [f"x{k}" for k in range(len(operands))]
    sizes, checks = _letter_sizes(operands, names, units)
    factors = [
        at(x, ["0" if k in unit else f"i_{c}" for k, c in enumerate(letters)])
        for x, letters, unit in zip(names, operands, units, strict=True)
    ]
    summed = [letter for letter in sizes if letter not in output]
    dtype = result_dtype(dtypes)
    inner = nest([(f"i_{c}", f"n_{c}") for c in summed], [f"acc += {' * '.join(factors)}"])
    body = [*(f"n_{c} = {size}" for c, size in sizes.items()), *checks]
    if output:
        inner = ["acc = 0.0", *inner, f"{at('out', [f'i_{c}' for c in output])} = acc"]
        shape = tuple_text([f"n_{c}" for c in output])
        body.append(f"out = np.empty({shape}, {NUMPY_DTYPES[dtype]})")
        plain = set(dtypes) in ({"float64"}, {"float32"}) and not any(units)
        if products and plain:
            body += _products(operands, output)
        body += [*nest([(f"i_{c}", f"n_{c}") for c in output], inner), "return out"]
    else:
        body += ["acc = 0.0", *inner, f"return {cast(dtype, 'acc')}"]
    ones = "".join(f"_unit{k}{''.join(map(str, u))}" for k, u in enumerate(units) if u)
    name = f"einsum_{'_'.join(operands)}_to_{output or 'scalar'}{ones}{dtypes_suffix(dtypes)}"
    return define(name, ", ".join(names), f"einsum {subscripts}", body)


def _letter_sizes(
    operands: Sequence[str], names: Sequence[str], units: Sequence[Sequence[int]]
) -> tuple[dict[str, str], list[str]]:
    """Where each letter's length is read, and checks that other operands agree."""
    sizes: dict[str, str] = {}
    checks: list[str] = []
    for x, letters, unit in zip(names, operands, units, strict=True):
        for axis, letter in enumerate(letters):
            size = f"{x}.shape[{axis}]"
            if axis in unit:
                continue
            if letter not in sizes:
                sizes[letter] = size
                continue
            checks += [
                f"if {size} != n_{letter}:",
                f'    raise ValueError("einsum: axes named {letter} differ in length")',
            ]
    for letter in "".join(operands):
        sizes.setdefault(letter, "1")
    return sizes, checks


def _products(operands: Sequence[str], output: str) -> list[str]:
    """Lines that compute large products of two matrices one by one; none if they are no such."""
    if len(operands) != 2 or any(len(set(term)) < len(term) for term in (*operands, output)):
        return []
    one, other = operands
    batch = [c for c in output if c in one and c in other]
    summed = [c for c in one if c in other and c not in output]
    rows = [c for c in one if c not in other]
    columns = [c for c in other if c not in one]
    parts = [len(summed), len(rows), len(columns)]
    if parts != [1, 1, 1] or set(output) != {*batch, *rows, *columns}:
        return []
    row, column, inner = rows[0], columns[0], summed[0]
    kept = "".join(c for c in output if c not in batch)
    left = _part("x0", one, batch), "left" if _before(one, row, inner) else "left.T"
    right = _part("x1", other, batch), "right" if _before(other, inner, column) else "right.T"
    product = f"np.dot({left[1]}, {right[1]})"
    if kept == column + row:
        turned = [_flipped(right[1]), _flipped(left[1])]
        product = f"np.dot({', '.join(turned)})"
    place = at("out", [f"i_{c}" if c in batch else ":" for c in output])
    lines = [f"left = {left[0]}", f"right = {right[0]}", f"{place} = {product}"]
    if not batch:
        lines = [*lines[:2], f"return {product}"]
    loops = nest([(f"i_{c}", f"n_{c}") for c in batch], lines)
    found = [*loops, *(["return out"] if batch else [])]
    return [f"if n_{row} * n_{inner} * n_{column} > {LARGE}:", *(f"    {line}" for line in found)]


def _part(array: str, letters: str, batch: Sequence[str]) -> str:
    """The matrix of one trip, without gaps."""
    entries = [f"i_{c}" if c in batch else ":" for c in letters]
    while entries[-1] == ":":
        entries.pop()
        if not entries:
            break
    return f"np.ascontiguousarray({at(array, entries)})"


def _before(term: str, one: str, other: str) -> bool:
    return term.index(one) < term.index(other)


def _flipped(matrix: str) -> str:
    return matrix.removesuffix(".T") if matrix.endswith(".T") else f"{matrix}.T"
