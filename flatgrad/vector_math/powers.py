"""Powers and cube roots, float64.

    x**y = 2**(y * log2(x))

log2(x) is computed as a sum of two floats with about 65 correct bits: s = f / (2 + f), its square
and the first two terms of the series in two parts (the scheme of fdlibm's pow, Sun, 1993). Parts
are split by clearing low bits, never by multiplying, so that products of heads are exact whether
or not they are contracted with a sum. The cube root refines a guess made from the exponent to 23
bits by a polynomial, then by one step of Newton's (FreeBSD, Bruce Evans, 2005). The polynomials
interpolate at Chebyshev points, computed with 60 digits.
"""

# mypy: allow-untyped-defs, no-check-untyped-defs

import math

import numpy as np


def log2_sum_f64(x):
    """log2(x) as a head of 26 bits and a tail, for finite x > 0."""
    tiny = x < 2.2250738585072014e-308
    scaled = x * 18014398509481984.0
    v = scaled if tiny else x
    shift = 4503599627371573.0 if tiny else 4503599627371519.0
    bits = (np.float64(v).view(np.int64) & 0x7FFFFFFFFFFFFFFF) + 0x95F619980C433
    k = np.int64(((bits >> 52) & 0xFFF) | 0x4330000000000000).view(np.float64) - shift
    f = np.int64((bits & 0xFFFFFFFFFFFFF) + 0x3FE6A09E667F3BCD).view(np.float64) - 1.0
    d = 2.0 + f
    d_high = np.int64(np.float64(d).view(np.int64) & -0x8000000).view(np.float64)
    d_low = f - (d_high - 2.0)
    inverse = 1.0 / d
    s = f * inverse
    s_high = np.int64(np.float64(s).view(np.int64) & -0x8000000).view(np.float64)
    s_low = inverse * ((f - s_high * d_high) - s_high * d_low)
    z = s * s
    z2 = z * z
    p = 0.17588404890289017
    p = 0.2000222005366777 + z * 0.17559006375450167 + z2 * p
    p = 0.272727275053328 + z * 0.23076892204284427 + z2 * p
    p = 0.42857142857144065 + z * 0.33333333332473924 + z2 * p
    p = 0.6 + z * p
    rest = z2 * p + s_low * (s_high + s)
    square = s_high * s_high
    t = np.float64(3.0 + square + rest).view(np.int64)
    t_high = np.int64(t & -0x8000000).view(np.float64)
    t_low = rest - ((t_high - 3.0) - square)
    u = s_high * t_high
    v = s_low * t_high + t_low * s
    p_high = np.int64(np.float64(u + v).view(np.int64) & -0x8000000).view(np.float64)
    p_low = v - (p_high - u)
    head = 0.9617966860532761 * p_high
    tail = 7.872699542894897e-09 * p_high + p_low * 0.9617966939259756
    high = np.int64(np.float64((head + tail) + k).view(np.int64) & -0x8000000).view(np.float64)
    return high, tail - ((high - k) - head)


def exp2_sum_f64(head, tail):
    """2**(head + tail) for a head whose product with log(2) must not be rounded."""
    e = head + tail
    c = min(max(e, -1100.0), 1100.0)
    t = c + 6755399441055744.0
    n = t - 6755399441055744.0
    part = head - n
    w = np.int64(np.float64(part + tail).view(np.int64) & -0x8000000).view(np.float64)
    w_low = tail - (w - part)
    u = w * 0.6931471675634384
    v = w_low * 0.6931471805599453 + w * 1.2996506893889889e-08
    r = u + v
    low = v - (r - u)
    r2 = r * r
    p = 2.5105525761140995e-08 + r * 2.091490745304636e-09
    p = 2.7557254656202336e-06 + r * 2.7557273111810967e-07 + r2 * p
    p = 0.0001984126987540889 + r * 2.4801587325967827e-05 + r2 * p
    p = 0.008333333333325966 + r * 0.0013888888888883629 + r2 * p
    p = 0.1666666666666667 + r * 0.04166666666666667 + r2 * p
    p = 0.5 + r * p
    p = 1.0 + (r + (low + r2 * p))
    half = np.float64(n * 0.5 + 6755399441055744.0).view(np.int64)
    rest = np.float64(t).view(np.int64) - half
    first = np.int64((half + 1023) << 52).view(np.float64)
    second = np.int64((rest + 1023) << 52).view(np.float64)
    y = p * first * second
    y = math.inf if e > 1025.0 else y
    return 0.0 if e < -1080.0 else y


def pow_cases(power, x, y):
    """x**y, given |x|**y for finite numbers other than 0."""
    size = abs(x)
    falling = y < 0.0
    at_zero = math.inf if falling else 0.0
    at_infinity = 0.0 if falling else math.inf
    power = at_zero if size == 0.0 else power
    power = at_infinity if size == math.inf else power
    count = abs(y)
    half = 0.5 * count
    whole = ((count + 4503599627370496.0) - 4503599627370496.0 == count) | (
        count >= 4503599627370496.0
    )
    even = ((half + 4503599627370496.0) - 4503599627370496.0 == half) | (
        count >= 9007199254740992.0
    )
    negative = math.copysign(1.0, x) < 0.0
    power = -power if negative & whole & (not even) else power
    power = math.nan if (x < 0.0) & (size < math.inf) & (not whole) else power
    power = power if x == x else x
    power = power if y == y else y
    return 1.0 if (y == 0.0) | (x == 1.0) else power


def pow_f64(x, y):
    """x**y."""
    size = abs(x)
    high, low = log2_sum_f64(size)
    c = min(max(y, -7.378697629483821e19), 7.378697629483821e19)
    c_high = np.int64(np.float64(c).view(np.int64) & -0x8000000).view(np.float64)
    power = exp2_sum_f64(c_high * high, (c - c_high) * high + c * low)
    return pow_cases(power, x, y)


def cbrt_f64(x):
    """Cube root."""
    size = abs(x)
    tiny = size < 2.2250738585072014e-308
    scaled = size * 18014398509481984.0
    v = scaled if tiny else size
    bits = (np.float64(v).view(np.int64) >> 32) & 0xFFFFFFFF
    third = np.int64(bits | 0x4330000000000000).view(np.float64) - 4503599627370496.0
    guess = np.float64(third * 0.3333333333333333 + 4503600342464659.0).view(np.int64)
    t = np.int64(guess << 32).view(np.float64)
    r = (t * t) * (t / v)
    r2 = r * r
    p = -0.7327739103408315 + r * 0.13954588749887017
    p = -1.8598256938793816 + r * 1.5833177883736933 + r2 * p
    p = 1.8697358748632458 + r * p
    t = t * p
    t = np.int64((np.float64(t).view(np.int64) + 0x80000000) & -0x40000000).view(np.float64)
    q = v / (t * t)
    t = t + t * ((q - t) / (t + t + q))
    smaller = t * 3.814697265625e-06
    t = smaller if tiny else t
    y = math.copysign(t, x)
    return y if (size > 0.0) & (size < math.inf) else x
