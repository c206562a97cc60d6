"""The list of passes, in order; each stage can be shown as text.

    source -> lower -> differentiate -> simplify -> merge_common -> eliminate_dead -> emit

Those for compiled code alone are in `compiled_passes.py`.

`compile_derivative` runs them for one signature; `Compiled.stages` keeps the text after each.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any

import flatgrad.primitives.rules  # noqa: F401  (fills the registry)
from flatgrad.analysis.apart import Places
from flatgrad.analysis.side_by_side import runs_side_by_side
from flatgrad.backends import python
from flatgrad.codegen.dialect import Dialect
from flatgrad.codegen.module import Module, build_module
from flatgrad.codegen.numpy_dialect import NumpyDialect
from flatgrad.codegen.same_array import astray
from flatgrad.derivatives import (
    SPLIT,
    Request,
    differentiate,
    differentiate_inside,
    early_results,
    waiting,
)
from flatgrad.errors import Span
from flatgrad.frontend.lower import Static, lower
from flatgrad.frontend.resolve import Capture, Captures
from flatgrad.frontend.source import Source
from flatgrad.ir.ops import Apply, Function, called_functions
from flatgrad.ir.printer import print_function
from flatgrad.ir.types import Array, Type
from flatgrad.ir.verify import verify
from flatgrad.options import Options
from flatgrad.transform.additions import as_additions
from flatgrad.transform.cse import merge_common
from flatgrad.transform.dce import eliminate_dead
from flatgrad.transform.layouts import in_one_order
from flatgrad.transform.outline import outline
from flatgrad.transform.places import into_places
from flatgrad.transform.plain import without_marks
from flatgrad.transform.results import separate_results
from flatgrad.transform.simplify import simplify
from flatgrad.transform.split import split
from flatgrad.transform.sums_of_products import sums_of_products

Pass = Callable[[Function], Function]

CLEAN_UP: list[tuple[str, Pass]] = [
    ("dead", eliminate_dead),
    ("simplified", simplify),
    ("merged", merge_common),
    ("simplified again", simplify),
    ("sums of products", sums_of_products),
    ("merged again", merge_common),
    ("final", eliminate_dead),
    ("results", separate_results),
]
"""The passes after differentiation."""


def new_dialect(options: Options) -> Dialect:
    """The dialect of a backend; what writes for Numba is imported when it is first used."""
    if options.backend == "numpy":
        return NumpyDialect(options)
    from flatgrad.codegen.numba_dialect import NumbaDialect

    return NumbaDialect(options)


def load(module: Module, backend: str) -> ModuleType:
    """Execute a generated module; Numba is imported only when its backend is first used."""
    if backend == "numba":
        from flatgrad.backends import numba_cpu

        nests = module.nests.items()
        free = {name: name in module.repeated for name, fn in nests if runs_side_by_side(fn)}
        own = module.text.count("\n") - module.function_text.count("\n")
        keeps = "all" if module.has_places else "modest" if module.reuses else ""
        return numba_cpu.load(
            module.name, module.text, free, module.free, own=own, keeps_memory=keeps
        )
    return python.load(module.name, module.text, module.objects)


@dataclass(slots=True)
class Compiled:
    """One specialisation: the generated module, the callable, and how it came about.

    `late` is the second half of what is compiled in two.
    """

    request: Request
    function: Callable[..., Any]
    module: Module
    graph: Function
    captures: list[Capture]
    hidden: list[Capture]
    written: list[str]
    output_types: list[Type]
    stages: dict[str, Callable[[], str]] = field(default_factory=dict)
    path: str = ""
    late: Compiled | None = None


def compile_derivative(
    source: Source,
    signature: dict[str, Type | Static],
    request: Request,
    hidden_type: Callable[[str, Any], Type],
    trees: dict[str, Any] | None = None,
) -> Compiled:
    """Run all passes for one signature; `trees` are those of the parameters (see structures.py).

    Raises
    ------
    FlatgradError
        If the function is outside the supported subset or has no such derivative.
    """
    stages: dict[str, Callable[[], str]] = {"source": lambda: source.text}
    outlined = _as_it_is if request.in_stacks else outline

    def inside(fn: Function, request: Request, span: Span | None) -> Function:
        """The derivative of a function that is called, with its own calls as calls."""
        return differentiate_inside(outlined(fn), request, span)

    fn, captures = lower(source, signature, hidden_type, inside, trees)
    fn = outlined(fn)
    _keep(stages, "ir", fn)
    if any(not isinstance(op, Apply) for op in fn.body.ops):
        fn = merge_common(fn)  # or what is computed twice would be taped twice
        _keep(stages, "shared", fn)
        early: list[tuple[str, Pass]] = [("additions", as_additions)]
        if request.options.backend == "numba":
            from flatgrad.compiled_passes import early_passes_for

            early = early_passes_for(request.options)
        for name, run in early:
            fn = run(fn)
            _keep(stages, name, fn)
    fn = differentiate(fn, request, source.span(source.node))
    _keep(stages, request.kind, fn)
    fn = without_marks(fn)
    late, rest = None, None
    last = CLEAN_UP[-1:]
    if request.options.backend == "numba" and _has_arrays_or_loops(fn):
        from flatgrad.compiled_passes import passes_for

        last = [*passes_for(request.options), *last]
    for name, run in CLEAN_UP[:-1]:
        fn = run(fn)
        _keep(stages, name, fn)
    if request.kind in SPLIT:
        fn, rest = split(fn, waiting(fn, request), early_results(fn))
        for _, run in last:
            rest = run(rest)
        _keep(stages, "late half", rest)
    for name, run in last:
        fn = run(fn)
        _keep(stages, name, fn)
    if rest is not None:
        late = build(rest, _late_name(rest, request), request, source, captures, {})
    compiled = build(fn, f"{fn.name}_{request.name}", request, source, captures, stages)
    compiled.late = late
    return compiled


def _has_arrays_or_loops(fn: Function) -> bool:
    """Whether a function is more than numbers, computed one after the other."""
    if called_functions(fn.body) or any(isinstance(param.type, Array) for param in fn.params):
        return True
    return any(
        not isinstance(op, Apply) or any(isinstance(out.type, Array) for out in op.results)
        for op in fn.body.ops
    )


def _as_it_is(fn: Function) -> Function:
    """The pass that changes nothing: no stack of tangents goes through a call."""
    return fn


def _late_name(fn: Function, request: Request) -> str:
    last = "tangent" if request.kind == "linearize" else "pullback"
    return f"{fn.name}_{request.name.removesuffix(request.kind)}{last}"


def build(
    fn: Function,
    name: str,
    request: Request,
    source: Source,
    captures: Captures,
    stages: dict[str, Callable[[], str]],
) -> Compiled:
    """Write a function as a module and load it."""
    if request.options.backend == "numba":
        fn = in_one_order(fn)
    verify(fn)
    dialect = _dialect(request.options)
    module = build_module(fn, name, dialect, source.comments)
    stages["emitted"] = lambda: module.text
    loaded = load(module, request.options.backend)
    return Compiled(
        request=request,
        function=getattr(loaded, module.name),
        module=module,
        graph=fn,
        captures=list(captures.static.values()),
        hidden=list(captures.hidden.values()),
        written=sorted(captures.written),
        output_types=[item.type for item in fn.results],
        stages=stages,
        path=loaded.__file__ or "",
    )


def _dialect(options: Options) -> Dialect:
    """What writes a module, and knows which parts of an array are apart."""
    dialect = new_dialect(options)
    dialect.destinations.places = Places.of_function
    return dialect


def with_places(compiled: Compiled, names: dict[int, str], source: Source) -> Compiled:
    """The same function, which writes some of its results into arrays that it is given."""
    options = compiled.request.options
    elsewhere: Collection[int] = names  # threads have zeros of their own
    if not options.parallel:
        fn = into_places(compiled.graph, names)
        elsewhere = astray(fn, _dialect(options).plan(fn)[1], names)
    if elsewhere:
        fn = into_places(compiled.graph, names, elsewhere)
    verify(fn)
    dialect = _dialect(options)
    module = build_module(fn, compiled.module.name, dialect, source.comments)
    loaded = load(module, options.backend)
    stages = {**compiled.stages, "emitted": lambda: module.text}
    _keep(stages, "results", fn)
    return replace(
        compiled, function=getattr(loaded, module.name), module=module, graph=fn, stages=stages,
        path=loaded.__file__ or "",
    )  # fmt: skip


def _keep(stages: dict[str, Callable[[], str]], name: str, fn: Function) -> None:
    stages[name] = lambda: print_function(fn)
