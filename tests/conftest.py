"""Options and fixtures of the whole test suite."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--update-golden` rewrites the expectations of the golden files."""
    parser.addoption("--update-golden", action="store_true", help="rewrite golden expectations")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    """Generated code of the tests goes to a folder of their own."""
    monkeypatch.setenv("FLATGRAD_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "cache"))
