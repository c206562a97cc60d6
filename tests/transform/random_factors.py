"""Random functions of a Cholesky factor: log-determinants, quadratic forms, and other sums.

    python -m tests.transform.random_factors 0 200           # the programs of these seeds
    python -m tests.transform.random_factors 0 20 compiled

The text for Numba must compute what the NumPy backend does, whose rule has all three products.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

import numpy as np

from flatgrad import value_and_grad
from tests.emitted import assert_same, plain_function
from tests.fuzz_programs import load
from tests.transform.tally import tally

VECTORS = ("y", "0.5 * y", "c * y", "z", "z", "alpha", "-z", "y * d", "c * z")
LINES = (
    "z = np.linalg.solve(L, {v})", "alpha = np.linalg.solve(L.T, {v})",
    "z = solve_triangular(L, {v}, lower=True)", "alpha = cho_solve((L, True), {v})",
)  # fmt: skip
TERMS = (
    "{v} @ {v}", "{v} @ {v}", "np.sum({v} ** 2)", "np.sum({v} * {v})", "np.sum(np.log(np.diag(L)))",
    "np.sum(np.log(np.diagonal(L)))", "np.sum(np.log(np.diag(L)) * d)", "L[0, 0]", "L[-1, 0]",
    "np.log(np.prod(np.diag(L)))", "np.sum(np.sin({v}))", "np.sum(L * L)", "np.trace(L)",
    "np.sum(np.diag(L, -1))", "np.sum(np.log(L[ar, ar]))", "np.sum(L[br, br] ** 2)", "{v} @ L @ {v}",
    "np.sum(np.tril(L))", "np.sum(np.linalg.inv(L))",
)  # fmt: skip
COMMON = 5
"""So many of the terms come first in half of the programs."""
FACTORS = ("", "", "-", "0.5 * ", "-0.5 * ", "c * ", "-c * ", "2 * c * ", "c * c * ")


def program(seed: int) -> str:
    """The text of a function f(S, y, d, c)."""
    choice = random.Random(seed)
    few = choice.random() < 0.5

    def filled(text: str) -> str:
        while "{v}" in text:
            text = text.replace("{v}", f"({choice.choice(VECTORS)})", 1)
        return text

    def term() -> str:
        return choice.choice(FACTORS) + filled(choice.choice(TERMS[: COMMON if few else None]))

    lines = ["n = len(y)", "ar = np.arange(n)", "br = np.arange(max(n - 1, 1))"]
    lines += ["L = np.linalg.cholesky(S)", "z = y * 1.0", "alpha = z * d"]
    lines += [filled(choice.choice(LINES)) for _ in range(choice.randint(1, 3))]
    if choice.random() < 0.2:
        lines.append("K = np.linalg.cholesky(S + 0.1 * np.outer(z, z))")
        lines.append("w = np.linalg.solve(K, alpha)")
        terms = ["0.5 * w @ w", "np.sum(np.log(np.diag(K)))"]
    else:
        terms = []
    terms += [term() for _ in range(choice.randint(1, 4))]
    lines.append(f"return {' + '.join(terms)}")
    text = "\n".join([f"    {line}" for line in lines])
    imports = "import numpy as np\nfrom scipy.linalg import cho_solve, solve_triangular\n"
    return f"{imports}\n\ndef f(S, y, d, c):\n{text}\n"


def outcome(seed: int, folder: Path, compiled: bool = False) -> str:
    """What happened to the program: by how many products, "ok", or what is wrong."""
    text = program(seed)
    function = load(text, folder / f"factors_{seed}.py")
    rng = np.random.default_rng(seed)
    derived = value_and_grad(function, (0, 1, 2, 3), backend="numba")
    source = ""
    for n in (6,) if compiled else (2, 5, 9):
        A = rng.normal(size=(n, n))
        args = A @ A.T / n + np.eye(n), rng.normal(size=n), rng.normal(size=n) + 2.0, 0.7
        expected = value_and_grad(function, (0, 1, 2, 3))(*args)
        source = derived.source(*args)
        found: Any = derived if compiled else plain_function(derived)
        try:
            assert_same(found(*args), expected, rtol=1e-8, atol=1e-9)
        except Exception as error:
            return f"seed {seed}, {n}: {error!r:.300}\n{text}\n{source}"
    if "half_lower" not in source:
        return "no factor"
    if "fold_lower" not in source:
        return "symmetric"
    return "general" if "half_lower_2d(L.T @" in source else "partly"


if __name__ == "__main__":
    compiled = sys.argv[3:] == ["compiled"]
    known = ("symmetric", "partly", "general", "no factor")
    tally(lambda seed, folder: outcome(seed, folder, compiled), known)
