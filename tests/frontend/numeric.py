"""Gradients by central differences, and the comparison that the frontend's tests share.

    check(f, x, n)        # grad(f)(x, n) is the slope of f in every float argument
"""

from __future__ import annotations

import copy

import numpy as np

from flatgrad import value_and_grad


def slopes(f, args, k, step=1e-6):
    """The slope of `f` in each element of its k-th argument; `f` may write to its arguments."""
    found = np.zeros(np.shape(args[k]))
    for where in np.ndindex(found.shape):
        ends = []
        for sign in (1, -1):
            moved = copy.deepcopy(list(args))
            if isinstance(moved[k], np.ndarray):
                moved[k][where] += sign * step
            else:
                moved[k] = moved[k] + sign * step
            ends.append(f(*moved))
        found[where] = (ends[0] - ends[1]) / (2 * step)
    return found


def check(f, *args, **options):
    """Value and gradients of `f` agree with the function itself; its arguments stay untouched."""
    before = copy.deepcopy(args)
    wrt = tuple(
        k
        for k, arg in enumerate(args)
        if isinstance(arg, float) or getattr(getattr(arg, "dtype", None), "kind", "") == "f"
    )
    value, gradients = value_and_grad(f, wrt, **options)(*args)
    for old, new in zip(before, args, strict=True):
        np.testing.assert_array_equal(old, new)
    np.testing.assert_allclose(value, f(*copy.deepcopy(list(args))), rtol=1e-12)
    for k, gradient in zip(wrt, gradients, strict=True):
        assert np.shape(gradient) == np.shape(args[k])
        np.testing.assert_allclose(gradient, slopes(f, args, k), rtol=1e-5, atol=1e-6)
    return gradients
