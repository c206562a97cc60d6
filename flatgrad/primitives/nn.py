"""flatgrad's own activations as primitives; their source text travels with the emitted code.

    L = sigmoid(s3)        grad_s3 = grad_L * (1 - L) * L
"""

from __future__ import annotations

from flatgrad import activations
from flatgrad.primitives.math import anywhere
from flatgrad.primitives.registry import elementwise, partials

elementwise(activations.sigmoid, samples=anywhere, helper=True)


@partials(activations.sigmoid)
def _(y, x):
    return (1 - y) * y


elementwise(activations.relu, samples=anywhere, helper=True)


@partials(activations.relu)
def _(y, x):
    return y > 0
