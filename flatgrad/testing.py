"""Check a gradient against central differences, in anybody's test suite.

    check_grads(lambda w, x: np.tanh(w @ x).sum(), (w, x))      # a report, or GradientCheckError

A gradient is compared element by element and along random directions.  The slope of ``f`` along a
line comes from central differences at several steps, extrapolated to step 0 by Neville's scheme in
h**2 with Ridders' error estimate (C. Ridders, Adv. Eng. Software 4(2), 1982; `dfridr` in Numerical
Recipes, section 5.7).  A comparison passes if the extrapolated slope agrees, or the quotient of one
step whose rounding noise ``eps * |f| / h`` is below the tolerance: a step too small to move ``f``
must not confirm a zero.
"""

from __future__ import annotations

import copy
import inspect
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from flatgrad.differences import Comparison, Judge, Slope
from flatgrad.errors import FlatgradError
from flatgrad.ir.trees import finished
from flatgrad.structures import is_structure, spread, tangent_values

__all__ = ["Comparison", "GradientCheckError", "GradientReport", "check_grads"]

Floats = npt.NDArray[np.float64]
STEPS = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8)


class GradientCheckError(AssertionError):
    """A gradient is wrong, or cannot be checked where it was asked for."""


@dataclass(frozen=True, slots=True)
class GradientReport:
    """What was compared; `str(report)` is a table with a line per argument."""

    worst: Comparison | None  # None if there was nothing to compare
    elements: int
    directions: int
    by_argument: tuple[tuple[str, int, int, Comparison | None], ...]  # name, checked, size, worst

    @property
    def worst_error(self) -> float:
        return self.worst.relative_error if self.worst else 0.0

    def __str__(self) -> str:
        rows = [("argument", "checked", "worst error", "at")]
        for name, checked, size, worst in self.by_argument:
            error = (f"{worst.relative_error:.1e}", worst.place) if worst else ("-", "-")
            rows.append((name, f"{checked}/{size}", *error))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        table = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
        return "\n".join([*table, f"random directions: {self.directions}"])


@dataclass(frozen=True, slots=True)
class _Leaf:
    """A number or array whose gradient is checked; an argument that is a container has several."""

    name: str
    point: Floats
    gradient: Floats

    def place(self, flat: int) -> str:
        index = ", ".join(str(int(i)) for i in np.unravel_index(flat, self.point.shape))
        return f"{self.name}[{index}]" if index else self.name


class _Probe:
    """`f` at and around the arguments, in float64 where it accepts that; it sees only copies."""

    def __init__(self, f: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]):
        if not isinstance(args, tuple | list):
            raise TypeError(f"args must be a tuple of arguments, not {type(args).__name__}")
        self.f, self.wide = f, True
        self.given = inspect.signature(f).bind(*args, **kwargs)
        self.bound = inspect.signature(f).bind(*args, **kwargs)
        self.bound.apply_defaults()
        self.bound.arguments = {  # a default may have a gradient too
            name: value
            for name, value in self.bound.arguments.items()
            if name in self.given.arguments or _is_number(value) or _floats_in(value)
        }
        result, again = (_call_on_copy(f, self.given)[0] for _ in range(2))
        self.value = _real(result)
        if not math.isfinite(self.value):
            raise GradientCheckError(f"f is {self.value} at the given arguments")
        if not abs(again - result) <= 4 * _eps(result) * abs(self.value):  # memory alignment
            message = f"f is not deterministic: two calls gave {result!r} and {again!r}"
            raise GradientCheckError(message)
        try:
            result = self.call({})
        except TypeError:  # compiled for float32 only
            self.wide = False
            result = self.call({})
        self.center, self.eps = _real(result), _eps(result)

    def call(self, moved: Mapping[str, Floats]) -> Any:
        bound = copy.copy(self.bound)
        found = spread(dict(bound.arguments))
        fresh = {
            name: self._fresh(value, moved.get(name)) for name, value in found.values.items()
        }
        bound.arguments = {name: _rebuilt(tree, fresh) for name, tree in found.trees.items()}
        return self.f(*bound.args, **bound.kwargs)

    def _fresh(self, argument: Any, value: Floats | None) -> Any:
        if isinstance(argument, np.ndarray | np.floating) and argument.dtype.kind == "f":
            dtype = np.float64 if self.wide else argument.dtype
            array = np.array(argument if value is None else value, dtype)
            return array if isinstance(argument, np.ndarray) else array[()]
        return copy.copy(argument) if value is None else float(value)

    def along(self, line: Mapping[str, tuple[Floats, Floats]]) -> Slope:
        def at(t: float) -> float:
            try:
                with np.errstate(all="ignore"):
                    return float(self.call({name: x + t * v for name, (x, v) in line.items()}))
            except (ValueError, ArithmeticError):
                return math.nan

        return at


def _real(result: Any) -> float:
    if not isinstance(result, float | int | np.generic | np.ndarray) or np.shape(result) != ():
        raise TypeError(f"check_grads needs an f that returns one real number, not {result!r:.60}")
    return float(result)


def _is_floating(value: Any) -> bool:
    return (
        isinstance(value, float | np.generic | np.ndarray) and np.asarray(value).dtype.kind == "f"
    )


def _is_number(value: Any) -> bool:
    return _is_floating(value) or type(value) is int


def _eps(value: Any) -> float:
    dtype = np.asarray(value).dtype
    return float(np.finfo(dtype if dtype.kind == "f" else np.float64).eps)


def _call_on_copy(f: Callable[..., Any], bound: inspect.BoundArguments) -> tuple[Any, list[str]]:
    """The result, and the names of the arrays that the call changed."""
    given = copy.copy(bound)
    before = spread(dict(bound.arguments))
    copies = {name: copy.copy(value) for name, value in before.values.items()}
    given.arguments = {name: _rebuilt(tree, copies) for name, tree in before.trees.items()}
    result = f(*given.args, **given.kwargs)
    after = spread(dict(given.arguments))
    changed = [n for n, tree in before.trees.items() if after.trees[n] != tree]
    arrays = [(n, a) for n, a in before.values.items() if isinstance(a, np.ndarray)]
    found = [n for n, a in arrays if a.tobytes() != copies[n].tobytes()]
    return result, [*changed, *[before.shown[n] for n in found]]


def _rebuilt(tree: Any, leaves: Mapping[str, Any]) -> Any:
    """An argument of other leaves."""
    return finished(tree.built(lambda leaf: leaves[leaf.name]))


def _by_name(gradient: Any, argnums: Any, probe: _Probe) -> dict[str, Any]:
    """The parts of the gradient, by the argument they belong to."""
    arguments, given = probe.bound.arguments, set(probe.given.arguments)
    parts = gradient if isinstance(gradient, tuple) else (gradient,)
    if argnums is not None:
        every = list(probe.bound.signature.parameters)
        parts = gradient if isinstance(argnums, tuple) else (gradient,)
        chosen = argnums if isinstance(argnums, tuple) else (argnums,)
        names = [n if isinstance(n, str) else every[n] for n in chosen]
        fits = isinstance(parts, tuple) and len(names) == len(parts)
        whole = isinstance(argnums, tuple) or _floats_in(arguments.get(names[0]))
        if fits and (whole or not isinstance(gradient, tuple)):
            return dict(zip(names, parts, strict=True))
        raise GradientCheckError(f"the gradient has not the form of argnums={argnums!r}")
    able = [n for n, value in arguments.items() if _is_number(value) or _floats_in(value)]
    floats = [n for n in able if type(arguments[n]) is not int]  # an int may be a count
    if len(able) == 1 and _floats_in(arguments[able[0]]):
        return {able[0]: gradient}
    needed = given.intersection(floats)
    fields = list(getattr(gradient, "_fields", ()))
    for candidates in (fields, able, floats):
        for names in (candidates, [n for n in candidates if n in given]):  # without defaults
            bare = len(names) == 1 and not fields
            fits = len(names) == len(parts) and isinstance(gradient, tuple) != bare
            if fits and needed <= set(names) <= set(arguments):
                return dict(zip(names, parts, strict=True))
    raise GradientCheckError(
        f"the gradient must have a part for each of {', '.join(able)}; it is {gradient!s:.80}"
    )


def _leaf(name: str, shown: str, argument: Any, gradient: Any) -> _Leaf:
    """Check the gradient's type, dtype and shape against its argument's."""
    if not _is_number(argument):
        raise TypeError(f"`{shown}` cannot have a gradient: it is {argument!r:.60}")
    if isinstance(argument, np.ndarray | np.generic):
        want = (argument.dtype.name, argument.shape)
        found = isinstance(gradient, np.ndarray | np.generic | float)
        have = (np.asarray(gradient).dtype.name, np.shape(gradient)) if found else None
    else:
        want = ("float", ())
        have = ("float", ()) if isinstance(gradient, float) else None
    if have != want:
        words = f"dtype {have[0]} and shape {have[1]}" if have else f"{type(gradient).__name__}"
        raise GradientCheckError(
            f"the gradient of `{shown}` is {words}; expected {want[0]} and shape {want[1]}"
        )
    return _Leaf(name, np.array(argument, np.float64), np.array(gradient, np.float64))


def _steps(steps: Sequence[float], scale: float) -> list[float]:
    """Decreasing powers of two, so that x + h is exact more often."""
    return sorted(
        {2.0 ** max(round(math.log2(step * scale)), -1000) for step in steps}, reverse=True
    )


def _check_element(
    probe: _Probe, judge: Judge, leaf: _Leaf, flat: int, steps: Sequence[float]
) -> Comparison:
    finite = np.abs(leaf.gradient[np.isfinite(leaf.gradient)])
    floor = 0.01 * float(finite.max(initial=0.0))
    unit = np.zeros(leaf.point.shape)
    unit.flat[flat] = 1.0
    slope = probe.along({leaf.name: (leaf.point, unit)})
    size, analytic = abs(float(leaf.point.flat[flat])), float(leaf.gradient.flat[flat])
    size = size if math.isfinite(size) else 0.0
    for scale in (max(size, 1.0), size):  # steps relative to |x| are for log(1e-6)
        result = judge.compare(leaf.place(flat), analytic, floor, slope, _steps(steps, scale))
        if result.passed or size == 0 or size >= 1:
            break
    return result


def _check_direction(
    probe: _Probe, judge: Judge, leaves: list[_Leaf], rng: np.random.Generator, steps: Any
) -> Comparison:
    random = [rng.standard_normal(leaf.point.shape) for leaf in leaves]
    norm = math.sqrt(sum(float(np.sum(u * u)) for u in random)) or 1.0
    place = "a random direction in " + ", ".join(leaf.name for leaf in leaves)
    for least in (1.0, 0.0):
        line, terms = {}, [np.zeros(0)]
        for leaf, u in zip(leaves, random, strict=True):
            size = np.maximum(np.abs(leaf.point), least)
            v = u / norm * np.where((size > 0) & np.isfinite(size), size, 1.0)
            line[leaf.name] = (leaf.point, v)
            terms.append((leaf.gradient * v).ravel())
        products = np.concatenate(terms)
        floor = math.sqrt(float(products @ products))
        analytic = float(products.sum())
        result = judge.compare(place, analytic, floor, probe.along(line), _steps(steps, 1.0))
        if result.passed:
            break
    return result


def _analytic(
    f: Callable[..., Any], argnums: Any, gradient: Callable[..., Any] | None, backend: str | None
) -> Callable[..., tuple[Any, Any]]:
    """A function that returns (value or None, gradient)."""
    if gradient is not None:
        return lambda *args, **kwargs: (None, gradient(*args, **kwargs))
    from flatgrad.api import value_and_grad

    derived: Callable[..., tuple[Any, Any]] = value_and_grad(
        f, argnums=argnums, backend=backend or "numpy"
    )
    return derived


def _leaves(
    probe: _Probe, analytic: Callable[..., tuple[Any, Any]], argnums: Any, rtol: float
) -> list[_Leaf]:
    """Call the gradient once; check what it returns and that it leaves its arguments alone."""
    (value, gradient), modified = _call_on_copy(analytic, probe.given)
    if modified:
        raise GradientCheckError(f"the gradient modified its argument `{modified[0]}`")
    if value is not None and not math.isclose(
        _real(value), probe.value, rel_tol=rtol, abs_tol=1e-12
    ):
        raise GradientCheckError(f"value_and_grad gave the value {value!r}, f {probe.value!r}")
    parts = _by_name(gradient, argnums, probe)
    if not parts:
        raise ValueError("no argument of f can have a gradient")
    return [
        leaf
        for name, part in parts.items()
        for leaf in _leaves_of(name, probe.bound.arguments.get(name), part)
    ]


def _floats_in(value: Any) -> list[str]:
    """The float leaves of a container."""
    if not is_structure(value):
        return []
    return [name for name, leaf in spread({"": value}).values.items() if _is_floating(leaf)]


def _leaves_of(name: str, argument: Any, gradient: Any) -> list[_Leaf]:
    """The leaves of an argument; its gradient has its structure, None for what is no float."""
    if not is_structure(argument):
        return [_leaf(name, name, argument, gradient)]
    given = spread({name: argument})
    try:
        parts = tangent_values(name, gradient, given.trees[name])
    except FlatgradError:
        parts = {}
    floats = [leaf for leaf, value in given.values.items() if _is_floating(value)]
    others = [leaf for leaf in parts if leaf not in floats and parts[leaf] is not None]
    if not floats:
        raise TypeError(f"`{name}` cannot have a gradient: it is {argument!r:.60}")
    if others or not set(floats) <= set(parts):
        raise GradientCheckError(f"the gradient of `{name}` has not its structure")
    return [_leaf(leaf, given.shown[leaf], given.values[leaf], parts[leaf]) for leaf in floats]


def check_grads(
    f: Callable[..., Any],
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    argnums: int | str | tuple[int | str, ...] | None = None,
    gradient: Callable[..., Any] | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    steps: Sequence[float] = STEPS,
    directions: int = 3,
    elements: bool | int = 256,
    seed: int = 0,
    backend: str | None = None,
) -> GradientReport:
    """Compare a gradient with central differences, element by element and in random directions.

    Parameters
    ----------
    f : callable
        Returns one real number. A function derived by flatgrad stands for its `.primal`.
    args, kwargs
        Where to check: Python scalars, float arrays, and tuples, lists, dicts, named tuples and
        dataclasses of these; anything else is passed on unchanged.
    argnums : int, str or tuple of them, optional
        As in `flatgrad.grad`; by default every argument that can have a gradient.
    gradient : callable, optional
        A gradient to check instead of flatgrad's; called like `f`, it returns the gradient alone.
    rtol, atol : float, optional
        Passed if ``|a - n| <= max(atol, rtol * max(|a|, |n|, floor))``, where floor is 1 % of the
        array's largest element. Defaults: 1e-6 for float64, 1e-3 for float32, 1e-2 where `f`
        itself computes in float32; and the rounding noise of ``f / max(steps)``.
    steps : sequence of float
        Relative to ``max(|x|, 1)``, and to ``|x|`` where those do not agree.
    directions, elements : int
        How many random directions, and elements per argument (a random sample of larger ones);
        True: all elements.
    seed : int
        Of the random directions and samples.
    backend : str, optional
        Of the derived gradient.

    Raises
    ------
    GradientCheckError
        Names the worst element. Also for a wrong type, dtype or shape, a modified argument, NaN
        and infinity, and an `f` that is not deterministic.
    """
    f = getattr(f, "primal", f)
    probe = _Probe(f, args, kwargs or {})
    leaves = spread(dict(probe.bound.arguments)).values.values()
    floats = [x for x in leaves if _is_floating(x)]
    argument_eps = max(map(_eps, floats), default=0.0)
    if rtol is None:
        rtol = max(1e-6, 3 * math.sqrt(argument_eps), 30 * math.sqrt(probe.eps))
    if atol is None:
        atol = abs(probe.center) * (100 * probe.eps / max(steps) + 64 * argument_eps)
    checked = _leaves(probe, _analytic(f, argnums, gradient, backend), argnums, rtol)
    judge = Judge(max(rtol, 1e-16), atol, probe.eps, probe.center)
    limit = sys.maxsize if elements is True else int(elements)
    return _compare_all(probe, judge, checked, steps, directions, limit, seed)


def _compare_all(
    probe: _Probe,
    judge: Judge,
    leaves: list[_Leaf],
    steps: Sequence[float],
    directions: int,
    limit: int,
    seed: int,
) -> GradientReport:
    rng = np.random.default_rng(seed)
    everything: list[Comparison] = []
    table = []
    for leaf in leaves:
        size = leaf.point.size
        chosen = range(size) if size <= limit else np.sort(rng.choice(size, limit, replace=False))
        found = [_check_element(probe, judge, leaf, int(flat), steps) for flat in chosen]
        everything += found
        table.append((leaf.name, len(found), size, _worst(found)))
    count = len(everything)
    if all(c.passed for c in everything):
        for _ in range(directions):
            everything.append(_check_direction(probe, judge, leaves, rng, steps))
    wrong = [c for c in everything if not c.passed]
    if wrong:
        in_elements = f"{len(wrong)} of {count} elements"
        in_directions = f"{len(wrong)} of {directions} random directions"
        kind = in_elements if len(everything) == count else in_directions
        raise GradientCheckError(
            f"wrong gradient: {kind} failed (rtol={judge.rtol:.1e}, atol={judge.atol:.1e})\n"
            f"{_worst(wrong)}"
        )
    return GradientReport(_worst(everything), count, directions, tuple(table))


def _worst(results: list[Comparison]) -> Comparison | None:
    return max(results, key=lambda c: c.relative_error, default=None)
