"""The objectives of ADBench, small: both ways of writing them agree, and the gradients are right."""

import numpy as np
import pytest

from benchmarks.adbench import ba, gmm, hand, lstm
from flatgrad import check_grads, value_and_grad

MIXTURE = (*gmm.arguments(5, 3, 2), 1.1, 2.0, gmm.constant(5, 3, 2))
MEMORY = lstm.arguments(2, 4, 3)
VIEWS = ba.arguments(2, 3, 4)
BONES = hand.arguments(4, 10)
PARTS = ("alphas", "means", "icf")
PARAMS = ("main_params", "extra_params")


def test_mixture():
    arrays = (*MIXTURE, *gmm.triangle(3))
    assert gmm.loops(*MIXTURE) == pytest.approx(gmm.arrays(*arrays), rel=1e-13)
    check_grads(gmm.loops, MIXTURE, argnums=PARTS)
    check_grads(gmm.arrays, arrays, argnums=PARTS)
    one = value_and_grad(gmm.loops, argnums=PARTS)(*MIXTURE)[1]
    other = value_and_grad(gmm.arrays, argnums=PARTS)(*arrays)[1]
    for mine, theirs in zip(one, other, strict=True):
        assert np.allclose(mine, theirs, rtol=1e-12)


def test_mixture_by_its_closed_form():
    """dF/dalpha_k is the sum of the weights of component k, less n softmax(alpha)_k."""
    alphas, means, icf, x, *_ = MIXTURE
    grad_alphas = value_and_grad(gmm.loops, argnums="alphas")(*MIXTURE)[1]
    weights = np.zeros((5, 2))
    for k in range(2):
        factor = np.diag(np.exp(icf[k, :3]))
        factor[gmm.triangle(3)] = icf[k, 3:]
        y = (x - means[k]) @ factor.T
        weights[:, k] = alphas[k] + icf[k, :3].sum() - 0.5 * np.sum(y * y, axis=1)
    weights = np.exp(weights - weights.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    softmax = np.exp(alphas) / np.exp(alphas).sum()
    assert np.allclose(grad_alphas, weights.sum(axis=0) - 5 * softmax, rtol=1e-12)


def test_memory():
    assert lstm.loops(*MEMORY) == pytest.approx(lstm.arrays(*MEMORY), rel=1e-13)
    check_grads(lstm.loops, MEMORY, argnums=PARAMS)
    check_grads(lstm.arrays, MEMORY, argnums=PARAMS)


def test_bundle_adjustment():
    def misfit(cameras, points, weights, features, camera_of, point_of):
        errors = ba.loops(cameras, points, weights, features, camera_of, point_of)
        return np.sum(errors * errors)

    check_grads(misfit, VIEWS, argnums=("cameras", "points", "weights"))


def test_hand():
    def misfit(theta, relatives, inverses, base, weights, meets, targets):
        errors = hand.errors(theta, relatives, inverses, base, weights, meets, targets)
        return np.sum(errors * errors)

    check_grads(misfit, BONES, argnums="theta")
