"""What Numba is told about flatgrad's own functions, so that `@numba.njit` code may call them.

Numba imports this module by the entry point `numba_extensions` before it compiles anything.
"""

from flatgrad.backends import numba_activations, numba_optim

__all__ = ["numba_activations", "numba_optim", "register"]


def register() -> None:
    """The entry point: the imports have done all there is to do."""
