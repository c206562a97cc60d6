"""`flatgrad show`: what it prints, in which colours, and with which exit code it refuses."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from flatgrad import cli

ROOT = Path(__file__).parent.parent

FILE = """
import numpy as np
from flatgrad import grad, value_and_grad, sigmoid

print("loading")
POINTS = np.linspace(0.0, 1.0, 5)

@grad
def neuron(w, x):
    s = w * x
    L = sigmoid(s)
    return L

def plain(w, X):
    s = X @ w
    return (s * s).sum()

@value_and_grad(argnums="w")
def both(w, x):
    return w * w * x

def branch(x):
    with x:
        x = x - 1
    return x

def pair(x):
    y = x * x
    return y, 3.0 * x

number = 3

class Model:
    @staticmethod
    def loss(w):
        return w * w

if __name__ == "__main__":
    raise SystemExit("the main part ran")
"""


@pytest.fixture
def model(tmp_path, monkeypatch):
    """The file above; what loading it changes in the process is undone."""
    (tmp_path / "model.py").write_text(FILE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path / "model.py"
    for name, module in [*sys.modules.items()]:
        if str(getattr(module, "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


def show(capsys, *args):
    """Exit code, standard output and standard error of `flatgrad show`."""
    code = cli.main(["show", *args])
    out, err = capsys.readouterr()
    return code, out, err


def test_decorated_function_is_shown_as_it_is(model, capsys):
    code, out, err = show(capsys, "model.py:neuron")
    assert code == 0
    assert out.startswith("def neuron_grad(w, x):\n    # forward\n")
    assert out.endswith("    return grad_w, grad_x\n")
    assert err == "loading\n"  # what the file prints does not mix with the code
    assert "return value, grad_w\n" in show(capsys, "model.py:both")[1]


def test_plain_function_is_derived(model, capsys):
    code, out, _ = show(capsys, "model.py:plain", "--at", "w=np.ones(3), X=np.ones((4, 3))")
    assert code == 0
    assert "grad_w = X.T @ grad_s\n" in out
    assert "grad_X = " in out


def test_options_override_those_of_the_decorator(model, capsys):
    assert show(capsys, "model.py:neuron", "--argnums", "w")[1].endswith("return grad_w\n")
    assert show(capsys, "model.py:neuron", "--argnums=-1,0")[1].endswith("return grad_x, grad_w\n")
    assert show(capsys, "model.py:neuron", "--value")[1].endswith("return L, (grad_w, grad_x)\n")
    assert show(capsys, "model.py:pair", "--has-aux")[0] == 0


def test_static_method_is_found(model, capsys):
    assert "def loss_grad(w):" in show(capsys, "model.py:Model.loss")[1]


def test_sweeps(model, capsys):
    backward = show(capsys, "model.py:neuron", "--stage", "backward")[1]
    assert backward.splitlines()[:2] == ["grad_L = 1.0", "grad_s = grad_L * (1 - L) * L"]
    assert show(capsys, "model.py:neuron", "--stage", "forward")[1] == "s = w * x\nL = sigmoid(s)\n"


def test_forward_mode(model, capsys):
    text = show(capsys, "model.py:neuron", "--mode", "forward")[1]
    assert text.startswith("def neuron_jvp(w, x, dot_w, dot_x):\n    s = w * x\n    dot_s = ")
    options = ["--mode", "forward", "--argnums", "w", "--at", "w=2,x=-1", "--stage", "tangent"]
    assert show(capsys, "model.py:neuron", *options)[1].splitlines()[0] == "dot_s = dot_w * x"


def test_stages(model, capsys):
    assert show(capsys, "model.py:neuron", "--stage", "source")[1].startswith("@grad\ndef neuron")
    assert show(capsys, "model.py:neuron", "--stage", "ir")[1].startswith("func neuron(%w: float")
    assert "%grad_L" in show(capsys, "model.py:neuron", "--stage", "reverse")[1]
    assert "%grad_w" in show(capsys, "model.py:both", "--stage", "reverse")[1]
    emitted = show(capsys, "model.py:neuron", "--stage", "emitted")[1]
    assert "def sigmoid(x):" in emitted
    assert "import math" in emitted
    every = show(capsys, "model.py:neuron", "--stage", "all")[1]
    headings = [line for line in every.splitlines() if line.startswith("== ")]
    assert headings[:2] == ["== source ==", "== ir =="]
    assert headings[-1] == "== emitted =="


def test_names_of_the_file_serve_as_values(model, capsys):
    code, out, _ = show(
        capsys, "model.py:plain", "--at", "X=np.ones((2, 5))", "--at", "w=POINTS * 2"
    )
    assert code == 0
    assert "X.T" in out


@pytest.mark.parametrize(
    ("items", "values"),
    [
        (["w0=2,x0=-1"], {"w0": 2, "x0": -1}),
        (["w0=2", "x0=-1.5"], {"w0": 2, "x0": -1.5}),
        (["a=[1, 2], b=(3, 4), c={'k': 5}"], {"a": [1, 2], "b": (3, 4), "c": {"k": 5}}),
        (["s='a,b=c', n=None"], {"s": "a,b=c", "n": None}),
        (["x=np.float32(2)"], {"x": np.float32(2)}),
        (["x=math.pi,"], {"x": 3.141592653589793}),
        ([" x = (1 if 2 == 2 else 0) "], {"x": 1}),
        (["", "x=1"], {"x": 1}),
    ],
)
def test_items(items, values):
    assert cli.evaluate(cli.parse_items(items), {}) == values


def test_arrays_in_items():
    found = cli.evaluate(cli.parse_items(["X=np.ones((3,2)),t=np.array([0,1])"]), {})
    assert found["X"].shape == (3, 2)
    assert found["t"].tolist() == [0, 1]


@pytest.mark.parametrize(
    "item",
    ["3", "x", "x=", "=3", "x==3", "x=1 y=2", "x=1)(y=2", "x=1), (y=2", "**{}", "x=1#", "\0"],
)
def test_malformed_items(item):
    with pytest.raises(cli.UsageError, match="--at"):
        cli.parse_items([item])


@pytest.mark.parametrize(
    ("text", "argnums"),
    [("w", "w"), ("0", 0), ("-1", -1), ("w,b", ("w", "b")), ("w,", ("w",)), ("(0, b)", (0, "b"))],
)
def test_argnums(text, argnums):
    assert cli.parse_argnums(text) == argnums


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["model.py"], "'model.py' does not read FILE.py:FUNC"),
        (["none.py:f"], "there is no file none.py"),
        (["model.py:nine"], "model.py defines no 'nine'; its functions are neuron, plain"),
        (["model.py:number"], "'number' in model.py is no function"),
        (["model.py:Model"], "'Model' in model.py is no function"),
        (["model.py:neuron", "--at", "w=1,w=2"], "--at gives w more than once"),
        (["model.py:neuron", "--at", "v=1"], "`neuron` has no such parameter; it has w, x"),
        (["model.py:neuron", "--at", "w=1/0"], "--at w=1 / 0: ZeroDivisionError"),
        (["model.py:neuron", "--stage", "last"], "there is no stage 'last'; the stages are"),
    ],
)
def test_senseless_command(model, capsys, args, message):
    code, out, err = show(capsys, *args)
    assert (code, out) == (2, "")
    assert err.splitlines()[-1].startswith("flatgrad show: error: ")
    assert message in err


def test_unknown_option_exits_with_2(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["show", "model.py:f", "--colour"])
    assert caught.value.code == 2


def test_refusal_is_the_caret_diagnostic(model, capsys):
    code, out, err = show(capsys, "model.py:branch")
    assert (code, out) == (1, "")
    lines = err.splitlines()[1:]
    line = FILE.splitlines().index("    with x:") + 1
    assert lines[0].startswith(f"model.py:{line}:5: error: ")
    assert lines[0].endswith("[unsupported-statement]")
    assert lines[1] == f"{line:5d} |     with x:"
    assert lines[2].startswith("      |     ^^^^")


def test_refusals_without_a_place(model, capsys):
    assert show(capsys, "model.py:plain", "--argnums", "v")[0] == 1
    assert show(capsys, "model.py:plain", "--backend", "fortran")[0] == 1
    code, _, err = show(capsys, "model.py:plain", "--at", "w=np.ones(3), X=np.ones((4, 2))")
    assert code == 1
    assert "[shape-mismatch]" in err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def f(:\n", "does not parse"),
        ("x = 1\nraise SystemExit(3)\n", "SystemExit: 3 (line 2: raise SystemExit(3))"),
        ("import no_such_module\n", "ModuleNotFoundError"),
    ],
)
def test_file_that_cannot_be_loaded(model, capsys, text, message):
    model.write_text(text)
    code, out, err = show(capsys, "model.py:f")
    assert (code, out) == (2, "")
    assert message in err


def test_decorator_with_wrong_options(model, capsys):
    model.write_text("from flatgrad import grad\n@grad(argnums=5)\ndef f(x):\n    return x\n")
    code, _, err = show(capsys, "model.py:f")
    assert code == 1
    assert "[bad-argnums]" in err


def test_imports_beside_the_file_and_within_its_package(model, capsys):
    (model.parent / "beside.py").write_text("def square(x):\n    return x * x\n")
    model.write_text("from beside import square\ndef f(x):\n    return square(x)\n")
    assert show(capsys, "model.py:f")[0] == 0
    package = model.parent / "pack" / "inner"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").touch()
    (package / "__init__.py").touch()
    (package / "names.py").write_text("def square(x):\n    return x * x\n")
    (package / "model.py").write_text("from .names import square as f\n")
    assert show(capsys, "pack/inner/model.py:f")[0] == 0


def test_file_named_like_a_loaded_module(model, capsys):
    (model.parent / "math.py").write_text("def f(x):\n    return x * x\n")
    assert show(capsys, "math.py:f")[0] == 0
    assert hasattr(sys.modules["math"], "pi")


class Terminal:
    """Standard output as a terminal has it."""

    def __init__(self, stream):
        self.stream = stream

    def __getattr__(self, name):
        return getattr(self.stream, name)

    def isatty(self):
        return True


@pytest.mark.parametrize("stage", ["function", "ir", "all"])
def test_colour_only_for_a_terminal(model, capsys, monkeypatch, stage):
    pytest.importorskip("pygments")
    plain = show(capsys, "model.py:neuron", "--stage", stage)[1]
    assert "\033" not in plain
    monkeypatch.setattr(sys, "stdout", Terminal(sys.stdout))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured = show(capsys, "model.py:neuron", "--stage", stage)[1]
    assert "\033" in coloured
    assert uncoloured(coloured) == plain
    monkeypatch.setenv("NO_COLOR", "1")
    assert show(capsys, "model.py:neuron", "--stage", stage)[1] == plain
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setitem(sys.modules, "pygments", None)  # not installed
    assert uncoloured(show(capsys, "model.py:neuron", "--stage", stage)[1]) == plain


def uncoloured(text):
    """`text` without escape sequences."""
    return re.sub(r"\033\[[\d;]*m", "", text)


def test_as_a_command(model):
    def run(*args):
        command = [sys.executable, "-m", "flatgrad.cli", *args]
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False)

    assert run("--version").stdout.startswith("flatgrad ")
    assert "NAME=VALUE" in run("show", "--help").stdout
    assert run("show", "model.py:branch").returncode == 1
    assert run().returncode == 2
    script = f"{sys.executable} -m flatgrad.cli show model.py:neuron --stage all | head -n 1"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(script, shell=True, env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "== source ==\n"
    assert "BrokenPipe" not in done.stderr
