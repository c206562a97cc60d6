"""The examples that courses on backpropagation work by hand: their numbers must come out.

E1 to E9 are checked against the figures themselves; the networks, losses, activations and blocks of
E12 against central differences.
"""

from __future__ import annotations

import numpy as np
import pytest

import flatgrad
from flatgrad import grad, relu, sigmoid, value_and_grad
from flatgrad.testing import check_grads


def close(found, expected, tolerance=1e-12):
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


# --- E1 to E9


def test_e1_circuit():
    @value_and_grad
    def f(x, y, z):
        q = x + y
        return q * z

    value, gradient = f(-2, 5, -4)
    assert value == -12
    assert gradient == (-4, -4, 3)
    assert (gradient.x, gradient.y, gradient.z) == (-4, -4, 3)


def neuron(w0, x0, w1, x1, w2):
    s0 = w0 * x0
    s1 = w1 * x1
    s2 = s0 + s1
    s3 = s2 + w2
    L = sigmoid(s3)
    return L


NEURON_BACKWARD = {
    "grad_L = 1.0",
    "grad_s3 = grad_L * (1 - L) * L",
    "grad_w2 = grad_s3",
    "grad_s2 = grad_s3",
    "grad_s0 = grad_s2",
    "grad_s1 = grad_s2",
    "grad_w1 = grad_s1 * x1",
    "grad_x1 = grad_s1 * w1",
    "grad_w0 = grad_s0 * x0",
    "grad_x0 = grad_s0 * w0",
}


def test_e2_sigmoid_neuron():
    value, gradient = value_and_grad(neuron)(2, -1, -3, -2, -3)
    s = (1 - 0.7310585786300049) * 0.7310585786300049
    close(value, 0.7310585786300049)
    close(gradient, (-s, 2 * s, -2 * s, -3 * s, s))
    close(gradient, (-0.1966, 0.3932, -0.3932, -0.5898, 0.1966), 5e-5)
    assert all(type(one) is float for one in gradient)


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("derive", [grad, value_and_grad])
def test_e2_statements_letter_for_letter(derive, backend):
    derived = derive(neuron, backend=backend)
    assert_neuron(derived.backward_source())
    derived(2, -1, -3, -2, -3)
    assert_neuron(derived.backward_source())


def assert_neuron(text):
    """Exactly the statements of E2, each after what it reads."""
    statements = text.splitlines()
    assert len(statements) == len(NEURON_BACKWARD)
    assert set(statements) == NEURON_BACKWARD
    known = {"w0", "x0", "w1", "x1", "w2", "s0", "s1", "s2", "s3", "L"}
    for statement in statements:
        target, expression = statement.split(" = ")
        names = compile(expression, "<e2>", "eval").co_names
        assert known.issuperset(names), f"{statement!r} comes too early"
        known.add(target)


def test_e2_spelt_out():
    """The sigmoid node by node: the same gradients."""

    @grad
    def f(w0, x0, w1, x1, w2):
        s3 = w0 * x0 + w1 * x1 + w2
        a = -1 * s3
        b = np.exp(a)
        c = b + 1
        return 1 / c

    gradient = f(2, -1, -3, -2, -3)
    close(gradient, value_and_grad(neuron)(2, -1, -3, -2, -3)[1])

    def node(k):
        """The upstream gradient of a node: the gradient of what comes after it."""
        tails = [
            lambda a: 1 / (np.exp(a) + 1), lambda b: 1 / (b + 1), lambda c: 1 / c,
        ]  # fmt: skip
        return grad(tails[k])((-1.0, np.exp(-1.0), 1 + np.exp(-1.0))[k])

    close([node(2), node(1), node(0), gradient.w2], [-0.53, -0.53, -0.20, 0.20], 5e-3)


def test_e3_traces():
    def f(x1, x2):
        v1 = np.log(x1)
        v2 = x1 * x2
        v3 = np.sin(x2)
        v4 = v1 + v2
        v5 = v4 - v3
        return v5

    value, gradient = value_and_grad(f)(2, 5)
    close(value, np.log(2) + 10 - np.sin(5))
    close(value, 11.652, 5e-4)
    close(gradient, (5.5, 2 - np.cos(5)))
    close(gradient, (5.5, 1.716), 5e-4)


def test_e4_unused_input():
    @value_and_grad
    def f(x1, x2, x3, x4, x5):
        a = x1 + x2
        b = a * x3
        return b - x4

    value, gradient = f(5, 4, 3, 2, 1)
    assert value == 25
    assert gradient == (3, 3, 9, -1, 0)


def test_e5_used_twice():
    @value_and_grad
    def f(x, y):
        z = x * y
        w = z + y
        return relu(w)

    value, gradient = f(3, 2)
    assert value == 8
    assert gradient == (2, 4)


def test_e6_squared_norm():
    def f(W, x):
        q = W @ x
        return np.sum(q**2)

    W, x = np.array([[0.1, 0.5], [-0.3, 0.8]]), np.array([0.2, 0.4])
    value, gradient = value_and_grad(f)(W, x)
    close(value, 0.116)
    close(gradient.W, [[0.088, 0.176], [0.104, 0.208]])
    close(gradient.x, [-0.112, 0.636])
    assert gradient.W.shape == W.shape
    assert gradient.x.shape == x.shape
    close(grad(lambda q: np.sum(q**2))(W @ x), [0.44, 0.52])


def test_e7_gates():
    assert grad(lambda x, y: 2 * (x + y))(3, 4) == (2, 2)
    assert grad(lambda x, y: 5 * (x * y))(2, 3) == (15, 10)
    assert grad(lambda x: 4 * x + 2 * x)(7) == 6
    assert grad(lambda x, y: 9 * np.maximum(x, y))(4, 5) == (0, 9)


def test_e8_relu_gate():
    upstream = np.array([4.0, -1, 5, 9])
    x = np.array([1.0, -2, 3, -1])
    close(grad(lambda x, g: np.sum(g * relu(x)), argnums="x")(x, upstream), [4, 0, 5, 0])
    close(grad(lambda x, g: np.sum(g * np.maximum(0, x)), 0)(x, upstream), [4, 0, 5, 0])


def test_e8_matrix_gate():
    x = np.array([[2.0, 1, -3], [-3, 4, 2]])
    w = np.array([[3.0, 2, 1, -1], [2, 1, 3, 2], [3, 2, 1, -2]])
    upstream = np.array([[2.0, 3, -3, 9], [-8, 1, 4, 6]])

    @value_and_grad(argnums=("x", "w"), has_aux=True)
    def f(x, w, grad_y):
        y = x @ w
        return np.sum(grad_y * y), y

    (_, y), (grad_x, grad_w) = f(x, w, upstream)
    close(y, [[-1, -1, 2, 6], [5, 2, 11, 7]])
    close(grad_x, [[0, 16, -9], [-24, 9, -30]])
    close(grad_w, [[28, 3, -18, 0], [-30, 7, 13, 33], [-22, -7, 17, -15]])
    assert "grad_y_1 @ w.T" in f.source() or "grad_y @ w.T" in f.source()


def test_e9_neuron_with_squared_loss():
    def f(w, x, b, c):
        z = w * x + b
        y = sigmoid(z)
        return (y - c) ** 2 / 2

    value, gradient = value_and_grad(f, argnums=("w", "b"))(0, 1, 0, 1)
    assert value == 0.125
    assert gradient == (-0.125, -0.125)
    assert grad(lambda y, c: (y - c) ** 2 / 2, 0)(0.5, 1) == -0.5
    assert grad(lambda z, c: (sigmoid(z) - c) ** 2 / 2, 0)(0.0, 1) == -0.125


# --- E10: an irregular graph, weights used twice


def test_e10_sum_over_paths():
    def f(W0, W1, W2, P, Q):
        A = W0 * P
        B = np.tanh(A + Q)
        C = W1 * B
        D = W2 * B
        E = np.sin(C)
        F = np.exp(D)
        R = E * F + E
        return R

    W0, W1, W2, P, Q = args = 0.3, -0.7, 0.5, 1.1, 0.2
    gradient = grad(f)(*args)
    B = np.tanh(W0 * P + Q)
    to_C = np.cos(W1 * B) * (np.exp(W2 * B) + 1)
    to_D = np.exp(W2 * B) * np.sin(W1 * B)
    close(gradient.W1, B * to_C)
    close(gradient.W0, P * (1 - B**2) * (W1 * to_C + W2 * to_D))
    check_grads(f, args)


def test_e10_loss_over_samples():
    def f(w, p, t):
        R = np.tanh(w * p)
        return np.mean((t - R) ** 2)

    rng = np.random.default_rng(0)
    p, t = rng.normal(size=(2, 20))
    R = np.tanh(0.7 * p)
    close(grad(f, 0)(0.7, p, t), -2 / 20 * np.sum((t - R) * (1 - R**2) * p))


# --- E12: classifiers and networks

RNG = np.random.default_rng(12)
N, D, H, C = 6, 5, 4, 3


def normal(*shape):
    return RNG.normal(size=shape)


X, Y, LABELS = normal(N, D), normal(N, C), RNG.integers(0, C, size=N)
SIGNS = np.where(RNG.random(N) < 0.5, -1.0, 1.0)
TARGETS = RNG.random(N)


def svm(W, X, y, reg):
    s = X @ W
    correct = s[np.arange(len(y)), y]
    margins = np.maximum(0, s - correct[:, None] + 1)
    margins[np.arange(len(y)), y] = 0
    return np.mean(np.sum(margins, axis=1)) + reg * np.sum(W**2)


def softmax_classifier(W, b, X, y, reg):
    s = X @ W + b
    s = s - np.max(s, axis=1, keepdims=True)
    p = np.exp(s) / np.sum(np.exp(s), axis=1, keepdims=True)
    return -np.mean(np.log(p[np.arange(len(y)), y])) + reg * np.sum(W * W)


def cross_entropy(W, b, X, y):
    logp = flatgrad.log_softmax(X @ W + b, axis=1)
    return -np.mean(logp[np.arange(len(y)), y])


def two_layer(W1, b1, W2, b2, X, y):
    h = np.maximum(0, X @ W1 + b1)
    logp = flatgrad.log_softmax(h @ W2 + b2)
    return -np.mean(logp[np.arange(len(y)), y])


def mlp(W1, b1, W2, b2, W3, b3, X, Y):
    h1 = np.tanh(X @ W1 + b1)
    h2 = sigmoid(h1 @ W2 + b2)
    out = h2 @ W3 + b3
    return np.mean((out - Y) ** 2)


def relu_bumps(w, b, v, c, x, t):
    h = np.maximum(0, np.outer(x, w) + b)
    return np.mean((h @ v + c - t) ** 2)


NETWORKS = {
    svm: (normal(D, C), X, LABELS, 1e-2),
    softmax_classifier: (normal(D, C), normal(C), X, LABELS, 1e-2),
    cross_entropy: (normal(D, C), normal(C), X, LABELS),
    two_layer: (normal(D, H), normal(H), normal(H, C), normal(C), X, LABELS),
    mlp: (normal(D, H), normal(H), normal(H, H), normal(H), normal(H, C), normal(C), X, Y),
    relu_bumps: (normal(7), normal(7), normal(7), 0.3, normal(9), normal(9)),
}


# losses of a prediction


def mean_square(s, t):
    return np.mean((s - t) ** 2)


def mean_absolute(s, t):
    return np.mean(np.abs(s - t))


def binary_cross_entropy(s, t):
    p = sigmoid(s)
    return -np.mean(t * np.log(p) + (1 - t) * np.log(1 - p))


def binary_cross_entropy_of_logits(s, t):
    return np.mean(flatgrad.softplus(s) - s * t)


def hinge(s, sign):
    return np.mean(np.maximum(0, 1 - sign * s))


LOSSES = {
    mean_square: (normal(N), TARGETS),
    mean_absolute: (normal(N), TARGETS),
    binary_cross_entropy: (normal(N), TARGETS),
    binary_cross_entropy_of_logits: (normal(N), TARGETS),
    hinge: (normal(N), SIGNS),
}


# activations, each weighted so that every element has a cotangent of its own


def linear(x, g):
    return np.sum(g * x)


def logistic(x, g):
    return np.sum(g * sigmoid(x))


def tanh(x, g):
    return np.sum(g * np.tanh(x))


def rectifier(x, g):
    return np.sum(g * relu(x))


def leaky(x, g):
    return np.sum(g * flatgrad.leaky_relu(x)) + np.sum(g * flatgrad.leaky_relu(x, 0.1))


def leaky_spelt_out(x, g):
    return np.sum(g * np.where(x > 0, x, 0.1 * x))


def parametric(x, slope, g):
    return np.sum(g * np.where(x > 0, x, slope * x))


def parametric_by_relu(x, slope, g):
    return np.sum(g * flatgrad.leaky_relu(x, slope))


def elu(x, g):
    return np.sum(g * flatgrad.elu(x)) + np.sum(g * flatgrad.elu(x, 0.7))


def softplus(x, g):
    return np.sum(g * flatgrad.softplus(x)) + np.sum(g * np.log1p(np.exp(x)))


def swish(x, beta, g):
    return np.sum(g * (x * sigmoid(beta * x)))


def silu(x, g):
    return np.sum(g * flatgrad.silu(x))


def gelu(x, g):
    return np.sum(g * flatgrad.gelu(x))


def maxout(x, W1, b1, W2, b2):
    return np.sum(np.maximum(W1 @ x + b1, W2 @ x + b2) ** 2)


ACTIVATIONS = {
    linear: (normal(7), normal(7)),
    logistic: (normal(7), normal(7)),
    tanh: (normal(7), normal(7)),
    rectifier: (normal(7), normal(7)),
    leaky: (normal(7), normal(7)),
    leaky_spelt_out: (normal(7), normal(7)),
    parametric: (normal(2, 7), normal(7), normal(2, 7)),
    parametric_by_relu: (normal(2, 7), 0.25, normal(2, 7)),
    elu: (normal(7), normal(7)),
    softplus: (normal(7), normal(7)),
    swish: (normal(7), 1.3, normal(7)),
    silu: (normal(7), normal(7)),
    gelu: (normal(7), normal(7)),
    maxout: (normal(D), normal(H, D), normal(H), normal(H, D), normal(H)),
}


# blocks


def residual(x, W1, W2):
    return np.sum(relu(x + W2 @ relu(W1 @ x)) ** 2)


def layer_norm(x, scale, shift, g):
    mean = x.mean(axis=-1, keepdims=True)
    var = x.var(axis=-1, keepdims=True)
    return np.sum(g * (scale * (x - mean) / np.sqrt(var + 1e-5) + shift))


def batch_norm(x, scale, shift, g):
    mean = np.mean(x, axis=0)
    var = np.mean((x - mean) ** 2, axis=0)
    return np.sum(g * (scale * (x - mean) / np.sqrt(var + 1e-5) + shift))


def instance_norm(x, scale, shift, g):
    mean = x.mean(axis=(2, 3), keepdims=True)
    std = x.std(axis=(2, 3), keepdims=True)
    normed = (x - mean) / (std + 1e-5)
    return np.sum(g * (scale[:, None, None] * normed + shift[:, None, None]))


def group_norm(x, scale, shift, g):
    n, c, h, w = x.shape
    grouped = x.reshape(n, 2, c // 2, h, w)
    mean = grouped.mean(axis=(2, 3, 4), keepdims=True)
    var = grouped.var(axis=(2, 3, 4), keepdims=True)
    normed = ((grouped - mean) / np.sqrt(var + 1e-5)).reshape(n, c, h, w)
    return np.sum(g * (scale[:, None, None] * normed + shift[:, None, None]))


def dropout(x, W, mask, keep):
    h = np.tanh(x @ W) * mask / keep
    return np.sum(h**2)


def average_pool(x, g):
    n, h, w = x.shape
    return np.sum(g * x.reshape(n, h // 2, 2, w // 2, 2).mean(axis=(2, 4)))


def max_pool(x, g):
    n, h, w = x.shape
    return np.sum(g * x.reshape(n, h // 2, 2, w // 2, 2).max(axis=(2, 4)))


def attention(q, k, v):
    weights = flatgrad.softmax(q @ k.T / np.sqrt(q.shape[1]), axis=-1)
    return np.sum((weights @ v) ** 2)


IMAGES = normal(2, 4, 3, 5)
BLOCKS = {
    residual: (normal(D), normal(H, D), normal(D, H)),
    layer_norm: (normal(N, D), normal(D), normal(D), normal(N, D)),
    batch_norm: (normal(N, D), normal(D), normal(D), normal(N, D)),
    instance_norm: (IMAGES, normal(4), normal(4), normal(2, 4, 3, 5)),
    group_norm: (IMAGES, normal(4), normal(4), normal(2, 4, 3, 5)),
    dropout: (X, normal(D, H), RNG.random((N, H)) < 0.6, 0.6),
    average_pool: (normal(2, 4, 6), normal(2, 2, 3)),
    max_pool: (normal(2, 4, 6), normal(2, 2, 3)),
    attention: (normal(4, 3), normal(5, 3), normal(5, 2)),
}

ALL = {**NETWORKS, **LOSSES, **ACTIVATIONS, **BLOCKS}


@pytest.mark.parametrize("function", ALL, ids=lambda f: f.__name__)
def test_e12(function):
    check_grads(function, ALL[function])


@pytest.mark.parametrize("function", ALL, ids=lambda f: f.__name__)
def test_e12_float32(function):
    """Everything in float32: the gradient is float32 and near the one of float64."""
    args = ALL[function]
    single = [
        x.astype(np.float32) if isinstance(x, np.ndarray) and x.dtype == np.float64 else x
        for x in args
    ]
    wide = grad(function)(*args)
    found = grad(function)(*single)
    for name, one in zip(wide._fields, found, strict=True):
        given = single[list(function.__code__.co_varnames).index(name)]
        if isinstance(given, np.ndarray):
            assert one.dtype == np.float32
        else:
            assert type(one) is float
        np.testing.assert_allclose(one, getattr(wide, name), rtol=2e-3, atol=2e-4)


COMPILED = (
    svm, two_layer, mlp, binary_cross_entropy_of_logits, hinge, parametric, elu, maxout, residual,
    group_norm, max_pool, attention,
)  # fmt: skip


@pytest.mark.parametrize("function", COMPILED, ids=lambda f: f.__name__)
def test_e12_compiled(function):
    """Numba gives the NumPy backend's numbers, which are checked above."""
    args = ALL[function]
    value, expected = value_and_grad(function)(*args)
    found_value, found = value_and_grad(function, backend="numba")(*args)
    np.testing.assert_allclose(found_value, value, rtol=1e-12)
    assert found._fields == expected._fields
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-13)


def test_step_has_gradient_zero():
    x, g = normal(7), normal(7)
    np.testing.assert_array_equal(
        grad(lambda x, g: np.sum(g * np.where(x > 0, 1.0, 0.0)), 0)(x, g), np.zeros(7)
    )
    np.testing.assert_array_equal(
        grad(lambda x, g: np.sum(g * np.heaviside(x, 0.5)), 0)(x, g), np.zeros(7)
    )


def test_kinks_have_gradient_zero():
    zero = np.zeros(3)
    for function in (relu, np.abs, np.sign):
        np.testing.assert_array_equal(grad(lambda x: np.sum(function(x)))(zero), zero)
    np.testing.assert_array_equal(grad(lambda x: np.sum(np.maximum(0, x)))(zero), zero)


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_two_layer_net_reads_like_the_textbook(backend):
    """The lines of a lecture slide; nothing for what nobody asked."""
    derived = grad(mlp, argnums=("W1", "b1", "W2", "b2", "W3", "b3"), backend=backend)
    derived(*ALL[mlp])
    text = derived.backward_source()
    for line in ("grad_h2 = grad_out @ W3.T", "grad_W3 = h2.T @ grad_out"):
        assert line in text
    assert "grad_X" not in text
    assert "grad_Y" not in text


def test_overfits_a_few_samples():
    """The usual sanity check: a correct model learns fewer than 30 samples by heart."""
    rng = np.random.default_rng(3)
    data, labels = rng.normal(size=(25, D)), rng.integers(0, C, size=25)
    params = [0.5 * rng.normal(size=s) for s in ((D, 50), (50,), (50, C), (C,))]
    derived = value_and_grad(two_layer, argnums=(0, 1, 2, 3))
    for _ in range(300):
        loss, gradients = derived(*params, data, labels)
        params = [p - 0.5 * g for p, g in zip(params, gradients, strict=True)]
    W1, b1, W2, b2 = params
    predicted = np.argmax(np.maximum(0, data @ W1 + b1) @ W2 + b2, axis=1)
    assert loss < 0.05
    np.testing.assert_array_equal(predicted, labels)


def test_constant_initialisation_keeps_neurons_identical():
    params = [np.full((D, H), 0.1), np.zeros(H), np.full((H, C), 0.1), np.zeros(C)]
    gradient = grad(two_layer, argnums="W1")(*params, X, LABELS)
    close(gradient, gradient[:, :1] * np.ones(H))
