"""docs/errors.md and `errors.CODES` are in step, and each example does what it says."""

from __future__ import annotations

import importlib.util
import pickle
import re
from pathlib import Path

import pytest

from flatgrad.errors import CODES, Diagnostic, FlatgradError, Span, error

DOCUMENT = Path(__file__).parent.parent / "docs" / "errors.md"
SECTION = re.compile(r"^### (?P<code>[\w-]+)\n(?P<body>.*?)(?=^##|\Z)", re.MULTILINE | re.DOTALL)
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
PRELUDE = """import numpy as np
import flatgrad
from flatgrad import grad, value_and_grad

x = np.array([1.0, 2.0, 3.0])
"""


def sections():
    return {found["code"]: found["body"] for found in SECTION.finditer(DOCUMENT.read_text())}


def run(path, text):
    path.write_text(PRELUDE + "\n" + text)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    spec.loader.exec_module(importlib.util.module_from_spec(spec))


def test_every_code_is_documented_once():
    codes = [found["code"] for found in SECTION.finditer(DOCUMENT.read_text())]
    assert len(codes) == len(set(codes))
    assert set(codes) == set(CODES)
    assert PRELUDE.strip() in DOCUMENT.read_text()


@pytest.mark.parametrize("code", CODES)
def test_section(code):
    body = sections()[code]
    cls, _ = CODES[code]
    builtin = next(base for base in cls.__mro__ if base.__module__ == "builtins")
    assert f"`{cls.__name__}`, `{builtin.__name__}`." in body
    assert len(BLOCK.findall(body)) == (0 if code == "internal" else 2)


@pytest.mark.parametrize("code", sorted(set(CODES) - {"internal"}))
def test_examples(code, tmp_path):
    bad, good = BLOCK.findall(sections()[code])
    with pytest.raises(FlatgradError) as caught:
        run(tmp_path / "bad_example.py", bad)
    assert caught.value.code == code, str(caught.value)
    assert type(caught.value) is CODES[code][0]
    run(tmp_path / "good_example.py", good)


SPAN = Span("model.py", 12, 8, 12, 22, "        np.outer(h, w)")


def test_the_text_of_an_error():
    caught = error("shape-mismatch", "they differ", SPAN, help="make them agree")
    assert str(caught).splitlines() == [
        "model.py:12:9: error: they differ  [shape-mismatch]",
        "   12 |         np.outer(h, w)",
        "      |         ^^^^^^^^^^^^^^",
        "help: make them agree",
    ]
    assert isinstance(caught, ValueError)


def test_the_caret_of_several_lines_and_of_none():
    long = Span("model.py", 3, 4, 5, 2, "    f(x,")
    assert str(Diagnostic("internal", "m", long)).splitlines()[2] == "      |     ^^^^"
    assert str(Diagnostic("internal", "m")) == "error: m  [internal]"


@pytest.mark.parametrize("code", CODES)
def test_errors_travel_between_processes(code):
    caught = error(code, "a message", SPAN)
    copied = pickle.loads(pickle.dumps(caught))
    assert type(copied) is type(caught)
    assert str(copied) == str(caught)
    assert copied.diagnostic == caught.diagnostic
