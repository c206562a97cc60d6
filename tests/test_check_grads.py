"""check_grads finds what is wrong with a hand-written gradient, and accepts a right one."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

from flatgrad.testing import GradientCheckError, check_grads

RNG = np.random.default_rng(7)
W = RNG.standard_normal((3, 4))
X = RNG.standard_normal(4)


def layer(w, x):
    return np.tanh(w @ x).sum()


def layer_grad(w, x):
    grad_s = 1 - np.tanh(w @ x) ** 2
    return np.outer(grad_s, x), w.T @ grad_s


def failure(f: Callable[..., Any], args: tuple[Any, ...], gradient: Any, **options: Any) -> str:
    with pytest.raises(GradientCheckError) as caught:
        check_grads(f, args, gradient=gradient, **options)
    return str(caught.value)


def test_a_right_gradient_passes_and_is_reported():
    report = check_grads(layer, (W, X), gradient=layer_grad)
    assert (report.elements, report.directions) == (16, 3)
    assert report.worst_error < 1e-9
    header, w, x, last = str(report).splitlines()
    assert header.split() == ["argument", "checked", "worst", "error", "at"]
    assert w.split()[:2] == ["w", "12/12"]
    assert x.split()[:2] == ["x", "4/4"]
    assert last == "random directions: 3"


def test_one_wrong_element_is_found_and_named():
    def wrong(w, x):
        grad_w, grad_x = layer_grad(w, x)
        grad_w[1, 2] *= 1.25
        return grad_w, grad_x

    message = failure(layer, (W, X), wrong)
    right = layer_grad(W, X)[0][1, 2]
    assert "1 of 16 elements" in message
    assert "worst: w[1, 2]" in message
    assert f"analytic        {1.25 * right:.10g}" in message
    assert f"numeric         {right:.6g}"[:-1] in message
    assert "relative error  0.2\n" in message
    assert "step" in message


def test_an_error_of_a_hundred_thousandth_is_found():
    message = failure(np.sin, (1.0,), lambda x: math.cos(x) * (1 + 1e-5))
    assert "worst: " in message


@pytest.mark.parametrize("elements", [True, False, 2])
def test_a_wrong_sign_is_found(elements):
    def wrong(w, x):
        return tuple(-g for g in layer_grad(w, x))

    message = failure(layer, (W, X), wrong, elements=elements)
    expected = {True: "16 of 16 elements", 2: "4 of 4 elements", False: "3 of 3 random directions"}
    assert expected[elements] in message
    assert "relative error  2\n" in message


def test_a_sample_is_seeded_and_bounded():
    big = RNG.standard_normal((40, 50))
    calls = []
    for _ in range(2):
        report = check_grads(
            lambda a: (a**3).sum(), (big,), gradient=lambda a: 3 * a**2, elements=9
        )
        calls.append(report)
    assert calls[0] == calls[1]
    assert calls[0].elements == 9
    assert calls[0].by_argument[0][1:3] == (9, 2000)


@pytest.mark.parametrize(
    "wrong, expected",
    [
        (lambda x: x[:1], "dtype float64 and shape (1,); expected float64 and shape (4,)"),
        (lambda x: x.reshape(4, 1), "shape (4, 1)"),
        (lambda x: x.astype(np.float32), "dtype float32"),
        (lambda x: np.ones(4, int), "dtype int64"),
        (lambda x: 1.0, "shape ()"),
        (lambda x: None, "NoneType"),
        (lambda x: [1.0] * 4, "list"),
        (lambda x: (x,), "a part for each of x"),
    ],
)
def test_wrong_shapes_and_dtypes(wrong, expected):
    message = failure(lambda x: 0.5 * (x @ x), (X,), wrong)
    assert expected in message


@pytest.mark.parametrize("wrong", [2, np.array(2.0), np.float32(2.0), np.array([2.0])])
def test_the_gradient_of_a_python_scalar_is_a_float(wrong):
    assert "the gradient of `x` is" in failure(lambda x: 2 * x, (1.0,), lambda x: wrong)
    check_grads(lambda x: 2 * x, (1.0,), gradient=lambda x: np.float64(2))


def test_numpy_scalars_and_zero_dimensional_arrays_keep_their_dtype():
    for kind in (np.float32, np.float64, lambda v: np.array(v, np.float32)):
        check_grads(lambda x: x * x, (kind(3.0),), gradient=lambda x: 2 * x)
    assert "dtype float64" in failure(lambda x: x * x, (np.float32(3),), lambda x: float(2 * x))


def test_a_kink_is_explained():
    def relu_sum(x):
        return np.maximum(x, 0).sum()

    def gradient(x):
        return (x > 0).astype(float)

    message = failure(relu_sum, (np.array([1.0, 0.0, -2.0]),), gradient)
    assert "worst: x[1]" in message
    assert "not differentiable here: |left - right| = 1" in message
    check_grads(relu_sum, (np.array([1.0, 1e-4, -2.0]),), gradient=gradient)  # beside the kink


def test_a_wrong_gradient_of_a_curved_function_is_not_called_a_kink():
    message = failure(lambda x: np.exp(3 * x), (0.5,), lambda x: float(np.exp(3 * x)))
    assert "differentiable" not in message


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_non_finite_gradients_fail(bad):
    message = failure(lambda x: (x * x).sum(), (X,), lambda x: np.where(x == x[2], bad, 2 * x))
    assert "worst: x[2]" in message
    assert f"the analytic gradient is {bad} here" in message


def test_non_finite_values_fail():
    with np.errstate(invalid="ignore"):
        assert "f is nan at" in failure(lambda x: np.log(x), (-1.0,), lambda x: 1 / x)
    message = failure(lambda x: np.sqrt(x), (0.0,), lambda x: 0.0)
    assert "f is NaN, infinite or undefined next to this point" in message
    message = failure(lambda x: math.sqrt(x), (0.0,), lambda x: 0.0)  # raises ValueError below 0
    assert "undefined next to this point" in message


def test_a_gradient_that_modifies_its_argument():
    def gradient(x):
        x *= 2
        return x

    kept = X.copy()
    assert "the gradient modified its argument `x`" in failure(lambda x: x @ x, (X,), gradient)
    np.testing.assert_array_equal(X, kept)


def test_a_function_may_write_to_its_own_argument():
    def square_in_place(x):
        x *= x
        return x.sum()

    kept = X.copy()
    check_grads(square_in_place, (X,), gradient=lambda x: 2 * x)
    np.testing.assert_array_equal(X, kept)


def test_a_function_that_is_not_deterministic():
    rng = np.random.default_rng(0)
    message = failure(lambda x: x * rng.random(), (1.0,), lambda x: 0.5)
    assert "f is not deterministic: two calls gave" in message


def test_float32_is_differenced_in_float64():
    single = (W.astype(np.float32), X.astype(np.float32))
    assert check_grads(layer, single, gradient=layer_grad).worst_error < 1e-4

    def wrong(w, x):
        return tuple(g * np.float32(1.01) for g in layer_grad(w, x))

    assert "16 of 16" in failure(layer, single, wrong)


def test_functions_that_compute_in_float32_get_looser_tolerances():
    def casting(x):
        return np.tanh(x.astype(np.float32)).sum()

    def strict(x):
        if x.dtype != np.float32:
            raise TypeError("no matching definition")
        return np.tanh(x).sum()

    single = X.astype(np.float32)
    for f in (casting, strict):
        check_grads(f, (single,), gradient=lambda x: 1 - np.tanh(x) ** 2)
        failure(f, (single,), lambda x: 1.1 * (1 - np.tanh(x) ** 2))
        failure(f, (single,), np.zeros_like)  # small steps do not move f: no proof of a zero


def test_small_steps_do_not_confirm_a_zero():
    failure(lambda x: 1e6 + x, (2.0,), lambda x: 0.0)


@pytest.mark.parametrize("factor", [1e-12, 1e-3, 1e9])
def test_tolerances_follow_the_scale_of_the_function(factor):
    check_grads(lambda x: factor * np.sin(x), (1.0,), gradient=lambda x: factor * math.cos(x))
    failure(lambda x: factor * np.sin(x), (1.0,), lambda x: 2 * factor * math.cos(x))


def test_points_of_very_different_size():
    x = np.array([1e-7, 1e-3, 1.0, 1e6])
    check_grads(lambda x: np.log(x).sum(), (x,), gradient=lambda x: 1 / x)
    check_grads(lambda x: (x**4).sum(), (np.zeros(3),), gradient=lambda x: 4 * x**3)


def test_infinite_arguments_whose_gradient_is_zero():
    mask = np.array([0.0, -np.inf, 1.0])

    def gradient(x):
        e = np.exp(x)
        return e / e.sum()

    check_grads(lambda x: np.log(np.exp(x).sum()), (mask,), gradient=gradient)


def test_ints_count_as_floats_or_as_counts():
    check_grads(lambda a, b: a * b, (2, 3), gradient=lambda a, b: (float(b), float(a)))
    check_grads(lambda x, n: x**n, (2.0, 3), gradient=lambda x, n: n * x ** (n - 1))
    check_grads(
        lambda x, n, flag: sum(x for _ in range(n)), (2.0, 3, True), gradient=lambda x, n, flag: 3.0
    )


def test_argnums_and_keywords():
    def f(w, x, *, scale=2.0, labels=None):
        return scale * layer(w, x)

    def grad_x(w, x, *, scale=2.0, labels=None):
        return scale * layer_grad(w, x)[1]

    labels = np.arange(3)
    for argnums in (1, -3, "x"):
        check_grads(f, (W, X), {"labels": labels}, argnums=argnums, gradient=grad_x)
    check_grads(f, (W, X), argnums=("x",), gradient=lambda w, x: (grad_x(w, x),))
    check_grads(
        f, (W, X), {"scale": 3.0}, argnums="scale", gradient=lambda w, x, scale: layer(w, x)
    )
    check_grads(f, (W,), {"x": X}, gradient=lambda w, x: tuple(2 * g for g in layer_grad(w, x)))
    assert "form of argnums" in failure(f, (W, X), lambda w, x: (grad_x(w, x),), argnums=1)
    with pytest.raises(TypeError, match="`labels` cannot have a gradient"):
        check_grads(
            f,
            (
                W,
                X,
            ),
            {"labels": labels},
            argnums="labels",
            gradient=grad_x,
        )


def test_named_tuples_say_which_argument_is_meant():
    class Gradients(NamedTuple):
        a: float
        b: float

    class OnlyA(NamedTuple):
        a: float

    def f(a, n, b):
        return a**n * b

    check_grads(f, (2.0, 3, 5.0), gradient=lambda a, n, b: Gradients(3 * a**2 * b, a**3))
    assert "a part for each" in failure(f, (2.0, 3, 5.0), lambda a, n, b: OnlyA(3 * a**2 * b))


def test_misuse_is_not_a_failed_check():
    with pytest.raises(TypeError, match="returns one real number"):
        check_grads(lambda x: 2 * x, (X,), gradient=lambda x: x)
    with pytest.raises(TypeError, match="args must be a tuple"):
        check_grads(lambda x: x, 1.0, gradient=lambda x: 1.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no argument of f"):
        check_grads(lambda n: 1.0, ("text",), gradient=lambda n: ())


def test_tolerances_and_steps_can_be_given():
    def nearly(x):
        return math.cos(x) + 1e-4

    check_grads(np.sin, (1.0,), argnums=0, gradient=nearly, rtol=1e-3)
    check_grads(np.sin, (1.0,), argnums=0, gradient=nearly, rtol=0, atol=1e-3)
    failure(np.sin, (1.0,), nearly, argnums=0)
    check_grads(math.sin, (1.0,), gradient=math.cos, steps=(1e-5,))


def test_a_derived_function_stands_for_its_primal():
    def derived(x):
        raise AssertionError("not called")

    derived.primal = lambda x: x * x  # type: ignore[attr-defined]
    check_grads(derived, (3.0,), gradient=lambda x: 2 * x)
