"""ADBench BA: bundle adjustment, the errors of points seen by cameras.

A camera has 11 parameters: rotation (3), centre (3), focal length, principal point (2), radial
distortion (2). An observation is a camera, a point, a weight and the place of the feature.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def arguments(n: int, m: int, p: int, seed: int = 0) -> tuple[Any, ...]:
    """n cameras, m points, weights, p features, and which camera and point each belongs to."""
    rng = np.random.default_rng(seed)
    return (
        rng.normal(size=(n, 11)), rng.normal(size=(m, 3)), rng.normal(size=p),
        rng.normal(size=(p, 2)), rng.integers(0, n, p), rng.integers(0, m, p),
    )  # fmt: skip


def project(camera, point):
    """The place in the picture where a camera sees a point."""
    a0, a1, a2 = point[0] - camera[3], point[1] - camera[4], point[2] - camera[5]
    r0, r1, r2 = camera[0], camera[1], camera[2]
    square = r0 * r0 + r1 * r1 + r2 * r2
    if square != 0:
        theta = math.sqrt(square)
        n0, n1, n2 = r0 / theta, r1 / theta, r2 / theta
        cosine, sine = math.cos(theta), math.sin(theta)
        along = (n0 * a0 + n1 * a1 + n2 * a2) * (1 - cosine)
        p0 = a0 * cosine + (n1 * a2 - n2 * a1) * sine + n0 * along
        p1 = a1 * cosine + (n2 * a0 - n0 * a2) * sine + n1 * along
        p2 = a2 * cosine + (n0 * a1 - n1 * a0) * sine + n2 * along
    else:
        p0 = a0 + r1 * a2 - r2 * a1
        p1 = a1 + r2 * a0 - r0 * a2
        p2 = a2 + r0 * a1 - r1 * a0
    u, v = p0 / p2, p1 / p2
    q = u * u + v * v
    scale = camera[6] * (1 + camera[9] * q + camera[10] * q * q)
    return scale * u + camera[7], scale * v + camera[8]


def residual(camera, point, weight, feature):
    """The errors of one observation: two in the picture, and that of the weight."""
    u, v = project(camera, point)
    return np.array([weight * (u - feature[0]), weight * (v - feature[1])]), 1 - weight * weight


def loops(cameras, points, weights, features, camera_of, point_of):
    """All errors: two for each observation, then one for each weight."""
    p = weights.size
    errors = np.empty(3 * p)
    for i in range(p):
        u, v = project(cameras[camera_of[i]], points[point_of[i]])
        errors[2 * i] = weights[i] * (u - features[i, 0])
        errors[2 * i + 1] = weights[i] * (v - features[i, 1])
        errors[2 * p + i] = 1 - weights[i] * weights[i]
    return errors
