"""ADBench BA: all numbers of the sparse Jacobian, in the order of its rows."""

from __future__ import annotations

import math

import numpy as np

from benchmarks.by_hand.flags import inlined, strict


@inlined
def _row(out, seed, camera, a, n, turned, angle, p, scale, weight, error):
    """The 15 numbers of a residual: w times the gradient of coordinate `seed` of the projection."""
    theta, cosine, sine = angle
    u, v, depth = p
    f, k1, k2 = camera[6], camera[9], camera[10]
    q = u * u + v * v
    here = u if seed == 0 else v
    radial = weight * f * here * (k1 + 2.0 * k2 * q) * 2.0
    du = radial * u + (weight * scale if seed == 0 else 0.0)
    dv = radial * v + (weight * scale if seed == 1 else 0.0)
    g0, g1 = du / depth, dv / depth
    g2 = -(u * g0 + v * g1)
    n0, n1, n2 = n
    a0, a1, a2 = a
    c0, c1, c2 = a1 * g2 - a2 * g1, a2 * g0 - a0 * g2, a0 * g1 - a1 * g0  # a x g
    if theta != 0:
        along, gn = n0 * a0 + n1 * a1 + n2 * a2, n0 * g0 + n1 * g1 + n2 * g2
        rest = 1.0 - cosine
        r0, r1, r2 = (
            sine * c0 + rest * (along * g0 + gn * a0),
            sine * c1 + rest * (along * g1 + gn * a1),
            sine * c2 + rest * (along * g2 + gn * a2),
        )
        by_theta = (
            sine * (along * gn - (a0 * g0 + a1 * g1 + a2 * g2))
            + cosine * (n0 * c0 + n1 * c1 + n2 * c2)
        )
        slope = by_theta - (n0 * r0 + n1 * r1 + n2 * r2) / theta
        out[0] = r0 / theta + n0 * slope
        out[1] = r1 / theta + n1 * slope
        out[2] = r2 / theta + n2 * slope
        b0, b1, b2 = (
            cosine * g0 + sine * (g1 * n2 - g2 * n1) + n0 * gn * rest,
            cosine * g1 + sine * (g2 * n0 - g0 * n2) + n1 * gn * rest,
            cosine * g2 + sine * (g0 * n1 - g1 * n0) + n2 * gn * rest,
        )
    else:
        out[0], out[1], out[2] = c0, c1, c2
        b0, b1, b2 = g0, g1, g2
    out[3], out[4], out[5] = -b0, -b1, -b2
    out[6] = weight * here * scale / f
    out[7] = weight if seed == 0 else 0.0
    out[8] = weight if seed == 1 else 0.0
    out[9] = weight * f * here * q
    out[10] = weight * f * here * q * q
    out[11], out[12], out[13] = b0, b1, b2
    out[14] = error


@strict
def jacobian_values(cameras, points, weights, features, camera_of, point_of):
    """Per observation one forward sweep, and two reverse sweeps from constant seeds."""
    count = weights.size
    values = np.empty(31 * count)
    for i in range(count):
        camera, point, weight = cameras[camera_of[i]], points[point_of[i]], weights[i]
        a0, a1, a2 = point[0] - camera[3], point[1] - camera[4], point[2] - camera[5]
        r0, r1, r2 = camera[0], camera[1], camera[2]
        theta = math.sqrt(r0 * r0 + r1 * r1 + r2 * r2)
        if theta != 0:
            n0, n1, n2 = r0 / theta, r1 / theta, r2 / theta
            cosine, sine = math.cos(theta), math.sin(theta)
            along = (n0 * a0 + n1 * a1 + n2 * a2) * (1.0 - cosine)
        else:
            n0, n1, n2, cosine, sine, along = r0, r1, r2, 1.0, 1.0, 0.0
        t0, t1, t2 = n1 * a2 - n2 * a1, n2 * a0 - n0 * a2, n0 * a1 - n1 * a0
        p0 = a0 * cosine + t0 * sine + n0 * along
        p1 = a1 * cosine + t1 * sine + n1 * along
        p2 = a2 * cosine + t2 * sine + n2 * along
        u, v = p0 / p2, p1 / p2
        q = u * u + v * v
        scale = camera[6] * (1.0 + camera[9] * q + camera[10] * q * q)
        angle, n, a, turned, p = (
            (theta, cosine, sine), (n0, n1, n2), (a0, a1, a2), (t0, t1, t2), (u, v, p2)
        )  # fmt: skip
        _row(values[30 * i : 30 * i + 15], 0, camera, a, n, turned, angle, p, scale, weight,
             scale * u + camera[7] - features[i, 0])  # fmt: skip
        _row(values[30 * i + 15 : 30 * i + 30], 1, camera, a, n, turned, angle, p, scale, weight,
             scale * v + camera[8] - features[i, 1])  # fmt: skip
        values[30 * count + i] = -2.0 * weight
    return values
