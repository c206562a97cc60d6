"""Files with compiled parts: functions of flatgrad's own, and loops of a program that is edited.

    ~/.cache/flatgrad/__pycache__/exp_f64_2f6c...part        key, and bitcode of LLVM

Numba's files hold machine code of a whole program. A part is linked into programs and optimised
there, so its file holds what it was before that.

The key is all that the code depends on: the texts of the function and of what it calls, the types
of its arguments, the processor, the settings and the releases of Numba, LLVM and Python, and
flatgrad's implementations of NumPy's functions. It stands in the file and is compared, as is a
digest of the file. As Numba's files, these are read only from a folder to which no other user can
write. A file that is not right is none: the function is compiled.
"""

from __future__ import annotations

import hashlib
import pickle
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import llvmlite
import llvmlite.binding as llvm
import numba
import numpy as np
from numba.core import config, sigutils, types
from numba.core.caching import NullCache
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

from flatgrad._version import VERSION
from flatgrad.backends.cache import DISK_TROUBLE, cache_folder, write_file
from flatgrad.backends.numba_start import names_needed, provide
from flatgrad.collector import paused

DIGEST = 20
SETTINGS = (
    "OPT", "LOOP_VECTORIZE", "SLP_VECTORIZE", "BOUNDSCHECK", "DEBUGINFO_DEFAULT",
    "LLVM_REFPRUNE_PASS", "LLVM_REFPRUNE_FLAGS",
)  # fmt: skip
"""What the user's settings of Numba change in the code."""


class Stored(NamedTuple):
    """What a file says of a compiled function."""

    name: str
    bitcode: bytes
    needs: list[str]
    description: Any
    signature: Any
    initial: list[Callable[[], None]]


class PartFiles(NullCache):
    """Where a dispatcher looks for a compiled function, and keeps one."""

    def __init__(self, key: str, name: str) -> None:
        self.key = key
        self.name = name

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled function for these types, or None."""
        key = self.whole_key(sig, target_context)
        content = _read(self.name, key) if key is not None else None
        if content is None:
            return None
        with paused():
            try:
                return _rebuilt(Stored(*pickle.loads(content)), target_context)
            except Exception:  # as may be with pickles of another release, were the key wrong
                return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep a function that was just compiled, if it can be used by another process."""
        key = self.whole_key(sig, data.target_context)
        if key is None:
            return
        stored = _stored(data)
        if stored is not None:
            _write(self.name, key, dumps(tuple(stored)))

    def whole_key(self, sig: Any, target_context: Any) -> str | None:
        """All that the code depends on; None for types that are told apart by identity."""
        kinds, _ = sigutils.normalize_signature(sig)
        surroundings = _surroundings(target_context)
        if surroundings is None or not all(map(_is_plain, kinds)):
            return None
        return "\n".join((self.key, *map(repr, kinds), surroundings))


def _is_plain(kind: Any) -> bool:
    """Whether equal text means equal types: numbers, and arrays and tuples of these."""
    if isinstance(kind, types.Tuple | types.UniTuple):
        return all(map(_is_plain, kind.types))
    if type(kind) is types.Array:
        return _is_plain(kind.dtype)
    if isinstance(kind, types.IntegerLiteral):
        return True
    return type(kind) in (types.Integer, types.Float, types.Boolean)


def _surroundings(target_context: Any) -> str | None:
    """What the code depends on beside its text and types."""
    sources = _digest_of_sources()
    if sources is None:
        return None
    found = [
        VERSION, sources, sys.version, numba.__version__, llvmlite.__version__, np.__version__,
        *target_context.codegen().magic_tuple(), *[str(getattr(config, s, "")) for s in SETTINGS],
    ]  # fmt: skip
    return "\n".join(map(str, found))


@cache
def _digest_of_sources() -> str | None:
    """Of the modules that make code; None if they cannot be read."""
    digest = hashlib.blake2b(digest_size=DIGEST)
    try:
        for path in sorted(Path(__file__).parent.glob("numba_*.py")):
            digest.update(path.read_bytes())
    except OSError:
        return None
    return digest.hexdigest()


def _stored(compiled: Any) -> Stored | None:
    """A compiled function as data; None if its code knows something of this process."""
    library = compiled.library
    if not getattr(library, "is_part", False) or compiled.objectmode or compiled.lifted:
        return None
    library._ensure_finalized()
    module = library._final_module.clone()
    text = str(module)
    for one in module.global_variables:
        if "NumbaEnv" in one.name and text.count(one.name) > 1:
            return None  # it reads Python objects
        if one.name.startswith("numba.dynamic.globals"):
            return None  # it has addresses
    for one in module.functions:
        # Two processes may give the same name to different functions inside Numba. Those that
        # count references are known to LLVM's passes by their names.
        entry = one.name == compiled.fndesc.llvm_func_name
        if not (one.is_declaration or entry or one.name.startswith("NRT_")):
            one.linkage = "internal"
    description = compiled.fndesc
    description.typemap = description.calltypes = None
    initial = list(compiled.reload_init)
    needs = names_needed(module)
    return Stored(
        library.name, module.as_bitcode(), needs, description, compiled.signature, initial
    )


def _rebuilt(stored: Stored, target_context: Any) -> Any:
    """The compiled function, for Numba; None if what it refers to is not there."""
    from flatgrad.backends.numba_compiler import PartLibrary

    for one in stored.initial:
        one()
    provide(stored.needs)
    if any(llvm.address_of_symbol(name) is None for name in stored.needs):
        return None
    library = PartLibrary.of_bitcode(target_context.codegen(), stored.name, stored.bitcode)
    library._reload_init.update(stored.initial)
    known = {
        "typing_context": target_context.typing_context,
        "target_context": target_context,
        "entry_point": object(),
        "signature": stored.signature,
        "objectmode": False,
        "lifted": (),
        "fndesc": stored.description,
        "library": library,
        "reload_init": stored.initial,
        "referenced_envs": (),
    }
    return CompileResult(**{**dict.fromkeys(CompileResult._fields), **known})


def _path(name: str, key: str) -> Path | None:
    folder = cache_folder()
    if folder is None:
        return None
    digest = hashlib.blake2b(key.encode(), digest_size=DIGEST).hexdigest()
    return folder / "__pycache__" / f"{name}_{digest}.part"


def _read(name: str, key: str) -> bytes | None:
    """What a file holds for this very key."""
    try:
        path = _path(name, key)
        content = path.read_bytes() if path is not None else b""
    except DISK_TROUBLE:
        return None
    given, rest = content[:DIGEST], content[DIGEST:]
    start = key.encode() + b"\0"
    if given != hashlib.blake2b(rest, digest_size=DIGEST).digest() or not rest.startswith(start):
        return None
    return rest[len(start) :]


def _write(name: str, key: str, content: bytes) -> None:
    """Put a file there in one step, if the disk lets us."""
    try:
        path = _path(name, key)
        if path is not None:
            rest = key.encode() + b"\0" + content
            write_file(path, hashlib.blake2b(rest, digest_size=DIGEST).digest() + rest)
    except DISK_TROUBLE:
        pass
