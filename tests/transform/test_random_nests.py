"""A few random nests; `random_nests` runs them by the hundred."""

from __future__ import annotations

import numpy as np
import pytest

from tests.transform.random_nests import outcome

IN_STRIPS = [5, 13]
"""Seeds of programs that can be done in strips."""


@pytest.mark.parametrize("seed", range(16))
def test_numba_text_agrees_with_numpy(seed, tmp_path):
    with np.errstate(all="ignore"):
        assert outcome(seed, tmp_path) in ("ok", "strips", "raises", "refused")


def test_the_programs_reach_what_they_are_for(tmp_path):
    with np.errstate(all="ignore"):
        assert [outcome(seed, tmp_path) for seed in IN_STRIPS] == ["strips"] * len(IN_STRIPS)
