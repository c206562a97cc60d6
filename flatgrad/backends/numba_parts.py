"""The functions of a generated module: one that Python calls, and the parts that it is made of.

    tune(module, text, "f_grad", ...)     # before anything is compiled

Every function is compiled by the passes of numba_compiler.py, which are imported when one is: code
that comes from the disk does without. Functions with `parallel=True` are compiled by Numba's own.

What only compiled code of the module calls gets no wrapper for calls from Python, and Numba keeps
no file of it: the function that calls it contains it. It may be compiled for several modules at
once (numba_shared.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

from numba.core.caching import NullCache
from numba.core.registry import CPUDispatcher

from flatgrad.backends.numba_shared import share
from flatgrad.backends.numba_start import import_bindings, quicken
from flatgrad.collector import paused


def tune(
    module: ModuleType,
    text: str,
    name: str,
    free: Mapping[str, bool],
    loops: Mapping[int, int],
    *,
    own: int = 0,
    keeps_memory: str = "",
) -> None:
    """Prepare the dispatchers of a generated module; `name` is the function that Python calls.

    The innermost loops of the functions in `free` may make their trips in any order; true for
    those that are presumably short. `loops` are lines with such loops in other functions. The first
    `own` lines of the text are functions of flatgrad's.
    """
    dispatchers = _dispatchers(module)
    for key, dispatcher in dispatchers.items():
        if key in free:
            dispatcher.py_func.has_short_loops = free[key]
        elif loops and dispatcher.py_func.__code__.co_firstlineno > own:
            dispatcher.py_func.free_loops = loops
        if not dispatcher.targetoptions.get("parallel"):
            dispatcher._compiler.pipeline_class = _fast_compiler
        dispatcher.targetoptions["no_cfunc_wrapper"] = True
        if key == name:
            dispatcher.py_func.keeps_memory = keeps_memory
            quicken(dispatcher)
        else:
            _make_part(dispatcher)
    parts = {
        key: one
        for key, one in dispatchers.items()
        if key != name and not one.targetoptions.get("parallel")
    }
    share(module, text, parts, own)


def _dispatchers(module: ModuleType) -> dict[str, Any]:
    """The functions of a module that Numba compiles."""
    return {
        key: value
        for key, value in vars(module).items()
        if isinstance(value, CPUDispatcher) and value.py_func.__module__ == module.__name__
    }


def _fast_compiler(*args: Any) -> Any:
    """What compiles one function; Numba's implementations and ours are imported now."""
    with paused():
        import_bindings()
        from flatgrad.backends.numba_compiler import FastCompiler

        return FastCompiler(*args)


def _make_part(dispatcher: Any) -> None:
    """Only compiled functions call it."""
    dispatcher.__class__ = Part
    dispatcher._cache = NullCache()
    dispatcher.targetoptions["no_cpython_wrapper"] = True


class Part(CPUDispatcher):
    """The dispatcher of a function that has no wrapper for calls from Python."""

    def add_overload(self, cres: Any) -> None:
        """Known to compiled callers, but not to the table that serves calls from Python."""
        self.overloads[tuple(cres.signature.args)] = cres

    def _compile_for_args(self, *args: Any, **kws: Any) -> Any:
        """What a call from Python calls: a dispatcher of its own, compiled in the ordinary way."""
        if not hasattr(self, "for_python"):
            wrappers = "no_cpython_wrapper", "no_cfunc_wrapper"
            options = {k: value for k, value in self.targetoptions.items() if k not in wrappers}
            self.for_python = CPUDispatcher(self.py_func, self.locals, options)
        return self.for_python
