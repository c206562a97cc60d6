"""The documents keep their word: code blocks run, and what they are said to print is printed.

    ```python                       runs; all blocks of a document share their names
    <!-- prints: EXPRESSION -->     the next block is the text of this expression, exactly
    $ flatgrad show ...             in a console block: the lines below are the command's output

A block whose first line is a comment like `# model.py` is run from a file of that name. After a
change of the compiler, `python tests/test_docs.py` writes the present texts into the documents;
read the difference before you keep it.
"""

import contextlib
import io
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted(
    path
    for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    if path.name != "errors.md"  # whose examples are to fail: it has a test of its own
)
FENCE = re.compile(
    r"(?:^<!-- prints: (?P<prints>.+?) -->\n+)?"
    r"^```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A fenced block: `start` and `end` are where its text stands in the document."""

    language: str
    text: str
    prints: str | None
    start: int
    end: int


def blocks(document: str) -> Iterator[Block]:
    for found in FENCE.finditer(document):
        start, end = found.span("text")
        yield Block(found["language"], found["text"], found["prints"], start, end)


def expected_texts(document: str) -> Iterator[tuple[Block, str]]:
    """Run a document; its blocks that show a result, with what they should say."""
    space: dict[str, Any] = {"__name__": "document"}
    found = list(blocks(document))
    for number, block in enumerate(found):
        if block.language == "python" and block.prints is None:
            run_block(block.text, f"block_{number}.py", space)
    for block in found:
        if block.prints is not None:
            yield block, f"{eval(block.prints, space)}".strip("\n") + "\n"
        elif block.language == "console":
            yield block, console_text(block.text)


def run_block(text: str, name: str, space: dict[str, Any]) -> None:
    """Execute a block from a file in the current folder, so that its source can be read."""
    named = re.match(r"# (\w+\.py)\n", text)
    path = Path(named[1] if named else name)
    path.write_text(text, encoding="utf-8")
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(text, str(path), "exec", dont_inherit=True), space)


def console_text(text: str) -> str:
    """The commands of a console block, each with its output; those of others stay as they are."""
    from flatgrad import cli

    commands = [line for line in text.splitlines() if line.startswith("$ ")]
    if not all(line.startswith("$ flatgrad ") for line in commands):
        return text
    parts = []
    for line in commands:
        out = io.StringIO()
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(out),
            contextlib.chdir(ROOT),
        ):
            cli.main(shlex.split(line)[2:])
        parts.append(f"{line}\n{out.getvalue()}")
    return "".join(parts)


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A folder for the files of a document; what commands do to the process is undone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_document(path, workplace):
    for block, text in expected_texts(path.read_text(encoding="utf-8")):
        assert block.text == text, "see the docstring of tests/test_docs.py"


def test_links_lead_somewhere():
    for path in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_readme_opens_with_the_neuron():
    first, second, *_ = blocks((ROOT / "README.md").read_text(encoding="utf-8"))
    assert "L = sigmoid(s3)" in first.text
    lines = [line.strip() for line in second.text.splitlines()]
    assert lines[lines.index("# backward") + 1 : -1] == [
        "grad_L = 1.0", "grad_s3 = grad_L * (1 - L) * L", "grad_w2 = grad_s3", "grad_s2 = grad_s3",
        "grad_s0 = grad_s2", "grad_s1 = grad_s2", "grad_w1 = grad_s1 * x1",
        "grad_x1 = grad_s1 * w1", "grad_w0 = grad_s0 * x0", "grad_x0 = grad_s0 * w0",
    ]  # fmt: skip


def update() -> None:
    """Write the present texts into the documents."""
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for path in DOCUMENTS:
            document = path.read_text(encoding="utf-8")
            for block, text in reversed(list(expected_texts(document))):
                document = document[: block.start] + text + document[block.end :]
            path.write_text(document, encoding="utf-8")
        os.chdir(ROOT)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    update()
