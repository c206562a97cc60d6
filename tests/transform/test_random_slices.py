"""A few random programs with slices; `random_slices` runs them by the hundred."""

from __future__ import annotations

import numpy as np
import pytest

from tests.transform.random_slices import outcome

FOUND = [2014]
"""Seeds whose programs were wrong."""


@pytest.mark.parametrize("seed", [*range(30), *FOUND])
def test_numba_text_agrees_with_numpy_and_with_differences(seed, tmp_path):
    with np.errstate(all="ignore"):
        found = outcome(seed, tmp_path)
    assert not found.startswith("seed"), found


def test_the_programs_reach_what_they_are_for(tmp_path):
    with np.errstate(all="ignore"):
        found = {outcome(seed, tmp_path) for seed in range(12)}
    assert {"joined", "second", "nest"} <= found
