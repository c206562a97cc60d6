"""`import flatgrad` is quick: what is heavy waits until something needs it."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
LIMIT = 0.100  # seconds, beyond the import of NumPy
LAZY = {"astor", "numba", "scipy", "scipy.stats"}

PROBE = """
import sys, time
import numpy
start = time.perf_counter()
import flatgrad
print(time.perf_counter() - start)
print(*sys.modules)
"""


def import_in_fresh_process() -> tuple[float, set[str]]:
    """Seconds that the import took, and the modules loaded after it."""
    probe = subprocess.run(
        [sys.executable, "-c", PROBE], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    )
    seconds, modules = probe.stdout.splitlines()
    return float(seconds), set(modules.split())


def test_heavy_modules_are_not_imported():
    _, modules = import_in_fresh_process()
    assert "flatgrad" in modules
    assert not modules & LAZY


def test_import_takes_under_100_ms():
    # The quickest of five: the first run may still write bytecode, others may share the machine.
    times = [import_in_fresh_process()[0] for _ in range(5)]
    assert min(times) < LIMIT, f"seconds: {times}"
