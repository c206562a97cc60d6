"""The four objectives of ADBench (Microsoft Research), written as users write NumPy and loops.

`gmm`, `lstm`, `ba` and `hand` hold the objectives and draw their data; `in_jax` has the forms that
suit JAX best. `benchmarks/workloads/adbench.py` lists the sizes.
"""
