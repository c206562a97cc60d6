"""What went wrong, where, why, and what to write instead.

    raise error("loop-carried-type", "`h` changes rank inside the loop", span, help="use a name")

    model.py:12:9: error: `h` changes rank inside the loop  [loop-carried-type]
       12 |         h = np.outer(h, w)
          |         ^^^^^^^^^^^^^^^^^^
    help: use a new name

Every code stands in `CODES` with its exception class, and in docs/errors.md with an example.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of the user's source: 1-based lines, 0-based columns, `text` the first line."""

    file: str
    line: int
    column: int
    end_line: int
    end_column: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column + 1}"


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One message of the compiler; `str` renders it with a caret under the offending text."""

    code: str
    message: str
    span: Span | None = None
    help: str | None = None

    def __str__(self) -> str:
        where = f"{self.span}: " if self.span else ""
        lines = [f"{where}error: {self.message}  [{self.code}]"]
        if self.span:
            lines += caret_lines(self.span)
        if self.help:
            lines.append(f"help: {self.help}")
        return "\n".join(lines)


def caret_lines(span: Span) -> list[str]:
    """The source line of `span` and a line of carets under it."""
    if not span.text.strip():
        return []
    end = span.end_column if span.end_line == span.line else len(span.text.rstrip())
    width = max(1, end - span.column)
    return [
        f"{span.line:5d} | {span.text.rstrip()}",
        f"      | {' ' * span.column}{'^' * width}",
    ]


class FlatgradError(Exception):
    """Base of every error that flatgrad raises on purpose; `diagnostic` says all it knows."""

    def __init__(self, diagnostic: Diagnostic) -> None:
        super().__init__(str(diagnostic))
        self.diagnostic = diagnostic

    @property
    def code(self) -> str:
        """The documented code of this error, as in docs/errors.md."""
        return self.diagnostic.code

    def __reduce__(self) -> tuple[type[FlatgradError], tuple[Diagnostic]]:
        return type(self), (self.diagnostic,)


class SourceError(FlatgradError, OSError):
    """The source text of a function cannot be had or is ambiguous."""

    def __str__(self) -> str:
        return str(self.diagnostic)


class UnsupportedError(FlatgradError, NotImplementedError):
    """The function uses Python or NumPy outside the supported subset."""


class TypeInferenceError(FlatgradError, TypeError):
    """A value has a type that an operation cannot take."""


class ShapeError(FlatgradError, ValueError):
    """Array shapes do not fit together."""


class NameResolutionError(FlatgradError, NameError):
    """A name that the function reads is not defined."""


class ArgumentError(FlatgradError, TypeError):
    """A derivative was asked for in a way that has no answer."""


class StaticValueError(FlatgradError, ValueError):
    """Something evaluated while compiling (an axis, an index, a static call) failed."""


class InternalError(FlatgradError, RuntimeError):
    """flatgrad broke one of its own invariants: a bug here, not in the user's function."""


CODES: dict[str, tuple[type[FlatgradError], str]] = {
    "no-source": (SourceError, "the source text of a function cannot be found"),
    "changed-source": (SourceError, "the text of a function is not that of the code that runs"),
    "unsupported-function-kind": (UnsupportedError, "generators, coroutines and classes"),
    "unsupported-statement": (UnsupportedError, "a statement outside the supported subset"),
    "unsupported-expression": (UnsupportedError, "an expression outside the supported subset"),
    "unsupported-call": (UnsupportedError, "a call of a function that has no rule"),
    "unsupported-keyword": (UnsupportedError, "a keyword that the rule of a function cannot take"),
    "too-deep": (UnsupportedError, "a recursion that does not end, or too deep nesting"),
    "unsupported-attribute": (UnsupportedError, "an attribute or method of a value with no rule"),
    "unsupported-argument": (UnsupportedError, "an argument of a type that is not handled"),
    "unsupported-index": (UnsupportedError, "an index of a form that is not handled"),
    "unsupported-write": (UnsupportedError, "an in-place write that cannot be followed"),
    "unsupported-dtype": (UnsupportedError, "an array of a dtype without derivatives"),
    "unsupported-backend": (UnsupportedError, "an operation that a backend cannot run"),
    "data-dependent-static": (UnsupportedError, "a value needed while compiling is run-time data"),
    "no-derivative": (UnsupportedError, "an active value passes an operation without this rule"),
    "operand-type": (TypeInferenceError, "an operand of the wrong kind"),
    "shape-mismatch": (ShapeError, "axes that must agree do not"),
    "branch-type": (TypeInferenceError, "a variable of unlike kinds on the paths to here"),
    "loop-carried-type": (TypeInferenceError, "a variable changes its kind from trip to trip"),
    "axis-out-of-range": (ShapeError, "an axis that the array does not have"),
    "undefined-name": (NameResolutionError, "a name that is not defined where it is read"),
    "static-evaluation": (StaticValueError, "an expression evaluated while compiling failed"),
    "bad-argnums": (ArgumentError, "argnums names no parameter of the function"),
    "not-differentiable": (ArgumentError, "a gradient asked of an argument that cannot have one"),
    "nothing-to-differentiate": (ArgumentError, "no argument can have a gradient"),
    "bad-tangent": (ArgumentError, "tangents or adjoints that are not those of the values"),
    "non-scalar-output": (ArgumentError, "grad of a function that does not return a scalar"),
    "bad-aux": (ArgumentError, "has_aux=True on a function that does not return a pair"),
    "bad-out": (ArgumentError, "arrays for the gradients that do not fit, or are not free"),
    "bad-update": (ArgumentError, "gradients or a state that do not fit the parameters of a step"),
    "bad-option": (ArgumentError, "an unknown backend or option"),
    "bad-checkpoint": (UnsupportedError, "a loop that cannot be checkpointed in this way"),
    "bad-hook": (UnsupportedError, "an adjoint hook that the backward sweep cannot run"),
    "bad-rule": (ArgumentError, "a derivative rule that does not fit its function"),
    "bad-rows": (ArgumentError, "rows of observations that do not fit the arguments"),
    "internal": (InternalError, "a broken invariant of flatgrad itself"),
}


def error(
    code: str, message: str, span: Span | None = None, *, help: str | None = None
) -> FlatgradError:
    """The exception for `code`, ready to be raised."""
    cls, _ = CODES[code]
    return cls(Diagnostic(code, message, span, help))
