"""Functions compiled to IR and run by the interpreter, for tests of the frontend alone.

    assert_same(f, [(2.0, x), (3.0, y)])        # interpret(lower(f)) is f, on all of these
"""

from __future__ import annotations

import copy

import numpy as np

import flatgrad.primitives.rules  # noqa: F401
from flatgrad.errors import error
from flatgrad.frontend.lower import Static, lower
from flatgrad.frontend.source import read_source, signature_of
from flatgrad.ir.interpret import interpret
from flatgrad.ir.ops import substitute
from flatgrad.ir.verify import verify
from flatgrad.primitives.symbolic import NeedStatic
from flatgrad.signature import hidden_type, type_of


def lowered(f, args):
    """The IR of `f` for these arguments, the arguments that stay, and the hidden ones."""
    source = read_source(f)
    names = list(signature_of(source.function).parameters)[: len(args)]
    static = set()
    while True:
        kinds = {
            name: type_of(name, arg, wants_gradient=False, static=name in static)
            for name, arg in zip(names, args, strict=True)
        }
        try:
            fn, captures = lower(source, kinds, hidden_type)
        except NeedStatic as needed:
            name = needed.symbol.value.name
            if name in static or not isinstance(args[names.index(name)], int):
                raise needed.refusal or error("internal", needed.reason) from None
            static.add(name)
            continue
        verify(fn)
        dynamic = [k for k, name in enumerate(names) if not isinstance(kinds[name], Static)]
        return fn, dynamic, [capture.read() for capture in captures.hidden.values()]


def run(fn, dynamic, hidden, args):
    """What the IR computes."""
    given = copy.deepcopy([args[k] for k in dynamic])
    found = interpret(fn, [*given, *hidden])
    return substitute(fn.tree, found.__getitem__)


def assert_same(f, calls):
    """The IR computes what the function does, for one compilation per set of types."""
    programs = {}
    for args in calls:
        expected = f(*copy.deepcopy(args))
        key = tuple(
            (a.dtype.name, tuple(size == 1 for size in a.shape))
            if isinstance(a, np.ndarray) else type(a) if isinstance(a, float) else None
            for a in args
        )  # fmt: skip
        fn, dynamic, hidden = programs.get(key) or lowered(f, args)
        if len(dynamic) == len(args):
            programs[key] = fn, dynamic, hidden
        equal(run(fn, dynamic, hidden, args), expected)
    return fn


def equal(found, expected):
    """Equal numbers and arrays in equal containers."""
    if isinstance(expected, tuple | list):
        assert type(found) is type(expected)
        for one, other in zip(found, expected, strict=True):
            equal(one, other)
        return
    assert (found is None) == (expected is None)
    if expected is not None:
        assert np.shape(found) == np.shape(expected)
        np.testing.assert_allclose(found, expected, rtol=1e-13)
