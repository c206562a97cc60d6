"""The list of passes, in order; each stage can be shown as text.

    source -> lower -> reverse -> simplify -> merge_common -> eliminate_dead -> emit

`compile_gradient` runs them for one signature; `Compiled.stages` keeps the text after each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any

import flatgrad.primitives.rules  # noqa: F401  (fills the registry)
from flatgrad.backends import python
from flatgrad.codegen.emit import Dialect
from flatgrad.codegen.module import Module, build_module
from flatgrad.codegen.numba_dialect import NumbaDialect
from flatgrad.codegen.numpy_dialect import NumpyDialect
from flatgrad.errors import error
from flatgrad.frontend.lower import Static, lower
from flatgrad.frontend.resolve import Capture
from flatgrad.frontend.source import Source
from flatgrad.ir.ops import Block, Function, Operand, Slot
from flatgrad.ir.printer import print_function
from flatgrad.ir.types import Scalar, Type
from flatgrad.ir.verify import verify
from flatgrad.transform.cse import merge_common
from flatgrad.transform.dce import eliminate_dead
from flatgrad.transform.results import separate_results
from flatgrad.transform.reverse import reverse
from flatgrad.transform.simplify import simplify

Pass = Callable[[Function], Function]

CLEAN_UP: list[tuple[str, Pass]] = [
    ("dead", eliminate_dead),
    ("simplified", simplify),
    ("merged", merge_common),
    ("simplified again", simplify),
    ("merged again", merge_common),
    ("final", eliminate_dead),
    ("results", separate_results),
]
"""The passes after differentiation."""


DIALECTS: dict[str, type[Dialect]] = {"numpy": NumpyDialect, "numba": NumbaDialect}


def load(module: Module, backend: str) -> ModuleType:
    """Execute a generated module; Numba is imported only when its backend is first used."""
    if backend == "numba":
        from flatgrad.backends import numba_cpu

        return numba_cpu.load(module.name, module.text)
    return python.load(module.name, module.text, module.objects)


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be compiled: which derivative, of which parameters, for which backend."""

    kind: str
    wrt: tuple[str, ...]
    has_aux: bool = False
    backend: str = "numpy"


@dataclass(slots=True)
class Compiled:
    """One specialisation: the generated module, the callable, and how it came about."""

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


def compile_gradient(
    source: Source,
    signature: dict[str, Type | Static],
    request: Request,
    hidden_type: Callable[[str, Any], Type],

) -> Compiled:
    """Run all passes for one signature.

    Raises
    ------
    FlatgradError
        If the function is outside the supported subset or has no such derivative.
    """
    stages: dict[str, Callable[[], str]] = {"source": lambda: source.text}
    fn, captures = lower(source, signature, hidden_type)
    _keep(stages, "ir", fn)
    fn = differentiate(fn, request, source)
    _keep(stages, request.kind, fn)
    for name, run in CLEAN_UP:
        fn = run(fn)
        _keep(stages, name, fn)
    verify(fn)
    dialect = DIALECTS[request.backend]()
    module = build_module(fn, f"{fn.name}_{request.kind}", dialect, source.comments)
    stages["emitted"] = lambda: module.text
    loaded = load(module, request.backend)
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


def _keep(stages: dict[str, Callable[[], str]], name: str, fn: Function) -> None:
    stages[name] = lambda: print_function(fn)


def differentiate(fn: Function, request: Request, source: Source) -> Function:
    """The function that computes what was requested."""
    if request.kind == "primal":
        return fn
    output, aux = split_output(fn, request.has_aux, source)
    params = {param.name: param for param in fn.params}
    wrt = [params[name] for name in request.wrt]
    fn, adjoints = reverse(fn, wrt, output=_leaf_index(output))
    results: list[Operand] = []
    value: Any = None
    if request.kind == "value_and_grad":
        value = _collect(fn.results, (output, aux) if request.has_aux else output, results)
    elif request.has_aux:
        value = _collect(fn.results, aux, results)
    gradients = tuple(_add(results, adjoint) for adjoint in adjoints)
    tree: Any = gradients if len(gradients) > 1 else gradients[0]
    if request.kind == "value_and_grad":
        tree = (value, tree)
    elif request.has_aux:
        tree = (tree, value)
    return replace(fn, body=Block(fn.params, fn.body.ops, tuple(results)), tree=tree)


def _add(results: list[Operand], operand: Operand) -> Slot:
    results.append(operand)
    return Slot(len(results) - 1)


def _collect(values: tuple[Operand, ...], tree: Any, results: list[Operand]) -> Any:
    """`tree` with its leaves moved to `results`."""
    match tree:
        case Slot(index):
            return _add(results, values[index])
        case tuple() | list():
            return type(tree)([_collect(values, item, results) for item in tree])
        case dict():
            return {key: _collect(values, item, results) for key, item in tree.items()}
    return tree


def _leaf_index(tree: Any) -> int:
    assert isinstance(tree, Slot)
    return tree.index


def split_output(fn: Function, has_aux: bool, source: Source) -> tuple[Any, Any]:
    """The differentiated leaf of the result, and the rest.

    Raises
    ------
    ArgumentError
        If the function does not return one float number (and, with has_aux, something else).
    """
    span = source.span(source.node)
    output, aux = fn.tree, None
    if has_aux:
        if not (isinstance(fn.tree, tuple) and len(fn.tree) == 2):
            raise error(
                "bad-aux", f"has_aux=True, but `{fn.name}` does not return a pair", span,
                help="return (loss, auxiliary)",
            )  # fmt: skip
        output, aux = fn.tree
    kind = fn.results[output.index].type if isinstance(output, Slot) else None
    if not isinstance(kind, Scalar) or not kind.differentiable:
        found = "nothing" if output is None else kind if kind else f"a {type(output).__name__}"
        raise error(
            "non-scalar-output",
            f"grad needs a function that returns one float number; `{fn.name}` returns {found}",
            span,
            help="reduce the result with np.sum or np.mean, or return (loss, auxiliary) "
            "with has_aux=True",
        )
    return output, aux



