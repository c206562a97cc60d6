"""Sine, cosine, tangent and their inverses for float32, by way of float64.

As in `trigonometry`, `sin_within_f32` and its like are right for |x| <= 1e6, inf and nan.
"""

# mypy: allow-untyped-defs, no-check-untyped-defs

import math

import numpy as np

from flatgrad.vector_math.reduction import reduced_f32


def rough_quarter_turns(x):
    """Quarter turns as an int whose low bits count, and the rest, for a float64 with 24 bits."""
    t = x * 0.6366197723675814 + 6755399441055744.0
    n = t - 6755399441055744.0
    r = (x - n * 1.5707963267341256) - n * 6.077100506506192e-11
    return np.float64(t).view(np.int64), r


def rough_sine(turns, r):
    """The sine of so many quarter turns and r."""
    z = r * r
    z2 = z * z
    s = 2.7249314054698804e-06
    s = 0.008333331865959415 + z * -0.00019840082012765537 + z2 * s
    s = -0.16666666663832763 + z * s
    c = -0.00138883006969039 + z * 2.45474372101932e-05
    c = 0.04166666464745738 + z * c
    sine = r + r * (z * s)
    cosine = 1.0 + (z2 * c - 0.5 * z)
    y = sine if turns & 1 == 0 else cosine
    return np.int64(np.float64(y).view(np.int64) ^ ((turns & 2) << 62)).view(np.float64)


def sin_within_f32(x):
    """Sine, for |x| <= 1e6."""
    turns, r = rough_quarter_turns(np.float64(x))
    y = np.float32(rough_sine(turns, r))
    return y if abs(x) > np.float32(1e-5) else x


def cos_within_f32(x):
    """Cosine, for |x| <= 1e6."""
    turns, r = rough_quarter_turns(np.float64(x))
    return np.float32(rough_sine(turns + 1, r))


def rough_tangent(turns, r):
    """The tangent of so many quarter turns and r."""
    z = r * r
    z2 = z * z
    p = 0.0011712547119059986 + z * 0.0038514785093842056
    p = 0.021618611475324477 + z * 0.009970961200184144 + z2 * p
    p = 0.1333322948492917 + z * 0.05399478461651154 + z2 * p
    p = 0.33333333989982206 + z * p
    y = r + r * (z * p)
    inverse = -1.0 / y
    return y if turns & 1 == 0 else inverse


def tan_within_f32(x):
    """Tangent, for |x| <= 1e6."""
    turns, r = rough_quarter_turns(np.float64(x))
    y = np.float32(rough_tangent(turns, r))
    return y if abs(x) > np.float32(1e-5) else x


def sin_f32(x):
    """Sine."""
    turns, r = reduced_f32(x)
    y = np.float32(rough_sine(turns + (2 if x < 0.0 else 0), r))
    y = y if abs(x) > np.float32(1e-5) else x
    return y if abs(x) < np.inf else x - x


def cos_f32(x):
    """Cosine."""
    turns, r = reduced_f32(x)
    y = np.float32(rough_sine(turns + 1, r))
    return y if abs(x) < np.inf else x - x


def tan_f32(x):
    """Tangent."""
    turns, r = reduced_f32(x)
    y = np.float32(rough_tangent(turns, r) * math.copysign(1.0, np.float64(x)))
    y = y if abs(x) > np.float32(1e-5) else x
    return y if abs(x) < np.inf else x - x


def arctan2_f32(y, x):
    """Angle of the point (x, y), in [-pi, pi]."""
    wide = abs(np.float64(x))
    tall = abs(np.float64(y))
    steep = tall > wide
    big = tall if steep else wide
    small = wide if steep else tall
    corner = 1.0 if small == math.inf else 0.0
    small = corner if big == math.inf else small
    big = 1.0 if (big == math.inf) | (big == 0.0) else big
    low_third = small < 0.4375 * big
    middle = small < 0.6875 * big
    c = 0.5 if middle else 1.0
    c = 0.0 if low_third else c
    known = 0.4636476090008061 if middle else 0.7853981633974483
    known = 0.0 if low_third else known
    q = (small - c * big) / (big + c * small)
    z = q * q
    z2 = z * z
    p = 0.10667636557907288 + z * -0.06213588822462422
    p = 0.19999312185467447 + z * -0.14256497588249623 + z2 * p
    p = -0.3333333070632364 + z * p
    rest = known + (q + q * (z * p))
    left = math.copysign(1.0, np.float64(x)) < 0.0
    straight = math.pi if left else 0.0
    base = 1.5707963267948966 if steep else straight
    sign = 1.0 if steep == left else -1.0
    angle = np.float32(math.copysign(base + sign * rest, np.float64(y)))
    angle = angle if x == x else x
    return angle if y == y else y


def arctan_f32(x):
    """Arcus tangent."""
    return arctan2_f32(x, np.float32(1.0))
