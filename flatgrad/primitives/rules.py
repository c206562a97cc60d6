"""Importing this module fills the registry."""

from flatgrad.primitives import (  # noqa: F401
    arith,
    core,
    create,
    einsum,
    index,
    join,
    linalg,
    logic,
    math,
    nn,
    order,
    products,
    rearrange,
    reduce,
    rounding,
    select,
    shape,
    solve,
    special,
    statistics,
)
