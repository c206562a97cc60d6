"""What must hold of a function of the corpus, in one mode.

check("thomas_algorithm", "hvp")      # against central differences, and form against form
"""

from __future__ import annotations

import inspect
import linecache
from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np

import flatgrad as fg
from flatgrad.backends import python
from flatgrad.codegen import numba_loop_ranges, numba_parallel
from flatgrad.codegen.module import build_module
from flatgrad.codegen.numba_dialect import NumbaDialect
from flatgrad.differences import Judge
from flatgrad.ir.interpret import interpret
from flatgrad.ir.ops import substitute
from flatgrad.ir.verify import verify
from flatgrad.options import Options
from flatgrad.transform.fuse import fuse
from flatgrad.transform.loop_ranges import loops_in_ranges
from tests.corpus import EXAMPLES, Example
from tests.fuzz_checks import for_numba

MODES = ("grad", "jvp", "hvp", "grad_of_grad")
SECOND = MODES[2:]
STEPS = [3e-3 / 1.8**k for k in range(12)]


def derived(found: Example, mode: str, backend: str = "numpy") -> tuple[Any, tuple[Any, ...]]:
    """The derived function of a mode, and what it is called with; results are flat tuples."""
    f, wrt = found.function, found.wrt
    dots = direction(found)
    if mode == "grad":
        return fg.value_and_grad(f, wrt, backend=backend), found.arguments
    if mode == "jvp":
        return fg.jvp(f, backend=backend), (*found.arguments, *dots)
    if mode == "hvp":
        return fg.hvp(f, argnums=wrt, backend=backend), (*found.arguments, *dots)
    return fg.grad(weighted(found), wrt, backend=backend), found.arguments


def direction(found: Example, seed: int = 3) -> list[Any]:
    """A tangent for each argument, None for those that have none."""
    rng = np.random.default_rng(seed)
    drawn = []
    for k, value in enumerate(found.given):
        one = rng.normal(size=np.shape(value))
        drawn.append((one if np.ndim(value) else float(one)) if k in found.wrt else None)
    return drawn


WEIGHTED = """\
def weighted({params}):
    G = gradient({params})
    return {terms}
"""


def weighted(found: Example) -> Any:
    """The inner product of the gradient with a direction, as a function to differentiate again."""
    names = list(inspect.signature(found.function).parameters)[: len(found.given)]
    terms = " + ".join(f"np.sum(G[{n}] * dot_{names[k]})" for n, k in enumerate(found.wrt))
    text = WEIGHTED.format(params=", ".join(names), terms=terms)
    space: dict[str, Any] = {"np": np, "gradient": fg.grad(found.function, found.wrt)}
    for name, dot in zip(names, direction(found), strict=True):
        space[f"dot_{name}"] = dot
    place = f"<weighted {found.function.__name__}>"
    linecache.cache[place] = (len(text), None, text.splitlines(keepends=True), place)
    exec(compile(text, place, "exec"), space)
    return space["weighted"]


def check(name: str, mode: str) -> None:
    """Value and derivative on NumPy; the interpreter and Numba's text compute the same."""
    found = EXAMPLES[name]
    if mode == "grad_of_grad" and found.writes:
        compare(found, mode, pulled_back(found))
        return
    function, arguments = derived(found, mode)
    before = found.arguments
    result = function(*arguments)
    for one, other in zip(before, arguments, strict=False):
        np.testing.assert_array_equal(one, other, err_msg="an argument was changed")
    compare(found, mode, result)
    forms(function, arguments)


def pulled_back(found: Example, backend: str = "numpy") -> list[Any]:
    """The pullback of the gradient along a direction: reverse over reverse without a call inside."""
    given = [np.int64(a) if isinstance(a, int) else a for a in found.arguments]
    gradient = fg.grad(found.function, found.wrt, backend=backend)
    _, pullback = fg.vjp(gradient, *given, backend=backend)
    dots = direction(found)
    gradients = pullback(tuple([dots[k] for k in found.wrt]))
    return [gradients[k] for k in found.wrt]


def check_stacks(name: str) -> None:
    """Several tangents in one sweep are the same as one after another, in first and second order."""
    found = EXAMPLES[name]
    rows = [direction(found, seed) for seed in range(3)]
    columns = zip(*rows, strict=True)
    stacks = tuple([None if column[0] is None else np.stack(column) for column in columns])
    given = [np.int64(a) if isinstance(a, int) else a for a in found.arguments]
    _, slopes = fg.jvp(found.function, given, stacks, stacked=True)
    agree(list(slopes), [fg.jvp(found.function, given, row)[1] for row in rows])
    if found.second:
        wrt = found.wrt[0] if len(found.wrt) == 1 else found.wrt
        together = fg.hvp(found.function, given, stacks, wrt, stacked=True)
        singly = [fg.hvp(found.function, given, row, wrt) for row in rows]
        if len(found.wrt) == 1:
            agree(list(together), singly)
        else:
            for k, stack in enumerate(together):
                agree(list(stack), [one[k] for one in singly])


def compare(found: Example, mode: str, result: Any) -> None:
    """The derivative along directions against central differences, extrapolated to step 0."""
    if mode == "grad":
        value, gradients = result
        np.testing.assert_allclose(value, found.function(*found.arguments), rtol=1e-11)
        for k, gradient in zip(found.wrt, gradients, strict=True):
            assert np.shape(gradient) == np.shape(found.given[k])
        for seed in range(4):
            dots = direction(found, seed)
            slope = inner(found, gradients, dots)
            judged(found, lambda *args: found.function(*args), slope, dots)
    elif mode == "jvp":
        value, slope = result
        np.testing.assert_allclose(value, found.function(*found.arguments), rtol=1e-11)
        judged(found, lambda *args: found.function(*args), slope, direction(found))
    else:
        result = result if isinstance(result, tuple | list) else (result,)
        gradient = fg.grad(found.function, found.wrt)
        along = direction(found)
        for seed in (5, 6):
            dots = direction(found, seed)
            judged(
                found, lambda *args: inner(found, gradient(*args), along),
                inner(found, result, dots), dots,
            )  # fmt: skip


def inner(found: Example, gradients: Any, dots: list[Any]) -> float:
    """The inner product of gradients with a direction."""
    pairs = zip(found.wrt, gradients, strict=True)
    return float(sum(np.sum(np.asarray(g) * dots[k]) for k, g in pairs))


def judged(found: Example, f: Callable[..., Any], slope: float, dots: list[Any]) -> None:
    """A slope along a direction is that of differences."""

    def moved(t: float) -> float:
        pairs = zip(found.arguments, dots, strict=True)
        return float(f(*[a if dot is None else a + t * dot for a, dot in pairs]))

    scale = 1e-3 * sum(float(np.sum(np.abs(dot))) for dot in dots if dot is not None)
    judge = Judge(rtol=2e-6, atol=1e-8, eps=1e-14, center=moved(0.0))
    comparison = judge.compare("along a direction", float(slope), scale, moved, STEPS)
    assert comparison.passed, str(comparison)


def forms(function: Any, arguments: tuple[Any, ...]) -> None:
    """The emitted function, the interpreter, and Numba's texts as plain Python."""
    behind = function.__flatgrad__
    values = dict(behind.signature.bind(*arguments).arguments)
    compiled = behind.last.compiled
    values |= {capture.name: capture.read() for capture in compiled.hidden}
    given = [values[param.name] for param in compiled.graph.params]

    def copies() -> list[Any]:
        return [value.copy() if isinstance(value, np.ndarray) else value for value in given]

    graph = compiled.graph
    expected = substitute(graph.tree, interpret(graph, copies()).__getitem__)
    agree(compiled.function(*copies()), expected)
    name = compiled.module.name
    plain = lambda *args, **kwargs: args[0] if args and callable(args[0]) else lambda f: f
    fused, compiled_form = fuse(graph), for_numba(graph)
    for form, dialect in (
        (graph, NumbaDialect()), (fused, NumbaDialect()), (compiled_form, NumbaDialect()),
        (loops_in_ranges(compiled_form), in_parts()),
    ):  # fmt: skip
        verify(form)
        with (
            mock.patch.multiple(numba_parallel, LEAST_ELEMENTS=1, LEAST_ROWS=1),
            mock.patch.object(numba_loop_ranges, "MOST_SUMMED", 0),
        ):
            module = build_module(form, name, dialect)
        with (
            mock.patch("numba.njit", plain),
            mock.patch("numba.prange", lambda parts: range(parts - 1, -1, -1)),
        ):
            loaded = python.load(name, module.text.replace("cache=True, ", ""))
            agree(getattr(loaded, name)(*copies()), expected)


def in_parts() -> NumbaDialect:
    """The dialect that writes nests as ranges of rows."""
    return NumbaDialect(Options(backend="numba", parallel=True))


def agree(found: Any, expected: Any) -> None:
    """Two trees of numbers and arrays are equal, up to rounding."""
    if isinstance(expected, tuple | list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            agree(one, other)
        return
    assert np.shape(found) == np.shape(expected)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
