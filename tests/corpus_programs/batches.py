"""Products of many matrices at once: mixtures, attention, layers of several nets."""

from __future__ import annotations

import numpy as np

from tests.corpus_programs.registry import example, normal


@example(normal(2), normal(2, 3), normal(2, 3, 3), normal(4, 3))
def mixture_of_gaussians(alphas, means, factors, x):
    centered = x[:, None, :] - means
    y = np.einsum("kab,nkb->nka", factors, centered)
    main = alphas - 0.5 * np.sum(y * y, axis=2)
    largest = np.max(main, axis=1)
    return np.sum(largest + np.log(np.sum(np.exp(main - largest[:, None]), axis=1)))


@example(normal(3, 2, 2), normal(4, 2, 2), normal(4, 2, 2))
def attention_with_heads(q, k, v):
    scores = np.einsum("thd,shd->hts", q, k) / np.sqrt(q.shape[2])
    e = np.exp(scores - np.max(scores, axis=2, keepdims=True))
    y = np.einsum("hts,shd->thd", e / np.sum(e, axis=2, keepdims=True), v)
    return np.sum(y * y)


@example(normal(3, 2, 2), normal(2, 2, 3), normal(2, 3), normal(3, 2, 3))
def layers_of_several_nets(x, W, b, target):
    h = np.tanh(np.einsum("nki,kio->nko", x, W) + b)
    return np.mean((h - target) ** 2)


@example(normal(2, 3, 3), normal(4, 3), normal(2, 3))
def mahalanobis_distances(F, x, m):
    y = np.einsum("kab,nkb->nka", F, x[:, None, :] - m)
    return np.sum(np.sqrt(1 + np.sum(y * y, axis=2)))


@example(normal(3, 2, 3), normal(2, 3, 2))
def batch_of_products(a, b):
    c = np.swapaxes(a, 0, 1) @ b
    return np.sum(np.sin(c) * np.sum(c, axis=1, keepdims=True))
