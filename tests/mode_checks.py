"""What the tests of modes share: leaves of results, directions, differences along them."""

from __future__ import annotations

import inspect

import numpy as np


def copies(args):
    return [np.copy(arg) if isinstance(arg, np.ndarray) else arg for arg in args]


def leaves(tree):
    """The float leaves of a result or its tangent, as arrays."""
    match tree:
        case tuple() | list():
            return [leaf for item in tree for leaf in leaves(item)]
        case dict():
            return [leaf for item in tree.values() for leaf in leaves(item)]
    is_float = tree is not None and np.asarray(tree).dtype.kind == "f"
    return [np.asarray(tree)] if is_float else []


def directions(args, seed=1):
    rng = np.random.default_rng(seed)
    return tuple(
        rng.standard_normal(a.shape).astype(a.dtype) if np.ndim(a) else float(rng.normal())
        for a in args
    )


def differences(f, args, dots, h=1e-6):
    ends = []
    for sign in (h, -h):
        moved = [a + sign * d for a, d in zip(copies(args), dots, strict=True)]
        ends.append(leaves(f(*moved)))
    return [(a - b) / (2 * h) for a, b in zip(*ends, strict=True)]


def close(found, expected, rtol=1e-6, atol=1e-7):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert np.shape(one) == np.shape(other)
        np.testing.assert_allclose(one, other, rtol=rtol, atol=atol)


def scalar_loss(f):
    """The sum of squares of everything that a program returns, as NumPy would have it."""
    return lambda *args: sum(float(np.sum(leaf * leaf)) for leaf in leaves(f(*args)))


def like(y, rng):
    match y:
        case tuple() | list():
            return type(y)([like(item, rng) for item in y])
        case dict():
            return {key: like(item, rng) for key, item in y.items()}
        case int():
            return None
    found = rng.standard_normal(np.shape(y))
    return found if np.ndim(y) else float(found)


def sum_of(f):
    """A scalar program from one that returns an array: `f` is called inside."""
    if len(inspect.signature(f).parameters) == 1:
        return lambda x: np.sum(f(x) ** 2)
    if len(inspect.signature(f).parameters) == 2:
        return lambda x, y: np.sum(f(x, y) ** 2)
    return lambda x, y, z: np.sum(f(x, y, z) ** 2)
