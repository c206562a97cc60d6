"""Options and fixtures of the whole test suite."""

from __future__ import annotations

import pytest

from flatgrad.backends import numba_cpu


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--update-golden` rewrites the expectations of the golden files."""
    parser.addoption("--update-golden", action="store_true", help="rewrite golden expectations")


@pytest.fixture(autouse=True, scope="session")
def _no_second_compiler():
    """What fails in flatgrad's own passes for Numba fails in the tests."""
    if numba_cpu.RELEASE in numba_cpu.TUNED:
        from flatgrad.backends.numba_compiler import FastCompiler

        FastCompiler.strict = True


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    """Generated code of the tests goes to a folder of their own."""
    monkeypatch.setenv("FLATGRAD_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "cache"))
