"""Measurements: flatgrad, gradients written by hand, JAX, PyTorch and autograd, in one process.

python -m benchmarks                  all workloads, half an hour
python -m benchmarks --quick          most of them, with few repetitions
python -m benchmarks loops GMM        a family, or titles that contain the word
python -m benchmarks --write          all, and docs/benchmarks.md with its plots
python -m benchmarks --check          compare the contestants at tiny sizes, measure nothing
python -m benchmarks start_up         from the decorator to the first gradient, overhead of calls
python -m benchmarks compile_times    the same for Numba, with an empty cache and from the disk
python -m benchmarks training         whole training loops, steps per second
"""
