"""The logarithm of the gamma function and its derivative, psi, float64.

    gammaln(x) = core(y) - log(x)                          0 < x < 3/2
               = core(y) + log((x - 1) * ... * (2 + y))    x < 11/2,  |y| <= 1/2
               = (x - 1/2) * log(x) - x + log(2*pi) / 2 + S(1/x**2) / x      else

core(y) is y * P(y), the function around its zero 2, or for x < 1/2 around its zero 1: P has other
coefficients there. The factors x - k are exact. Logarithms are sums of two floats, so that what is
left where terms cancel, as at 1, is right to the last place.

    psi(x) = (y - root) * (1 + Q(y))                       1 <= x < 2,  y = x - 1
           = psi(x + 1) - 1/x,  psi(x - 1) + 1/(x - 1)     x < 1,  2 <= x < 3
           = log(x) - 1/(2*x) - T(1/x**2) / x**2           else

with the positive zero 1 + root in two parts. Left of 0 both are reflected,

    gammaln(-a) = -log(abs(sin(pi*a)) / pi) - gammaln(1 + a)
    psi(-a) = psi(1 + a) + pi / tan(pi*a)

where a is reduced to the next int without error. Terms of either sign meet there, and near zeros on
that side the error is small next to the terms, not next to what is left of them. The polynomials
interpolate at Chebyshev points, computed with 50 digits; S and T take the places of asymptotic
series (Abramowitz and Stegun, 6.1.41 and 6.3.18).
"""

# mypy: allow-untyped-defs, no-check-untyped-defs

import math

import numpy as np

from flatgrad.vector_math.logarithms import log_f64, log_parts_f64


def log_sum_f64(x):
    """log(x) as the sum of two floats, for finite x > 0."""
    k, high, low = log_parts_f64(x)
    start = k * 0.6931471803691238
    head = start + high
    return head, ((start - head) + high) + (k * 1.9082149292705877e-10 + low)


def reduced_sine_f64(a):
    """The distance of a >= 0 from the next int, and abs(sin(pi*a)) / pi."""
    c = min(a, 4503599627370496.0)
    r = np.float64(c - ((c + 4503599627370496.0) - 4503599627370496.0))
    q = r * r
    q2 = q * q
    s = 2.4502943624559793e-07
    s = 0.0001484278414189103 + q * -6.972099660851199e-06 + q2 * s
    s = 0.02614784780555096 + q * -0.0023460808954639607 + q2 * s
    s = 0.8117424252833393 + q * -0.19075182412149616 + q2 * s
    s = 1.0 + q * -1.6449340668482264 + q2 * s
    return r, abs(r) * s


def gammaln_core_f64(y, low):
    """log(gamma(2 + y)) for |y| <= 1/2, where `low` log(gamma(1 + y)), as a sum of two floats."""
    y2 = y * y
    c0 = 0.5724670334241132 if low else 0.07246703342411322
    c1 = -0.40068563438653126 if low else -0.0673523010531981
    c2 = 0.27058080842774457 if low else 0.02058080842778338
    c3 = -0.2073855510252402 if low else -0.007385551028673429
    c4 = 0.16955717684134314 if low else 0.002890510330865901
    c5 = -0.1440498924375247 if low else -0.00119275391176255
    c6 = 0.12550958961613676 if low else 0.0005096695196526673
    c7 = -0.11133323059167703 if low else -0.00022315475602710603
    c8 = 0.10008968142190713 if low else 9.945761692157133e-05
    c9 = -0.09088497738088501 if low else -4.492628637818162e-05
    c10 = 0.0829826656948355 if low else 2.050601970174762e-05
    c11 = -0.07539507874071259 if low else -9.43891959627718e-06
    c12 = 0.06648855688381305 if low else 4.3828545383846665e-06
    c13 = -0.05425966815887817 if low else -2.043022895180944e-06
    c14 = 0.038078205647330374 if low else 9.242852225162277e-07
    c15 = -0.020779219838904732 if low else -4.3454173670260496e-07
    c16 = 0.007597867291590596 if low else 2.7475390051909663e-07
    c17 = -0.0013648788142078096 if low else -1.3029870239068415e-07
    p = c16 + y * c17
    p = c14 + y * c15 + y2 * p
    p = c12 + y * c13 + y2 * p
    p = c10 + y * c11 + y2 * p
    p = c8 + y * c9 + y2 * p
    p = c6 + y * c7 + y2 * p
    p = c4 + y * c5 + y2 * p
    p = c2 + y * c3 + y2 * p
    p = c0 + y * c1 + y2 * p
    slope = -0.5 if low else 0.5
    slope = 0.25 if y < 0.0 else slope
    start = 0.17278433509846714 if y < 0.0 else -0.07721566490153287
    return y * slope, y * ((start + 0.25 * y) + y * p)


def stirling_f64(x, head, tail):
    """log(gamma(x)) for x >= 5.5, whose logarithm is head + tail; all is scaled by 1/1024."""
    inverse = 1.0 / x
    z = inverse * inverse
    z2 = z * z
    p = 0.00575236174710752 + z * -0.014943146527973733
    p = 0.0008415009114331926 + z * -0.0019006195721743896 + z2 * p
    p = 0.0007936507853393013 + z * -0.0005952360502696809 + z2 * p
    p = 0.08333333333333333 + z * -0.0027777777777648043 + z2 * p
    scaled = x * 0.0009765625
    part = np.int64(np.float64(scaled).view(np.int64) & -0x8000000).view(np.float64)
    less = head - 1.0
    top = np.int64(np.float64(less).view(np.int64) & -0x8000000).view(np.float64)
    rest = (0.9189385332046728 - 0.5 * (head + tail) + inverse * p) * 0.0009765625
    rest = (scaled - part) * top + (scaled * ((less - top) + tail) + rest)
    return (part * top + rest) * 1024.0


def gammaln_f64(x):
    """log(abs(gamma(x)))."""
    a = abs(x)
    left = x < 0.0
    low = a < 0.5
    far = a >= 5.5
    up = a - 1.0
    turn = (up + 6755399441055744.0) - 6755399441055744.0
    count = 0.0 if low else turn
    y = a if low else up - count
    factors = up if count >= 2.0 else 1.0
    factors = factors * (a - 2.0 if count >= 3.0 else 1.0)
    factors = factors * (a - 3.0 if count >= 4.0 else 1.0)
    small = count == 0.0
    argument = a if small | far else factors
    argument = 1.0 if left & (not far) else argument
    head, tail = log_sum_f64(argument)
    core, core_rest = gammaln_core_f64(y, low)
    start = -head if small else head
    end = -tail if small else tail
    total = start + core
    near = total + (((start - total) + core) + (end + core_rest))
    y = stirling_f64(a, head, tail) if far else near
    r, sine = reduced_sine_f64(a)
    factors = 1.0 if far else factors
    mirrored = -(y + log_f64(sine * (1.0 if small else a * factors)))
    y = mirrored if left else y
    y = math.inf if (a == 0.0) | (left & (r == 0.0)) else y
    return y if a < math.inf else a


def psi_core_f64(w):
    """psi(1 + w) for 0 <= w <= 1: the distance from its zero, and what it takes besides."""
    t = w - 0.5
    t2 = t * t
    g = 0.00025968482126430747 + t * -0.00017312261802727394
    g = 0.0002272331660987376 + t * -0.00015148586836773365 + t2 * g
    g = 0.0007233266279287554 + t * -0.0004821990530566789 + t2 * g
    g = 0.0015566317474486838 + t * -0.0010376374098418604 + t2 * g
    g = 0.003519006401502276 + t * -0.002345267632540769 + t2 * g
    g = 0.007926944646403797 + t * -0.005279964873257405 + t2 * g
    g = 0.0179072524394512 + t * -0.011908218001568644 + t2 * g
    g = 0.04076083381242074 + t * -0.02697579675613825 + t2 * g
    g = 0.09498872445494122 + t * -0.061922133273064534 + t2 * g
    g = 0.2405424842407742 + t * -0.14840492305390884 + t2 * g
    g = -0.04894412396816711 + t * -0.4236274212814605 + t2 * g
    d = w - 0.46163214496836236
    return d, d * g + (1.0 + g) * 1.5522348162858677e-17


def psi_far_f64(x, inverse):
    """psi(x) for x >= 3, from 1 / x."""
    z = inverse * inverse
    z2 = z * z
    p = 17.261883761190983 + z * -21.29861333701341
    p = 1.7458633558768843 + z * -6.706334097588544 + z2 * p
    p = 0.08064047398067098 + z * -0.37430045081725144 + z2 * p
    p = 0.00757443060881869 + z * -0.02101916489697652 + z2 * p
    p = 0.003968253884920039 + z * -0.004166652178650307 + z2 * p
    p = 0.08333333333333326 + z * -0.008333333333142599 + z2 * p
    head, tail = log_sum_f64(x)
    return head + (tail - (0.5 * inverse + z * p))


def cotangent_f64(a):
    """pi / tan(pi*a) for a > 0; nan at ints."""
    c = min(a, 4503599627370496.0)
    r = np.float64(c - ((c + 4503599627370496.0) - 4503599627370496.0))
    s = r * r
    s2 = s * s
    c = 16.010441555350102
    c = 11.319882534156065 + s * -14.00913635189951 + s2 * c
    c = 2.8304597027964618 + s * -1.3837148002891513 + s2 * c
    c = 2.0175482780709193 + s * 1.8569869062340112 + s2 * c
    c = 2.000216397061563 + s * 1.9984989923885619 + s2 * c
    c = 2.0019892571205644 + s * 2.0004882445092558 + s2 * c
    c = 2.0346861239837795 + s * 2.008154710650887 + s2 * c
    c = 3.289868133696453 + s * 2.1646464674222266 + s2 * c
    return math.nan if r == 0.0 else 1.0 / r - r * c


def psi_f64(x):
    """The derivative of gammaln."""
    a = abs(x)
    left = x < 0.0
    below = x < 1.0
    p = 1.0 + a if below else a
    y = a if below else a - 1.0
    middle = y >= 1.0
    far = y >= 2.0
    divisor = y if middle else a
    divisor = p if far else divisor
    inverse = 1.0 / divisor
    q = np.int64(np.float64(inverse).view(np.int64) & -0x8000000).view(np.float64)
    part = np.int64(np.float64(divisor).view(np.int64) & -0x8000000).view(np.float64)
    q_low = ((1.0 - q * part) - q * (divisor - part)) * inverse
    sign = 0.0 if left | (not below) else -1.0
    sign = 1.0 if middle else sign
    core, rest = psi_core_f64(y - 1.0 if middle else y)
    first = sign * q
    total = first + core
    near = total + (((first - total) + core) + (rest + sign * q_low))
    y = psi_far_f64(p, inverse) if far else near
    y = y + cotangent_f64(a) if left else y
    y = y if a > 1e-300 else -1.0 / x
    return y if x < math.inf else x
