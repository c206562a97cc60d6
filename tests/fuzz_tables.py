"""What random programs are made of: helper functions and templates of expressions.

    {x} * np.tanh({y})        filled with variables and with other expressions

Every template is differentiable almost everywhere and stays finite for moderate values.
"""

from __future__ import annotations

HELPERS = '''\
import math

import numpy as np

import flatgrad as fg


def scaled(a, c=0.5):
    return a * c + 0.1


def bump(a, c):
    a += c
    return a


def first(a):
    return a[0]


def centered(a, axis=None):
    m = np.mean(a, axis=axis, keepdims=True)
    return a - m, m


def put(a, v):
    b = a
    b[0] = v
    return np.sum(a)


def mixed(a, b):
    c = a + b
    c *= 0.5
    d = c
    d -= 0.25
    return np.tanh(c) * np.sum(d)


'''
"""Functions that the programs call: pure ones, writers, one that returns a view."""

UNARY = """
np.sin({x}) | np.cos({x}) | np.tanh({x}) | np.exp(-{x} * {x}) | np.exp(np.sin({x})) | -{x} | +{x}
np.sqrt(1.5 + {x} * {x}) | np.log(1.2 + {x} ** 2) | np.arctan({x}) | np.abs({x}) | abs({x})
{x} ** 2 | {x} ** 3 | {x} ** -1.0 | (0.5 + np.abs({x})) ** 0.5 | 1.0 / (2.0 + np.cos({x}))
np.log1p(np.abs({x})) | np.expm1(0.1 * {x}) | np.sinh(np.tanh({x})) | fg.sigmoid({x})
fg.relu({x}) | fg.softplus({x}) | np.square({x}) | np.cbrt(2.0 + np.tanh({x}))
np.reciprocal(2.0 + np.sin({x})) | 2.0 * {x} | {x} / 3 | 1 - {x} | {x} + 1 | 0.5 ** np.tanh({x})
2 ** np.sin({x}) | {x} // 0.7 | {x} % 0.9 | np.maximum({x}, 0.1) | np.minimum(0.4, {x})
np.clip({x}, -0.8, 0.9) | np.sign({x}) * {x} | np.where({x} > 0.1, {x}, 0.3 * {x})
np.where({x} > 0.0, np.sqrt(np.abs({x}) + 0.2), {x}) | np.floor({x}) | np.float32(0.5) * {x}
np.arcsin(np.tanh({x}) * 0.9) | fg.gelu({x}) | fg.elu({x}) | fg.silu({x}) | fg.leaky_relu({x})
np.power(np.abs({x}) + 0.5, 1.7) | np.where(np.abs({x}) < 0.6, {x} ** 2, 0.5)
np.log2(2.0 + np.abs({x})) | np.arcsinh({x}) | np.sinc({x}) | scaled({x}) | scaled({x}, c=-0.7)
np.multiply({x}, {x}) | {x} - {x} ** 3 / 6 | np.nan_to_num({x}) | np.copysign({x}, -1.0)
np.rint({x}) - {x}
"""

BINARY = """
{x} + {y} | {x} - {y} | {x} * {y} | {x} / (1.5 + {y} * {y}) | np.maximum({x}, {y})
{x} * {y} + {x} | np.minimum({x}, {y}) | np.where({x} > {y}, {x}, {y} * 2)
np.hypot(1.0 + {x} * {x}, {y}) | np.arctan2({x}, 2.0 + np.sin({y})) | np.logaddexp({x}, {y})
(1.0 + np.abs({x})) ** np.tanh({y}) | np.where({y} < 0.2, 0.0, {x}) | np.multiply({x}, {y})
np.add({x}, {y}) | {x} - 2 * {y} | -{x} * {y} | np.copysign({x}, {y} + 3.0) | np.fmax({x}, {y})
{x} % (2.0 + np.tanh({y})) | mixed({x}, {y}) | np.power(1.2 + np.abs({x}), {y})
np.divide({x}, 3.0 + {y} ** 2) | np.logaddexp2({x}, {y})
"""

PRODUCTS = """
{x} @ {y} | {x} @ {y}.T | {x}.T @ {y} | np.dot({x}, {y}) | np.inner({x}, {y}) | np.outer({x}, {y})
np.tensordot({x}, {y}, axes=1) | np.einsum("ij,j->i", {x}, {y}) | np.einsum("ij,ij->", {x}, {y})
np.einsum("ij,jk->ki", {x}, {y}) | np.einsum("i,i", {x}, {y}) | np.vdot({x}, {y})
np.kron({x}, {y}) | np.einsum("ii->i", {x}) + {y} | np.matmul({x}, {y}) | {x}.dot({y})
np.einsum("...i,i", {x}, {y}) | np.tensordot({x}, {y}, axes=([0], [0]))
np.einsum("ij->j", {x}) * {y} | np.linalg.solve({x} @ {x}.T + 4 * np.eye({x}.shape[0]), {y})
"""

SHAPES = """
{x}.T | np.transpose({x}) | {x}.reshape(-1) | np.ravel({x}) | np.expand_dims({x}, {k}) | {x}[None]
{x}[:, None] | np.squeeze({x}) | np.flip({x}, {k}) | np.roll({x}, 1, axis={k})
np.repeat({x}, 2, axis={k}) | np.tile({x}, 2) | np.pad({x}, 1)
np.broadcast_to({x}, (2, *{x}.shape)) | np.cumsum({x}, axis={k}) | np.sort({x}, axis={k})
np.diag({x}) | np.triu({x}) | np.tril({x}, -1) | np.swapaxes({x}, 0, -1) | np.moveaxis({x}, 0, -1)
np.atleast_2d({x}) | {x}.flatten() | np.repeat({x}, 2) | np.tile({x}, (2, 1)) | np.flip({x})
{x}.copy() | np.copy({x}) | np.cumsum({x}) | np.ravel({x})[::-1] | fg.softmax({x})
fg.log_softmax({x}) | fg.softmax({x}, axis={k})
np.linalg.inv(4.0 * np.eye({x}.shape[0]) + 0.1 * {x}) | np.zeros_like({x}) + {x}
np.ones({x}.shape) * {x} | np.full_like({x}, 0.3) * {x} | {x}.astype(np.float64) | np.asarray({x})
np.rot90({x}) | np.fliplr({x}) | np.hstack([{x}, {x}]) | np.array({x}) | np.trace({x}) * {x}
{x} * {x}.shape[0] | {x} / {x}.size | {x} / len({x}) | {x}[np.argsort({x})]
{x} * np.arange({x}.shape[-1]) | np.take({x}, [0, -1, 0], axis={k}) | {x}.astype(np.float32)
"""

REDUCTIONS = """
np.sum | np.mean | np.max | np.min | np.var | np.std | np.linalg.norm | fg.logsumexp | np.prod
np.ptp | np.average | .sum | .mean | .max | .min | .var | .prod
"""


def split(table: str) -> list[str]:
    """The entries of a table above."""
    return [entry.strip() for line in table.strip().splitlines() for entry in line.split("|")]


TABLES = {
    name: split(table)
    for name, table in (
        ("unary", UNARY), ("binary", BINARY), ("product", PRODUCTS), ("shape", SHAPES),
        ("reduction", REDUCTIONS),
    )
}  # fmt: skip
