"""Measurements: `python -m benchmarks` prints the tables.

python -m benchmarks --quick            fewer repetitions
python -m benchmarks straight_line      one group
python -m benchmarks loops --one-thread loops with Numba, next to JAX
"""
