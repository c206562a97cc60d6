"""Memory of temporaries that calls with `out=` keep, alone and in compiled programs."""

from __future__ import annotations

import ctypes
import random
import subprocess
import sys
import threading

import numpy as np
import pytest
from numba.core.runtime import _nrt_python, rtsys  # type: ignore[attr-defined]

import flatgrad
from flatgrad import value_and_grad
from flatgrad.backends import numba_workspace
from flatgrad.backends.numba_workspace import kept


@pytest.fixture
def arrays():
    """Functions that allocate and release; what is free from tests before is dropped."""
    numba_workspace.provide_workspace()
    numba_workspace.drop()
    return Arrays()


class Arrays:
    """Numba's functions, with the allocator of the workspace."""

    def __init__(self):
        functions = _nrt_python.c_helpers
        word, pointer = ctypes.c_size_t, ctypes.c_void_p
        self.allocate, self.modest = (
            ctypes.CFUNCTYPE(pointer, word, ctypes.c_uint32)(
                numba_workspace.llvm.address_of_symbol(name)
            )
            for name in (numba_workspace.OURS, numba_workspace.OURS_MODEST)
        )
        self.data = ctypes.CFUNCTYPE(pointer, pointer)(functions["MemInfo_data"])
        self.release = ctypes.CFUNCTYPE(None, pointer)(functions["MemInfo_release"])

    def new(self, size):
        """A header, and its bytes as an array."""
        header = self.allocate(size, 32)
        data = self.data(header)
        assert data % 64 == 0
        return header, np.frombuffer((ctypes.c_char * size).from_address(data), np.uint8)


def used():
    return kept().held - kept().free


def test_blocks_are_taken_again(arrays):
    before = kept()
    for _ in range(3):
        headers = [arrays.new(size)[0] for size in (0, 1, 80, 4000, 5000, 1 << 20)]
        assert len({*headers}) == len(headers)
        for header in headers:
            arrays.release(header)
    after = kept()
    assert after.taken - before.taken == 18
    assert after.asked - before.asked == 6
    assert after.held == after.free + used() >= 1 << 20


def test_a_smaller_array_takes_a_block_up_to_twice_as_large(arrays):
    header, _ = arrays.new(1_000_000)
    arrays.release(header)
    asked = kept().asked
    again, _ = arrays.new(700_000)
    assert again == header
    other, _ = arrays.new(700_000)
    assert other != header
    assert kept().asked == asked + 1
    arrays.release(again)
    small, _ = arrays.new(400_000)
    assert small != again
    arrays.release(other)
    arrays.release(small)


def test_not_more_is_kept_than_twice_what_was_in_use(arrays):
    """Lengths that grow and shrink, as in batches of unlike sequences."""
    for size in (*range(1000, 60_000, 777), *range(60_000, 1000, -999)):
        header, _ = arrays.new(size)
        arrays.release(header)
        assert kept().held <= 2 * kept().most
    assert kept().most < used() + 80_000
    numba_workspace.drop()
    assert kept().free == 0
    assert kept().most == kept().held


def test_of_large_arrays_in_blocks_nothing_is_kept(arrays):
    before = kept()
    arrays.release(arrays.modest(numba_workspace.MODEST - 1000, 32))
    assert (kept().taken, kept().asked) == (before.taken + 1, before.asked + 1)
    assert kept().free >= numba_workspace.MODEST - 1000
    held = kept().held
    arrays.release(arrays.modest(numba_workspace.MODEST, 32))
    assert (kept().taken, kept().held) == (before.taken + 1, held)
    again = arrays.new(numba_workspace.MODEST - 2000)[0]  # one store for both
    assert (kept().taken, kept().asked) == (before.taken + 2, before.asked + 1)
    arrays.release(again)


def test_several_threads_have_their_own(arrays):
    """Each array keeps what was written into it; calls through ctypes run side by side."""
    before, wrong = used(), []

    def run(seed):
        rng = random.Random(seed)
        live = []
        for _ in range(3000):
            if live and rng.random() < 0.5:
                header, data, mark = live.pop(rng.randrange(len(live)))
                if not (data == mark).all():
                    wrong.append(seed)
                arrays.release(header)
            else:
                header, data = arrays.new(rng.choice([8, 100, 300, 1000, 3000]))
                mark = rng.randrange(256)
                data[:] = mark
                live.append((header, data, mark))
        for header, _, _ in live:
            arrays.release(header)

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert used() == before
    assert kept().held <= 2 * kept().most


def test_what_cannot_be_had(arrays):
    for size in (1 << 46, 1 << 62):
        assert arrays.allocate(size, 32) is None
    header, data = arrays.new(100)
    data[:] = 1
    arrays.release(header)


def states(w, b, xs):
    h = np.zeros(b.shape)
    tape = np.empty((xs.shape[0], b.shape[0]))
    for t in range(xs.shape[0]):
        h = np.tanh(w * h + b * xs[t])
        if h[0] > 0.99:
            raise ValueError("saturated")
        tape[t] = h
    return np.sum(tape * tape), tape


def arguments(steps, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=6) / 4, rng.uniform(0.1, 0.5, size=6), rng.normal(size=steps)


def empty_places():
    return np.empty(6), np.empty(6)


ordinary = value_and_grad(states, ("w", "b"), has_aux=True)
step = value_and_grad(states, ("w", "b"), backend="numba", has_aux=True)


def test_no_memory_is_asked_for_in_a_training_loop():
    """Numba counts its allocations: a header for each argument, and what the workspace hands out."""
    args, places = arguments(50), empty_places()
    (_, tape), grads = ordinary(*args)
    step(*args)  # has functions with the same text
    step(*args, out=places)
    _nrt_python.memsys_enable_stats()
    try:
        for k in range(5):
            stats, before = rtsys.get_allocation_stats(), kept()
            (_, again), found = step(*args, out=places)
            now, after = rtsys.get_allocation_stats(), kept()
            assert after.asked - before.asked == (k == 1)  # while `again` of the last call is held
            taken = after.taken - before.taken
            assert taken > 50
            assert now.alloc - stats.alloc == taken + len(args) + len(places)
            np.testing.assert_allclose(again, tape, rtol=1e-10, atol=1e-13)
            for one, place, expected in zip(found, places, grads, strict=True):
                assert one is place
                np.testing.assert_allclose(place, expected, rtol=1e-10, atol=1e-13)
        before = kept()
        step(*args)
        assert kept().taken == before.taken
    finally:
        _nrt_python.memsys_disable_stats()


def test_what_is_returned_is_nobody_elses():
    """Arrays that calls return stay as they are, whatever runs afterwards."""
    places = empty_places()
    calls = [arguments(n, seed) for seed, n in enumerate((50, 7, 50, 300, 0, 50, 299))]
    held = [step(*args, out=places)[0][1] for args in calls for _ in range(2)]
    for k, tape in enumerate(held):
        (_, expected), _ = ordinary(*calls[k // 2])
        np.testing.assert_allclose(tape, expected, rtol=1e-10, atol=1e-13)
        assert not any(np.shares_memory(tape, other) for other in (*held[:k], *places))
    del held, tape
    flatgrad.release_workspace()
    assert kept().free == 0


def test_errors_and_threads():
    args = arguments(50)
    expected = ordinary(*args)[1]
    bad = (*args[:2], np.full(50, 1e9))
    right = []

    def run():
        places = empty_places()
        for k in range(50):
            if k % 10 == 3:
                with pytest.raises(ValueError, match="saturated"):
                    step(*bad, out=places)
            step(*args, out=places)
            pairs = zip(places, expected, strict=True)
            right.append(all(np.allclose(*pair, rtol=1e-10, atol=1e-13) for pair in pairs))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert right == [True] * 200


SCRIPT = """
import sys

import numpy as np

from tests.backends.test_numba_workspace import arguments, states
from flatgrad import release_workspace, value_and_grad

release_workspace()
step = value_and_grad(states, ("w", "b"), backend="numba", has_aux=True)
places = np.empty(6), np.empty(6)
(_, tape), _ = step(*arguments(50), out=places)
from flatgrad.backends.numba_workspace import kept
assert kept().taken > 0
assert "flatgrad.backends.numba_compiler" not in sys.modules
"""


def test_code_from_the_disk():
    """In a new process, in which an array outlives the functions."""
    step(*arguments(50), out=empty_places())
    assert subprocess.run([sys.executable, "-c", SCRIPT], check=False).returncode == 0
