"""What was the temperature at the beginning? The heat equation, run backwards by its gradient.

A rod was heated somewhere, then left alone; eleven thermometers wrote down what they saw while the
heat spread. The simulation is the explicit finite-difference scheme as everybody writes it, with
two arrays written in place and swapped. Its gradient by the initial temperature lets L-BFGS find
the beginning that explains the readings.

    python examples/heat.py --plot rod.png
"""

import argparse

import numpy as np
from scipy.optimize import minimize

from flatgrad import value_and_grad

POINTS, STEPS, EVERY = 101, 600, 20
SENSORS = np.arange(0, POINTS, 10)
ALPHA = 0.4  # diffusivity times time step over the square of the spacing; stable up to 1/2
NOISE = 0.01


def readings(start, steps):
    """What the thermometers show, a row for every 20 steps."""
    u = start.copy()
    new = start.copy()
    shown = np.empty((steps // EVERY, SENSORS.size))
    for t in range(steps):
        if t % EVERY == 0:
            shown[t // EVERY] = u[SENSORS]
        for i in range(1, u.size - 1):
            new[i] = u[i] + ALPHA * (u[i - 1] - 2 * u[i] + u[i + 1])
        new[0] = new[1]  # no heat leaves at the ends
        new[-1] = new[-2]
        u, new = new, u
    return shown


def loss(start, shown, smoothness):
    """Misfit of the readings, and a penalty on roughness: far details have left no trace."""
    misfit = readings(start, STEPS) - shown
    slope = start[1:] - start[:-1]
    L = np.mean(misfit * misfit) + smoothness * np.mean(slope * slope)
    return L


def truth():
    """Two warm places, one of them with sharp edges."""
    x = np.linspace(0, 1, POINTS)
    return np.exp(-((x - 0.3) ** 2) / 0.005) + 0.7 * ((x > 0.6) & (x < 0.75))


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", choices=("numpy", "numba"), default="numba")
    parser.add_argument("--iterations", type=int, default=200)
    parser.add_argument("--plot", metavar="PNG", help="draw the truth and what was found")
    parser.add_argument("--show", action="store_true", help="print the generated code")
    options = parser.parse_args(arguments)

    beginning = truth()
    shown = readings(beginning, STEPS)
    shown += NOISE * np.random.default_rng(0).normal(size=shown.shape)
    step = value_and_grad(loss, argnums="start", backend=options.backend)
    fit = minimize(
        step, np.zeros(POINTS), (shown, 0.005), "L-BFGS-B", jac=True,
        options={"maxiter": options.iterations, "maxfun": 10 * options.iterations},
    )  # fmt: skip
    if options.show:
        print(step.source())
    error = np.sqrt(np.mean((fit.x - beginning) ** 2))
    level = np.sqrt(np.mean(beginning**2))
    print(f"loss {fit.fun:.2e} after {fit.nit} iterations, {fit.nfev} gradients")
    print(f"the beginning is found within {error:.3f}; its own size is {level:.3f} (both rms)")
    if options.plot:
        draw(beginning, fit.x, options.plot)
    return error / level


def draw(beginning, found, path):
    """The truth, what was found, and where the thermometers are."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4))
    axes = figure.subplots()
    axes.plot(beginning, label="truth")
    axes.plot(found, label="found")
    axes.plot(SENSORS, np.zeros(SENSORS.size), "k^", label="thermometers")
    axes.set_xlabel("position")
    axes.set_ylabel("temperature at the beginning")
    axes.legend()
    figure.savefig(path, dpi=120, bbox_inches="tight")


if __name__ == "__main__":
    main()
