"""Rearrangements and constructions that Numba lacks, or has for fewer cases than NumPy.

    roll(2, axes=0)
        def roll_axis0_2d(x, shift):
            out = np.empty(x.shape, x.dtype)
            for i in range(x.shape[0]):
                for j in range(x.shape[1]):
                    out[(i + shift) % x.shape[0], j] = x[i, j]
            return out

Ranks and axes are part of a helper; counts, shifts, widths and shapes are arguments when it runs.
"""

from __future__ import annotations

from collections.abc import Sequence

from flatgrad.codegen.numba_helpers.text import (
    INDICES,
    NUMPY_DTYPES,
    SUFFIXES,
    Axes,
    Helper,
    at,
    axes_name,
    define,
    loops,
    nest,
    normal_axes,
    shape_of,
    tuple_text,
)


def reshape(rank: int) -> Helper:
    """np.reshape(x, shape) of an array in any memory layout; `shape` is a tuple and may hold -1."""
    if rank == 0:
        body = ["return np.full(1, x).reshape(shape)"]
        return define("reshape_0d", "x, shape", "an array with one element", body)
    body = ["return np.ascontiguousarray(x).reshape(shape)"]
    return define(f"reshape_{rank}d", "x, shape", "reshape in C order; may copy", body)


def expand_dims(rank: int, axes: Axes) -> Helper:
    """np.expand_dims, several axes too: a view."""
    count = rank + (1 if isinstance(axes, int) or axes is None else len(axes))
    which = normal_axes(axes, count)
    view = at("x", ["None" if axis in which else ":" for axis in range(count)])
    name = f"expand_dims_{axes_name(which, count + 1)}_{rank}d"
    return define(name, "x", "a view with new axes of length 1", [f"return {view}"])


def squeeze(rank: int, axes: Sequence[int] | int) -> Helper:
    """np.squeeze of the named axes (with `axis=None` the caller knows which have length 1)."""
    which = normal_axes(axes, rank)
    checks = " or ".join(f"x.shape[{axis}] != 1" for axis in which)
    view = at("x", ["0" if axis in which else ":" for axis in range(rank)])
    body = [
        f"if {checks}:",
        '    raise ValueError("cannot squeeze an axis whose length is not 1")',
        f"return {view}",
    ]
    name = f"squeeze_{axes_name(which, rank)}_{rank}d"
    return define(name, "x", "a view without axes of length 1", body)


def flip(rank: int, axes: Axes = None) -> Helper:
    """np.flip: a view."""
    which = normal_axes(axes, rank)
    view = at("x", ["::-1" if axis in which else ":" for axis in range(rank)])
    name = f"flip_{axes_name(which, rank)}_{rank}d"
    return define(name, "x", "a view with reversed axes", [f"return {view}"])


def concatenate_flat(ranks: Sequence[int]) -> Helper:
    """np.concatenate((a, b), axis=None)."""
    names = [f"x{k}" for k in range(len(ranks))]
    parts = tuple_text([f"np.ravel({name})" for name in names])
    name = f"concatenate_flat_{'_'.join(f'{rank}d' for rank in ranks)}"
    summary = "all elements one after the other"
    return define(name, ", ".join(names), summary, [f"return np.concatenate({parts})"])


def tile(rank: int, counts: int) -> Helper:
    """np.tile(x, reps) for a tuple of `counts` repetitions."""
    total = max(rank, counts)
    lengths, source = [], []
    for k in range(total):
        axis, rep = k - total + rank, k - total + counts
        factors = [f"x.shape[{axis}]"] if axis >= 0 else []
        factors += [f"reps[{rep}]"] if rep >= 0 else []
        lengths.append(" * ".join(factors))
        if axis >= 0:
            source.append(f"{INDICES[k]} % x.shape[{axis}]")
    body = [
        f"out = np.empty({tuple_text(lengths)}, x.dtype)",
        *loops(INDICES[:total], "out", [f"{at('out', INDICES[:total])} = {at('x', source)}"]),
        "return out",
    ]
    return define(f"tile_{rank}d_{counts}_reps", "x, reps", "copies side by side", body)


def repeat(rank: int, axis: int | None = None, each: bool = False) -> Helper:
    """np.repeat(x, count, axis); `each`: a 1-d array of counts, one for each place."""
    if axis is None:
        inner = repeat(1, 0, each)
        name = f"repeat_flat_{rank}d{'_each' if each else ''}"
        body = [f"return {inner.name}(np.ravel(x), count)"]
        return define(name, "x, count", "every element several times", body, (inner,))
    (along,) = normal_axes(axis, rank)
    lengths = shape_of("x", range(rank))
    source = list(INDICES[:rank])
    name = f"repeat_axis{along}_{rank}d"
    if not each:
        lengths[along] += " * count"
        source[along] = f"{source[along]} // count"
        body = [
            f"out = np.empty({tuple_text(lengths)}, x.dtype)",
            *loops(INDICES[:rank], "out", [f"{at('out', INDICES[:rank])} = {at('x', source)}"]),
            "return out",
        ]
        return define(name, "x, count", f"everything along axis {along} count times", body)
    place, part = [":"] * rank, [":"] * rank
    place[along], part[along] = "start:start + count[p]", "p:p + 1"
    lengths[along] = "np.sum(count)"
    body = [
        f"if count.size != x.shape[{along}]:",
        '    raise ValueError("repeat: one count for each place along the axis")',
        f"out = np.empty({tuple_text(lengths)}, x.dtype)",
        "start = 0",
        f"for p in range(x.shape[{along}]):",
        f"    {at('out', place)} = {at('x', part)}",
        "    start += count[p]",
        "return out",
    ]
    return define(f"{name}_each", "x, count", f"each along axis {along} its own count", body)


def roll(rank: int, axes: Axes = None) -> Helper:
    """np.roll: `shift` is an int for one axis (or none: the flat array), else a tuple."""
    if axes is None and rank > 1:
        inner = roll(1, 0)
        body = [f"return {inner.name}(np.ravel(x), shift).reshape(x.shape)"]
        return define(f"roll_flat_{rank}d", "x, shift", "shift the flat array", body, (inner,))
    which = (0,) if axes is None else (axes,) if isinstance(axes, int) else tuple(axes)
    which = tuple(axis % rank for axis in which)  # in the order given: shifts go with it
    target = list(INDICES[:rank])
    for k, axis in enumerate(which):
        shift = f"shift[{k}]" if len(which) > 1 else "shift"
        target[axis] = f"({INDICES[axis]} + {shift}) % x.shape[{axis}]"
    body = [
        "out = np.empty(x.shape, x.dtype)",
        *loops(INDICES[:rank], "x", [f"{at('out', target)} = {at('x', INDICES[:rank])}"]),
        "return out",
    ]
    name = f"roll_{'axis' if len(which) == 1 else 'axes'}{''.join(map(str, which))}_{rank}d"
    return define(name, "x, shift", "shift along axes, what leaves comes back", body)


def pad(rank: int) -> Helper:
    """np.pad with a constant: `widths` holds a pair (before, after) for each axis."""
    names = [f"n{k}" for k in range(rank)]
    lengths = [f"widths[{k}][0] + x.shape[{k}] + widths[{k}][1]" for k in range(rank)]
    place = [f"widths[{k}][0] + {INDICES[k]}" for k in range(rank)]
    body = [
        *[f"{name} = {length}" for name, length in zip(names, lengths, strict=True)],
        f"out = np.full({tuple_text(names)}, value, x.dtype)",
        *loops(INDICES[:rank], "x", [f"{at('out', place)} = {at('x', INDICES[:rank])}"]),
        "return out",
    ]
    return define(f"pad_{rank}d", "x, widths, value", "a border of one value", body)


def diagonal(rank: int, axis1: int = 0, axis2: int = 1) -> Helper:
    """np.diagonal(x, offset), as a copy: the diagonal is the last axis of the result."""
    first, second = axis1 % rank, axis2 % rank
    others = [axis for axis in range(rank) if axis not in (first, second)]
    entries = [INDICES[axis] for axis in range(rank)]
    entries[first], entries[second] = "d - min(offset, 0)", "d + max(offset, 0)"
    place = [INDICES[axis] for axis in others] + ["d"]
    bounds = [(INDICES[axis], f"x.shape[{axis}]") for axis in others] + [("d", "length")]
    rows = f"x.shape[{first}] + min(offset, 0)"
    columns = f"x.shape[{second}] - max(offset, 0)"
    body = [
        f"length = max(min({rows}, {columns}), 0)",
        f"out = np.empty({tuple_text([*shape_of('x', others), 'length'])}, x.dtype)",
        *nest(bounds, [f"{at('out', place)} = {at('x', entries)}"]),
        "return out",
    ]
    return define(f"diagonal_{rank}d_axes{first}{second}", "x, offset", "a diagonal", body)


def diag(rank: int) -> Helper:
    """np.diag(x, offset): a matrix with the diagonal x, or the diagonal of the matrix x."""
    if rank == 2:
        inner = diagonal(2)
        body = [f"return {inner.name}(x, offset)"]
        return define("diag_2d", "x, offset", "a diagonal", body, (inner,))
    body = [
        "side = x.size + abs(offset)",
        "out = np.zeros((side, side), x.dtype)",
        "for i in range(x.size):",
        "    out[i - min(offset, 0), i + max(offset, 0)] = x[i]",
        "return out",
    ]
    return define("diag_1d", "x, offset", "a matrix with this diagonal", body)


def triangle(kind: str, rank: int) -> Helper:
    """np.triu (`kind="triu"`) or np.tril of the last two axes, from the diagonal `offset`."""
    row, column = INDICES[max(rank - 2, 0)], INDICES[max(rank - 1, 1)]
    sign = ">=" if kind == "triu" else "<="
    place = list(INDICES[: max(rank, 2)])
    source = at("x", place[-rank:] if rank == 1 else place)
    shape = "(x.size, x.size)" if rank == 1 else "x.shape"
    inside = [f"if {column} - {row} {sign} offset:", f"    {at('out', place)} = {source}"]
    body = [f"out = np.zeros({shape}, x.dtype)", *loops(place, "out", inside), "return out"]
    return define(f"{kind}_{rank}d", "x, offset", "one triangle, zeros elsewhere", body)


def linspace(endpoint: bool = True, dtype: str = "float64") -> Helper:
    """np.linspace(start, stop, num) with endpoint and dtype."""
    parts = "num - 1" if endpoint else "num"
    body = [
        f"out = np.empty(num, {NUMPY_DTYPES[dtype]})",
        f"step = (stop - start) / max({parts}, 1)",
        "for i in range(num):",
        "    out[i] = start + i * step",
        *(["if num > 1:", "    out[num - 1] = stop"] if endpoint else []),
        "return out",
    ]
    name = f"linspace{'' if endpoint else '_open'}{SUFFIXES[dtype]}"
    return define(name, "start, stop, num", "evenly spaced numbers", body)
