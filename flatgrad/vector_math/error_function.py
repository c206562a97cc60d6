"""The error function and its complement, float64.

    erf(x)  = x + x * P(x**2)                     |x| < 1
            = 1 - exp(-|x| * Q(|x|))              else
    erfc(x) = exp(-x**2) * H((x - 4) / (x + 4)) / (1 + 2*x)      x >= 0

The map of [0, inf) to [-1, 1) is that of Shepherd and Laframboise, "Chebyshev approximation of
(1 + 2x) exp(x**2) erfc(x)", Mathematics of Computation 36 (1981). x**2 is taken in two parts, the
first exact, as its rounding error alone would cost 400 ulp. The polynomials interpolate at
Chebyshev points, computed with 60 digits.
"""

# mypy: allow-untyped-defs, no-check-untyped-defs

import math

import numpy as np

from flatgrad.vector_math.exponentials import exp_f64


def erf_f64(x):
    """Error function."""
    size = abs(x)
    z = min(size, 1.0) * min(size, 1.0)
    z2 = z * z
    p = -1.1371291831047954e-09 + z * 5.954471583153482e-11
    p = -1.6350256278696497e-07 + z * 1.4659383821340068e-08 + z2 * p
    p = -1.4925594957596026e-05 + z * 1.6460995338195411e-06 + z2 * p
    p = -0.0008548326980509413 + z * 0.00012055331099279798 + z2 * p
    p = -0.02686617064507627 + z * 0.005223977624812638 + z2 * p
    p = -0.3761263890318375 + z * 0.11283791670954876 + z2 * p
    p = 0.1283791670955126 + z * p
    near = size + size * p
    a = min(max(size, 1.0), 6.0)
    a2 = a * a
    q = -5.181072155528828e-16 + a * 6.054983242743033e-18
    q = -5.421575030271425e-13 + a * 2.107326715448526e-14 + a2 * q
    q = -1.3666258823233944e-10 + a * 9.903504002757742e-12 + a2 * q
    q = -1.2880148439932307e-08 + a * 1.4795917042079112e-09 + a2 * q
    q = -5.373675392229155e-07 + a * 9.160619948441127e-08 + a2 * q
    q = -1.043810410212292e-05 + a * 2.608731103523135e-06 + a2 * q
    q = -8.535760800556197e-05 + a * 3.386699870195475e-05 + a2 * q
    q = -7.372966092874818e-05 + a * 0.00014696255118545816 + a2 * q
    q = 0.0016200393056085766 + a * -0.0004926670269981513 + a2 * q
    q = -0.019149721856948625 + a * -0.00016275603713710268 + a2 * q
    q = 0.6366183715155128 + a * 0.10277948659408166 + a2 * q
    q = 1.1283793018203514 + a * q
    far = 1.0 - exp_f64(-(a * q))
    y = near if size < 1.0 else far
    y = math.copysign(y, x)
    return y if x == x else x


def erfc_f64(x):
    """1 - erf(x), with full relative precision where that is small."""
    a = min(abs(x), 28.0)
    t = (a - 4.0) / (a + 4.0)
    t2 = t * t
    h = 2.0167156266437546e-09 + t * 1.3347219111911731e-09
    h = -1.852288612090378e-08 + t * -1.4270571971890292e-08 + t2 * h
    h = 7.552556415381873e-08 + t * 1.1020146294747393e-07 + t2 * h
    h = 2.9306833219873045e-07 + t * -8.254540688586351e-07 + t2 * h
    h = -1.1221651846009895e-05 + t * 5.7096836465671994e-06 + t2 * h
    h = 0.000150621553805456 + t * -2.439916838412039e-05 + t2 * h
    h = -0.0007577732633000142 + t * -0.00019925671321950272 + t2 * h
    h = -0.016197734061152044 + t * 0.005031969982061538 + t2 * h
    h = -0.06633036581194438 + t * 0.037167515536985524 + t2 * h
    h = -0.10103906603631653 + t * 0.09373283499838153 + t2 * h
    h = 0.015379652102619969 + t * 0.06809705425469177 + t2 * h
    u = t * (-0.1396211168405625 + t * h)
    h = 1.2329951186255526 + u
    h_low = ((1.2329951186255526 - h) + u) - 4.625318921008717e-17
    twice = 2.0 * a
    d = 1.0 + twice
    quotient = h / d
    lost = (1.0 - (d - twice)) * quotient - 0.9 * h_low
    a_head = np.int64(np.float64(a).view(np.int64) & -0x8000000).view(np.float64)
    square = a_head * a_head
    tail = (a - a_head) * (a + a_head)
    turn = square * -1.4426950408889634 + 6755399441055744.0
    n = turn - 6755399441055744.0
    reduced = -square - n * 0.6931471803691238
    tail = n * 1.9082149292705877e-10 + tail
    r = reduced - tail
    lost = lost - ((reduced - r) - tail)
    r2 = r * r
    p = 2.5105525761140995e-08 + r * 2.091490745304636e-09
    p = 2.7557254656202336e-06 + r * 2.7557273111810967e-07 + r2 * p
    p = 0.0001984126987540889 + r * 2.4801587325967827e-05 + r2 * p
    p = 0.008333333333325966 + r * 0.0013888888888883629 + r2 * p
    p = 0.1666666666666667 + r * 0.04166666666666667 + r2 * p
    p = 0.5 + r * p
    head = 1.0 + r
    tail = (r - (head - 1.0)) + (r2 * p - lost)
    p = head + tail
    p_low = (head - p) + tail
    half = np.float64(n * 0.5 + 6755399441055744.0).view(np.int64)
    rest = np.float64(turn).view(np.int64) - half
    first = np.int64((half + 1023) << 52).view(np.float64)
    second = np.int64((rest + 1023) << 52).view(np.float64)
    y = (p * quotient + p_low * quotient) * first * second
    z = min(a, 0.7) * min(a, 0.7)
    z2 = z * z
    q = -1.603479490366179e-07 + z * 1.1851225476250988e-08
    q = -1.4924786704934095e-05 + z * 1.6440742369803712e-06 + z2 * q
    q = -0.0008548326645776897 + z * 0.00012055310471275967 + z2 * q
    q = -0.026866170644889255 + z * 0.005223977621486079 + z2 * q
    q = -0.3761263890318374 + z * 0.11283791670954366 + z2 * q
    near = (1.0 - a) - a * (0.1283791670955126 + z * q)
    y = near if a < 0.7 else y
    reflected = 2.0 - y
    y = reflected if x < 0.0 else y
    return y if x == x else x
