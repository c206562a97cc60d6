"""What random programs with loops are made of: helpers and templates.

    {v} * np.tanh({f})     {v}: any expression of that kind, {=v}: a variable, {i}: an index
    $ = {=v}[1:]           $: the variable that is assigned, of the kind given with the template

The kinds are those of `fuzz_loops.Writer`.
"""

from __future__ import annotations

HELPERS = """\
import numpy as np


def scaled(u, c=0.5):
    return u * c + 0.1


def bump(p, u):
    p += u
    return p


def squashed(u, k):
    for _ in range(k):
        u = np.tanh(u) + 0.1 * u
    return u


def horner(p, u):
    s = 0.0
    for q in p:
        s = s * np.sin(u) + q
    return s


def first_above(p, level):
    for i in range(len(p)):
        if p[i] > level:
            return p[i] * level
    return level


def settled(u):
    r = u
    steps = 0
    while abs(r - np.cos(r)) > 0.05 and steps < 4:
        r = 0.5 * (r + np.cos(r))
        steps += 1
    return r * u


def prefix(p):
    q = np.zeros_like(p)
    q[0] = p[0]
    for i in range(1, len(p)):
        q[i] = 0.7 * q[i - 1] + p[i]
    return q


def smoothed(p, k):
    u = p.copy()
    v = p.copy()
    for _ in range(k):
        for i in range(1, len(p) - 1):
            v[i] = u[i] + 0.2 * (u[i - 1] - 2.0 * u[i] + u[i + 1])
        u, v = v, u
    return u


def damp(p, u, k):
    for i in range(len(p)):
        if i > k:
            break
        p[i] *= np.cos(u)


def powered(u, depth):
    if depth == 0:
        return u
    return np.sin(u) * powered(u + 0.1, depth - 1)


def cross(p, q, r):
    for i in range(len(p)):
        for j in range(i + 1):
            r[i, j] += p[i] * q[j]
    return r


"""
"""Functions that the programs call: loops, early returns, writers, a recursion."""


def entries(table: str) -> list[str]:
    """The entries of a table below."""
    return [entry.strip() for line in table.strip().splitlines() for entry in line.split("|")]


FLOATS = """
np.sin({f}) | np.cos({f}) | np.tanh({f}) | np.exp(-{f} * {f}) | np.sqrt(1.5 + {f} * {f}) | -{f}
np.log(2.0 + {f} ** 2) | abs({f}) | {f} ** 2 | 1.0 / (2.0 + np.cos({f})) | np.arctan({f})
{f} + {f} | {f} - {f} | {f} * {f} | {f} * {f} | {f} / (1.5 + {f} * {f}) | max({f}, {f})
min({f}, {f}) | np.maximum({f}, {#}) | np.sum({v}) | {v} @ {v} | np.max({v}) | np.mean({v})
np.sum({m}) | {v}.sum() | np.sum({=v}[: {=i} + 1]) | np.sum({=v}[{=i} :]) | np.min({v})
{=v}[1:] @ {=v}[:-1] | {=v}[{i}] * {=v}[{i}] | {=m}[{i}, {i}] * {f} | {=v}[{i}] | {=m}[{i}, {i}]
scaled({f}) | scaled({f}, c={#}) | squashed({f}, k) | horner({v}, {f}) | first_above({v}, {#})
settled({f}) | powered({f}, 2) | first_above({v}, {f}) | horner({=w}, {f}) | np.sum({=w})
({f} if {f} > {#} else {f}) | np.where({f} > {#}, {f}, {f}) | np.sum({v}[idx]) | {=v}[idx[0]]
{f} + 1 | 2 * {f} | {f} - {=c} | np.trace({m}) | {v}[-1] | np.sum({v} * {v})
"""

VECTORS = """
np.sin({v}) | np.tanh({v}) | {v} * {f} | {v} + {v} | {v} - {v} | {v} * {v} | {v} / (1.5 + {v} ** 2)
{m} @ {v} | {v} @ {m} | {=m}[{i}] | {=m}[:, {i}] | {v}[::-1] | np.where({v} > {#}, {v}, {v})
np.maximum({v}, {#}) | {v}.copy() | np.cumsum({v}) | np.sum({m}, axis=0) | np.zeros_like({v}) + {f}
prefix({v}) | smoothed({v}, k) | {v} + {f} | np.exp(-{v} * {v}) | -{v} | {f} - {v} | {v} ** 2
np.sqrt(1.1 + {v} ** 2) | np.where({v} > {#}, {f}, {v}) | np.abs({v}) | np.diag({m})
"""

MATRICES = """
np.sin({m}) | {m} * {f} | {m}.T | {m} + {m} | np.outer({v}, {v}) | 0.3 * ({m} @ {m}) | np.tanh({m})
{m} - {v} | {m} * {m} | {m} + {v}[:, None] | {m}.copy() | np.zeros((n, n)) + {f}
"""

SLICES = """
{=v}[1:] | {=v}[:-1] | {=v}[::2] | {=v}[: {=i} + 1] | {=v}[{=i} :] | {=v}[idx] | 2.0 * {=w}
np.sin({=w}) | {=w}[::-1] | {=w} * {f} | {=v}[-2:] | {=m}[1:, {i}] | {=m}[{i}, : {=i} + 1]
"""

EXPRESSIONS = {
    "f": entries(FLOATS), "v": entries(VECTORS), "m": entries(MATRICES), "w": entries(SLICES),
    "c": ["{=c}", "{=c} + 1", "({=c} + {=c}) % 5", "{=i}", "{=i} + {=c}"],
}  # fmt: skip

CONDITIONS = entries("""
{f} > {#} | {f} < {#} | {f} > {f} | {=f} > {#} | {=v}[{i}] > {#} | {=v}[{i}] < {=v}[{i}]
{=i} % 2 == 0 | k > 1 | {=c} < 2 | {=i} > {=i} | {=i} != 1 | {f} > {#} and {f} < {f}
{f} > {#} or k > 0 | not {f} > {#} | {#} < {f} < 1.2 | np.any({=v} > 1.0) | {=b} | {=b} and {f} > {#}
np.sum({=v}) > {#} | {f} * {f} > {+} | {=m}[{i}, {i}] > {#} | {=c} + {=i} > 2 | {=w}[0] > {#}
""")

STATEMENTS: list[tuple[str, str]] = [
    *[(kind, "$ = {" + kind + "}") for kind in ("f", "f", "f", "f", "v", "v", "v", "m")],
    ("w", "$ = {w}"), ("b", "$ = {b}"), ("c", "$ = {c}"), ("i", "$ = int(np.argmax({v}))"),
    ("i", "$ = ({=i} + 1) % n"), ("", "{=f} += {f}"), ("", "{=f} *= {f}"), ("", "{=f} -= {f}"),
    ("", "{=v} += {f}"), ("", "{=v} *= {f}"), ("", "{=v} += {v}"), ("", "{=v} *= {v}"),
    ("", "{=v} -= {v}"), ("", "{=v} /= 2.0 + np.cos({v})"), ("", "{=m} *= {f}"),
    ("", "{=m} += {v}"), ("", "{=w} *= {f}"), ("", "{=w} += {f}"),
    *[("", "{=v}[{i}] = {f}")] * 4, *[("", "{=v}[{i}] += {f}")] * 3, ("", "{=v}[{i}] *= {f}"),
    ("", "{=m}[{i}, {i}] = {f}"), ("", "{=m}[{i}, {i}] += {f}"), ("", "{=m}[{i}] = {v}"),
    ("", "{=m}[{i}] += {v}"), ("", "{=m}[:, {i}] = {v}"), ("", "{=m}[{i}] *= {f}"),
    ("", "{=v}[1:] = {=v}[:-1] * {f}"), ("", "{=v}[:] = {v}"), ("", "{=v}[1:] += {=v}[:-1]"),
    ("", "{=v}[: {=i} + 1] *= {f}"), ("", "{=v}[{=i} :] = {f}"), ("", "{=v}[::2] += {f}"),
    ("", "{=v}[{=v} > {#}] *= {f}"), ("", "{=v}[{=v} > {#}] = {f}"), ("", "{=v}[idx] += {f}"),
    ("", "{=v}[idx] = {f}"), ("", "np.add.at({=v}, idx, {f})"), ("", "{=m}[1:] = {=m}[:-1]"),
    ("", "{=m} += {=m}.T"), ("", "{=w}[0] = {f}"), ("", "{=w}[-1] += {f}"), ("", "{=w}[:] = {f}"),
    ("v", "$ = {=v}"), ("v", "$ = {=v}"), ("m", "$ = {=m}"), ("w", "$ = {=v}[1:]"),
    ("w", "$ = {=v}[:-1]"), ("v", "$ = {=m}[{i}]"), ("v", "$ = {=m}[:, {i}]"),
    ("v", "$ = {=v}[::-1]"), ("m", "$ = {=m}.T"), ("w", "$ = {=v}[::2]"), ("v", "$ = {=v}.copy()"),
    ("v", "$ = np.zeros(n)"), ("v", "$ = np.zeros_like({=v})"), ("m", "$ = np.zeros((n, n))"),
    ("v", "$ = np.ones(n)"), ("v", "$ = {=v}[:]"),
    ("vv", "$, $ = {=v}, {v}"), ("ff", "$, $ = {f}, {f}"), ("fv", "$, $ = {f}, {v}"),
    ("", "{=f}, {=f} = {=f}, {=f}"), ("", "{=v}[0], {=v}[-1] = {=v}[-1], {=v}[0]"),
    ("v", "$ = bump({=v}, {f})"), ("", "bump({=v}, {v})"), ("", "bump({=w}, {f})"),
    ("", "damp({=v}, {f}, k)"), ("", "cross({v}, {v}, {=m})"), ("m", "$ = cross({v}, {v}, {=m})"),
    ("f", "$ = {f} if {b} else {f}"), ("v", "$ = {=v} if {b} else {=v}"),
    ("", "parts = [{f}, {f}]\nparts[0] = parts[1] * {f}\n{=v}[0] = parts[0]"),
    ("f", "pair = ({f}, {v})\n$ = pair[0] + pair[1][{i}]"),
]  # fmt: skip
"""What is assigned, and the statement."""

TRIPS: list[tuple[str, str]] = [
    ("$ in range(k)", "c"), ("$ in range(k)", "c"), ("$ in range(n)", "i"), ("$ in range(n)", "i"),
    ("$ in range(1, n)", "i"), ("$ in range(n - 1)", "i"), ("$ in range(n - 1, -1, -1)", "i"),
    ("$ in range(0, n, 2)", "i"), ("$ in range({=i})", "i"), ("$ in range({=i} + 1)", "i"),
    ("$ in range({=i}, n)", "i"), ("$ in range({=c} % 4)", "c"), ("$ in range(2)", "i"),
    ("$ in range({=i} - 1, -1, -1)", "i"), ("$ in reversed(range(n))", "i"),
    ("$ in range(n - k, n)", "c"), ("$ in range(k, 0, -1)", "c"), ("$ in range(0)", "i"),
    ("$ in {=v}", "f"), ("$, $ in enumerate({=v})", "if"), ("$, $ in zip({=v}, {=v})", "ff"),
    ("$ in {=w}", "f"), ("$ in {=m}", "v"), ("$, $ in enumerate({=m})", "iv"),
    ("$, $ in zip(range(n), {=m})", "iv"), ("$ in range(n * k)", "c"),
]  # fmt: skip
"""What a loop runs over, and what its variables are."""
