"""The command line: look at a derivative without writing a script.

    $ flatgrad show neuron.py:f --stage backward
    grad_L = 1.0
    grad_s3 = grad_L * (1 - L) * L
    ...

Exit code 0: shown; 1: flatgrad refused the function, with its diagnostic; 2: the command itself
makes no sense (no such file or function, a value that cannot be evaluated, an unknown stage).
Text goes to standard output and everything else to standard error, so the output can be piped.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import importlib.util
import math
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from flatgrad._version import VERSION
from flatgrad.errors import FlatgradError
from flatgrad.options import DEFAULT, chosen

EPILOG = """\
--at takes NAME=VALUE items, separated by commas or repeated. A value is a Python literal or an
expression over np, math and the names of FILE.py:
    --at w0=2,x0=-1        --at "X=np.ones((3, 2)), t=np.array([0, 1, 1])" --at mode='"mean"'
The types of the values (dtype, rank, axes of length 1) decide which code is emitted. A parameter
without a value takes its default, else a float.

stages:
    function             the emitted function (this is shown if no stage is asked for)
    forward, backward    the statements of one sweep
    tangent              the statements of tangents (--mode forward)
    source               the function as it is read
    ir                   what the frontend makes of it
    reverse              with the backward sweep appended, as first built
    ...                  every further pass by its name
    emitted              the whole generated module: imports, helpers, function
    all                  source, ir, reverse, ..., emitted, one after the other
"""


class UsageError(Exception):
    """The command makes no sense as it was typed."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    parser = argument_parser()
    options = parser.parse_args(argv)
    try:
        run: Callable[[argparse.Namespace], None] = options.run
        run(options)
        sys.stdout.flush()
    except FlatgradError as caught:
        print(as_typed(str(caught), options), file=sys.stderr)
        return 1
    except UsageError as caught:
        print(f"flatgrad {options.command}: error: {caught}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # `flatgrad show ... | head` has read enough
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def argument_parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    parser = argparse.ArgumentParser(
        prog="flatgrad", description="Gradients of plain NumPy functions, as code to read."
    )
    parser.add_argument("--version", action="version", version=f"flatgrad {VERSION}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    about = "print the derivative of a function, or any stage of its compilation"
    command = commands.add_parser(
        "show", help=about, description=about.capitalize() + ".", epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    command.set_defaults(run=show)
    command.add_argument(
        "target", metavar="FILE.py:FUNC",
        help="the function; one that is decorated with @grad keeps its own options",
    )  # fmt: skip
    command.add_argument(
        "--at", action="append", default=[], metavar="NAME=VALUE,...", help="arguments, see below"
    )
    command.add_argument("--stage", default="function", help="what to show, see below")
    command.add_argument(
        "--argnums", metavar="NAME,...",
        help="differentiate by these parameters, names or positions (default: by all)",
    )  # fmt: skip
    command.add_argument(
        "--mode", choices=("reverse", "forward"), default="reverse",
        help="gradients, or tangents computed along with the values",
    )  # fmt: skip
    command.add_argument("--value", action="store_true", help="value and gradient, not just grad")
    command.add_argument(
        "--has-aux", action="store_true", help="the function returns (loss, anything else)"
    )
    command.add_argument("--backend", help="numpy (default) or numba")
    return parser


def show(options: argparse.Namespace) -> None:
    """Print a stage of the derivative of a function in a file.

    Raises
    ------
    UsageError
        If the file, the function, a value or the stage cannot be made sense of.
    FlatgradError
        If the function has no derivative here.
    """
    module, function = find_function(options.target)
    public = derivative(function, options)
    values = evaluate(parse_items(options.at), vars(module))
    forward = options.mode == "forward" and options.argnums
    specialise(public.__flatgrad__, values, parse_argnums(options.argnums) if forward else None)
    print_code(stage_texts(public, options.stage))


def find_function(target: str) -> tuple[ModuleType, Any]:
    """The module and the object that FILE.py:FUNC means."""
    file, colon, name = target.rpartition(":")
    if not colon or not name:
        raise UsageError(f"{target!r} does not read FILE.py:FUNC")
    path = Path(file)
    if not path.is_file():
        raise UsageError(f"there is no file {file}")
    module = load_file(path)
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            raise UsageError(f"{file} defines no {name!r}{_functions_of(module)}")
        found = getattr(found, part)
    if isinstance(found, type) or not callable(found):
        raise UsageError(f"{name!r} in {file} is no function{_functions_of(module)}")
    return module, found


def _functions_of(module: ModuleType) -> str:
    """A hint: what could have been meant."""
    names = [
        name
        for name, item in vars(module).items()
        if callable(item) and getattr(item, "__module__", "") == module.__name__
        if not isinstance(item, type)
    ]
    return f"; its functions are {', '.join(names)}" if names else ""


def load_file(path: Path) -> ModuleType:
    """Import a file by its path; what stands under `if __name__ == "__main__"` does not run.

    A file inside a package is imported as a part of it, so that its relative imports work.
    """
    root, parts = path.resolve().parent, [path.stem]
    while (root / "__init__.py").exists():
        parts.insert(0, root.name)
        root = root.parent
    name = ".".join(parts)
    if len(parts) == 1 and name in sys.modules:  # math.py of the user is not Python's `math`
        name = f"{name}__shown"
    sys.path.insert(0, str(root))
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            if len(parts) > 1:
                importlib.import_module(name.rpartition(".")[0])
            sys.modules[name] = module
            spec.loader.exec_module(module)
    except SyntaxError as caught:
        raise UsageError(f"{path} does not parse: {caught}") from None
    except FlatgradError:  # a decorator with wrong options
        raise
    except (Exception, SystemExit) as caught:
        raise UsageError(f"{path} cannot be loaded: {_described(caught, path)}") from caught
    return module


def _described(caught: BaseException, path: Path) -> str:
    """An exception on one line, with the last line of the user's file that it passed."""
    text = f"{type(caught).__name__}: {caught}"
    for frame in reversed(traceback.extract_tb(caught.__traceback__)):
        if frame.filename == str(path.resolve()):
            return f"{text} (line {frame.lineno}: {frame.line})"
    return text


def derivative(function: Any, options: argparse.Namespace) -> Any:
    """The derived function: as the file made it, but for the options that were typed."""
    from flatgrad.deriving import derive, derived_of

    kind, argnums, has_aux, compiling, primal = "grad", None, False, DEFAULT, function
    made = derived_of(function)
    if made is not None:
        kind, argnums, has_aux, compiling = made.kind, made.argnums, made.has_aux, made.options
        primal = public_inner(made) or made.primal
    if options.backend:
        compiling = replace(compiling, backend=chosen({"backend": options.backend}).backend)
    if options.mode == "forward":
        return derive(primal, "jvp", None, False, compiling)
    asked = (options.value, options.argnums, options.has_aux, options.backend)
    if made is not None and not any(asked):
        return function
    return derive(
        primal,
        "value_and_grad" if options.value else kind,
        parse_argnums(options.argnums) if options.argnums else argnums,
        options.has_aux or has_aux,
        compiling,
    )


def public_inner(derived: Any) -> Any:
    """The derivative that a derivative differentiates again, if it does."""
    return derived.inner.wrapper if derived.inner is not None else None


def parse_argnums(text: str) -> Any:
    """`w` and `0` one parameter, `w,b` and `w,` a tuple of them."""
    parts = [part.strip() for part in text.strip("()[] ").split(",")]
    entries = tuple(int(part) if part.lstrip("-").isdecimal() else part for part in parts if part)
    return entries if len(parts) > 1 else entries[0] if entries else None


def parse_items(texts: Sequence[str]) -> dict[str, ast.expr]:
    """NAME=VALUE items, as Python reads the keywords of a call: commas in values do no harm."""
    items: dict[str, ast.expr] = {}
    for text in texts:
        try:
            call = ast.parse(f"_({text})", mode="eval").body
        except (SyntaxError, ValueError):
            raise UsageError(f"--at {text!r} does not read NAME=VALUE,...") from None
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.args:
            raise UsageError(f"--at {text!r} does not read NAME=VALUE,...")
        for keyword in call.keywords:
            if keyword.arg is None or keyword.arg in items:
                raise UsageError(f"--at gives {keyword.arg or '**'} more than once")
            items[keyword.arg] = keyword.value
    return items


def evaluate(items: dict[str, ast.expr], names: dict[str, Any]) -> dict[str, Any]:
    """The values of --at."""
    import numpy as np

    space = {**names, "np": np, "numpy": np, "math": math}
    values = {}
    for name, node in items.items():
        try:
            values[name] = eval(compile(ast.Expression(node), "<--at>", "eval"), space)
        except Exception as caught:
            text = f"{type(caught).__name__}: {caught}"
            raise UsageError(f"--at {name}={ast.unparse(node)}: {text}") from caught
    return values


def specialise(derived: Any, values: dict[str, Any], by: Any = None) -> None:
    """Compile for these arguments, those missing filled in as `.source()` does.

    `by` are the parameters that have a tangent, None for all.
    """
    from flatgrad.specialisation import check_requirements

    params = derived.signature.parameters
    for name in values:
        if name not in params:
            raise UsageError(
                f"--at {name}: `{derived.primal.__name__}` has no such parameter; "
                f"it has {', '.join(params)}"
            )
    if values or by is not None:
        full = derived.examples(values, by)
        guessed = [name for name in full if name not in values]
        given = derived.spread(full)
        check_requirements(derived.specialised(given, guessed=guessed), given.values)


def stage_texts(public: Any, stage: str) -> list[tuple[str | None, str]]:
    """Pairs of a heading, if one is needed, and a text."""
    sweeps = {
        "function": public.source,
        "forward": public.forward_source,
        "backward": public.backward_source,
        "tangent": public.tangent_source,
    }
    if stage in sweeps:
        return [(None, sweeps[stage]())]
    stages = dict(public.lower())
    if stage == "all":
        return list(stages.items())
    name = public.__flatgrad__.kind if stage == "reverse" else stage
    if name not in stages:
        known = ", ".join([*sweeps, *stages, "all"])
        raise UsageError(f"there is no stage {stage!r}; the stages are {known}")
    return [(None, stages[name])]


def print_code(texts: list[tuple[str | None, str]]) -> None:
    """Print, in colour if a person is looking."""
    colour = colour_wanted()
    for k, (heading, text) in enumerate(texts):
        if heading is not None:
            gap = "\n" if k else ""
            print(f"{gap}\033[1m== {heading} ==\033[0m" if colour else f"{gap}== {heading} ==")
        text = text.strip("\n")
        print(highlighted(text) if colour else text)


def colour_wanted() -> bool:
    """Whether standard output is a terminal whose user did not decline (no-color.org)."""
    declined = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return sys.stdout.isatty() and not declined


def highlighted(text: str) -> str:
    """`text` with terminal colours; plain if pygments is not installed."""
    try:
        from pygments import highlight
        from pygments.formatters import TerminalFormatter
        from pygments.lexer import RegexLexer
        from pygments.lexers import PythonLexer
        from pygments.token import Keyword, Name, Number, Text
    except ImportError:
        return text

    class IRLexer(RegexLexer):
        """Values, types and control flow of printed IR."""

        tokens = {  # noqa: RUF012
            "root": [
                (r"%\w+", Name.Variable),
                (r"\b(func|if|else|for|while|in|carrying|yield)\b", Keyword),
                (r"\b(float|int|bool)\d*\b", Keyword.Type),
                (r"\w+(?=\()", Name.Function),
                (r"\b\d[\w.]*", Number),
                (r"\w+|\s+|.", Text),
            ]
        }

    lexer = IRLexer() if text.startswith("func ") else PythonLexer()
    coloured: str = highlight(text, lexer, TerminalFormatter(bg="dark"))
    return coloured.rstrip("\n")


def as_typed(text: str, options: argparse.Namespace) -> str:
    """A diagnostic with the file's name as it was typed, not in full."""
    file = options.target.rpartition(":")[0]
    return text.replace(str(Path(file).resolve()), file)


if __name__ == "__main__":
    sys.exit(main())
