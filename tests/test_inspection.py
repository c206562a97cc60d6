"""What a derived function shows of itself, and what an error in emitted code says."""

from __future__ import annotations

import inspect
import os
import pydoc
import subprocess
import sys
import traceback
import types

import numpy as np
import pytest

import flatgrad
from flatgrad import grad, sigmoid, value_and_grad

BACKENDS = ["numpy", "numba"]


def neuron(w, x, b=0.5):
    """A neuron.

    With a docstring.
    """
    # weigh the input
    s = w * x + b
    L = sigmoid(s)  # squash
    return L


def network(X, W1, b1, W2, y):
    # hidden layer
    h = np.tanh(X @ W1 + b1)
    s = h @ W2  # scores
    L = np.mean((s - y) ** 2)
    return L


RNG = np.random.default_rng(0)
ARGS = (
    RNG.normal(size=(5, 3)), RNG.normal(size=(3, 4)), RNG.normal(size=4),
    RNG.normal(size=(4, 2)), RNG.normal(size=(5, 2)),
)  # fmt: skip
WEIGHTS = ("W1", "b1", "W2")


def line_of(function, text):
    """The number of the line of a function in this file that holds `text`."""
    lines, first = inspect.getsourcelines(function)
    return next(k for k, line in enumerate(lines, first) if text in line)


# --- sources


def test_source_is_the_function_that_runs():
    derived = grad(network, argnums=WEIGHTS)
    gradients = derived(*ARGS)
    space = {"np": np}
    exec(derived.source(), space)
    for one, other in zip(space["network_grad"](*ARGS), gradients, strict=True):
        np.testing.assert_array_equal(one, other)


def test_sweeps_are_the_parts_of_the_source():
    derived = value_and_grad(network, argnums=WEIGHTS)
    text = derived.source(*ARGS)
    lines = [line.strip() for line in text.splitlines()]
    forward, backward = lines.index("# forward"), lines.index("# backward")
    code = [line.split("  #")[0] for line in lines if not line.startswith("#")]
    sweeps = (derived.forward_source() + derived.backward_source()).splitlines()
    assert code[1:-1] == [line.split("  #")[0] for line in sweeps]
    assert forward < backward
    assert "h = np.tanh(X @ W1 + b1)" in derived.forward_source()
    assert "grad_W2 = h.T @ grad_s" in derived.backward_source()
    assert "grad" not in derived.forward_source()


def test_users_comments_survive():
    text = grad(network, argnums=WEIGHTS).source(*ARGS)
    lines = text.splitlines()
    above = next(k for k, line in enumerate(lines) if "# hidden layer" in line)
    assert "h = " in lines[above + 1]
    assert "s = h @ W2  # scores" in text
    text = grad(neuron).source()
    assert text.index("# weigh the input") < text.index("s = w * x + b")
    assert "L = sigmoid(s)  # squash" in text


def test_source_before_any_call():
    """From annotations and defaults, else floats."""
    assert "grad_w = grad_s * x" in grad(neuron).source()

    def annotated(x: float, n: int, flag: bool = False, y: float = 2.0):
        if flag:
            return x
        return x**n * y

    text = grad(annotated, argnums=("x", "y")).source()
    assert "grad_x" in text
    assert "grad_y" in text
    assert "grad_n" not in text

    def with_array(x: np.ndarray):
        return np.sum(x)

    with pytest.raises(flatgrad.UnsupportedError, match="the rank of the array `x`"):
        grad(with_array).source()
    assert "np.full_like(x, grad_value)" in grad(with_array).source(np.ones(3))


def test_source_for_given_types():
    derived = grad(lambda x, y: np.sum(x * y))
    one = derived.source(np.ones((3, 1)), np.ones(4))
    other = derived.source(np.ones((3, 4)), np.ones(4))
    assert "axis=1" in one
    assert "axis=1" not in other
    assert derived.source() == other  # the last one used
    assert derived.source(x=np.ones((3, 1)), y=np.ones(4)) == one


def test_same_text_every_time():
    first = value_and_grad(network, argnums=WEIGHTS).module_source(*ARGS)
    assert first == value_and_grad(network, argnums=WEIGHTS).module_source(*ARGS)


STAGES = ["source", "ir", "grad", "simplified", "final", "results", "emitted"]


def test_lower_has_every_stage_in_order():
    stages = grad(network, argnums=WEIGHTS).lower(*ARGS)
    names = [name for name in stages if name in STAGES]
    assert names == STAGES
    assert "def network" in stages["source"]
    for name in set(stages) - {"source", "emitted"}:
        assert stages[name].startswith("func network("), name
    assert "grad_W1" not in stages["ir"]
    assert "grad_W1" in stages["grad"]
    assert "def network_grad" in stages["emitted"]
    text = str(stages)
    assert [text.index(f"== {name} ==") for name in STAGES] == sorted(
        text.index(f"== {name} ==") for name in STAGES
    )


def test_graph_is_the_final_program():
    derived = grad(network, argnums="W1")
    graph = derived.graph(*ARGS)
    assert graph.startswith("func network(")
    assert "%grad_W1: " in graph
    assert "= matmul(" in graph


@pytest.mark.parametrize("backend", BACKENDS)
def test_line_map(backend):
    """Each emitted statement knows the user's line, and in the backward sweep the rule."""
    derived = value_and_grad(network, argnums=WEIGHTS, backend=backend)
    module = derived.module_source(*ARGS).splitlines()
    lines = derived.line_map()
    by_text = {line.text.split("  #")[0]: line for line in lines}
    statements = derived.forward_source() + derived.backward_source()
    heads = [text for text in statements.splitlines() if not text or text.startswith("def ")]
    assert len(lines) == len(statements.splitlines()) - len(heads)
    for line in lines:
        assert module[line.number - 1].strip() == line.text
        assert line.sweep in ("forward", "backward")
        if not line.text.startswith("grad_L ="):
            assert line.span is not None
            assert line.span.file == __file__
    assert bool(heads) == (backend == "numba")
    element = "h[i, j] = tanh_f64(h_product_row[j] + b1[j])"
    h = by_text[element if backend == "numba" else "h = np.tanh(X @ W1 + b1)"]
    assert (h.sweep, h.span.line) == ("forward", line_of(network, "h = np.tanh"))
    grad_h = next(line for line in lines if line.text.startswith("grad_h ="))
    assert (grad_h.sweep, grad_h.rule) == ("backward", "matmul")
    assert grad_h.span.line == line_of(network, "s = h @ W2")


# --- saved modules

ALONE = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("flatgrad", "scipy" if {block_scipy} else "flatgrad"):
            raise ImportError(f"{{name}} is not here")

sys.meta_path.insert(0, Blocker())
import numpy as np
import saved

args = [np.array(a) if isinstance(a, list) else a for a in {args!r}]
print([np.asarray(g).tolist() for g in saved.{name}(*args)])
"""


def run_alone(folder, name, args, block_scipy=True):
    """The result of a saved function in a process that has no flatgrad."""
    listed = [a.tolist() if isinstance(a, np.ndarray) else a for a in args]
    code = ALONE.format(args=listed, name=name, block_scipy=block_scipy)
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return eval(done.stdout)


def imports(text):
    """The modules that a text imports."""
    import ast

    nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import)]
    assert not any(isinstance(node, ast.ImportFrom) for node in ast.walk(ast.parse(text)))
    return {alias.name for node in nodes for alias in node.names}


def activations(x, w):
    h = flatgrad.gelu(w @ x) + flatgrad.softplus(w @ x)
    return np.sum(flatgrad.softmax(h) * h) + flatgrad.logsumexp(h)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "function, args, names",
    [
        (network, ARGS, WEIGHTS),
        (neuron, (2.0, -1.0, 0.5), ("w", "x", "b")),
        (activations, (RNG.normal(size=3), RNG.normal(size=(4, 3))), ("x", "w")),
    ],
    ids=["network", "neuron", "activations"],
)
def test_saved_module_runs_alone(tmp_path, backend, function, args, names):
    derived = grad(function, argnums=names, backend=backend)
    path = derived.save(tmp_path / "saved.py", *args)
    text = path.read_text()
    allowed = {"numpy", "math", "numba"} if backend == "numba" else {"numpy", "math"}
    assert imports(text) <= allowed
    block_scipy = backend == "numpy"  # Numba's `@` needs SciPy
    found = run_alone(tmp_path, f"{function.__name__}_grad", args, block_scipy)
    for one, other in zip(found, derived(*args), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-15)


def test_save_accepts_text_paths_and_returns_the_path(tmp_path):
    derived = grad(neuron)
    path = derived.save(str(tmp_path / "neuron_grad.py"))
    assert path == tmp_path / "neuron_grad.py"
    assert path.read_text() == derived.module_source()


# --- errors in emitted code


def solved(A, b):
    x = np.linalg.solve(A, b)
    return np.sum(x)


def taken(x, rows):
    picked = x[rows]
    return np.sum(picked * picked)


def shown(derived, *args):
    """The traceback of a failing call, as text."""
    try:
        derived(*args)
    except Exception as caught:
        return "".join(traceback.format_exception(caught)), caught
    raise AssertionError("it did not fail")


def test_singular_matrix():
    text, caught = shown(grad(solved), np.zeros((2, 2)), np.ones(2))
    assert isinstance(caught, np.linalg.LinAlgError)
    assert "x = np.linalg.solve(A, b)" in text  # the emitted line
    note = f"from {__file__}:{line_of(solved, 'np.linalg.solve')}"
    assert any(line.startswith(note) for line in caught.__notes__)
    assert "x = np.linalg.solve(A, b)" in caught.__notes__[0]


def test_index_out_of_range():
    text, caught = shown(grad(taken, argnums="x"), np.ones(3), np.array([0, 7]))
    assert isinstance(caught, IndexError)
    assert "picked = x[rows]" in text
    assert f"{__file__}:{line_of(taken, 'x[rows]')}" in caught.__notes__[0]


def test_error_in_the_backward_sweep():
    """The root of 0 is fine; its derivative is not."""

    def rooted(x):
        r = np.sqrt(x)
        return np.sum(r)

    with np.errstate(divide="raise"):
        _, caught = shown(grad(rooted), np.zeros(3))
    assert isinstance(caught, FloatingPointError)
    assert "(backward sweep): r = np.sqrt(x)" in caught.__notes__[0]


def test_notes_are_added_once():
    derived = grad(taken, argnums="x")
    for _ in range(3):
        _, caught = shown(derived, np.ones(3), np.array([7]))
        assert len(caught.__notes__) == 1


def test_emitted_lines_are_there_without_a_folder(monkeypatch, tmp_path):
    """Where no cache folder can be had, the traceback still shows the line."""
    (tmp_path / "taken").write_text("")
    monkeypatch.setenv("FLATGRAD_CACHE_DIR", str(tmp_path / "taken"))
    text, _ = shown(grad(lambda x, k: np.sum(x[k] * 3), argnums="x"), np.ones(3), np.array([7]))
    assert "x[k]" in text


# --- an ordinary function


@pytest.mark.parametrize("backend", BACKENDS)
def test_it_is_an_ordinary_function(backend):
    derived = value_and_grad(neuron, backend=backend)
    assert isinstance(derived, types.FunctionType)
    assert derived.__name__ == derived.__qualname__ == "neuron"
    assert derived.__module__ == neuron.__module__
    assert derived.__doc__ == neuron.__doc__
    assert derived.__wrapped__ is neuron
    assert derived.primal is neuron
    assert inspect.signature(derived) == inspect.signature(neuron)
    text = pydoc.render_doc(derived, renderer=pydoc.plaintext)
    assert "neuron(w, x, b=0.5)" in text
    assert "With a docstring." in text


def test_calls_as_python_binds_them():
    derived = grad(neuron)
    expected = derived(2.0, -1.0, 0.5)
    assert derived(2.0, -1.0) == expected
    assert derived(x=-1.0, w=2.0) == expected
    assert derived(2.0, b=0.5, x=-1.0) == expected
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'x'"):
        derived(2.0)
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        derived(2.0, -1.0, c=1)

    def kinds(a, /, b, *, c=3.0):
        return a * b * c

    derived = grad(kinds)
    assert derived(1.0, 2.0) == (6.0, 3.0, 2.0)
    assert derived(1.0, c=1.0, b=2.0) == (2.0, 1.0, 2.0)
    with pytest.raises(TypeError, match="positional-only"):
        derived(a=1.0, b=2.0)
    with pytest.raises(TypeError, match="positional argument"):
        derived(1.0, 2.0, 3.0)


def test_primal_of_a_decorated_function():
    @grad
    def f(x):
        return x * x

    assert f(3.0) == 6.0
    assert f.primal(3.0) == 9.0
