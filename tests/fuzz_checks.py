"""What must hold of a program and its gradient.

    check(program)             # raises Failure(kind, detail), or FlatgradError for a refusal

The value is the function's own; the interpreter on the raw reverse function, the cleaned one, the
NumPy text and the Numba text agree; types are as inferred; slopes are those of central differences.
"""

from __future__ import annotations

import math
import sys
import traceback
from collections.abc import Iterator
from typing import Any

import numpy as np

import flatgrad as fg
from flatgrad.backends import numba_cpu
from flatgrad.codegen.module import build_module
from flatgrad.codegen.numba_dialect import NumbaDialect
from flatgrad.compiled_passes import FOR_NUMBA, FUSING, SEGMENTS, SUMS
from flatgrad.differences import Judge
from flatgrad.errors import FlatgradError
from flatgrad.frontend.lower import lower
from flatgrad.ir.interpret import interpret
from flatgrad.ir.ops import Apply, Block, Const, For, Function, If, substitute
from flatgrad.ir.types import Scalar
from flatgrad.ir.verify import verify
from flatgrad.pipeline import differentiate, differentiate_inside
from flatgrad.signature import hidden_type
from flatgrad.transform.additions import as_additions
from flatgrad.transform.forward import forward
from flatgrad.transform.fuse import fuse
from flatgrad.transform.interchange import interchange
from flatgrad.transform.layouts import in_one_order
from tests.fuzz_programs import Program, fresh, load

STEPS = [2e-3 / 1.7**k for k in range(14)]


class Failure(Exception):
    """Something that must hold does not; `kind` is what."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind


class Kink(Exception):
    """The function is not differentiable at, or next to, its arguments."""


class Guarded(Exception):
    """The emitted code refuses the lengths that it meets."""


def is_guard(caught: BaseException) -> bool:
    """Whether an error comes from a check that the compiler wrote into the code."""
    frame = traceback.extract_tb(caught.__traceback__)[-1]
    return (frame.line or "").startswith("raise ValueError(")


def check(program: Program, *, numba: bool = True) -> None:
    """All properties of one program.

    Raises
    ------
    Failure
        If one does not hold.
    FlatgradError
        If the compiler refuses the program.
    Kink
        If the slopes cannot be compared.
    """
    function = program.function()
    with np.errstate(all="ignore"):
        derived, values = call_checked(program, function)
        rest = dict(program.arguments())
        forms = Forms(derived, rest)
        forms.agree(rest, numba=numba, tangent=True)
        other_lengths(derived, function, program, forms)
        slopes(derived, program, values)


def floats_in(given: dict[str, Any]) -> list[str]:
    """The names of the arguments that have gradients by default."""
    return [
        name
        for name, value in given.items()
        if isinstance(value, float | int)
        or (isinstance(value, np.ndarray | np.generic) and value.dtype.kind == "f")
    ]


def call_checked(program: Program, function: Any) -> tuple[Any, tuple[Any, Any]]:
    """The derivative by the public road: value, dtypes, shapes, memory."""
    has_aux = "aux" in program.tags
    given = program.arguments()
    wrt = [n for n in floats_in(given) if not isinstance(given[n], int)]
    derived = fg.value_and_grad(function, tuple(wrt), has_aux=has_aux)
    try:
        value, gradients = derived(**given)
    except FlatgradError:
        raise
    except Exception as caught:
        if isinstance(caught, ValueError) and is_guard(caught):
            raise Guarded(str(caught)) from None
        raise Failure("emitted-raises", traceback.format_exc(limit=-3)) from caught
    for name, before in program.given.items():
        if not np.array_equal(before, given[name]):
            raise Failure("argument-mutated", name)
    expected = function(**program.arguments())
    single = "single" if any_single(program) else "double"
    close("value", value, expected, single)
    for name, gradient in zip(wrt, gradients, strict=True):
        one = given[name]
        if isinstance(one, np.ndarray):
            good = isinstance(gradient, np.ndarray) and gradient.dtype == one.dtype
        else:
            good = type(gradient) is type(one)
        if not good or np.shape(gradient) != np.shape(one):
            raise Failure("gradient-type", f"{name}: {type(one)} has {type(gradient)} {gradient!r}")
    arrays = list(arrays_in((value, gradients)))
    for k, one in enumerate(arrays):
        for other in (*arrays[k + 1 :], *arrays_in(tuple(given.values()))):
            if np.may_share_memory(one, other):
                raise Failure("shared-memory", "two results, or a result and an argument")
    return derived, (value, gradients)


def other_lengths(derived: Any, function: Any, program: Program, forms: Forms) -> None:
    """The same compiled code for arguments of other lengths."""
    given = {name: program.other[name] for name in program.given}
    try:
        derived(**{name: fresh(value) for name, value in given.items()})
    except FlatgradError as caught:
        raise Guarded(str(caught)) from None
    except ValueError as caught:
        if is_guard(caught):
            raise Guarded(str(caught)) from None
        raise
    value, _ = derived(**{name: fresh(value) for name, value in given.items()})
    expected = function(**{name: fresh(value) for name, value in given.items()})
    close("value-other", value, expected, "single" if any_single(program) else "double")
    if derived.__flatgrad__.specialise(given).compiled is forms.compiled:
        forms.agree(given, numba=False, tangent=False)


def arrays_in(tree: Any) -> Iterator[np.ndarray]:
    """The arrays in nested tuples, lists and dicts."""
    if isinstance(tree, np.ndarray):
        yield tree
    elif isinstance(tree, tuple | list | dict):
        for item in tree.values() if isinstance(tree, dict) else tree:
            yield from arrays_in(item)


def leaves(tree: Any) -> list[Any]:
    """The numbers and arrays in nested tuples, lists and dicts, in order."""
    if isinstance(tree, tuple | list | dict):
        items = tree.values() if isinstance(tree, dict) else tree
        return [leaf for item in items for leaf in leaves(item)]
    return [tree]


def any_single(program: Program) -> bool:
    """Whether something is computed in single precision."""
    dtypes = [getattr(value, "dtype", None) for value in program.given.values()]
    return "float32" in program.body or np.dtype("float32") in dtypes


def close(kind: str, found: Any, expected: Any, precision: str, typed: bool = False) -> None:
    """Two trees have equal leaves.

    Raises
    ------
    Failure
        At the first that differs.
    """
    rtol = 2e-3 if precision == "single" else 1e-9
    some, others = leaves(found), leaves(expected)
    if len(some) != len(others):
        raise Failure(kind, f"{len(some)} leaves for {len(others)}")
    for k, (one, other) in enumerate(zip(some, others, strict=True)):
        if np.shape(one) != np.shape(other):
            raise Failure(kind, f"leaf {k}: shape {np.shape(one)}, expected {np.shape(other)}")
        if typed and np.asarray(one).dtype != np.asarray(other).dtype and np.ndim(one):
            raise Failure(f"{kind}-dtype", f"leaf {k}: {one!r}, expected {other!r}")
        scale = np.max(np.abs(np.asarray(other, float)), initial=0.0) + 1e-2
        if not np.allclose(one, other, rtol=0, atol=rtol * scale, equal_nan=True):
            raise Failure(kind, f"leaf {k}: {one}, expected {other}")


class Forms:
    """One specialisation in all its forms: as lowered, reversed, cleaned up, emitted."""

    def __init__(self, derived: Any, given: dict[str, Any]) -> None:
        self.found = derived.__flatgrad__.specialise(given)
        self.compiled = self.found.compiled
        source = derived.__flatgrad__.source
        self.fn, _ = lower(source, self.found.types, hidden_type, differentiate_inside)
        self.raw = differentiate(self.fn, self.compiled.request, source)
        kinds = str([param.type for param in self.fn.params])
        single = "float32" in kinds or "float32" in source.text.split("def f(")[-1]
        self.precision = "single" if single else "double"

    def agree(self, given: dict[str, Any], *, numba: bool, tangent: bool) -> None:
        """Interpreter on the raw function = on the cleaned one = NumPy text = Numba text."""
        compiled = self.compiled
        given = given | {capture.name: capture.read() for capture in compiled.hidden}
        arguments = [passed(given[p.name], p.type) for p in compiled.graph.params]
        emitted, frame = observed(compiled, [fresh(value) for value in arguments])
        expected = rebuilt(self.raw.tree, run_checked(self.raw, [fresh(v) for v in arguments]))
        close("raw-differs", emitted, expected, self.precision, typed=True)
        cleaned = rebuilt(compiled.graph.tree, run_checked(compiled.graph, arguments))
        close("cleaned-differs", cleaned, expected, self.precision, typed=True)
        if all_single(self.fn):
            wide = [k for k, v in frame.items() if getattr(v, "dtype", None) == np.float64]
            if any(np.ndim(frame[name]) for name in wide):
                raise Failure("widened", f"{wide}\n{compiled.module.function_text}")
        if tangent:
            tangents(self.fn, self.found, expected, arguments, self.precision)
        if numba:
            numba_agrees(compiled, arguments, expected, self.precision)


def passed(value: Any, kind: Any) -> Any:
    """An argument as the emitted code gets it."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        return value[()]
    return float(value) if isinstance(value, int) and kind.dtype == "float64" else value


def rebuilt(tree: Any, results: list[Any]) -> Any:
    """The result of a function from its leaves."""
    return substitute(tree, results.__getitem__)


def all_single(fn: Function) -> bool:
    """Whether the function itself computes nothing in double precision.

    Python numbers do: the sign of one is a float64.
    """
    made = [result.type for op in fn.body.ops for result in op.results]
    kinds = [*made, *[param.type for param in fn.params]]
    return all(kind.dtype != "float64" for kind in kinds)


def observed(compiled: Any, arguments: list[Any]) -> tuple[Any, dict[str, Any]]:
    """What the emitted function returns, and its variables at the end."""
    seen: dict[str, Any] = {}

    def watch(frame: Any, event: str, _: Any) -> None:
        if event == "return" and frame.f_code is compiled.function.__code__:
            seen.update(frame.f_locals)

    sys.setprofile(watch)
    try:
        return compiled.function(*arguments), seen
    finally:
        sys.setprofile(None)


def run_checked(fn: Function, arguments: list[Any], *, weak: bool = True) -> list[Any]:
    """Interpret, and compare every value with its inferred type; `weak` includes Python or NumPy.

    That matters only where something is in single precision.
    """
    env: dict[Any, Any] = dict(zip(fn.params, arguments, strict=True))
    lengths = {
        atom: np.shape(env[param])[axis]
        for atom, (param, axis) in fn.lengths.items()
        if param in env
    }
    for param, value in zip(fn.params, arguments, strict=True):
        if isinstance(value, int):
            lengths[f"?{param.name}"] = value
    weak = weak and all(isinstance(op, Apply) for op in fn.body.ops)  # a tape holds NumPy's numbers
    return run_block(fn.body, env, lengths, weak)


def run_block(block: Block, env: dict[Any, Any], lengths: dict[str, int], weak: bool) -> list[Any]:
    """Interpret a block; its parameters are in `env` already."""

    def known(operand: Any) -> Any:
        return operand.value if isinstance(operand, Const) else env[operand]

    for op in block.ops:
        if isinstance(op, Apply):
            tree = substitute(op.arguments, [known(o) for o in op.operands].__getitem__)
            with np.errstate(all="ignore"):
                outcome = op.primitive.evaluate(tree)
            outcomes = [outcome] if len(op.results) == 1 else list(outcome if op.results else ())
            about = op.primitive.text
        else:
            about = type(op).__name__
            outcomes = run_structured(op, env, lengths, weak)
        for value, result in zip(op.results, outcomes, strict=True):
            wrong = mistyped(value.type, result, lengths, weak)
            if wrong:
                raise Failure("type-rule", f"{about}: {value!r} but {wrong}")
            env[value] = result
    return [known(item) for item in block.yields]


def run_structured(op: Any, env: dict[Any, Any], lengths: dict[str, int], weak: bool) -> list[Any]:
    """Interpret a branch or loop."""

    def known(operand: Any) -> Any:
        return operand.value if isinstance(operand, Const) else env[operand]

    if isinstance(op, If):
        return run_block(op.then if known(op.condition) else op.orelse, env, lengths, weak)
    carried = [known(item) for item in op.inits]

    def entered(block: Block, given: list[Any]) -> list[Any]:
        for param, value in zip(block.params, given, strict=True):
            wrong = mistyped(param.type, value, lengths, weak)
            if wrong:
                raise Failure("type-rule", f"{type(op).__name__} carries {param!r} but {wrong}")
            env[param] = value
        return run_block(block, env, lengths, weak)

    if isinstance(op, For):
        indices: Any = range(*(int(known(o)) for o in (op.start, op.stop, op.step)))
    else:
        indices = iter(lambda: bool(entered(op.condition, carried)[0]), False)
    for index in indices:
        carried = entered(op.body, [index, *carried] if isinstance(op, For) else carried)
        if op.exits and carried.pop(0):
            break
    return carried


def mistyped(kind: Any, found: Any, lengths: dict[str, int], weak: bool = True) -> str:
    """How a value differs from its inferred type."""
    shape = np.shape(found)
    if len(shape) != kind.ndim:
        return f"shape {shape}"
    if np.asarray(found).dtype != kind.dtype:
        return f"{np.asarray(found).dtype}"
    for size, actual in zip(kind.shape, shape, strict=True):
        known = size if isinstance(size, int) else size.value(lengths)
        if known is not None and known != actual:
            return f"shape {shape}"
    if weak and isinstance(kind, Scalar) and kind.weak and type(found) not in (bool, int, float):
        return f"a {type(found).__name__}"  # which would widen float32 arrays
    return ""


def tangents(fn: Function, found: Any, outcome: Any, arguments: list[Any], precision: str) -> None:
    """The inner product of the gradient with a direction is the tangent along it."""
    rng = np.random.default_rng(5)
    wrt = [param for param in fn.params if param.name in found.wrt]
    try:
        pushed, dots = forward(fn, wrt)
    except FlatgradError as caught:
        raise Failure("no-forward-rule", str(caught)) from caught
    by_name = dict(zip([p.name for p in found.compiled.graph.params], arguments, strict=True))
    directions = [direction(by_name[param.name], rng) for param in wrt]
    pushed.body.yields = (dots[0],)
    (slope,) = interpret(pushed, [*arguments, *directions])
    gradients = outcome[1] if isinstance(outcome[1], tuple) else (outcome[1],)
    ordered = dict(zip(found.wrt, gradients, strict=True))
    products = [v * ordered[p.name] for v, p in zip(directions, wrt, strict=True)]
    terms = [np.sum(product) for product in products]
    scale = sum(float(np.sum(np.abs(product))) for product in products)
    tolerance = (5e-3 if precision == "single" else 1e-8) * (scale + 1e-2)
    if math.isfinite(float(slope)) and abs(float(sum(terms)) - float(slope)) > tolerance:
        raise Failure("jvp-differs", f"forward {slope}, reverse {sum(terms)}")


def direction(value: Any, rng: np.random.Generator) -> Any:
    """A random tangent."""
    drawn = rng.normal(size=np.shape(value))
    if isinstance(value, np.ndarray | np.generic):
        return np.asarray(drawn).astype(value.dtype)[()]
    return float(drawn)


def numba_agrees(compiled: Any, arguments: list[Any], expected: Any, precision: str) -> None:
    """The Numba text computes the same (as plain Python where the JIT is switched off).

    After the passes for compiled code, and without those but for the fusion.
    """
    for form in (fuse(compiled.graph), for_numba(compiled.graph)):
        verify(form)
        looped = rebuilt(form.tree, interpret(form, [fresh(a) for a in arguments]))
        close("fused-differs", looped, expected, precision)
        text_agrees(form, compiled.module.name, arguments, expected, precision)


def for_numba(fn: Function) -> Function:
    """The function after the passes for compiled code."""
    fn = as_additions(interchange(fn))
    for _, run in (*SEGMENTS, *SUMS, *FOR_NUMBA, *FUSING):
        fn = run(fn)
    return in_one_order(fn)


def text_agrees(
    form: Function, name: str, arguments: list[Any], expected: Any, precision: str
) -> None:
    """The Numba text of a function computes what is expected."""
    try:
        module = build_module(form, name, NumbaDialect())
    except FlatgradError as caught:
        REFUSED_BY_NUMBA.append(str(caught))
        return
    try:
        found = getattr(numba_cpu.load(name, module.text), name)(*[fresh(a) for a in arguments])
    except Exception as caught:
        raise Failure("numba-raises", traceback.format_exc(limit=-3) + module.text) from caught
    close("numba-differs", found, expected, precision, typed=True)


REFUSED_BY_NUMBA: list[str] = []
"""Why programs were left out on that backend."""


def widened(program: Program) -> tuple[Any, dict[str, Any]]:
    """The same program in double precision throughout, for differences."""
    text = program.text.replace("float32", "float64")
    given = {}
    for name, value in program.arguments().items():
        if isinstance(value, np.ndarray | np.generic) and value.dtype == np.float32:
            value = value.astype(np.float64)
        given[name] = value
    return load(text, program.seed), given


def slopes(derived: Any, program: Program, outcome: Any) -> None:
    """The gradient in double precision against differences, and the narrow one against it."""
    has_aux = "aux" in program.tags
    function, given = widened(program)
    wrt = [n for n in floats_in(given) if not isinstance(given[n], int)]
    if any_single(program):
        derived = fg.value_and_grad(function, tuple(wrt), has_aux=has_aux)
    rng = np.random.default_rng(program.seed)
    hints = []
    for attempt in range(4):
        moved = {
            name: shifted(value, 1e-3 * attempt, direction(value, rng)) if name in wrt else value
            for name, value in given.items()
        }
        _, gradients = derived(**{name: fresh(value) for name, value in moved.items()})
        if attempt == 0 and any_single(program):
            narrow_agrees(outcome[1], gradients, program)
        hint = slope_differs(function, moved, dict(zip(wrt, gradients, strict=True)), has_aux, rng)
        if not hint:
            return
        hints.append(hint)
    if any("not differentiable" in hint for hint in hints):
        raise Kink(hints[-1])
    raise Failure("slope", "\n".join(hints))


def narrow_agrees(narrow: Any, wide: Any, program: Program) -> None:
    """Single precision loses digits, no more."""
    for name, one, other in zip(floats_in(program.given), narrow, wide, strict=False):
        scale = 2 * max(np.max(np.abs(gradient), initial=0.0) for gradient in wide)
        if not np.allclose(one, other, rtol=0, atol=2e-2 * scale + 1e-4):
            raise Failure("single-differs", f"{name}: {one}, in double precision {other}")


def shifted(value: Any, step: float, along: Any) -> Any:
    """An argument moved along a direction; 0-d arrays stay arrays."""
    moved = fresh(value) + step * along
    return np.asarray(moved) if isinstance(value, np.ndarray) else moved


def slope_differs(
    function: Any, given: dict[str, Any], gradients: dict[str, Any], has_aux: bool, rng: Any
) -> str:
    """Why the slope in a random direction is not that of the gradient; empty if it is."""
    along = {name: direction(given[name], rng) for name in gradients}

    def moved(t: float) -> float:
        arguments = {
            name: shifted(value, t, along[name]) if name in along else fresh(value)
            for name, value in given.items()
        }
        try:
            found = function(**arguments)
        except Exception:
            return math.nan
        return float(found[0] if has_aux else found)

    analytic = sum(float(np.vdot(along[name], gradients[name])) for name in gradients)
    floor = sum(float(np.sum(np.abs(along[name] * gradients[name]))) for name in gradients)
    center = moved(0.0)
    judge = Judge(rtol=1e-5, atol=1e-9, eps=4e-16 * 50, center=center)
    comparison = judge.compare("along", analytic, floor * 1e-2 + 1e-4, moved, STEPS)
    return "" if comparison.passed else f"{comparison}"
