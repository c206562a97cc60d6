"""Tapes of cheap steps that are kept by segments."""

from __future__ import annotations

import numpy as np
import pytest

from flatgrad import grad, value_and_grad
from flatgrad.primitives.segments import segment_size
from tests.emitted import assert_same, plain_function
from tests.transform.random_segments import outcome, segments_of

CHEAP = [6, 8, 9]
"""Seeds of programs whose tapes are kept by segments."""


def diffusion(u0, a, steps):
    u = u0.copy()
    for _ in range(steps):
        u[1:-1] = u[1:-1] + a * (u[:-2] - 2 * u[1:-1] + u[2:])
    return np.sum(u * u)


def diffusion_by_loops(u0, a, steps):
    u = u0.copy()
    v = u0.copy()
    for _ in range(steps):
        for i in range(1, len(u) - 1):
            v[i] = u[i] + a * (u[i - 1] - 2 * u[i] + u[i + 1])
        u, v = v, u
    return np.sum(u * u)


def driven(u0, w, a, steps):
    """The step is used itself, and a number is carried, too."""
    u = u0.copy()
    s = a
    for t in range(steps):
        u = u * 0.9 + a * u * w[t % 3]
        u[0] = s * t
        s = 0.5 * s * u[1]
    return np.sum(u * u) + s


def exponential(u0, a, steps):
    u = u0.copy()
    for _ in range(steps):
        u = u + a * np.exp(-u * u)
    return np.sum(u)


def divided(u0, a, steps):
    u = u0.copy()
    for _ in range(steps):
        u = u + a / (2 + u * u)
    return np.sum(u)


def few(u0, a):
    u = u0.copy()
    for _ in range(20):
        u = u + a * u * u
    return np.sum(u)


@pytest.mark.parametrize("seed", [0, 7, *CHEAP[1:]])
def test_random_programs(seed, tmp_path):
    with np.errstate(all="ignore"):
        assert outcome(seed, tmp_path) in ("ok", "segments", "refused")


def test_the_programs_reach_what_they_are_for(tmp_path):
    with np.errstate(all="ignore"):
        assert outcome(CHEAP[0], tmp_path) == "segments"


@pytest.mark.parametrize("function", [diffusion, diffusion_by_loops])
def test_long_tapes_compiled(function):
    u = np.linspace(0.0, 1.0, 1600) ** 2
    assert segment_size(600, 8 * 1598, 8 * 1600) == 41
    derived = value_and_grad(function, backend="numba")
    assert_same(derived(u, 0.2, 600), value_and_grad(function)(u, 0.2, 600), rtol=1e-10)
    assert "segment_size(" in derived.source()
    assert u[-1] == 1.0


@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("steps", [0, 1, 5, 6])
def test_the_last_segment_may_be_shorter(size, steps):
    u = np.linspace(0.5, 1.0, 6)
    with segments_of(size):
        derived = value_and_grad(diffusion, backend="numba")
        assert "segment_size(" in derived.source(u, 0.2, steps)
        found = plain_function(derived)(u, 0.2, steps)
    assert_same(found, value_and_grad(diffusion)(u, 0.2, steps))


@pytest.mark.parametrize(("function", "args"), [
    (exponential, (0.1, 9)), (divided, (0.1, 9)), (few, (0.1,)),
])
def test_steps_that_take_long_and_short_loops_keep_their_tape(function, args):
    derived = grad(function, backend="numba")
    assert "segment_size(" not in derived.source(np.ones(5), *args)
    assert "_tape" in derived.source(np.ones(5), *args)


def test_not_without_fusion():
    derived = grad(diffusion, "a", backend="numba", fuse=False)
    assert "segment_size(" not in derived.source(np.ones(5), 0.1, 9)


def test_where_segments_do_not_pay():
    assert segment_size(0, 800, 800) == 1  # a range wants a step
    assert segment_size(1000, 800, 800) == 1000  # all of it stays in the cache
    assert segment_size(1000, 80_000, 80_000) == 1000  # six steps would
    assert segment_size(10_000, 8_000, 800_000) == 10_000  # the states are larger than rows
    assert segment_size(10_000, 8_000, 16_000) == 65
