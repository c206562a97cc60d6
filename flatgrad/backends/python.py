"""Generated source text becomes a module.

    text = "def f_grad(x):\\n    return 2 * x\\n"
    module = load("f_grad", text)
    module.f_grad(3.0)      # 6.0
    module.__file__         # .../f_grad_5d1c0f7a9b3e2c4d6f80.py, or <flatgrad f_grad_5d1c...>

What runs is always the text in hand. The file exists for those who read it: tracebacks, debuggers,
`inspect` and Numba's cache.
"""

from __future__ import annotations

import linecache
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from flatgrad.backends import cache

# Numba (numba/core/caching.py, read in 0.68.1) takes `co_filename` of the function and asks in turn
# - NUMBA_CACHE_DIR, if set: a subfolder named by our folder;
# - in tree: `__pycache__` beside our file, if it can be written to;
# - user wide: ~/.cache/numba, if it can be.
# Each wants that the file exists, so `<flatgrad ...>` gets "cannot cache function". An index
# carries a stamp of the file (its hash; mtime and size in older releases) and is found by file
# name, function name and first line. The same text keeps the same path and is never rewritten
# while right, so a second process hits; a different text has a different path.
#
# When Numba loads machine code it imports the module by name and fails if it cannot; it wants
# nothing from it. `generated` provides an empty one, and the real one stays out of `sys.modules`:
# it goes when its functions go, and cloudpickle (Dask, joblib, Numba itself) sends such functions
# by value, where those of a registered module would be sent as names no other process knows.
# The digest in the name keeps the symbols of different texts apart in the machine code.
PACKAGE = "flatgrad.backends.generated"


def load(name: str, text: str, objects: Mapping[str, Any] | None = None) -> ModuleType:
    """Execute `text` in a fresh module; tracebacks and `inspect.getsource` show its lines.

    `objects` are there by name when it runs: functions of the user's that it calls.

    `module.__flatgrad_cached__` says whether a real file with this text lies behind the module,
    without which Numba's `cache=True` fails. A file of other content is never executed.
    What the text raises when it is compiled or executed comes through unchanged.
    """
    path = cache.store(name, text)
    stem = cache.file_stem(name, text)
    file = str(path) if path else _file_in_memory(stem, text)
    module = ModuleType(f"{PACKAGE}.{stem}")
    module.__dict__.update(__file__=file, __flatgrad_cached__=path is not None)
    module.__dict__.update(objects or {})
    # dont_inherit: the `from __future__` above is ours, not the generated code's.
    exec(compile(text, file, "exec", dont_inherit=True), module.__dict__)
    return module


def _file_in_memory(stem: str, text: str) -> str:
    """A file name that leads to `text` through `linecache`, with no file behind it."""
    file = f"<flatgrad {stem}>"
    # Without a modification time, `linecache.checkcache` leaves an entry alone.
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    return file
