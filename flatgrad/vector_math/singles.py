"""The same functions for float32.

exp and log compute in float32 throughout. The others go through float64, with polynomials just
long enough: that needs none of the tricks that keep the last bits, and rounds once. `rough_exp`
and its like are such steps: float64 with 28 or more correct bits.
"""

# mypy: allow-untyped-defs, no-check-untyped-defs

import math

import numpy as np

from flatgrad.vector_math.error_function import erfc_f64
from flatgrad.vector_math.gamma_function import gammaln_f64, psi_f64
from flatgrad.vector_math.powers import cbrt_f64, pow_cases


def exp_f32(x):
    """e**x."""
    c = min(max(x, -np.float32(104.0)), np.float32(89.0))
    t = c * np.float32(1.442695) + np.float32(12582912.0)
    n = t - np.float32(12582912.0)
    r = (c - n * np.float32(0.693359375)) + n * np.float32(0.00021219444)
    r2 = r * r
    p = np.float32(0.008363353) + r * np.float32(0.00139264)
    p = np.float32(0.16666576) + r * np.float32(0.041666552) + r2 * p
    p = np.float32(0.5) + r * p
    head = np.float32(1.0) + r
    p = head + ((r - (head - np.float32(1.0))) + r2 * p)
    half = np.float32(n * np.float32(0.5) + np.float32(12582912.0)).view(np.int32)
    rest = np.float32(t).view(np.int32) - half
    first = np.int32((half + 127) << 23).view(np.float32)
    second = np.int32((rest + 127) << 23).view(np.float32)
    y = p * first * second
    return y if x == x else x


def log_f32(x):
    """Natural logarithm; -inf at 0, nan below."""
    tiny = x < np.float32(1.1754944e-38)
    scaled = x * np.float32(8388608.0)
    v = scaled if tiny else x
    shift = np.float32(150.0) if tiny else np.float32(127.0)
    bits = np.int32((np.float32(v).view(np.int32) & 0x7FFFFFFF) + 0x4AFB0D)
    k = np.float32(np.int32((bits >> 23) & 0x1FF)) - shift
    f = np.int32((bits & 0x7FFFFF) + 0x3F3504F3).view(np.float32) - np.float32(1.0)
    s = f / (np.float32(2.0) + f)
    z = s * s
    p = np.float32(0.39988735) + z * np.float32(0.29582024)
    p = np.float32(0.66666687) + z * p
    half = np.float32(0.5) * f * f
    tail = s * (half + z * p) - k * np.float32(0.00021219444)
    y = k * np.float32(0.693359375) - ((half - tail) - f)
    y = y if x < np.float32(np.inf) else x
    outside = np.float32(-np.inf) if x == np.float32(0.0) else np.float32(np.nan)
    return y if x > np.float32(0.0) else outside


def rough_exp(x):
    """e**x for a float64 between -700 and 700."""
    t = x * 1.4426950408889634 + 6755399441055744.0
    n = t - 6755399441055744.0
    r = x - n * 0.6931471805599453
    r2 = r * r
    p = 0.000198912799526017
    p = 0.008333310664235417 + r * 0.0013933910353940131 + r2 * p
    p = 0.1666666668188549 + r * 0.04166646257283667 + r2 * p
    p = 0.5000000013701955 + r * p
    scale = np.int64((np.float64(t).view(np.int64) + 1023) << 52).view(np.float64)
    return scale + scale * (r + r2 * p)


def rough_expm1(x):
    """e**x - 1 for a float64 between -700 and 700."""
    t = x * 1.4426950408889634 + 6755399441055744.0
    n = t - 6755399441055744.0
    r = x - n * 0.6931471805599453
    r2 = r * r
    p = 0.000198912799526017
    p = 0.008333310664235417 + r * 0.0013933910353940131 + r2 * p
    p = 0.1666666668188549 + r * 0.04166646257283667 + r2 * p
    p = 0.5000000013701955 + r * p
    scale = np.int64((np.float64(t).view(np.int64) + 1023) << 52).view(np.float64)
    return (scale - 1.0) + scale * (r + r2 * p)


def rough_log(x):
    """log(x) for a normal float64 > 0."""
    bits = (np.float64(x).view(np.int64) & 0x7FFFFFFFFFFFFFFF) + 0x95F619980C433
    k = np.int64(((bits >> 52) & 0xFFF) | 0x4330000000000000).view(np.float64)
    k = k - 4503599627371519.0
    f = np.int64((bits & 0xFFFFFFFFFFFFF) + 0x3FE6A09E667F3BCD).view(np.float64) - 1.0
    s = f / (2.0 + f)
    z = s * s
    z2 = z * z
    p = 0.23332761807741403
    p = 0.40000122584584097 + z * 0.285507364053582 + z2 * p
    p = 0.6666666655358554 + z * p
    half = 0.5 * f * f
    return k * 0.6931471805599453 - ((half - s * (half + z * p)) - f)


def rough_log1p(x):
    """log(1 + x) for a float64 > -1 with 24 bits."""
    bits = (np.float64(1.0 + x).view(np.int64) & 0x7FFFFFFFFFFFFFFF) + 0x95F619980C433
    k = np.int64(((bits >> 52) & 0xFFF) | 0x4330000000000000).view(np.float64)
    k = k - 4503599627371519.0
    f = np.int64((bits & 0xFFFFFFFFFFFFF) + 0x3FE6A09E667F3BCD).view(np.float64) - 1.0
    f = x if k == 0.0 else f
    s = f / (2.0 + f)
    z = s * s
    z2 = z * z
    p = 0.23332761807741403
    p = 0.40000122584584097 + z * 0.285507364053582 + z2 * p
    p = 0.6666666655358554 + z * p
    half = 0.5 * f * f
    return k * 0.6931471805599453 - ((half - s * (half + z * p)) - f)


def exp2_f32(x):
    """2**x."""
    c = min(max(np.float64(x), -160.0), 140.0)
    t = c + 6755399441055744.0
    r = (c - (t - 6755399441055744.0)) * 0.6931471805599453
    r2 = r * r
    p = 0.000198912799526017
    p = 0.008333310664235417 + r * 0.0013933910353940131 + r2 * p
    p = 0.1666666668188549 + r * 0.04166646257283667 + r2 * p
    p = 0.5000000013701955 + r * p
    scale = np.int64((np.float64(t).view(np.int64) + 1023) << 52).view(np.float64)
    y = np.float32(scale + scale * (r + r2 * p))
    return y if x == x else x


def expm1_f32(x):
    """e**x - 1."""
    y = np.float32(rough_expm1(min(max(np.float64(x), -40.0), 100.0)))
    return y if abs(x) > np.float32(1e-10) else x


def sinh_f32(x):
    """Hyperbolic sine."""
    size = abs(np.float64(x))
    e = rough_expm1(min(size, 100.0))
    y = np.float32(math.copysign(0.5 * (e + e / (e + 1.0)), np.float64(x)))
    return y if abs(x) > np.float32(1e-5) else x


def cosh_f32(x):
    """Hyperbolic cosine."""
    e = rough_exp(min(abs(np.float64(x)), 100.0))
    y = np.float32(0.5 * (e + 1.0 / e))
    return y if x == x else x


def tanh_f32(x):
    """Hyperbolic tangent."""
    e = rough_expm1(2.0 * min(abs(np.float64(x)), 10.0))
    y = np.float32(math.copysign(e / (e + 2.0), np.float64(x)))
    return y if abs(x) > np.float32(1e-5) else x


def sigmoid_f32(x):
    """1 / (1 + e**-x), with full relative precision for negative x."""
    e = rough_exp(min(max(-np.float64(x), -110.0), 110.0))
    y = np.float32(1.0 / (1.0 + e))
    return y if x == x else x


def softplus_f32(x):
    """log(1 + e**x) without overflow."""
    wide = np.float64(x)
    positive = wide if wide > 0.0 else 0.0
    y = np.float32(positive + rough_log1p(rough_exp(max(-abs(wide), -110.0))))
    return y if x == x else x


def log1p_f32(x):
    """log(1 + x); -inf at -1, nan below."""
    y = np.float32(rough_log1p(np.float64(x)))
    y = y if abs(x) > np.float32(1e-10) else x
    y = y if x < np.float32(np.inf) else x
    outside = np.float32(-np.inf) if x == -np.float32(1.0) else np.float32(np.nan)
    return y if x > -np.float32(1.0) else outside


def log2_f32(x):
    """Logarithm to base 2."""
    y = np.float32(rough_log(np.float64(x)) * 1.4426950408889634)
    y = y if x < np.float32(np.inf) else x
    outside = np.float32(-np.inf) if x == np.float32(0.0) else np.float32(np.nan)
    return y if x > np.float32(0.0) else outside


def log10_f32(x):
    """Logarithm to base 10."""
    y = np.float32(rough_log(np.float64(x)) * 0.4342944819032518)
    y = y if x < np.float32(np.inf) else x
    outside = np.float32(-np.inf) if x == np.float32(0.0) else np.float32(np.nan)
    return y if x > np.float32(0.0) else outside


def pow_f32(x, y):
    """x**y."""
    base = np.float64(x)
    power = np.float64(y)
    bits = (base.view(np.int64) & 0x7FFFFFFFFFFFFFFF) + 0x95F619980C433
    k = np.int64(((bits >> 52) & 0xFFF) | 0x4330000000000000).view(np.float64)
    k = k - 4503599627371519.0
    f = np.int64((bits & 0xFFFFFFFFFFFFF) + 0x3FE6A09E667F3BCD).view(np.float64) - 1.0
    s = f / (2.0 + f)
    z = s * s
    z2 = z * z
    p = 0.1533150172120742 + z * 0.1461916477718642
    p = 0.22222211043822487 + z * 0.18182895746801428 + z2 * p
    p = 0.3999999999989827 + z * 0.28571428626533335 + z2 * p
    p = 0.666666666666667 + z * p
    half = 0.5 * f * f
    log2 = k + (f - (half - s * (half + z * p))) * 1.4426950408889634
    e = min(max(power, -1e11), 1e11) * log2
    e = min(max(e, -200.0), 200.0)
    t = e + 6755399441055744.0
    r = (e - (t - 6755399441055744.0)) * 0.6931471805599453
    r2 = r * r
    p = 0.000198912799526017
    p = 0.008333310664235417 + r * 0.0013933910353940131 + r2 * p
    p = 0.1666666668188549 + r * 0.04166646257283667 + r2 * p
    p = 0.5000000013701955 + r * p
    scale = np.int64((np.float64(t).view(np.int64) + 1023) << 52).view(np.float64)
    return np.float32(pow_cases(scale + scale * (r + r2 * p), base, power))


def cbrt_f32(x):
    """Cube root."""
    return np.float32(cbrt_f64(np.float64(x)))


def erf_f32(x):
    """Error function."""
    size = abs(np.float64(x))
    z = min(size, 1.0) * min(size, 1.0)
    z2 = z * z
    p = -0.0008015956189706265 + z * 7.872582762234845e-05
    p = -0.026854168335587104 + z * 0.005188994224217016 + z2 * p
    p = -0.3761262659768305 + z * 0.11283593800597223 + z2 * p
    p = 0.12837916584006187 + z * p
    near = size + size * p
    a = min(max(size, 1.0), 4.0)
    a2 = a * a
    q = 3.538207765068597e-06 + a * -2.3106406878845262e-07
    q = -0.00031827927215776825 + a * -4.276007415691867e-06 + a2 * q
    q = -0.024255568311852306 + a * 0.0037948519971956634 + a2 * q
    q = 0.6346729062150995 + a * 0.10693467657746238 + a2 * q
    q = 1.128777894938252 + a * q
    far = 1.0 - rough_exp(-(a * q))
    y = near if size < 1.0 else far
    y = np.float32(math.copysign(y, np.float64(x)))
    return y if x == x else x


def erfc_f32(x):
    """1 - erf(x), with full relative precision where that is small."""
    return np.float32(erfc_f64(np.float64(x)))


def gammaln_f32(x):
    """log(abs(gamma(x)))."""
    return np.float32(gammaln_f64(np.float64(x)))


def psi_f32(x):
    """The derivative of gammaln."""
    return np.float32(psi_f64(np.float64(x)))
