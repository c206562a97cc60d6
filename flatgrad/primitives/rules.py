"""Importing this module fills the registry."""

from flatgrad.primitives import (  # noqa: F401
    arith,
    core,
    create,
    index,
    linalg,
    math,
    nn,
    reduce,
    select,
    shape,
)
