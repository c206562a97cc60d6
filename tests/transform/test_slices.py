"""Slices of arrays in loops over steps: second arrays, joined additions, places of nests."""

from __future__ import annotations

import numpy as np
import pytest

from flatgrad import value_and_grad
from tests.transform.random_array_loops import differs, plain
from tests.transform.random_slices import with_nan


def heat(u0, a, steps):
    u = u0.copy()
    for _ in range(steps):
        u[1:-1] = u[1:-1] + a * (u[:-2] - 2 * u[1:-1] + u[2:])
    return np.sum(u * u)


def conduction(u0, a, steps):
    u = u0.copy()
    for _ in range(steps):
        k = a / (1 + u[1:-1] * u[1:-1])
        u[1:-1] = u[1:-1] + k * (u[:-2] - 2 * u[1:-1] + u[2:])
    return np.sum(u * u)


def plate(u0, a, steps):
    u = u0.copy()
    for _ in range(steps):
        u[1:-1, 1:-1] = u[1:-1, 1:-1] + a * (
            u[:-2, 1:-1] + u[2:, 1:-1] + u[1:-1, :-2] + u[1:-1, 2:] - 4 * u[1:-1, 1:-1]
        )
    return np.sum(u * u)


def wide(u0, a, steps):
    """Two neighbours on each side: for three elements, the ends would be the same."""
    u = u0.copy()
    for _ in range(steps):
        u[2:-2] = u[2:-2] - a * (u[:-4] - 4 * u[1:-3] + 6 * u[2:-2] - 4 * u[3:-1] + u[4:])
    return np.sum(u * u)


def upwind(u0, a, steps):
    u = u0.copy()
    for _ in range(steps):
        u[1:] = u[1:] - a * (u[1:] - u[:-1])
    return np.sum(u * u)


def with_ends(u0, a, steps):
    """The ends are set in every step, so a second array would not have the same ones."""
    u = u0.copy()
    for k in range(steps):
        u[1:-1] = u[1:-1] + a * (u[:-2] - 2 * u[1:-1] + u[2:])
        u[0] = k
        u[-1] = u[-2]
    return np.sum(u * u)


def kept(u0, a, steps):
    """The array of the step before is read after the loop."""
    u = u0.copy()
    before = u
    for _ in range(steps):
        before = u.copy()
        u[1:-1] = u[1:-1] + a * (u[:-2] - 2 * u[1:-1] + u[2:])
    return np.sum(u * before)


def with_view(u0, a, steps):
    """A view sees what is written."""
    u = u0.copy()
    inner = u[1:-1]
    for _ in range(steps):
        u[1:-1] = u[1:-1] + a * (u[:-2] - 2 * u[1:-1] + u[2:])
    return np.sum(inner * inner)


def moving(u0, a, steps):
    """Another part in each step."""
    u = u0.copy()
    for k in range(steps):
        u[k:-2] = np.tanh(a * u[k + 1 : -1]) + u[k + 2 :]
    return np.sum(u * u)


def left_early(u0, a, steps):
    u = u0.copy()
    for _ in range(steps):
        u[1:-1] = u[1:-1] + a * (u[:-2] - 2 * u[1:-1] + u[2:])
        if np.sum(u) > 1.0:
            break
    return np.sum(u * u)


FUNCTIONS = [heat, conduction, plate, wide, upwind, with_ends, kept, with_view, moving, left_early]
LENGTHS = [2, 3, 4, 5, 7, 12]


def texts(f, shape, dtype="float64"):
    """Numba's text as a plain function, NumPy's derivative, arguments, and the text."""
    u0 = np.random.default_rng(len(shape)).normal(size=shape).astype(dtype)
    args = [u0, 0.3, 4]
    derived = value_and_grad(f, ("u0", "a"), backend="numba")
    run, emitted = plain(derived, args)
    return with_nan(run), value_and_grad(f, ("u0", "a")), args, emitted


@pytest.mark.parametrize("f", FUNCTIONS)
def test_all_lengths(f):
    run, reference, (_, *others), _ = texts(f, (5, 6) if f is plate else (5,))
    for length in LENGTHS:
        if f is moving and length < 7:
            continue  # the last part would be empty
        u0 = np.random.default_rng(length).normal(size=(length, length + 1)[: 1 + (f is plate)])
        before = u0.copy()
        (found, grads), (want, wanted) = run(u0, *others), reference(u0, *others)
        np.testing.assert_allclose(found, want, rtol=1e-12)
        for one, other in zip(grads, wanted, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)
        np.testing.assert_array_equal(u0, before)


@pytest.mark.parametrize("f", [heat, conduction])
def test_no_elements(f):
    run, reference, _, _ = texts(f, (5,))
    empty = [np.zeros(0), 0.3, 4]
    assert run(*empty)[0] == reference(*empty)[0] == 0.0
    assert run(*empty)[1][0].shape == (0,)


def test_float32():
    run, reference, args, _ = texts(heat, (9,), "float32")
    found, want = run(*args)[1][0], reference(*args)[1][0]
    assert found.dtype == "float32"
    np.testing.assert_allclose(found, want, rtol=1e-5)


def test_a_step_is_two_nests():
    """Nothing is copied, and no array is made in a step."""
    *_, emitted = texts(conduction, (9,))
    loops = emitted.partition("def conduction_value_and_grad")[2]
    assert loops.count("np.empty") == 2  # the tape, and the second array of the backward sweep
    assert "u, u_next = u_next, u" in loops
    assert "u_sum_loop(u, a, u_next)" in loops
    assert loops.count(".copy()") == 1


def test_the_part_is_kept_in_the_row():
    *_, emitted = texts(heat, (9,))
    backward = emitted.partition("# backward")[2]
    assert "grad_u_row, grad_u_row_next = grad_u_row_next, grad_u_row" in backward
    assert backward.count("copy_to_1d") == 2  # before the loop and after it


@pytest.mark.parametrize("f", [with_ends, moving])
def test_no_second_array(f):
    """Where something else is written, or another part in each step."""
    *_, emitted = texts(f, (9,))
    assert "u, u_next = u_next, u" not in emitted


def in_rows(x, w):
    """What a nest reads is the row before the one that it fills, in the same array."""
    rows = np.zeros((4, len(x)))
    rows[0] = x
    for k in range(3):
        rows[k + 1] = np.tanh(w * rows[k] + x)
    return np.sum(rows * rows)


def from_the_same(x, w):
    """The part that is written is read at other places."""
    u = x * w
    u[1:] = np.tanh(u[:-1])
    return np.sum(u * u)


def read_in_between(x, w):
    u = x * w
    e = np.tanh(x * w)
    before = np.sum(u)
    u[:] = e
    return np.sum(u * before)


@pytest.mark.parametrize("f", [in_rows, from_the_same, read_in_between])
@pytest.mark.parametrize("same", [False, True])
def test_places(f, same):
    """Also where both arguments are one array."""
    x = np.linspace(0.1, 0.9, 5)
    args = [x, x if same else x[::-1].copy()]
    run, _ = plain(value_and_grad(f, backend="numba"), args)
    wrong = differs(with_nan(run), value_and_grad(f), args)
    assert wrong is None, wrong


def test_a_row_of_a_tape_is_filled_by_the_nest():
    *_, emitted = texts(heat, (9,))
    assert "u_sum_loop(u, a, u_sum_tape[row], u_next)" in emitted
    assert "u_sum_loop(u, a, u_sum_tape[_], u_next)" in emitted  # the segments once more
    assert "u_sum_loop_1" not in emitted  # the same function


def test_places_are_filled_in_ranges():
    """With `parallel=True` a nest with places is made in ranges, too."""
    derived = value_and_grad(heat, ("u0", "a"), backend="numba", parallel=True)
    emitted = derived.source(np.ones(9), 0.3, 4)
    rows = emitted.partition("def u_sum_rows(")[2].partition("def ")[0]
    assert "u_sum[i] = " in rows
    assert "np.empty" not in rows
