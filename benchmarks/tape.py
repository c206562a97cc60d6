"""What a derivative costs besides its time: bytes of tape, and seconds until the first result."""

from __future__ import annotations

import ast
import os
import re
import sys
import tempfile
import time
from types import FrameType
from typing import Any
from unittest import mock

import numpy as np

TAPE = re.compile(r"\w+_tape(_\d+)?")


def taped_bytes(derived: Any, args: tuple[Any, ...]) -> int:
    """Bytes of all tapes: of the emitted text, run as plain Python and watched."""
    module = derived.__flatgrad__.last.compiled.module
    tree = ast.parse(module.text)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.decorator_list = []
    space: dict[str, Any] = {}
    exec(compile(tree, "<tape>", "exec"), space)
    tapes: dict[int, np.ndarray] = {}

    def watch(frame: FrameType, event: str, _: Any) -> None:
        if event == "return" and frame.f_code.co_filename == "<tape>":
            for name, found in frame.f_locals.items():
                if TAPE.fullmatch(name) and isinstance(found, np.ndarray) and found.base is None:
                    tapes[id(found)] = found

    sys.setprofile(watch)
    try:
        space[module.name](*args)
    finally:
        sys.setprofile(None)
    return sum(found.nbytes for found in tapes.values())


def first_call_seconds(derived: Any, args: tuple[Any, ...]) -> float:
    """From nothing to the first result, with an empty cache."""
    with tempfile.TemporaryDirectory() as folder, mock.patch.dict(
        os.environ, {"FLATGRAD_CACHE_DIR": folder}
    ):
        start = time.perf_counter()
        derived(*args)
        return time.perf_counter() - start
