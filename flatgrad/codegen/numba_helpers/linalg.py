"""Products: matmul, dot, inner, outer, tensordot, einsum, trace of any rank.

    matmul(3, 3)
        def matmul_3d_3d(a, b):
            n0 = common_length(a.shape[0], b.shape[0])
            out = np.empty((n0, a.shape[1], b.shape[2]), np.float64)
            for i in range(n0):
                left = np.ascontiguousarray(a[min(i, a.shape[0] - 1)])
                right = np.ascontiguousarray(b[min(i, b.shape[0] - 1)])
                out[i] = np.dot(left, right)
            return out

Numba's np.dot wants two operands of one dtype and is fast on contiguous ones: both are seen to.
"""

from __future__ import annotations

from collections.abc import Sequence

from flatgrad.codegen.numba_helpers.text import (
    INDICES,
    NUMPY_DTYPES,
    SUFFIXES,
    Helper,
    at,
    cast,
    define,
    nest,
    normal_axes,
    product_text,
    shape_of,
    tuple_text,
)

Dtypes = tuple[str, str]
F64: Dtypes = ("float64", "float64")


def result_dtype(dtypes: Sequence[str]) -> str:
    """float32 only if nothing is wider."""
    return "float32" if set(dtypes) == {"float32"} else "float64"


def dtypes_suffix(dtypes: Sequence[str]) -> str:
    """Nothing for float64, `_f32`, or both where they differ."""
    if len(set(dtypes)) == 1:
        return SUFFIXES[dtypes[0]]
    return "_" + "_".join(one.replace("float", "f").replace("int", "i") for one in dtypes)


def _converted(dtypes: Dtypes, a: str = "a", b: str = "b") -> list[str]:
    """Lines that bring both operands to one dtype, where they differ."""
    wide = result_dtype(dtypes)
    return [
        f"{name} = {name}.astype({NUMPY_DTYPES[wide]})"
        for name, dtype in zip((a, b), dtypes, strict=True)
        if dtype != wide
    ]


def common_length() -> Helper:
    """The length of an axis that two operands share by broadcasting."""
    body = [
        "if a == b or b == 1:",
        "    return a",
        "if a != 1:",
        '    raise ValueError("operands could not be broadcast together")',
        "return b",
    ]
    return define("common_length", "a, b", "the broadcast of two lengths", body)


def equal_length() -> Helper:
    """The length of an axis that is summed over, the same in both operands."""
    body = [
        "if a != b:",
        '    raise ValueError("the lengths of axes that are summed over differ")',
        "return a",
    ]
    return define("equal_length", "a, b", "a length that two operands must share", body)


def matmul(rank_a: int, rank_b: int, dtypes: Dtypes = F64) -> Helper:
    """a @ b for ranks from 1 to 4; batch axes broadcast."""
    name = f"matmul_{rank_a}d_{rank_b}d{dtypes_suffix(dtypes)}"
    if rank_a <= 2 and rank_b <= 2:
        body = [*_converted(dtypes), "return np.dot(a, b)"]
        return define(name, "a, b", "a @ b", body)
    if rank_b <= 2:
        return _matmul_flat(name, rank_a, rank_b, dtypes)
    return _matmul_batches(name, rank_a, rank_b, dtypes)


def matmul_of_ints(rank_a: int, rank_b: int) -> Helper:
    """a @ b of int vectors and matrices."""
    rows = [("i", "a.shape[0]")] if rank_a == 2 else []
    columns = [("j", "b.shape[1]")] if rank_b == 2 else []
    place = at("out", [index for index, _ in [*rows, *columns]]) if rows or columns else "total"
    shape = tuple_text([length for _, length in [*rows, *columns]])
    left, right = ("a[i, k]" if rows else "a[k]"), ("b[k, j]" if columns else "b[k]")
    product = [
        "total = 0",
        "for k in range(n):",
        f"    total += {left} * {right}",
    ]
    length = f"n = equal_length(a.shape[{rank_a - 1}], b.shape[0])"
    if not (rows or columns):
        body = [length, *product, "return total"]
        return define("matmul_of_ints_1d_1d", "a, b", "a @ b", body, (equal_length(),))
    body = [
        length,
        f"out = np.empty({shape}, np.int64)",
        *nest([*rows, *columns], [*product, f"{place} = total"]),
        "return out",
    ]
    name = f"matmul_of_ints_{rank_a}d_{rank_b}d"
    return define(name, "a, b", "a @ b", body, (equal_length(),))


def _matmul_flat(name: str, rank_a: int, rank_b: int, dtypes: Dtypes) -> Helper:
    """Many rows times one matrix: a single product of the flattened rows."""
    last = rank_a - 1
    shape = [*shape_of("a", range(last)), *(["b.shape[1]"] if rank_b == 2 else [])]
    rows = product_text(shape_of("a", range(last)))
    body = [
        *_converted(dtypes),
        f"rows = np.ascontiguousarray(a).reshape(({rows}, a.shape[{last}]))",
        f"return np.dot(rows, np.ascontiguousarray(b)).reshape({tuple_text(shape)})",
    ]
    return define(name, "a, b", "a @ b, as one product of all rows", body)


def _matmul_batches(name: str, rank_a: int, rank_b: int, dtypes: Dtypes) -> Helper:
    batch = max(rank_a, rank_b) - 2
    lengths: list[str] = []
    lines: list[str] = []
    pieces = {"a": [], "b": []}  # type: dict[str, list[str]]
    for k in range(batch):
        axes = {"a": k - batch + rank_a - 2, "b": k - batch + rank_b - 2}
        sizes = [f"{x}.shape[{axis}]" for x, axis in axes.items() if axis >= 0]
        both = len(sizes) == 2
        lines.append(f"n{k} = " + (f"common_length({', '.join(sizes)})" if both else sizes[0]))
        lengths.append(f"n{k}")
        for x, axis in axes.items():
            if axis >= 0:
                index = f"min({INDICES[k]}, {x}.shape[{axis}] - 1)" if both else INDICES[k]
                pieces[x].append(index)
    tail = ([f"a.shape[{rank_a - 2}]"] if rank_a > 1 else []) + [f"b.shape[{rank_b - 1}]"]
    dtype = NUMPY_DTYPES[result_dtype(dtypes)]
    inner = [
        f"left = np.ascontiguousarray({at('a', pieces['a'])})",
        f"right = np.ascontiguousarray({at('b', pieces['b'])})",
        f"{at('out', INDICES[:batch])} = np.dot(left, right)",
    ]
    body = [
        *_converted(dtypes),
        *lines,
        f"out = np.empty({tuple_text([*lengths, *tail])}, {dtype})",
        *nest(list(zip(INDICES[:batch], lengths, strict=True)), inner),
        "return out",
    ]
    requires = (common_length(),) if any("common_length" in line for line in lines) else ()
    return define(name, "a, b", "a @ b for each of the batch", body, requires)


def dot(rank_a: int, rank_b: int, dtypes: Dtypes = F64) -> Helper:
    """np.dot: the last axis of a with the last but one of b; for b of rank 1 and 2, a @ b."""
    if rank_b <= 2:
        return matmul(rank_a, rank_b, dtypes)
    return tensordot(rank_a, rank_b, ((rank_a - 1,), (rank_b - 2,)), dtypes)


def inner(rank_a: int, rank_b: int, dtypes: Dtypes = F64) -> Helper:
    """np.inner: the last axis of a with the last of b."""
    return tensordot(rank_a, rank_b, ((rank_a - 1,), (rank_b - 1,)), dtypes)


def outer(rank_a: int, rank_b: int, dtype: str = "float64") -> Helper:
    """np.outer: operands of any rank are flattened."""
    body = [
        "left = np.ravel(a)" if rank_a else "left = np.full(1, a)",
        "right = np.ravel(b)" if rank_b else "right = np.full(1, b)",
        f"out = np.empty((left.size, right.size), {NUMPY_DTYPES[dtype]})",
        *nest([("i", "left.size"), ("j", "right.size")], ["out[i, j] = left[i] * right[j]"]),
        "return out",
    ]
    name = f"outer_{rank_a}d_{rank_b}d{SUFFIXES[dtype]}"
    return define(name, "a, b", "all products of an element of a with one of b", body)


def tensordot(
    rank_a: int,
    rank_b: int,
    axes: int | tuple[Sequence[int], Sequence[int]] = 2,
    dtypes: Dtypes = F64,
) -> Helper:
    """np.tensordot: the contracted axes are moved together, then one matrix product."""
    if isinstance(axes, int):
        axes = (range(rank_a - axes, rank_a), range(axes))
    of_a = [axis % rank_a for axis in axes[0]]
    of_b = [axis % rank_b for axis in axes[1]]
    normal_axes(of_a, rank_a)
    normal_axes(of_b, rank_b)
    free_a = [axis for axis in range(rank_a) if axis not in of_a]
    free_b = [axis for axis in range(rank_b) if axis not in of_b]
    shared = [f"equal_length(a.shape[{i}], b.shape[{k}])" for i, k in zip(of_a, of_b, strict=True)]
    shape = shape_of("a", free_a) + shape_of("b", free_b)
    rows, columns = product_text(shape_of("a", free_a)), product_text(shape_of("b", free_b))
    product = "np.dot(left, right)"
    body = [
        *_converted(dtypes),
        f"shared = {product_text(shared)}",
        *_matrix("left", "a", [*free_a, *of_a], f"({rows}, shared)"),
        *_matrix("right", "b", [*of_b, *free_b], f"(shared, {columns})"),
        f"return {product}.reshape({tuple_text(shape)})" if shape else f"return {product}[0, 0]",
    ]
    spelled = "_".join(f"{x}{''.join(map(str, of))}" for x, of in (("a", of_a), ("b", of_b)))
    name = f"tensordot_{rank_a}d_{rank_b}d_{spelled}{dtypes_suffix(dtypes)}"
    requires = (equal_length(),) if shared else ()
    return define(name, "a, b", "the sum of products over the named axes", body, requires)


def _matrix(name: str, array: str, order: list[int], shape: str) -> list[str]:
    moved = array
    if order != sorted(order):
        moved = f"np.transpose({array}, {tuple_text([*map(str, order)])})"
    return [f"{name} = np.ascontiguousarray({moved}).reshape({shape})"]


def trace(
    rank: int = 2, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: str = "float64"
) -> Helper:
    """np.trace: the sum of a diagonal, for every index of the other axes."""
    first, second = axis1 % rank, axis2 % rank
    others = [axis for axis in range(rank) if axis not in (first, second)]
    entries = [INDICES[axis] for axis in range(rank)]
    entries[first] = f"d + {-offset}" if offset < 0 else "d"
    entries[second] = f"d + {offset}" if offset > 0 else "d"
    rows, columns = f"x.shape[{first}]", f"x.shape[{second}]"
    if offset:
        rows, columns = (rows, f"{columns} - {offset}") if offset > 0 else (
            f"{rows} - {-offset}", columns
        )  # fmt: skip
    inner = nest([("d", "length")], [f"acc += {at('x', entries)}"])
    body = [f"length = max(min({rows}, {columns}), 0)"]
    if others:
        place = at("out", [INDICES[axis] for axis in others])
        bounds = [(INDICES[axis], f"x.shape[{axis}]") for axis in others]
        shape = tuple_text(shape_of("x", others))
        body.append(f"out = np.empty({shape}, {NUMPY_DTYPES[dtype]})")
        body += [*nest(bounds, ["acc = 0.0", *inner, f"{place} = acc"]), "return out"]
    else:
        body += ["acc = 0.0", *inner, f"return {cast(dtype, 'acc')}"]
    sign = "minus" if offset < 0 else ""
    moved = f"_offset{sign}{abs(offset)}" if offset else ""
    name = f"trace_{rank}d_axes{first}{second}{moved}{SUFFIXES[dtype]}"
    return define(name, "x", "the sum along a diagonal", body)
