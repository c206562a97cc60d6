"""A short way from the files in Numba's cache to machine code that runs.

    quicken(dispatcher)         # of the function that Python calls

Before it reads a file, Numba loads all that it needs to compile: the types and implementations of
every function it knows, and `scipy.linalg`, of which it uses the bindings of BLAS alone. Code that
is compiled needs none of it but the runtime for arrays, and these bindings if it multiplies
matrices. What is not loaded here is loaded when something is compiled.

Code may refer to something that is there only after all is loaded: then all is loaded first.
"""

from __future__ import annotations

import functools
import importlib
import sys
import threading
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import module_from_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import llvmlite.binding as llvm
from numba.core.caching import CompileResultCacheImpl, FunctionCache
from numba.core.registry import cpu_target
from numba.core.runtime import _nrt_python, rtsys  # type: ignore[attr-defined]

from flatgrad.backends.numba_workspace import OURS, OURS_MODEST, provide_workspace
from flatgrad.collector import paused

PARENT, BINDINGS = "scipy.linalg", "scipy.linalg.cython_blas"


def quicken(dispatcher: Any) -> None:
    """Let a dispatcher read its files in the cache, if it has one, the short way."""
    if type(dispatcher._cache) is FunctionCache:
        dispatcher._cache.__class__ = QuickCache
        dispatcher._cache._impl.__class__ = QuickImplementation


class QuickCache(FunctionCache):
    """Numba's cache of a function."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled function for a signature, or None."""
        with self._guard_against_spurious_io_errors(), paused():
            return self._load_overload(sig, target_context)
        return None


class QuickImplementation(CompileResultCacheImpl):
    """What lies in the files: what Numba puts there.

    Among it are calls that are made before the code is loaded. One more provides what it refers to.
    """

    def reduce(self, cres: Any) -> Any:
        """A compiled function as data, without the text that shows types beside statements."""
        needs = functools.partial(provide, names_needed(cres.library._final_module))
        calls = [needs, *cres.reload_init]
        return super().reduce(cres._replace(type_annotation="", reload_init=calls))

    def rebuild(self, target_context: Any, payload: Any) -> Any:
        """The compiled function; all is loaded first for one that does not say what it needs."""
        calls = [one for part in payload if isinstance(part, list) for one in part]
        if not any(getattr(call, "func", None) is provide for call in calls):
            target_context.refresh()
        return super().rebuild(target_context, payload)


def names_needed(module: Any) -> list[str]:
    """The functions and variables that are not in the code itself."""
    return [
        one.name
        for one in [*module.functions, *module.global_variables]
        if one.is_declaration and not one.name.startswith("llvm.")
    ]


def provide(names: list[str]) -> None:
    """Make known what code refers to: little as a rule, all of Numba if that is not enough."""
    if any(name.startswith("numba_xx") for name in names):
        import_bindings()
    if OURS in names or OURS_MODEST in names:
        provide_workspace()
    if not rtsys._init:
        for name, address in _nrt_python.c_helpers.items():
            llvm.add_symbol(name if name.startswith("_") else f"NRT_{name}", address)
    if any(llvm.address_of_symbol(name) is None for name in names):
        cpu_target.target_context.refresh()


def import_bindings() -> None:
    """Import SciPy's bindings of BLAS, one file of machine code, without the rest of its folder."""
    with _lock:
        if PARENT in sys.modules or BINDINGS in sys.modules:
            return
        try:
            package = importlib.import_module("scipy").__path__
        except ImportError:
            return  # then Numba says what is missing, where it is needed
        spec = PathFinder.find_spec(BINDINGS, [str(Path(folder) / "linalg") for folder in package])
        if spec is None or spec.loader is None:
            return
        bindings = module_from_spec(spec)
        spec.loader.exec_module(bindings)
        sys.modules[BINDINGS] = bindings
        sys.meta_path.insert(0, _Attaching())


_lock = threading.Lock()


class _Attaching(MetaPathFinder, Loader):
    """Makes the bindings an attribute of `scipy.linalg` when that is imported."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name != PARENT:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            self.loader, spec.loader = spec.loader, self
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self.loader
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        self.loader.exec_module(module)
        if BINDINGS in sys.modules:
            module.cython_blas = sys.modules[BINDINGS]  # type: ignore[attr-defined]
