"""A machine that runs a pickle's instructions and can build plain values only.

Python's own unpickler imports what a file names and calls it. This one looks names up in a
table; what the table does not hold is refused with its name, so no code of a file ever runs.
Every instruction does a bounded amount of work on values that the file itself paid for in
bytes, there is no recursion, and dictionary keys are scalars whose hashes are cheap and cannot be
made to collide.
"""

from __future__ import annotations

import io
import mmap
import pickletools
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO, Any, cast

MOST_STEPS = 2_000_000
MOST_CHARACTERS = 1 << 24
MOST_BITS = 128
MOST_ARGUMENTS = 16


class RefusedError(Exception):
    """The stream asks for something that no network needs, or is no pickle at all."""


@dataclass(frozen=True)
class Name:
    """A global that a stream may name; `make` stands for calling it, None forbids that."""

    name: str
    make: Callable[[tuple[Any, ...]], Any] | None = None


@dataclass(eq=False, slots=True)
class Inert:
    """A stand-in for an object: the name of its class or function, arguments and state."""

    name: str
    arguments: tuple[Any, ...]
    state: Any = None


@dataclass
class Budget:
    """The instructions that are left, shared by nested streams."""

    steps: int = MOST_STEPS

    def spend(self) -> None:
        """Takes one. Raises RefusedError when none is left."""
        self.steps -= 1
        if self.steps < 0:
            raise RefusedError(f"it has more than {MOST_STEPS} instructions")


def printable(name: str) -> str:
    """A name from a hostile file as at most 80 plain characters."""
    text = ascii(name[:80])[1:-1]
    return text[:80] + ("..." if len(text) > 80 or len(name) > 80 else "")


def inert(name: str) -> Name:
    """A class whose objects are kept as stand-ins."""
    return Name(name, lambda arguments: Inert(name, arguments))


_MARK = object()


@dataclass
class Machine:
    """Runs one stream.

    Args:
        source: where it is read; afterwards it stands behind the stream's last byte.
        names: the globals that may be named.
        budget: shared with nested streams.
        persistent: what a persistent id stands for; None refuses them.
        most_characters: of one text or bytes. A stream that can be read again and again at the
            price of a few instructions must not have long ones.
    """

    source: io.BytesIO | mmap.mmap
    names: Mapping[str, Name]
    budget: Budget
    persistent: Callable[[Any], Any] | None = None
    most_characters: int | None = None
    stack: list[Any] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    def run(self) -> Any:
        """The value of the stream.

        Raises:
            RefusedError: says what is wrong with the stream.
        """
        for name, argument in self._instructions():
            self.budget.spend()
            if name == "STOP":
                if len(self.stack) != 1 or self.marks:
                    raise RefusedError("its last instruction leaves no single value")
                return self._pop()
            handler = _HANDLERS.get(name)
            if handler is None:
                raise RefusedError(f"it uses the instruction {name}")
            handler(self, argument)
        raise RefusedError("it is truncated")

    def _instructions(self) -> Iterator[tuple[str, Any]]:
        stream = pickletools.genops(cast(IO[bytes], self.source))
        while True:
            try:
                opcode, argument, _ = next(stream)
            except StopIteration:
                return
            except Exception as error:  # the parser of malformed bytes raises almost anything
                reason = printable(" ".join(str(error).split()))
                raise RefusedError(f"it is no pickle or truncated ({reason})") from error
            yield opcode.name, argument

    # ------------------------------------------------------------ the stack

    def _pop(self) -> Any:
        if not self.stack or (self.marks and len(self.stack) <= self.marks[-1]):
            raise RefusedError("it takes a value from an empty stack")
        return self.stack.pop()

    def _top(self) -> Any:
        value = self._pop()
        self.stack.append(value)
        return value

    def _to_mark(self) -> list[Any]:
        if not self.marks:
            raise RefusedError("it takes values up to a mark that it did not set")
        start = self.marks.pop()
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def push(self, value: Any) -> None:
        """Puts a scalar of the stream on the stack, if it is of a sane size."""
        if isinstance(value, str) and len(value) > MOST_CHARACTERS:
            raise RefusedError(f"it has a text of more than {MOST_CHARACTERS} characters")
        limit = self.most_characters
        if limit is not None and isinstance(value, str | bytes) and len(value) > limit:
            raise RefusedError(f"a stored tensor has a text of more than {limit} characters")
        if isinstance(value, int) and value.bit_length() > MOST_BITS:
            raise RefusedError(f"it has an integer of more than {MOST_BITS} bits")
        self.stack.append(value)

    def mark(self, _: Any) -> None:
        """Remembers how high the stack is."""
        self.marks.append(len(self.stack))

    def pop(self, _: Any) -> None:
        """Drops the top."""
        if self.marks and len(self.stack) == self.marks[-1]:
            self.marks.pop()
        else:
            self._pop()

    def pop_mark(self, _: Any) -> None:
        """Drops everything above the mark."""
        self._to_mark()

    def duplicate(self, _: Any) -> None:
        """The top again."""
        self.stack.append(self._top())

    def put(self, key: Any) -> None:
        """Remembers the top under a number."""
        number = len(self.memo) if key is None else int(key)
        if not 0 <= number < 1 << 32:
            raise RefusedError("it stores a value under an impossible number")
        self.memo[number] = self._top()

    def get(self, key: Any) -> None:
        """What was remembered under a number."""
        if int(key) not in self.memo:
            raise RefusedError("it fetches a value that it never stored")
        self.stack.append(self.memo[int(key)])

    # ------------------------------------------------------------ containers

    def tuple_of(self, count: int) -> None:
        """The topmost values as a tuple."""
        values = [self._pop() for _ in range(count)]
        self.stack.append(tuple(reversed(values)))

    def append(self, values: list[Any]) -> None:
        """Adds to the list on the top."""
        self._of(list, "a list").extend(values)

    def set_items(self, values: list[Any]) -> None:
        """Adds pairs to the dictionary on the top."""
        target = self._of(dict, "a dictionary")
        if len(values) % 2:
            raise RefusedError("it has a key without a value")
        for key, value in zip(values[::2], values[1::2], strict=True):
            target[scalar(key)] = value

    def dictionary(self, _: Any) -> None:
        """The pairs above the mark as a dictionary."""
        values = self._to_mark()
        self.stack.append({})
        self.set_items(values)

    def add_items(self, _: Any) -> None:
        """Adds to the set on the top."""
        values = self._to_mark()
        self._of(set, "a set").update(scalar(value) for value in values)

    def set_item(self, _: Any) -> None:
        """Adds one pair to the dictionary on the top."""
        value, key = self._pop(), self._pop()
        self.set_items([key, value])

    def append_one(self, _: Any) -> None:
        """Adds one value to the list on the top."""
        value = self._pop()
        self.append([value])

    def _of(self, kind: type[Any], words: str) -> Any:
        value = self._top()
        if type(value) is not kind:
            raise RefusedError(f"it adds to something that is not {words}")
        return value

    # ------------------------------------------------------------ names and objects

    def named(self, module: Any, name: Any) -> None:
        """Looks a global up. Raises RefusedError with its name if it is not allowed."""
        if not isinstance(module, str) or not isinstance(name, str):
            raise RefusedError("it names a global by something that is not text")
        found = self.names.get(f"{module}.{name}")
        if found is None:
            raise RefusedError(f"it asks for {printable(f'{module}.{name}')}")
        self.stack.append(found)

    def global_by_line(self, argument: Any) -> None:
        """A global whose module and name stand in the instruction, as in protocols 0 to 3."""
        module, _, name = str(argument).partition(" ")
        self.named(module, name)

    def global_by_stack(self, _: Any) -> None:
        """A global whose module and name are on the stack."""
        name, module = self._pop(), self._pop()
        self.named(module, name)

    def refuse_instance(self, argument: Any) -> None:
        """The instruction of protocol 0 that names a class and calls it at once."""
        raise RefusedError(f"it asks for {printable(str(argument).replace(' ', '.', 1))}")

    def call(self, _: Any) -> None:
        """Stands for a call of a global, or for a new object of a class."""
        arguments, function = self._pop(), self._pop()
        if not isinstance(function, Name):
            raise RefusedError("it calls something that is no global")
        if not isinstance(arguments, tuple):
            raise RefusedError(f"it calls {function.name} with no tuple of arguments")
        if len(arguments) > MOST_ARGUMENTS:
            raise RefusedError(f"it calls {function.name} with {len(arguments)} arguments")
        if function.make is None:
            raise RefusedError(f"it calls {function.name}")
        self.stack.append(function.make(arguments))

    def build(self, _: Any) -> None:
        """Gives the stand-in on the top its state; a dictionary's own attributes are dropped."""
        state, target = self._pop(), self._top()
        if isinstance(target, Inert):
            target.state = state
        elif not isinstance(target, dict):
            raise RefusedError("it sets the state of something that has none")

    def persistent_id(self, _: Any) -> None:
        """What the id on the top stands for."""
        key = self._pop()
        if self.persistent is None:
            raise RefusedError("it uses the instruction BINPERSID")
        self.stack.append(self.persistent(key))


def scalar(value: Any) -> Hashable:
    """A key of a dictionary or a member of a set: a text, bytes, None or a number of 64 bits.

    Raises:
        RefusedError: it is something else. The hash of nested tuples can take for ever, and large
            integers can be chosen so that all have one hash.
    """
    if type(value) in (str, bytes, bool, type(None)):
        return value  # type: ignore[no-any-return]
    if type(value) is int and value.bit_length() < 64:
        return value
    raise RefusedError("it has a key that is no text and no small integer")


def _nothing(machine: Machine, argument: Any) -> None:
    """An instruction without effect on the value."""


def _protocol(machine: Machine, argument: Any) -> None:
    if argument > 5:
        raise RefusedError(f"it is of protocol {argument}, the newest known is 5")


_HANDLERS: dict[str, Callable[[Machine, Any], None]] = {
    "PROTO": _protocol,
    "FRAME": _nothing,
    "NONE": lambda m, _: m.push(None),
    "NEWTRUE": lambda m, _: m.push(True),
    "NEWFALSE": lambda m, _: m.push(False),
    "EMPTY_TUPLE": lambda m, _: m.push(()),
    "EMPTY_LIST": lambda m, _: m.push([]),
    "EMPTY_DICT": lambda m, _: m.push({}),
    "EMPTY_SET": lambda m, _: m.push(set()),
    "MARK": Machine.mark,
    "POP": Machine.pop,
    "POP_MARK": Machine.pop_mark,
    "DUP": Machine.duplicate,
    "TUPLE": lambda m, _: m.push(tuple(m._to_mark())),
    "TUPLE1": lambda m, _: m.tuple_of(1),
    "TUPLE2": lambda m, _: m.tuple_of(2),
    "TUPLE3": lambda m, _: m.tuple_of(3),
    "LIST": lambda m, _: m.push(m._to_mark()),
    "DICT": Machine.dictionary,
    "APPEND": Machine.append_one,
    "APPENDS": lambda m, _: m.append(m._to_mark()),
    "SETITEM": Machine.set_item,
    "SETITEMS": lambda m, _: m.set_items(m._to_mark()),
    "ADDITEMS": Machine.add_items,
    "GLOBAL": Machine.global_by_line,
    "STACK_GLOBAL": Machine.global_by_stack,
    "INST": Machine.refuse_instance,
    "REDUCE": Machine.call,
    "NEWOBJ": Machine.call,
    "BUILD": Machine.build,
    "BINPERSID": Machine.persistent_id,
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), Machine.put),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), Machine.get),
    **dict.fromkeys(
        (
            "INT", "LONG", "LONG1", "LONG4", "BININT", "BININT1", "BININT2", "FLOAT", "BINFLOAT",
            "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
            "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
        ),
        Machine.push,
    ),
}  # fmt: skip
