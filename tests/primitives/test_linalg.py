"""Products and functions of matrices: what they emit, second derivatives, einsum in every form."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

import flatgrad.primitives.rules  # noqa: F401
from flatgrad import FlatgradError, ShapeError, check_grads, grad
from flatgrad.ir.interpret import interpret
from flatgrad.ir.ops import Block, Slot, Value
from flatgrad.primitives.einsum import EINSUM, EINSUM_VIEW, is_view, written_out
from flatgrad.primitives.registry import PRIMITIVES, call
from flatgrad.primitives.samples import A
from flatgrad.transform.forward import forward
from flatgrad.transform.reverse import reverse
from tests.primitives.harness import Case, cleaned, emitted, inner

HERE = ("linalg", "einsum", "solve")
SAMPLES = [
    pytest.param(primitive, sample, id=f"{primitive.name}-{k}")
    for primitive in dict.fromkeys(PRIMITIVES.values())
    if primitive.type_rule.__module__.split(".")[-1] in HERE and primitive.derivative
    for k, sample in enumerate(primitive.samples())
]
RNG = np.random.default_rng(0)


def drawn(*shape):
    return RNG.uniform(0.5, 1.5, shape) * RNG.choice([-1.0, 1.0], shape)


def like(value):
    made = drawn(*np.shape(value))
    return made.astype(value.dtype) if isinstance(value, np.ndarray | np.generic) else float(made)


def wide(value):
    return np.asarray(value, np.float64) if np.ndim(value) else float(value)


def numeric_slope(function, values, dots, cotangent, analytic):
    """The error of `analytic` against central differences, at the best of three steps."""
    errors = []
    for h in (1e-3, 1e-4, 1e-5):
        up, down = (
            function([wide(v) + s * h * wide(d) for v, d in zip(values, dots, strict=True)])
            for s in (1, -1)
        )
        slope = (np.asarray(up, np.float64) - np.asarray(down, np.float64)) / (2 * h)
        errors.append(abs(inner(slope, cotangent) - analytic))
    return min(errors)


def check_first(case):
    cotangent = like(case.output())
    dots = [like(value) for value in case.values]
    fn, gradients = case.pulled(cotangent)
    for gradient, value in zip(gradients, case.values, strict=True):
        assert np.shape(gradient) == np.shape(value)
        assert np.asarray(gradient).dtype == np.asarray(value).dtype
    pulled = sum(inner(g, d) for g, d in zip(gradients, dots, strict=True))
    scale = 1 + abs(pulled)
    assert abs(inner(case.pushed(dots), cotangent) - pulled) < 1e-9 * scale
    assert numeric_slope(case.output, case.values, dots, cotangent, pulled) < 1e-6 * scale
    for one, other in zip(gradients, emitted(fn, [*case.values, cotangent]), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-14)


def check_second(case):
    """Reverse over reverse and forward over reverse, against differences of the gradient."""
    seed = like(case.output())
    fn, gradients = case.pulled(seed)
    values = [*case.values, seed]
    single = any(np.asarray(value).dtype == np.float32 for value in values)
    dots = [like(value) for value in values]
    for k, out in enumerate(fn.results):
        if not isinstance(out, Value) or out in fn.params:
            continue
        again = Value(out.type, "again", kept=True)
        params = (*fn.params, again)
        body = Block(params, fn.body.ops, fn.body.yields)
        twice, adjoints = reverse(replace(fn, body=body), fn.params, seed=again, output=k)
        body = Block(params, twice.body.ops, tuple(adjoints))
        tree = tuple(Slot(i) for i in range(len(adjoints)))
        twice = cleaned(replace(twice, body=body, tree=tree))
        cotangent = like(gradients[k])
        found = interpret(twice, [*values, cotangent])
        pulled = sum(inner(g, d) for g, d in zip(found, dots, strict=True))
        scale = 1 + abs(pulled)
        error = numeric_slope(lambda at, k=k: interpret(fn, at)[k], values, dots, cotangent, pulled)
        assert error < (5e-3 if single else 1e-6) * scale
        pushed, tangents = forward(fn, fn.params)
        body = Block(pushed.body.params, pushed.body.ops, (tangents[k],))
        pushed = cleaned(replace(pushed, body=body, tree=Slot(0)))
        dot = interpret(pushed, [*values, *dots])[0]
        assert abs(inner(dot, cotangent) - pulled) < (1e-3 if single else 1e-8) * scale


@pytest.mark.parametrize(("primitive", "sample"), SAMPLES)
def test_the_rules_have_derivatives_again(primitive, sample):
    check_second(Case(primitive, sample, seed=3))


def einsum_cases(count, seed=7):
    """Random subscripts: letters repeated, summed, of length 0, and of length 1 against longer."""
    rng = random.Random(seed)
    made = []
    while len(made) < count:
        lengths = {letter: rng.choice([0, 1, 2, 3, 2, 3]) for letter in "abcd"}
        terms, shapes = [], []
        for _ in range(rng.choice([1, 2, 2, 3])):
            term = "".join(rng.choices("abcd", k=rng.randint(0, 3)))
            own = {c: 1 if rng.random() < 0.25 else lengths[c] for c in sorted(set(term))}
            terms.append(term)
            shapes.append(tuple(own[c] for c in term))
        letters = sorted(set("".join(terms)))
        output = "".join(rng.sample(letters, rng.randint(0, len(letters))))
        if terms != [""]:
            made.append((f"{','.join(terms)}->{output}", shapes))
    return made


@pytest.mark.parametrize(("text", "shapes"), einsum_cases(80))
def test_einsum_of_random_subscripts(text, shapes):
    operands = [A(*shape) for shape in shapes]
    if is_view(written_out(text, [len(shape) for shape in shapes])):
        case = Case(PRIMITIVES[EINSUM_VIEW], call(operands[0], text))
    else:
        case = Case(PRIMITIVES[EINSUM], call(operands, text))
    check_first(case)
    check_second(case)


@pytest.mark.parametrize(
    ("text", "shapes", "plain"),
    [
        ("ij,jk", [(2, 3), (3, 4)], "ij,jk->ik"),
        ("ba", [(2, 3)], "ba->ab"),
        ("ij,ij", [(2, 3), (2, 3)], "ij,ij->"),
        ("...ij,...jk->...ik", [(5, 2, 3), (3, 4)], "aij,jk->aik"),
        ("i...,...->...i", [(2, 3), (4, 1)], "ib,ab->abi"),
        ("...", [(2, 3)], "ab->ab"),
        ("b...a", [(2, 3, 4)], "bca->cab"),
        (" i j , jk -> ik", [(2, 3), (3, 2)], "ij,jk->ik"),
        ("i...->...", [(3,)], "i->"),
    ],
)
def test_subscripts_are_written_out_as_numpy_reads_them(text, shapes, plain):
    arrays = [drawn(*shape) for shape in shapes]
    assert str(written_out(text, [array.ndim for array in arrays])) == plain
    np.testing.assert_array_equal(np.einsum(text, *arrays), np.einsum(plain, *arrays))


def dense(X, W):
    s = X @ W
    return np.sum(s)


def dense_rows(X, W):
    s = X.dot(W)
    return np.sum(s * s)


def batch_product(a, b):
    s = np.einsum("bij,bjk->bik", a, b)
    return np.sum(s * s)


def bilinear_form(x, W, v):
    return np.einsum("i,ij,j", x, W, v)


def frobenius(a, b):
    return np.einsum("ij,ij->", a, b)


def first_axes(a, b):
    s = np.tensordot(a, b, 1)
    return np.sum(s * s)


def by_rows(A, B):
    s = np.inner(A, B)
    return np.sum(s * s)


def solution(A, b):
    x = np.linalg.solve(A, b)
    return np.sum(x * x)


def log_volume(A):
    sign, logabsdet = np.linalg.slogdet(A)
    return sign * logabsdet


def by_ufunc(a, b):
    s = np.matmul(a, b)
    return np.sum(s * s)


PRODUCT = ("grad_{0} = grad_s @ {1}.T", "grad_{1} = {0}.T @ grad_s")


@pytest.mark.parametrize(
    ("function", "shapes", "lines"),
    [
        (dense_rows, [(5, 3), (3, 4)], [line.format("X", "W") for line in PRODUCT]),
        (first_axes, [(2, 3), (3, 4)], [line.format("a", "b") for line in PRODUCT]),
        (by_ufunc, [(2, 3), (3, 4)], [line.format("a", "b") for line in PRODUCT]),
        (dense_rows, [(5, 3), (3,)], ["grad_X = np.outer(grad_s, W)", "grad_W = X.T @ grad_s"]),
        (dense_rows, [(2, 5, 3), (3, 4)], ["grad_X = grad_s @ W.T"]),
        (by_rows, [(2, 3), (4, 3)], ["grad_A = grad_s @ B", "grad_B = grad_s.T @ A"]),
        (
            batch_product,
            [(2, 3, 4), (2, 4, 3)],
            [
                "grad_a = np.einsum('bik,bjk->bij', grad_s, b)",
                "grad_b = np.einsum('bij,bik->bjk', a, grad_s)",
            ],
        ),
        (
            bilinear_form,
            [(2,), (2, 3), (3,)],
            ["np.einsum('ij,j->i', W, v)", "np.einsum('i,j->ij', x, v)"],
        ),
        (frobenius, [(2, 3), (2, 3)], ["* b\n", "* a\n"]),
        (
            solution,
            [(3, 3), (3,)],
            ["grad_b = np.linalg.solve(A.T, grad_x)", "grad_A = -np.outer(grad_b, x)"],
        ),
        (log_volume, [(3, 3)], ["* np.linalg.inv(A).T"]),
    ],
)
def test_emitted_like_a_textbook(function, shapes, lines):
    derived = grad(function)
    derived(*[drawn(*shape) for shape in shapes])
    for line in lines:
        assert line in derived.source()


def test_matrix_gate_of_the_course():
    x = np.array([[2.0, 1, -3], [-3, 4, 2]])
    w = np.array([[3.0, 2, 1, -1], [2, 1, 3, 2], [3, 2, 1, -2]])
    upstream = np.array([[2.0, 3, -3, 9], [-8, 1, 4, 6]])

    def weighted(x, w, upstream):
        y = x @ w
        return np.sum(y * upstream)

    grad_x, grad_w = grad(weighted, argnums=(0, 1))(x, w, upstream)
    np.testing.assert_array_equal(grad_x, [[0, 16, -9], [-24, 9, -30]])
    expected = [[28, 3, -18, 0], [-30, 7, 13, 33], [-22, -7, 17, -15]]
    np.testing.assert_array_equal(grad_w, expected)


def test_square_length_of_a_product():
    def energy(W, x):
        q = W @ x
        return np.sum(q**2)

    grad_W, grad_x = grad(energy)(np.array([[0.1, 0.5], [-0.3, 0.8]]), np.array([0.2, 0.4]))
    np.testing.assert_allclose(grad_W, [[0.088, 0.176], [0.104, 0.208]], rtol=1e-12)
    np.testing.assert_allclose(grad_x, [-0.112, 0.636], rtol=1e-12)


def test_float32_stays():
    for gradient in grad(dense)(drawn(3, 2).astype("float32"), drawn(2, 4).astype("float32")):
        assert gradient.dtype == np.float32


def fifth(A):
    return np.sum(np.linalg.matrix_power(A, 5))


def inverse_square(A):
    return np.sum(np.linalg.matrix_power(A, -2) * A)


def zeroth(A):
    return np.sum(np.linalg.matrix_power(A, 0) * A)


def chain(A):
    return np.sum(np.linalg.multi_dot([A, A.T, A, A[0]]))


def factor(A):
    return np.sum(np.linalg.cholesky(A @ A.T) ** 3)


def batch_of_views(A):
    turned = np.einsum("ij->ji", A)
    diagonal = np.einsum("ii->i", turned)
    return np.sum(diagonal**3) + np.sum(turned[0] ** 2)


@pytest.mark.parametrize(
    "function", [fifth, inverse_square, zeroth, chain, factor, batch_of_views, log_volume]
)
def test_composites(function):
    A_ = drawn(3, 3) + 3 * np.eye(3)
    dot = drawn(3, 3)
    slope = (function(A_ + 1e-5 * dot) - function(A_ - 1e-5 * dot)) / 2e-5
    assert inner(grad(function)(A_), dot) == pytest.approx(slope, rel=1e-6)


def of_rows(X, W):
    return np.sum(np.inner(X, W))


def contracted(X, W):
    return np.sum(np.tensordot(X, W, axes=((0, 1), (0, 1))))


def named_axes(X, W):
    return np.sum(np.einsum("ij,jk->ik", X, W))


def elements(X, W):
    return np.vdot(X, W)


def inverted(X, W):
    return np.sum(np.linalg.inv(X)) + np.sum(W)


def to_the_first(X, W):
    return np.sum(np.linalg.matrix_power(X, 1)) + np.sum(W)


def solved(X, W):
    return np.sum(np.linalg.solve(X.T @ X, W))


def crossed(X, W):
    return np.sum(np.cross(X, W))


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (dense, "`X` has 3 columns, `W` has 5 rows"),
        (dense_rows, "`X` has 3 columns, `W` has 5 rows"),
        (of_rows, "`X` has 3 columns, `W` has 2 columns"),
        (contracted, "`X` has 4 rows, `W` has 5 rows"),
        (named_axes, "the axes `j` differ in length: 3 in `X` and 5 in `W`"),
        (elements, "`X` has 12 elements, `W` has 10"),
        (inverted, "`X` has 4 rows and 3 columns"),
        (to_the_first, "`X` has 4 rows and 3 columns"),
        (solved, "`X.T @ X` has 3 columns, `W` has 5 rows"),
        (crossed, "`W` has 2"),
    ],
)
def test_shapes_that_do_not_fit_are_reported_in_the_users_words(function, words):
    with pytest.raises(ShapeError) as caught:
        grad(function)(drawn(4, 3), drawn(5, 2))
    assert words in str(caught.value)


def chosen(x, w, m, k):
    return x[m] @ w[k]


def chosen_by_name(x, w, m, k):
    return np.einsum("i,i->", x[m], w[k])


@pytest.mark.parametrize("function", [chosen, chosen_by_name])
def test_lengths_known_at_run_time_only_are_compared_there(function):
    x, w = drawn(4), drawn(4)
    two, one = np.array([True, False, True, False]), np.array([False, True, False, False])
    np.testing.assert_allclose(grad(function, "x")(x, w, one, one), np.where(one, w, 0.0))
    with pytest.raises(ValueError, match=r"differ in length|elements"):
        grad(function, "x")(x, w, two, one)


def by_lists(X, W):
    return np.sum(np.einsum(X, [0, 1], W, [1, 2]))


def unknown_letter(X, W):
    return np.sum(np.einsum("ij,jk->iq", X, W))


def twice_after(X, W):
    return np.sum(np.einsum("ij,jk->ii", X, W))


def too_many_letters(X, W):
    return np.sum(np.einsum("ijk,jk->i", X, W))


def dots_lost(X, W):
    return np.sum(np.einsum("...j,jk->k", X, W))


def with_dtype(X, W):
    return np.sum(np.einsum("ij,jk->ik", X, W, dtype=float))


def with_out(X, W):
    return np.sum(np.dot(X, W, out=W))


def with_axes(X, W):
    return np.sum(np.tensordot(X, W, axes=((0, 1), (0,))))


def of_a_number(X, W):
    return np.sum(X @ 2.0) + np.sum(W)


def upper_factor(X, W):
    return np.sum(np.linalg.cholesky(X, upper=True)) + np.sum(W)


def other_axis(X, W):
    return np.sum(np.cross(X, W, axis=0))


@pytest.mark.parametrize(
    "function",
    [
        by_lists, unknown_letter, twice_after, too_many_letters, dots_lost, with_dtype, with_axes,
        of_a_number, upper_factor, other_axis,
    ],
)  # fmt: skip
def test_what_is_not_supported_is_refused(function):
    with pytest.raises(FlatgradError):
        grad(function)(drawn(3, 3), drawn(3, 3))


def test_product_written_over_a_factor():
    check_grads(with_out, (drawn(3, 3), drawn(3, 3)))



def test_a_singular_matrix_raises_where_the_derivative_inverts_it():
    def volume(A):
        return np.linalg.det(A)

    with pytest.raises(np.linalg.LinAlgError):
        grad(volume)(np.zeros((2, 2)))
