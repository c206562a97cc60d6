"""Quarter turns and rests of arguments of any size, without a branch.

    |x| = n * pi/2 + r,   |r| <= pi/4,   n counts modulo 4

A float is an int m of 53 bits (24 for float32) times a power of 2. Of 2/pi only those bits matter
that are worth less than 4 in m * 2/pi and more than what is lost in rounding (Payne and Hanek,
1983): 192 bits of it (96), which are read from a table at a byte. The product is made of ints of 32
bits; its first two bits are n, and no multiple of pi/2 is so near to a float that too few of the
others were left.
"""

# mypy: allow-untyped-defs, no-check-untyped-defs

import numpy as np

TWO_OVER_PI = np.array(
    [
        int(
            "0000000000000000a2f9836e4e441529fc2757d1f534ddc0db6295993c439041fe5163abdebbc561b7246e3a"
            "424dd2e006492eea09d1921cfe1deb1cb129a73ee88235f52ebb4484e99c7026b45f7e413991d639835339f4"
            "9c845f8bbdf9283b1ff897ffde05980fef2f118b5a0a6d1f6d367ecf27cb09b74f463f669e5fea2d7527bac7"
            "ebe5f17b3d0739f78a5292ea6bfb5fb11f8d5d0856033046fc7b6bab"[k : k + 16],
            16,
        )
        for k in range(0, 305, 2)
    ],
    np.uint64,
).view(np.int64)


def reduced_f64(x):
    """Quarter turns of |x|, an int whose low bits count, and the rest in two parts."""
    bits = np.float64(x).view(np.int64)
    power = (bits >> 52) & 2047
    power = power if power > 1022 else 1022
    place = power - 1013
    m = ((bits & 0xFFFFFFFFFFFFF) | 0x10000000000000) << (place & 7)
    m1 = (m >> 32) & 0xFFFFFFFF
    m0 = m & 0xFFFFFFFF
    a = TWO_OVER_PI[np.uint64(place >> 3)]
    b = TWO_OVER_PI[np.uint64((place >> 3) + 8)]
    c = TWO_OVER_PI[np.uint64((place >> 3) + 16)]
    a1, a0 = (a >> 32) & 0xFFFFFFFF, a & 0xFFFFFFFF
    b1, b0 = (b >> 32) & 0xFFFFFFFF, b & 0xFFFFFFFF
    c1, c0 = (c >> 32) & 0xFFFFFFFF, c & 0xFFFFFFFF
    p = m0 * b0 + ((m0 * c1 >> 32) & 0xFFFFFFFF)
    q = m0 * b1 + ((p >> 32) & 0xFFFFFFFF)
    s = m0 * a0 + ((q >> 32) & 0xFFFFFFFF)
    t = m0 * a1 + ((s >> 32) & 0xFFFFFFFF)
    p = m1 * c1 + ((m1 * c0 >> 32) & 0xFFFFFFFF) + (p & 0xFFFFFFFF)
    q = m1 * b0 + ((p >> 32) & 0xFFFFFFFF) + (q & 0xFFFFFFFF)
    s = m1 * b1 + ((q >> 32) & 0xFFFFFFFF) + (s & 0xFFFFFFFF)
    t = m1 * a0 + ((s >> 32) & 0xFFFFFFFF) + t
    first = (t << 32) | (s & 0xFFFFFFFF)
    f = (first << 2) | ((q >> 30) & 3)
    high = np.float64(f >> 32) * 2.3283064365386963e-10
    middle = np.float64(f & 0xFFFFFFFF) * 5.421010862427522e-20
    low = np.float64(q & 0x3FFFFFFF) * 5.048709793414476e-29
    low = low + np.float64(p & 0xFFFFFFFF) * 1.1754943508222875e-38
    turn = high + middle
    low = (middle - (turn - high)) + low
    head = turn + low
    low = low - (head - turn)
    front = np.int64(np.float64(head).view(np.int64) & -134217728).view(np.float64)
    back = head - front
    r = head * 1.5707963267948966
    error = (front * 1.5707963109016418 - r) + front * 1.5893254712295857e-08
    error = (error + back * 1.5707963109016418) + back * 1.5893254712295857e-08
    low = error + (head * 6.123233995736766e-17 + low * 1.5707963267948966)
    size = abs(x)
    small = size < 0.5
    turns = (first + 0x2000000000000000) >> 62
    return (np.int64(0) if small else turns), (size if small else r), (0.0 if small else low)


def reduced_f32(x):
    """Quarter turns of |x|, an int whose low bits count, and the rest, for a float32 as float64."""
    bits = np.float64(x).view(np.int64)
    power = (bits >> 52) & 2047
    power = power if power > 1022 else 1022
    place = power - 984
    m = ((bits & 0xFFFFFFFFFFFFF | 0x10000000000000) >> 29) << (place & 7)
    a = TWO_OVER_PI[np.uint64(place >> 3)]
    b = TWO_OVER_PI[np.uint64((place >> 3) + 8)]
    s = m * (a & 0xFFFFFFFF) + ((m * ((b >> 32) & 0xFFFFFFFF) >> 32) & 0xFFFFFFFF)
    t = m * ((a >> 32) & 0xFFFFFFFF) + ((s >> 32) & 0xFFFFFFFF)
    first = (t << 32) | (s & 0xFFFFFFFF)
    r = np.float64(first << 2) * 8.515303950216386e-20
    size = abs(x)
    small = size < 0.5
    turns = (first + 0x2000000000000000) >> 62
    return (np.int64(0) if small else turns), (size if small else r)
