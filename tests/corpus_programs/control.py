"""Branches, exits, early returns, conditions of every kind."""

from __future__ import annotations

import numpy as np

from tests.corpus_programs.registry import example, normal


@example(0.4, -0.9)
def branches_and_conditional_expressions(x, y):
    if x > 0 and y < 0:
        z = x * y
    elif x > 0 or y > 1:
        z = x - y
    else:
        z = 0.0
    w = z if -1 < z < 0.5 else z * z
    return w * x + (y if not x < 0 else 1)


@example(normal(5), 0.8)
def early_return_in_loop(x, level):
    total = 0.0
    for i in range(len(x)):
        total += x[i] * x[i]
        if total > level:
            return total * i + np.sin(x[i])
    return total


@example(np.array([0.3, 0.8, -0.5, 0.9]), 0.7, 5.0)
def early_return_in_nested_loops(x, a, limit):
    s = 0.0
    for i in range(len(x)):
        for j in range(len(x)):
            s += np.sin(x[i] * a) * x[j]
            if s > limit:
                return s * x[i]
        s = s * 0.5 + 1.0
    return s * a


@example(normal(6), 0.6)
def for_else_with_break(x, level):
    found = 0.0
    for i in range(len(x)):
        if x[i] > level:
            found = x[i] * 2
            break
    else:
        found = np.sum(x)
    return found * level


@example(2.0, 0.7)
def while_else(x, r):
    k = 0
    while k < 4:
        x = x * r
        if x < 0.1:
            break
        k += 1
    else:
        x = x + 10 * r
    return x * x


@example(normal(6), 0.2)
def continue_in_loop(x, threshold):
    s = 1.0
    for i in range(len(x)):
        if abs(x[i]) < threshold:
            continue
        s = s * (1 + 0.1 * x[i])
    return s


@example(normal(4, 5))
def break_of_inner_loop(m):
    total = 0.0
    for i in range(m.shape[0]):
        row = 0.0
        for j in range(m.shape[1]):
            if m[i, j] < -1.0:
                break
            row += np.exp(0.3 * m[i, j])
        total += row * row
    return total


@example(normal(6))
def while_true_with_two_exits(x):
    i = 0
    s = 0.0
    while True:
        s += x[i] ** 2
        if s > 3.0:
            s = s * 0.5
            break
        i += 1
        if i == len(x):
            break
    return s * (i + 1)


@example(normal(6), 2)
def condition_on_an_argument(x, k):
    if k == 0:
        return np.sum(x)
    if k == 1:
        return np.sum(x * x)
    return np.sum(x**3)


@example(normal(5))
def branch_per_element(x):
    y = np.zeros_like(x)
    for i in range(len(x)):
        if x[i] > 0:
            y[i] = np.sqrt(x[i])
        elif x[i] > -0.5:
            y[i] = x[i] ** 2
        else:
            y[i] = np.exp(x[i])
    return np.sum(y * y)


@example(normal(5))
def pole_in_the_branch_not_taken(x):
    s = 0.0
    for v in x:
        if v > 0.0:
            s += np.log(v)
        else:
            s += v
    return s + np.sum(np.where(x > 0, np.sqrt(np.where(x > 0, x, 1.0)), 0.0))


@example(normal(5))
def largest_and_its_place(x):
    best = x[0]
    place = 0
    for i in range(1, len(x)):
        if x[i] > best:
            best = x[i]
            place = i
    return best * best + place * x[place - 1]


@example(0.3, 0.5)
def state_machine(x, r):
    state = 0
    s = x
    for _ in range(9):
        if state == 0:
            s = s + r
            if s > 1:
                state = 1
        elif state == 1:
            s = s * 0.6
            if s < 0.7:
                state = 2
        else:
            s = np.sin(s) + r
            state = 0
    return s


@example(normal(4))
def flag_that_stops_work(x):
    done = False
    s = 0.0
    for v in x:
        if not done:
            s += v * v
            done = s > 1.0
        else:
            s += 0.1 * v
    return s


@example(1.5, 4)
def number_then_float(x, n):
    s = 0
    for i in range(n):
        s = s + x * i
    return s


@example(normal(5), None)
def assertions_and_none(x, bias=None):
    assert x.ndim == 1
    s = np.sum(x * x)
    if bias is not None:
        s = s + bias
    return s


@example(0.9)
def ackermann_like_while_in_while(x):
    i = 0
    s = x
    while i < 4:
        j = i
        while j > 0 and s < 5.0:
            s = s + x * np.sin(s)
            j -= 1
        i += 1
    return s


@example(normal(3), normal(3))
def chained_comparisons_of_elements(a, b):
    s = 0.0
    for i in range(3):
        for j in range(3):
            if -1.0 < a[i] <= b[j] < 1.5:
                s += a[i] * b[j]
            elif a[i] != b[j] and i >= j:
                s += a[i] - b[j]
    return s
