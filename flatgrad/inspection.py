"""What a derived function shows of itself: its sources, its graph, every stage of compilation.

    print(f.source())          the emitted function
    print(f.lower(x))          every stage as text, for these arguments
    f.save("f_grad.py")        a module that runs alone
"""

from __future__ import annotations

import inspect
import os
import pathlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flatgrad.errors import Span, error


@dataclass(frozen=True, slots=True)
class MappedLine:
    """One emitted line: its number in the module, its text, the user's line, the rule behind it."""

    number: int
    text: str
    span: Span | None
    sweep: str
    rule: str | None


class Stages(dict[str, str]):
    """The program after every pass, by name, in order; prints as one text."""

    def __str__(self) -> str:
        return "\n\n".join(f"== {name} ==\n{text.rstrip()}" for name, text in self.items())


class Inspection:
    """The methods that hang on a derived function."""

    def __init__(self, derived: Any) -> None:
        self._derived = derived

    def attach(self, public: Any, function: Callable[..., Any]) -> None:
        """Make the methods attributes of the public function."""
        public.primal = function
        for name in METHODS:
            setattr(public, name, getattr(self, name))

    def source(self, *args: Any, **kwargs: Any) -> str:
        """The whole emitted function, for these arguments or for those last used."""
        return self._found(args, kwargs).compiled.module.function_text.rstrip() + "\n"

    def forward_source(self, *args: Any, **kwargs: Any) -> str:
        """The statements of the forward sweep, those of tangents among them."""
        return self._sweeps(lambda sweep: "backward" not in sweep, args, kwargs)

    def backward_source(self, *args: Any, **kwargs: Any) -> str:
        """The statements of the backward sweep, or sweeps."""
        return self._sweeps(lambda sweep: "backward" in sweep, args, kwargs)

    def tangent_source(self, *args: Any, **kwargs: Any) -> str:
        """The statements that compute tangents."""
        return self._sweeps(lambda sweep: "tangent" in sweep, args, kwargs)

    def module_source(self, *args: Any, **kwargs: Any) -> str:
        """The generated module with its imports and helper functions."""
        return self._found(args, kwargs).compiled.module.text

    def graph(self, *args: Any, **kwargs: Any) -> str:
        """The final IR as text."""
        stages = self._found(args, kwargs).compiled.stages
        return stages["results"]() + "\n"

    def lower(self, *args: Any, **kwargs: Any) -> Stages:
        """The program after every pass."""
        stages = self._found(args, kwargs).compiled.stages
        return Stages({name: text() for name, text in stages.items()})

    def line_map(self, *args: Any, **kwargs: Any) -> list[MappedLine]:
        """For each emitted line, where it comes from."""
        module = self._found(args, kwargs).compiled.module
        texts = module.text.splitlines()
        return [
            MappedLine(number, texts[number - 1].strip(), o.span, o.sweep, o.rule)
            for number, o in sorted(module.lines.items())
        ]

    def save(self, path: str | os.PathLike[str], *args: Any, **kwargs: Any) -> pathlib.Path:
        """Write the generated module to `path`; it needs NumPy (and Numba if compiled) alone.

        Raises
        ------
        UnsupportedError
            If it calls functions that were given rules with `defvjp`: it would not have them.
        """
        module = self._found(args, kwargs).compiled.module
        if module.objects:
            names = ", ".join(f"`{name}`" for name in module.objects)
            raise error(
                "unsupported-call",
                f"a saved module would lack {names}, which have rules of yours but no text",
                help="write the function with NumPy, so that it needs no rule",
            )
        target = pathlib.Path(path)
        target.write_text(module.text, encoding="utf-8")
        return target

    def _sweeps(
        self, wanted: Callable[[str], bool], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> str:
        module = self._found(args, kwargs).compiled.module
        text = "\n".join([text for sweeps, text in module.statements if any(map(wanted, sweeps))])
        return text.rstrip("\n") + "\n"

    def _found(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        derived = self._derived
        if not args and not kwargs:
            return derived.shown()
        bound = inspect.Signature.bind(derived.signature, *args, **kwargs)
        bound.apply_defaults()
        return derived.specialise(dict(bound.arguments))


METHODS = (
    "source", "forward_source", "backward_source", "tangent_source", "module_source", "graph",
    "lower", "line_map", "save",
)  # fmt: skip
