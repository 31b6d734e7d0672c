"""Reads a pickle as plain data, opcode by opcode: nothing that it names is imported or called.

Every opcode makes at most one object, of what stands in the pickle or was made before, so the number of
opcodes and the bytes of the file bound the memory.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

Call = Callable[..., Any]

_VALUES = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE"}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_CONTAINERS: dict[str, Callable[[], Any]] = {"EMPTY_DICT": dict, "EMPTY_LIST": list}
_PUT, _GET = {"BINPUT", "LONG_BINPUT"}, {"BINGET", "LONG_BINGET"}
_SHORT_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
# A released network has 150,000, most of them numbers of its training's history. Each takes about 100 bytes.
_MOST_OPCODES = 2_000_000
_DAMAGE = (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError)


def read_pickle(
    file: BinaryIO, names: Mapping[str, Call], persistent: Callable[[Any], Any] | None = None
) -> Any:
    """Reads a pickle as `torch.save` writes them (protocol 2); leaves the file position after it.

    Args:
        file: its position is the pickle's beginning.
        names: the replacement for each `module name`, called with the arguments that the pickle gives.
        persistent: makes the replacement for a persistent id; None: the pickle may hold none.

    Raises:
        ValueError: if it is damaged, or holds anything but dictionaries, lists, tuples, numbers, text and
            those names; says what.
    """
    machine = _Machine(names, persistent)
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            if count == _MOST_OPCODES:
                raise ValueError(f"its pickle has more than {count} opcodes")
            machine.step(opcode.name, argument)
        return machine.stack.pop()
    except _DAMAGE as error:
        raise ValueError(str(error) or "a value is missing") from error


class _Machine:
    """The unpickler's stack, its marks and its memo."""

    def __init__(self, names: Mapping[str, Call], persistent: Callable[[Any], Any] | None) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.names, self.persistent = names, persistent

    def step(self, name: str, argument: Any) -> None:
        """Does what one opcode says."""
        stack = self.stack
        if name in _VALUES:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _CONTAINERS:
            stack.append(_CONTAINERS[name]())
        elif name in _PUT:
            self.memo[argument] = stack[-1]
        elif name in _GET:
            stack.append(self.memo[argument])
        elif name == "MARK":
            self.marks.append(len(stack))
        elif name == "GLOBAL":
            stack.append(self._named(argument))
        elif name not in ("PROTO", "STOP"):
            self._combine(name)

    def _combine(self, name: str) -> None:
        """An opcode that makes something of what lies on the stack."""
        stack = self.stack
        if name == "TUPLE":
            stack.append(tuple(self._marked()))
        elif name in _SHORT_TUPLES:
            stack.append(tuple(self._taken(_SHORT_TUPLES[name])))
        elif name in ("SETITEMS", "SETITEM"):
            items = self._marked() if name == "SETITEMS" else self._taken(2)
            _expect(stack[-1], dict).update(zip(map(_key, items[::2]), items[1::2], strict=True))
        elif name in ("APPENDS", "APPEND"):
            items = self._marked() if name == "APPENDS" else self._taken(1)
            _expect(stack[-1], list).extend(items)
        elif name == "REDUCE":
            call, arguments = self._taken(2)
            stack.append(_expect(call, NamedCall).call(*_expect(arguments, tuple)))
        elif name == "BUILD":
            # What hangs on an OrderedDict besides its items, such as the versions of a network's parts.
            self._taken(1)
        elif name == "BINPERSID" and self.persistent is not None:
            stack.append(self.persistent(*self._taken(1)))
        else:
            raise ValueError(f"it holds the opcode {name}, which is more than plain weights")

    def _named(self, text: str) -> NamedCall:
        if text not in self.names:
            raise ValueError(f"it holds '{text.replace(' ', '.')[:100]}', which is more than plain weights")
        return NamedCall(self.names[text])

    def _marked(self) -> list[Any]:
        """Takes all above the last mark."""
        return self._taken(len(self.stack) - self.marks.pop())

    def _taken(self, count: int) -> list[Any]:
        if not 0 <= count <= len(self.stack):
            raise ValueError("a value is missing")
        taken = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return taken


class NamedCall:
    """A NamedCall is a function or class that the pickle names."""

    def __init__(self, call: Call) -> None:
        self.call = call


def _expect(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise ValueError(f"it holds {type(value).__name__} instead of {kind.__name__}")
    return value


def _key(value: Any) -> Any:
    # To hash a tuple in a tuple, a million deep, would end the process.
    if not isinstance(value, str | int | float | None):
        raise ValueError(f"it holds {type(value).__name__} as a key")
    return value
