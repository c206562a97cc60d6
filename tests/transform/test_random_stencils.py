"""A few random loops over elements; `random_stencils` runs them by the hundred."""

from __future__ import annotations

import numpy as np
import pytest

from tests.transform.random_stencils import outcome

GATHERED = [61, 86, 105, 119, 120, 122]
"""Seeds whose programs add to neighbours in loops that can be taken apart."""


@pytest.mark.parametrize("seed", [*range(24), *GATHERED])
def test_numba_text_agrees_with_numpy(seed, tmp_path):
    with np.errstate(all="ignore"):
        assert outcome(seed, tmp_path) in ("ok", "rows", "parts", "raises", "refused")


def test_the_programs_reach_what_they_are_for(tmp_path):
    with np.errstate(all="ignore"):
        assert outcome(GATHERED[0], tmp_path) == "rows"
