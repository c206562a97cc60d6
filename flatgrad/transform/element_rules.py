"""Operations on small arrays by their elements, see `elements.py`.

    a + b         [a_0 + b, a_1 + b, a_2 + b]
    a @ b         a_0 * b_0 + a_1 * b_1 + a_2 * b_2
    a.T, a[1:]    NumPy's own function, on an array of the elements
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any

import numpy as np

from flatgrad.ir.builder import Builder
from flatgrad.ir.ops import Apply, Const, Operand, Value, substitute
from flatgrad.primitives.core import ASTYPE, FILL, IDENTITY
from flatgrad.primitives.index import ADD_ITEM, SET_ITEM
from flatgrad.primitives.shape import FLATTEN
from flatgrad.primitives.symbolic import Symbol, apply_primitive, is_number


class NotByElements(Exception):
    """The elements of the result do not follow from those of the operands."""


Rule = Callable[[Apply, dict[str, Any], Builder], Any]
RULES: dict[Any, Rule] = {}

MOVES = {
    operator.getitem, np.transpose, np.reshape, np.broadcast_to, np.expand_dims, np.squeeze,
    np.swapaxes, np.moveaxis, np.stack, np.concatenate, np.flip, np.roll, np.ravel, np.copy,
    np.diagonal, np.tile, np.repeat, FLATTEN, IDENTITY, np.ascontiguousarray,
}  # fmt: skip
"""Functions that compute nothing."""

CREATIONS = {
    np.zeros, np.ones, np.empty, np.full, np.eye, np.identity, np.zeros_like, np.ones_like,
    np.empty_like, np.full_like, np.arange,
}  # fmt: skip


OF_NUMBERS = {operator.add, operator.mul, operator.invert, operator.neg, operator.pos, np.mean}
"""NumPy's bools are not Python's here: `True + True` is True, and `~True` False."""


def by_elements(op: Apply, parts: Mapping[Value, np.ndarray], builder: Builder) -> Any:
    """The result of an operation: an array of its elements, or a number.

    Raises
    ------
    NotByElements
        If there is no rule for this operation or these arguments.
    """

    def pick(k: int) -> Any:
        return _elements(op.operands[k], parts, builder)

    arguments = substitute(op.arguments, pick)
    function = op.primitive.function
    rule = RULES.get(function)
    if rule is not None:
        found = rule(op, arguments, builder)
    elif function in MOVES:
        found = _moved(op, arguments)
    elif function in CREATIONS:
        found = _created(op, arguments)
    elif op.primitive.elementwise or function in (np.where,):
        found = _elementwise(op, arguments, builder)
    else:
        raise NotByElements
    shape = _shape(op)
    if isinstance(found, np.ndarray) and not found.shape:
        found = found[()]
    if (found.shape if isinstance(found, np.ndarray) else ()) != shape:
        raise NotByElements
    return found


def _only(found: Any) -> Any:
    return found[()] if isinstance(found, np.ndarray) else found


def _shape(op: Apply) -> Any:
    """The shape of the result."""
    return op.result.type.shape


def _elements(operand: Operand, parts: Mapping[Value, np.ndarray], builder: Builder) -> Any:
    """An operand as rules see it."""
    if isinstance(operand, Const):
        return operand.value
    known = parts.get(operand)
    if known is not None:
        return known
    if operand.type.ndim:
        raise NotByElements
    return Symbol(operand, builder)


def _static(tree: Any) -> None:
    """Refuse what is known only when running."""
    if isinstance(tree, Symbol) or (isinstance(tree, np.ndarray) and tree.dtype == object):
        raise NotByElements
    if isinstance(tree, slice):
        _static((tree.start, tree.stop, tree.step))
    if isinstance(tree, tuple | list):
        for item in tree:
            _static(item)


def _listed(tree: Any) -> Any:
    """Arguments with arrays of objects in the place of single elements."""
    if isinstance(tree, Symbol):
        return _boxed(tree)
    if isinstance(tree, list | tuple):
        return type(tree)([_listed(item) for item in tree])
    return tree


def _boxed(item: Any) -> np.ndarray:
    made = np.empty((), object)
    made[()] = item
    return made


def _moved(op: Apply, arguments: dict[str, Any]) -> Any:
    names = op.primitive.operand_names
    for key, item in arguments.items():
        if key not in names or key == "index":
            _static(item)
    args, kwargs = op.primitive.call_form(
        {key: _listed(item) if key in names else item for key, item in arguments.items()}
    )
    found = op.primitive.function(*args, **kwargs)
    if isinstance(found, np.ndarray) and found.dtype != object:
        return found.astype(object)
    return found.copy() if isinstance(found, np.ndarray) else found


def _created(op: Apply, arguments: dict[str, Any]) -> Any:
    kind = op.result.type
    function = op.primitive.function
    if function in (np.zeros, np.empty, np.zeros_like, np.empty_like, np.ones, np.ones_like):
        number = np.dtype(kind.dtype).type(function in (np.ones, np.ones_like)).item()
        return _filled(_shape(op), number)
    if function in (np.full, np.full_like):
        value = arguments["fill_value" if function is np.full else "value"]
        same = is_number(value) or value.type.dtype == kind.dtype
        if isinstance(value, np.ndarray) or not same:
            raise NotByElements
        return _filled(_shape(op), _python(value, kind.dtype))
    _static(list(arguments.values()))
    args, kwargs = op.primitive.call_form(arguments)
    return _objects(function(*args, **kwargs))


def _python(value: Any, dtype: str) -> Any:
    """A number as Python's, in the kind of a dtype."""
    return np.dtype(dtype).type(value).item() if is_number(value) else value


def _filled(shape: tuple[int, ...], item: Any) -> np.ndarray:
    made = np.empty(shape, object)
    for index in np.ndindex(*shape):
        made[index] = item
    return made


def _objects(found: np.ndarray) -> np.ndarray:
    """An array of Python numbers."""
    made = np.empty(found.shape, object)
    for index in np.ndindex(*found.shape):
        made[index] = found[index].item()
    return made


def _elementwise(op: Apply, arguments: dict[str, Any], builder: Builder) -> Any:
    """The operation on each element of the result."""
    if op.primitive.function in OF_NUMBERS and _all_bools(op):
        raise NotByElements
    names = [name for name in op.primitive.operand_names if name in arguments]
    rest = {key: item for key, item in arguments.items() if key not in names}
    shape = _shape(op)
    given = [np.broadcast_to(_boxed_or(arguments[name]), shape) for name in names]
    made = np.empty(shape, object)
    dtype = op.result.type.dtype
    for index in np.ndindex(*shape):
        own = dict(zip(names, [one[index] for one in given], strict=True)) | rest
        args, kwargs = op.primitive.call_form(own)
        made[index] = _fitted(apply_primitive(op.primitive, args, kwargs, builder), dtype)
    return made


def _all_bools(op: Apply) -> bool:
    return all(operand.type.dtype == "bool" for operand in op.operands)


def _boxed_or(item: Any) -> np.ndarray:
    return item if isinstance(item, np.ndarray) else _boxed(item)


def _fitted(found: Any, dtype: str) -> Any:
    """An element of the dtype of its array."""
    if not isinstance(found, Symbol):
        return _python(found, dtype)
    if found.type.dtype != dtype:
        raise NotByElements
    return found


def rule(*functions: Any) -> Callable[[Rule], Rule]:
    """Register how an operation is done by elements."""

    def register(made: Rule) -> Rule:
        RULES.update(dict.fromkeys(functions, made))
        return made

    return register


@rule(np.array)
def _array(op: Apply, arguments: dict[str, Any], builder: Builder) -> Any:
    """Nested lists of elements and arrays."""
    made = np.empty(_shape(op), object)

    def fill(tree: Any, place: tuple[int, ...]) -> None:
        if isinstance(tree, list | tuple):
            for k, item in enumerate(tree):
                fill(item, (*place, k))
        elif isinstance(tree, np.ndarray):
            made[place] = tree
        else:
            made[place] = _fitted(tree, op.result.type.dtype)

    fill(arguments["object"], ())
    return made


@rule(SET_ITEM, ADD_ITEM, FILL)
def _write(op: Apply, arguments: dict[str, Any], builder: Builder) -> Any:
    index = arguments["position" if op.primitive.function is FILL else "index"]
    _static(index)
    made = arguments["x"].copy()
    value = arguments["value"]
    dtype = op.result.type.dtype
    if not isinstance(made[index], np.ndarray):
        value = _only(value)
        if op.primitive.function is ADD_ITEM:
            value = _sum(made[index], value)
        made[index] = _fitted(value, dtype)
        return made
    if op.primitive.function is ADD_ITEM and _is_gather(index):
        raise NotByElements
    places = np.broadcast_to(_boxed_or(value), made[index].shape)
    if op.primitive.function is ADD_ITEM:
        places = _each(_sum, made[index], places)
    made[index] = _each(lambda item: _fitted(item, dtype), places)
    return made


def _is_gather(index: Any) -> bool:
    entries = index if isinstance(index, tuple) else (index,)
    return any(isinstance(entry, list | np.ndarray) for entry in entries)


def _each(function: Callable[..., Any], *arrays: np.ndarray) -> np.ndarray:
    made = np.empty(arrays[0].shape, object)
    for index in np.ndindex(*made.shape):
        made[index] = function(*[one[index] for one in arrays])
    return made


def _sum(a: Any, b: Any) -> Any:
    if not isinstance(a, Symbol) and a == 0 and isinstance(b, Symbol):
        return b
    return a + b


@rule(np.sum, np.mean)
def _total(op: Apply, arguments: dict[str, Any], builder: Builder) -> Any:
    x, axis = arguments["x"], arguments.get("axis")
    keep = bool(arguments.get("keepdims"))
    if not set(arguments) <= {"x", "axis", "keepdims"} or not isinstance(x, np.ndarray):
        raise NotByElements
    if op.primitive.function in OF_NUMBERS and _all_bools(op):
        raise NotByElements
    axes = tuple(range(x.ndim)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    axes = tuple([a % x.ndim for a in axes])
    rest = [a for a in range(x.ndim) if a not in axes]
    rows = x.transpose([*rest, *axes]).reshape([*[x.shape[a] for a in rest], -1])
    made = np.empty(rows.shape[:-1], object)
    for index in np.ndindex(*made.shape):
        made[index] = reduce(operator.add, rows[index])
        if op.primitive.function is np.mean:
            made[index] = made[index] / rows.shape[-1]
    if keep:
        made = made.reshape([1 if a in axes else x.shape[a] for a in range(x.ndim)])
    return _checked(made, op)


def _checked(made: np.ndarray, op: Apply) -> np.ndarray:
    return _each(lambda item: _fitted(item, op.result.type.dtype), made)


@rule(operator.matmul, np.dot, np.inner, np.vdot)
def _product(op: Apply, arguments: dict[str, Any], builder: Builder) -> Any:
    a, b = (_boxed_or(arguments[name]) for name in op.primitive.operand_names)
    as_matmul = op.primitive.function in (operator.matmul, np.dot) or (a.ndim, b.ndim) == (1, 1)
    if not as_matmul or not {a.ndim, b.ndim} <= {1, 2}:
        raise NotByElements
    left = a if a.ndim == 2 else a[None]
    right = b if b.ndim == 2 else b[:, None]
    made = np.empty((left.shape[0], right.shape[1]), object)
    for i, j in np.ndindex(*made.shape):
        made[i, j] = _inner(left[i], right[:, j])
    return _checked(made.reshape(_shape(op)), op)


def _inner(one: np.ndarray, other: np.ndarray) -> Any:
    """A sum of products; terms with a factor that is the number 0 or 1 in the text are short.

    Such numbers come from `np.zeros` and `np.eye`, and stand for what was never written.
    """
    terms = [_term(a, b) for a, b in zip(one, other, strict=True)]
    return reduce(operator.add, terms)


def _term(a: Any, b: Any) -> Any:
    for x, y in ((a, b), (b, a)):
        if not isinstance(x, Symbol) and x == 1 and isinstance(y, Symbol):
            return y
    return a * b


@rule(np.outer)
def _outer(op: Apply, arguments: dict[str, Any], builder: Builder) -> Any:
    a, b = arguments.values()
    made = np.empty(_shape(op), object)
    for i, j in np.ndindex(*made.shape):
        made[i, j] = a.flat[i] * b.flat[j]
    return _checked(made, op)


@rule(np.cross)
def _cross(op: Apply, arguments: dict[str, Any], builder: Builder) -> Any:
    a, b = arguments.pop("a"), arguments.pop("b")
    if arguments or a.shape != (3,) or b.shape != (3,):
        raise NotByElements
    made = np.empty(3, object)
    for k, (i, j) in enumerate(((1, 2), (2, 0), (0, 1))):
        made[k] = a[i] * b[j] - a[j] * b[i]
    return _checked(made, op)


@rule(ASTYPE)
def _cast(op: Apply, arguments: dict[str, Any], builder: Builder) -> Any:
    x = arguments["x"]
    if not isinstance(x, np.ndarray):
        raise NotByElements
    return _checked(x, op)
