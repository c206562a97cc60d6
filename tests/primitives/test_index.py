"""Indexing end to end: every form, run-time bounds, lengths that may be 1, writes."""

from __future__ import annotations

import random

import numpy as np
import pytest

import flatgrad.primitives.rules  # noqa: F401
from flatgrad import FlatgradError, check_grads, grad
from flatgrad.ir.dims import Dim, slice_length
from flatgrad.ir.types import Array
from flatgrad.primitives.index import indexed_shape

RNG = np.random.default_rng(7)


def draw(*shape):
    return RNG.uniform(0.5, 1.5, shape)


def random_index(rng, shape):
    """An index with ints, slices, new axes, `...`, integer arrays and masks, sometimes invalid."""
    joint = rng.choice([(2,), (3,), (2, 2), (1,), (2, 1)])
    makers = {
        "int": lambda: rng.randint(-1, 0),
        "slice": lambda: slice(
            rng.choice([None, 0, 1, -1, -2]), rng.choice([None, 1, 2, -1]),
            rng.choice([None, None, 1, 2, -1]),
        ),
        "new": lambda: None,
        "dots": lambda: Ellipsis,
        "array": lambda: np.zeros(rng.choice([joint, joint, (1,), joint[-1:]]), int),
        "list": lambda: [0] * joint[-1],
        "mask": lambda: "mask",
    }  # fmt: skip
    weighted = ["int", "int", "slice", "slice", "slice", "new", "dots", "array", "array", "array",
                "list", "mask"]  # fmt: skip
    entries = [makers[rng.choice(weighted)]() for _ in range(rng.randint(0, len(shape) + 2))]
    used = sum(entry is not None and entry is not Ellipsis for entry in entries)
    axis = 0
    for k, entry in enumerate(entries):
        if isinstance(entry, str):
            length = shape[axis] if axis < len(shape) else 1
            entries[k] = np.array([rng.random() < 0.6 for _ in range(length)])
        if entry is Ellipsis:
            axis += max(0, len(shape) - used)
        elif entry is not None:
            axis += 1
    return tuple(entries)


def test_the_shape_of_any_index_is_numpys():
    rng = random.Random(3)
    checked = 0
    for _ in range(6000):
        shape = tuple(rng.choice([1, 2, 3, 4]) for _ in range(rng.randint(1, 4)))
        index = random_index(rng, shape)
        try:
            wanted = np.zeros(shape)[index].shape
        except IndexError:
            continue
        kinds = tuple(
            Array(e.dtype.name, e.shape) if isinstance(e, np.ndarray) and e.dtype != bool else e
            for e in index
        )
        assert indexed_shape(Array("float64", shape), kinds) == wanted, (shape, index)
        checked += 1
    assert checked > 2000


def test_the_length_of_any_slice_is_numpys():
    n = Dim.atom("N")
    bounds = [None, *range(-4, 5)]
    for start in bounds:
        for stop in bounds:
            for step in (None, 1, 2, -1, -2):
                once = slice_length(n, start, stop, step)
                twice = slice_length(once, 1, -1, None)
                for length in (0, 2, 3, 5, 7):
                    taken = range(length)[start:stop:step]
                    for size, found in ((once, taken), (twice, taken[1:-1])):
                        known = size if isinstance(size, int) else size.value({"N": length})
                        assert known == len(found), (start, stop, step, length)
    assert slice_length(n, 1, None, None) == slice_length(n, None, -1, None)
    assert slice_length(n + 2, 1, -1, None) == n


def stencil(u, v):
    return np.sum((u[1:-1] + v[1:-1]) * (u[2:] - 2 * u[1:-1] + u[:-2]))


def differences(u):
    return np.sum((u[1:] - u[:-1]) ** 2)


def strided(x):
    return np.sum(x[::2] ** 2) + np.sum(x[1::2] ** 3) + np.sum(x[::-2] * x[::-2])


def running(x, i, n):
    return x[i] * x[-1] + np.sum(x[i:n] ** 2) + np.sum(x[n:i:-1] ** 3)


def one_mask(x, y):
    m = x > 1
    return np.sum(x[m] * y[m])


def gathered(x, i, j):
    return np.sum(x[i, j] ** 2) + np.sum(x[i] ** 3) + np.sum(x[:, j] ** 2 * x[:, [0, 0, 2]])


def columns(x, w):
    return np.sum(x[:, :1] * w) + np.sum(x[:, -1:] * w) + np.sum(x[:, 0, None] * w)


def taken(x, i):
    order = np.argsort(x, axis=1)
    sorted_x = np.take_along_axis(x, order, axis=1)
    return np.sum(np.take(x, i) ** 2) + np.sum(x.take(i, axis=0) ** 3) + np.sum(sorted_x[:, 0] ** 2)


def crossed(x, i):
    return np.sum(x[np.ix_(i, i)] ** 2) + np.sum(np.compress(x[0] > 1, x, axis=1) ** 2)


def written(x, v):
    y = np.zeros_like(x)
    y[1:-1] = v[1:-1] * x[2:]
    y[0] = x[1]
    y[-1] += v[0]
    return np.sum(y**2)


def written_by_mask(x, v, s):
    y = x * 1.0
    m = x > 1
    y[m] = v[m] ** 2
    y[m] *= 3
    y[~m] = s
    return np.sum(y**2)


def written_twice(x, v, i):
    y = x * 1.0
    y[i] = v
    y[[1, 1]] = v[:2] ** 2
    return np.sum(y**3)


def written_at(x, v, i):
    y = x * 1.0
    y[i : i + 2] = v
    return np.sum(y**2)


def added(x, v, i):
    y = x * 1.0
    np.add.at(y, i, v**2)
    return np.sum(y**2)


INDEX = np.array([0, 2, 2])
CASES = [
    (stencil, (draw(6), draw(6)), (0, 1)), (differences, (draw(6),), (0,)),
    (differences, (draw(2),), (0,)), (strided, (draw(7),), (0,)), (running, (draw(6), 2, 5), (0,)),
    (one_mask, (draw(8), draw(8)), (0, 1)),
    (gathered, (draw(3, 4), INDEX, np.array([1, 1, 3])), (0,)),
    (gathered, (draw(3, 4), INDEX - 3, np.array([-1, 1, 3])), (0,)),
    (columns, (draw(3, 4), draw(3, 4)), (0, 1)), (taken, (draw(3, 4), INDEX), (0,)),
    (crossed, (draw(3, 4), INDEX), (0,)), (written, (draw(6), draw(6)), (0, 1)),
    (written_by_mask, (draw(5), draw(5), 0.7), (0, 1, 2)),
    (written_twice, (draw(4), draw(3), INDEX), (0, 1)),
    (written_at, (draw(6), draw(2), 1), (0, 1)), (written_at, (draw(6), 0.3, 1), (0, 1)),
    (added, (draw(6), draw(3), INDEX), (0, 1)),
]  # fmt: skip


@pytest.mark.parametrize(("f", "args", "argnums"), CASES, ids=lambda v: getattr(v, "__name__", ""))
def test_gradients(f, args, argnums):
    check_grads(f, args, argnums=argnums)


@pytest.mark.parametrize("f", [stencil, differences, strided])
def test_stencils_need_no_check(f):
    g = grad(f)
    g(*[draw(6) for _ in range(f.__code__.co_argcount)])
    assert "raise" not in g.source()


def test_a_gradient_is_written_into_its_own_zeros():
    g = grad(differences)
    g(draw(5))
    assert "copy" not in g.source()


def shifted(x, w):
    return np.sum(x[1:] * w)


def headed(x, w, n):
    return np.sum(x[:n] * w)


def two_masks(x, y):
    return np.sum(x[x > 1] * y[y > 1])


def mask_and_array(x, w):
    return np.sum(x[x > 1] * w)


def test_a_length_of_one_at_run_time_does_not_broadcast_silently():
    five = draw(5)
    one_above = np.array([0.5, 1.2, 0.5])
    two_above = np.array([1.2, 0.5, 1.3])
    grad(shifted)(draw(6), five)
    for f, args in [
        (shifted, (draw(2), five)), (mask_and_array, (one_above, five)),
        (two_masks, (one_above, two_above)), (written_at, (draw(4), draw(2), 3)),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match="do not broadcast"):
            grad(f, (0, 1))(*args)
    np.testing.assert_allclose(grad(two_masks)(two_above, two_above).x, [1.2, 0, 1.3])


def test_a_bound_is_checked_at_every_call():
    g = grad(headed, (0, 1))
    g(draw(6), draw(3), 3)
    with pytest.raises(ValueError, match="do not broadcast"):
        g(draw(6), draw(3), 1)


def test_empty_arrays():
    assert grad(differences)(np.zeros(0)).shape == (0,)
    assert grad(strided)(np.zeros(0)).shape == (0,)
    with pytest.raises(ValueError, match="slice of one element"):
        grad(columns)(np.zeros((3, 0)), draw(3, 4))


def two_dots(x):
    return np.sum(x[..., 0, ...])


def too_many(x):
    return np.sum(x[0, 0, 0])


def by_name(x):
    return np.sum(x["a"])


def by_float(x):
    return np.sum(x[1.5])


def by_bool(x):
    return np.sum(x[True])


def step_zero(x):
    return np.sum(x[::0])


def take_by_mask(x):
    return np.sum(np.take(x, x > 1))


def take_clipped(x):
    return np.sum(np.take(x, [0, 9], mode="clip"))


def condition_alone(x):
    return np.sum(x[np.where(x > 1)])


def too_large(x):
    y = x * 1.0
    y[0, :1] = x[1]
    return np.sum(y)


@pytest.mark.parametrize(
    "f",
    [two_dots, too_many, by_name, by_float, by_bool, step_zero, take_by_mask, take_clipped,
     condition_alone, too_large],
)  # fmt: skip
def test_refused(f):
    with pytest.raises(FlatgradError) as caught:
        grad(f)(draw(3, 4))
    assert caught.value.diagnostic.span is not None
