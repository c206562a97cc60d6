"""Slopes from central differences, extrapolated, and the verdict on an analytic value.

    judge.compare("x[3]", analytic, floor, slope, steps)      # a Comparison: passed, or the error

Differences at several steps h are extrapolated to h = 0 by Neville's scheme in h**2 with Ridders'
error estimate (C. Ridders, Adv. Eng. Software 4(2), 1982; `dfridr` in Numerical Recipes, 5.7).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

Slope = Callable[[float], float]
"""t -> f(x + t v), NaN where f is undefined."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One analytic slope beside the numeric one."""

    place: str
    analytic: float
    numeric: float
    relative_error: float  # of max(|analytic|, |numeric|, floor); small elements share a floor
    step: float
    passed: bool
    hint: str = ""

    def __str__(self) -> str:
        error = abs(self.analytic - self.numeric)
        relative = error / max(abs(self.analytic), abs(self.numeric), 1e-300)
        return (
            f"  worst: {self.place}\n"
            f"    analytic        {self.analytic:.10g}\n"
            f"    numeric         {self.numeric:.10g}\n"
            f"    relative error  {relative:.3g}\n"
            f"    step            {self.step:.1e}" + (f"\nhelp: {self.hint}" if self.hint else "")
        )


class Estimate(NamedTuple):
    """A slope, how far off it may be, and the step it comes from."""

    value: float
    error: float
    step: float


def ridders(
    slope: Slope, steps: Sequence[float], eps: float, samples: list[tuple[float, float, float]]
) -> Iterator[tuple[Estimate, Estimate]]:
    """For each usable step: its own quotient with its rounding noise, and the best value so far."""
    best = Estimate(math.nan, math.inf, steps[0])
    previous: list[float] = []  # last row of the tableau
    wider: list[float] = []  # the steps before, nearest first
    moved = False
    for h in steps:
        up, down = slope(h), slope(-h)
        if not (math.isfinite(up) and math.isfinite(down)):
            continue
        samples.append((h, up, down))
        if up == down and moved:
            continue  # below the resolution of f
        moved = up != down
        noise = eps * max(abs(up), abs(down)) / h
        row = [(up - down) / (2 * h)]
        if not previous:
            best = Estimate(row[0], math.inf, h)
        for entry, step in zip(previous, wider, strict=True):
            better = row[-1] + (row[-1] - entry) / ((step / h) ** 2 - 1)
            error = max(abs(better - row[-1]), abs(better - entry), noise)
            if error <= best.error:
                best = Estimate(better, error, h)
            row.append(better)
        previous, wider = row, [h, *wider]
        yield Estimate(row[0], noise, h), best


@dataclass(frozen=True, slots=True)
class Judge:
    """Compares analytic with numeric slopes, within tolerances."""

    rtol: float
    atol: float
    eps: float  # of the values that are differenced
    center: float  # f at the point

    def scale(self, analytic: float, numeric: float, floor: float) -> float:
        return max(abs(analytic), abs(numeric), floor, self.atol / self.rtol, 1e-300)

    def compare(
        self, place: str, analytic: float, floor: float, slope: Slope, steps: Sequence[float]
    ) -> Comparison:
        """Judge the best numeric slope, or a single step's quotient if only that agrees."""
        samples: list[tuple[float, float, float]] = []
        best = Estimate(math.nan, math.inf, steps[0])
        agreed = None
        for raw, best in ridders(slope, steps, self.eps, samples):
            scale = self.scale(analytic, best.value, floor)
            if max(abs(analytic - best.value), 100 * best.error) <= self.rtol * scale:
                break
            scale = self.scale(analytic, raw.value, floor)
            if max(abs(analytic - raw.value), raw.error) <= self.rtol * scale:
                agreed = raw
        for numeric in (best, agreed or best):
            error = abs(analytic - numeric.value) / self.scale(analytic, numeric.value, floor)
            if error <= self.rtol:
                return Comparison(place, analytic, numeric.value, error, numeric.step, True)
        hint = self.hint(analytic, numeric, samples)
        error = error if math.isfinite(error) else math.inf
        return Comparison(place, analytic, numeric.value, error, numeric.step, False, hint)

    def hint(
        self, analytic: float, numeric: Estimate, samples: list[tuple[float, float, float]]
    ) -> str:
        """Why they differ, if it shows. |left - right| is |f''| * h unless there is a kink."""
        if not math.isfinite(analytic):
            return f"the analytic gradient is {analytic} here"
        if not math.isfinite(numeric.value):
            return "f is NaN, infinite or undefined next to this point"
        gaps = [(h, abs(up - 2 * self.center + down) / h, up) for h, up, down in samples]
        clear = [(h, gap) for h, gap, up in gaps if gap * h > 16 * self.eps * abs(up)]
        if len(clear) > 1:
            (wide, before), (narrow, gap) = clear[-2:]
            if gap > before * math.sqrt(narrow / wide) and gap > self.rtol * abs(analytic):
                return f"the function is not differentiable here: |left - right| = {gap:.6g}"
        if numeric.error > abs(analytic - numeric.value):
            return f"the numeric value is only good to {numeric.error:.1e}; try other steps"
        return ""
