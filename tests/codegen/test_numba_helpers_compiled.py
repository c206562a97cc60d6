"""A cross-section of the helper texts, and of what is called native, compiled by Numba."""

import math
import warnings

import numpy as np
import pytest
from scipy.special import erf, logsumexp

from flatgrad.codegen import numba_helpers as nh

R1, R2 = np.array([0, -1, 1, 0]), np.array([[0, 1, 1, -2]] * 2)
M1, M2 = np.array([True, False, True]), np.array([[True, False, True, True]] * 2 + [[False] * 4])


def array(shape, seed=0):
    return np.random.default_rng([seed, *shape]).uniform(-1.5, 2.0, shape)


def run(helper, njit):
    """The helper and what it requires, compiled in an otherwise empty module."""
    space = {"np": np, "math": math}
    for one in nh.in_order([helper]):
        exec(one.source, space)
        space[one.name] = njit(space[one.name])
    return space[helper.name]


def assert_same(got, want):
    want = np.asarray(want)
    tolerance = 2e-6 if want.dtype == np.float32 else 1e-12
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)
    assert np.shape(got) == want.shape
    if want.ndim:
        assert got.dtype == want.dtype


def all_helpers():
    """A cross-section of every generator."""
    return [
        nh.sum_axes(3, (0, 2), True, "float32"), nh.var_axes(2, 0, ddof=1), nh.logsumexp_axes(2, 1),
        nh.matmul(4, 3), nh.einsum("ij,jk->ik"), nh.gather(("array2d", "slice", "mask1d")),
        nh.add_items(("mask2d",), 1), nh.elementwise("clip", (2, 0, 1)), nh.roll(2, (0, 1)),
        nh.pad(3),
    ]  # fmt: skip


def test_text_is_tidy():
    for helper in nh.in_order(all_helpers()):
        assert helper.source.startswith(f"def {helper.name}(")
        assert helper.source.endswith("\n")
        assert all(len(line) <= 100 for line in helper.source.splitlines())
    assert nh.in_order(all_helpers()) == nh.in_order(all_helpers())
    names = [helper.name for helper in nh.in_order(all_helpers())]
    assert len(names) == len(set(names))


def test_native():
    assert nh.native("sum", (2,))
    assert not nh.native("sum", (2,), dtype="float32")
    assert not nh.native("sum", (2,), axis=0)
    assert not nh.native("sum", (2,), keepdims=True)
    assert nh.native("max", (3,), dtype="float32")
    assert not nh.native("max", (3,), axis=0)
    assert nh.native("@", (2, 2), dtypes=("float32", "float32"))
    assert not nh.native("@", (2, 2), dtypes=("float32", "float64"))
    assert not nh.native("@", (3, 2))
    assert nh.native("getitem", (2,), pattern=("int", "slice"))
    assert not nh.native("getitem", (2,), pattern=("array1d",))
    assert nh.native("tanh", (4,))
    assert not nh.native("no_such_function", (1,))


@pytest.fixture(scope="module")
def njit():
    numba = pytest.importorskip("numba")
    return numba.njit(error_model="numpy")


def compiled_cases():
    t, m, v = array((2, 3, 4)), array((3, 4)), array((4,))
    f = m.astype("float32")
    P = array((3, 7, 9))
    return {
        "sum": (nh.sum_axes(3, (0, 2), True), t.sum(axis=(0, 2), keepdims=True), t),
        "sum_f32": (nh.sum_axes(2, 0, dtype="float32"), f.sum(axis=0), f.T.copy().T),
        "var": (nh.var_axes(2, 1, ddof=1), m.var(axis=1, ddof=1), m[:, ::-1][:, ::-1]),
        "std_f32": (nh.std_axes(2, dtype="float32"), f.std(), f),
        "max": (nh.max_axes(2, 0, dtype="float32"), f.max(axis=0), f),
        "logsumexp": (nh.logsumexp_axes(2, 1), logsumexp(m, axis=1), m),
        "logsumexp_f32": (nh.logsumexp_axes(2, 0, False, "float32"), logsumexp(f, axis=0), f),
        "norm": (nh.norm_axes(2, 1, order=3), np.linalg.norm(m, 3, axis=1), m),
        "any": (nh.any_axes(2, 1), (m > 0).any(axis=1), m > 0),
        "average": (nh.average_axes(2, 1, 1), m @ v / v.sum(), m, v),
        "cumsum": (nh.cumulative("sum", 2, 0, "float32"), f.cumsum(axis=0), f),
        "matmul": (nh.matmul(3, 3), t @ m.T[None], t, m.T[None]),
        "matmul_mixed": (nh.matmul(3, 2, ("float64", "float32")), t @ f.T, t, f.T),
        "matmul_1d": (nh.matmul(1, 3), m[:, 0] @ t, m[:, 0], t),
        "tensordot": (nh.tensordot(3, 2, ((1, 2), (0, 1))), np.tensordot(t, m), t, m),
        "outer": (nh.outer(2, 1, "float32"), np.outer(f, f[0]), f, f[0]),
        "einsum": (nh.einsum("ij,kj->ik"), m @ m.T, m, m),
        "einsum_products": (
            nh.einsum("bji,bjk->kbi", products=True), np.einsum("bji,bjk->kbi", P, P), P, P
        ),
        "trace": (nh.trace(3, 1, 1, 2), np.trace(t, 1, 1, 2), t),
        "diagonal": (nh.diag(2), np.diag(m, -1), m, -1),
        "triu": (nh.triangle("triu", 3), np.triu(t, 1), t, 1),
        "tile": (nh.tile(2, 3), np.tile(m, (2, 1, 3)), m, (2, 1, 3)),
        "repeat": (nh.repeat(2, None), np.repeat(m, 2), m.T.copy().T, 2),
        "repeat_each": (nh.repeat(2, 1, True), np.repeat(m, R1 + 1, 1), m, R1 + 1),
        "roll": (nh.roll(2, (0, 1)), np.roll(m, (1, -2), (0, 1)), m, (1, -2)),
        "roll_flat": (nh.roll(2), np.roll(m, -1), m, -1),
        "pad": (nh.pad(2), np.pad(f, ((1, 0), (2, 1))), f, ((1, 0), (2, 1)), 0.0),
        "reshape": (nh.reshape(2), m.T.reshape(2, 6), m.T, (2, 6)),
        "squeeze": (nh.squeeze(2, 0), v, v[None]),
        "expand": (nh.expand_dims(2, (0, 2)), m[None, :, None], m),
        "flip": (nh.flip(2, 0), m[::-1], m),
        "flat": (nh.concatenate_flat([2, 1]), np.concatenate((m, v), axis=None), m, v),
        "linspace": (nh.linspace(False, "float32"), np.float32([0, 0.25, 0.5, 0.75]), 0, 1, 4),
        "floor": (nh.elementwise("floor_divide", (2, 1)), m // v, m, v),
        "heaviside": (nh.elementwise("heaviside", (2, 0)), np.heaviside(m, 0.5), m, 0.5),
        "erf": (nh.elementwise("erf", (2,), "float32"), erf(f), f),
        "where": (nh.where((1, 2, 0), "float32"), np.where(v > 0, f, np.float32(0)), v > 0, f, 0.0),
        "clip": (nh.elementwise("clip", (2, 0, 0), "float32"), np.clip(f, 0, 1), f, 0.0, 1.0),
        "gather": (nh.gather(("array1d", "slice", "array2d")), t[R1 % 2, :, R2], t, R1 % 2, R2),
        "gather_mask": (nh.gather(("slice", "mask2d")), t[:, M2], t, M2),
        "gather_mixed": (nh.gather(("mask1d", "newaxis", "int")), m[M1, None, 2], m, M1, 2),
    }  # fmt: skip


@pytest.mark.parametrize("case", compiled_cases())
def test_compiled(case, njit):
    helper, want, *args = compiled_cases()[case]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no advice from Numba either: pieces are contiguous
        assert_same(run(helper, njit)(*args), want)


def test_compiled_writes(njit):
    x = array((3, 4)).astype("float32")
    want = x.copy()
    np.add.at(want, (slice(None), R1), 2.0)
    run(nh.add_items(("slice", "array1d"), 0), njit)(x, R1, 2.0)
    assert_same(x, want)
    want[M2] = np.arange(M2.sum())
    run(nh.set_items(("mask2d",), 1), njit)(x, M2, np.arange(M2.sum()))
    assert_same(x, want)
    with pytest.raises(IndexError, match="out of bounds"):
        run(nh.set_items(("array1d", "slice")), njit)(x, np.array([7]), 0.0)


def test_compiled_float32_sums_are_exact(njit):
    x = np.full(3_000_000, 0.1, "float32")
    assert run(nh.mean_axes(1, dtype="float32"), njit)(x) == np.float32(0.1)


@pytest.mark.parametrize(
    "name, ranks, facts, text",
    [
        ("sum", (3,), {}, "x.sum()"),
        ("max", (3,), {}, "x.max()"),
        ("@", (2, 2), {}, "x[0] @ x[1].T"),
        ("moveaxis", (3,), {}, "np.moveaxis(x, (0, 1), (1, 2))"),
        ("stack", (2, 2), {"axis": -1}, "np.stack((x[0], x[1]), axis=-1)"),
        ("hypot", (3, 2), {}, "np.hypot(x, x[0])"),
        ("getitem", (3,), {"pattern": ("slice", "newaxis", "int")}, "x[::-1, None, -1]"),
        ("add_item", (3,), {"pattern": ("slice", "ellipsis")}, "add(x.copy())"),
    ],
)
def test_native_text(name, ranks, facts, text, njit):
    def add(x):
        x[1:, ...] += x[0]
        return x

    assert nh.native(name, ranks, **facts)
    x = array((2, 3, 4))
    want = eval(text, {"np": np, "add": add, "x": x})
    compiled = njit(eval(f"lambda x: {text}", {"np": np, "add": njit(add)}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert_same(compiled(np.asfortranarray(x)), want)
        assert_same(compiled(x), want)
