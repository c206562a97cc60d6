"""Rows that are filled again, not kept: where that is the same, and what must stay."""

from __future__ import annotations

import inspect
from dataclasses import replace

import numpy as np
import pytest

from flatgrad import value_and_grad
from flatgrad.frontend.lower import lower
from flatgrad.frontend.source import read_source, unwrap
from flatgrad.ir.interpret import interpret
from flatgrad.ir.ops import Apply, Block, For
from flatgrad.ir.verify import verify
from flatgrad.primitives.index import SET_ITEM
from flatgrad.signature import hidden_type, type_of
from flatgrad.transform.clone import all_ops
from flatgrad.transform.rows_again import with_rows_again
from tests.emitted import assert_same, loaded, plain

RNG = np.random.default_rng(29)

KEPT = """
import numpy as np

def f(x, m):
    d = x.shape[1]
    total = 0.0
    y = np.zeros(d)
    for i in range(x.shape[0]):
        rows = np.full((m.shape[0], d), 3.0)
        for c in range(m.shape[0]):
            for a in range(d):
                y[a] = x[i, a] - 2.0 * m[c, a]
                total += m[c, a]
            rows[c] = y
            total += y[0]
        for c in range(m.shape[0] - 1, -1, -1):
            row = rows[c]
            total += row[0] * row[1] * m[c, 0]
    return total
"""

OTHERWISE = {
    "not all elements are filled": ("for a in range(d)", "for a in range(1, d)"),
    "not all rows are filled": ("for c in range(m.shape[0]):", "for c in range(1, m.shape[0]):"),
    "not all rows are read": ("range(m.shape[0] - 1, -1, -1)", "range(m.shape[0] - 1)"),
    "of another row": ("row = rows[c]", "row = rows[c - 1]"),
    "goes elsewhere": ("rows[c] = y", "rows[c - 1] = y"),
    "changes afterwards": ("total += y[0]", "y[0] = total"),
    "is added to": ("rows[c] = y", "rows[c] += y"),
    "is read before": ("total += y[0]", "total += y[0] * rows[c - 1, 1]"),
    "is written twice": ("total += y[0]", "rows[c, 0] = y[1]"),
    "is read after": ("        for c in range(m.shape[0] - 1", "        total += rows[0, 1]\n        for c in range(m.shape[0] - 1"),
    "is changed where it is read": ("row = rows[c]", "rows[c, 0] = total; row = rows[c]"),
    "what it is filled from changes": ("2.0 * m[c, a]", "0.1 * total"),
    "what it was filled from changes": ("x[i, a] - 2.0 * m[c, a]", "y[a - 1] - 2.0 * m[c, a]"),
    "is used between": ("            row = rows[c]", "            total += y[1]\n            row = rows[c]"),
    "takes longer": ("2.0 * m[c, a]", "np.sin(m[c, a])"),
}  # fmt: skip


def lowered(function, *args):
    names = inspect.signature(function).parameters
    signature = {
        name: type_of(name, x, wants_gradient=False) for name, x in zip(names, args, strict=True)
    }
    return lower(read_source(unwrap(function)), signature, hidden_type)[0]


def again(fn):
    """The function with its nests rewritten, and whether one was."""
    ops = [with_rows_again(op) if isinstance(op, For) else op for op in fn.body.ops]
    changed = any(one is not other for one, other in zip(ops, fn.body.ops, strict=True))
    made = replace(fn, body=Block(fn.body.params, ops, fn.body.yields))
    verify(made)
    return made, changed


def rows_written(fn):
    writes = [
        op for op in all_ops(fn.body) if isinstance(op, Apply) and op.primitive.function is SET_ITEM
    ]
    return [op for op in writes if any(value.type.ndim == 1 for value in op.operands[1:])]


def program(tmp_path, old="", new=""):
    assert old in KEPT
    return loaded(KEPT.replace(old, new, 1) if old else KEPT, tmp_path / "rows.py")


def same(fn, made, *args):
    expected, found = interpret(fn, [*args]), interpret(made, [*args])
    np.testing.assert_allclose(found, expected, rtol=1e-13)


def arguments():
    return RNG.normal(size=(3, 4)), RNG.normal(size=(5, 4))


def test_rows_are_filled_again(tmp_path):
    x, m = arguments()
    fn = lowered(program(tmp_path), x, m)
    made, changed = again(fn)
    assert changed
    assert rows_written(fn)
    assert not rows_written(made)
    same(fn, made, x, m)


@pytest.mark.parametrize("why", OTHERWISE)
def test_rows_stay(tmp_path, why):
    x, m = arguments()
    fn = lowered(program(tmp_path, *OTHERWISE[why]), x, m)
    made, changed = again(fn)
    assert not changed
    same(fn, made, x, m)


def centers(x, m):
    y = np.empty(x.shape[1])
    total = 0.0
    for i in range(x.shape[0]):
        for c in range(m.shape[0]):
            for a in range(x.shape[1]):
                y[a] = x[i, a] - m[c, a]
            square = 0.0
            for a in range(x.shape[1]):
                z = m[c, a] * y[a]
                for b in range(a):
                    z += m[c, b] * y[b]
                square += z * z
            total += np.log1p(square)
    return total


@pytest.mark.parametrize("n", [3, 70])
def test_strips_keep_no_rows(n):
    x, m = RNG.normal(size=(n, 4)), RNG.normal(size=(3, 4))
    fast = value_and_grad(centers, backend="numba")
    source = fast.source(x, m)
    assert "for lane in range(64)" in source
    assert "z_tape" in source
    assert "y_tape" not in source
    assert_same(plain(fast, (x, m))[0](x, m), value_and_grad(centers)(x, m))
