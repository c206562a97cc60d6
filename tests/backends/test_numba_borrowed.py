"""Parts of arrays are not counted where the array is alive anyway, and only there."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import numba
import numpy as np
import pytest
from numba.core.runtime import _nrt_python, rtsys

from flatgrad.backends import numba_cpu

if numba_cpu.RELEASE not in numba_cpu.TUNED:
    pytest.skip("other releases of Numba have their own passes", allow_module_level=True)

from flatgrad.backends import numba_borrowed
from flatgrad.backends.numba_compiler import FastCompiler

X = np.arange(12.0).reshape(3, 4)


def parts_of_arguments(x):
    row = x[1]
    part = row[1:]
    total = 0.0
    for i in range(part.shape[0]):
        if i > 0:
            part = x[2, i - 1 :]
        total += part[0] * row[i]
    return total


def parts_in_a_block(x):
    y = np.zeros(x.shape)
    total = 0.0
    for i in range(y.shape[0]):
        row = y[i]
        half = row[:2]
        half[1] = x[i, 0]
        total += row[1]
    return total


def longer_than_the_array(x):
    y = np.zeros((3, 4))
    y[1, 2] = 3.0
    row = y[1]
    z = np.zeros((3, 4))
    for i in range(row.shape[0]):
        z[0, i] = row[i]
    return z[0, 2] + x[0, 0]


def longer_than_the_variable(x):
    y = np.zeros((3, 4))
    total = 0.0
    for i in range(x.shape[0]):
        row = y[i]
        y = np.zeros((3, 4))
        y[i, 1] = 7.0
        y[2, 0] = x[i, 0]
        total += row[0]
    return total


def rows_at_indices(x):
    places = np.empty(2, np.int64)
    places[0], places[1] = 2, 0
    rows = x[places]
    rows[0, 0] = 9.0
    return rows[0, 0] + x[2, 0]


def this_or_a_new_one(x):
    row = x[0]
    total = 0.0
    for i in range(x.shape[0]):
        total += row[0]
        row = np.zeros(4) if i > 0 else x[i]
    return total


def handed_on(x):
    return x[1:], x[1, ::2], x


def of_a_tuple(x):
    pair = x[0], np.zeros((3, 4))
    first, second = pair
    return first[1] + pair[1][1][0] + second[2][3]


@contextmanager
def memory_given_back() -> Iterator[None]:
    """As much memory is given back as is taken."""
    _nrt_python.memsys_enable_stats()
    try:
        before = rtsys.get_allocation_stats()
        yield
        gc.collect()
        after = rtsys.get_allocation_stats()
    finally:
        _nrt_python.memsys_disable_stats()
    assert after.mi_alloc - before.mi_alloc == after.mi_free - before.mi_free > 0


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (parts_of_arguments, {"x", "row", "part"}),
        (parts_in_a_block, {"x", "row", "half"}),
        (longer_than_the_array, {"x"}),
        (longer_than_the_variable, {"x"}),
        (rows_at_indices, {"x"}),
        (this_or_a_new_one, {"x"}),
        (handed_on, {"x"}),
        (of_a_tuple, {"x"}),
    ],
)
def test_who_borrows(function, names, monkeypatch):
    """An array that is counted too rarely is given back while it is read, one too often never."""
    found: set[str] = set()
    search = numba_borrowed.borrowed_names

    def recording(blocks, kinds):
        borrowed = search(blocks, kinds)
        arrays = {name for name, kind in kinds.items() if isinstance(kind, numba.types.Array)}
        counted = {name.split(".")[0] for name in arrays - borrowed}
        found.update(name for name in borrowed if name.isalpha() and name not in counted)
        return borrowed

    monkeypatch.setattr(numba_borrowed, "borrowed_names", recording)
    compiled = numba.njit(error_model="numpy")(function)
    compiled._compiler.pipeline_class = FastCompiler
    expected = function(X)
    np.testing.assert_equal(compiled(X), expected)
    assert found == names
    with memory_given_back():
        for _ in range(20):
            results = compiled(X.copy())
            others = [np.full(n, np.nan) for n in (2, 3, 4, 8, 9, 12) for _ in range(5)]
            np.testing.assert_equal(results, expected)
            del results, others
    if function is parts_of_arguments:
        (kinds,) = compiled.signatures
        own = compiled.inspect_llvm(kinds).split("define")[1]
        assert "parts_of_arguments" in own.splitlines()[0]
        assert "NRT_" not in own


def is_large(x):
    row = x[0]
    if row[0] > 5.0:
        raise ValueError("large")
    return row[1]


def test_errors_keep_no_memory():
    compiled = numba.njit(error_model="numpy")(is_large)
    compiled._compiler.pipeline_class = FastCompiler
    assert compiled(X) == 1.0
    with memory_given_back():
        for _ in range(5):
            with pytest.raises(ValueError, match="large"):
                compiled(X + 6.0)
