"""Equal functions of several generated modules are compiled once.

    share(module, text, parts, own)     # module.exp_f64 is now the dispatcher of an earlier module

Each generated module carries the text of every function that it calls, so that it can be read and
saved. Many of these texts are flatgrad's own, the same in one module and the next, and most loops
of a program are what they were before it was edited. Here a function is known by its text and by
all that the text refers to; the dispatcher that was made first for these serves all modules of the
process, and with the types of its arguments they are the key of a file that other processes read
(numba_files.py).

A function is left alone where it refers to something of which no text says what it is.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Mapping
from itertools import pairwise
from types import CodeType, ModuleType
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from flatgrad.backends.numba_files import PartFiles

MOST = 300
"""How many of flatgrad's own functions stay, whether or not a module has them."""


def share(module: ModuleType, text: str, parts: Mapping[str, Any], own: int) -> None:
    """Put dispatchers that are known in the place of those of a module that was just executed.

    `parts` are its functions that may be shared, by name. Those in the first `own` lines of the
    text are flatgrad's.
    """
    names = _Names(module, text, parts)
    for name, part in parts.items():
        key = names.key(name)
        if key is None:
            continue
        with _lock:
            known = _known.setdefault(key, part)
            if known is part:
                part._cache = PartFiles(key, part.__name__)
            if part.py_func.__code__.co_firstlineno <= own:
                _kept[key] = _kept.pop(key, known)
                while len(_kept) > MOST:
                    del _kept[next(iter(_kept))]
        setattr(module, name, known)


_lock = threading.Lock()
_known: WeakValueDictionary[str, Any] = WeakValueDictionary()
_kept: dict[str, Any] = {}


class _Names:
    """What the names in a module stand for."""

    def __init__(self, module: ModuleType, text: str, parts: Mapping[str, Any]) -> None:
        self.names = vars(module)
        self.parts = parts
        self.lines = text.splitlines()
        codes = [part.py_func.__code__ for part in parts.values()]
        functions = [getattr(one, "py_func", one) for one in self.names.values()]
        found = [getattr(one, "__code__", None) for one in functions]
        starts = {c.co_firstlineno for c in found if c is not None}
        starts |= {c.co_firstlineno for c in codes}
        self.ends = dict(pairwise([*sorted(starts), len(self.lines) + 1]))
        self.keys: dict[str, str | None] = {}

    def key(self, name: str) -> str | None:
        """A digest of a function and of all that it refers to; None if that is not known."""
        if name not in self.keys:
            self.keys[name] = None  # which holds for one that calls itself
            self.keys[name] = self.new_key(self.parts[name])
        return self.keys[name]

    def new_key(self, part: Any) -> str | None:
        """The same for a function that was not asked for yet."""
        function = part.py_func
        code = function.__code__
        first = code.co_firstlineno
        said = ["\n".join(self.lines[first - 1 : self.ends[first] - 1]).strip()]
        said.append(f"short loops: {getattr(function, 'has_short_loops', None)}")
        if code.co_freevars or getattr(function, "free_loops", None):
            return None
        for name in sorted(set(_names(code)) & self.names.keys()):
            meaning = self.meaning(name)
            if meaning is None:
                return None
            said.append(f"{name}: {meaning}")
        return hashlib.blake2b("\0".join(said).encode(), digest_size=20).hexdigest()

    def meaning(self, name: str) -> str | None:
        """What a name stands for; None if that has no short text."""
        if name in self.parts:
            return self.key(name)
        value = self.names[name]
        if isinstance(value, ModuleType):
            return f"module {value.__name__}"
        if type(value) in (bool, int, float, str):
            return f"{type(value).__name__} {value!r}"
        if type(value) is np.ndarray and not value.dtype.hasobject:
            content = hashlib.blake2b(value.tobytes(), digest_size=20).hexdigest()
            return f"array {value.dtype} {value.shape} {value.flags.writeable} {content}"
        return None


def _names(code: CodeType) -> Iterator[str]:
    """The names of globals and attributes in a function and in those within it."""
    yield from code.co_names
    for one in code.co_consts:
        if isinstance(one, CodeType):
            yield from _names(one)
