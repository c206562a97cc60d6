"""Every helper text, run as plain Python against NumPy."""

import itertools
import math
import random
import re

import numpy as np
import pytest
import scipy.special

from flatgrad.codegen import numba_helpers as nh

SHAPES = {1: (4,), 2: (3, 4), 3: (2, 3, 4), 4: (2, 1, 3, 2)}


def array(shape, dtype="float64", seed=0):
    return np.random.default_rng([seed, *shape]).uniform(-1.5, 2.0, shape).astype(dtype)


def layouts(x):
    """The same values, contiguous, in Fortran order and strided."""
    spaced = np.zeros(tuple(2 * n for n in x.shape), x.dtype)
    view = spaced[tuple(slice(None, None, 2) for _ in x.shape)]
    view[...] = x
    return [x.copy(), np.asfortranarray(x), view]


def run(helper, wrap=lambda function: function):
    """The helper and what it requires, executed in an otherwise empty module."""
    space = {"np": np, "math": math}
    for one in nh.in_order([helper]):
        exec(one.source, space)
        space[one.name] = wrap(space[one.name])
    return space[helper.name]


def assert_same(got, want, dtype=None):
    want = np.asarray(want)
    tolerance = 2e-6 if want.dtype == np.float32 else 1e-12
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance, strict=False)
    assert np.shape(got) == want.shape
    if want.ndim:
        assert got.dtype == (dtype or want.dtype)


def check(helper, want, *args, wrap=lambda function: function, dtype=None):
    """One call against the wanted result; the arguments stay as they are."""
    before = [np.copy(arg) if isinstance(arg, np.ndarray) else arg for arg in args]
    assert_same(run(helper, wrap)(*args), want, dtype)
    for arg, old in zip(args, before):
        np.testing.assert_array_equal(arg, old)


def subsets(rank):
    return [
        None,
        *itertools.chain(*(itertools.combinations(range(rank), n + 1) for n in range(rank))),
    ]


def frobenius(x, axis, keepdims):
    return np.sqrt(np.sum(x * x, axis=axis, keepdims=keepdims))


REDUCTIONS = {
    "sum": (nh.sum_axes, np.sum), "mean": (nh.mean_axes, np.mean), "prod": (nh.prod_axes, np.prod),
    "max": (nh.max_axes, np.max), "min": (nh.min_axes, np.min), "ptp": (nh.ptp_axes, np.ptp),
    "var": (nh.var_axes, np.var), "std": (nh.std_axes, np.std),
    "logsumexp": (nh.logsumexp_axes, scipy.special.logsumexp),
    "norm": (nh.norm_axes, frobenius),
}  # fmt: skip


@pytest.mark.parametrize("name", REDUCTIONS)
@pytest.mark.parametrize("rank", SHAPES)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_reduction(name, rank, dtype):
    generator, function = REDUCTIONS[name]
    for axes, keepdims in itertools.product(subsets(rank), (False, True)):
        helper = generator(rank, axes, keepdims, dtype=dtype)
        for x in layouts(array(SHAPES[rank], dtype)):
            check(helper, function(x, axis=axes, keepdims=keepdims), x)


@pytest.mark.parametrize("axes", [-1, (0, -2), (-1, 0)])
def test_negative_axes(axes):
    x = array((2, 3, 4))
    check(nh.sum_axes(3, axes), x.sum(axis=axes), x)


@pytest.mark.parametrize("ddof", [1, 0.5, 2])
def test_ddof(ddof):
    x = array((3, 4))
    for axes in (None, 0, 1):
        check(nh.var_axes(2, axes, ddof=ddof), np.var(x, axis=axes, ddof=ddof), x)
        check(nh.std_axes(2, axes, True, ddof), np.std(x, axis=axes, ddof=ddof, keepdims=True), x)


@pytest.mark.parametrize("axes", [None, 0, 1])
def test_nan_and_infinities(axes):
    x = array((3, 4))
    x[1, 2], x[0, 0] = np.nan, -np.inf
    check(nh.max_axes(2, axes), np.max(x, axis=axes), x)
    check(nh.min_axes(2, axes), np.min(x, axis=axes), x)
    y = np.array([[-np.inf, -np.inf, 800.0], [-np.inf, np.inf, 801.0]])
    with np.errstate(divide="ignore", over="ignore"):
        check(nh.logsumexp_axes(2, axes), scipy.special.logsumexp(y, axis=axes), y)


def test_empty_has_no_extreme():
    assert run(nh.sum_axes(1))(np.zeros(0)) == 0
    for generator in (nh.max_axes, nh.min_axes):
        with pytest.raises(ValueError, match="zero-size"):
            run(generator(1))(np.zeros(0))
    assert run(nh.max_axes(2, 1))(np.zeros((0, 3))).shape == (0,)


@pytest.mark.parametrize("axes", [None, 0, (0, 1)])
def test_integers_and_booleans(axes):
    x = np.array([[3, -1, 2], [0, 5, 5]])
    for generator, function in (
        (nh.sum_axes, np.sum),
        (nh.max_axes, np.max),
        (nh.prod_axes, np.prod),
    ):
        check(generator(2, axes, dtype="int64"), function(x, axis=axes), x)
    check(nh.sum_axes(2, axes, True, "int64"), np.sum(x > 1, axis=axes, keepdims=True), x > 1)
    check(nh.any_axes(2, axes), np.any(x > 4, axis=axes), x > 4)
    check(nh.all_axes(2, axes), np.all(x > -1, axis=axes), x > -1)


@pytest.mark.parametrize("order", [0, 1, 2, 3, 0.5, -1, np.inf, -np.inf])
def test_norm_orders(order):
    x = array((3, 4))
    check(nh.norm_axes(2, 1, order=order), np.linalg.norm(x, order, axis=1), x)
    check(nh.norm_axes(2, 0, True, order), np.linalg.norm(x, order, axis=0, keepdims=True), x)


def test_matrix_norm_is_refused():
    with pytest.raises(ValueError, match="matrix norm"):
        nh.norm_axes(2, order=1)


def test_average():
    x, w = array((3, 4)), np.abs(array((4,))) + 0.1
    spread = np.broadcast_to(w, x.shape).copy()
    check(nh.average_axes(2, 1, 1), np.average(x, axis=1, weights=w), x, w)
    check(nh.average_axes(2, 0, 2), np.average(x, axis=0, weights=spread), x, spread)
    check(nh.average_axes(2, None, 2), np.average(x, weights=spread), x, spread)
    check(nh.average_axes(2, 0), np.average(x, axis=0), x)


@pytest.mark.parametrize("rank", SHAPES)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_cumulative(rank, dtype):
    for axis in (None, *range(-1, rank)):
        for x in layouts(array(SHAPES[rank], dtype)):
            check(nh.cumulative("sum", rank, axis, dtype), np.cumsum(x, axis=axis), x)
            check(nh.cumulative("prod", rank, axis, dtype), np.cumprod(x, axis=axis), x)


PRODUCTS = [
    ((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 2)), ((2, 3), (3, 4)), ((5, 2, 3), (3, 4)),
    ((5, 2, 3), (3,)), ((2, 3), (5, 3, 4)), ((3,), (5, 3, 4)), ((5, 2, 3), (5, 3, 4)),
    ((1, 2, 3), (5, 3, 4)), ((5, 2, 3), (1, 3, 4)), ((2, 1, 2, 3), (3, 3, 2)),
    ((2, 4, 2, 3), (3, 1)), ((2, 1, 2, 3), (1, 4, 3, 2)), ((3,), (2, 2, 3, 4)),
    ((0, 2, 3), (1, 3, 2)),
]  # fmt: skip
MIXED = [("float64", "float64"), ("float32", "float32"), ("float32", "float64")]


@pytest.mark.parametrize("shape_a, shape_b", PRODUCTS)
@pytest.mark.parametrize("dtypes", MIXED)
def test_matmul(shape_a, shape_b, dtypes):
    helper = nh.matmul(len(shape_a), len(shape_b), dtypes)
    for a in layouts(array(shape_a, dtypes[0])):
        for b in layouts(array(shape_b, dtypes[1], 1)):
            check(helper, a @ b, a, b)


def test_matmul_batch_mismatch():
    with pytest.raises(ValueError, match="broadcast"):
        run(nh.matmul(3, 3))(np.ones((2, 2, 2)), np.ones((3, 2, 2)))


@pytest.mark.parametrize(
    "shape_a, shape_b",
    [((2, 3, 4), (5, 4, 2)), ((2, 3, 4), (4,)), ((4,), (3, 4, 2)), ((3, 4), (4, 2))]
)  # fmt: skip
def test_dot(shape_a, shape_b):
    a, b = array(shape_a), array(shape_b, seed=1)
    check(nh.dot(a.ndim, b.ndim), np.dot(a, b), a, b)


@pytest.mark.parametrize(
    "shape_a, shape_b", [((4,), (4,)), ((3, 4), (2, 4)), ((2, 3, 4), (5, 4)), ((4,), (2, 3, 4))]
)
def test_inner(shape_a, shape_b):
    a, b = array(shape_a), array(shape_b, seed=1)
    check(nh.inner(a.ndim, b.ndim), np.inner(a, b), a, b)


def test_outer():
    for shape_a, shape_b in itertools.product([(), (3,), (2, 3)], [(), (2,), (2, 1, 2)]):
        a, b = array(shape_a), array(shape_b, seed=1)
        helper = nh.outer(len(shape_a), len(shape_b))
        check(helper, np.outer(a, b), a if shape_a else float(a), b if shape_b else float(b))


@pytest.mark.parametrize(
    "shape_a, shape_b, axes",
    [
        ((2, 3, 4), (3, 4, 5), 2), ((2, 3), (4,), 0), ((2, 3), (2, 3), 2), ((3, 4), (4, 2), 1),
        ((2, 3, 4), (4, 5, 3), ((1, 2), (2, 0))), ((2, 3, 4), (4, 2), ((-1,), (0,))),
        ((2, 3, 4, 2), (3, 2), ((1, 0), (0, 1))),
    ],
)  # fmt: skip
@pytest.mark.parametrize("dtypes", MIXED)
def test_tensordot(shape_a, shape_b, axes, dtypes):
    a, b = array(shape_a, dtypes[0]), array(shape_b, dtypes[1], 1)
    for left in layouts(a):
        check(nh.tensordot(a.ndim, b.ndim, axes, dtypes), np.tensordot(a, b, axes), left, b)


@pytest.mark.parametrize(
    "subscripts, shapes",
    [
        ("ij,jk->ik", [(2, 3), (3, 4)]), ("ij->ji", [(2, 3)]), ("ii->", [(3, 3)]),
        ("ii->i", [(3, 3)]),
        ("bij,bjk->bik", [(2, 3, 4), (2, 4, 2)]), ("i,j->ij", [(2,), (3,)]),
        ("ij,ij->", [(2, 3)] * 2),
        ("ij,kj,k->i", [(2, 3), (4, 3), (4,)]), ("ijkl->lj", [(2, 3, 2, 3)]),
    ],
)  # fmt: skip
def test_einsum(subscripts, shapes):
    operands = [array(shape, seed=k) for k, shape in enumerate(shapes)]
    check(nh.einsum(subscripts), np.einsum(subscripts, *operands), *operands)
    singles = [x.astype("float32") for x in operands]
    helper = nh.einsum(subscripts, ["float32"] * len(shapes))
    check(helper, np.einsum(subscripts, *singles), *singles)


@pytest.mark.parametrize("letters", ["bij,bjk->bik", "ij,jk->ik", "cbij,bcjk->bcik"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_einsum_of_matrices(letters, dtype):
    """Large products are those of BLAS, in whatever order the axes stand."""
    rng = random.Random(0)
    tolerance = {"float64": 1e-12, "float32": 2e-4}[dtype]
    for sizes in ({"i": 7, "j": 8, "k": 9}, {"i": 2, "j": 3, "k": 2}, {"i": 30, "j": 0, "k": 30}):
        lengths = {"b": 3, "c": 2, **sizes}
        for _ in range(8):
            one, other, out = (
                "".join(rng.sample(term, len(term))) for term in re.split(",|->", letters)
            )
            operands = [
                array([lengths[c] for c in term], dtype, k) for k, term in enumerate((one, other))
            ]
            text = f"{one},{other}->{out}"
            helper = nh.einsum(text, [dtype, dtype], products=True)
            assert "np.dot(" in helper.source
            expected = np.einsum(text, *operands)
            for left in layouts(operands[0]):
                found = run(helper)(left, operands[1])
                np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)
                assert found.dtype == expected.dtype


@pytest.mark.parametrize("text", ["bij,bij->bi", "ij,j->i", "ij,ik->i", "ijl,jlk->ik", "ii,ij->ij",
                                  "bij,jk->bik", "i,j->ij", "ij,jk,kl->il"])  # fmt: skip
def test_einsum_that_is_no_product_of_matrices(text):
    assert "np.dot(" not in nh.einsum(text, products=True).source
    mixed = nh.einsum("ij,jk->ik", ["float32", "float64"], products=True)
    assert "np.dot(" not in mixed.source


def test_einsum_lengths():
    a, b = array((2, 1)), array((3, 4))
    check(nh.einsum("ij,jk->ik", unit_axes=[(1,), ()]), np.einsum("ij,jk->ik", a, b), a, b)
    with pytest.raises(ValueError, match="axes named j"):
        run(nh.einsum("ij,jk->ik"))(a, b)


@pytest.mark.parametrize("offset", [-4, -1, 0, 2])
def test_diagonals(offset):
    for shape, axes in (((3, 4), (0, 1)), ((3, 4), (1, 0)), ((3, 2, 4), (2, 0))):
        x = array(shape)
        check(nh.trace(x.ndim, offset, *axes), np.trace(x, offset, *axes), x)
        check(nh.diagonal(x.ndim, *axes), np.diagonal(x, offset, *axes), x, offset)
    for x in (array((3,)), array((3, 4))):
        check(nh.diag(x.ndim), np.diag(x, offset), x, offset)
    for rank, kind in itertools.product(SHAPES, ("triu", "tril")):
        x = array(SHAPES[rank], "float32")
        check(nh.triangle(kind, rank), getattr(np, kind)(x, offset), x, offset)


def test_views():
    x = array((2, 3, 4), "float32")
    for axes in (0, -1, (0, 2), (1, -1)):
        check(nh.expand_dims(3, axes), np.expand_dims(x, axes), x)
    one = array((1, 3, 1))
    for axes in (0, -1, (0, 2)):
        check(nh.squeeze(3, axes), np.squeeze(one, axes), one)
    assert run(nh.squeeze(1, 0))(np.array([2.5])) == 2.5
    with pytest.raises(ValueError, match="squeeze"):
        run(nh.squeeze(3, 1))(one)
    for axes in (None, 1, (0, -1)):
        check(nh.flip(3, axes), np.flip(x, axes), x)


def test_reshape():
    for x in layouts(array((2, 3, 4))):
        for shape in ((24,), (4, 6), (-1, 2), (3, 1, 8)):
            check(nh.reshape(3), np.reshape(x, shape), x, shape)
    check(nh.reshape(0), np.reshape(2.0, (1, 1)), 2.0, (1, 1))


def test_copies_side_by_side():
    x = array((2, 3), "float32")
    for reps in ((2,), (2, 3), (2, 1, 3)):
        check(nh.tile(2, len(reps)), np.tile(x, reps), x, reps)
    for axis in (None, 0, -1):
        check(nh.repeat(2, axis), np.repeat(x, 3, axis), x, 3)
        count = np.arange(x.size if axis is None else x.shape[axis])
        check(nh.repeat(2, axis, each=True), np.repeat(x, count, axis), x, count)
    check(nh.concatenate_flat([2, 1]), np.concatenate((x, x[0]), axis=None), x, x[0])


def test_roll():
    x = array((3, 4))
    for shift in (-5, 0, 1):
        check(nh.roll(2), np.roll(x, shift), x, shift)
        check(nh.roll(2, -1), np.roll(x, shift, -1), x, shift)
        check(nh.roll(2, (1, 0)), np.roll(x, (shift, 2), (1, 0)), x, (shift, 2))


def test_pad():
    x = array((2, 3), "float32")
    for widths in (((0, 0), (1, 2)), ((2, 1), (0, 1))):
        check(nh.pad(2), np.pad(x, widths, constant_values=0.5), x, widths, 0.5)


@pytest.mark.parametrize("num", [0, 1, 2, 5])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_linspace(num, dtype):
    for endpoint in (True, False):
        want = np.linspace(0.25, 2, num, endpoint=endpoint, dtype=dtype)
        check(nh.linspace(endpoint, dtype), want, 0.25, 2, num)


def test_vector_of_numbers():
    check(nh.stacked_scalars(2, "float32"), np.array([1, 2], "float32"), np.float32(1), 2)


SPECIAL = np.array([0.0, -0.0, 1.0, -2.5, 0.3, np.inf, -np.inf, np.nan])
ELEMENTWISE = {
    "floor_divide": np.floor_divide, "heaviside": np.heaviside, "logaddexp": np.logaddexp,
    "xlogy": scipy.special.xlogy, "xlog1py": scipy.special.xlog1py, "fmod": np.fmod,
}  # fmt: skip


@pytest.mark.parametrize("name", ELEMENTWISE)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_elementwise(name):
    rows, columns = SPECIAL[:, None], SPECIAL[2:5]
    for dtype in ("float64", "float32"):
        a, b = rows.astype(dtype), columns.astype(dtype)
        check(nh.elementwise(name, (2, 1), dtype), ELEMENTWISE[name](a, b), a, b)
        a = a.ravel()
        check(nh.elementwise(name, (1, 0), dtype), ELEMENTWISE[name](a, a.dtype.type(0.3)), a, 0.3)


@pytest.mark.parametrize("name", ["erf", "erfc", "gammaln"])
def test_special_functions(name):
    x = array((2, 3))
    check(nh.elementwise(name, (2,)), getattr(scipy.special, name)(x), x)
    assert_same(run(nh.scalar(name))(0.3), getattr(scipy.special, name)(0.3))


def test_choices():
    x = array((3, 4), "float32")
    check(nh.where((2, 2, 0), "float32"), np.where(x > 0, x, np.float32(0)), x > 0, x, 0.0)
    check(nh.where((1, 0, 2)), np.where(x[0] > 0, 1.0, x), x[0] > 0, 1.0, x, dtype="float64")
    check(nh.where((0, 2, 2), "float32"), x, True, x, x + 1)
    assert run(nh.where((0, 0, 0)))(False, 1.0, 2.0) == 2.0
    check(nh.elementwise("clip", (2, 0, 1)), np.clip(x, -0.5, x[0]), x, -0.5, x[0], dtype="float64")


R1, R2, C1 = np.array([0, -1, 1, 0]), np.array([[0, 1, 1, -2]] * 2), np.array([[1], [0]])
M1, M2 = np.array([True, False, True]), np.array([[True, False, True, True]] * 2 + [[False] * 4])
PATTERNS = [
    ((3, 4), (R1,)), ((3, 4), (slice(None), R1)), ((3, 4), (R1, 1)), ((3, 4), (-1, R1)),
    ((3,), (R2,)),
    ((3, 4), (R1, R1)), ((3, 4), (C1, R1)), ((3, 4), (R2, R1)),
    ((2, 3, 4), (R1[:1], slice(None), R1)),
    ((2, 3, 4), (slice(None), R1, C1)), ((2, 3, 4), (0, slice(None), R1)),
    ((2, 3, 4), (slice(None), R1, None, R1)),
    ((3, 4), (M1,)), ((3, 4), (M2,)), ((2, 3, 4), (slice(None), M2)), ((3, 4), (M1, slice(None))),
    ((3, 4), (M1, 2)), ((3, 4), (M1, np.array([2, 0]))), ((3, 4), (None, R1)), ((3, 4), (R1, None)),
    ((3, 4, 2), (M2, 1)), ((2, 2, 3, 4), (slice(None), R1, slice(None), R1)), ((3, 4), (1, -2)),
]  # fmt: skip


def pattern_of(index):
    names = []
    for entry in index:
        if isinstance(entry, np.ndarray):
            names.append(f"{'mask' if entry.dtype == bool else 'array'}{entry.ndim}d")
        else:
            names.append(
                "newaxis" if entry is None else "int" if isinstance(entry, int) else "slice"
            )
    return tuple(names)


def data_of(index):
    return [entry for entry in index if entry is not None and not isinstance(entry, slice)]


@pytest.mark.parametrize("shape, index", PATTERNS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_index(shape, index, dtype):
    pattern = pattern_of(index)
    taken = nh.pattern_rank(pattern)
    pattern += ("slice",) * (len(shape) - taken)  # the caller writes trailing axes out
    picked = array(shape, dtype)[index]
    assert nh.pattern_rank(pattern) == len(shape)
    assert nh.result_rank(pattern) == picked.ndim
    for x in layouts(array(shape, dtype)):
        check(nh.gather(pattern), picked, x, *data_of(index))
    values = [1.5, picked * 2 + 1]
    if picked.ndim > 1:
        values.append(array(picked.shape[-1:], dtype))
    for value, base in itertools.product(values, layouts(array(shape, dtype))):
        check_writes(base, index, pattern, value)


def check_writes(base, index, pattern, value):
    for generator in (nh.set_items, nh.add_items):
        got, want = base.copy(order="K"), base.copy()
        run(generator(pattern, np.ndim(value)))(got, *data_of(index), value)
        if generator is nh.set_items:
            want[index] = value
        else:
            # Written out, as np.add.at of NumPy 2.4 drops rows when it broadcasts itself.
            np.add.at(want, index, np.broadcast_to(value, want[index].shape).copy())
        assert_same(got, want)


def test_write_through_a_view():
    x = np.zeros((4, 3))
    run(nh.add_items(("array1d", "slice"), 0))(x[1:], R1, 1.0)
    assert x[:, 0].tolist() == [0, 2, 1, 1]


@pytest.mark.parametrize("wrong", [3, -4])
def test_wrong_index(wrong):
    x, index = array((3, 4)), np.array([0, wrong])
    for helper, args in (
        (nh.gather(("array1d", "slice")), (index,)),
        (nh.set_items(("array1d", "slice")), (index, 1.0)),
        (nh.gather(("int", "slice")), (wrong,)),
    ):
        with pytest.raises(IndexError):
            run(helper)(x, *args)
    with pytest.raises(IndexError, match="mask"):
        run(nh.gather(("mask1d", "slice")))(x, np.array([True, False]))
    with pytest.raises(IndexError, match="broadcast"):
        run(nh.gather(("array1d", "array1d")))(x, R1, R1[:2])


def test_add_region():
    for rank in (1, 2):
        part, value = array((4, 3)[:rank]), array((4, 3)[:rank], seed=1)
        for given in (value, 2.5):
            out = part.copy()
            run(nh.add_region(rank, np.ndim(given)))(out, given)
            assert_same(out, part + given)
    with pytest.raises(ValueError, match="lengths differ"):
        run(nh.add_region(1, 1))(array((4,)), array((3,)))


def test_set_region():
    for rank in (1, 2):
        part, value = array((4, 3)[:rank]), array((4, 3)[:rank], seed=1)
        out = part.copy()
        run(nh.set_region(rank))(out[1:], value[1:])
        assert_same(out[1:], value[1:])
        assert_same(out[:1], part[:1])
    with pytest.raises(ValueError, match="lengths differ"):
        run(nh.set_region(1))(array((4,)), array((3,)))


def test_add_outer():
    out, a, b = array((4, 3)), array((4,), seed=1), array((3,), seed=2)
    want = out + np.outer(a, b)
    run(nh.add_outer())(out, a, b)
    assert_same(out, want)


def stack_with_zeros(shape, seed=0):
    """A stack of which rows 0 and 2 are 0, and row 3 is NaN in a place."""
    found = array((5, *shape), seed=seed)
    found[0] = found[2] = 0.0
    found[3, 0, 0] = np.nan
    return found


@pytest.mark.parametrize("shape", [(4, 3), (12, 7)])
def test_products_with_stacks(shape):
    a, s = array((6, shape[0])), stack_with_zeros(shape)
    b = array((shape[1], 5))
    for one in layouts(a):
        check(nh.stack_product(), a @ s, one, s)
    for one in layouts(s):
        check(nh.stack_product(), a @ s, a, one)
        check(nh.stack_times(), s @ b, one, b)


@pytest.mark.parametrize("shape", [(4, 3), (12, 7)])
def test_products_are_added(shape):
    a, s, w = array((6, shape[0])), stack_with_zeros(shape), array((6, 1))
    x = array((5, 6, shape[1]))
    for one in layouts(a):
        for helper, scale in ((nh.add_products(0), 0.5), (nh.add_products(2), w)):
            to = x.copy()
            run(helper)(to, one, s, scale)
            assert_same(to, x + (a @ s) * scale)
            np.testing.assert_array_equal(to[[0, 2]], x[[0, 2]])


def test_rows_of_zeros_are_passed_over():
    a, s = np.full((2, 2), np.inf), np.zeros((3, 2, 2))
    assert_same(run(nh.stack_product())(a, s), np.zeros((3, 2, 2)))
    assert_same(run(nh.stack_times())(s, a), np.zeros((3, 2, 2)))
    with pytest.raises(ValueError, match="multiplied"):
        run(nh.add_products(0))(s, a, np.zeros((3, 3, 2)), 1.0)


@pytest.mark.parametrize("value", [5e-324, 1e-310, -2e-308, 0.0, 1e120, np.inf, np.nan])
def test_products_with_subnormal_numbers(value):
    """The same products, whatever stands beside the subnormal number."""
    a, b = array((4, 6)), array((6, 5), seed=3)
    for given in ((1, 2), (3, 0)):
        one, other = a.copy(), b.copy()
        one[given], other[given] = value, value
        one[0, 1] = other[0, 1] = 1e-312
        with np.errstate(all="ignore"):
            for x, side in ((one, "left"), (other, "right")):
                x, y = (x, b) if side == "left" else (a, x)
                for left in layouts(x):
                    for right in layouts(y):
                        check(nh.times_tiny(side), x @ y, left, right)


def test_products_of_subnormal_numbers_alone():
    """What is lost by scaling is less than the last bit of a subnormal number."""
    a, b = np.full((3, 2), 3e-310), np.array([[0.75, 1e10], [0.125, -4.0]])
    for side, x, y in (("left", a, b), ("right", b.T, a.T)):
        found = run(nh.times_tiny(side))(x, y)
        np.testing.assert_allclose(found, x @ y, rtol=0, atol=1.5e-323)
