"""`backend="numba"` gives the results of the NumPy backend, compiles late, caches, refuses."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest

import flatgrad
from flatgrad import grad, value_and_grad

RNG = np.random.default_rng(5)


def normal(*shape):
    return RNG.normal(size=shape)


def neuron(w0, x0, w1, x1, w2):
    return flatgrad.sigmoid(w0 * x0 + w1 * x1 + w2)


def polynomial(x, y):
    return 3 * x**3 - x * y / 2 + 1.5


def broadcast(a, b, c):
    return np.sum(np.tanh(a * b + c) ** 2)


def images(x, scale):
    return np.sum(x * scale[:, None, None] - x * x)


def network(X, W, b, y):
    s = X @ W + b
    return np.mean((s - y) ** 2)


def cross_entropy(s, labels):
    p = flatgrad.softmax(s, axis=1)
    return -np.mean(np.log(p[np.arange(len(labels)), labels]))


def gathered(x, rows):
    return np.sum(x[rows] ** 2)


def masked(x):
    return np.sum(x[x > 0] ** 2)


def sliced(x):
    return np.sum(x[1:, ::2] * x[:-1, ::-2])


def chosen(x, y):
    return np.sum(np.where(x > y, x * y, y - x))


def written(x, y):
    out = np.zeros_like(x)
    out[1:] = x[:-1] * y
    out[0] = y
    out *= 2
    return np.sum(out * x)


def normalised(x):
    mean = x.mean(axis=-1, keepdims=True)
    return np.sum((x - mean) ** 3 / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-3))


def rearranged(x, y):
    z = np.concatenate([x.T, y.reshape(x.shape[1], -1)], axis=1)
    return np.sum(np.flip(z, 0) ** 2 * np.arange(z.size).reshape(z.shape))


def extremes(x):
    return np.max(x) * np.min(x) + np.sum(np.max(x, axis=0))


def mathematical(x):
    return math.sin(x) * math.exp(-x) + math.log1p(x * x)


def counted(x, n):
    return np.sum(x) * n + x[n]


def not_in_numba(x, S, k, K):
    """Functions of which Numba has none, or another form."""
    sign, log = np.linalg.slogdet(S)
    y = np.nan_to_num(np.round(10 * x, 1) * x + np.around(x[0]) + round(x[1], 2), posinf=3.0)
    y = y + np.sum(x[0] % x[1]) + np.mean(x[0] * x[2])
    y[x > 0] = y[x > 0] ** 2 + np.count_nonzero(K, axis=1)[0]
    turn = np.array([[np.cos(x[0]), -1], [[y[1], k[0]][1], x[1]]])
    rows = np.array([[x, 2 * y], [y, [1.0, x[2], 3.0]]])
    y = np.cross(y, k * x) + rows[:, 0].T @ turn @ x[:2]
    return sign * log + np.sum(K @ y) + (k @ K @ k) * x[0] + (k @ k) * x[1] + (K @ k) @ y


CASES = {
    neuron: (2.0, -1.0, -3.0, -2.0, -3.0),
    polynomial: (1.5, -0.5),
    broadcast: (normal(3, 1), normal(4), 0.3),
    images: (normal(2, 3, 4, 2), normal(3)),
    network: (normal(6, 3), normal(3, 2), normal(2), normal(6, 2)),
    cross_entropy: (normal(4, 3), np.array([0, 2, 1, 1])),
    gathered: (normal(4, 2), np.array([0, 3, 3, -1])),
    masked: (normal(3, 4),),
    sliced: (normal(4, 5),),
    chosen: (normal(5), normal(5)),
    written: (normal(5), 0.7),
    normalised: (normal(3, 4),),
    rearranged: (normal(2, 3), normal(6)),
    extremes: (normal(3, 4),),
    mathematical: (0.8,),
    counted: (normal(5), 2),
    not_in_numba: (
        normal(3), np.eye(2) + 0.3, np.array([1, -2, 3]), np.arange(9).reshape(3, 3),
    ),
}


def in_single(value):
    """A float32 argument for a float64 one."""
    if isinstance(value, np.ndarray) and value.dtype == np.float64:
        return value.astype(np.float32)
    return np.float32(value) if isinstance(value, float) else value


def wanted(function):
    """The parameters that are floats."""
    names = function.__code__.co_varnames
    return tuple(
        n for n, value in zip(names, CASES[function], strict=False)
        if np.asarray(value).dtype.kind == "f"
    )  # fmt: skip


def assert_same(found, expected, rtol):
    """The same structure, types, dtypes, shapes and numbers."""
    assert type(found).__name__ == type(expected).__name__
    if isinstance(expected, tuple | list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other, rtol)
        return
    assert np.shape(found) == np.shape(expected)
    assert np.asarray(found).dtype == np.asarray(expected).dtype
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=rtol / 10)


SINGLE = (
    neuron, polynomial, broadcast, network, cross_entropy, masked, chosen, written, normalised,
    not_in_numba,
)  # fmt: skip
BOTH = [(function, False) for function in CASES] + [(function, True) for function in SINGLE]


@pytest.mark.parametrize(
    "function, single", BOTH, ids=[f"{f.__name__}-{'float32' if s else 'float64'}" for f, s in BOTH]
)
def test_same_as_numpy(function, single):
    """Value and gradients; the arguments stay as they are."""
    args = tuple(map(in_single, CASES[function])) if single else CASES[function]
    kept = [np.array(value) for value in args]
    names = wanted(function)
    expected = value_and_grad(function, argnums=names)(*args)
    found = value_and_grad(function, argnums=names, backend="numba")(*args)
    assert_same(found, expected, 2e-5 if single else 1e-11)
    for one, given in zip(
        found[1], [a for a in args if np.asarray(a).dtype.kind == "f"], strict=True
    ):
        assert type(one) is type(given)
        assert np.asarray(one).dtype == np.asarray(given).dtype
    for value, before in zip(args, kept, strict=True):
        np.testing.assert_array_equal(value, before)


@pytest.mark.parametrize(
    "number", [2.0, 2, np.float32(2), np.float64(2), np.array(2.0), np.array(2, np.float32)],
    ids=lambda n: type(n).__name__ + str(getattr(n, "dtype", "")),
)  # fmt: skip
def test_kinds_of_numbers(number):
    """The value as NumPy gives it, the gradient as its argument."""
    for function in (lambda x: x * x, lambda x: np.sin(x) * x, lambda x: x):
        expected = value_and_grad(function)(number)
        found = value_and_grad(function, backend="numba")(number)
        assert_same(found, expected, 1e-6)
        kind = float if isinstance(number, int) else type(number)
        assert type(found[1]) is kind
        if not isinstance(number, int):
            assert np.asarray(found[1]).dtype == np.asarray(number).dtype


def test_containers_beside_the_value():
    def f(x, y):
        t = np.sum(x * y)
        return t * t, {"t": t, "parts": [x * 2, (t, 3)], "name": "f", "none": None, "empty": []}

    args = np.array([1.0, 2.0], np.float32), np.array([3.0, 1.0], np.float32)
    for derive in (grad, value_and_grad):
        expected = derive(f, has_aux=True)(*args)
        found = derive(f, has_aux=True, backend="numba")(*args)
        aux, other = (r[1] if derive is grad else r[0][1] for r in (found, expected))
        assert list(aux) == list(other)
        assert type(aux["t"]) is np.float32
        np.testing.assert_array_equal(aux["parts"][0], other["parts"][0])
        assert aux["parts"][1] == other["parts"][1]
        assert (aux["name"], aux["none"], aux["empty"]) == ("f", None, [])


# --- lazily compiled


def dispatcher(derived):
    return derived.__flatgrad__.last.compiled.function


def test_compiled_when_called():
    derived = grad(polynomial, backend="numba")
    assert derived.__flatgrad__.specialisations == {}
    assert "grad_x" in derived.source(2.0, 3.0)
    assert dispatcher(derived).signatures == []  # the text is there, nothing is compiled
    derived(2.0, 3.0)
    assert len(dispatcher(derived).signatures) == 1
    derived(3.0, 3.0)
    assert len(dispatcher(derived).signatures) == 1


def test_numba_is_not_imported_for_numpy():
    code = (
        "import sys\nfrom examples.neuron import f\nf(2, -1, -3, -2, -3)\n"
        "assert 'numba' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


# --- refused, never silently wrong


def test_shape_mismatch():
    args = normal(6, 4), normal(3, 2), normal(2), normal(6, 2)
    with pytest.raises(flatgrad.ShapeError, match="`X` has 4 columns, `W` has 3 rows"):
        grad(network, backend="numba")(*args)


def test_index_out_of_range():
    derived = grad(gathered, argnums="x", backend="numba")
    x = normal(4, 2)
    np.testing.assert_allclose(derived(x, np.array([-4, 3])), 2 * x * [[1], [0], [0], [1]])
    for rows in ([4], [-5], [0, 2**40]):
        with pytest.raises(IndexError):
            derived(x, np.array(rows))
    number = grad(counted, argnums="x", backend="numba")
    for wrong in (5, -6):
        with pytest.raises(IndexError):
            number(normal(5), wrong)


def test_mask_of_wrong_length():
    derived = grad(lambda x, mask: np.sum(x[mask] ** 2), argnums="x", backend="numba")
    x = normal(4)
    np.testing.assert_array_equal(derived(x, x > 0), np.where(x > 0, 2 * x, 0))
    for length in (3, 5):
        with pytest.raises((ValueError, IndexError)):
            derived(x, np.ones(length, bool))


def test_lengths_known_only_when_running():
    """What a mask selects, against an array that is too short or too long for it."""
    derived = grad(lambda x, y: np.sum(x[x > 0] * y), argnums="y", backend="numba")
    x = np.array([1.0, -1.0, 2.0, 3.0])
    np.testing.assert_array_equal(derived(x, np.ones(3)), [1, 2, 3])
    for length in (2, 4):
        with pytest.raises(ValueError, match="broadcast"):
            derived(x, np.ones(length))


def test_wrong_reshape():
    derived = grad(lambda x: np.sum(x.reshape(2, -1)[0]), backend="numba")
    np.testing.assert_array_equal(derived(np.arange(4.0)), [1, 1, 0, 0])
    with pytest.raises(ValueError, match="reshape"):
        derived(np.arange(5.0))


def test_higher_rank_compiles_in_seconds():
    """A product of two arrays of rank 4 must not go to Numba as it is: that takes 20 seconds."""
    derived = grad(lambda x, y: np.sum((x * y - x / y) ** 2), backend="numba", fuse=False)
    text = derived.source(normal(2, 3, 2, 2), normal(3, 1, 2))
    assert "multiply_4d_3d_n1n(x, y)" in text
    assert "divide_4d_3d_n1n(x, y)" in text
    fused = grad(lambda x, y: np.sum((x * y - x / y) ** 2), backend="numba")
    assert "for l in range" in fused.source(normal(2, 3, 2, 2), normal(3, 1, 2))


def test_lengths_are_checked_in_loops():
    derived = grad(lambda x, y: np.sum(x[x[:, 0, 0] > 0] * y), argnums="y", backend="numba")
    x = np.ones((4, 2, 2))
    x[1] = -1
    np.testing.assert_array_equal(derived(x, np.ones((3, 2, 2))), np.ones((3, 2, 2)))
    with pytest.raises(ValueError, match="broadcast"):
        derived(x, np.ones((4, 2, 2)))


# --- the disk cache

PROGRAM = """
import json, time
import numpy as np
from flatgrad import grad
import model

derived = grad(model.f, backend="numba")
start = time.perf_counter()
result = derived(np.array([1.0, 2.0]))
took = time.perf_counter() - start
stats = derived.__flatgrad__.last.compiled.function.stats
print(json.dumps([result.tolist(), took, sum(stats.cache_hits.values())]))
"""
MODEL = "import numpy as np\n\n\ndef f(x):\n    return np.sum(np.tanh(x) ** 2 * x)\n"
TANH = np.tanh(np.array([1.0, 2.0]))
EXPECTED = TANH**2 + 2 * TANH * (1 - TANH**2) * np.array([1.0, 2.0])


def run(folder, **variables):
    (folder / "model.py").write_text(MODEL)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([os.getcwd(), str(folder)])}
    environment.update(variables)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def test_second_process_finds_machine_code(tmp_path):
    variables = {"FLATGRAD_CACHE_DIR": str(tmp_path / "cache")}
    first, cold, misses = run(tmp_path, **variables)
    second, warm, hits = run(tmp_path, **variables)
    assert first == second
    np.testing.assert_allclose(first, EXPECTED)
    assert (misses, hits) == (0, 1)
    assert warm < cold


def test_works_without_a_cache_folder(tmp_path):
    """The folder's place is taken by a file: everything compiles in memory."""
    (tmp_path / "taken").write_text("")
    variables = {
        "FLATGRAD_CACHE_DIR": str(tmp_path / "taken"),
        "NUMBA_CACHE_DIR": "",
        "HOME": str(tmp_path / "taken"),
    }
    result, _, hits = run(tmp_path, **variables)
    assert hits == 0
    np.testing.assert_allclose(result, EXPECTED)
