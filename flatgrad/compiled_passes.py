"""The passes for compiled code alone, in order: what they make is fast rather than short.

    ["strips", "segments", "triangles", ..., "fused final", "strips apart", "free loops"]

The module is imported for functions that have arrays or loops: for others nothing here has work to
do, and to import it all takes longer than to differentiate them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from flatgrad.ir.ops import Function
from flatgrad.options import Options
from flatgrad.transform.additions import as_additions
from flatgrad.transform.batch_loops import batch_loops
from flatgrad.transform.carried_rows import carry_rows
from flatgrad.transform.contiguous import copy_strided_parts
from flatgrad.transform.cse import merge_common
from flatgrad.transform.dce import eliminate_dead
from flatgrad.transform.element_sums import sum_elements
from flatgrad.transform.factor_adjoints import structured_factor_adjoints
from flatgrad.transform.free_loops import free_loops
from flatgrad.transform.fuse import fuse
from flatgrad.transform.interchange import interchange
from flatgrad.transform.join_loops import join_loops
from flatgrad.transform.join_slices import join_slices
from flatgrad.transform.loop_ranges import loops_in_ranges
from flatgrad.transform.parts_filled import fill_parts
from flatgrad.transform.parts_inside import take_parts_inside
from flatgrad.transform.products_after import products_after_loops
from flatgrad.transform.products_before import products_before_loops
from flatgrad.transform.quotients import share_quotients
from flatgrad.transform.reciprocals import share_reciprocals
from flatgrad.transform.row_blocks import row_blocks
from flatgrad.transform.rows_filled import fill_rows
from flatgrad.transform.rows_replaced import replace_rows
from flatgrad.transform.sample_blocks import sample_blocks
from flatgrad.transform.second_arrays import with_second_arrays
from flatgrad.transform.strips import strip_mine
from flatgrad.transform.strips_apart import strips_apart
from flatgrad.transform.tape_segments import segment_tapes
from flatgrad.transform.triangular import solve_triangles
from flatgrad.transform.vector_loops import vectorize_loops

Pass = Callable[[Function], Function]

FOR_NUMBA: list[tuple[str, Pass]] = [
    ("triangles", solve_triangles),
    ("adjoints of factors", structured_factor_adjoints),
    ("quotients", share_quotients),
    ("products before loops", products_before_loops),
    ("products after loops", products_after_loops),
    ("loops", vectorize_loops),
    ("loops joined", join_loops),
    ("loops merged", merge_common),
    ("rows carried", carry_rows),
    ("loops final", eliminate_dead),
]
"""The passes before the last of all."""

NESTS: list[tuple[str, Pass]] = [("strips", strip_mine)]
"""The pass before those, unless `fuse=False`, sums keep their order, or trips go to threads."""

SUMS: list[tuple[str, Pass]] = [("sums of elements", sum_elements)]
"""The pass after `SEGMENTS`, unless `fuse=False`, or sums keep their order."""

SEGMENTS: list[tuple[str, Pass]] = [("segments", segment_tapes)]
"""The pass between those, unless `fuse=False`."""

APART: list[tuple[str, Pass]] = [("strips apart", strips_apart)]
"""The pass after all others, where there are strips."""

BLOCKS: list[tuple[str, Pass]] = [
    ("blocks of rows", row_blocks),
    ("blocks of samples", sample_blocks),
]
"""The passes after those, unless `fuse=False`, sums keep their order, or trips go to threads."""

BATCHES: list[tuple[str, Pass]] = [("batches", batch_loops)]
"""The pass after those, unless `fuse=False`, or `deterministic=True`: BLAS has its own order."""

FUSING: list[tuple[str, Pass]] = [
    ("reciprocals", share_reciprocals),
    ("slices joined", join_slices),
    ("fused", fuse),
    ("contiguous", copy_strided_parts),
    ("second arrays", with_second_arrays),
    ("parts in nests", take_parts_inside),
    ("parts filled", fill_parts),
    ("rows replaced", replace_rows),
    ("rows filled", fill_rows),
    ("fused final", eliminate_dead),
]
"""The passes after those, unless `fuse=False`."""

FREE: list[tuple[str, Pass]] = [("free loops", free_loops)]
"""The pass after those, unless trips go to threads."""

IN_RANGES: list[tuple[str, Pass]] = [("in ranges", loops_in_ranges)]
"""The pass for `parallel=True`."""


def early_passes_for(options: Options) -> list[tuple[str, Pass]]:
    """The passes before differentiation."""
    if not options.fuse:
        return []
    return [("interchanged", _in_memory_order(options)), ("additions", as_additions)]


def _in_memory_order(options: Options) -> Pass:
    return partial(interchange, ordered=options.deterministic, threads=options.parallel)


def passes_for(options: Options) -> list[tuple[str, Pass]]:
    """The passes after it that these options ask for."""
    parallel = IN_RANGES if options.parallel else FREE
    if not options.fuse:
        return [*FOR_NUMBA, *parallel]
    nests, apart, blocks = NESTS, APART, BLOCKS
    if options.deterministic or options.parallel:
        nests, apart, blocks = [], [], []
    batches = [] if options.deterministic else [*blocks, *BATCHES]
    fusing = [one for one in FUSING if not (options.parallel and one[1] is fill_parts)]
    nests = [("adjoints interchanged", _in_memory_order(options)), *nests]
    loops = FOR_NUMBA if options.deterministic else [*SUMS, *FOR_NUMBA]
    return [*nests, *SEGMENTS, *loops, *batches, *fusing, *apart, *parallel]
