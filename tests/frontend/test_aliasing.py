"""Names that share memory: every write is seen through every name, as in Python, or refused."""

from __future__ import annotations

import numpy as np
import pytest

from flatgrad import grad, pipeline
from flatgrad.errors import FlatgradError
from tests.emitted import plain_module
from tests.frontend.numeric import check

X = np.array([0.3, -1.2, 2.0, 0.7])
M = np.array([[0.3, -1.2, 2.0], [0.7, 0.1, -0.4], [1.5, 0.2, 0.9]])


def two_names(x):
    a = x * 1.0
    b = a
    b += 1.0
    return np.sum(a * a * x)


def chained_assignment(x):
    a = b = np.zeros(4)
    a[1] = x[0]
    b[2] = x[1] * x[1]
    return np.sum(a * x) + np.sum(b)


def view_written(x):
    a = x * 2.0
    v = a[1:]
    v[0] = x[0]
    v *= x[1]
    return np.sum(a * a)


def view_of_written(x):
    a = x * 2.0
    v = a[::2]
    a[0] = x[3]
    return np.sum(v * v) + v[0]


def slice_of_slice(x):
    a = x * 1.0
    v = a[1:]
    w = v[1:]
    w[0] = x[0] * x[0]
    v[0] += w[0]
    return np.sum(a * a * a)


def backwards_view(x):
    a = x * 1.0
    v = a[::-1]
    v[0] = x[1]
    v[1:3] *= 2.0
    return np.sum(a * a)


def parameter_written(x):
    x[0] = x[1] * x[2]
    x += 1.0
    return np.sum(x * x)


def parameter_augmented(x):
    x *= x
    return np.sum(x)


def transposed(x):
    x = x.T
    x[0] = 1.0
    x[1, 2] *= x[2, 1]
    return np.sum(x * x * x)


def transposed_view(x):
    y = x * 1.0
    t = y.T
    t[0] = x[1]
    y[:, 1] += t[2]
    return np.sum(y * y * t)


def swapped(x):
    a = x * 1.0
    b = x * 2.0
    a, b = b, a
    a[0] = 5.0
    b[1] = x[0]
    return np.sum(a * x) + np.sum(b * x * x)


def swapped_elements(x):
    a = x * 1.0
    a[0], a[1] = a[1], a[0]
    return np.sum(a * x * x)


def swapped_slices(x):
    a = x * 1.0
    a[0:2], a[2:4] = a[2:4], a[0:2]
    return np.sum(a * x * x)


def overlapping(x):
    a = x * 1.0
    a[1:] = a[:-1]
    a[1:] += a[:-1]
    return np.sum(a * x)


def rows(x):
    y = x * 1.0
    row = y[1]
    row[0] = x[0, 0] * x[2, 2]
    row += y[0]
    return np.sum(y * y)


def expanded(x):
    a = x * 1.0
    column = a[:, None]
    column[1] = x[0]
    column *= 2.0
    return np.sum(a * a)


def duplicates_last_wins(x):
    a = np.zeros(3)
    a[np.array([0, 0, 2])] = x[:3]
    return np.sum(a * a)


def duplicates_add_once(x):
    a = x * 1.0
    a[np.array([1, 1])] += x[:2]
    return np.sum(a * a)


def duplicates_add_at(x):
    a = x * 1.0
    np.add.at(a, np.array([1, 1]), x[:2])
    return np.sum(a * a)


def list_item_replaced(x):
    parts = [x * 1.0, x * 2.0]
    kept = parts[0]
    parts[0] = x * 3.0
    kept[0] = 7.0
    return np.sum(parts[0] * parts[1] * kept)


def list_item_augmented(x):
    parts = [x * 1.0, x * 2.0]
    kept = parts[1]
    parts[1] += x
    parts[0][1] += 4.0
    return np.sum(parts[0] * kept)


def list_shared(x):
    one = [x * 1.0]
    two = one
    two.append(x * 2.0)
    two += [x * 3.0]
    return np.sum(one[0] * one[1] * one[2])


def helper_writes(a):
    a[0] = 3.0
    a *= 2.0


def written_by_callee(x):
    y = x * 1.0
    helper_writes(y[1:])
    return np.sum(y * y * x)


def right_side_writes(x):
    y = x * 1.0
    y[0] += write_first(y)
    return np.sum(y * y)


def write_first(a):
    a[0] = 10.0
    return a[1] * a[0]


def number_augmented(x):
    y = x[0]
    z = y
    z += 1.0
    return y * z * x[1]


def named_expression(x):
    y = (z := x * 2.0)
    z[0] = 1.0
    return np.sum(y * y)


def read_then_written(x):
    y = x * 1.0
    z = y * y
    y[0] = 4.0
    return np.sum(z * y)


def reshaped_and_written(x):
    h = (x * 1.0).reshape(2, 2)
    h[0] = x[2:] * x[0]
    h[:, 1] *= 2.0
    return np.sum(h * h)


def fancy_is_a_copy(x):
    y = x * 1.0
    z = y[np.array([0, 1])]
    z += 1.0
    w = y[y > 0]
    w *= 3.0
    return np.sum(y * y) + np.sum(z * z) + np.sum(w * w)


def copies(x):
    y = x * 1.0
    a, b, c = y.copy(), np.array(y), +y
    a[0], b[1], c[2] = 1.0, 2.0, 3.0
    return np.sum(y * y * a * b * c)


def split_are_views(x):
    y = x * 1.0
    a, b = np.split(y, 2)
    a *= 2.0
    b[0] = x[0]
    return np.sum(y * y)


def asarray_is_the_same(x):
    y = x * 1.0
    z = np.asarray(y)
    z[0] = 2.0
    return np.sum(y * y)


def sum_of_one(x):
    y = x * 1.0
    z = sum([y])
    z += 1.0
    return np.sum(y * y * z)


def one_element_view(x):
    v = x[0, ...]
    v += 1.0
    x[0] *= x[1]
    return np.sum(x * x) * v


VECTORS = [
    two_names, chained_assignment, view_written, view_of_written, slice_of_slice, backwards_view,
    parameter_written, parameter_augmented, swapped, swapped_elements, swapped_slices, overlapping,
    expanded, duplicates_last_wins, duplicates_add_once, duplicates_add_at, list_item_replaced,
    list_item_augmented, list_shared, written_by_callee, right_side_writes, number_augmented,
    named_expression, read_then_written, reshaped_and_written, fancy_is_a_copy, copies,
    split_are_views, asarray_is_the_same, sum_of_one, one_element_view,
]  # fmt: skip
MATRICES = [transposed, transposed_view, rows]


@pytest.mark.parametrize("f", VECTORS, ids=lambda f: f.__name__)
def test_shared_vector(f):
    check(f, X.copy())


@pytest.mark.parametrize("f", MATRICES, ids=lambda f: f.__name__)
@pytest.mark.parametrize("order", "CF")
def test_shared_matrix(f, order):
    check(f, M.copy(order=order))


def reshaped_then_base_written(x):
    y = x * 1.0
    h = y.reshape(2, 2)
    y[0] = 3.0
    return np.sum(h)  # E: [unsupported-write]


def reshape_written_then_base_read(x):
    y = x * 1.0
    h = y.reshape(2, 2)
    h[0, 0] = 3.0
    return np.sum(y)  # E: [unsupported-write]


def raveled(x):
    y = x * 1.0
    h = np.ravel(y)
    h += 1.0
    return np.sum(y)  # E: [unsupported-write]


def global_written(x):
    X[0] = 2.0  # E: [unsupported-write]
    return np.sum(x * X)


def global_augmented(x):
    y = X
    y += 2.0  # E: [unsupported-write]
    return np.sum(x * y)


CACHE: list = []
TABLE: dict = {"a": 1}


def global_list_written(x):
    CACHE.append(x)  # E: [unsupported-write]
    return np.sum(x)


def global_dict_written(x):
    TABLE["b"] = x  # E: [unsupported-write]
    return np.sum(x)


def default_list_written(x, seen=CACHE):
    seen += [x]  # E: [unsupported-write]
    return np.sum(x)


def calls_with_default(x):
    return default_list_written(x)


def broadcast_written(x):
    y = np.broadcast_to(x, (2, 4))
    y[0] = 1.0  # E: [unsupported-write]
    return np.sum(y)


def identity_of_arrays(x):
    y = x * 1.0
    if y is x:  # E: [unsupported-expression]
        return np.sum(x)
    return np.sum(y)


REFUSED = [
    reshaped_then_base_written, reshape_written_then_base_read, raveled, global_written,
    global_augmented, global_list_written, global_dict_written, broadcast_written,
    identity_of_arrays,
]  # fmt: skip


@pytest.mark.parametrize("f", REFUSED, ids=lambda f: f.__name__)
def test_refused(f):
    refused(f, f)


def test_default_list_written():
    refused(calls_with_default, default_list_written)


def refused(f, where):
    import inspect

    lines, first = inspect.getsourcelines(where)
    (k,) = [k for k, line in enumerate(lines) if "# E: [" in line]
    code = lines[k].split("# E: [")[1].split("]")[0]
    with pytest.raises(FlatgradError) as caught:
        grad(f)(X.copy())
    assert caught.value.code == code
    assert caught.value.diagnostic.span.line == first + k
    assert CACHE == []
    assert list(TABLE) == ["a"]


def augments_alias(x):
    y = x
    y += 1.0
    return x * y


def test_arrays_of_no_axes_are_told_from_numbers():
    check(augments_alias, 2.0)
    with pytest.raises(FlatgradError) as caught:
        grad(augments_alias)(np.array(2.0))
    assert caught.value.code == "unsupported-write"


def writes_first(x, y):
    x *= 2.0
    return np.sum(x * y) + np.sum(X)


def test_arguments_that_share_memory():
    check(writes_first, X.copy(), X.copy())
    g = grad(writes_first)
    base = X.copy()
    for one, other in ((base, base), (base[1:], base[:-1]), (base, base[::-1]), (X, base)):
        with pytest.raises(FlatgradError) as caught:
            g(one, other)
        assert caught.value.code == "unsupported-write"
    np.testing.assert_array_equal(base, X)
    gradient, _ = grad(lambda x, y: np.sum(x * y))(base, base)
    np.testing.assert_array_equal(gradient, base)


def test_results_share_no_memory():
    def f(x, y):
        return np.sum(x) + np.sum(y) + np.sum(x + y)

    x, y = np.ones(3), np.ones(3)
    one, other = grad(f)(x, y)
    arrays = [x, y, one, other]
    for k, a in enumerate(arrays):
        assert a.flags.writeable
        for b in arrays[:k]:
            assert not np.shares_memory(a, b)


def squared_in_a_loop(x, n):
    for _ in range(n):
        x = x * x
    return np.sum(x)


def squared_in_a_branch(x, n):
    if n > 0:
        x = x * x
    return np.sum(x)


def squared_while(x, n):
    while x[0] * 0 < n:
        x = x * x
        n = n - 1
    return np.sum(x)


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("f", [squared_in_a_loop, squared_in_a_branch, squared_while])
def test_ones_spread_over_a_gradient_are_an_array(monkeypatch, f, backend):
    """The loop runs no trip, the branch is not taken: the adjoint is that of the sum."""
    monkeypatch.setattr(pipeline, "load", lambda module, backend: plain_module(module))
    gradient = grad(f, "x", backend=backend)
    for n, expected in ((0, [1, 1, 1]), (1, [2, 4, 6])):
        found = gradient(np.array([1.0, 2.0, 3.0]), n)
        assert found.flags.writeable
        assert found.strides == (8,)
        assert found.tolist() == expected


def test_auxiliary_shares_no_memory():
    def f(x):
        y = x[::-1]
        return np.sum(x * x), (x, y, y.T, X)

    x = X.copy()
    g, aux = grad(f, has_aux=True)(x)
    arrays = [x, X, g, *aux]
    for k, a in enumerate(arrays):
        for b in arrays[:k]:
            if a is not b:
                assert not np.shares_memory(a, b)
