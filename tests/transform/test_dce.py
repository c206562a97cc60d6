"""Dead code: what loops carry for nobody goes, what is needed late stays."""

from __future__ import annotations

import pytest

from flatgrad.ir.interpret import interpret
from flatgrad.ir.ops import Block, For, If, While, blocks_of
from flatgrad.ir.verify import verify
from flatgrad.transform.dce import eliminate_dead
from tests.frontend.lowered import lowered


def feeding_each_other(x, n):
    a = b = x
    y = x
    for _ in range(n):
        a, b = b * 2.0, a + 1.0
        y = y * x
    return y


def needed_by_the_other(x, n):
    a = b = x
    for _ in range(n):
        a, b = b * 2.0, b + x
    return a


def needed_by_the_test(x, n):
    k = 0.0
    y = x
    while k < 3.5:
        y = y * x
        k = k + 1.0
    return y


def needed_to_leave(x, n):
    s = 0.0
    y = x
    for _ in range(n):
        s = s + x
        y = y * 2.0
        if s > 2.0:
            break
    return y


def branches(x, n):
    if x > 0.0:
        a, b = x * 2.0, x * 3.0
    else:
        a, b = -x, x - 1.0
    a = a * b
    return b


def carried(block: Block) -> int:
    """How many values the loops and branches in a block have as results."""
    count = 0
    for op in block.ops:
        if isinstance(op, If | For | While):
            count += len(op.results) + sum(carried(inner) for inner in blocks_of(op))
    return count


@pytest.mark.parametrize(
    ("function", "stay"),
    [
        (feeding_each_other, 1),
        (needed_by_the_other, 2),
        (needed_by_the_test, 2),
        (needed_to_leave, 3),  # and the flag of the branch
        (branches, 1),
    ],
)
def test_what_is_needed_stays_and_nothing_else(function, stay):
    fn, dynamic, hidden = lowered(function, (1.3, 4))
    assert not hidden
    left = eliminate_dead(fn)
    verify(left)
    assert carried(left.body) == stay
    arguments = [[1.3, 4][k] for k in dynamic]
    assert interpret(left, arguments) == interpret(fn, arguments)
