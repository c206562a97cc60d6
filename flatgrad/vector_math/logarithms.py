"""Logarithms, float64.

    x = 2**k * (1 + f),   sqrt(1/2) <= 1 + f < sqrt(2),   s = f / (2 + f)
    log(1 + f) = f - f**2 / 2 + s * (f**2 / 2 + R(s**2))

The reduction to s, an odd series, is that of fdlibm (Sun, 1993) after Tang, "Table-driven
implementation of the logarithm function", ACM TOMS 16 (1990); f itself stays outside, so that only
small terms are rounded. log2 and log10 multiply a head of 21 bits and a tail. log1p carries the
error of 1 + x, found exactly (Moller, 1965; Knuth, TAOCP 2, 4.2.2). R interpolates at Chebyshev
points, computed with 60 digits.
"""

# mypy: allow-untyped-defs, no-check-untyped-defs

import math

import numpy as np

from flatgrad.vector_math.exponentials import exp_f64


def log_f64(x):
    """Natural logarithm; -inf at 0, nan below."""
    tiny = x < 2.2250738585072014e-308
    scaled = x * 18014398509481984.0
    v = scaled if tiny else x
    shift = 4503599627371573.0 if tiny else 4503599627371519.0
    bits = (np.float64(v).view(np.int64) & 0x7FFFFFFFFFFFFFFF) + 0x95F619980C433
    k = np.int64(((bits >> 52) & 0xFFF) | 0x4330000000000000).view(np.float64) - shift
    f = np.int64((bits & 0xFFFFFFFFFFFFF) + 0x3FE6A09E667F3BCD).view(np.float64) - 1.0
    s = f / (2.0 + f)
    z = s * s
    z2 = z * z
    p = 0.1533150172120742 + z * 0.1461916477718642
    p = 0.22222211043822487 + z * 0.18182895746801428 + z2 * p
    p = 0.3999999999989827 + z * 0.28571428626533335 + z2 * p
    p = 0.666666666666667 + z * p
    half = 0.5 * f * f
    y = k * 0.6931471803691238 - ((half - (s * (half + z * p) + k * 1.9082149292705877e-10)) - f)
    y = y if x < math.inf else x
    outside = -math.inf if x == 0.0 else math.nan
    return y if x > 0.0 else outside


def log1p_f64(x):
    """log(1 + x); -inf at -1, nan below."""
    u = 1.0 + x
    back = u - 1.0
    error = (1.0 - (u - back)) + (x - back)
    bits = (np.float64(u).view(np.int64) & 0x7FFFFFFFFFFFFFFF) + 0x95F619980C433
    k = np.int64(((bits >> 52) & 0xFFF) | 0x4330000000000000).view(np.float64)
    k = k - 4503599627371519.0
    f = np.int64((bits & 0xFFFFFFFFFFFFF) + 0x3FE6A09E667F3BCD).view(np.float64) - 1.0
    correction = error / u
    f = x if k == 0.0 else f
    correction = 0.0 if k == 0.0 else correction
    s = f / (2.0 + f)
    z = s * s
    z2 = z * z
    p = 0.1533150172120742 + z * 0.1461916477718642
    p = 0.22222211043822487 + z * 0.18182895746801428 + z2 * p
    p = 0.3999999999989827 + z * 0.28571428626533335 + z2 * p
    p = 0.666666666666667 + z * p
    half = 0.5 * f * f
    y = k * 0.6931471803691238 - (
        (half - (s * (half + z * p) + (k * 1.9082149292705877e-10 + correction))) - f
    )
    y = y if abs(x) > 1e-17 else x
    y = y if x < math.inf else x
    outside = -math.inf if x == -1.0 else math.nan
    return y if x > -1.0 else outside


def log_parts_f64(x):
    """k and log(1 + f) as a head of 21 bits and a tail."""
    tiny = x < 2.2250738585072014e-308
    scaled = x * 18014398509481984.0
    v = scaled if tiny else x
    shift = 4503599627371573.0 if tiny else 4503599627371519.0
    bits = (np.float64(v).view(np.int64) & 0x7FFFFFFFFFFFFFFF) + 0x95F619980C433
    k = np.int64(((bits >> 52) & 0xFFF) | 0x4330000000000000).view(np.float64) - shift
    f = np.int64((bits & 0xFFFFFFFFFFFFF) + 0x3FE6A09E667F3BCD).view(np.float64) - 1.0
    s = f / (2.0 + f)
    z = s * s
    z2 = z * z
    p = 0.1533150172120742 + z * 0.1461916477718642
    p = 0.22222211043822487 + z * 0.18182895746801428 + z2 * p
    p = 0.3999999999989827 + z * 0.28571428626533335 + z2 * p
    p = 0.666666666666667 + z * p
    half = 0.5 * f * f
    high = np.int64(np.float64(f - half).view(np.int64) & -0x100000000).view(np.float64)
    low = ((f - high) - half) + s * (half + z * p)
    return k, high, low


def log2_f64(x):
    """Logarithm to base 2; exact for powers of two."""
    k, high, low = log_parts_f64(x)
    head = high * 1.4426950407214463
    tail = (low + high) * 1.6751713164886512e-10 + low * 1.4426950407214463
    y = k + head
    y = y + (((k - y) + head) + tail)
    y = y if x < math.inf else x
    outside = -math.inf if x == 0.0 else math.nan
    return y if x > 0.0 else outside


def log10_f64(x):
    """Logarithm to base 10."""
    k, high, low = log_parts_f64(x)
    head = high * 0.4342944818781689
    shift = k * 0.30102999566361177
    tail = k * 3.694239077158931e-13 + (
        (low + high) * 2.5082946711645275e-11 + low * 0.4342944818781689
    )
    y = shift + head
    y = y + (((shift - y) + head) + tail)
    y = y if x < math.inf else x
    outside = -math.inf if x == 0.0 else math.nan
    return y if x > 0.0 else outside


def softplus_f64(x):
    """log(1 + e**x) without overflow."""
    positive = x if x > 0.0 else 0.0
    return positive + log1p_f64(exp_f64(-abs(x)))
