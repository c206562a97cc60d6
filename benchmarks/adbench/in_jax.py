"""The objectives in the forms that suit JAX best, in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_enable_x64", True)


def ready(function: Callable[..., Any], *args: Any) -> Callable[[], Any]:
    """A call of the compiled function on arguments that are on the device already."""
    compiled = jax.jit(function)
    placed = jax.tree.map(jnp.asarray, args)
    return lambda: jax.block_until_ready(compiled(*placed))


def mixture(alphas, means, icf, x, gamma, m, const, rows, columns):
    """With the product of all factors and points as one matrix product."""
    (n, d), k = x.shape, alphas.size
    diagonal = jnp.exp(icf[:, :d])
    factors = jnp.zeros((k, d, d)).at[:, rows, columns].set(icf[:, d:])
    factors = factors.at[:, jnp.arange(d), jnp.arange(d)].set(diagonal)
    y = x @ factors.reshape(k * d, d).T - jnp.einsum("kab,kb->ka", factors, means).reshape(-1)
    square = jnp.sum(y.reshape(n, k, d) ** 2, axis=2)
    main = alphas + jnp.sum(icf[:, :d], axis=1) - 0.5 * square
    total = jnp.sum(jax.nn.logsumexp(main, axis=1)) - n * jax.nn.logsumexp(alphas)
    prior = 0.5 * gamma**2 * (jnp.sum(diagonal**2) + jnp.sum(icf[:, d:] ** 2))
    return const + total + prior - m * jnp.sum(icf[:, :d])


def lstm(main_params, extra_params, state, sequence):
    """A scan over the steps; the layers are few and unrolled."""
    layers, b = state.shape[0] // 2, state.shape[1]

    def step(carried, rows):
        row, following = rows
        x = row * extra_params[0]
        new = []
        for q in range(layers):
            weight, bias = main_params[2 * q], main_params[2 * q + 1]
            h, c = carried[2 * q], carried[2 * q + 1]
            forget = jax.nn.sigmoid(x * weight[:b] + bias[:b])
            ingate = jax.nn.sigmoid(h * weight[b : 2 * b] + bias[b : 2 * b])
            outgate = jax.nn.sigmoid(x * weight[2 * b : 3 * b] + bias[2 * b : 3 * b])
            c = c * forget + ingate * jnp.tanh(h * weight[3 * b :] + bias[3 * b :])
            x = outgate * jnp.tanh(c)
            new += [x, c]
        y = x * extra_params[1] + extra_params[2]
        norm = jnp.log(2.0 + jnp.sum(jnp.exp(y)))
        return tuple(new), jnp.sum(following * (y - norm))

    start = tuple(state[k] for k in range(2 * layers))
    _, parts = jax.lax.scan(step, start, (sequence[:-1], sequence[1:]))
    return -jnp.sum(parts) / ((sequence.shape[0] - 1) * b)


def ba_residual(camera, point, weight, feature):
    """The two errors of one observation in the picture."""
    r, a = camera[:3], point - camera[3:6]
    theta = jnp.sqrt(jnp.sum(r * r))
    n = r / theta
    cosine, sine = jnp.cos(theta), jnp.sin(theta)
    p = a * cosine + jnp.cross(n, a) * sine + n * jnp.dot(n, a) * (1 - cosine)
    p = p[:2] / p[2]
    q = jnp.sum(p * p)
    scale = camera[6] * (1 + camera[9] * q + camera[10] * q * q)
    return weight * (scale * p + camera[7:9] - feature)


def ba_jacobian(cameras, points, weights, features, camera_of, point_of):
    """The values of the sparse Jacobian, row by row."""

    def blocks(camera, point, weight, feature):
        by = jax.jacrev(ba_residual, argnums=(0, 1, 2))(camera, point, weight, feature)
        return jnp.concatenate((by[0], by[1], by[2][:, None]), axis=1)

    found = jax.vmap(blocks)(cameras[camera_of], points[point_of], weights, features)
    return jnp.concatenate((found.reshape(-1), -2 * weights))


def _rotation(angle_x, angle_z):
    cx, sx, cz, sz = jnp.cos(angle_x), jnp.sin(angle_x), jnp.cos(angle_z), jnp.sin(angle_z)
    nothing, one = jnp.zeros_like(cx), jnp.ones_like(cx)
    entries = [
        cz, -sz * cx, sz * sx, nothing, sz, cz * cx, -cz * sx, nothing,
        nothing, sx, cx, nothing, nothing, nothing, nothing, one,
    ]  # fmt: skip
    return jnp.stack(entries, axis=-1).reshape(*cx.shape, 4, 4)


def hand(parents: np.ndarray) -> Callable[..., Any]:
    """All rotations at once, the chain of bones unrolled, one product for all vertices."""
    fingers = np.arange(5)

    def mesh(theta, relatives, inverses, base, weights):
        angle_x, angle_z = jnp.zeros(len(parents)), jnp.zeros(len(parents))
        angle_x = angle_x.at[2 + 4 * fingers].set(theta[6 + 4 * fingers])
        angle_z = angle_z.at[2 + 4 * fingers].set(theta[7 + 4 * fingers])
        angle_x = angle_x.at[3 + 4 * fingers].set(theta[8 + 4 * fingers])
        angle_x = angle_x.at[4 + 4 * fingers].set(theta[9 + 4 * fingers])
        placed = relatives @ _rotation(angle_x, angle_z)
        absolutes: list[Any] = []
        for b, parent in enumerate(parents):
            absolutes.append(absolutes[parent] @ placed[b] if parent >= 0 else placed[b])
        moves = (jnp.stack(absolutes) @ inverses)[:, :3]
        places = jnp.einsum("vb,bij,vj->vi", weights, moves, base)
        r = theta[:3]
        length = jnp.sqrt(jnp.sum(r * r))
        n = r / length
        across = jnp.array([[0, -n[2], n[1]], [n[2], 0, -n[0]], [-n[1], n[0], 0]])
        along = jnp.outer(n, n)
        R = along + (jnp.eye(3) - along) * jnp.cos(length) + across * jnp.sin(length)
        return places @ R.T + theta[3:6]

    def errors(theta, relatives, inverses, base, weights, meets, targets):
        return targets - mesh(theta, relatives, inverses, base, weights)[meets]

    def errors_in_triangles(theta, shift, relatives, inverses, base, weights, corners, at, targets):
        u, v = (at + shift)[:, :1], (at + shift)[:, 1:]
        met = mesh(theta, relatives, inverses, base, weights)[corners]
        return targets - (u * met[:, 0] + v * met[:, 1] + (1 - u - v) * met[:, 2])

    return errors, errors_in_triangles
