"""Sine, cosine, tangent and their inverses, float64.

    x = n * pi/2 + r,   |r| <= pi/4,   n mod 4 tells which of sin(r), cos(r) and which sign

pi/2 is subtracted in four parts, three of them with 33 bits, whose products with n are exact as
long as n < 2**20 (Cody and Waite, 1980); r is kept as a sum of two floats, as near a multiple of
pi/2 its head alone is not enough. Beyond `LIMIT` the results are wrong: hence the names.

The arcus tangent of a quotient is reduced to [-7/16, 7/16] by atan(t) = atan(c) + atan((t - c) /
(1 + c*t)) with c = 0, 1/2 or 1, in one division (the breakpoints are fdlibm's, Sun, 1993). The
polynomials interpolate at Chebyshev points, computed with 60 digits.
"""

# mypy: allow-untyped-defs, no-check-untyped-defs

import math

import numpy as np

from flatgrad.vector_math.reduction import reduced_f64

LIMIT = 1e6


def quarter_turns_f64(x):
    """Quarter turns as an int whose low bits count, and the rest in two parts."""
    t = x * 0.6366197723675814 + 6755399441055744.0
    n = t - 6755399441055744.0
    a = x - n * 1.5707963267341256
    w = n * 6.077100506303966e-11
    b = a - w
    low = (a - b) - w
    w = n * 2.0222662487111665e-21
    r = b - w
    low = (((b - r) - w) + low) - n * 8.4784276603689e-32
    head = r + low
    return np.float64(t).view(np.int64), head, (r - head) + low


def sine_part_f64(r, low):
    """sin(r + low) for |r| <= pi/4."""
    z = r * r
    z2 = z * z
    p = 1.5917848524808262e-10
    p = 2.755731608381636e-06 + z * -2.5051127944014188e-08 + z2 * p
    p = 0.008333333333330925 + z * -0.00019841269836722418 + z2 * p
    p = -0.16666666666666666 + z * p
    return r + (low * (1.0 - 0.5 * z) + r * (z * p))


def cosine_part_f64(r, low):
    """cos(r + low) for |r| <= pi/4."""
    z = r * r
    z2 = z * z
    p = -1.1382456778061306e-11
    p = -2.7557317260008837e-07 + z * 2.0876143827993133e-09 + z2 * p
    p = -0.0013888888888887382 + z * 2.480158729874307e-05 + z2 * p
    p = 0.041666666666666664 + z * p
    half = 0.5 * z
    head = 1.0 - half
    return head + (((1.0 - head) - half) + (z2 * p - r * low))


def sine_of_turns_f64(turns, r, low):
    """Sine of so many quarter turns and r + low."""
    sine = sine_part_f64(r, low)
    cosine = cosine_part_f64(r, low)
    y = sine if turns & 1 == 0 else cosine
    return np.int64(np.float64(y).view(np.int64) ^ ((turns & 2) << 62)).view(np.float64)


def tangent_of_turns_f64(turns, r, low):
    """Tangent of so many quarter turns and r + low."""
    z = r * r
    z2 = z * z
    p = 1.8300573837883187e-05
    p = 6.898410074897728e-05 + z * -3.4024263034485094e-05 + z2 * p
    p = 0.00012016503258956599 + z * -3.718493285033152e-06 + z2 * p
    p = 0.000592281927112595 + z * 0.00023045538957060328 + z2 * p
    p = 0.0035921771877120315 + z * 0.001455429175518431 + z2 * p
    p = 0.021869488715681267 + z * 0.008863231684816755 + z2 * p
    p = 0.13333333333337494 + z * 0.053968253963893695 + z2 * p
    p = 0.33333333333333326 + z * p
    y = r + (low * (1.0 + z) + r * (z * p))
    inverse = -1.0 / y
    return y if turns & 1 == 0 else inverse


def sin_within_f64(x):
    """Sine, for |x| <= 1e6."""
    turns, r, low = quarter_turns_f64(x)
    y = sine_of_turns_f64(turns, r, low)
    return y if abs(x) > 1e-9 else x


def cos_within_f64(x):
    """Cosine, for |x| <= 1e6."""
    turns, r, low = quarter_turns_f64(x)
    return sine_of_turns_f64(turns + 1, r, low)


def tan_within_f64(x):
    """Tangent, for |x| <= 1e6."""
    turns, r, low = quarter_turns_f64(x)
    y = tangent_of_turns_f64(turns, r, low)
    return y if abs(x) > 1e-9 else x


def sin_f64(x):
    """Sine."""
    turns, r, low = reduced_f64(x)
    y = sine_of_turns_f64(turns + (2 if x < 0.0 else 0), r, low)
    y = y if abs(x) > 1e-9 else x
    return y if abs(x) < np.inf else x - x


def cos_f64(x):
    """Cosine."""
    turns, r, low = reduced_f64(x)
    y = sine_of_turns_f64(turns + 1, r, low)
    return y if abs(x) < np.inf else x - x


def tan_f64(x):
    """Tangent."""
    turns, r, low = reduced_f64(x)
    y = math.copysign(1.0, x) * tangent_of_turns_f64(turns, r, low)
    y = y if abs(x) > 1e-9 else x
    return y if abs(x) < np.inf else x - x


def arctan2_f64(y, x):
    """Angle of the point (x, y), in [-pi, pi]."""
    wide = abs(x)
    tall = abs(y)
    steep = tall > wide
    big = tall if steep else wide
    small = wide if steep else tall
    corner = 1.0 if small == math.inf else 0.0
    small = corner if big == math.inf else small
    big = 1.0 if big == math.inf else big
    scale = 7.458340731200207e-155 if big > 1e200 else 1.0
    scale = 1.3407807929942597e154 if big < 1e-200 else scale
    small = small * scale
    big = big * scale
    big = 1.0 if big == 0.0 else big
    low_third = small < 0.4375 * big
    middle = small < 0.6875 * big
    c = 0.5 if middle else 1.0
    c = 0.0 if low_third else c
    known = 0.4636476090008061 if middle else 0.7853981633974483
    known = 0.0 if low_third else known
    known_low = 2.2698777452961687e-17 if middle else 3.061616997868383e-17
    known_low = 0.0 if low_third else known_low
    q = (small - c * big) / (big + c * small)
    z = q * q
    z2 = z * z
    p = 0.0378116004846169 + z * -0.017532295994972764
    p = 0.05847612444521365 + z * -0.050334165154982353 + z2 * p
    p = 0.07692086204975024 + z * -0.06663224869084483 + z2 * p
    p = 0.11111110899049664 + z * -0.0909090014058555 + z2 * p
    p = 0.19999999999987655 + z * -0.14285714283127662 + z2 * p
    p = -0.33333333333333326 + z * p
    rest = known_low + (q + q * (z * p))
    left = math.copysign(1.0, x) < 0.0
    straight = math.pi if left else 0.0
    base = 1.5707963267948966 if steep else straight
    sign = 1.0 if steep == left else -1.0
    head = base + sign * known
    tail = (base - head) + sign * known
    angle = head + (tail + (base * 3.8981718325193755e-17 + sign * rest))
    angle = math.copysign(angle, y)
    angle = angle if x == x else x
    return angle if y == y else y


def arctan_f64(x):
    """Arcus tangent."""
    return arctan2_f64(x, 1.0)
