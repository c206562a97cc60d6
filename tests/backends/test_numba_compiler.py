"""flatgrad's passes for Numba: the same values and errors as Numba's own, with less work."""

from __future__ import annotations

import contextlib
import inspect
import itertools
import math
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numba
import numpy as np
import pytest
from numba.core import compiler, ir
from numba.core.codegen import JITCodeLibrary
from numba.core.runtime import _nrt_python, rtsys
from numba.core.typing.context import Context

from flatgrad import value_and_grad
from flatgrad.backends import numba_cpu

if numba_cpu.RELEASE not in numba_cpu.TUNED:
    pytest.skip("other releases of Numba have their own passes", allow_module_level=True)

from flatgrad.backends import numba_compiler, numba_variables
from flatgrad.backends.numba_compiler import FastCompiler

ROOT = Path(__file__).parents[2]


def fast(function):
    """The function, compiled by the passes for generated code."""
    dispatcher = numba.njit(error_model="numpy")(function)
    dispatcher._compiler.pipeline_class = FastCompiler
    return dispatcher


# --- allocation


def empties(n, m):
    return np.empty((n, m)), np.empty(n, np.float32), np.empty((m, n, 2), dtype=np.bool_)


def zeros(n, m):
    return np.zeros((n, m)), np.zeros(n, np.int64), np.zeros(shape=(m, n), dtype=np.float32)


def ones_in(n, m):
    a = np.zeros((n, m), dtype=np.bool_)
    a[:, 0] = True
    return a, np.zeros_like(a.T), np.zeros_like(a[::2])


@pytest.mark.parametrize("function", [empties, zeros, ones_in])
def test_arrays_are_allocated(function):
    for got, expected in zip(fast(function)(3, 2), function(3, 2), strict=True):
        assert (got.shape, got.dtype) == (expected.shape, expected.dtype)
        assert got.flags.c_contiguous == expected.flags.c_contiguous
        assert got.flags.owndata or got.base is not None
        if function is not empties:
            np.testing.assert_array_equal(got, expected)


def test_arrays_begin_with_a_cache_line():
    """A vector of a row would else lie in two: each is read in two steps."""
    function = fast(empties)
    kept = [array for n in range(1, 40) for array in function(n, 3)]
    assert {array.ctypes.data % numba_compiler.CACHE_LINE for array in kept} == {0}


def outers(u, v, w):
    return np.outer(u, v), np.outer(v[::2], u[::-1]), np.outer(w, w), np.outer(u[:0], v)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux has the pages")
def test_large_arrays_are_asked_for_in_large_pages():
    """The system notes it with the memory: the flag "hg"."""
    pages = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if not pages.exists() or not Path("/proc/self/smaps").exists():
        pytest.skip("this Linux has no such pages")
    array = fast(lambda n: np.zeros(n))(3 << 20)
    assert not array.any()
    middle = array.ctypes.data + array.nbytes // 2
    found = []
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first, _, last = line.partition(" ")[0].partition("-")
        if last:
            inside = int(first, 16) <= middle < int(last, 16)
        elif inside and line.startswith("VmFlags"):
            found += line.split()
    assert "hg" in found


def test_outer_products():
    for n, m in ((3, 5), (1, 1), (17, 4)):
        rng = np.random.default_rng(n)
        u, v = rng.normal(size=n), rng.normal(size=m)
        u[0], v[0] = np.inf, -0.0
        w = rng.normal(size=m).astype(np.float32)
        with np.errstate(invalid="ignore"):
            expected = outers(u, v, w)
        for got, one in zip(fast(outers)(u, v, w), expected, strict=True):
            assert got.dtype == one.dtype
            assert got.flags.c_contiguous
            np.testing.assert_array_equal(got, one)


def test_memory_is_given_back():
    def f(n):
        total = 0.0
        for _ in range(100):
            a = np.zeros((n, 3))
            total += np.broadcast_to(2.5, (n,)).sum() + (a @ np.zeros((3, n))).sum()
            total += np.transpose(a.reshape(n, 3, 1), (2, 0, 1)).sum() + np.arange(n).sum()
            total += np.outer(a[0], a[1]).sum()
        return total

    compiled = fast(f)
    compiled(4)
    _nrt_python.memsys_enable_stats()
    try:
        before = rtsys.get_allocation_stats()
        assert compiled(4) == 100 * (10.0 + 6)
        after = rtsys.get_allocation_stats()
    finally:
        _nrt_python.memsys_disable_stats()
    assert after.alloc - before.alloc == after.free - before.free > 0


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda n: np.empty((2, n - 9)), "negative dimensions"),
        (lambda n: np.empty((n << 40, n << 40)), "too big"),
        (lambda n: np.broadcast_to(1.0, (n, -n)), "non-negative"),
        (lambda n: np.broadcast_to(np.zeros(n), (2, n + 1)), "could not be broadcast"),
        (lambda n: np.transpose(np.zeros((n, n)), (0, n)), "axes don't match"),
        (lambda n: np.zeros((n, 2)) @ np.zeros((3, n)), "incompatible array sizes"),
        (lambda n: np.zeros(n) @ np.zeros((3, n)), "vector . matrix"),
        (lambda n: np.dot(np.zeros(n), np.zeros(n + 1)), "vector . vector"),
    ],
)
def test_errors_are_numbas(function, message):
    with pytest.raises(ValueError, match=message):
        fast(function)(4)


# --- numbers


def test_numbers():
    def f(x, n, m, a):
        bits = np.float64(x).view(np.int64)
        single = np.float32(x).view(np.int32)
        return (
            min(n, m), max(n, m, 3), bits, np.int64(bits + 1).view(np.float64),
            single, np.sum(a), np.mean(a), np.sum(a.T), np.mean(a[:0]), np.mean(a[:, ::2]),
        )  # fmt: skip

    a = np.arange(12.0).reshape(3, 4) ** 2
    for args in ((0.3, -4, 7, a), (-1e300, 9, 2, -a)):
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = f(*args)
        np.testing.assert_allclose(fast(f)(*args), expected, rtol=1e-15)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_least_and_the_greatest_are_pythons(dtype):
    """The first of equal ones, and what nan gives depends on its place."""

    def f(x, y, z):
        return min(x, y), max(x, y), min(x, y, z), max(x, y, z)

    compiled = fast(f)
    for numbers in itertools.product(map(dtype, (0.0, -0.0, 1.5, math.nan, -math.inf)), repeat=3):
        got = np.array(compiled(*numbers), dtype)
        assert got.tobytes() == np.array(f(*numbers), dtype).tobytes()


# --- views


def test_broadcasts():
    def f(x, row, column):
        return np.broadcast_to(x, (2, 3)), np.broadcast_to(row, (2, 3)), np.broadcast_to(
            column, (4, 2, 3)
        ), np.broadcast_to(True, (2,))  # fmt: skip

    args = np.float32(1.5), np.arange(3.0), np.arange(2).reshape(2, 1)
    for got, expected in zip(fast(f)(*args), f(*args), strict=True):
        np.testing.assert_array_equal(got, expected)
        assert got.dtype == expected.dtype
        assert not got.flags.writeable


@pytest.mark.parametrize("n", [-2, 0, 5])
def test_ranges(n):
    np.testing.assert_array_equal(fast(lambda n: np.arange(n))(n), np.arange(n))


@pytest.mark.parametrize("axes", [*itertools.permutations(range(3))])
def test_transposes(axes):
    x = np.arange(24.0).reshape(2, 3, 4)
    last, first, second = axes[2] - 3, axes[0], axes[1] - 3
    space = {"np": np}
    text = f"lambda x: (np.moveaxis(x, {first}, {second}), np.transpose(x, {axes}))"
    with_literals = fast(eval(text, space))

    def f(x):
        return np.transpose(x, axes), np.transpose(x[:, ::2], (axes[0], axes[1], last))

    expected = *f(x), *with_literals.py_func(x)
    for got, wanted in zip((*fast(f)(x), *with_literals(x)), expected, strict=True):
        np.testing.assert_array_equal(got, wanted)
        assert got.strides == wanted.strides


def test_arrays_without_gaps():
    def f(x):
        return np.ascontiguousarray(x), np.ascontiguousarray(x[:, ::2]), np.ascontiguousarray(x.T)

    x = np.arange(12.0).reshape(3, 4)
    for got, expected in zip(fast(f)(x), f(x), strict=True):
        np.testing.assert_array_equal(got, expected)
        assert got.flags.c_contiguous


def test_identities():
    def f(n, m):
        return np.eye(n, m, 0, np.float64), np.eye(m, n, 0, np.float32)

    for n, m in itertools.product((0, 2, 3), repeat=2):
        for got, expected in zip(fast(f)(n, m), f(n, m), strict=True):
            np.testing.assert_array_equal(got, expected)
            assert got.dtype == expected.dtype


def test_a_slice_of_another_length_is_refused():
    def f(a, b):
        a[:, 1] = b
        return a

    compiled = fast(f)
    np.testing.assert_array_equal(compiled(np.zeros((2, 2)), np.ones(2)), [[0, 1], [0, 1]])
    with pytest.raises(ValueError, match="cannot assign slice"):
        compiled(np.zeros((3, 2)), np.ones(2))


# --- products

LENGTHS = (0, 1, 3)
LAYOUTS = {
    "C": np.ascontiguousarray,
    "F": np.asfortranarray,
    "gaps": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
}


def check_products(function, layouts, dtype):
    rng = np.random.default_rng(0)
    compiled = fast(function)
    for n, k, m in itertools.product(LENGTHS, repeat=3):
        for left, right in (((n, k), (k, m)), ((n, k), (k,)), ((k,), (k, m)), ((k,), (k,))):
            a, b = (
                LAYOUTS[layout](rng.normal(size=shape).astype(dtype))
                for layout, shape in zip(layouts, (left, right), strict=True)
            )
            got = compiled(a, b)
            np.testing.assert_allclose(got, a @ b, rtol=1e-5, atol=1e-6)
            assert np.shape(got) == np.shape(a @ b)
            assert not np.shape(got) or got.dtype == dtype


@pytest.mark.parametrize(
    "layouts", [("C", "C"), ("C", "F"), ("F", "C"), ("F", "F"), ("gaps", "F"), ("C", "gaps")]
)
def test_products(layouts):
    check_products(lambda a, b: a @ b, layouts, "float64")


def test_products_of_singles():
    check_products(lambda a, b: np.dot(a, b), ("F", "C"), "float32")


# --- less work


def straight(statements):
    """A function of so many statements."""
    lines = ["def f(x, w):", "    v0 = x * w"]
    forms = "np.sin(v{0}) + w", "v{0} * w", "np.tanh(v{0})", "v{0} - 0.5 * x", "np.exp(-v{0})"
    lines += [f"    v{k} = {forms[k % 5].format(k - 1)}" for k in range(1, statements)]
    space = {"np": np}
    exec("\n".join([*lines, f"    return v{statements - 1}"]), space)
    return space["f"]


def test_functions_of_numbers_are_no_loops(monkeypatch):
    texts = []
    add = JITCodeLibrary.add_ir_module

    def keep(self, module):
        texts.append(str(module))
        add(self, module)

    monkeypatch.setattr(JITCodeLibrary, "add_ir_module", keep)
    fast(straight(12))(0.3, 0.2)
    assert '@"tanh"' in "".join(texts)
    assert "for.cond" not in "".join(texts)


def test_types_of_operators_are_looked_up_once(monkeypatch):
    calls = []
    resolve = Context.resolve_function_type

    def count(self, func, args, kws):
        calls.append(func)
        return resolve(self, func, args, kws)

    monkeypatch.setattr(Context, "resolve_function_type", count)
    counts = []
    for statements in (20, 40):
        calls.clear()
        fast(straight(statements))(0.3, 0.2)
        counts.append(len(calls))
    assert counts[0] == counts[1] < 20


def net(W1, b1, W2, b2, X, y):
    h = np.maximum(0, X @ W1 + b1)
    s = h @ W2 + b2
    logp = s - np.max(s, axis=1, keepdims=True)
    logp = logp - np.log(np.sum(np.exp(logp), axis=1, keepdims=True))
    return -np.mean(logp[np.arange(len(y)), y])


def net_arguments():
    rng = np.random.default_rng(0)
    shapes = (4, 5), (5,), (5, 3), (3,), (6, 4)
    return *(rng.normal(size=shape) for shape in shapes), rng.integers(0, 3, 6)


def test_few_functions_are_compiled(monkeypatch):
    names = []
    compile_core = compiler.CompilerBase._compile_core

    def keep(self):
        names.append(self.state.func_id.func_qualname)
        return compile_core(self)

    monkeypatch.setattr(compiler.CompilerBase, "_compile_core", keep)
    args = net_arguments()
    compiled = value_and_grad(net, argnums=("W1", "b1", "W2", "b2"), backend="numba")(*args)
    expected = value_and_grad(net, argnums=("W1", "b1", "W2", "b2"))(*args)
    np.testing.assert_allclose(compiled[0], expected[0])
    for got, wanted in zip(compiled[1], expected[1], strict=True):
        np.testing.assert_allclose(got, wanted)
    assert not [name for name in names if "dot_2" in name or "np_empty" in name]
    assert len(names) < 35  # Numba's own passes: 64


def test_variables_are_listed_as_numba_lists_them(monkeypatch):
    """For every statement that the passes ask about, in the same order."""
    seen = []

    def both(self, part):
        quick, slow = numba_variables._listed(self, part), numba_variables.NUMBAS(self, part)
        seen.append(len(slow))
        assert len(quick) == len(slow)
        assert all(one is other for one, other in zip(quick, slow, strict=True))
        return slow

    def f(x, n):
        total, (a, b) = 0.0, x.shape
        for i in range(min(a, n)):
            for j in range(0, b, 2):
                total += x[i, j] ** 2 if x[i, j] > 0 else np.sin(x[i, j:].sum())
            if total > 100.0:
                raise ValueError("too much")
        return total, x[:, ::2].copy(), {"shape": (a, b)}["shape"]

    monkeypatch.setattr(ir.Inst, "_rec_list_vars", both)
    monkeypatch.setattr(numba_compiler, "quick_lists", contextlib.nullcontext)
    x = np.linspace(-1.0, 1.0, 12).reshape(3, 4)
    assert np.isclose(fast(f)(x, 3)[0], f(x, 3)[0])
    assert len(seen) > 1000
    assert max(seen) > 2


# --- parts of a module


def test_parts_have_no_files_and_can_be_called():
    text = (
        "import numba\n\n\n@numba.njit(cache=True)\ndef half(x):\n    return 0.5 * x\n\n\n"
        "@numba.njit(cache=True)\ndef both(x):\n    return half(x) + 1.0\n"
    )
    module = numba_cpu.load("both", text)
    assert module.both(3.0) == 2.5
    assert module.half(3.0) == 1.5
    assert module.both.stats.cache_path
    assert not module.half.stats.cache_path


def test_other_releases_of_numba_have_their_own_passes(monkeypatch):
    monkeypatch.setattr(numba_cpu, "RELEASE", "0.60")
    text = "import numba\n@numba.njit(cache=True, )\ndef f(x):\n    return 2 * x\n"
    plain = numba_cpu.load("f", text).f
    assert plain._compiler.pipeline_class is compiler.Compiler
    assert plain(1.5) == 3


def test_other_passes_where_these_fail(monkeypatch):
    def broken(self):
        raise AttributeError("another release")

    monkeypatch.setattr(FastCompiler, "define_pipelines", broken)
    monkeypatch.setattr(FastCompiler, "strict", False)
    assert fast(lambda x: np.zeros(3) + x)(2.0).tolist() == [2.0, 2.0, 2.0]


# --- from the disk

PROGRAM = """
import sys
import numpy as np
from flatgrad import grad

{net}

{net_arguments}

if __name__ == "__main__":
    args = net_arguments()
    first = grad(net, argnums="W1", backend="numba")
    value = first(*args)
    hits = first.__flatgrad__.last.compiled.function.stats.cache_hits.total()
    print(hits, *[name for name in ("scipy.linalg", "numba.np.linalg") if name in sys.modules])
    import scipy.linalg.cython_blas
    print(scipy.linalg.cython_blas.__name__, scipy.linalg.solve(np.eye(2), np.ones(2)))
    second = grad(lambda a: np.sum(np.linalg.inv(a) @ a), backend="numba")
    print(np.allclose(second(np.eye(2) * 2.0), 0.0), np.array_equal(value, first(*args)))
"""


def test_little_is_loaded_for_code_from_the_disk(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(PROGRAM.format(
        net=inspect.getsource(net), net_arguments=inspect.getsource(net_arguments)
    ))  # fmt: skip
    printed = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, path], cwd=ROOT, capture_output=True, text=True, check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT), "FLATGRAD_CACHE_DIR": str(tmp_path / "c")},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        printed.append(done.stdout.splitlines())
    bindings = "scipy.linalg.cython_blas [1. 1.]"
    assert printed[0] == ["0 numba.np.linalg", bindings, "True True"]
    assert printed[1] == ["1", bindings, "True True"]
