"""Reads pickle opcodes without ever loading them: which names a pickle refers to, and what its strings tell.

A symbolic machine follows the opcodes of the `pickletools` table with names, strings, integers, tuples, lists and dicts
as values and everything else as unknown. That is enough to resolve STACK_GLOBAL through the memo, to step over the raw
array bytes that joblib writes between opcodes, and to find what an estimator says of the features it was trained with.
Work is bounded by a Budget; large strings and arrays are skipped, not read, and large containers are not kept.
"""

import io
import math
import pickletools
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from argosy.models.decompress import Damaged

_SKIP_BLOCK_BYTES = 1 << 20
# Module names, attribute names and versions are shorter; longer text is of no interest.
_TEXT_BYTES = 512
_KEPT_ENTRIES = 64
_KEPT_PAIRS = 256
_KEPT_ITEMS = 512
_NESTED = 20
_GLOBALS = 2000
_ARRAY = "joblib.numpy_pickle.NumpyArrayWrapper"
_DTYPE = re.compile(r"[<>|=]?([a-zA-Z?])(\d*)")
_CODES = {ord(opcode.code): opcode for opcode in pickletools.opcodes}


class Lost(Exception):
    """The opcodes cannot be followed any further; the text says why."""


@dataclass
class Budget:
    """What one inspection may cost; shared by all its files."""

    opcodes: int = 3_000_000
    read_bytes: int = 512 << 20
    deadline: float = math.inf
    clock: Callable[[], float] = time.monotonic

    def spend(self, opcodes: int = 0, read_bytes: int = 0) -> None:
        self.opcodes -= opcodes
        self.read_bytes -= read_bytes
        if self.opcodes < 0 or self.read_bytes < 0 or self.clock() > self.deadline:
            raise Lost("it is too large to be read as a whole")


@dataclass
class Scan:
    """What was found. `names` are dotted, in the order of the file; `problem` is why the scan ended early.

    `root` is the value that loading would return: a Call for an object, None when it is not known.
    """

    names: list[str] = field(default_factory=list)
    sklearn_version: str | None = None
    problem: str | None = None
    root: Any = None

    @property
    def joblib(self) -> bool:
        return any(name.startswith("joblib.numpy_pickle.") for name in self.names)


def kept_list(value: Any) -> list[Any] | None:
    """The items of a list, or of a numpy array of objects, None when it is neither or too long to have been kept."""
    if isinstance(value, Call):
        value = value.array if value.array is not None else value
        # numpy's arrays: _reconstruct(...), then the state (version, shape, dtype, is_fortran, items).
        state = value.state if isinstance(value, Call) else None
        value = state[4] if isinstance(state, tuple) and len(state) == 5 else None
    return value if isinstance(value, list) and len(value) <= _KEPT_ITEMS else None


def scan(stream: BinaryIO, budget: Budget, can_skip: bool = False) -> Scan:
    """Follow the pickle, and those that stand right behind it, until the end or until it cannot go on.

    `can_skip` says that `stream` seeks forward at no cost, as a plain file does and a compressed one does not.
    """
    found = Scan()
    source = _Source(stream, budget, can_skip)
    try:
        for _ in range(_NESTED):
            value = _Machine(source, found).run()
            found.root = found.root or value
            if source.peek() != b"\x80":
                break
    except (Lost, Damaged) as problem:
        found.problem = str(problem)
    except (IndexError, KeyError, TypeError, ValueError, EOFError) as problem:
        found.problem = f"it is no valid pickle ({type(problem).__name__})"
    return found


class _Source:
    """Reads with a limit, and skips without reading where the stream can seek."""

    def __init__(self, stream: BinaryIO, budget: Budget, can_skip: bool) -> None:
        self._stream = stream if isinstance(stream, io.BufferedReader) else io.BufferedReader(stream)  # type: ignore[type-var]
        self._can_skip = can_skip
        self.budget = budget

    def read(self, size_bytes: int) -> bytes:
        data = self._stream.read(size_bytes)
        if len(data) < size_bytes:
            raise Lost("it ends too early")
        return data

    def line(self) -> bytes | None:
        """Without its newline; None for a long one, which is read past."""
        data = self._stream.readline(_TEXT_BYTES)
        if data.endswith(b"\n"):
            return data[:-1]
        while data and not data.endswith(b"\n"):
            data = self._stream.readline(_SKIP_BLOCK_BYTES)
            self.budget.spend(read_bytes=len(data))
        if not data:
            raise Lost("it ends too early")
        return None

    def skip(self, size_bytes: int) -> None:
        if size_bytes < 0:
            raise Lost("it has a negative length")
        if self._can_skip:
            self._stream.seek(min(size_bytes, 1 << 62), io.SEEK_CUR)
            return
        while size_bytes:
            block = self._stream.read(min(size_bytes, _SKIP_BLOCK_BYTES))
            if not block:
                raise Lost("it ends too early")
            self.budget.spend(read_bytes=len(block))
            size_bytes -= len(block)

    def peek(self) -> bytes:
        return self._stream.peek(1)[:1]


class _Mark:
    """What MARK pushes."""


class _Unknown:
    """A value that does not matter."""


@dataclass
class Call:
    """An object that loading would make: a callable's dotted name, its arguments, the state given to it.

    `array` is what joblib wrote behind an array of objects: the Call that makes the array.
    """

    name: str
    arguments: Any
    state: Any = None
    array: Any = None


@dataclass(frozen=True)
class Name:
    """A module's member, such as a class."""

    dotted: str


_MARK, _UNKNOWN = _Mark(), _Unknown()


class _Machine:
    def __init__(self, source: _Source, found: Scan, depth: int = 0) -> None:
        self._source = source
        self._found = found
        self._depth = depth
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._last_text: str | None = None

    def run(self) -> Any:
        """Until STOP; what loading would return, as far as it is known."""
        source, budget = self._source, self._source.budget
        count = 0
        while True:
            count += 1
            if count % 1024 == 0:
                budget.spend(opcodes=1024)
            code = source.read(1)[0]
            opcode = _CODES.get(code)
            if opcode is None:
                raise Lost(f"it has the unknown opcode {code:#04x}")
            argument = self._argument(opcode.arg)
            if opcode.name == "STOP":
                return self._stack[-1] if self._stack else None
            if step := _STEPS.get(opcode.name):
                step(self, argument)
            else:
                self._generic(opcode)

    def _argument(self, descriptor: pickletools.ArgumentDescriptor | None) -> Any:
        if descriptor is None:
            return None
        if descriptor.n >= 0:
            return descriptor.reader(io.BytesIO(self._source.read(descriptor.n)))
        if descriptor.n == pickletools.UP_TO_NEWLINE:
            lines = [self._source.line() for _ in range(2 if descriptor.name == "stringnl_noescape_pair" else 1)]
            return _UNKNOWN if None in lines else b" ".join(line or b"" for line in lines).decode("utf-8", "replace")
        width = {pickletools.TAKEN_FROM_ARGUMENT1: 1, pickletools.TAKEN_FROM_ARGUMENT8U: 8}.get(descriptor.n, 4)
        size_bytes = int.from_bytes(self._source.read(width), "little")
        if size_bytes > _TEXT_BYTES:
            self._source.skip(size_bytes)
            return _UNKNOWN
        data = self._source.read(size_bytes)
        if descriptor.name.startswith("long"):
            return int.from_bytes(data, "little", signed=True)
        return data.decode("utf-8", "replace")

    def _generic(self, opcode: pickletools.OpcodeInfo) -> None:
        """The effect that the table states, with unknown results."""
        before = opcode.stack_before
        if pickletools.markobject in before:
            self.to_mark()
            before = before[: before.index(pickletools.markobject)]
        for _ in before:
            self._stack.pop()
        after = [_MARK if item is pickletools.markobject else _UNKNOWN for item in opcode.stack_after]
        self._stack.extend(after)

    def push(self, value: Any) -> None:
        if isinstance(value, str):
            # Estimators of scikit-learn keep the version that wrote them in their state, key before value.
            if self._last_text == "_sklearn_version" and self._found.sklearn_version is None:
                self._found.sklearn_version = value
            self._last_text = value
        self._stack.append(value)

    def to_mark(self) -> list[Any]:
        items = []
        while (item := self._stack.pop()) is not _MARK:
            items.append(item)
        return items[::-1]

    def discard(self, _argument: Any) -> None:
        self.to_mark()

    def duplicate(self, _argument: Any) -> None:
        self._stack.append(self._stack[-1])

    def text_integer(self, argument: str) -> None:
        """Protocol 0 writes booleans as the integers `00` and `01`."""
        self.push(argument == "01" if argument in ("00", "01") else int(argument))

    def name(self, module: Any, name: Any) -> None:
        known = isinstance(module, str) and isinstance(name, str)
        dotted = f"{module}.{name}" if known else "<computed>"
        if dotted not in self._found.names and len(self._found.names) < _GLOBALS:
            self._found.names.append(dotted)
        self._stack.append(Name(dotted))

    def stack_name(self, _argument: Any) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        self.name(module, name)

    def global_name(self, argument: Any) -> None:
        module, _, name = argument.partition(" ") if isinstance(argument, str) else (None, "", None)
        self.name(module, name)

    def inst(self, argument: Any) -> None:
        self.to_mark()
        self.global_name(argument)

    def reduce(self, _argument: Any) -> None:
        arguments, function = self._stack.pop(), self._stack.pop()
        self._stack.append(Call(function.dotted, arguments) if isinstance(function, Name) else _UNKNOWN)

    def collect(self, items: list[Any]) -> None:
        self._stack.append(tuple(items) if len(items) <= _KEPT_ENTRIES else _UNKNOWN)

    def take(self, count: int) -> list[Any]:
        items = self._stack[-count:]
        if len(items) < count:
            raise IndexError
        del self._stack[-count:]
        return items

    def new_dict(self, items: list[Any]) -> None:
        self._stack.append({})
        self.set_items(items)

    def set_items(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if isinstance(target, dict) and len(target) + len(items) // 2 <= _KEPT_PAIRS:
            target.update({k: v for k, v in zip(items[::2], items[1::2], strict=False) if isinstance(k, str)})

    def new_list(self, items: list[Any]) -> None:
        self._stack.append(items[: _KEPT_ITEMS + 1])

    def append(self, items: list[Any]) -> None:
        """A list that is cut off has one item more than are kept, which tells it from a whole one."""
        target = self._stack[-1]
        if isinstance(target, list):
            target.extend(items[: max(0, _KEPT_ITEMS + 1 - len(target))])

    def memoize(self, key: int | None) -> None:
        self._memo[len(self._memo) if key is None else int(key)] = self._stack[-1]

    def recall(self, key: int) -> None:
        self.push(self._memo[int(key)])

    def build(self, _argument: Any) -> None:
        state, target = self._stack.pop(), self._stack[-1]
        if isinstance(target, Call):
            target.state = state
            if target.name == _ARRAY:
                target.array = self._skip_array(state)

    def _skip_array(self, state: Any) -> Any:
        """joblib writes an array's bytes right behind the object that describes it (numpy_pickle.py, write_array)."""
        dtype = state.get("dtype") if isinstance(state, dict) else None
        kind = _DTYPE.fullmatch(str(dtype.arguments[0])) if isinstance(dtype, Call) and dtype.arguments else None
        shape = state.get("shape") if isinstance(state, dict) else None
        if not kind or not isinstance(shape, tuple) or not all(isinstance(length, int) for length in shape):
            raise Lost("it has an array of unknown size")
        if kind[1] == "O":
            if self._depth >= _NESTED:
                raise Lost("its arrays of objects are nested too deeply")
            return _Machine(self._source, self._found, self._depth + 1).run()
        if "numpy_array_alignment_bytes" in state:
            self._source.skip(self._source.read(1)[0])
        item_bytes = int(kind[2] or 1) * (4 if kind[1] == "U" else 1)
        self._source.skip(math.prod(shape) * item_bytes)
        return None


_Step = Callable[[_Machine, Any], None]
_STEPS: dict[str, _Step] = {
    **dict.fromkeys(
        (name for name in (o.name for o in pickletools.opcodes) if "UNICODE" in name or name.endswith("STRING")),
        _Machine.push,
    ),
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "LONG1"), _Machine.push),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), _Machine.memoize),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Machine.recall),
    **dict.fromkeys(("REDUCE", "NEWOBJ"), _Machine.reduce),
    "GLOBAL": _Machine.global_name,
    "STACK_GLOBAL": _Machine.stack_name,
    "INST": _Machine.inst,
    "BUILD": _Machine.build,
    "DUP": _Machine.duplicate,
    "EMPTY_TUPLE": lambda machine, _: machine.collect([]),
    "TUPLE1": lambda machine, _: machine.collect(machine.take(1)),
    "TUPLE2": lambda machine, _: machine.collect(machine.take(2)),
    "TUPLE3": lambda machine, _: machine.collect(machine.take(3)),
    "TUPLE": lambda machine, _: machine.collect(machine.to_mark()),
    "EMPTY_LIST": lambda machine, _: machine.new_list([]),
    "LIST": lambda machine, _: machine.new_list(machine.to_mark()),
    "APPEND": lambda machine, _: machine.append(machine.take(1)),
    "APPENDS": lambda machine, _: machine.append(machine.to_mark()),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "DICT": lambda machine, _: machine.new_dict(machine.to_mark()),
    "SETITEM": lambda machine, _: machine.set_items(machine.take(2)),
    "SETITEMS": lambda machine, _: machine.set_items(machine.to_mark()),
    "POP_MARK": _Machine.discard,
    "INT": _Machine.text_integer,
    "STRING": lambda machine, text: machine.push(text.strip("'\"")),
}
