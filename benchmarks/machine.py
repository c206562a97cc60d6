"""What the figures were measured on and with."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path

import flatgrad

PACKAGES = ("numpy", "numba", "llvmlite", "scipy", "jax", "torch", "autograd")


def processor() -> str:
    """The model of the processor."""
    known = Path("/proc/cpuinfo")
    lines = known.read_text().splitlines() if known.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def vectors() -> str:
    """The widest vector instructions."""
    known = Path("/proc/cpuinfo")
    flags = set(known.read_text().split()) if known.exists() else set()
    for flag, name in (("avx512f", "AVX-512"), ("avx2", "AVX2"), ("sse2", "SSE2")):
        if flag in flags:
            return f", {name}"
    return ""


def versions() -> str:
    """Of Python and of all packages that take part."""
    found = [f"Python {platform.python_version()}", f"flatgrad {flatgrad.__version__}"]
    for name in PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return ", ".join(found)


def description() -> str:
    """Two sentences."""
    cores = os.cpu_count()
    return (
        f"{processor()}{vectors()}, {cores} cores, {platform.system()}; "
        f"one thread for every contestant. {versions()}."
    )


def load() -> str:
    """How busy the machine is."""
    return f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
