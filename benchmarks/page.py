"""docs/benchmarks.md: tables and plots of what was measured."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

from benchmarks import machine
from benchmarks.results import RATIOS, TIMES, Result, ratio_rows, styles, time_rows
from benchmarks.workload import PACKAGES

DOCS = Path(__file__).parent.parent / "docs"

HEAD = """# Benchmarks

How long a value with its gradient takes, next to JAX, PyTorch and autograd, to gradients written by
hand in Numba, and to the function alone. Everything on this page was measured in one run by

```sh
pip install '.[bench]'
python -m benchmarks --write
```

on this machine: {machine}

{clock}

- **primal** is the function alone, as a user would compile it: under `numba.njit`, with loops where
  Numba does not know an array function.
- **by hand** is a gradient written for speed: one fused loop where one suffices, strips of points,
  functions that vectorise, no more kept than needed
  ([benchmarks/by_hand](../benchmarks/by_hand)). It shows what the machine can do.
- **flatgrad** differentiates plain NumPy or plain loops
  ([benchmarks/workloads](../benchmarks/workloads)), with `backend="numba"`; where both are natural,
  both were measured.
- **JAX** is compiled and has its best form: `lax.scan` with `jax.checkpoint` for small bodies, one
  matrix product for the mixture, data on the device beforehand.

All contestants take turns in one process with one thread each, and all derivatives are compared
first: to 1e-8 in float64, to 5e-3 in float32. Times are medians; ± is half the distance of the
quartiles. Times do not carry over to another machine, ratios nearly do. A ratio is the median over
the rounds; smaller is better for flatgrad.

`python -m benchmarks --quick` takes a few minutes; names select (`python -m benchmarks GMM`). Some
contestants have few rounds: PyTorch and autograd take seconds for loops of thousands of steps. The
tape is what loops write down in the forward sweep, in bytes per step of the outermost loop. The
first call compiles, with an empty cache; the next process loads from disk.
"""

CLOCKS = {
    False: "Times are by the clock.",
    True: "The machine was busy with other work. Times are seconds of the processor, not of the "
    "clock; but for waiting, they are the same with one thread.",
}


QUICK = " The run had few repetitions and few of the larger workloads (`--quick`)."


def write_page(results: Sequence[Result], cpu_time: bool, quick: bool) -> None:
    """The page and its plots, one for each family."""
    clock = CLOCKS[cpu_time] + (QUICK if quick else "")
    parts = [HEAD.format(machine=machine.description(), clock=clock)]
    for family in dict.fromkeys(result.family for result in results):
        members = [result for result in results if result.family == family]
        name = family.lower().replace(" ", "_")
        parts += [
            f"## {family[0].upper()}{family[1:]}\n",
            f"![{family}](benchmarks/{name}.png)\n",
            _table(RATIOS, [row for each in members for row in ratio_rows(each)]),
            _table(TIMES, [row for each in members for row in time_rows(each)]),
        ]
        _plot(members, family, DOCS / "benchmarks" / f"{name}.png")
    (DOCS / "benchmarks.md").write_text("\n".join(parts), encoding="utf-8")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """In Markdown, without columns that are empty."""
    kept = [k for k in range(len(head)) if any(row[k] for row in rows)]
    lines = [[head[k] for k in kept], ["---"] * len(kept)]
    lines += [[row[k] for k in kept] for row in rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


COLOURS = {"flatgrad": "#2a6f97", "JAX": "#e09f3e", "PyTorch": "#9e2a2b", "autograd": "#8d99ae"}


def _plot(members: Sequence[Result], family: str, path: Path) -> None:
    """Bars: how much longer than the gradient by hand, on a logarithmic axis."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = ("flatgrad", *PACKAGES)
    height = 0.8 / len(names)
    figure, axes = plt.subplots(figsize=(7.5, 1.1 + 0.55 * len(members)))
    for k, name in enumerate(names):
        lengths, places = [], []
        for row, result in enumerate(members):
            if (time := _best(result, name)) is not None:
                lengths.append(time / statistics.median(result.times["by hand"]))
                places.append(row + (k - (len(names) - 1) / 2) * height)
        axes.barh(places, [x - 1e-2 for x in lengths], height, left=1e-2, label=name,
                  color=COLOURS[name])  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlim(left=0.3)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    axes.axvline(1.0, color="black", linewidth=0.8)
    axes.set_yticks(range(len(members)), [each.title for each in members], fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel("time over that of the gradient by hand", fontsize=8)
    axes.tick_params(axis="x", labelsize=7)
    axes.legend(fontsize=7, ncols=len(names), loc="lower center", bbox_to_anchor=(0.5, 1.0))
    figure.tight_layout()
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=90, bbox_inches="tight", metadata={"Software": ""})
    plt.close(figure)


def _best(result: Result, name: str) -> float | None:
    """The median of a contestant; of flatgrad that of its better form."""
    ours = [f"flatgrad, {style}" for style in styles(result)] if name == "flatgrad" else [name]
    found = [statistics.median(result.times[each]) for each in ours if each in result.times]
    return min(found) if found else None
