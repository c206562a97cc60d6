"""Text of helpers: loop nests, index expressions, names.

loops(("i", "j"), "x", ["total += x[i, j]"])
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            total += x[i, j]
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

INDICES = (*"ijklmnpq", *(f"axis{k}" for k in range(8, 64)))
INTS = ("int8", "int16", "int32", "uint8", "uint16", "uint32", "uint64")
"""Those of other widths than an int's own."""
SUFFIXES = {
    "float64": "", "float32": "_f32", "int64": "_int", "bool": "_bool",
    **{dtype: f"_{dtype}" for dtype in INTS},
}  # fmt: skip
NUMPY_DTYPES = {
    "float64": "np.float64", "float32": "np.float32", "int64": "np.int64", "bool": "np.bool_",
    **{dtype: f"np.{dtype}" for dtype in INTS},
}  # fmt: skip

Axes = int | Sequence[int] | None


@dataclass(frozen=True, slots=True)
class Helper:
    """One function as text; it needs `np`, `math` and the helpers it requires, nothing else."""

    name: str
    source: str
    requires: tuple[Helper, ...] = ()


def define(
    name: str, params: str, summary: str, body: Iterable[str], requires: Iterable[Helper] = ()
) -> Helper:
    """A helper from its parts; `body` lines are indented by one level here."""
    lines = [f"def {name}({params}):", *indented([f'"""{summary}"""', *body])]
    return Helper(name, "\n".join(lines) + "\n", tuple(requires))


def in_order(helpers: Iterable[Helper]) -> list[Helper]:
    """The helpers and all they require, each once, the required ones first."""
    found: dict[str, Helper] = {}
    for helper in helpers:
        for one in (*in_order(helper.requires), helper):
            found.setdefault(one.name, one)
    return list(found.values())


def indented(lines: Iterable[str]) -> list[str]:
    """The lines, one level deeper."""
    return ["    " + line for line in lines]


def nest(ranges: Sequence[tuple[str, str]], body: Sequence[str]) -> list[str]:
    """`for index in range(bound)` for each pair, around the body."""
    lines = list(body)
    for index, bound in reversed(ranges):
        lines = [f"for {index} in range({bound}):", *indented(lines)]
    return lines


def loops(indices: Sequence[str], array: str, body: Sequence[str]) -> list[str]:
    """A loop over each axis of `array`, around the body."""
    return nest([(index, f"{array}.shape[{k}]") for k, index in enumerate(indices)], body)


def at(array: str, entries: Sequence[str]) -> str:
    """`array[i, j]`, or the bare name for no entries."""
    return f"{array}[{', '.join(entries)}]" if entries else array


def tuple_text(parts: Sequence[str]) -> str:
    """A tuple display: `()`, `(a,)`, `(a, b)`."""
    return f"({parts[0]},)" if len(parts) == 1 else f"({', '.join(parts)})"


def shape_of(array: str, axes: Iterable[int]) -> list[str]:
    """`array.shape[k]` for each axis."""
    return [f"{array}.shape[{axis}]" for axis in axes]


def product_text(factors: Sequence[str]) -> str:
    """A product; 1 for none."""
    return " * ".join(factors) or "1"


def cast(dtype: str, text: str) -> str:
    """A number of this dtype; float64 and int64 are what arithmetic gives anyway."""
    return f"{NUMPY_DTYPES[dtype]}({text})" if dtype == "float32" else text


def normal_axes(axes: Axes, rank: int) -> tuple[int, ...]:
    """Axes as sorted numbers >= 0; `None` is all of them.

    Raises
    ------
    ValueError
        If an axis is out of range or given twice.
    """
    given = range(rank) if axes is None else (axes,) if isinstance(axes, int) else axes
    normal = sorted(axis + rank if axis < 0 else axis for axis in given)
    if len(set(normal)) < len(normal) or any(not 0 <= axis < rank for axis in normal):
        raise ValueError(f"axes {axes} of {rank}")
    return tuple(normal)


def axes_name(axes: Sequence[int], rank: int) -> str:
    """`all`, `axis0` or `axes02`: the part of a name that says which axes."""
    if len(axes) == rank:
        return "all"
    return ("axis" if len(axes) == 1 else "axes") + "".join(map(str, axes))


def number_name(number: float) -> str:
    """A number as part of a name: `1`, `0p5`, `minus2`, `inf`."""
    return f"{number:g}".replace("-", "minus").replace(".", "p").replace("+", "")
