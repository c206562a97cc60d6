"""Symbols: stand-ins for arrays and numbers on which NumPy code is run to build operations.

    y = np.tanh(x) * 2          # with a Symbol x: two operations, and y is a Symbol again

Rules and composites run on them; the frontend makes calls through `apply_function`.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from flatgrad.errors import error
from flatgrad.ir.builder import Builder
from flatgrad.ir.dims import Dim, is_one_element
from flatgrad.ir.ops import (
    Apply,
    Const,
    Operand,
    Requirement,
    Slot,
    Value,
    size_of,
    substitute,
)
from flatgrad.ir.trees import children
from flatgrad.ir.types import Array, Scalar, Type, constant_type
from flatgrad.primitives.lengths import DIM, REQUIRE_EQUAL, REQUIRE_INDEX, SIZE
from flatgrad.primitives.needs import NeedInteger, NeedStatic
from flatgrad.primitives.registry import (
    METHODS,
    Primitive,
    lookup,
    twin_in_math,
)
from flatgrad.primitives.typerules import TypingContext, fresh_size, typing_call

_UFUNC_OPERATORS: dict[Any, Any] = {
    np.add: operator.add, np.subtract: operator.sub, np.multiply: operator.mul,
    np.divide: operator.truediv, np.floor_divide: operator.floordiv, np.remainder: operator.mod,
    np.power: operator.pow, np.matmul: operator.matmul, np.less: operator.lt,
    np.less_equal: operator.le, np.greater: operator.gt, np.greater_equal: operator.ge,
    np.equal: operator.eq, np.not_equal: operator.ne, np.bitwise_and: operator.and_,
    np.bitwise_or: operator.or_, np.bitwise_xor: operator.xor,
}  # fmt: skip


def _binary(function: Callable[..., Any]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    def forward(self: Symbol, other: Any) -> Any:
        return apply_function(function, (self, other), {}, self.builder)

    def reflected(self: Symbol, other: Any) -> Any:
        return apply_function(function, (other, self), {}, self.builder)

    return forward, reflected


def _unary(function: Callable[..., Any]) -> Callable[..., Any]:
    def forward(self: Symbol) -> Any:
        return apply_function(function, (self,), {}, self.builder)

    return forward


class Symbol:
    """A value of the program being built, with the operators and methods of an array."""

    __slots__ = ("builder", "value")
    __array_priority__ = 1000

    def __init__(self, value: Value, builder: Builder) -> None:
        self.value = value
        self.builder = builder

    @property
    def type(self) -> Type:
        """The type of the value."""
        return self.value.type

    @property
    def ndim(self) -> int:
        """The rank; a number has rank 0."""
        return self.type.ndim

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype as NumPy's."""
        return np.dtype(self.type.dtype)

    @property
    def shape(self) -> tuple[Any, ...]:
        """The lengths: ints where known, else symbols of ints."""
        return tuple(self._length(axis) for axis in range(self.ndim))

    @property
    def size(self) -> Any:
        """The number of elements."""
        return apply_function(SIZE, (self,), {}, self.builder) if self.ndim else 1

    @property
    def T(self) -> Any:
        """The transpose."""
        return apply_function(np.transpose, (self,), {}, self.builder)

    def _length(self, axis: int) -> Any:
        length = self.type.shape[axis]
        if isinstance(length, int):
            return length
        source, where = self.value, axis
        if length.is_atom and length.name in self.builder.lengths:
            source, where = self.builder.lengths[length.name]
        return apply_function(DIM, (Symbol(source, self.builder), where), {}, self.builder)

    def __len__(self) -> int:
        length = self.shape[0]
        if isinstance(length, Symbol):
            raise NeedStatic(length, "a length")
        return int(length)

    def __getitem__(self, index: Any) -> Any:
        return apply_function(operator.getitem, (self, index), {}, self.builder)

    def __getattr__(self, name: str) -> Any:
        target = METHODS.get(name)
        if target is None:
            raise AttributeError(name)

        def bound(*args: Any, **kwargs: Any) -> Any:
            return apply_function(target, (self, *args), kwargs, self.builder, spelling="method")

        return bound

    def __bool__(self) -> bool:
        raise NeedStatic(self, "a condition")

    def __index__(self) -> int:
        raise NeedStatic(self, "an integer")

    def __array_ufunc__(self, ufunc: Any, how: str, *inputs: Any, **kwargs: Any) -> Any:
        if how != "__call__":
            raise error("unsupported-call", f"`np.{ufunc.__name__}.{how}` is not supported")
        function = _UFUNC_OPERATORS.get(ufunc, ufunc)
        return apply_function(function, inputs, kwargs, self.builder)

    def __array_function__(self, function: Any, _: Any, args: Any, kwargs: Any) -> Any:
        return apply_function(function, args, kwargs, self.builder)

    __add__, __radd__ = _binary(operator.add)
    __sub__, __rsub__ = _binary(operator.sub)
    __mul__, __rmul__ = _binary(operator.mul)
    __truediv__, __rtruediv__ = _binary(operator.truediv)
    __floordiv__, __rfloordiv__ = _binary(operator.floordiv)
    __mod__, __rmod__ = _binary(operator.mod)
    __pow__, __rpow__ = _binary(operator.pow)
    __matmul__, __rmatmul__ = _binary(operator.matmul)
    __and__, __rand__ = _binary(operator.and_)
    __or__, __ror__ = _binary(operator.or_)
    __xor__, __rxor__ = _binary(operator.xor)
    __lt__, _ = _binary(operator.lt)
    __le__, _ = _binary(operator.le)
    __gt__, _ = _binary(operator.gt)
    __ge__, _ = _binary(operator.ge)
    __eq__, _ = _binary(operator.eq)
    __ne__, _ = _binary(operator.ne)
    __neg__ = _unary(operator.neg)
    __pos__ = _unary(operator.pos)
    __abs__ = _unary(abs)
    __invert__ = _unary(operator.invert)
    __hash__ = None  # type: ignore[assignment]


def operation(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` for use in rules: an operation if called on symbols, else itself."""

    def called(*args: Any, **kwargs: Any) -> Any:
        symbols = [arg for arg in args if isinstance(arg, Symbol)]
        if not symbols:
            return function(*args, **kwargs)
        return apply_function(function, args, kwargs, symbols[0].builder)

    return called


def is_symbolic(tree: Any) -> bool:
    """Whether a tree of arguments holds a Symbol."""
    match tree:
        case Symbol():
            return True
        case slice():
            return is_symbolic((tree.start, tree.stop, tree.step))
    return any(is_symbolic(item) for item in children(tree) or ())


def is_number(value: Any) -> bool:
    """A Python or NumPy number that can be a constant operand."""
    return isinstance(value, bool | int | float | np.number | np.bool_)


def symbol_of(operand: Operand, builder: Builder) -> Any:
    """What a rule sees for an operand: a Symbol, or the plain number of a constant."""
    return operand.value if isinstance(operand, Const) else Symbol(operand, builder)


def operand_of(value: Any) -> Operand:
    """The operand for a Symbol or number."""
    return value.value if isinstance(value, Symbol) else Const(value)


class _Collector:
    """Replaces the symbols and numbers of an argument tree by slots.

    `weaken`: a float64 number that a derivative rule computed from constants, as `np.log(0.5)`,
    takes the dtype of the data it meets, like the Python float it stands for.
    """

    def __init__(self, weaken: bool) -> None:
        self.operands: list[Operand] = []
        self.weaken = weaken

    def collect(self, tree: Any, numbers: bool) -> Any:
        if self.weaken and type(tree) is np.float64:
            tree = float(tree)
        if isinstance(tree, Symbol) or (numbers and is_number(tree)):
            self.operands.append(operand_of(tree))
            return Slot(len(self.operands) - 1)
        match tree:
            case tuple():
                return tuple([self.collect(item, numbers) for item in tree])
            case list():
                return [self.collect(item, numbers) for item in tree]
            case slice():
                return slice(*self.collect((tree.start, tree.stop, tree.step), numbers))
        return tree


def apply_function(
    function: Any,
    args: Sequence[Any],
    kwargs: dict[str, Any],
    builder: Builder,
    *,
    names: dict[str, str] | None = None,
    spelling: str | None = None,
) -> Any:
    """Call `function` on symbols: append the operation, or run the composite that defines it.

    Raises
    ------
    UnsupportedError
        If there is no rule for the function or the way in which it is called.
    """
    if builder.prefer_math and all(_is_scalar(arg) for arg in args):
        function = twin_in_math(function)
    known = lookup(function)
    if known is None:
        name = getattr(function, "__name__", repr(function))
        raise error(
            "unsupported-call",
            f"`{name}` has no rule",
            builder.origin.span,
            help="register one with flatgrad.defvjp, or write it with functions that have rules",
        )
    if not isinstance(known, Primitive):
        _check_signature(function, known, args, kwargs)
        return known(*args, **kwargs)
    return apply_primitive(known, args, kwargs, builder, names=names, spelling=spelling)


def _check_signature(
    function: Any, composite: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]
) -> None:
    """Refuse a call that a composite cannot take; its signature says what is supported."""
    signature = inspect.signature(composite)
    try:
        signature.bind(*args, **kwargs)
    except TypeError as caught:
        unknown = [key for key in kwargs if key not in signature.parameters]
        raise error(
            "unsupported-keyword" if unknown else "unsupported-call",
            f"`{function.__name__}`: {caught}",
            help=f"supported here: {function.__name__}{signature}",
        ) from None


def _is_scalar(arg: Any) -> bool:
    return is_number(arg) or (isinstance(arg, Symbol) and arg.ndim == 0)


def apply_primitive(
    primitive: Primitive,
    args: Sequence[Any],
    kwargs: dict[str, Any],
    builder: Builder,
    *,
    names: dict[str, str] | None = None,
    spelling: str | None = None,
) -> Any:
    """Type one call of a primitive and append it; calls on constants alone are evaluated."""
    bound = primitive.bind(args, kwargs)
    if not (primitive.effect or primitive.creates or is_symbolic(bound)):
        return primitive.evaluate(bound)
    collector = _Collector(weaken=builder.origin.sweep != "forward")
    arguments: dict[str, Any] = {}
    for param in primitive.params:
        if param.name not in bound:
            continue
        value = bound[param.name]
        if not param.dynamic and is_symbolic(value):
            raise NeedStatic(_first_symbol(value), f"`{param.name}` of `{primitive.text}`")
        if param.name == "shape" or not param.operand:
            _check_integers(value, primitive, param.name)
        arguments[param.name] = collector.collect(value, numbers=param.operand)
    operands = tuple(collector.operands)
    context = TypingContext(
        builder.origin.span,
        names or _names(arguments, operands),
        substitute(arguments, operands.__getitem__),
    )
    with typing_call(context):
        kinds = substitute(arguments, lambda k: operands[k].type)
        type_args, type_kwargs = _by_kind(primitive, kinds)
        result_type = primitive.type_rule(*type_args, **type_kwargs)
    builder.requirements += [one for one in context.requirements if not is_one_element(one.left)]
    if builder.origin.sweep == "forward":
        for requirement in context.requirements:
            _guard(requirement, operands, bound, builder)
    value = builder.apply(primitive, operands, arguments, result_type, spelling)
    return None if value is None else Symbol(value, builder)


def _guard(
    requirement: Requirement, operands: Sequence[Operand], bound: dict[str, Any], builder: Builder
) -> None:
    """Check lengths in the emitted code, where neither the arguments' shapes nor NumPy tell.

    Only the user's own operations need it: those of a derivative rule work on shapes that follow
    from theirs.
    """
    if is_one_element(requirement.left):
        _guard_one_element(requirement, bound, builder)
        return
    sides = (requirement.left, requirement.right)
    atoms = {atom for side in sides if isinstance(side, Dim) for atom in side.atoms}
    if not requirement.guard or atoms <= builder.lengths.keys():
        return
    measured = [_measured(side, operands, bound, builder) for side in sides]
    if any(length is None for length in measured):
        raise error(
            "data-dependent-static",
            requirement.message({}),
            requirement.span,
            help="give the parts names of their own, so that their lengths can be compared",
        )
    apply_function(REQUIRE_EQUAL, (*measured, requirement.message({})), {}, builder)


def _guard_one_element(
    requirement: Requirement, bound: dict[str, Any], builder: Builder
) -> None:
    """`x[i : i + 1]` has an element, unless `i` counts the trips over the axis."""
    slice_ = requirement.left.name
    start, _, _ = slice_.bounds
    if builder.is_index(start, slice_.size):
        return
    index = bound["index"] if isinstance(bound["index"], tuple) else (bound["index"],)
    starts = [one.start for one in index if isinstance(one, slice)]
    first = next(one for one in starts if isinstance(one, Symbol) and size_of(one.value) == start)
    x = bound["x"]
    length = apply_function(DIM, (x, x.type.shape.index(slice_.size)), {}, builder)
    apply_function(REQUIRE_INDEX, (first, length, requirement.message({})), {}, builder)


def _measured(
    size: Any, operands: Sequence[Operand], bound: dict[str, Any], builder: Builder
) -> Any:
    """A symbol for a length: an axis of an operand, an int operand, an axis of what is indexed."""
    if isinstance(size, int):
        return size
    values = [operand for operand in operands if isinstance(operand, Value)]
    if "index" in bound and "value" in bound:
        item = apply_function(operator.getitem, (bound["x"], bound["index"]), {}, builder)
        values.append(item.value)
    for value in values:
        if size in value.type.shape:
            axis = value.type.shape.index(size)
            return apply_function(DIM, (Symbol(value, builder), axis), {}, builder)
        if isinstance(value.type, Scalar) and value.type.size == size:
            return Symbol(value, builder)
        if value.type.dtype == "bool" and size == fresh_size(("mask", value)):
            return apply_function(np.count_nonzero, (Symbol(value, builder),), {}, builder)
    return None


def _by_kind(primitive: Primitive, kinds: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    args = [kinds[p.name] for p in primitive.params if p.operand and p.name in kinds]
    rest = {p.name: kinds[p.name] for p in primitive.params if not p.operand and p.name in kinds}
    return args, rest


def _names(arguments: dict[str, Any], operands: tuple[Operand, ...]) -> dict[str, str]:
    """The user's names for operands that have one."""
    names = {}
    for key, tree in arguments.items():
        if isinstance(tree, Slot):
            operand = operands[tree.index]
            if isinstance(operand, Value):
                names[key] = f"`{operand.name}`" if operand.kept else "an operand"
            else:
                names[key] = f"`{operand.value!r}`"
    return names


def _check_integers(tree: Any, primitive: Primitive, name: str) -> None:
    """Lengths and indices that are numbers are ints."""
    match tree:
        case Symbol():
            if not tree.ndim and tree.type.differentiable:
                code = "unsupported-index" if name == "index" else "operand-type"
                what = "an index" if name == "index" else f"`{name}` of `{primitive.text}`"
                raise NeedInteger(tree, error(code, f"{what} is a float", help="use an int"))
        case tuple() | list():
            for item in tree:
                _check_integers(item, primitive, name)
        case slice():
            _check_integers((tree.start, tree.stop, tree.step), primitive, name)


def _first_symbol(tree: Any) -> Symbol:
    if isinstance(tree, Symbol):
        return tree
    items = (tree.start, tree.stop, tree.step) if isinstance(tree, slice) else tree
    return next(_first_symbol(item) for item in items if is_symbolic(item))


def rule_arguments(op: Apply, builder: Builder) -> tuple[list[Any], dict[str, Any]]:
    """The operands and static arguments of a call as its derivative rules see them."""
    shown = substitute(op.arguments, lambda k: symbol_of(op.operands[k], builder))
    return _by_kind(op.primitive, shown)


__all__ = [
    "DIM", "REQUIRE_EQUAL", "REQUIRE_INDEX", "SIZE", "Array", "Dim", "NeedInteger", "NeedStatic",
    "Scalar", "Symbol",
    "apply_function", "apply_primitive", "constant_type", "is_number", "is_symbolic",
    "operand_of", "operation", "rule_arguments", "symbol_of",
]  # fmt: skip
