"""A fit with scipy.optimize: exact gradients against SciPy's own finite differences.

The data are measurements of the mobility of electrons in silicon over the logarithm of their
density, the problem "Thurber" of the NIST Statistical Reference Datasets (nonlinear regression,
"higher" level of difficulty). NIST publishes with it the parameters certified to 11 digits, so what
a fit is worth can be counted in digits:

    python examples/fit_scipy.py
"""

import numpy as np
from scipy.optimize import minimize

from flatgrad import value_and_grad

# fmt: off
DENSITY = np.array([
    -3.067, -2.981, -2.921, -2.912, -2.840, -2.797, -2.702, -2.699, -2.633, -2.481, -2.363, -2.322,
    -1.501, -1.460, -1.274, -1.212, -1.100, -1.046, -0.915, -0.714, -0.566, -0.545, -0.400, -0.309,
    -0.109, -0.103, 0.010, 0.119, 0.377, 0.790, 0.963, 1.006, 1.115, 1.572, 1.841, 2.047, 2.200,
])
MOBILITY = np.array([
    80.574, 84.248, 87.264, 87.195, 89.076, 89.608, 89.868, 90.101, 92.405, 95.854, 100.696,
    101.060, 401.672, 390.724, 567.534, 635.316, 733.054, 759.087, 894.206, 990.785, 1090.109,
    1080.914, 1122.643, 1178.351, 1260.531, 1273.514, 1288.339, 1327.543, 1353.863, 1414.509,
    1425.208, 1421.384, 1442.962, 1464.350, 1468.705, 1447.894, 1457.628,
])
START = np.array([1000, 1000, 400, 40, 0.7, 0.3, 0.03])
CERTIFIED = np.array([
    1.2881396800e3, 1.4910792535e3, 5.8323836877e2, 7.5416644291e1,
    9.6629502864e-1, 3.9797285797e-1, 4.9727297349e-2,
])
# fmt: on
SCALE = np.array([1e3, 1e3, 1e3, 1e3, 1, 1, 1])  # all parameters of order 1


def loss(b, x, y):
    """Mean square residual of a rational function."""
    above = b[0] + b[1] * x + b[2] * x**2 + b[3] * x**3
    below = 1 + b[4] * x + b[5] * x**2 + b[6] * x**3
    r = y - above / below
    L = np.mean(r * r)
    return L


def digits(b):
    """Decimal digits to which the worst parameter agrees with NIST's."""
    return -np.log10(np.max(np.abs(b * SCALE / CERTIFIED - 1)))


def main():
    data = (DENSITY, MOBILITY / 1e3)
    loss_and_grad = value_and_grad(loss, argnums="b")
    options = {"gtol": 1e-10}
    exact = minimize(loss_and_grad, START / SCALE, data, "BFGS", jac=True, options=options)
    approximate = minimize(loss, START / SCALE, data, "BFGS", options=options)

    print(loss_and_grad.source())
    print("gradient               calls of the loss   digits of the parameters")
    print(f"flatgrad               {exact.nfev:17d}   {digits(exact.x):24.1f}")
    print(f"finite differences     {approximate.nfev:17d}   {digits(approximate.x):24.1f}")
    return exact.x * SCALE


if __name__ == "__main__":
    main()
