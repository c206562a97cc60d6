"""Emitted code for tests: Numba's text as plain Python, the program behind it, results as lists."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import numpy as np

from flatgrad import value_and_grad
from flatgrad.backends import python

DECORATOR = re.compile(r"^@numba\.njit\((?:[^()]|\n)*?\)\n", re.MULTILINE)


def loaded(text: str, path: Path) -> Any:
    """The function `f` of a program, in a file, so that its source can be read."""
    path.write_text(text)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.f


def plain(derived: Any, args: Any) -> tuple[Any, str]:
    """The function for these arguments with its text run as plain Python, and the text."""
    derived.source(*args)
    return plain_function(derived), plain_text(derived)


def plain_text(derived: Any) -> str:
    """The module that a derivative compiled last, without Numba's decorators."""
    return DECORATOR.sub("", derived.__flatgrad__.last.compiled.module.text)


def plain_function(derived: Any) -> Any:
    """The function that a derivative compiled last, its text run as plain Python."""
    space: dict[str, Any] = {}
    exec(plain_text(derived), space)
    return space[derived.__flatgrad__.last.compiled.module.name]


def plain_module(module: Any) -> Any:
    """An emitted module, its text run as plain Python: instead of `flatgrad.pipeline.load`."""
    return python.load(module.name, DECORATOR.sub("", module.text), module.objects)


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
