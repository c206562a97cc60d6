"""Reading and writing by integer arrays and masks, with NumPy's placement of axes and its checks.

    gather(("array1d", "slice"))
        def gather_array1d_slice(x, i0):
            n0 = i0.shape[0]
            out = np.empty((n0, x.shape[1]), x.dtype)
            for a0 in range(n0):
                at0 = checked_index(i0[a0], x.shape[0])
                for j1 in range(x.shape[1]):
                    out[a0, j1] = x[at0, j1]
            return out

Numba itself never checks an index: a wrong one reads or overwrites foreign memory.
A pattern has one entry for each part of the index, the Ellipsis written out:

    "slice"     the whole axis `:` (index a view for any other slice: `gather(x[1:], ...)`)
    "int"       an integer, "newaxis"  None, "arrayNd"  integers, "maskNd"  booleans (takes N axes)

The arguments after `x` are the entries that are not "slice" or "newaxis", in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from flatgrad.codegen.numba_helpers.text import INDICES, Helper, at, define, loops, nest, tuple_text


@dataclass(slots=True)
class _Plan:
    """What a pattern means: names, checks and shapes, worked out once for reading and writing."""

    alone: bool  # one index array: nothing to broadcast
    params: list[str] = field(default_factory=list)
    prepare: list[str] = field(default_factory=list)
    locate: list[str] = field(default_factory=list)
    source: list[str] = field(default_factory=list)
    joint: list[str] = field(default_factory=list)
    lengths: list[str] = field(default_factory=list)
    indices: list[str] = field(default_factory=list)
    requires: list[Helper] = field(default_factory=list)

    @property
    def bounds(self) -> list[tuple[str, str]]:
        """The loops over the elements named."""
        return list(zip(self.indices, self.lengths, strict=True))


def checked_index() -> Helper:
    """An index as a position from the front, or an IndexError."""
    body = [
        "if index < -length or index >= length:",
        '    raise IndexError("index out of bounds")',
        "return index + length if index < 0 else index",
    ]
    return define("checked_index", "index, length", "a position from 0 up", body)


def mask_positions(rank: int) -> Helper:
    """np.nonzero as the rows of one integer array, for a mask of any rank."""
    names = [f"i{k}" for k in range(rank)]
    place = at("mask", names)
    bounds = [(name, f"mask.shape[{k}]") for k, name in enumerate(names)]
    body = [
        "count = 0",
        *nest(bounds, [f"if {place}:", "    count += 1"]),
        f"found = np.empty(({rank}, count), np.int64)",
        "count = 0",
        *nest(
            bounds,
            [
                f"if {place}:",
                *[f"    found[{k}, count] = {name}" for k, name in enumerate(names)],
                "    count += 1",
            ],
        ),
        "return found",
    ]
    return define(f"mask_positions_{rank}d", "mask", "where the mask is true", body)


def _size(kind: str) -> int:
    """The N of "arrayNd" or "maskNd"."""
    return int(kind.removeprefix("array").removeprefix("mask").removesuffix("d"))


def _is_advanced(kind: str) -> bool:
    return kind.startswith(("array", "mask"))


def pattern_rank(pattern: Sequence[str]) -> int:
    """The rank of the array that the pattern indexes."""
    return sum(
        0 if kind == "newaxis" else _size(kind) if kind.startswith("mask") else 1
        for kind in pattern
    )


def result_rank(pattern: Sequence[str]) -> int:
    """The rank of what the pattern picks out."""
    return len(_plan(pattern).indices)


def pattern_name(pattern: Sequence[str]) -> str:
    """`array1d_slice_int`."""
    return "_".join(pattern)


def _plan(pattern: Sequence[str]) -> _Plan:
    alone = sum(map(_is_advanced, pattern)) == 1
    plan = _Plan(alone, requires=[checked_index()])
    joint_rank = _joint_rank(pattern)
    plan.joint = [f"a{k}" for k in range(joint_rank)]
    arrays: list[tuple[str, int]] = []  # shape text and rank of each index array
    basic: list[tuple[int, str, str]] = []  # entry, index and length of the axes that stay
    axis = 0
    for entry, kind in enumerate(pattern):
        if kind == "newaxis":
            basic.append((entry, f"j{entry}", "1"))
        elif kind == "slice":
            plan.source.append(f"j{entry}")
            basic.append((entry, f"j{entry}", f"x.shape[{axis}]"))
            axis += 1
        else:
            axis = _add_index(plan, kind, entry, axis, arrays)
    joint_lengths = _joint_lengths(plan, arrays, joint_rank)
    _place(plan, pattern, basic, joint_lengths)
    return plan


def _joint_rank(pattern: Sequence[str]) -> int:
    """The rank of all index arrays broadcast together."""
    advanced = [kind for kind in pattern if _is_advanced(kind)]
    ranks = [1 if kind.startswith("mask") else _size(kind) for kind in advanced]
    return max(ranks, default=0)


def _add_index(plan: _Plan, kind: str, entry: int, axis: int, arrays: list[tuple[str, int]]) -> int:
    """Add an int, an integer array or a mask to the plan; the next axis of x."""
    param = f"i{entry}"
    plan.params.append(param)
    if kind == "int":
        plan.prepare.append(f"at{axis} = checked_index({param}, x.shape[{axis}])")
        plan.source.append(f"at{axis}")
        return axis + 1
    if kind.startswith("array"):
        index = at(param, _joint_entries(plan, param, _size(kind)))
        plan.locate.append(f"at{axis} = checked_index({index}, x.shape[{axis}])")
        plan.source.append(f"at{axis}")
        arrays.append((param, _size(kind)))
        return axis + 1
    rank = _size(kind)
    finder = mask_positions(rank)
    plan.requires.append(finder)
    wrong = " or ".join(f"{param}.shape[{k}] != x.shape[{axis + k}]" for k in range(rank))
    plan.prepare += [
        f"if {wrong}:",
        '    raise IndexError("the mask does not have the shape of what it indexes")',
        f"found{entry} = {finder.name}({param})",
    ]
    for k in range(rank):
        place = at(f"found{entry}", [str(k), *_joint_entries(plan, f"found{entry}[{k}]", 1)])
        plan.locate.append(f"at{axis + k} = {place}")
        plan.source.append(f"at{axis + k}")
    arrays.append((f"found{entry}[0]", 1))
    return axis + rank


def _joint_entries(plan: _Plan, array: str, rank: int) -> list[str]:
    """Where an index array is read for a joint position; its axes of length 1 stay at 0."""
    last = plan.joint[len(plan.joint) - rank :]
    if plan.alone:
        return last
    return [f"min({index}, {array}.shape[{k}] - 1)" for k, index in enumerate(last)]


def _joint_lengths(plan: _Plan, arrays: list[tuple[str, int]], joint_rank: int) -> list[str]:
    """Names of the joint lengths; lines that compute and check them go to the plan."""
    lengths = [f"n{k}" for k in range(joint_rank)]
    for k in range(joint_rank):
        sizes = [
            f"{array}.shape[{k - joint_rank + rank}]"
            for array, rank in arrays
            if k - joint_rank + rank >= 0
        ]
        text = sizes[0]
        for size in sizes[1:]:
            text = f"joint_length({text}, {size})"
        if len(sizes) > 1 and _JOINT not in plan.requires:
            plan.requires.append(_JOINT)
        plan.prepare.append(f"n{k} = {text}")
    return lengths


_JOINT = define(
    "joint_length",
    "a, b",
    "the broadcast of two lengths of index arrays",
    [
        "if a == b or b == 1:",
        "    return a",
        "if a != 1:",
        '    raise IndexError("index arrays could not be broadcast together")',
        "return b",
    ],
)


def _place(
    plan: _Plan,
    pattern: Sequence[str],
    basic: list[tuple[int, str, str]],
    joint_lengths: list[str],
) -> None:
    """The order of axes: index arrays (and ints) side by side keep their place, else go first."""
    picked = [k for k, kind in enumerate(pattern) if _is_advanced(kind) or kind == "int"]
    together = not picked or picked == list(range(picked[0], picked[-1] + 1))
    first = picked[0] if picked and together else 0
    before = [one for one in basic if one[0] < first]
    after = [one for one in basic if one[0] >= first]
    plan.indices = [*(i for _, i, _ in before), *plan.joint, *(i for _, i, _ in after)]
    plan.lengths = [*(n for *_, n in before), *joint_lengths, *(n for *_, n in after)]


def _walk(plan: _Plan, body: Sequence[str]) -> list[str]:
    """Loops over all elements named; positions are found as far outside as they can be."""
    deepest = max((plan.indices.index(name) for name in plan.joint), default=-1)
    inner = nest(plan.bounds[deepest + 1 :], body)
    return nest(plan.bounds[: deepest + 1], [*plan.locate, *inner])


def gather(pattern: Sequence[str]) -> Helper:
    """x[index] for a pattern that picks an array: a copy of the elements named."""
    plan = _plan(pattern)
    body = [
        *plan.prepare,
        f"out = np.empty({tuple_text(plan.lengths)}, x.dtype)",
        *_walk(plan, [f"{at('out', plan.indices)} = {at('x', plan.source)}"]),
        "return out",
    ]
    if not plan.indices:
        body = [*plan.prepare, f"return {at('x', plan.source)}"]
    return define(
        f"gather_{pattern_name(pattern)}",
        ", ".join(["x", *plan.params]),
        "the elements named by the index",
        body,
        plan.requires,
    )


def _writer(verb: str, sign: str, summary: str, pattern: Sequence[str], value_rank: int) -> Helper:
    plan = _plan(pattern)
    value, spread = "value", []  # type: tuple[str, list[str]]
    if value_rank:
        spread = [f"values = np.broadcast_to(value, {tuple_text(plan.lengths)})"]
        value = at("values", plan.indices)
    body = [
        *plan.prepare,
        *spread,
        *_walk(plan, [f"{at('x', plan.source)} {sign} {value}"]),
    ]
    name = f"{verb}_{pattern_name(pattern)}_from_{f'{value_rank}d' if value_rank else 'number'}"
    return define(name, ", ".join(["x", *plan.params, "value"]), summary, body, plan.requires)


def set_items(pattern: Sequence[str], value_rank: int = 0) -> Helper:
    """x[index] = value, in place; `value` must not share memory with `x`."""
    summary = "x[index] = value; of several values for one element the last stays"
    return _writer("set_items", "=", summary, pattern, value_rank)


def add_items(pattern: Sequence[str], value_rank: int = 0) -> Helper:
    """np.add.at(x, index, value), in place: an element named twice gets both values."""
    summary = "x[index] += value; an element named twice gets both"
    return _writer("add_items", "+=", summary, pattern, value_rank)


def add_region(rank: int, value_rank: int) -> Helper:
    """`part += value` for a view; Numba's own `x[1:] += value` adds into a copy and copies back."""
    index = INDICES[:rank]
    value = at("value", index) if value_rank else "value"
    others = [f"value.shape[{k}] != part.shape[{k}]" for k in range(rank)] if value_rank else []
    check = [f"if {' or '.join(others)}:", '    raise ValueError("lengths differ")']
    body = [
        *(check if others else []),
        *loops(index, "part", [f"{at('part', index)} += {value}"]),
    ]
    name = f"add_to_{rank}d" if value_rank else f"add_number_to_{rank}d"
    return define(name, "part, value", "part += value", body)


def set_region(rank: int) -> Helper:
    """`part = value` for a view of other memory; Numba's own `x[1:] = value` is slower."""
    index = INDICES[:rank]
    check = " or ".join(f"value.shape[{k}] != part.shape[{k}]" for k in range(rank))
    body = [
        f"if {check}:",
        '    raise ValueError("lengths differ")',
        *loops(index, "part", [f"{at('part', index)} = {at('value', index)}"]),
    ]
    return define(f"copy_to_{rank}d", "part, value", "part[:] = value", body)


def add_outer() -> Helper:
    """`x += np.outer(a, b)` without the product in memory."""
    body = [
        "if a.shape[0] != x.shape[0] or b.shape[0] != x.shape[1]:",
        '    raise ValueError("lengths differ")',
        "for i in range(x.shape[0]):",
        "    row = x[i]",
        "    for j in range(row.shape[0]):",
        "        row[j] += a[i] * b[j]",
    ]
    return define("add_outer", "x, a, b", "x += np.outer(a, b)", body)
