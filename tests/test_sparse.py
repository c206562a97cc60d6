"""Sparse Jacobians of mapped functions: against the loop over dense ones, and differences."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import flatgrad
from benchmarks.adbench import ba
from flatgrad import FlatgradError, jacobian, sparse_jacobian, value_and_sparse_jacobian

BACKENDS = ("numpy", "numba")
RNG = np.random.default_rng(7)
SCALE = np.array([2.0, -1.0, 0.5])
POWER = 2
GRAVITY = 9.81


def leaves_of(result: Any) -> list[np.ndarray]:
    """The results of one observation, each as a vector."""
    parts = result if isinstance(result, tuple) else (result,)
    return [np.atleast_1d(np.asarray(part)).ravel() for part in parts]


def seen(values: dict[str, Any], rows: dict[str, Any], i: int) -> list[Any]:
    """The arguments of observation `i`."""
    found = []
    for name, value in values.items():
        shared = name in rows and rows[name] is None
        if shared or np.ndim(value) == 0:
            found.append(value)
        else:
            found.append(value[rows[name][i] if name in rows else i])
    return found


def stacked(function, values, rows, count) -> np.ndarray:
    """All residuals: for each result those of all observations."""
    every = [leaves_of(function(*seen(values, rows, i))) for i in range(count)]
    return np.concatenate([np.concatenate(parts) for parts in zip(*every, strict=True)])


def by_differences(function, values, rows, count, wrt, same=()) -> np.ndarray:
    """The dense Jacobian by central differences."""
    owner = {name: group[0] for group in same for name in group}
    columns = []
    for name in dict.fromkeys(owner.get(name, name) for name in wrt):
        base = np.asarray(values[name], float)
        for place in np.ndindex(*base.shape):
            ends = []
            for step in (1e-6, -1e-6):
                moved = base.copy()
                moved[place] += step
                moved = float(moved) if not moved.shape else moved
                changed = {
                    k: moved if owner.get(k, k) == name else v for k, v in values.items()
                }
                ends.append(stacked(function, changed, rows, count))
            columns.append((ends[0] - ends[1]) / 2e-6)
    return np.stack(columns, axis=1)


def check(function, rows, values, *, argnums=None, same=(), backend="numpy", count=None):
    """The Jacobian and the residuals are right; returns the matrix."""
    count = len(next(r for r in rows.values() if r is not None)) if count is None else count
    before = {name: np.copy(value) for name, value in values.items()}
    made = value_and_sparse_jacobian(function, rows, argnums, same=same, backend=backend)
    errors, J = made(*values.values())
    alone = sparse_jacobian(function, rows, argnums, same=same, backend=backend)(*values.values())
    np.testing.assert_array_equal(alone.toarray(), J.toarray())
    np.testing.assert_allclose(errors, stacked(function, values, rows, count), rtol=1e-12)
    wrt = argnums or [n for n, v in values.items() if np.asarray(v).dtype.kind == "f"]
    wrt = (wrt,) if isinstance(wrt, str) else wrt
    expected = by_differences(function, values, rows, count, wrt, same)
    assert J.shape == expected.shape
    np.testing.assert_allclose(J.toarray(), expected, rtol=1e-6, atol=1e-7)
    assert J.has_canonical_format
    assert type(J)(J).has_sorted_indices
    ordered = J.copy()
    ordered.has_sorted_indices = False
    ordered.sort_indices()
    np.testing.assert_array_equal(ordered.indices, J.indices)
    for name, value in values.items():
        np.testing.assert_array_equal(value, before[name])
    return J


def three_errors(camera, point, weight, feature):
    both, of_weight = ba.residual(camera, point, weight, feature)
    return both[0], both[1], of_weight


@pytest.mark.parametrize("backend", BACKENDS)
def test_bundle_adjustment(backend):
    cameras, points, weights, features, camera_of, point_of = ba.arguments(4, 7, 15)
    cameras[0, :3] = 0.0  # the other branch
    camera_of[:3] = 0
    rows = {"camera": camera_of, "point": point_of}
    wrt = ("camera", "point", "weight")
    values = {"camera": cameras, "point": points, "weight": weights, "feature": features}
    made = sparse_jacobian(three_errors, rows, wrt, backend=backend)
    J = made(*values.values())
    expected = np.zeros(J.shape)
    one = jacobian(three_errors, argnums=wrt)
    for i in range(15):
        found = one(cameras[camera_of[i]], points[point_of[i]], weights[i], features[i])
        places = 11 * camera_of[i], 44 + 3 * point_of[i], 44 + 21 + i
        for k, row in enumerate(found):
            for part, place in zip(row, places, strict=True):
                expected[k * 15 + i, place : place + np.size(part)] = part
    np.testing.assert_allclose(J.toarray(), expected, rtol=1e-12, atol=1e-14)
    assert J.nnz == 31 * 15  # one entry for each weight alone
    assert set(np.diff(J.indptr)) == {15, 1}


def test_rows_of_an_array_result_stand_together():
    cameras, points, weights, features, camera_of, point_of = ba.arguments(3, 4, 6)
    rows = {"camera": camera_of, "point": point_of}
    values = {"camera": cameras, "point": points, "weight": weights, "feature": features}
    J = check(ba.residual, rows, values, argnums=("camera", "point", "weight"))
    assert list(np.diff(J.indptr)) == [15] * 12 + [1] * 6


def vectors(pose, point, weight):
    """Slices, products, loops and writes on small arrays."""
    turned = np.cross(pose[:3], point - pose[3:]) + SCALE * point
    R = np.eye(3)
    R[0, 1], R[2] = pose[0], weight * point
    total = 0.0
    for k in range(3):
        total += turned[k] ** POWER * (k + 1)
    out = np.zeros(2)
    out[0] = total + turned @ R @ point
    out[1] = np.sum(np.exp(-(point**2))) + np.linalg.norm(turned)
    return out * weight


@pytest.mark.parametrize("backend", BACKENDS)
def test_small_arrays(backend):
    values = {
        "pose": RNG.normal(size=(3, 6)), "point": RNG.normal(size=(5, 3)),
        "weight": RNG.normal(size=7),
    }  # fmt: skip
    rows = {"pose": RNG.integers(0, 3, 7), "point": RNG.integers(0, 5, 7)}
    check(vectors, rows, values, backend=backend)


def spring(a, b, stiffness, rest):
    d = b - a
    return stiffness * (math.sqrt(d[0] * d[0] + d[1] * d[1] + 0.1) - rest)


@pytest.mark.parametrize("backend", BACKENDS)
def test_two_rows_of_one_array(backend):
    nodes = RNG.normal(size=(5, 2))
    values = {"a": nodes, "b": nodes, "stiffness": 3.0, "rest": RNG.random(7)}
    rows = {"a": np.array([0, 3, 1, 4, 2, 1, 0]), "b": np.array([1, 2, 0, 0, 2, 3, 4])}
    J = check(spring, rows, values, argnums=("a", "b"), same=[("a", "b")], backend=backend)
    assert J.shape == (7, 10)
    assert list(np.diff(J.indptr)) == [4, 4, 4, 4, 2, 4, 4]  # spring 4 ends where it starts


def lens(f, grid, place, kind, table):
    """`f` and `grid` are the same for all; `kind` picks from `table`."""
    bent = f * place + grid[0] * place**3 + grid[1]
    return bent - table[kind] * np.array([1.0, GRAVITY])


@pytest.mark.parametrize("backend", BACKENDS)
def test_shared_arguments(backend):
    values = {
        "f": 1.5, "grid": RNG.normal(size=(2, 2)), "place": RNG.normal(size=(6, 2)),
        "kind": RNG.integers(0, 90, 6), "table": RNG.normal(size=90),
    }  # fmt: skip
    rows = {"grid": None, "table": None}
    wrt = ("f", "grid", "place")
    check(lens, rows, values, argnums=wrt, backend=backend, count=6)
    with pytest.raises(FlatgradError, match=r"which are many.*unsupported-argument"):
        sparse_jacobian(lens, rows, backend=backend)(*values.values())


def paths(x, y):
    """Branches in branches, in loops, an early return and a `while`."""
    if x[0] > 0:
        s = np.sin(x[1]) if y > 0 else x[1] ** 2
    else:
        s = np.exp(x[0])
    k = 0
    while s < 3.0:
        s = s * 1.7 + 0.3 + x[2] ** 2
        k += 1
    if k > 2:
        return s * y, s
    for j in range(40):
        s += x[j % 3] / (j + 1) if j % 2 else y * 0.1
    return s, y * y


@pytest.mark.parametrize("backend", BACKENDS)
def test_control_flow(backend):
    values = {"x": RNG.normal(size=(12, 3)), "y": RNG.normal(size=12)}
    values["x"][0, 1] = 4.0
    check(paths, {}, values, backend=backend, count=12)


def long_row(x, y):
    return np.sum(x * x) * y + x[65]


@pytest.mark.parametrize("backend", BACKENDS)
def test_rows_too_long_to_be_taken_apart(backend):
    values = {"x": RNG.normal(size=(3, 66)), "y": RNG.normal(size=4)}
    check(long_row, {"x": np.array([2, 0, 2, 1])}, values, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_float32(backend):
    nodes = RNG.normal(size=(5, 2)).astype(np.float32)
    rest = RNG.random(3).astype(np.float32)
    rows = {"a": np.array([0, 3, 1]), "b": np.array([1, 2, 0])}
    errors, J = value_and_sparse_jacobian(spring, rows, ("a", "b"), backend=backend)(
        nodes, nodes, 3.0, rest
    )
    wide = nodes.astype(float)
    expected = sparse_jacobian(spring, rows, ("a", "b"))(wide, wide, 3.0, rest.astype(float))
    assert J.dtype == np.result_type(errors.dtype, np.float32)
    np.testing.assert_allclose(J.toarray(), expected.toarray(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_new_values_in_the_same_structure(backend):
    rows = {"a": np.array([0, 1]), "b": np.array([1, 2])}
    made = sparse_jacobian(spring, rows, ("a", "b"), same=[("a", "b")], backend=backend)
    nodes = RNG.normal(size=(3, 2))
    first = made(nodes, nodes, 1.0, np.ones(2))
    kept = first.toarray()
    rows["a"][:] = 2  # they were copied
    second = made(nodes, nodes, 2.0, np.ones(2))
    np.testing.assert_allclose(second.toarray(), 2 * kept)
    np.testing.assert_array_equal(first.toarray(), kept)
    assert np.shares_memory(first.indices, second.indices)
    with pytest.raises(ValueError, match="read-only"):
        first.indices[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        first.eliminate_zeros()
    more = np.concatenate((nodes, nodes))
    assert made(more, more, 1.0, np.ones(2)).shape == (2, 12)


def scaled(x):
    return x * GRAVITY + np.sum(SCALE) * x**POWER


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_read_from_outside_may_change(backend, monkeypatch):
    made = sparse_jacobian(scaled, {}, backend=backend)
    x = np.array([1.0, 2.0])
    np.testing.assert_allclose(made(x).diagonal(), 9.81 + 2 * 1.5 * x)
    monkeypatch.setitem(globals(), "GRAVITY", 1.0)
    monkeypatch.setitem(globals(), "SCALE", np.array([1.0, 2.0]))
    np.testing.assert_allclose(made(x).diagonal(), 1.0 + 2 * 3.0 * x)
    monkeypatch.setitem(globals(), "POWER", 3)
    np.testing.assert_allclose(made(x).diagonal(), 1.0 + 3 * 3.0 * x**2)


def shifted(x):
    return x + SCALE


def test_lengths_from_outside_are_checked(monkeypatch):
    made = sparse_jacobian(shifted, {})
    made(np.ones((2, 3)))
    monkeypatch.setitem(globals(), "SCALE", np.ones(4))
    with pytest.raises(FlatgradError, match="shape-mismatch"):
        made(np.ones((2, 3)))


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_observations(backend):
    rows = {"a": np.array([], int), "b": []}
    made = value_and_sparse_jacobian(spring, rows, ("a", "b"), backend=backend)
    errors, J = made(np.ones((4, 2)), np.ones((4, 2)), 1.0, np.ones(0))
    assert errors.shape == (0,)
    assert J.shape == (0, 16)
    assert J.nnz == 0


def constant(x, y):
    return 3.0, y


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_result_that_depends_on_nothing(backend):
    J = check(constant, {}, {"x": np.ones(3), "y": np.ones(3)}, backend=backend, count=3)
    assert J.nnz == 3


def needs_axis(x, k):
    return np.sum(np.ones((2, 2)), axis=k)[0] * x


def writes(x):
    x[0] = 2.0
    return x[0] * x[1]


def hooked(x):
    with flatgrad.adjoint(x) as g:
        g = g * 2
    return x * x


def returns_int(x):
    return x, 3


def returns_many(x):
    return np.outer(np.ones(30), np.ones(30)) * x


def returns_nothing(x):
    pass


A = np.ones((4, 2))


@pytest.mark.parametrize(
    ("code", "function", "rows", "arguments", "options"),
    [
        ("bad-rows", spring, [0, 1], (A, A, 1.0, np.ones(2)), {}),
        ("bad-rows", spring, {"c": [0]}, (A, A, 1.0, np.ones(1)), {}),
        ("bad-rows", spring, {"a": [0.5]}, (A, A, 1.0, np.ones(1)), {}),
        ("bad-rows", spring, {"a": [[0]]}, (A, A, 1.0, np.ones(1)), {}),
        ("bad-rows", spring, {"a": [4], "b": [0]}, (A, A, 1.0, np.ones(1)), {}),
        ("bad-rows", spring, {"a": [-1], "b": [0]}, (A, A, 1.0, np.ones(1)), {}),
        ("bad-rows", spring, {"rest": [0]}, (A, A, 1.0, 2.0), {}),
        ("bad-rows", constant, {}, (1.0, 2.0), {}),
        ("bad-rows", spring, {"a": [1], "b": [0]}, (A, A + 1, 1.0, np.ones(1)),
         {"same": [("a", "b")]}),
        ("bad-rows", spring, {"a": [1], "b": [0]}, (A, A, 1.0, np.ones(1)),
         {"same": [("a", "b")], "argnums": "a"}),
        ("bad-rows", spring, {}, (), {"same": [("a", "b"), ("a", "rest")]}),
        ("shape-mismatch", spring, {"a": [1], "b": [0, 1]}, (A, A, 1.0, np.ones(1)), {}),
        ("shape-mismatch", spring, {"a": [1], "b": [0]}, (A, A, 1.0, np.ones(2)), {}),
        ("bad-argnums", spring, {}, (), {"argnums": "c"}),
        ("bad-argnums", spring, {}, (), {"argnums": ("a", "a")}),
        ("bad-option", spring, {}, (), {"backend": "fortran"}),
        ("not-differentiable", spring, {"a": [1], "b": [0]}, (A, A, 1, np.ones(1)),
         {"argnums": "stiffness"}),
        ("nothing-to-differentiate", scaled, {}, (np.ones(3, int),), {}),
        ("data-dependent-static", needs_axis, {}, (np.ones(2), np.ones(2, int)), {}),
        ("unsupported-write", writes, {}, (A,), {}),
        ("bad-hook", hooked, {}, (np.ones(3),), {}),
        ("non-scalar-output", returns_int, {}, (np.ones(3),), {}),
        ("non-scalar-output", returns_nothing, {}, (np.ones(3),), {}),
        ("data-dependent-static", returns_many, {}, (np.ones(3),), {}),
        ("unsupported-argument", scaled, {}, ([1.0],), {}),
        ("unsupported-dtype", scaled, {}, (np.ones(3, complex),), {}),
    ],
)  # fmt: skip
def test_refused(code, function, rows, arguments, options):
    with pytest.raises(FlatgradError) as caught:
        sparse_jacobian(function, rows, **options)(*arguments)
    assert caught.value.code == code


@pytest.mark.parametrize("backend", BACKENDS)
def test_numbers_and_rows_of_numbers_in_turn(backend):
    """A NumPy number is of the type of an array's elements, but has no rows."""
    made = sparse_jacobian(lambda a, c: a * c, {}, "a", backend=backend)
    a, c = np.array([1.0, 2.0, 3.0]), np.array([4.0, 5.0, 6.0])
    for given in (c, np.float64(3.0), c, np.array(2.0), c):
        np.testing.assert_array_equal(made(a, given).toarray(), np.diag(np.full(3, 1.0) * given))
    single = made(a.astype(np.float32), np.array(2.0))  # a number for compiled code, too
    np.testing.assert_array_equal(single.toarray(), 2.0 * np.eye(3))


def test_shows_its_source():
    made = sparse_jacobian(spring, {"a": [0, 1], "b": [1, 2]}, ("a", "b"), backend="numba")
    with pytest.raises(FlatgradError):
        made.source()
    text = made.source(A, A, 1.0, np.ones(2))
    assert "def spring_entries(a_0, a_1, b_0, b_1, stiffness, rest):" in text
    assert "a_i = a[a_rows[i]]" in text
    assert "entries" in made.lower(A, A, 1.0, np.ones(2))
    assert made.__name__ == "spring"
    assert made.primal is spring
