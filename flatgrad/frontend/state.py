"""What variables hold and arrays contain at one point of the program, to go back to it.

    before = State(roots)
    ...                        # lower one branch
    after = State(roots, before)
    before.restore()           # lower the other as if nothing had happened

All that can be changed in place is recorded by identity: variables, lists, dicts, references and
buffers. A list that two names hold is one list before and after.
"""

from __future__ import annotations

import types
from typing import Any

from flatgrad.frontend.listed import Rows
from flatgrad.frontend.refs import Buffer, Ref
from flatgrad.frontend.trees import Held, Record
from flatgrad.frontend.values import Maybe

_BUFFER = ("current", "writes", "fixed", "lost", "shares")
_REF = ("buffer", "steps", "cached", "seen")


class State:
    """The content of all that is reachable from `roots`, and of all that `earlier` has recorded."""

    def __init__(self, roots: list[dict[Any, Any]], earlier: State | None = None) -> None:
        self.containers: dict[int, tuple[Any, Any]] = {}
        self.refs: dict[int, tuple[Ref, tuple[Any, ...]]] = {}
        self.buffers: dict[int, tuple[Buffer, tuple[Any, ...]]] = {}
        for root in roots:
            self._visit(root)
        if earlier is not None:
            for table in (earlier.containers, earlier.refs, earlier.buffers):
                for found, _ in table.values():
                    self._visit(found)

    def _visit(self, found: Any) -> None:
        match found:
            case Ref() if id(found) not in self.refs:
                self.refs[id(found)] = found, tuple([getattr(found, name) for name in _REF])
                self._visit(found.buffer)
            case Buffer() if id(found) not in self.buffers:
                content = [getattr(found, name) for name in _BUFFER]
                content[-1] = set(found.shares)
                self.buffers[id(found)] = found, tuple(content)
                for other in found.shares:
                    self._visit(other)
            case Rows():
                self._visit(found.fields)
            case Maybe():
                self._visit(found.value)
            case tuple():
                for item in found:
                    self._visit(item)
            case list() if type(found) is list and id(found) not in self.containers:
                self.containers[id(found)] = found, list(found)
                for item in found:
                    self._visit(item)
            case dict() if type(found) is dict and id(found) not in self.containers:
                self.containers[id(found)] = found, dict(found)
                for item in found.values():
                    self._visit(item)
            case Record():
                self._visit(found.fields)
            case Held():
                for item in found.held():
                    self._visit(item)
            case types.MethodType():
                self._visit(found.__self__)

    def restore(self) -> None:
        """Make everything as it was."""
        for container, content in self.containers.values():
            if isinstance(container, list):
                container[:] = content
            else:
                container.clear()
                container.update(content)
        for ref, fields in self.refs.values():
            for name, value in zip(_REF, fields, strict=True):
                setattr(ref, name, value)
        for buffer, fields in self.buffers.values():
            for name, value in zip(_BUFFER, fields, strict=True):
                setattr(buffer, name, set(value) if name == "shares" else value)

    def changed(self) -> bool:
        """Whether a variable, an item or the content of an array is not what it was."""
        for container, content in self.containers.values():
            keys = range(len(content)) if isinstance(content, list) else list(content)
            if len(container) != len(content) or not all(
                container[key] is content[key] for key in keys
            ):
                return True
        return any(
            buffer.current is not fields[0] or buffer.writes != fields[1]
            for buffer, fields in self.buffers.values()
        )

    def content(self, container: Any) -> Any:
        """What a list or dict held."""
        return self.containers[id(container)][1]

    def of(self, buffer: Buffer) -> dict[str, Any]:
        """The fields of a buffer."""
        return dict(zip(_BUFFER, self.buffers[id(buffer)][1], strict=True))

    def target(self, ref: Ref) -> tuple[Buffer, tuple[Any, ...]]:
        """What a reference referred to."""
        fields = self.refs[id(ref)][1]
        return fields[0], fields[1]
