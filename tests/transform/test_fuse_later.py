"""Elements that a later nest computes itself: which, and that results stay."""

from __future__ import annotations

import numpy as np
import pytest

import flatgrad.primitives.rules  # noqa: F401
from flatgrad import sigmoid
from flatgrad.codegen.module import build_module
from flatgrad.codegen.numba_dialect import NumbaDialect
from flatgrad.ir.interpret import interpret
from flatgrad.ir.ops import substitute
from flatgrad.ir.verify import verify
from flatgrad.transform.fuse import fuse
from tests.emitted import graph_of, leaves

RNG = np.random.default_rng(8)


def A(*shape):
    return RNG.normal(size=shape)


def tanh_layers(X, W, b, V, y):
    h = np.tanh(X @ W + b)
    k = np.tanh(h @ V)
    return np.mean((k - y) ** 2)


def sigmoid_layer(X, W, v):
    h = sigmoid(X @ W)
    return np.sum((h @ v) ** 2)


def scaled(X, W, v, s):
    h = np.tanh(X @ W)
    return np.sum(((s * h) @ v) ** 2)


def relu_layer(X, W, v):
    h = np.maximum(X @ W, 0.0)
    return np.sum((h @ v) ** 2)


def sine_layer(X, W, v):
    """The derivative is a cosine: it is kept, or what it is computed from."""
    h = np.sin(X @ W)
    return np.sum((h @ v) ** 2)


def cubes(X, W, v):
    """Of `z` the gradient wants `3 * z**2`: `z` must be kept for that, the power need not."""
    z = X @ W
    h = np.tanh(z) * z**3
    return np.sum((h @ v) ** 2)


def layer_norm(X, W, v):
    z = np.tanh(X @ W)
    d = z - np.mean(z, axis=1, keepdims=True)
    r = d / np.sqrt(np.mean(d * d, axis=1, keepdims=True) + 1e-3)
    return np.sum((r @ v) ** 2)


def in_a_loop(h, W, n):
    for _ in range(n):
        h = np.tanh(h @ W) * (1.0 - h)
    return np.sum(h * h)


def changed_afterwards(X, W, v):
    """`h` is written between the nest that makes it and the one that would read it again."""
    h = np.tanh(X @ W)
    s = np.sum((h @ v) ** 2)
    h[0] = 0.0
    return s + np.sum(h @ v)


PROGRAMS = {
    "tanh_layers": (tanh_layers, (A(5, 3), A(3, 4), A(4), A(4, 2), A(5, 2))),
    "sigmoid_layer": (sigmoid_layer, (A(5, 3), A(3, 4), A(4))),
    "scaled": (scaled, (A(5, 3), A(3, 4), A(4), 1.5)),
    "relu_layer": (relu_layer, (A(5, 3), A(3, 4), A(4))),
    "sine_layer": (sine_layer, (A(5, 3), A(3, 4), A(4))),
    "cubes": (cubes, (A(5, 3), A(3, 4), A(4))),
    "layer_norm": (layer_norm, (A(5, 3), A(3, 4), A(4))),
    "in_a_loop": (in_a_loop, (A(3, 4), A(4, 4), 3)),
    "changed_afterwards": (changed_afterwards, (A(5, 3), A(3, 4), A(4))),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_same_results(name):
    f, args = PROGRAMS[name]
    graph = graph_of(f, args)
    fused = fuse(graph)
    verify(fused)
    expected = interpret(graph, [np.copy(arg) if np.ndim(arg) else arg for arg in args])
    given = [np.copy(arg) if np.ndim(arg) else arg for arg in args]
    found = interpret(fused, given)
    for one, other in zip(
        leaves(substitute(graph.tree, expected.__getitem__)),
        leaves(substitute(fused.tree, found.__getitem__)),
        strict=True,
    ):
        np.testing.assert_allclose(other, one, rtol=1e-12, atol=1e-13)
    for one, other in zip(given, args, strict=True):
        np.testing.assert_array_equal(one, other)


def text_of(name):
    f, args = PROGRAMS[name]
    return build_module(fuse(graph_of(f, args)), "derived", NumbaDialect()).function_text


def arrays_of(text, nest):
    """What a nest hands out."""
    body = text.partition(f"def {nest}(")[2].partition("\n\n")[0]
    return body.rpartition("return ")[2].split(", ")


def test_the_slope_of_tanh_is_computed_where_it_is_read():
    text = text_of("tanh_layers")
    assert arrays_of(text, "h_loop") == ["h"]
    assert "grad_h_row[j] * (1 - h_ij * h_ij)" in text


def test_masks_are_kept():
    """A bool is an eighth of the number that it is computed from."""
    assert len(arrays_of(text_of("relu_layer"), "h_loop")) == 2


def test_functions_are_not_computed_twice():
    text = text_of("sine_layer")
    assert text.count("sin_f64(") == text.count("cos_f64(") == 1
