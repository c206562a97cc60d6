"""Stand-ins for generated modules, for those who import them by name: that is, Numba.

    import flatgrad.backends.generated.f_grad_5d1c0f7a9b3e2c4d6f80
        -> an empty module, whether or not this process has generated that code
    __name__ of the functions that backends.python.load executes
        -> flatgrad.backends.generated.f_grad_5d1c0f7a9b3e2c4d6f80

Numba writes the module's name into its cache and imports it when it loads the machine code, of a
generated function or of a user's own that calls one. It fails there if the import fails, but
takes nothing from the module. So this module's name is part of what lies in users' caches: keep it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from types import ModuleType

__path__: list[str] = []  # makes this module a package, with nothing on disk below it


class StandIns(Loader):
    """Finds an empty module for every name directly below this one, and nothing else."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, _ = name.rpartition(".")
        return ModuleSpec(name, self) if package == __name__ else None

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        pass


sys.meta_path.append(StandIns())
