"""Which strips may round a product and its sum once: what is decided by it, and what is not."""

from __future__ import annotations

import numpy as np
import pytest

from flatgrad import value_and_grad
from flatgrad.codegen import contracting_apart
from tests.emitted import loaded

MIXTURE = """
import numpy as np

def f(x, m, q):
    k = m.shape[0]
    main = np.empty(k)
    centered = np.empty(x.shape[1])
    total = 0.0
    for i in range(x.shape[0]):
        for c in range(k):
            for a in range(x.shape[1]):
                centered[a] = x[i, a] - m[c, a]
            square = 0.0
            for a in range(x.shape[1]):
                y = centered[a]
                for b in range(a):
                    y += q[a, b] * centered[b]
                square += y * y
            main[c] = -0.5 * square
        largest = main[0]
        for c in range(1, k):
            largest = max(largest, main[c])
        s = 0.0
        for c in range(k):
            s += np.exp(main[c] - largest)
        total += largest + np.log(s)
    return total
"""

DECIDED = {
    "a root": ("square += y * y", "square += np.sqrt(1.0 + y * q[0, 0])"),
    "a logarithm": ("main[c] = -0.5 * square", "main[c] = -0.5 * np.log(square)"),
    "a quotient": ("main[c] = -0.5 * square", "main[c] = -0.5 / square"),
    "a comparison": ("square += y * y", "square += y * y if y > 0.3 else y"),
    "a branch": ("main[c] = -0.5 * square", "main[c] = -0.5 * square if square > 0.2 else square"),
    "an absolute value": ("square += y * y", "square += abs(y)"),
    "a maximum of two results": ("total += largest + np.log(s)", "total += max(largest, np.log(s))"),
    "a maximum with a number": ("main[c] = -0.5 * square", "main[c] = max(-0.5 * square, -0.3)"),
    "a function of it": ("s += np.exp(main[c] - largest)", "s += np.sqrt(main[c] - largest)"),
}  # fmt: skip
FLAG = 'error_model="numpy", fastmath={"contract"})\ndef over_strips('


def program(tmp_path, old="", new=""):
    assert old in MIXTURE
    return loaded(MIXTURE.replace(old, new, 1) if old else MIXTURE, tmp_path / "mixture.py")


def arguments():
    rng = np.random.default_rng(31)
    return rng.normal(size=(70, 3)), rng.normal(size=(4, 3)), rng.normal(size=(3, 3))


def text(function):
    return value_and_grad(function, argnums=(1, 2), backend="numba").source(*arguments())


def test_a_mixture_decides_by_what_is_stored_once(tmp_path):
    assert FLAG in text(program(tmp_path))


@pytest.mark.parametrize("what", DECIDED)
def test_what_is_decided_is_rounded_as_written(tmp_path, what):
    source = text(program(tmp_path, *DECIDED[what]))
    assert "def over_strips(" in source
    assert FLAG not in source


def test_what_is_computed_again_is_not_equal(tmp_path, monkeypatch):
    """An equality of what two operations have made."""
    monkeypatch.setattr(contracting_apart._Flow, "origins_of", lambda self, op: {1, 2})
    assert FLAG not in text(program(tmp_path))


def test_a_half_does_not_know_what_the_other_compares(tmp_path, monkeypatch):
    """An extreme whose equality stands elsewhere, if it does."""
    monkeypatch.setattr(contracting_apart._Flow, "compared", lambda self, anywhere: [])
    assert FLAG not in text(program(tmp_path))
