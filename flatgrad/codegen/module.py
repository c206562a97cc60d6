"""A module of its own for each compiled function: imports, helpers, the function.

    import numpy as np

    def sigmoid(x): ...

    def f_grad(w0, x0, w1, x1, w2):
        # forward
        ...
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from flatgrad.codegen.apart import ROLE, Apart
from flatgrad.codegen.contracting import may_contract
from flatgrad.codegen.contracting_apart import may_contract_apart
from flatgrad.codegen.dialect import Dialect, Emitted
from flatgrad.codegen.emit import emit
from flatgrad.codegen.lines import Line
from flatgrad.codegen.names import Names
from flatgrad.ir.ops import Apply, Block, For, Function, If, Origin, blocks_of, called_functions

INDENT = "    "


@dataclass(slots=True)
class Module:
    """The text of a generated module and where each of its lines comes from.

    `objects` are functions of the user's that the text calls by name, `statements` the lines of
    the function, each after its sweeps. `nests` are the functions of loops over elements, by name,
    `repeated` those of them that are called in loops. `free` has the first and the last line of
    each loop whose trips do not depend on each other and whose indices are right. A function that
    `has_places` writes results into arrays that it is given, one that `reuses` has a loop that
    makes arrays of the same shapes in each trip.
    """

    name: str
    text: str
    function_text: str
    lines: dict[int, Origin] = field(default_factory=dict)
    statements: list[tuple[frozenset[str], str]] = field(default_factory=list)
    objects: dict[str, Any] = field(default_factory=dict)
    nests: dict[str, Function] = field(default_factory=dict)
    repeated: frozenset[str] = frozenset()
    free: dict[int, int] = field(default_factory=dict)
    has_places: bool = False
    reuses: bool = False


@dataclass(slots=True)
class _Text:
    """A function as text: its name, its head and its lines; of a nest also what it is."""

    name: str
    head: list[str]
    body: list[Line]
    nest: Function | None = None

    @property
    def text(self) -> str:
        """All lines."""
        lines = [INDENT * line.depth + line.text for line in self.body]
        return "\n".join([*self.head, *lines]) + "\n"


def build_module(
    fn: Function,
    name: str,
    dialect: Dialect,
    comments: dict[int, str] | None = None,
) -> Module:
    """Write `fn` as the module of a function called `name`, with the functions that it calls."""
    taken = frozenset({name, *_called(fn.body), *dialect.reserved})
    bodies = [fn.body, *[callee.body.body for callee in called_functions(fn.body)]]
    dialect.exact = any(map(_compares_equal, bodies))
    dialect.contracts = may_contract(fn)
    dialect.contracts_apart = dialect.contracts or may_contract_apart(fn)
    functions = _functions(fn, dialect, taken)
    taken |= {*dialect.functions.values()}
    functions += _written(fn, name, dialect, taken, comments or {})
    function_text = "\n\n".join([one.text for one in functions])
    helpers = [
        (f"{dialect.decorator}\n" if dialect.decorator and text.lstrip().startswith("def ") else "")
        + text.strip() + "\n"
        for text in dialect.helpers.values()
    ]
    imports = _imports("\n".join([*helpers, function_text]))
    text = "\n\n".join([part for part in (imports, *helpers, function_text) if part])
    first = text.count("\n") - function_text.count("\n") + 1
    origins, free = {}, {}
    for one in functions:
        first += len(one.head)
        for k, line in enumerate(one.body):
            if line.origin is not None:
                origins[first + k] = line.origin
            if line.free:
                free[first + k] = first + k + _inside(one.body, k)
        first += len(one.body) + 2
    statements = [item for one in functions for item in _statements(one, len(functions) > 1)]
    nests = {one.name: one.nest for one in functions if one.nest is not None}
    repeated = frozenset(name for body in bodies for name in _in_loops(body, dialect))
    return Module(
        name, text, function_text, origins, statements, dialect.objects, nests, repeated, free,
        has_places=bool(fn.places), reuses=_reuses(fn.body),
    )  # fmt: skip


def _reuses(block: Block) -> bool:
    return any(
        (isinstance(op, For) and op.reuses) or any(map(_reuses, blocks_of(op))) for op in block.ops
    )


def _inside(lines: list[Line], at: int) -> int:
    """How many lines stand deeper under a line."""
    deeper = 0
    for line in lines[at + 1 :]:
        if line.depth <= lines[at].depth:
            break
        deeper += 1
    return deeper


def _functions(fn: Function, dialect: Dialect, taken: frozenset[str]) -> list[_Text]:
    """The functions that are called, each after those that it calls itself; equal ones once."""
    callees = dialect.in_ranges(_callees(fn, dialect))
    for callee in callees:
        taken |= _called(callee.body.body)
    names = Names(taken)
    texts: list[_Text] = []
    known: dict[str, str] = {}
    for callee in callees:
        name = names.fresh(callee.name)
        taken |= {*dialect.functions.values(), name}
        dialect.enter(callee.body)
        body, comments = callee.body, callee.comments
        *apart, made = _written(body, name, dialect, taken, comments, nest=callee.nest)
        key = f"{callee.name}:{made.text.replace(f'def {name}(', 'def (', 1)}"
        if key in known:
            dialect.functions[callee] = known[key]
            continue
        if callee.role:
            made.body.insert(0, Line(f'"""{callee.role}"""'))
        dialect.functions[callee] = known[key] = name
        taken |= {one.name for one in apart}
        texts += [*apart, made]
    return texts


def _callees(fn: Function, dialect: Dialect) -> list[Any]:
    """The functions that are called, nests in the variants that write where their results go."""
    called = called_functions(fn.body)
    if not any(callee.nest for callee in called):
        return list(called)
    holders = [fn, *[callee.body for callee in called if not callee.nest]]
    for holder in holders:
        dialect.destinations.note(holder, dialect.plan(holder)[1])
    found: dict[Any, None] = {}
    for callee in called:
        if not callee.nest:
            found |= dict.fromkeys([*_nests(callee.body.body, dialect), callee])
    return [*(found | dict.fromkeys(_nests(fn.body, dialect)))]


def _nests(block: Block, dialect: Dialect) -> list[Any]:
    """The nests that a block calls."""
    found = []
    for op in block.ops:
        if isinstance(op, Apply) and op.primitive.body is not None and op.primitive.nest:
            found.append(dialect.destinations.callee_of(op))
        for inner in blocks_of(op):
            found += _nests(inner, dialect)
    return found


def _in_loops(block: Block, dialect: Dialect) -> list[str]:
    """The names of the nests that are called in a loop of a block."""
    found = []
    for op in block.ops:
        for inner in blocks_of(op):
            if isinstance(op, If):
                found += _in_loops(inner, dialect)
            else:
                found += [dialect.functions[one] for one in _nests(inner, dialect)]
    return found


def _written(
    fn: Function,
    name: str,
    dialect: Dialect,
    taken: frozenset[str],
    comments: dict[int, str],
    *,
    nest: bool = False,
) -> list[_Text]:
    """One function as text, behind its loops that are functions; `nest` for loops over elements."""
    with dialect.inside(nest=nest):
        emitted = emit(fn, dialect, taken)
    emitted.lines = dialect.told_apart(emitted)
    head = [f"def {name}({', '.join(emitted.params)}):"]
    decorator = dialect.decorator_of(fn, nest=nest)
    if decorator:
        head[:0] = decorator.splitlines()
    apart = [_apart(one, dialect) for one in emitted.apart]
    return [*apart, _Text(name, head, _with_comments(emitted, comments), fn if nest else None)]


def _apart(loop: Apart, dialect: Dialect) -> _Text:
    lines = dialect.told_apart(Emitted(loop.params, loop.lines))
    head = f"def {loop.name}({', '.join(loop.params)}):"
    decorator = dialect.decorator_apart()
    return _Text(
        loop.name,
        [head] if decorator is None else [*decorator.splitlines(), head],
        [Line(f'"""{ROLE}"""'), *lines],
    )


def _called(block: Block) -> set[str]:
    """The names of functions that the module defines or gets: no variable may have them."""
    found = set()
    for op in block.ops:
        if isinstance(op, Apply) and (op.primitive.helper or op.primitive.opaque):
            found.add(op.primitive.text)
        for inner in blocks_of(op):
            found |= _called(inner)
    return found


EQUALITIES = frozenset({"eq", "ne", "equal", "not_equal", "max", "min"})


def _compares_equal(block: Block) -> bool:
    """Whether floats are compared for equality, as the elements of an array are with its maximum.

    The comparison may be in another function than the maximum, and compute the elements again.
    """
    for op in block.ops:
        if isinstance(op, Apply) and op.primitive.name in EQUALITIES:
            kinds = [operand.type.dtype for operand in op.operands]
            if any(kind.startswith("float") for kind in kinds):
                return True
        if any(map(_compares_equal, blocks_of(op))):
            return True
    return False


def _imports(text: str) -> str:
    """The imports that the text needs."""
    lines = []
    if "math." in text:
        lines.append("import math\n")
    if "numba." in text:
        lines.append("import numba")
    if "np." in text:
        lines.append("import numpy as np")
    if "scipy.special." in text:
        lines.append("import scipy.special")
    return "\n".join(lines) + "\n" if lines else ""


def _with_comments(emitted: Emitted, comments: dict[int, str]) -> list[Line]:
    """The user's comments stay with the lines they stand at or above."""
    left = dict(comments)
    result: list[Line] = []
    for line in emitted.lines:
        span = line.origin.span if line.origin and line.origin.sweep == "forward" else None
        if span is not None:
            for above in sorted(k for k in left if span.line - 8 <= k < span.line):
                result.append(Line(left.pop(above), None, line.depth))
            trailing = left.pop(span.line, None)
            if trailing:
                line = replace(line, text=f"{line.text}  {trailing}")
        result.append(line)
    return result


def _statements(function: _Text, several: bool) -> list[tuple[frozenset[str], str]]:
    """The statements with the sweeps that each belongs to; of several functions, with their heads.

    A head belongs to the sweep of what stands under it.
    """
    depth = 0 if several else 1
    lines = [line for line in function.body if line.origin is not None]
    found = [
        (sweeps, INDENT * (line.depth - depth) + line.text)
        for line, sweeps in zip(lines, _sweeps(lines), strict=True)
    ]
    if not several:
        return found
    items: list[tuple[frozenset[str], str]] = []
    for sweep in dict.fromkeys(sweep for sweeps, _ in found for sweep in sorted(sweeps)):
        only = frozenset({sweep})
        items.append((only, function.head[-1]))
        items += [(only, text) for sweeps, text in found if sweep in sweeps]
        items.append((only, ""))
    return items


BOTH = frozenset({"forward", "backward"})


def _sweeps(lines: list[Line]) -> list[frozenset[str]]:
    """The sweeps of each line: its own and, for the head of a loop, those of what is in it.

    What a backward loop reads from a tape belongs to that loop; a loop that serves both sweeps, and
    what was moved in front of it, to both.
    """
    found: list[frozenset[str]] = []
    for group in _top_level(lines):
        own = [line.origin.sweep for line in group if line.origin is not None]
        if own[0] == "early" or set(own) >= BOTH:
            found += [BOTH | set(own) - {"early"}] * len(group)
            continue
        if "backward" in own[0]:
            own = [own[0] if sweep == "tape" else sweep for sweep in own]
        for k, line in enumerate(group):
            inside = {own[k]}
            for j in range(k + 1, len(group)):
                if group[j].depth <= line.depth:
                    break
                inside.add(own[j])
            found.append(frozenset(inside))
    return found


def _top_level(lines: list[Line]) -> list[list[Line]]:
    """Each line at the level of the function, with those inside it."""
    groups: list[list[Line]] = []
    for line in lines:
        if line.depth == 1 or not groups:
            groups.append([])
        groups[-1].append(line)
    return groups
