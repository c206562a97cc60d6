"""Functions of `scipy.special` that plain NumPy text computes: logit, xlogy, xlog1py.

    xlogy(a, b)      a * np.log(np.where((a == 0) & (b <= 0), 1.0, b))      # 0 * log(0) is 0
"""

from __future__ import annotations

import numpy as np

from flatgrad.primitives.registry import foreign


@foreign("scipy.special", "logit")
def _(x):
    return np.log(x) - np.log1p(-x)


@foreign("scipy.special", "xlogy")
def _(x, y):
    return x * np.log(np.where((x == 0) & (y <= 0), 1.0, y))


@foreign("scipy.special", "xlog1py")
def _(x, y):
    return x * np.log1p(np.where((x == 0) & (y <= -1), 0.0, y))
