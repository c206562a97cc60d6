"""The Gaussian log-likelihood of a vector, by a Cholesky factor of the covariance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.by_hand import normal as by_hand
from benchmarks.workload import Workload


def log_likelihood(mean, covariance, x):
    """With the factor as NumPy gives it."""
    L = np.linalg.cholesky(covariance)
    z = np.linalg.solve(L, x - mean)
    return -0.5 * (z @ z) - np.sum(np.log(np.diag(L))) - 0.5 * len(x) * np.log(2 * np.pi)


def log_likelihood_loops(mean, covariance, x):
    """With the triangular system solved row by row."""
    L = np.linalg.cholesky(covariance)
    n = len(x)
    z = np.zeros(n)
    value = -0.5 * n * np.log(2 * np.pi)
    for i in range(n):
        z[i] = (x[i] - mean[i] - L[i, :i] @ z[:i]) / L[i, i]
        value -= np.log(L[i, i]) + 0.5 * z[i] * z[i]
    return value


def _in_jax() -> Callable[..., Any]:
    import jax
    import jax.numpy as jnp

    def log_likelihood(mean, covariance, x):
        L = jnp.linalg.cholesky(covariance)
        z = jax.scipy.linalg.solve_triangular(L, x - mean, lower=True)
        half = jnp.sum(jnp.log(jnp.diag(L))) + 0.5 * len(x) * jnp.log(2 * jnp.pi)
        return -0.5 * (z @ z) - half

    return log_likelihood


def _in_torch() -> Callable[..., Any]:
    import torch

    def log_likelihood(mean, covariance, x):
        L = torch.linalg.cholesky(covariance)
        z = torch.linalg.solve_triangular(L, (x - mean)[:, None], upper=False)[:, 0]
        half = torch.log(torch.diagonal(L)).sum() + 0.5 * len(x) * np.log(2 * np.pi)
        return -0.5 * (z @ z) - half

    return log_likelihood


def _in_autograd() -> Callable[..., Any]:
    import autograd.numpy as anp
    from autograd.scipy.linalg import solve_triangular

    def log_likelihood(mean, covariance, x):
        L = anp.linalg.cholesky(covariance)
        z = solve_triangular(L, x - mean, lower=True)
        half = anp.sum(anp.log(anp.diag(L))) + 0.5 * len(x) * anp.log(2 * anp.pi)
        return -0.5 * anp.dot(z, z) - half

    return log_likelihood


def folded(found: Any) -> Any:
    """The gradient by the lower triangle, which is all that a Cholesky factor depends on.

    Some libraries spread it over both triangles.
    """
    value, (grad_mean, grad_covariance) = found
    G = np.asarray(grad_covariance)
    return value, (grad_mean, np.tril(G) + np.tril(G.T, -1))


def arguments(d: int) -> tuple[Any, ...]:
    """A mean, a well-conditioned covariance, a vector."""
    rng = np.random.default_rng(0)
    A = rng.normal(size=(d, d))
    return rng.normal(size=d), A @ A.T / d + np.eye(d), rng.normal(size=d)


WORKLOADS = [
    Workload("Gaussian log-likelihood, d=50", "linear algebra", arguments, (50,), (4,),
             ("mean", "covariance"), {"arrays": log_likelihood, "loops": log_likelihood_loops},
             by_hand.log_likelihood,
             {"JAX": _in_jax, "PyTorch": _in_torch, "autograd": _in_autograd}, canonical=folded,
             rounds=100),
]  # fmt: skip
