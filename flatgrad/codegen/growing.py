"""The helper that a tape of unknown length grows by.

    y_tape = push_1d(y_tape, y, k)            # one entry, on NumPy and Numba alike
    rows_tape = extend_2d(rows_tape, v, k)    # as many entries as `v` is long

The array doubles when it is full, so that a trip costs the same on average however many follow.
"""

from __future__ import annotations

from dataclasses import dataclass

from flatgrad.ir.ops import Apply, substitute


@dataclass(frozen=True, slots=True)
class PushHelper:
    """The name and the text of a helper."""

    name: str
    text: str


def push_helper(op: Apply) -> PushHelper:
    """The helper for a call of `PUSH`, written for the rank of its tape."""
    rank = op.result.type.ndim
    value = substitute(op.arguments["value"], lambda k: op.operands[k].type)
    many = value.ndim == rank
    name = f"{'extend' if many else 'push'}_{rank}d"
    rest = "".join(f", tape.shape[{axis}]" for axis in range(1, rank))
    end = "position + value.shape[0]" if many else "position + 1"
    place = "position:end" if many else "position"
    text = f"""def {name}(tape, value, position):
    end = {end}
    if end > tape.shape[0]:
        longer = np.empty((max(2 * tape.shape[0], end, 16){rest},), tape.dtype)
        longer[:position] = tape[:position]
        tape = longer
    tape[{place}] = value
    return tape
"""
    return PushHelper(name, text)
