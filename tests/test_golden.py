"""Golden files: source in, emitted code out, to the letter.

A file in tests/golden holds cases, each with sections:

    [case name]            then the source of a function `f`
    [args] EXPRESSION      the arguments, as Python with `np`
    [options] KEYWORDS     of `value_and_grad` or `grad` (kind=...)
    [backward] or [emitted] or [ir] or [simplified] ...     the expected text of that stage

`pytest --update-golden` rewrites the expectations: read the diff before you commit it.
"""

from __future__ import annotations

import importlib.util
import pathlib
import re
from dataclasses import dataclass, field

import numpy as np
import pytest

import flatgrad
from flatgrad.testing import check_grads

FOLDER = pathlib.Path(__file__).parent / "golden"
HEADER = re.compile(r"^\[(case|args|options|[a-z_]+)(?: (.*))?\]$", re.MULTILINE)


@dataclass
class GoldenCase:
    """One case with its sections."""

    file: pathlib.Path
    name: str
    source: str
    args: str = ""
    options: str = ""
    expected: dict[str, str] = field(default_factory=dict)


def parse(path: pathlib.Path) -> list[GoldenCase]:
    """The cases of a file."""
    text = path.read_text()
    parts = list(HEADER.finditer(text))
    ends = [part.start() for part in parts[1:]] + [len(text)]
    cases: list[GoldenCase] = []
    for part, end in zip(parts, ends, strict=True):
        kind, rest = part.group(1), part.group(2) or ""
        body = text[part.end() : end].strip("\n") + "\n"
        if kind == "case":
            cases.append(GoldenCase(path, rest, body))
        elif kind in ("args", "options"):
            setattr(cases[-1], kind, rest)
        else:
            cases[-1].expected[kind] = body
    return cases


def render(cases: list[GoldenCase]) -> str:
    """The text of a file with these cases."""
    blocks = []
    for case in cases:
        lines = [f"[case {case.name}]", case.source.strip("\n"), ""]
        lines += [f"[args {case.args}]"] + ([f"[options {case.options}]"] if case.options else [])
        for kind, text in case.expected.items():
            lines += ["", f"[{kind}]", text.strip("\n")]
        blocks.append("\n".join(lines) + "\n")
    return "\n\n".join(blocks)


ALL = [case for path in sorted(FOLDER.glob("*.test")) for case in parse(path)]


def build(case: GoldenCase, folder: pathlib.Path):
    """The derived function of a case, called once, and its arguments."""
    file = folder / "case.py"
    file.write_text(f"import numpy as np\nimport math\nimport flatgrad as fg\n\n\n{case.source}")
    spec = importlib.util.spec_from_file_location("case", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    args = eval(f"({case.args},)", {"np": np, "rng": np.random.default_rng(0)})
    options = eval(f"dict({case.options})")
    derive = getattr(flatgrad, options.pop("kind", "grad"))
    derived = derive(module.f, **options)
    derived(*args)
    return module.f, derived, args, options


def shown(derived, kind: str) -> str:
    """The text of one section."""
    if kind == "emitted":
        return derived.source()
    if kind in ("forward", "backward"):
        return getattr(derived, f"{kind}_source")()
    return derived.lower()[kind].strip("\n") + "\n"


@pytest.mark.parametrize("case", ALL, ids=lambda case: f"{case.file.stem}-{case.name}")
def test_golden(case, tmp_path, request):
    function, derived, args, options = build(case, tmp_path)
    found = {kind: shown(derived, kind) for kind in case.expected}
    if request.config.getoption("--update-golden"):
        cases = parse(case.file)
        next(one for one in cases if one.name == case.name).expected = found
        case.file.write_text(render(cases))
        return
    assert found == case.expected
    check_grads(function, args, argnums=options.get("argnums"), backend=options.get("backend"))


def test_there_are_golden_cases():
    assert len(ALL) >= 10
