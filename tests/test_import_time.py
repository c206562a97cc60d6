"""`import flatgrad` is quick: what is heavy waits until something needs it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

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


NUMBERS = "def f(x, w):\n    return x * w + np.tanh(x)"
ARRAYS = "def f(x, w):\n    return np.sum(x * w)"


@pytest.mark.parametrize(
    ("program", "options", "passes"),
    [
        (f"{ARRAYS}\nfg.grad(f)(np.ones(3), 2.0)", "backend='numpy'", False),
        (f"{NUMBERS}\nfg.grad(f)(1.0, 2.0)", "backend='numba'", False),
        (f"{ARRAYS}\nfg.grad(f)(np.ones(3), 2.0)", "backend='numba'", True),
    ],
)
def test_passes_for_compiled_code_are_imported_where_they_work(program, options, passes, tmp_path):
    program = program.replace("fg.grad(f)", f"fg.grad(f, {options}).source")
    path = tmp_path / "program.py"
    path.write_text(
        f"import sys\nimport numpy as np\nimport flatgrad as fg\n{program}\nprint(*sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, path], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    modules = run.stdout.split()
    assert ("flatgrad.compiled_passes" in modules) is passes
    assert ("flatgrad.transform.fuse" in modules) is passes
