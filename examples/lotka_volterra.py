"""Hares and lynxes: the parameters of a differential equation, fitted to a famous record.

The Hudson's Bay Company counted the pelts that it bought; the counts of 1900 to 1920 (in thousands)
are the textbook case of a predator that follows its prey. The model is Lotka and Volterra's,

    hare' =  a hare - b hare lynx
    lynx' = -c lynx + d hare lynx

solved with the classical Runge-Kutta method in plain loops. SciPy's least squares gets the exact
Jacobian of all residuals by the six unknowns: the four rates, and both counts in 1900.

    python examples/lotka_volterra.py
"""

import argparse

import numpy as np
from scipy.optimize import least_squares

from flatgrad import jacobian

# fmt: off
HARE = np.array([
    30.0, 47.2, 70.2, 77.4, 36.3, 20.6, 18.1, 21.4, 22.0, 25.4, 27.1,
    40.3, 57.0, 76.6, 52.3, 19.5, 11.2, 7.6, 14.6, 16.2, 24.7,
])
LYNX = np.array([
    4.0, 6.1, 9.8, 35.2, 59.4, 41.7, 19.0, 13.0, 8.3, 9.1, 7.4,
    8.0, 12.3, 19.5, 45.7, 51.1, 29.7, 15.8, 9.7, 10.1, 8.6,
])
# fmt: on
STEPS = 20  # a year
START = np.array([0.6, 0.03, 0.9, 0.03, 30.0, 4.0])


def slopes(hare, lynx, p):
    """The rates of change of both populations."""
    return p[0] * hare - p[1] * hare * lynx, p[3] * hare * lynx - p[2] * lynx


def solve(p, years):
    """Both populations at the beginning of each year."""
    h = 1 / STEPS
    hare, lynx = p[4], p[5]
    found = np.empty((years, 2))
    for year in range(years):
        found[year, 0] = hare
        found[year, 1] = lynx
        for _ in range(STEPS):
            hare1, lynx1 = slopes(hare, lynx, p)
            hare2, lynx2 = slopes(hare + h / 2 * hare1, lynx + h / 2 * lynx1, p)
            hare3, lynx3 = slopes(hare + h / 2 * hare2, lynx + h / 2 * lynx2, p)
            hare4, lynx4 = slopes(hare + h * hare3, lynx + h * lynx3, p)
            hare = hare + h / 6 * (hare1 + 2 * hare2 + 2 * hare3 + hare4)
            lynx = lynx + h / 6 * (lynx1 + 2 * lynx2 + 2 * lynx3 + lynx4)
    return found


def residuals(p, hare, lynx):
    """Errors of the logarithms: the counts scatter in proportion to their size."""
    found = solve(p, hare.size)
    r = np.concatenate((np.log(found[:, 0] / hare), np.log(found[:, 1] / lynx)))
    return r


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", choices=("numpy", "numba"), default="numba")
    parser.add_argument("--show", action="store_true", help="print the generated code")
    options = parser.parse_args(arguments)

    exact = jacobian(residuals, argnums="p", backend=options.backend)
    data = (HARE, LYNX)
    fit = least_squares(residuals, START, exact, args=data, x_scale=START)
    if options.show:
        print(exact.source())

    scatter = np.sqrt(2 * fit.cost / (2 * HARE.size - START.size))
    deviations = scatter * np.sqrt(np.diag(np.linalg.inv(fit.jac.T @ fit.jac)))
    names = (
        "growth of hares", "caught", "death of lynxes", "fed", "hares in 1900", "lynxes in 1900",
    )  # fmt: skip
    for name, value, deviation in zip(names, fit.x, deviations, strict=True):
        print(f"{name:16s} {value:8.4f} ± {deviation:.4f}")
    period = 2 * np.pi / np.sqrt(fit.x[0] * fit.x[2])
    print(f"small cycles take {period:.1f} years; typical error of a count {scatter:.0%}")
    print(f"{fit.nfev} evaluations of the residuals, {fit.njev} of the Jacobian")
    return fit


if __name__ == "__main__":
    main()
