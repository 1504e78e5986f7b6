"""A reader of result pickles that cannot run anything.

It walks over the opcodes itself and never uses `pickle.Unpickler`, imports nothing that a file
names and calls nothing that a file asks for: each name in a fixed list stands for a few lines of
`stand_ins`, every other name is an error. Lengths are checked against what is there before
anything is allocated, so memory stays within a small multiple of the file and of MAX_STEPS.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from utils.results.plain_data import NotPlainError, check_key, plain
from utils.results.stand_ins import MEANINGS, Array, DType, Name, Object

MAX_STEPS = 2_000_000  # opcodes in a file; a 2019 result has 5,000


# What the steps below raise on a file that does not keep to the rules.
_DAMAGE = (IndexError, KeyError, OverflowError, RecursionError, TypeError, ValueError)


def loads(data: bytes) -> Any:
    """The plain data in a pickle of protocol 2 to 5, as `plain_data.plain` defines it.

    A section proxy of the 2019 results becomes a dict of strings. Raises NotPlainError for anything
    that is not plain data and for damaged files.
    """
    if data[:1] != b"\x80" or data[1:2] not in (b"\2", b"\3", b"\4", b"\5"):
        raise NotPlainError("it is not a pickle of protocol 2 to 5")
    try:
        return plain(_Machine(room=len(data)).run(io.BytesIO(data)))
    except _DAMAGE as error:
        raise NotPlainError(f"damaged ({type(error).__name__}: {error})"[:200]) from error


@dataclass
class _Machine:
    """The pickle machine: a stack with marks (each sets the stack so far aside), and a memo.

    `room` is how many bytes arrays may still take: no honest file uses the same bytes for two.
    """

    room: int
    stack: list[Any] = field(default_factory=list)
    below: list[list[Any]] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    def run(self, stream: io.BytesIO) -> Any:
        for _ in range(MAX_STEPS):
            code = stream.read(1)
            if not code:
                raise NotPlainError("cut off before its end")
            if code not in _OPCODES:
                place = stream.tell() - 1
                raise NotPlainError(f"byte {code!r} at {place} has no place in a result")
            opcode = _OPCODES[code]
            argument = opcode.arg.reader(stream) if opcode.arg else None
            if opcode.name == "STOP":
                if self.below or len(self.stack) != 1 or stream.read(1):
                    raise NotPlainError("damaged: its end is not where it should be")
                return self.stack[0]
            _STEPS[opcode.name](self, argument)
        raise NotPlainError(f"more than {MAX_STEPS:,} parts")

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def mark(self, _: Any) -> None:
        self.below.append(self.stack)
        self.stack = []

    def since_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.below.pop()
        return items

    def pop(self, _: Any) -> None:
        if self.stack:
            self.stack.pop()
        else:  # a mark may be popped too
            self.since_mark()

    def remember(self, index: int | None) -> None:
        self.memo[len(self.memo) if index is None else index] = self.stack[-1]

    def tuple_of(self, size: int) -> None:
        items = tuple(self.stack.pop() for _ in range(size))
        self.stack.append(items[::-1])

    def append(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not list:
            raise NotPlainError("damaged: items for something that is no list")
        target.extend(items)

    def set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        keys, values = items[::2], items[1::2]
        if type(target) is not dict or len(keys) != len(values):
            raise NotPlainError("damaged: items for something that is no dict")
        for key, value in zip(keys, values, strict=True):
            check_key(key)
            target[key] = value

    def name(self, dotted: str) -> None:
        if dotted not in MEANINGS:
            raise NotPlainError(f"it asks for {dotted!r:.80}, which is not data")
        self.stack.append(Name(dotted))

    def stack_name(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.name(f"{module}.{name}" if type(name) is type(module) is str else "?")

    def call(self, _: Any) -> None:
        arguments, called = self.stack.pop(), self.stack.pop()
        if type(called) is not Name or type(arguments) is not tuple:
            raise NotPlainError("it asks for a call, which is not data")
        self.stack.append(MEANINGS[called.dotted](*arguments))
        self.account(self.stack[-1])

    def build(self, _: Any) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if not isinstance(target, Object | DType | Array):
            raise NotPlainError("damaged: a state for something that has none")
        target.build(state)
        if isinstance(target, Array):
            self.account(target.value)

    def account(self, made: Any) -> None:
        self.room -= made.nbytes if isinstance(made, np.ndarray) else 0
        if self.room < 0:
            raise NotPlainError("the same bytes again and again as contents of arrays")


_LITERALS = (
    "BININT BININT1 BININT2 LONG1 LONG4 BINFLOAT SHORT_BINBYTES BINBYTES BINBYTES8 BYTEARRAY8"
    " SHORT_BINUNICODE BINUNICODE BINUNICODE8"
)

_STEPS: dict[str, Callable[[_Machine, Any], object]] = {
    **dict.fromkeys(_LITERALS.split(), _Machine.push),
    "NONE": lambda m, _: m.push(None),
    "NEWTRUE": lambda m, _: m.push(True),
    "NEWFALSE": lambda m, _: m.push(False),
    **dict.fromkeys(("PROTO", "FRAME", "STOP"), lambda m, _: None),  # they say nothing needed here
    "MARK": _Machine.mark,
    "POP": _Machine.pop,
    "POP_MARK": lambda m, _: m.since_mark(),
    **dict.fromkeys(("MEMOIZE", "BINPUT", "LONG_BINPUT"), _Machine.remember),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), lambda m, index: m.push(m.memo[index])),
    "EMPTY_LIST": lambda m, _: m.push([]),
    "EMPTY_DICT": lambda m, _: m.push({}),
    "EMPTY_TUPLE": lambda m, _: m.push(()),
    "TUPLE1": lambda m, _: m.tuple_of(1),
    "TUPLE2": lambda m, _: m.tuple_of(2),
    "TUPLE3": lambda m, _: m.tuple_of(3),
    "TUPLE": lambda m, _: m.push(tuple(m.since_mark())),
    "APPEND": lambda m, _: m.append([m.stack.pop()]),
    "APPENDS": lambda m, _: m.append(m.since_mark()),
    "SETITEM": lambda m, _: m.set_items([m.stack.pop(-2), m.stack.pop()]),
    "SETITEMS": lambda m, _: m.set_items(m.since_mark()),
    "GLOBAL": lambda m, name: m.name(name.replace(" ", ".", 1)),
    "STACK_GLOBAL": _Machine.stack_name,
    **dict.fromkeys(("REDUCE", "NEWOBJ"), _Machine.call),
    "BUILD": _Machine.build,
}
_OPCODES = {op.code.encode("latin-1"): op for op in pickletools.opcodes if op.name in _STEPS}
