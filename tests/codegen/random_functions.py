"""Random functions over numbers and vectors: loops, branches, exits, writes, views, swaps."""

from __future__ import annotations

import random

import numpy as np

from tests.codegen.handmade import FLOAT, INT, VECTOR, Maker

NAMES = ["a", "b", "s", "t", "u"]


class Writer:
    """Appends random statements; `scalars` and `vectors` are the values that may be read."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.m = Maker(x=VECTOR, y=VECTOR, p=FLOAT, q=FLOAT, n=INT)
        x, y, p, q, self.n = self.m.params
        self.vectors, self.scalars, self.ints = [x, y], [p, q], [0, 1, 2]

    def function(self):
        self.statements(6, 0)
        results = self.random.sample(self.vectors, 2) + self.random.sample(self.scalars, 2)
        return self.m.done(*results)

    def pick(self, items):
        """A recent value, most of the time."""
        return items[-1 - min(int(self.random.expovariate(0.5)), len(items) - 1)]

    def statements(self, count, depth):
        for _ in range(self.random.randint(1, count)):
            kinds = [self.scalar, self.vector, self.vector, self.write, self.write, self.view]
            if depth < 3:
                kinds += [self.loop, self.loop, self.branch, self.while_]
            made = self.random.choice(kinds)(depth)
            for one in made if isinstance(made, tuple) else (made,):
                (self.vectors if one.type.ndim else self.scalars).append(one)

    def label(self, symbol):
        if self.random.random() < 0.6:
            symbol.value.name = self.random.choice(NAMES)
            symbol.value.kept = self.random.random() < 0.5
        return symbol

    def scalar(self, depth):
        s, t = self.pick(self.scalars), self.pick(self.scalars)
        a = self.pick(self.vectors)
        form = self.random.randrange(5)
        if form == 0:
            return self.label(s + t * 0.5)
        if form == 1:
            return self.label(np.sin(s))
        if form == 2:
            return self.label(a[self.pick(self.ints)])
        if form == 3:
            return self.label(np.sum(a) * 0.1)
        return self.label(s - t)

    def vector(self, depth):
        a, b, s = self.pick(self.vectors), self.pick(self.vectors), self.pick(self.scalars)
        form = self.random.randrange(5)
        if form == 0:
            return self.label(np.sin(a))
        if form == 1:
            new = a + b * 0.5
            new.value.name, new.value.kept = a.value.name, True
            return new
        if form == 2:
            return self.label(a * s)
        if form == 3:
            return self.label(np.copy(a))
        return self.label(a - b)

    def view(self, depth):
        return self.label(self.pick(self.vectors)[::-1])

    def write(self, depth):
        a, index = self.pick(self.vectors), self.pick(self.ints)
        form = self.random.randrange(3)
        if form == 0:
            return self.label(self.m.set(a, index, self.pick(self.scalars)))
        if form == 1:
            return self.label(self.m.add(a, index, self.pick(self.scalars)))
        return self.label(self.m.set(a, slice(None), self.pick(self.vectors)))

    def inside(self, depth, extra=(), ints=()):
        """Run statements in the current block; the values made inside are forgotten later."""
        saved = list(self.vectors), list(self.scalars), list(self.ints)
        for one in extra:
            (self.vectors if one.type.ndim else self.scalars).append(one)
        self.ints += ints
        self.statements(4, depth + 1)
        return saved

    def forget(self, saved):
        self.vectors, self.scalars, self.ints = saved

    def chosen(self, kinds):
        return [self.pick(self.vectors if kind else self.scalars) for kind in kinds]

    def inits(self):
        kinds = [self.random.random() < 0.6 for _ in range(self.random.randint(1, 3))]
        names = self.random.sample(NAMES, len(kinds))
        return kinds, dict(zip(names, self.chosen(kinds), strict=True))

    def loop(self, depth):
        kinds, inits = self.inits()
        exits = self.random.random() < 0.4
        trips = self.random.choice([0, 1, 2, 3, self.n])

        def body(i, *carried):
            saved = self.inside(depth, carried, [i])
            result = self.ending(kinds, exits, depth)
            self.forget(saved)
            return result

        bounds = (trips - 1, -1, -1) if self.random.random() < 0.3 else (0, trips, 1)
        return self.m.loop(bounds, inits, body, exits=exits)

    def ending(self, kinds, exits, depth):
        if not exits:
            return tuple(self.chosen(kinds))
        test = self.pick(self.scalars) > 0.4
        if self.random.random() < 0.5:
            return (test, *self.chosen(kinds))
        names = [self.random.choice(NAMES) for _ in kinds]
        leaving = self.random.random() < 0.5
        return self.m.if_(
            test,
            ["done", *names],
            lambda: self.branch_body(kinds, depth, leaving),
            lambda: self.branch_body(kinds, depth, not leaving),
        )

    def branch_body(self, kinds, depth, flag=None):
        saved = self.inside(depth) if self.random.random() < 0.7 else None
        result = tuple(self.chosen(kinds))
        if saved:
            self.forget(saved)
        return result if flag is None else (flag, *result)

    def branch(self, depth):
        kinds = [self.random.random() < 0.6 for _ in range(self.random.randint(1, 2))]
        names = self.random.sample(NAMES, len(kinds))
        return self.m.if_(
            self.pick(self.scalars) > 0.0,
            names,
            lambda: self.branch_body(kinds, depth),
            lambda: self.branch_body(kinds, depth),
        )

    def while_(self, depth):
        kinds, inits = self.inits()
        inits["k"] = 0

        def body(*carried):
            *others, k = carried
            saved = self.inside(depth, others)
            result = tuple(self.chosen(kinds))
            self.forget(saved)
            more = k + 1
            if self.random.random() < 0.5:
                self.m.named("k", more)
            return (*result, more)

        def test(*carried):
            if self.random.random() < 0.5:
                return carried[-1] < 3
            count = self.m.named("c", carried[-1] * 1)
            return count + 0 < 2

        return self.m.while_(inits, test, body)[:-1]


def random_function(seed):
    return Writer(seed).function()


def random_arguments(seed):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=4), rng.normal(size=4), *rng.normal(size=2).tolist(), 3]
