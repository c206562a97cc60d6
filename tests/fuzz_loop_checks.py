"""What must hold of a program with loops and of its derivatives, in all modes.

    check(program)             # raises Failure(kind, detail), or FlatgradError for a refusal

The value is that of the function itself, for every set of arguments, which stay as they are; the
derivatives are those of `hyperdual` numbers; gradient and tangent agree; and each derivative is the
same interpreted, as NumPy text and as Numba text.
"""

from __future__ import annotations

import ast
import linecache
import traceback
import zlib
from typing import Any

import numpy as np

import flatgrad as fg
from flatgrad.errors import FlatgradError
from flatgrad.frontend.lower import lower
from flatgrad.pipeline import differentiate, differentiate_inside
from flatgrad.signature import hidden_type
from tests.fuzz_checks import (
    Failure,
    arrays_in,
    close,
    leaves,
    numba_agrees,
    passed,
    rebuilt,
    run_checked,
)
from tests.fuzz_loops import LoopProgram
from tests.fuzz_programs import fresh
from tests.hyperduals import Objects, derivatives, parts

LARGEST = 1e5
"""Values and slopes beyond are not compared: rounding is all there is to see."""


class Wild(Exception):
    """A program that fails by itself, or whose values get out of hand."""


class NotANumber(Failure):
    """A derivative is NaN where it should not be."""


def spaces(program: LoopProgram, *, copying: bool = False) -> dict[str, Any]:
    """The names of the program's module; `copying` as in `copied_first`."""
    text = copied_first(program.text) if copying else program.text
    name = f"<loops {program.seed} {zlib.crc32(text.encode())}>"
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    space: dict[str, Any] = {"__name__": "program"}
    exec(compile(text, name, "exec"), space)
    return space


def copied_first(text: str) -> str:
    """The same program, but what is stored into an array is copied before.

    NumPy means the same, but for stores into a vector it does not look whether the memory of both
    overlaps in another order: `A[1] = A[:, -1]` reads what it has just written.
    """
    return ast.unparse(ast.fix_missing_locations(_Copying().visit(ast.parse(text))))


class _Copying(ast.NodeTransformer):
    def visit_Assign(self, node: ast.Assign) -> Any:
        target = node.targets[0]
        if isinstance(target, ast.Subscript):
            node.value = ast.parse(f"np.array({ast.unparse(node.value)})[()]", mode="eval").body
            return node
        if not any(isinstance(part, ast.Subscript) for part in getattr(target, "elts", ())):
            return node
        names = [f"_stored{k}" for k in range(len(target.elts))]
        lines = [f"{', '.join(names)} = {ast.unparse(node.value)}"]
        for name, part in zip(names, target.elts, strict=True):
            lines.append(f"{ast.unparse(part)} = {name}")
        tree = ast.parse("\n".join(lines))
        return [tree.body[0], *[self.visit(line) for line in tree.body[1:]]]


def overflows(program: LoopProgram, k: int) -> bool:
    """Whether a number on the way is too large for a float, although the value may not be."""
    given = {n: np.float64(v) if isinstance(v, float) else v for n, v in program.arguments(k).items()}
    try:
        with np.errstate(over="raise"):
            spaces(program)["f"](**given)
    except FloatingPointError:
        return True
    return False


class Expected:
    """What the function returns, and its derivatives along two directions, for one set."""

    def __init__(self, program: LoopProgram, k: int) -> None:
        rng = np.random.default_rng([program.seed, k])
        given = program.arguments(k)
        self.wrt = [n for n, v in given.items() if n not in ("k", "idx")]
        self.one = {name: along(given[name], rng) for name in self.wrt}
        self.two = {name: along(given[name], rng) for name in self.wrt}
        plain, exact = spaces(program, copying=True), spaces(program, copying=True)
        exact["np"] = Objects()
        try:
            self.value = plain["f"](**given)
            found = derivatives(exact["f"], program.arguments(k), self.one, self.two)
            value = parts(found, "value")
        except Exception as caught:
            raise Wild(repr(caught)) from caught
        self.slope, self.other = parts(found, "one"), parts(found, "two")
        self.mixed = parts(found, "mixed")
        self.size = max(
            float(np.max(np.abs(part), initial=0.0))
            for part in (value, self.slope, self.other, self.mixed)
        )
        if not self.size < LARGEST:
            raise Wild("large")
        if not np.allclose(value, self.value, rtol=1e-9, atol=1e-9):
            raise Wild(f"{self.value} and {value} as objects")


def along(value: Any, rng: np.random.Generator) -> Any:
    """A direction."""
    return rng.normal(size=np.shape(value)) if np.ndim(value) else float(rng.normal())


def check(program: LoopProgram, *, numba: bool = True, second: bool = True) -> None:
    """All properties of one program.

    Raises
    ------
    Failure
        If one does not hold.
    FlatgradError
        If the compiler refuses the program.
    Wild
        If there is nothing to compare.
    """
    with np.errstate(all="ignore"):
        expected = [Expected(program, k) for k in range(len(program.sets))]
        try:
            (pulled if program.array else reversed_)(program, expected, numba)
            pushed(program, expected, numba)
            if second and not program.array:
                twice(program, expected, numba)
        except NotANumber:  # 0 times infinity, if something is infinite
            if any(overflows(program, k) for k in range(len(program.sets))):
                raise Wild("overflow") from None
            raise


def called(derived: Any, given: dict[str, Any]) -> Any:
    """A call by the public road; the arguments must stay as they are."""
    arguments = {name: fresh(value) for name, value in given.items()}
    try:
        found = derived(**arguments)
    except FlatgradError:
        raise
    except Exception as caught:
        raise Failure("emitted-raises", traceback.format_exc(limit=-3)) from caught
    for name, before in given.items():
        if before is not None and not np.array_equal(before, arguments[name]):
            raise Failure("argument-mutated", name)
    arrays = list(arrays_in(found)) if isinstance(found, tuple) else []
    for k, one in enumerate(arrays):
        for other in (*arrays[k + 1 :], *arrays_in(tuple(arguments.values()))):
            if np.may_share_memory(one, other):
                raise Failure("shared-memory", "two results, or a result and an argument")
    return found


def product(expected: Expected, gradients: Any, directions: dict[str, Any]) -> float:
    """The inner product of gradients with a direction."""
    pairs = zip(gradients, directions.values(), strict=True)
    return float(sum(np.sum(np.asarray(g) * v) for g, v in pairs))


def same(kind: str, found: Any, wanted: Any, scale: float) -> None:
    """Two numbers or arrays agree, as far as numbers up to `scale` let them."""
    if np.shape(found) != np.shape(wanted):
        raise Failure(kind, f"shape {np.shape(found)}, expected {np.shape(wanted)}")
    if not np.all(np.isfinite(np.asarray(wanted, dtype=float))):
        raise Wild
    if not np.allclose(found, wanted, rtol=1e-7, atol=1e-8 * (scale + 1)):
        failure = NotANumber if np.any(np.isnan(found)) else Failure
        raise failure(kind, f"{found}, expected {wanted}")


def reversed_(program: LoopProgram, expected: list[Expected], numba: bool) -> None:
    """Value and gradient."""
    derived = fg.value_and_grad(spaces(program)["f"], tuple(expected[0].wrt))
    for k, wanted in enumerate(expected):
        given = program.arguments(k)
        value, gradients = called(derived, given)
        same("value", value, wanted.value, 1.0)
        for name, gradient in zip(wanted.wrt, gradients, strict=True):
            if np.shape(gradient) != np.shape(given[name]):
                raise Failure("gradient-type", f"{name}: {gradient!r}")
        same("slope", product(wanted, gradients, wanted.one), wanted.slope, wanted.size)
        same("slope", product(wanted, gradients, wanted.two), wanted.other, wanted.size)
        forms(derived, given, numba=numba, raw=True)


def pushed(program: LoopProgram, expected: list[Expected], numba: bool) -> None:
    """Value and tangent."""
    derived = fg.jvp(spaces(program)["f"])
    for k, wanted in enumerate(expected):
        given = program.arguments(k) | {f"dot_{n}": v for n, v in wanted.one.items()}
        value, slope = called(derived, given)
        same("value-forward", value, wanted.value, 1.0)
        same("tangent", slope, wanted.slope, wanted.size)
        forms(derived, given, numba=numba, raw=False)


def pulled(program: LoopProgram, expected: list[Expected], numba: bool) -> None:
    """The pullback of an array."""
    function = spaces(program)["f"]
    for k, wanted in enumerate(expected):
        rng = np.random.default_rng(k)
        value, pullback = fg.vjp(function, *integers(program.arguments(k)))
        same("value", value, wanted.value, 1.0)
        seed = rng.normal(size=np.shape(value))
        gradients = dict(zip(program.sets[k], pullback(seed), strict=True))
        found = [gradients[name] for name in wanted.wrt]
        wanted_slope = float(np.sum(seed * wanted.slope))
        same("pullback", product(wanted, found, wanted.one), wanted_slope, wanted.size)


def twice(program: LoopProgram, expected: list[Expected], numba: bool) -> None:
    """Forward over reverse, and reverse over reverse."""
    wrt = tuple(expected[0].wrt)
    function = spaces(program)["f"]
    gradient = fg.grad(function, wrt)
    over = fg.hvp(function, argnums=wrt)
    for k, wanted in enumerate(expected):
        given = program.arguments(k)
        dots = given | {f"dot_{n}": v for n, v in wanted.one.items()}
        found = called(over, dots)
        same("hvp", product(wanted, found, wanted.two), wanted.mixed, wanted.size)
        if k == 0:
            forms(over, dots, numba=numba, raw=False)
        _, pullback = fg.vjp(gradient, *integers(given))
        pulled_back = dict(zip(given, pullback(tuple(wanted.one.values())), strict=True))
        found = [pulled_back[name] for name in wrt]
        same("grad-grad", product(wanted, found, wanted.two), wanted.mixed, wanted.size)


def integers(given: dict[str, Any]) -> list[Any]:
    """The arguments; a Python int would be taken as a number to differentiate by."""
    return [np.int64(value) if isinstance(value, int) else value for value in given.values()]


def forms(derived: Any, given: dict[str, Any], *, numba: bool, raw: bool) -> None:
    """The same results from the interpreter and both texts."""
    behind = derived.__flatgrad__
    values = {name: given.get(name) for name in behind.signature.parameters}
    found = behind.specialise(values)
    compiled = found.compiled
    values |= {capture.name: capture.read() for capture in compiled.hidden}
    arguments = [passed(values[p.name], p.type) for p in compiled.graph.params]
    emitted = compiled.function(*[fresh(value) for value in arguments])
    with np.errstate(all="ignore"):
        results = run_checked(compiled.graph, [fresh(v) for v in arguments], weak=False)
    expected = rebuilt(compiled.graph.tree, results)
    bounded(expected)
    close("interpreter-differs", emitted, expected, "double", typed=True)
    if raw:
        fn, _ = lower(behind.source, found.types, hidden_type, differentiate_inside)
        fn = differentiate(fn, compiled.request, None)
        first = rebuilt(fn.tree, run_checked(fn, [fresh(v) for v in arguments], weak=False))
        close("raw-differs", emitted, first, "double", typed=True)
    if numba:
        numba_agrees(compiled, arguments, expected, "double")


def bounded(tree: Any) -> None:
    """Refuse to compare what is all rounding."""
    if not all(np.all(np.abs(leaf) < LARGEST * 100) for leaf in leaves(tree) if leaf is not None):
        raise Wild("large")
