"""Elementwise operations on arrays of rank 3 and more, as loops.

    a * b                multiply_3d_1d(a, b)
                             if b.shape[0] != a.shape[2]:
                                 raise ValueError(...)
                             out = np.empty((a.shape[0], a.shape[1], a.shape[2]), np.float64)
                             for i in range(out.shape[0]): ...
                                 out[i, j, k] = a[i, j, k] * b[k]

Numba takes each axis of each operand for perhaps broadcast, which LLVM turns into a loop for every
combination: one product of two arrays compiles for 3 seconds at rank 3 and for 20 at rank 4. Here
it is known which axes have length 1.
"""

from __future__ import annotations

import ast

from flatgrad.codegen.expressions import name, write
from flatgrad.codegen.format import statement_text
from flatgrad.codegen.numba_helpers.text import (
    INDICES,
    NUMPY_DTYPES,
    SUFFIXES,
    Helper,
    at,
    define,
    loops,
    tuple_text,
)
from flatgrad.ir.dims import Size
from flatgrad.ir.ops import Apply
from flatgrad.ir.types import Array, Type

LEAST_RANK = 3
WORDS = {
    "add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide", "pow": "power",
    "lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal", "eq": "equal",
    "ne": "not_equal",
}  # fmt: skip
"""What the functions for operators are called."""


def loop_helper(op: Apply, least_rank: int = LEAST_RANK) -> Helper | None:
    """The loops for an elementwise operation; None where Numba's own compile fast, or differ.

    Numba's operators on single bools and ints are Python's (`~True` is -2), those on floats agree
    with the ones on arrays.
    """
    kinds = [operand.type for operand in op.operands]
    arrays = [kind for kind in kinds if kind.ndim]
    rank = op.result.type.ndim
    floats = any(kind.dtype.startswith("float") for kind in kinds)
    plain = len(op.arguments) == len(kinds)
    known = op.result.type.dtype in SUFFIXES and rank <= len(INDICES)
    if rank < least_rank or not arrays or not (floats and plain and known):
        return None
    params = ["a", "b", "c", "d"][: len(kinds)]
    element = write(op, [name(_read(p, kind, rank)) for p, kind in zip(params, kinds, strict=True)])
    text = statement_text(ast.Expr(element))
    dtype = op.result.type.dtype
    word = WORDS.get(op.primitive.name, op.primitive.name)
    index = INDICES[:rank]
    lengths, checks = _lengths(params, kinds, rank)
    body = [
        *checks,
        f"out = np.empty({tuple_text(lengths)}, {NUMPY_DTYPES[dtype]})",
        *loops(index, "out", [f"{at('out', index)} = {text}"]),
        "return out",
    ]
    title = f"{word}_{'_'.join(_form(kind, rank) for kind in kinds)}{SUFFIXES[dtype]}"
    return define(title, ", ".join(params), f"{word} of every element", body)


def _read(param: str, kind: Type, rank: int) -> str:
    """How an element of an operand is read; on an axis of length 1 at 0."""
    index = INDICES[rank - kind.ndim : rank]
    return at(param, ["0" if n == 1 else i for n, i in zip(kind.shape, index, strict=True)])


def _form(kind: Type, rank: int) -> str:
    """`3d`, `number`, or with axes of length 1 `3d_n1n`."""
    if not isinstance(kind, Array):
        return "number"
    ones = "".join("1" if size == 1 else "n" for size in kind.shape)
    return f"{kind.ndim}d" + (f"_{ones}" if "1" in ones else "")


def _lengths(params: list[str], kinds: list[Type], rank: int) -> tuple[list[str], list[str]]:
    """The lengths of the result as text, and statements that refuse others."""
    lengths, tests = [], []
    for axis in range(rank):
        found: list[tuple[str, Size]] = []
        for param, kind in zip(params, kinds, strict=True):
            own = axis - (rank - kind.ndim)
            if own >= 0 and kind.shape[own] != 1:
                found.append((f"{param}.shape[{own}]", kind.shape[own]))
        first = found[0] if found else ("1", 1)
        lengths.append(first[0])
        tests += [f"{other} != {first[0]}" for other, _ in found[1:]]
    if not tests:
        return lengths, []
    return lengths, [
        f"if {' or '.join(tests)}:",
        '    raise ValueError("operands could not be broadcast together")',
    ]
