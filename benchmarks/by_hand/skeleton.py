"""ADBench HAND: the Jacobian of all errors by the angles, forwards.

An angle of a finger moves the bones behind it and no others: 45 pairs of an angle and a bone, not
26 x 22. Per pair, one loop over the vertices, whose coordinates are rows.
"""

from __future__ import annotations

import math

import numpy as np

from benchmarks.adbench.hand import PARENTS, global_rotation
from benchmarks.by_hand.flags import loop, strict

ANGLES = 26
_global_rotation = strict(global_rotation)


@strict
def _times(a, b, out):
    """The product of two placements, of which the last row is 0 0 0 1."""
    for i in range(3):
        for j in range(4):
            s = a[i, 0] * b[0, j] + a[i, 1] * b[1, j] + a[i, 2] * b[2, j]
            out[i, j] = s + (a[i, 3] if j == 3 else 0.0)


@strict
def _times_tangent(a, b, out):
    """The same for a tangent `a`, of which the last row is 0."""
    for i in range(3):
        for j in range(4):
            s = a[i, 0] * b[0, j] + a[i, 1] * b[1, j] + a[i, 2] * b[2, j]
            out[i, j] = s + (a[i, 3] * b[3, j])


@strict
def _bend(angle_x, angle_z):
    """Rz Rx and its derivatives by both angles."""
    cx, sx, cz, sz = math.cos(angle_x), math.sin(angle_x), math.cos(angle_z), math.sin(angle_z)
    R, by_x, by_z = np.zeros((4, 4)), np.zeros((4, 4)), np.zeros((4, 4))
    R[0, 0], R[0, 1], R[0, 2] = cz, -sz * cx, sz * sx
    R[1, 0], R[1, 1], R[1, 2] = sz, cz * cx, -cz * sx
    R[2, 1], R[2, 2], R[3, 3] = sx, cx, 1.0
    by_x[0, 1], by_x[0, 2] = sz * sx, sz * cx
    by_x[1, 1], by_x[1, 2] = -cz * sx, -cz * cx
    by_x[2, 1], by_x[2, 2] = cx, -sx
    by_z[0, 0], by_z[0, 1], by_z[0, 2] = -sz, -cz * cx, cz * sx
    by_z[1, 0], by_z[1, 1], by_z[1, 2] = cz, -sz * cx, sz * sx
    return R, by_x, by_z


@loop
def _blend(places, at, model, bone, move):
    """Three rows of `places` += weights of the bone times the moved vertices.

    `model` has the rows x, y, z, then the weights of each bone.
    """
    n = np.uint64(model.size // (3 + 22))
    a00, a01, a02, a03 = move[0, 0], move[0, 1], move[0, 2], move[0, 3]
    a10, a11, a12, a13 = move[1, 0], move[1, 1], move[1, 2], move[1, 3]
    a20, a21, a22, a23 = move[2, 0], move[2, 1], move[2, 2], move[2, 3]
    w0 = np.uint64(3 + bone) * n
    p0, p1, p2 = np.uint64(at) * n, np.uint64(at + 1) * n, np.uint64(at + 2) * n
    for v in range(n):
        x, y, z, w = model[v], model[n + v], model[n + n + v], model[w0 + v]
        places[p0 + v] += w * (a00 * x + a01 * y + a02 * z + a03)
        places[p1 + v] += w * (a10 * x + a11 * y + a12 * z + a13)
        places[p2 + v] += w * (a20 * x + a21 * y + a22 * z + a23)


@strict
def _as_rows(base, weights, vertices):
    """Coordinates and weights of these vertices, as rows of one flat array."""
    n, bones = vertices.size, weights.shape[1]
    model = np.empty((3 + bones) * n)
    for v in range(n):
        i = vertices[v]
        for a in range(3):
            model[a * n + v] = base[i, a]
        for b in range(bones):
            model[(3 + b) * n + v] = weights[i, b]
    return model


@strict
def _places(theta, relatives, inverses, model, n):
    """Places before the global rotation (row 0), and their tangents by the angles of fingers."""
    places = np.zeros(21 * 3 * n)
    bones = relatives.shape[0]
    absolutes, moved = np.zeros((bones, 4, 4)), np.empty((3, 4))
    half, part, next_part = np.empty((3, 4)), np.zeros((4, 3, 4)), np.zeros((4, 3, 4))
    for b in range(bones):
        finger, joint = (b - 1) // 4, (b - 1) % 4
        parent = PARENTS[b]
        if parent < 0:
            absolutes[b] = relatives[b]
        elif joint == 0 or b == 21:
            _times(absolutes[parent], relatives[b], absolutes[b])
        else:
            first = 6 + 4 * finger
            angle_x = theta[first + (0 if joint == 1 else joint)]
            angle_z = theta[first + 1] if joint == 1 else 0.0
            R, by_x, by_z = _bend(angle_x, angle_z)
            _times(absolutes[parent], relatives[b], half)
            known = 0 if joint == 1 else joint
            for k in range(known):
                _times_tangent(part[k], relatives[b], moved)
                _times_tangent(moved, R, next_part[k])
            _times_tangent(half, by_x, next_part[known])
            if joint == 1:
                _times_tangent(half, by_z, next_part[1])
            part, next_part = next_part, part
            _times(half, R, absolutes[b])
            for k in range(joint + 1):
                _times_tangent(part[k], inverses[b], moved)
                _blend(places, 3 * (1 + 4 * finger + k), model, b, moved)
        absolutes[b, 3, 3] = 1.0
        _times(absolutes[b], inverses[b], moved)
        _blend(places, 0, model, b, moved)
    return places


@strict
def _rotation_slopes(r):
    """The derivatives of the global rotation by its three parameters."""
    slopes = np.zeros((3, 3, 3))
    theta = math.sqrt(r[0] * r[0] + r[1] * r[1] + r[2] * r[2])
    if theta < 1e-4:
        return slopes
    n = r[:3] / theta
    c, s = math.cos(theta), math.sin(theta)
    across = np.array([[0.0, -n[2], n[1]], [n[2], 0.0, -n[0]], [-n[1], n[0], 0.0]])
    for k in range(3):
        for i in range(3):
            for j in range(3):
                unit = (1.0 if i == j else 0.0) - n[i] * n[j]
                slopes[k, i, j] = n[k] * (-unit * s + across[i, j] * c)
        for a in range(3):  # the axis turns by `turn`, by the angle k
            turn = ((1.0 if a == k else 0.0) - n[a] * n[k]) / theta
            for j in range(3):
                slopes[k, a, j] += turn * n[j] * (1.0 - c)
                slopes[k, j, a] += turn * n[j] * (1.0 - c)
            b, d = (a + 1) % 3, (a + 2) % 3
            slopes[k, d, b] += turn * s
            slopes[k, b, d] -= turn * s
    return slopes


@strict
def _scatter(out, columns, places, R, slopes, n):
    """Rows of the Jacobian of the errors: n x 3 x columns, angles in the last 26."""
    first = columns - ANGLES
    for v in range(n):
        x, y, z = places[v], places[n + v], places[2 * n + v]
        for i in range(3):
            row = out[v, i]
            for k in range(3):
                slope = slopes[k, i]
                row[first + k] = -(slope[0] * x + slope[1] * y + slope[2] * z)
                row[first + 3 + k] = -1.0 if i == k else 0.0
            a, b, c = -R[i, 0], -R[i, 1], -R[i, 2]
            for k in range(20):
                at = 3 * (k + 1) * n + v
                row[first + 6 + k] = a * places[at] + b * places[at + n] + c * places[at + 2 * n]


@strict
def jacobian(theta, relatives, inverses, base, weights, meets, targets):
    """The vertices that are met, one for each point."""
    n = meets.size
    model = _as_rows(base, weights, meets)
    places = _places(theta, relatives, inverses, model, n)
    out = np.empty((n, 3, ANGLES))
    _scatter(out, ANGLES, places, _global_rotation(theta[:3]), _rotation_slopes(theta), n)
    return out


@strict
def jacobian_in_triangles(
    theta, shift, relatives, inverses, base, weights, corners, places, targets
):
    """All vertices, then for each point those of its triangle: by the angles, and by the shift."""
    n, points = base.shape[0], corners.shape[0]
    model = _as_rows(base, weights, np.arange(n))
    found = _places(theta, relatives, inverses, model, n)
    R = _global_rotation(theta[:3])
    mesh = np.empty((n, 3, ANGLES))
    _scatter(mesh, ANGLES, found, R, _rotation_slopes(theta), n)
    by_theta, by_shift = np.empty((points, 3, ANGLES)), np.empty((points, 3, 2))
    for p in range(points):
        a, b, c = corners[p, 0], corners[p, 1], corners[p, 2]
        u, v = places[p, 0] + shift[0], places[p, 1] + shift[1]
        w = 1.0 - u - v
        for i in range(3):
            out, one, two, three = by_theta[p, i], mesh[a, i], mesh[b, i], mesh[c, i]
            for k in range(ANGLES):
                out[k] = u * one[k] + v * two[k] + w * three[k]
            du = dv = 0.0
            for k in range(3):
                at = k * n
                du -= R[i, k] * (found[at + a] - found[at + c])
                dv -= R[i, k] * (found[at + b] - found[at + c])
            by_shift[p, i, 0], by_shift[p, i, 1] = du, dv
    return by_theta, by_shift
