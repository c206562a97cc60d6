"""What plain NumPy text Numba 0.68 compiles and computes as NumPy does; found by trying.

    native("sum", (2,))                     True: `x.sum()` can stay as it is
    native("sum", (2,), keepdims=True)      False: print the helper `sum_axes(2, None, True)`

"Native" also means safe: Numba checks no index against the length of its axis, so reading or
writing by arrays and masks is never native here. float32 is native only if the result is
float32 and as exact as accumulating in float64 makes it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Ranks = tuple[int, ...]
Test = Callable[[Ranks, dict[str, Any]], bool]


def native(name: str, ranks: Ranks, **attributes: Any) -> bool:
    """Whether `np.name(...)` on arrays of these ranks (0 is a number) is right as plain text.

    `attributes` are the keywords of the call that are given (`axis`, `keepdims`, `ddof`, ...), with
    `dtype` and `dtypes` of the operands, and `pattern` for an index. Unknown names are not native.
    """
    if name in ALWAYS:
        return True
    test = TESTS.get(name)
    return test is not None and test(ranks, attributes)


# For any rank, memory layout, float32 and float64. Constants beside float32 arrays must be printed
# as np.float32(...), else Numba goes to float64; an int array beside a float32 one gives float32.
ALWAYS = frozenset(
    """
    + - * / ** < <= > >= == != & | ^ ~ add subtract multiply divide true_divide power float_power
    remainder mod fmod negative positive absolute fabs sign sqrt cbrt square reciprocal
    exp exp2 expm1 log log2 log10 log1p sin cos tan arcsin arccos arctan arctan2 sinh cosh tanh
    arcsinh arccosh arctanh hypot logaddexp logaddexp2 maximum minimum fmax fmin floor ceil trunc
    rint round around copysign less less_equal greater greater_equal equal not_equal logical_and
    logical_or logical_not logical_xor isnan isinf isfinite deg2rad rad2deg sinc nan_to_num
    where broadcast_to ravel flatten transpose swapaxes moveaxis fliplr flipud rot90
    zeros ones empty full eye identity arange zeros_like ones_like empty_like full_like copy astype
    argmax argmin argsort diag triu tril
    """.split()  # noqa: SIM905
)


def _wide(attributes: dict[str, Any]) -> bool:
    dtypes = attributes.get("dtypes") or (attributes.get("dtype", "float64"),)
    return "float32" not in dtypes


def _whole(ranks: Ranks, attributes: dict[str, Any]) -> bool:
    """Over the whole array, with no other keyword."""
    axis, others = attributes.get("axis"), ("keepdims", "ddof", "weights")
    return axis is None and not any(attributes.get(key) for key in others) and ranks[0] > 0


def _exact_whole(ranks: Ranks, attributes: dict[str, Any]) -> bool:
    return _wide(attributes) and _whole(ranks, attributes)


def _cumulative(ranks: Ranks, attributes: dict[str, Any]) -> bool:
    return _wide(attributes) and attributes.get("axis") is None and ranks[0] > 0


def _product(ranks: Ranks, attributes: dict[str, Any]) -> bool:
    same = len(set(attributes.get("dtypes", ()))) <= 1
    return same and all(1 <= rank <= 2 for rank in ranks)


def _norm(ranks: Ranks, attributes: dict[str, Any]) -> bool:
    order = attributes.get("ord")
    plain = not attributes.get("keepdims") and attributes.get("axis") is None
    return plain and _wide(attributes) and (ranks == (1,) or (ranks == (2,) and order is None))


def _no_axis(ranks: Ranks, attributes: dict[str, Any]) -> bool:
    return attributes.get("axis") is None


def _index(ranks: Ranks, attributes: dict[str, Any]) -> bool:
    pattern = attributes.get("pattern", ())
    return all(kind in ("int", "slice", "newaxis", "ellipsis") for kind in pattern) and tuple(
        pattern
    ) != ("ellipsis",)


def _same_rank(ranks: Ranks, attributes: dict[str, Any]) -> bool:
    return len(set(ranks)) == 1 and 0 not in ranks


TESTS: dict[str, Test] = {
    # With an axis it compiles too, but six times longer than the helper, and runs 4x slower.
    "sum": _exact_whole,
    "mean": _exact_whole,
    "prod": _exact_whole,
    "var": _exact_whole,
    "std": _exact_whole,
    "average": _exact_whole,
    "max": _whole,
    "min": _whole,
    "ptp": _whole,
    "any": _whole,
    "all": _whole,
    "cumsum": _cumulative,
    "cumprod": _cumulative,
    "norm": _norm,
    "trace": lambda ranks, facts: ranks == (2,) and _wide(facts),
    "@": _product,
    "matmul": lambda ranks, facts: False,  # `@` compiles, np.matmul does not
    "dot": _product,
    "outer": lambda ranks, facts: 0 not in ranks and len(set(facts.get("dtypes", ()))) <= 1,
    # `//` of arrays is wrong at infinities; of numbers it is right.
    "//": lambda ranks, facts: not any(ranks),
    "floor_divide": lambda ranks, facts: not any(ranks),
    "abs": lambda ranks, facts: not any(ranks),  # the builtin; np.abs takes arrays
    "clip": lambda ranks, facts: False,  # not for numbers; print np.minimum(np.maximum(...), ...)
    "reshape": lambda ranks, facts: False,  # only of contiguous arrays
    "expand_dims": lambda ranks, facts: ranks[0] > 0 and isinstance(facts.get("axis"), int),
    "concatenate": lambda ranks, facts: facts.get("axis", 0) is not None and 0 not in ranks,
    "stack": _same_rank,  # of a tuple, not a list
    "hstack": _same_rank,
    "vstack": _same_rank,
    "split": lambda ranks, facts: ranks[0] > 0,
    "repeat": _no_axis,
    "flip": _no_axis,
    "roll": _no_axis,
    "linspace": lambda ranks, facts: not facts.keys() & {"endpoint", "dtype"},
    "getitem": _index,
    "set_item": _index,
    "add_item": _index,
}
