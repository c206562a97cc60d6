"""The exponential and its relatives, float64.

    exp(x) = 2**k * exp(r),   k = round(x / log(2)),   r = x - k * log(2)

k is found by adding 1.5 * 2**52, which leaves it in the low bits of the sum: no conversion, which
few machines do for vectors. log(2) is subtracted in two parts, the first with 33 bits, so that its
product with k is exact (Cody and Waite, Software Manual for the Elementary Functions, 1980).
2**k is written into the exponent of a float, in two factors where one would overflow. expm1 keeps
the rounding error of r and of the sum (Muller, Elementary Functions, 3rd ed., 2016, chapters 4
and 11). The polynomials interpolate at Chebyshev points on [-log(2)/2, log(2)/2], computed with 60
digits.
"""

# mypy: allow-untyped-defs, no-check-untyped-defs

import math

import numpy as np


def exp_f64(x):
    """e**x."""
    c = min(max(x, -746.0), 710.0)
    t = c * 1.4426950408889634 + 6755399441055744.0
    n = t - 6755399441055744.0
    r = (c - n * 0.6931471803691238) - n * 1.9082149292705877e-10
    r2 = r * r
    p = 2.5105525761140995e-08 + r * 2.091490745304636e-09
    p = 2.7557254656202336e-06 + r * 2.7557273111810967e-07 + r2 * p
    p = 0.0001984126987540889 + r * 2.4801587325967827e-05 + r2 * p
    p = 0.008333333333325966 + r * 0.0013888888888883629 + r2 * p
    p = 0.1666666666666667 + r * 0.04166666666666667 + r2 * p
    p = 0.5 + r * p
    head = 1.0 + r
    p = head + ((r - (head - 1.0)) + r2 * p)
    half = np.float64(n * 0.5 + 6755399441055744.0).view(np.int64)
    rest = np.float64(t).view(np.int64) - half
    first = np.int64((half + 1023) << 52).view(np.float64)
    second = np.int64((rest + 1023) << 52).view(np.float64)
    y = p * first * second
    return y if x == x else x


def exp2_f64(x):
    """2**x."""
    c = min(max(x, -1080.0), 1030.0)
    t = c + 6755399441055744.0
    n = t - 6755399441055744.0
    r = c - n
    r2 = r * r
    p = 4.4549605981865186e-10 + r * 2.572508057683636e-11
    p = 1.0178062445845774e-07 + r * 7.054899956372649e-09 + r2 * p
    p = 1.525273382983612e-05 + r * 1.3215486802903931e-06 + r2 * p
    p = 0.0013333558146416936 + r * 0.00015403530393375914 + r2 * p
    p = 0.0555041086648216 + r * 0.009618129107628479 + r2 * p
    p = 0.24022650695910072 + r * p
    p = 1.0 + (r * 0.6931471805599453 + r2 * p)
    half = np.float64(n * 0.5 + 6755399441055744.0).view(np.int64)
    rest = np.float64(t).view(np.int64) - half
    first = np.int64((half + 1023) << 52).view(np.float64)
    second = np.int64((rest + 1023) << 52).view(np.float64)
    y = p * first * second
    return y if x == x else x


def half_expm1_f64(x):
    """(e**x - 1) / 2 and what rounding took from it, for x between -40 and 710.5."""
    c = min(max(x, -40.0), 710.5)
    t = c * 1.4426950408889634 + 6755399441055744.0
    n = t - 6755399441055744.0
    reduced = c - n * 0.6931471803691238
    r = reduced - n * 1.9082149292705877e-10
    r_low = (reduced - r) - n * 1.9082149292705877e-10
    r2 = r * r
    p = 2.5105525761140995e-08 + r * 2.091490745304636e-09
    p = 2.7557254656202336e-06 + r * 2.7557273111810967e-07 + r2 * p
    p = 0.0001984126987540889 + r * 2.4801587325967827e-05 + r2 * p
    p = 0.008333333333325966 + r * 0.0013888888888883629 + r2 * p
    p = 0.1666666666666667 + r * 0.04166666666666667 + r2 * p
    p = 0.5 + r * p
    quarter = np.int64((np.float64(t).view(np.int64) + 1021) << 52).view(np.float64)
    base = quarter - 0.25
    step = quarter * r
    high = base + step
    low = ((base - high) + step) + quarter * (r_low + r2 * p)
    total = high + low
    return 2.0 * total, 2.0 * ((high - total) + low)


def expm1_f64(x):
    """e**x - 1."""
    half, _ = half_expm1_f64(x)
    y = 2.0 * half
    return y if abs(x) > 1e-17 else x


def sinh_f64(x):
    """Hyperbolic sine."""
    size = abs(x)
    half, low = half_expm1_f64(size)
    part = min(half, 1e300)
    ratio = part / (2.0 * part + 1.0)
    slope = 1.0 - 2.0 * ratio
    y = half + (ratio + (low + low * (slope * slope)))
    y = y if half < math.inf else half
    y = y if size > 1e-9 else size
    y = math.copysign(y, x)
    return y if x == x else x


def cosh_f64(x):
    """Hyperbolic cosine."""
    half, _ = half_expm1_f64(abs(x))
    half = half + 0.5
    y = half + 0.25 / half
    return y if x == x else x


def tanh_f64(x):
    """Hyperbolic tangent."""
    size = abs(x)
    half, low = half_expm1_f64(2.0 * min(size, 22.0))
    d = 1.0 + half
    back = d - half
    d_low = (1.0 - back) + (half - (d - back))
    y = half / d
    rest = 1.0 - y
    y = y + (low * rest - y * d_low) * rest
    y = y if size > 1e-9 else size
    y = math.copysign(y, x)
    return y if x == x else x


def sigmoid_f64(x):
    """1 / (1 + e**-x), with full relative precision for negative x."""
    c = max(-abs(x), -746.0)
    t = c * 1.4426950408889634 + 6755399441055744.0
    n = t - 6755399441055744.0
    r = (c - n * 0.6931471803691238) - n * 1.9082149292705877e-10
    r2 = r * r
    p = 2.5105525761140995e-08 + r * 2.091490745304636e-09
    p = 2.7557254656202336e-06 + r * 2.7557273111810967e-07 + r2 * p
    p = 0.0001984126987540889 + r * 2.4801587325967827e-05 + r2 * p
    p = 0.008333333333325966 + r * 0.0013888888888883629 + r2 * p
    p = 0.1666666666666667 + r * 0.04166666666666667 + r2 * p
    p = 0.5 + r * p
    head = 1.0 + r
    tail = (r - (head - 1.0)) + r2 * p
    p = head + tail
    missing = ((head - p) + tail) * (2.0 - p)
    half = np.float64(n * 0.5 + 6755399441055744.0).view(np.int64)
    rest = np.float64(t).view(np.int64) - half
    first = np.int64((half + 1023) << 52).view(np.float64)
    second = np.int64((rest + 1023) << 52).view(np.float64)
    e = p * first * second
    positive = x >= 0.0
    top = 1.0 if positive else e
    missing = 0.0 if positive else missing
    d = 1.0 + e
    d_low = (1.0 - d) + e
    y = top / d
    y = y + y * (missing - d_low * (1.0 - 0.5 * e))
    return y if x == x else x
