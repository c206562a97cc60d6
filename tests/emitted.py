"""Emitted code for tests: Numba's text as plain Python, the program behind it, results as lists."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from flatgrad import value_and_grad

DECORATOR = re.compile(r"^@numba\.njit\((?:[^()]|\n)*?\)\n", re.MULTILINE)


def plain_function(derived: Any) -> Any:
    """The function that a derivative compiled last, its text run as plain Python."""
    module = derived.__flatgrad__.last.compiled.module
    space: dict[str, Any] = {}
    exec(DECORATOR.sub("", module.text), space)
    return space[module.name]


def numba_text(function, args):
    """The value and gradient for Numba: as plain Python, and the text of the main functions."""
    derived = value_and_grad(function, argnums=floats_of(function, args), backend="numba")
    text = derived.source(*args)
    return plain_function(derived), text


def graph_of(function, args):
    """The cleaned program as NumPy has it, before the passes for compiled code."""
    derived = value_and_grad(function, argnums=floats_of(function, args))
    return derived.__flatgrad__.specialise(named(function, args)).compiled.graph


def named(function, args):
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    return dict(zip(names, args, strict=True))


def floats_of(function, args):
    """The parameters to differentiate by: all but ints."""
    return tuple(n for n, a in named(function, args).items() if not isinstance(a, int))


def leaves(tree):
    return [leaf for part in tree for leaf in leaves(part)] if isinstance(tree, tuple) else [tree]


def assert_same(found, expected, rtol=1e-12, atol=1e-13):
    """Two results of the same structure have the same numbers."""
    for one, other in zip(leaves(found), leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=rtol, atol=atol)
