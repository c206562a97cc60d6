"""IR as text, the same from run to run.

    func f(%x: float64[X.shape[0]]) -> (%L) {
      %L: float64 = sum(%x)
    }
"""

from __future__ import annotations

from typing import Any

from flatgrad.ir.ops import (
    Apply,
    Block,
    Const,
    For,
    Function,
    If,
    Op,
    Operand,
    Value,
    called_functions,
    substitute,
)


class _Written:
    """Text that prints as itself inside a tree."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


class Printer:
    """Gives every value one name, in order of appearance, and prints."""

    def __init__(self) -> None:
        self.names: dict[Value, str] = {}
        self.taken: set[str] = set()

    def name(self, value: Value) -> str:
        """The printed name of `value`."""
        if value not in self.names:
            base = value.name or (f"{value.part}_" if value.part else "_")
            candidate, count = base, 0
            while candidate in self.taken or candidate in ("_",):
                count += 1
                candidate = f"{base}{'' if base.endswith('_') else '_'}{count}"
            self.taken.add(candidate)
            self.names[value] = f"%{candidate}"
        return self.names[value]

    def operand(self, operand: Operand) -> str:
        """A name or a constant."""
        return repr(operand.value) if isinstance(operand, Const) else self.name(operand)

    def typed(self, value: Value) -> str:
        """`%name: type`."""
        return f"{self.name(value)}: {value.type}"

    def function(self, fn: Function) -> str:
        """The whole function."""
        params = ", ".join(self.typed(param) for param in fn.params)
        body = self.block(fn.body, 1)
        results = ", ".join(self.operand(result) for result in fn.results)
        return "\n".join([f"func {fn.name}({params}) -> ({results}) {{", *body, "}"])

    def block(self, block: Block, depth: int) -> list[str]:
        """The operations of a block, a line each."""
        return [line for op in block.ops for line in self.op(op, depth)]

    def op(self, op: Op, depth: int) -> list[str]:
        """One operation."""
        pad = "  " * depth
        results = ", ".join(self.typed(result) for result in op.results)
        head = f"{pad}{results} = " if results else pad
        match op:
            case Apply():
                return [f"{head}{op.primitive.name}({self.arguments(op)})"]
            case If():
                return [
                    f"{head}if {self.operand(op.condition)} {{",
                    *self.region(op.then, depth + 1),
                    f"{pad}}} else {{",
                    *self.region(op.orelse, depth + 1),
                    f"{pad}}}",
                ]
            case For():
                bounds = ", ".join(self.operand(o) for o in (op.start, op.stop, op.step))
                index, *carried = op.body.params
                head += f"for {self.name(index)} in ({bounds}){self.carrying(carried, op.inits)}"
                exits = " exits" if op.exits else ""
                exits += self.checkpoint(op)
                return [f"{head}{exits} {{", *self.region(op.body, depth + 1), f"{pad}}}"]
        carrying = self.carrying(list(op.body.params), op.inits)
        return [
            f"{head}while{carrying}{' exits' if op.exits else ''} {{",
            *self.region(op.condition, depth + 1),
            f"{pad}}} do {{",
            *self.region(op.body, depth + 1),
            f"{pad}}}",
        ]

    def region(self, block: Block, depth: int) -> list[str]:
        """A nested block with its yield."""
        yields = ", ".join(self.operand(item) for item in block.yields)
        return [*self.block(block, depth), f"{'  ' * depth}yield {yields}".rstrip()]

    def carrying(self, params: list[Value], inits: tuple[Operand, ...]) -> str:
        """`carrying (%y = %y0)`, or nothing."""
        pairs = [
            f"{self.typed(param)} = {self.operand(init)}"
            for param, init in zip(params, inits, strict=True)
        ]
        return f" carrying ({', '.join(pairs)})" if pairs else ""

    def checkpoint(self, op: For) -> str:
        """` checkpoint revolve 10`, or nothing."""
        if op.checkpoint is None:
            return ""
        count = "" if op.snapshots is None else f" {self.operand(op.snapshots)}"
        return f" checkpoint {op.checkpoint}{count}"

    def arguments(self, op: Apply) -> str:
        """The arguments of a call; operands positionally, the rest by keyword."""
        parts = []
        for key, tree in op.arguments.items():
            shown: Any = substitute(tree, lambda i: _Written(self.operand(op.operands[i])))
            parts.append(repr(shown) if isinstance(shown, _Written) else f"{key}={shown!r}")
        return ", ".join(parts)


def print_function(fn: Function) -> str:
    """The text of a function, after those that it calls."""
    bodies = [callee.body for callee in called_functions(fn.body)]
    return "\n\n".join([Printer().function(one) for one in [*bodies, fn]])
