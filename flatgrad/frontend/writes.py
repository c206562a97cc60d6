"""Writes: into elements of arrays, lists and objects, and augmented assignments.

    a[i] += v        a1 = set_item(a, i, a[i] + v), and the buffer of `a` holds a1 from here on
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from flatgrad.frontend.comprehensions import ComprehensionLowerer
from flatgrad.frontend.list_calls import item_of
from flatgrad.frontend.listed import Rows
from flatgrad.frontend.objects import SPECIAL, class_of, special_method
from flatgrad.frontend.refs import Ref
from flatgrad.frontend.rows import append, replaced
from flatgrad.frontend.values import kind_of, occurrences, read
from flatgrad.ir.dims import Dim, Size
from flatgrad.ir.ops import Value
from flatgrad.ir.types import Scalar
from flatgrad.primitives.core import ASTYPE
from flatgrad.primitives.index import ADD_ITEM, SET_ITEM, is_mask
from flatgrad.primitives.symbolic import Symbol, apply_function, is_number


class WriteLowerer(ComprehensionLowerer):
    """Makes new versions of what is written to."""

    def name_value(self, value: Value, name: str) -> None:
        """Name a value that has no variable yet."""
        if value.kept or value in self.shared.root.params:
            return
        value.name = name
        value.kept = self.shared.depth == 0
        if not value.kept:
            value.part = name  # a variable of a function that is called, no temporary

    def augmented(
        self, node: ast.AugAssign, left: Any, function: Callable[..., Any], right: Any
    ) -> Any:
        """In place on an array, list or dict, so that aliases see it; a new value for numbers."""
        if isinstance(left, Ref):
            new = self.binary(node, function, left.read(), right)
            symbol = self.same_type(node, read(new), left.read())
            self.name_value(symbol.value, defined_name(node.target) or "a")
            left.write(symbol)
            return left
        if isinstance(left, Rows) and function is operator.add:
            if not isinstance(right, list | tuple):
                right = self.items(node.value, right)
            for item in right:
                append(self, left, item)
            return left
        if isinstance(left, list):
            if function is not operator.add:
                raise self.refuse(node, "unsupported-statement", "this operation on a list")
            self.owned(node, left)
            left.extend(self.items(node.value, right))
            return left
        if type(left) is dict:
            if function is not operator.or_ or type(right) is not dict:
                raise self.refuse(node, "unsupported-statement", "this operation on a dict")
            self.owned(node, left)
            left.update(right)
            return left
        in_place = special_method(left, f"i{SPECIAL[function]}")
        if in_place is not None:
            return self.call(node.value, in_place, (left, right), {})
        if type(left) is dict and type(right) is dict and function is operator.or_:
            self.owned(node, left)
            left.update(right)
            return left
        if isinstance(left, Symbol):
            self.check_one_name(node, left)
        return self.binary(node, function, left, right)

    def check_one_name(self, node: ast.AST, number: Symbol) -> None:
        """Refuse to augment what may be a 0-d array that goes by another name, too.

        A number is replaced by `+=`, a 0-d array is changed for all that hold it; which of the two
        a NumPy number is, its type does not tell.
        """
        if self.surely_number(number):
            return
        among = occurrences(number, self.roots())
        if number.value in self.shared.aliased or among > 1:
            raise self.refuse(
                node, "unsupported-write",
                "this may be an array of no axes that another name holds, too",
                "write `a = a + b` for a new value",
            )  # fmt: skip

    def same_type(self, node: ast.AST, new: Symbol, old: Symbol) -> Symbol:
        """What an in-place operation stores: the array keeps its shape and dtype.

        Lengths that may be equal are checked by the operation that broadcasts or stores them.
        """
        made = self.builder.made.get(new.value)
        product = made is not None and made.primitive.function is operator.matmul
        shapes = new.type.shape, old.type.shape
        if not _may_be_same(*shapes) or (product and shapes[0] != shapes[1]):
            raise self.refuse(
                node, "shape-mismatch",
                f"an in-place operation cannot change the shape {_shape(old)} to {_shape(new)}",
            )  # fmt: skip
        return self.cast(node, new, old)

    def cast(self, node: ast.AST, new: Any, old: Symbol) -> Any:
        """A value in the dtype of the array that it is stored in."""
        kind = new.type if isinstance(new, Symbol) else None
        if kind is None or kind.dtype == old.type.dtype:
            return new
        if np.dtype(kind.dtype).kind == "f" and np.dtype(old.type.dtype).kind != "f":
            raise self.refuse(
                node, "operand-type", f"floats are stored into an array of {old.type.dtype}",
                "make the array a float array",
            )  # fmt: skip
        if isinstance(kind, Scalar) and kind.weak:
            return new
        return apply_function(ASTYPE, (new, np.dtype(old.type.dtype).type), {}, self.builder)

    def augment_item(
        self, node: ast.AugAssign, target: ast.Subscript, function: Callable[..., Any]
    ) -> None:
        """`a[i] += v`: read, combine, write back (NumPy's rule for duplicates)."""
        base, index = self.value(target.value), self.index(target.slice)
        if isinstance(base, Ref):
            old = self.apply(target, operator.getitem, (base, index), {})
            new = self.binary(node, function, old, self.value(node.value))
            if isinstance(old, Ref):
                new = self.same_type(node, read(new), old.latest)
            self.store(node, base, index, read(new))
            return
        if isinstance(base, Rows):
            old = item_of(self, target, base, index)
            new = self.augmented(node, old, function, self.value(node.value))
            replaced(self, base, index, new)
            return
        if class_of(base) is not None:
            old = self.subscript(target, base, index)
            new = self.augmented(node, old, function, self.value(node.value))
            self.set_item(target, base, index, new)
            return
        self.check_container(target, base)
        old = self.static(target, operator.getitem, base, index, structural=True)
        base[index] = self.augmented(node, old, function, self.value(node.value))

    def set_item(self, target: ast.Subscript, base: Any, index: Any, found: Any) -> None:
        """`__setitem__` of the class of an object."""
        method = special_method(base, "setitem")
        if method is None:
            raise self.refuse(target, "unsupported-write", f"an item of {kind_of(base)}")
        self.call(target, method, (base, index, found), {})

    def write(self, target: ast.Subscript, found: Any) -> None:
        """`a[index] = v`."""
        base, index = self.value(target.value), self.index(target.slice)
        if isinstance(base, Ref):
            mask = index.type if isinstance(index, Symbol) else index
            if isinstance(found, Ref) and found.buffer is base.buffer and is_mask(mask):
                raise self.refuse(
                    target, "unsupported-write",
                    "NumPy reads this array while it writes to the same memory by a mask",
                    "take a `.copy()` of the value",
                )  # fmt: skip
            self.store(target, base, index, read(found))
            return
        if isinstance(base, Rows):
            replaced(self, base, index, found)
            return
        if class_of(base) is not None:
            self.set_item(target, base, index, found)
            return
        self.check_container(target, base)
        self.static(target, operator.setitem, base, index, found, structural=True)

    def check_container(self, target: ast.Subscript, base: Any) -> None:
        """Elements are written to arrays, and to lists and dicts that the function made."""
        if type(base) not in (list, dict):
            text = self.source.segment(target.value)
            if isinstance(base, Symbol) or is_number(base):
                raise self.refuse(
                    target, "unsupported-write", f"`{text}` has no axes: it is a number here",
                    "assign to the variable, or make an array of length 1",
                )  # fmt: skip
            raise self.refuse(target, "unsupported-write", f"`{text}` is no array")
        self.owned(target, base)

    def store(self, node: ast.AST, ref: Ref, index: Any, new: Any) -> None:
        """Make the next version of a buffer."""
        old = ref.read()
        if isinstance(new, list | tuple):
            new = read(self.apply(node, np.array, (list(new),), {}))
        if not isinstance(new, Symbol) and not is_number(new):
            raise self.refuse(
                node, "operand-type", f"{kind_of(new)} is stored into an array"
            )
        with self.at(node, old.value.name):
            new = self.cast(node, new, old)
            symbol = apply_function(SET_ITEM, (old, new, index), {}, self.builder)
            self.name_value(symbol.value, old.value.name or "a")
            ref.write(symbol)

    def add_at(self, node: ast.AST, base: Any, index: Any, value: Any) -> None:
        """`np.add.at(a, index, v)`."""
        old = base.read()
        new = self.cast(node, value, old)
        symbol = apply_function(ADD_ITEM, (old, new, index), {}, self.builder)
        self.name_value(symbol.value, old.value.name or "a")
        base.write(symbol)


def defined_name(target: ast.expr) -> str | None:
    """The variable that a statement defines."""
    while isinstance(target, ast.Subscript):
        target = target.value
    if isinstance(target, ast.Attribute):
        base = defined_name(target.value)
        return target.attr if base in (None, "self") else f"{base}_{target.attr}"
    if isinstance(target, ast.Tuple | ast.List) and target.elts:
        return defined_name(target.elts[0])
    return target.id if isinstance(target, ast.Name) else None


def _may_be_same(one: tuple[Size, ...], other: tuple[Size, ...]) -> bool:
    """Whether two shapes are equal, as far as it is known while compiling."""
    return len(one) == len(other) and all(
        left == right
        or (1 not in (left, right) and (isinstance(left, Dim) or isinstance(right, Dim)))
        for left, right in zip(one, other, strict=True)
    )


def _shape(symbol: Symbol) -> str:
    return f"({', '.join(str(size) for size in symbol.type.shape)})"
