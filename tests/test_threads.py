"""Many threads compile and call at once; each gets its own right answer."""

from __future__ import annotations

import gc
import threading

import numpy as np

from flatgrad import grad


def masked(x, k):
    return np.sum(x[x > k] ** 2)


def sliced(x, n):
    return np.sum(x[:n] * x[:n])


def test_threads_compile_at_the_same_time():
    gradients = [grad(masked, "x"), grad(sliced, "x")]
    failures = []
    barrier = threading.Barrier(8)

    def work(seed):
        rng = np.random.default_rng(seed)
        barrier.wait()
        for _ in range(20):
            x = rng.normal(size=rng.integers(2, 9)).astype(rng.choice(["f4", "f8"]))
            got = gradients[0](x, 0.1), gradients[1](x, 2)
            expected = 2 * x * (x > 0.1), np.where(np.arange(x.size) < 2, 2 * x, 0)
            if not all(np.allclose(a, b) for a, b in zip(got, expected, strict=True)):
                failures.append((x, got))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert gc.isenabled()
