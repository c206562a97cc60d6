"""ADBench HAND: the places of the vertices of a hand model, by the angles of its 22 bones."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

BONES, THETAS = 22, 26
PARENTS = np.array([-1, 0, 1, 2, 3, 0, 5, 6, 7, 0, 9, 10, 11, 0, 13, 14, 15, 0, 17, 18, 19, 0])


def arguments(points: int, vertices: int = 544, seed: int = 0) -> tuple[Any, ...]:
    """Angles, the model (bones, vertices, weights) and the points that are to be met."""
    rng = np.random.default_rng(seed)

    def placements() -> np.ndarray:
        found = np.tile(np.eye(4), (BONES, 1, 1))
        found[:, :3] = found[:, :3] + 0.1 * rng.normal(size=(BONES, 3, 4))
        return found

    base = np.concatenate((rng.normal(size=(vertices, 3)), np.ones((vertices, 1))), axis=1)
    weights = rng.dirichlet(np.full(BONES, 0.2), vertices)
    return (
        0.3 * rng.normal(size=THETAS), placements(), placements(), base, weights,
        rng.integers(0, vertices, points), rng.normal(size=(points, 3)),
    )  # fmt: skip


def bone_rotation(angle_x, angle_z):
    """Rz Rx in a placement of four rows."""
    cx, sx, cz, sz = math.cos(angle_x), math.sin(angle_x), math.cos(angle_z), math.sin(angle_z)
    R = np.zeros((4, 4))
    R[0, 0], R[0, 1], R[0, 2] = cz, -sz * cx, sz * sx
    R[1, 0], R[1, 1], R[1, 2] = sz, cz * cx, -cz * sx
    R[2, 1], R[2, 2], R[3, 3] = sx, cx, 1.0
    return R


def global_rotation(r):
    """The rotation about the axis `r` by its length."""
    theta = math.sqrt(r[0] * r[0] + r[1] * r[1] + r[2] * r[2])
    R = np.eye(3)
    if theta >= 1e-4:
        n0, n1, n2 = r[0] / theta, r[1] / theta, r[2] / theta
        c, s = math.cos(theta), math.sin(theta)
        R[0, 0], R[0, 1], R[0, 2] = (
            n0 * n0 + (1 - n0 * n0) * c, n0 * n1 * (1 - c) - n2 * s, n0 * n2 * (1 - c) + n1 * s,
        )  # fmt: skip
        R[1, 0], R[1, 1], R[1, 2] = (
            n0 * n1 * (1 - c) + n2 * s, n1 * n1 + (1 - n1 * n1) * c, n1 * n2 * (1 - c) - n0 * s,
        )  # fmt: skip
        R[2, 0], R[2, 1], R[2, 2] = (
            n0 * n2 * (1 - c) - n1 * s, n1 * n2 * (1 - c) + n0 * s, n2 * n2 + (1 - n2 * n2) * c,
        )  # fmt: skip
    return R


def errors(theta, relatives, inverses, base, weights, meets, targets):
    """The distances of the points from the vertices that they should meet, (points, 3)."""
    bones = relatives.shape[0]
    angle_x, angle_z = np.zeros(bones), np.zeros(bones)
    for k in range(5):
        angle_x[2 + 4 * k] = theta[6 + 4 * k]
        angle_z[2 + 4 * k] = theta[7 + 4 * k]
        angle_x[3 + 4 * k] = theta[8 + 4 * k]
        angle_x[4 + 4 * k] = theta[9 + 4 * k]
    absolutes = np.empty((bones, 4, 4))
    places = np.zeros((base.shape[0], 3))
    for b in range(bones):
        placed = relatives[b] @ bone_rotation(angle_x[b], angle_z[b])
        if PARENTS[b] >= 0:
            placed = absolutes[PARENTS[b]] @ placed
        absolutes[b] = placed
        moved = base @ (placed @ inverses[b])[:3].T
        places += weights[:, b, None] * moved
    R = global_rotation(theta[:3])
    places = places @ R.T + theta[3:6]
    return targets - places[meets]


def triangles(points: int, vertices: int = 544, seed: int = 0) -> tuple[Any, ...]:
    """As `arguments`, for points that lie in triangles: with places in them, and their corners."""
    theta, relatives, inverses, base, weights, _, targets = arguments(points, vertices, seed)
    rng = np.random.default_rng(seed + 1)
    return (
        theta, np.zeros(2), relatives, inverses, base, weights,
        rng.integers(0, vertices, (points, 3)), rng.uniform(0, 0.5, (points, 2)), targets,
    )  # fmt: skip


def errors_in_triangles(
    theta, shift, relatives, inverses, base, weights, corners, places, targets
):
    """The distances of the points from places in triangles of vertices, (points, 3).

    `shift` is added to all places: each error depends on its own place alone, so the derivatives by
    both numbers are the two columns that ADBench keeps of the derivatives by all places.
    """
    mesh = -errors(
        theta, relatives, inverses, base, weights, np.arange(base.shape[0]), 0.0
    )
    places = places + shift
    u, v = places[:, 0, None], places[:, 1, None]
    a, b, c = mesh[corners[:, 0]], mesh[corners[:, 1]], mesh[corners[:, 2]]
    return targets - (u * a + v * b + (1 - u - v) * c)
