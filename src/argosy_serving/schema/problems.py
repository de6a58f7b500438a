"""What can be wrong with a request body or a schema file, and how a value is described to its sender."""

from typing import Any


class InvalidInput(ValueError):
    """A request body that does not fit the schema. `pointer` is a JSON pointer (RFC 6901), empty for the whole body."""

    def __init__(self, pointer: str, expected: str, received: str) -> None:
        super().__init__(f"{pointer or 'The request body'}: expected {expected}, received {received}.")
        self.pointer = pointer
        self.expected = expected
        self.received = received


class InvalidSchemaFile(ValueError):
    """A schema file that cannot be used. `pointer` leads to the part that is wrong."""

    def __init__(self, pointer: str, problem: str) -> None:
        super().__init__(f"Schema file{f' at {pointer}' if pointer else ''}: {problem}.")
        self.pointer = pointer
        self.problem = problem


_LONGEST_SHOWN = 60


def step(pointer: str, key: "str | int") -> str:
    """`pointer` one level further down, escaped as RFC 6901 asks."""
    return f"{pointer}/{str(key).replace('~', '~0').replace('/', '~1')}"


def describe(value: Any) -> str:
    """A JSON value in a few words, never more than about a hundred characters."""
    if value is None:
        return "null"
    if value is True or value is False:
        return "true" if value else "false"
    if isinstance(value, str):
        shown = value if len(value) <= _LONGEST_SHOWN else value[:_LONGEST_SHOWN] + "..."
        return f"the string {shown!r}"
    if isinstance(value, (int, float)):
        return f"the number {value!r}"
    if isinstance(value, list):
        return f"an array of {len(value)}" if value else "an empty array"
    if isinstance(value, dict):
        names = ", ".join(str(key)[:_LONGEST_SHOWN] for key in list(value)[:4])
        return f"an object with {names}{', ...' if len(value) > 4 else ''}" if value else "an empty object"
    return type(value).__name__
