"""The corpus: functions as scientists write them, each with arguments, for all modes and backends.

    EXAMPLES["thomas_algorithm"].function, .arguments

They stand in tests/corpus_programs, by subject; a new file is imported here.
"""

from __future__ import annotations

import tests.corpus_programs.batches
import tests.corpus_programs.calls
import tests.corpus_programs.closures
import tests.corpus_programs.control
import tests.corpus_programs.linear_algebra
import tests.corpus_programs.nests
import tests.corpus_programs.ragged
import tests.corpus_programs.recurrences
import tests.corpus_programs.state
import tests.corpus_programs.statistics
import tests.corpus_programs.stencils  # noqa: F401
from tests.corpus_programs.registry import EXAMPLES, Example, is_float

__all__ = ["EXAMPLES", "Example", "is_float"]
