"""Gradients written by hand in Numba, which emitted code is compared with.

`by_hand.<file>.<function>(*args)` takes the arguments of the workload's own function and returns
`(value, gradients)`, like `value_and_grad`; Jacobians are returned alone. One thread, fused loops
over contiguous views, branch-free functions from `flatgrad.vector_math`, no more tape than needed.
They are compiled when first called.
"""
