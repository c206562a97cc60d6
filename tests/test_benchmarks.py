"""The workloads of the benchmarks, tiny: whoever is measured computes the same."""

import os
import subprocess
import sys
from pathlib import Path

from benchmarks.workloads import ALL


def test_contestants_agree():
    """As plain Python: compiling all of them takes minutes."""
    command = [sys.executable, "-m", "benchmarks", "--check", "--ours"]
    done = subprocess.run(
        command, env={**os.environ, "NUMBA_DISABLE_JIT": "1"}, capture_output=True, text=True,
        cwd=Path(__file__).parent.parent,
    )
    assert done.returncode == 0, done.stderr
    agreeing = done.stdout.splitlines()
    assert len(agreeing) == len({(each.by_hand, each.tiny) for each in ALL})
    assert all("by hand, flatgrad" in line for line in agreeing)
