"""Results to compare with, and errors in units in the last place.

A result is a float64, the head, and a tail: what is missing, in units in the last place of the
head (as a number it would often be too small for a float64).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from mpmath import mp, mpf

PRECISION = 140


def _clamped(f: Callable, bound: int) -> Callable:
    return lambda x: f(max(min(x, mpf(bound)), mpf(-bound)))


EXACT: dict[str, Callable] = {
    "exp": _clamped(mp.exp, 2000),
    "exp2": _clamped(lambda x: mpf(2) ** x, 2000),
    "expm1": _clamped(mp.expm1, 2000),
    "log": mp.log,
    "log2": lambda x: mp.log(x) / mp.log(2),
    "log10": lambda x: mp.log(x) / mp.log(10),
    "log1p": mp.log1p,
    "sinh": _clamped(lambda x: (mp.expm1(x) - mp.expm1(-x)) / 2, 2000),
    "cosh": _clamped(mp.cosh, 2000),
    "tanh": _clamped(lambda x: mp.expm1(2 * x) / (mp.expm1(2 * x) + 2), 200),
    "sigmoid": _clamped(lambda x: 1 / (1 + mp.exp(-x)), 2000),
    "softplus": lambda x: mp.log1p(mp.exp(max(x, mpf(-2000)))) if x < 300 else x,
    "sin": mp.sin,
    "cos": mp.cos,
    "tan": mp.tan,
    "arctan": mp.atan,
    "erf": _clamped(mp.erf, 40),
    "erfc": _clamped(mp.erfc, 40),
    "gammaln": mp.loggamma,
    "psi": mp.digamma,
    "cbrt": lambda x: mp.sign(x) * mp.cbrt(abs(x)),
}


def unit(y: np.ndarray) -> np.ndarray:
    """One unit in the last place, as float64; of the largest float, which `np.spacing` lacks."""
    top = np.array(2.0 ** (np.finfo(y.dtype).maxexp - 1), y.dtype)
    return np.spacing(np.minimum(np.abs(y), top)).astype(float)


def exact(name: str, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Head and tail of a function of one number at finite arguments, by mpmath."""
    f = EXACT[name]
    results = np.empty((2, x.size))
    with mp.workprec(PRECISION):
        for i, number in enumerate(x):
            value = mpf(f(mpf(float(number))))
            head = float(value)
            tail = (
                (value - mpf(head)) / mpf(float(unit(np.float64(head)))) if np.isfinite(head) else 0
            )
            results[:, i] = head, float(tail)
    return results[0], results[1]


def ulps(got: np.ndarray, head: np.ndarray, tail: np.ndarray) -> np.ndarray:
    """Distance from the exact result in units in the last place of its dtype.

    Where the exact result rounds to inf, `got` must be that.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        rounded = head.astype(got.dtype)
        own = unit(rounded)
        error = np.abs((got.astype(float) - head) / own - tail * (unit(head) / own))
        same = got == rounded
    return np.where(np.isfinite(rounded), error, np.where(same, 0.0, np.inf))


def by_long_double(f: Callable, *args: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Head and tail by NumPy's function in long double, which must have 64 bits or more."""
    with np.errstate(all="ignore"):
        wide = f(*(a.astype(np.longdouble) for a in args))
        head = wide.astype(float)
        tail = ((wide - head) / unit(head)).astype(float)
    return head, np.where(np.isfinite(head), tail, 0.0)


def reflected(name: str, x: float) -> tuple[mpf, mpf]:
    """The terms whose sum gammaln or psi is, left of 0 and not at an int."""
    a = -mpf(x)
    if name == "gammaln":
        return -mp.log(abs(mp.sinpi(a)) / mp.pi), -mp.loggamma(1 + a)
    return mp.digamma(1 + a), mp.pi * mp.cospi(a) / mp.sinpi(a)


def left_errors(name: str, x: np.ndarray, got: np.ndarray) -> np.ndarray:
    """Errors left of 0, in units of 2**-52, or of 1 and the terms that meet if these are larger."""
    errors = np.empty(x.size)
    with mp.workprec(PRECISION):
        for i, number in enumerate(x):
            terms = reflected(name, float(number))
            size = max(1, *map(abs, terms)) * mpf(2) ** -52
            errors[i] = abs(mpf(float(got[i])) - sum(terms)) / size
    return errors


def domain(name: str, x: np.ndarray) -> np.ndarray:
    """Where the function has a finite or overflowing value that is not a special case."""
    inside = np.isfinite(x) & (x != 0)
    if name in ("log", "log2", "log10", "gammaln", "psi"):  # these two have terms left of 0
        return inside & (x > 0)
    return inside & (x > -1) if name == "log1p" else inside
