"""Which NumPy functions return views is asked of NumPy: each is followed, or refused, never missed.

    y = x * 1.0; r = np.f(y); y += 1.0; return np.sum(r * r)      # is r changed, too?
"""

from __future__ import annotations

import contextlib
import inspect
import linecache
import warnings

import numpy as np
import pytest

import flatgrad.pipeline  # noqa: F401  (fills the registry)
from flatgrad import value_and_grad
from flatgrad.errors import FlatgradError
from flatgrad.primitives.registry import COMPOSITES, METHODS, PRIMITIVES
from tests.frontend.numeric import check

ARGUMENTS = [
    "", ", 1", ", 0", ", (1, 0)", ", 0, 1", ", 2", ", (2, 2)", ", (4,)", ", -1", ", (0, 1)",
]  # fmt: skip
SAMPLES = [
    np.array([[0.3, 1.2], [2.3, 0.7]]), np.array([0.3, 1.2, 2.3, 0.7]),
    np.array([[0.3, 1.2, 2.3, 0.7]]), np.array([[[0.6], [1.4]]]),
]  # fmt: skip


def spelling(function):
    """How a user calls a function of NumPy's, if it is one."""
    name = getattr(function, "__name__", "")
    for space, prefix in ((np, "np."), (np.linalg, "np.linalg.")):
        if getattr(space, name, None) is function:
            return prefix + name + "(y{})"
    return None


CALLS = sorted(
    {text for function in [*PRIMITIVES, *COMPOSITES] if (text := spelling(function))}
    - {"np.empty(y{})", "np.empty_like(y{})", "np.float32(y{})"}
    | {f"y.{name}({{}})" for name in METHODS}
    | {"y[{}]", "y.T", "+y", "y.astype(float)", "np.array(y)", "np.asarray(y)", "y * 1", "y ** 1"}
)


def build(expression, write):
    text = (
        f"import numpy as np\ndef f(x):\n    y = x * 1.0\n    r = {expression}\n    {write}\n"
        "    return np.sum(r * r) + np.sum(y * y * y)\n"
    )
    name = f"<memory {expression} {write}>"
    linecache.cache[name] = (len(text), None, text.splitlines(True), name)
    space = {}
    exec(compile(text, name, "exec"), space)
    return space["f"]


@pytest.mark.parametrize("form", CALLS)
def test_views_and_copies(form):

    for x in SAMPLES:
        for arguments in ARGUMENTS if "{}" in form else [""]:
            if not arguments and form == "y[{}]":
                continue
            if not form.startswith("np."):
                arguments = arguments.removeprefix(", ")
            for write in ("y += 1.0", "r += 1.0"):
                f = build(form.format(arguments), write)
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    try:
                        if not np.isfinite(f(x.copy())):
                            continue
                    except Exception:
                        continue  # NumPy does not take these arguments, or the array is read-only
                    with contextlib.suppress(FlatgradError):
                        check(f, x.copy())


def test_positional_parameters_are_those_of_numpy():
    """`np.nan_to_num(x, False)` is about copying, not about the value for NaN."""
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    for function in [*PRIMITIVES, *COMPOSITES]:
        if spelling(function) is None or isinstance(function, np.ufunc | type):
            continue
        known = PRIMITIVES.get(function)
        rule = known.type_rule if known else COMPOSITES[function]
        theirs = list(inspect.signature(function).parameters.values())
        ours = list(inspect.signature(rule).parameters.values())
        for one, other in zip(ours, theirs, strict=False):
            if other.kind not in positional:
                break
            if one.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD:
                assert one.name == other.name, function


def test_a_row_into_a_column_of_the_same_array():
    """As if the row were copied first, in value and gradient, whatever NumPy does."""

    def overlapping(A):
        A[1] = A[:, -1]
        A[:, 0] = A[2]
        return np.sum(A**3)

    def copied(A):
        A[1] = A[:, -1].copy()
        A[:, 0] = A[2].copy()
        return np.sum(A**3)

    A = np.arange(16.0).reshape(4, 4) / 7
    for one, other in zip(value_and_grad(overlapping)(A), value_and_grad(copied)(A), strict=True):
        assert np.array_equal(one, other)
