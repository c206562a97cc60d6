"""The text of a function is found, wherever it stands, or refused; never another function's."""

from __future__ import annotations

import importlib.util
import linecache
import sys
import textwrap

import pytest

from flatgrad import grad, jacobian, value_and_grad
from flatgrad.errors import FlatgradError
from flatgrad.frontend.source import read_source


def load(path, text):
    """Import `text` as a module of its own."""
    path.write_text(textwrap.dedent(text))
    linecache.checkcache(str(path))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def refused(code, function, *args):
    with pytest.raises(FlatgradError) as caught:
        grad(function)(*args)
    assert caught.value.code == code


def test_lambdas_on_one_line():
    a, b, c = grad(lambda x: x * x), grad(lambda x: x * x * x), grad(lambda x: x + 1.0)
    assert (a(2.0), b(2.0), c(2.0)) == (4.0, 12.0, 1.0)


def test_lambdas_with_closures_on_one_line():
    s, t = 2.0, 5.0
    a, b = grad(lambda x: s * x), grad(lambda x: t * x)
    assert (a(1.0), b(1.0)) == (2.0, 5.0)


def test_equal_lambdas_on_one_line():
    fs = [lambda x, k=k: x * k for k in (2.0, 3.0)]
    assert [grad(f, "x")(1.0) for f in fs] == [2.0, 3.0]


def test_lambda_inside_a_broken_line():
    scale = 3.0
    g = grad(
        lambda x: x * scale
        * scale
    )  # fmt: skip
    assert g(1.0) == 9.0
    table = {
        "a": lambda x: x * scale, "b": (lambda x: x
                                        * x * scale),
    }  # fmt: skip
    assert grad(table["a"])(1.0) == 3.0
    assert grad(table["b"])(1.0) == 6.0


def test_constants_of_lambdas_are_told_apart():
    fs = [lambda x: x * 1.0, lambda x: x * 2.0, lambda x: x * -0.0, lambda x: x * 0.0]
    assert [grad(f)(1.0) for f in fs] == [1.0, 2.0, 0.0, 0.0]
    spans = [read_source(f).span(read_source(f).node.body).column for f in fs]
    assert len(set(spans)) == 4


def test_nested_lambda():
    f = lambda x: (lambda y: y * x)
    assert grad(f(3.0))(1.0) == 3.0


class Holder:
    """Functions inside a class, with names that Python mangles."""

    def method(self, x):
        """A docstring
        of two lines."""
        __y = x * x
        return __y

    @staticmethod
    @value_and_grad
    def static(x):
        return x * x


def test_functions_in_a_class():
    assert grad(Holder.method, "x")(None, 3.0) == 6.0
    assert Holder.static(2.0) == (4.0, 4.0)


def test_decorators_above_and_below():
    seen = []

    def note(f):
        seen.append(f)
        return f

    @note
    @grad(argnums=("x", "y"))
    @note
    def f(x, y):
        return x * y

    assert f(2.0, 3.0) == (3.0, 2.0)
    assert len(seen) == 2


def test_exec_without_source():
    space = {}
    exec("def f(x):\n    return x * x\n", space)
    refused("no-source", space["f"], 1.0)


def test_source_registered_by_a_notebook():
    name = "<notebook cell 1>"
    text = "def f(x):\n    return x * x\n"
    linecache.cache[name] = (len(text), None, text.splitlines(True), name)
    space = {}
    exec(compile(text, name, "exec"), space)
    old = space["f"]
    exec(compile(text, name, "exec"), space)
    assert grad(space["f"])(3.0) == 6.0
    text = "# again\ndef f(x):\n    return x * 5.0\n"
    linecache.cache[name] = (len(text), None, text.splitlines(True), name)
    assert grad(old)(3.0) == 6.0  # read before: its text is known
    exec(compile(text, name, "exec"), space)
    assert grad(space["f"])(3.0) == 5.0


def test_notebook_cell_run_again_before_the_first_gradient():
    name = "<notebook cell 2>"
    text = "def f(x):\n    return x * x\n"
    space = {}
    exec(compile(text, name, "exec"), space)
    text = "def f(x):\n    return x * 5.0\n"
    linecache.cache[name] = (len(text), None, text.splitlines(True), name)
    refused("changed-source", space["f"], 3.0)


def test_exec_under_the_name_of_a_file(tmp_path):
    path = tmp_path / "real.py"
    path.write_text("def f(x):\n    return x * 100.0\n")
    space = {}
    exec(compile("def f(x):\n    return x * x\n", str(path), "exec"), space)
    refused("changed-source", space["f"], 1.0)


def test_file_edited_after_import(tmp_path):
    path = tmp_path / "edited.py"
    old = "def g(x):\n    return x\n\ndef f(x):\n    return x * x\n"
    module = load(path, old)
    path.write_text(old.replace("x * x", "x * 5.0") + "# longer\n")
    refused("changed-source", module.f, 1.0)


def test_file_edited_elsewhere_after_import(tmp_path):
    path = tmp_path / "moved.py"
    old = "def g(x):\n    return x\n\ndef f(x):\n    return x * x\n"
    module = load(path, old)
    path.write_text("# a new first line\nimport math\n\n" + old)
    assert grad(module.f)(3.0) == 6.0
    span = read_source(module.f).span(read_source(module.f).node)
    assert (span.line, span.text) == (7, "def f(x):")


def test_same_code_in_two_files(tmp_path):
    text = "def f(x):\n    return missing * x\n"
    for name in ("one", "two"):
        with pytest.raises(FlatgradError) as caught:
            grad(load(tmp_path / f"{name}.py", text).f)(1.0)
        assert caught.value.diagnostic.span.file.endswith(f"{name}.py")


def test_columns_of_nested_and_tabbed_code(tmp_path):
    module = load(
        tmp_path / "tabs.py",
        "class C:\n\tdef f(x):\n\t\té = x\n\t\treturn é * missing\n",
    )
    with pytest.raises(FlatgradError) as caught:
        grad(module.C.f)(1.0)
    span = caught.value.diagnostic.span
    assert (span.line, span.column) == (4, 13)
    assert span.text[span.column : span.end_column] == "missing"


def test_kinds_of_function():
    def generator(x):
        yield x

    async def coroutine(x):
        return x

    refused("unsupported-function-kind", generator, 1.0)
    refused("unsupported-function-kind", coroutine, 1.0)


def test_jitted_function():
    numba = pytest.importorskip("numba")

    @numba.njit
    def square(x):
        return x * x

    @numba.njit
    def f(x):
        return square(x) * 3.0

    assert grad(f)(2.0) == 12.0


def test_derived_function():
    def f(x):
        return x * x

    slope = grad(f)
    assert grad(slope)(3.0) == 2.0
    assert grad(lambda x: slope(x) * x)(3.0) == 12.0
    bend = jacobian(f)
    refused("unsupported-call", bend, 1.0)
    refused("unsupported-call", lambda x: bend(x), 1.0)


def test_import_in_another_cell(tmp_path):
    space = {}
    for name, text in (
        ("one.py", "import numpy as np\n"),
        ("two.py", "import math\ndef f(x):\n    return np.sum(x * x) * math.sqrt(4.0)\n"),
    ):
        path = tmp_path / name
        path.write_text(text)
        exec(compile(text, str(path), "exec"), space)
    assert grad(space["f"])(3.0) == 12.0


def test_own_signature():
    def f(x):
        return x

    import inspect

    f.__signature__ = inspect.signature(lambda y: y)
    refused("unsupported-function-kind", f, 1.0)


def test_asserts_in_a_test_module():
    def f(x):
        assert x is not None, "a number"
        return x * x

    assert grad(f)(1.0) == 2.0


def test_future_import_and_text(tmp_path):
    module = load(
        tmp_path / "future.py",
        "from __future__ import annotations\n"
        "def f(x: Unknown) -> Other:\n    y: Some = x\n    return y * y\n",
    )
    assert grad(module.f)(3.0) == 6.0
    assert sys.version_info >= (3, 11)
