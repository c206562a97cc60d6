"""Every function of the corpus, in every mode, on both backends.

Numba's text runs as plain Python for all of them. Compiled are the gradients of a few; those of all
functions, and all modes, with the environment variable FLATGRAD_TEST=full (it takes an hour).
"""

from __future__ import annotations

import os

import numpy as np
import pytest

from tests.corpus import EXAMPLES
from tests.corpus_checks import MODES, SECOND, agree, check, check_stacks, derived, pulled_back

FULL = os.environ.get("FLATGRAD_TEST") == "full"

COMPILED = (
    "alias_written", "attention_with_heads", "buffers_swapped_in_loop", "cholesky_logdet", "early_return_in_loop",
    "heat_two_buffers", "mask_writes", "mixture_of_gaussians", "newton_schulz_inverse",
    "newton_until_converged", "run_time_loop_with_state",
)  # fmt: skip


def modes_of(name: str) -> tuple[str, ...]:
    """The modes that a function is taken through."""
    return MODES if EXAMPLES[name].second else tuple(m for m in MODES if m not in SECOND)


def test_there_are_enough():
    assert len(EXAMPLES) >= 120


@pytest.mark.parametrize("name", EXAMPLES)
def test_modes(name):
    with np.errstate(all="ignore"):
        for mode in modes_of(name):
            check(name, mode)


@pytest.mark.parametrize("name", EXAMPLES)
def test_stacks(name):
    with np.errstate(all="ignore"):
        check_stacks(name)


CHOSEN = [
    (mode, name)
    for mode in (MODES if FULL else ("grad",))
    for name in (EXAMPLES if FULL else COMPILED)
    if mode in modes_of(name)
]


@pytest.mark.slow
@pytest.mark.parametrize("mode, name", CHOSEN)
def test_compiled(mode, name):
    found = EXAMPLES[name]
    if mode == "grad_of_grad" and found.writes:
        agree(pulled_back(found, "numba"), pulled_back(found))
        return
    function, arguments = derived(found, mode)
    compiled, again = derived(found, mode, "numba")
    agree(compiled(*again), function(*arguments))
