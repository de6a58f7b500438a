"""A schema file (plain JSON) to `Schema`, which decodes request bodies.

The file: `{"input": {name: entry}, "output": {name: entry}}`. An entry has `type` (numpy, pandas, standard),
`swagger` (JSON Schema, for the documents and for inputs of type standard), and optionally `example` and

- numpy: `dtype`, `shape` (null for a free axis; the first is the batch), `nullable` (null becomes NaN; default false);
- pandas: `columns`, an array of `{"name", "dtype"}` with optional `nullable`, `categories`, `timezone`. An array, so
  that no tool that sorts keys can change the order of the columns. `extra_columns`: `ignore` (default) or `refuse`.

What is left out is taken from `swagger`, which is how a file of 2017 is read: its pickled part (`internal`) is never
looked at. Reading needs neither numpy nor pandas; `prepare` does.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from argosy_serving.schema.arrays import ARRAY_TYPES, compile_array
from argosy_serving.schema.envelopes import unwrap
from argosy_serving.schema.frames import COLUMN_TYPES, EXTENSION_TYPES, Column, Frames
from argosy_serving.schema.problems import InvalidInput, InvalidSchemaFile, describe, step
from argosy_serving.schema.records import Records
from argosy_serving.schema.standard import compile_standard
from argosy_serving.schema.swagger import (
    array_fragment,
    array_of,
    column_of,
    frame_fragment,
    frame_rules,
    made_up,
    nested,
)
from argosy_serving.schema.typed import TypedDecode, compile_typed

TYPES = ("standard", "numpy", "spark", "pandas")  # the order is that of the numbers in a file of 2017
ANYTHING: dict[str, Any] = {}

Decoder = Callable[[Any, str, bool], Any]


def _says_words(body: bytes) -> bool:
    """Whether `true`, `false` or `null` may occur in a JSON text.

    Looking for one byte is a hundred times faster than for a word, and bodies of numbers have hardly any such letter.
    """
    return _says(body, b"u", (b"true", b"null")) or _says(body, b"f", (b"false",))


def _says(body: bytes, letter: bytes, words: tuple[bytes, ...]) -> bool:
    at = body.find(letter)
    for _ in range(8):  # those of the inputs' names, more often than not
        if at < 0:
            return False
        if any(body.startswith(word, max(0, at - word.index(letter))) for word in words):
            return True
        at = body.find(letter, at + 1)
    return any(word in body for word in words)


@dataclass(frozen=True)
class Field:
    """One input or output. `swagger` is its JSON Schema without the example; `make` compiles its decoder.

    Arrays have `shape` and `dtype` (one of ARRAY_TYPES, or '' when `columns` are the fields of a structured type),
    frames `columns`. `make_typed` compiles the decoder of values that have a type already. An input that is not
    `required` may be left out: `run` has a default for it.
    """

    name: str
    type: str
    swagger: Mapping[str, Any]
    example: Any
    has_example: bool
    make: Callable[[], Decoder]
    make_typed: "Callable[[], Callable[[Any, str], Any]] | None" = None
    dtype: str = ""
    shape: "tuple[int | None, ...]" = ()
    columns: "tuple[Column, ...]" = ()
    required: bool = True

    @property
    def is_bytes(self) -> bool:
        return self.type == "standard" and self.swagger.get("format") in ("byte", "binary")


@dataclass(frozen=True)
class _Layout:
    """What `type` makes of an entry; the fields are those of Field."""

    swagger: Mapping[str, Any]
    make: Callable[[], Decoder]
    make_typed: "Callable[[], TypedDecode] | None" = None
    dtype: str = ""
    shape: "tuple[int | None, ...]" = ()
    columns: "tuple[Column, ...]" = ()


@dataclass
class Schema:
    """Decoders and documentation of a service's inputs and outputs, in the order of the file."""

    inputs: dict[str, Field]
    outputs: dict[str, Field]
    _decoders: list[tuple[str, str, Decoder]] = field(default_factory=list)
    _typed: dict[str, Callable[[Any, str], Any]] = field(default_factory=dict)

    @property
    def only_input(self) -> "Field | None":
        """The input when there is exactly one: then a body in another format than JSON is that input."""
        return next(iter(self.inputs.values())) if len(self.inputs) == 1 else None

    @property
    def types(self) -> set[str]:
        return {each.type for each in self.inputs.values()}

    def prepare(self) -> None:
        """Compile the decoders. Raises ImportError when numpy or pandas is needed and missing."""
        self._decoders = [(name, step("", name), each.make()) for name, each in self.inputs.items()]

    def decode_body(self, body: bytes) -> dict[str, Any]:
        """The arguments of `run` from a JSON body. Raises InvalidInput, and nothing else, for a bad one."""
        return self.decode(*self.read(body))

    def read(self, body: bytes) -> tuple[Any, bool]:
        """The JSON document of a body, and whether `decode` must be careful with it. Raises InvalidInput."""
        if not body:
            raise InvalidInput("", self.expected(), "an empty body")
        try:
            return orjson.loads(body), _says_words(body)
        except orjson.JSONDecodeError as problem:
            raise InvalidInput("", "valid JSON", f"something else: {problem}") from None

    def unbatchable(self) -> str:
        """Why the first axis of the inputs cannot be a batch; '' when it can."""
        for name, each in self.inputs.items():
            if each.type == "numpy" and (not each.shape or each.shape[0] is not None):
                return f"the first axis of {name} is not free (its shape is {list(each.shape)})"
            if each.type == "standard" and each.swagger.get("type") != "array":
                return f"{name} is no array"
            if each.type == "standard" and (ruled := {"minItems", "maxItems", "uniqueItems"} & each.swagger.keys()):
                return f"{name} has a rule for the whole array ({', '.join(sorted(ruled))})"
        return "" if self.inputs else "there are no inputs"

    def decode(self, document: Any, careful: bool = True) -> dict[str, Any]:
        """The arguments of `run`. `careful` may be False when no true, false or null occurs in `document`."""
        if len(self._decoders) != len(self.inputs):
            self.prepare()
        if type(document) is not dict:
            raise InvalidInput("", self.expected(), describe(document))
        if not document.keys() >= self.inputs.keys():
            return self._decode_incomplete(document, careful)
        arguments = {name: decode(document[name], at, careful) for name, at, decode in self._decoders}
        if len(document) > len(arguments):
            self._refuse_unknown(document, arguments)
        return arguments

    def _decode_incomplete(self, document: dict[str, Any], careful: bool) -> dict[str, Any]:
        """A body that lacks an input: in an envelope of other servers, or one that may be left out."""
        needed = [name for name, each in self.inputs.items() if each.required]
        kinds = {name: each.type for name, each in self.inputs.items()}
        columns = {name: [column.name for column in each.columns] for name, each in self.inputs.items()}
        unwrapped = unwrap(document, needed, kinds, columns)
        if unwrapped is None:
            return self._decode_named(document, careful)
        try:
            return self._decode_named(unwrapped.document, careful)
        except InvalidInput as problem:
            raise unwrapped.relocated(problem) from None

    def _decode_named(self, document: dict[str, Any], careful: bool) -> dict[str, Any]:
        for name, each in self.inputs.items():
            if each.required and name not in document:
                raise InvalidInput(step("", name), "this input", "nothing")
        arguments = {n: decode(document[n], at, careful) for n, at, decode in self._decoders if n in document}
        self._refuse_unknown(document, arguments)
        return arguments

    def _refuse_unknown(self, document: Mapping[str, Any], arguments: Mapping[str, Any]) -> None:
        for name in document:
            if name not in arguments:
                raise InvalidInput(step("", name), self.expected(), "an unknown input")

    def decode_mixed(self, ready: Mapping[str, Any], document: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of `run`, of which `ready` are decoded already and the others are JSON values."""
        if len(self._decoders) != len(self.inputs):
            self.prepare()
        arguments = {}
        for name, at, decode in self._decoders:
            if name not in ready and name not in document:
                if not self.inputs[name].required:
                    continue
                raise InvalidInput(at, "this input", "nothing")
            arguments[name] = ready[name] if name in ready else decode(document[name], at, True)
        for name in (*ready, *document):
            if name not in arguments:
                raise InvalidInput(step("", name), self.expected(), "an unknown input")
        return arguments

    def decode_one(self, name: str, value: Any) -> Any:
        """One input from its JSON value."""
        return self.decode_mixed({other: None for other in self.inputs if other != name}, {name: value})[name]

    def decode_typed(self, name: str, value: Any, at: str) -> Any:
        """An input from an array, or from a frame's columns by name (arrays or lists of JSON cells)."""
        decode = self._typed.get(name)
        if decode is None:
            make = self.inputs[name].make_typed
            assert make is not None, "only arrays and frames have types of their own"
            decode = self._typed[name] = make()
        return decode(value, at)

    def expected(self) -> str:
        """What a body must hold, in words."""
        return f"a JSON object with {', '.join(self.inputs)}" if self.inputs else "an empty JSON object"


def parse_schema(document: Any) -> Schema:
    """The schema of a file's JSON (decoded, or its bytes or text). Raises InvalidSchemaFile."""
    if isinstance(document, (str, bytes)):
        try:
            document = orjson.loads(document)
        except orjson.JSONDecodeError as problem:
            raise InvalidSchemaFile("", f"it is not valid JSON: {problem}") from None
    if not isinstance(document, Mapping) or not isinstance(document.get("input"), Mapping):
        raise InvalidSchemaFile("", 'an object {"input": {name: {...}}} is needed')
    outputs = document.get("output") or {}
    if not isinstance(outputs, Mapping):
        raise InvalidSchemaFile("/output", "an object {name: {...}} is needed")
    return Schema(
        {name: _field(name, entry, step("/input", name)) for name, entry in document["input"].items()},
        {name: _field(name, entry, step("/output", name)) for name, entry in outputs.items()},
    )


def _field(name: str, entry: Any, at: str) -> Field:
    if not isinstance(entry, Mapping):
        raise InvalidSchemaFile(at, f"an object is needed, not {describe(entry)}")
    kind = entry.get("type", "standard")
    legacy = "internal" in entry or isinstance(kind, int)
    if isinstance(kind, int) and 0 <= kind < len(TYPES):
        kind = TYPES[kind]
    if kind not in TYPES:
        raise InvalidSchemaFile(step(at, "type"), f"{kind!r} is no type; use numpy, pandas or standard")
    if kind == "spark":
        raise InvalidSchemaFile(
            step(at, "type"), "spark inputs need a Spark runtime, which this one is not; use pandas"
        )
    fragment = entry.get("swagger", ANYTHING)
    if not isinstance(fragment, Mapping):
        raise InvalidSchemaFile(step(at, "swagger"), f"a JSON Schema object is needed, not {describe(fragment)}")
    if kind == "numpy":
        layout = _numpy(entry, fragment, at)
    elif kind == "pandas":
        layout = _pandas(entry, fragment, at, legacy)
    else:
        check = compile_standard(fragment, step(at, "swagger"), legacy)
        layout = _Layout(fragment, _always(lambda value, where, _: check(value, where)))
    fragment = layout.swagger
    required = entry.get("required", True)
    if not isinstance(required, bool):
        raise InvalidSchemaFile(step(at, "required"), f"true or false is needed, not {describe(required)}")
    example = entry.get("example", fragment.get("example"))
    bare = {key: value for key, value in fragment.items() if key != "example"}
    return Field(
        name, kind, bare, example, "example" in entry or "example" in fragment, layout.make, layout.make_typed,
        layout.dtype, layout.shape, layout.columns, required,
    )  # fmt: skip


def _always(decoder: Decoder) -> Callable[[], Decoder]:
    return lambda: decoder


def _numpy(entry: Mapping[str, Any], fragment: Mapping[str, Any], at: str) -> _Layout:
    dtype, shape = entry.get("dtype"), entry.get("shape")
    if dtype is None or shape is None:
        found_dtype, rank = array_of(fragment, step(at, "swagger"))
        dtype = found_dtype if dtype is None else dtype
        shape = [None] * rank if shape is None else shape
    if not isinstance(shape, Sequence) or isinstance(shape, str) or not all(_is_size(size) for size in shape):
        raise InvalidSchemaFile(step(at, "shape"), "an array of sizes and nulls is needed, such as [null, 4]")
    if isinstance(dtype, list):
        columns = _columns([{"name": n, "dtype": d} for n, d in _pairs(dtype, at)], {}, at, legacy=False)
        if not shape:
            raise InvalidSchemaFile(step(at, "shape"), "a structured type has an axis at least, such as [null]")
        return _Layout(
            fragment or nested(frame_fragment(columns), len(shape) - 1),
            lambda: Records(columns, shape).decode,
            lambda: Records(columns, shape).from_array,
            shape=tuple(shape),
            columns=tuple(columns),
        )
    if dtype not in ARRAY_TYPES:
        known = ", ".join(ARRAY_TYPES)
        raise InvalidSchemaFile(step(at, "dtype"), f"{dtype!r} cannot be sent as JSON; known: {known}")
    nullable = bool(entry.get("nullable", False))
    return _Layout(
        fragment or array_fragment(dtype, shape, nullable),
        lambda: compile_array(dtype, shape, nullable),
        lambda: compile_typed(dtype, shape, nullable),
        dtype,
        tuple(shape),
    )


def _is_size(size: Any) -> bool:
    return size is None or (isinstance(size, int) and not isinstance(size, bool) and size >= 0)


def _pairs(dtype: list[Any], at: str) -> list[Any]:
    if not dtype or not all(isinstance(pair, list) and len(pair) == 2 for pair in dtype):
        raise InvalidSchemaFile(step(at, "dtype"), 'a structured type is an array such as [["age", "int32"]]')
    return dtype


def _pandas(entry: Mapping[str, Any], fragment: Mapping[str, Any], at: str, legacy: bool) -> _Layout:
    items = fragment.get("items", {})
    properties = items.get("properties", {}) if isinstance(items, Mapping) else {}
    if not isinstance(properties, Mapping):
        raise InvalidSchemaFile(step(at, "swagger/items/properties"), "an object is needed")
    given = entry.get("columns")
    if given is None:
        given = [{"name": name} for name in properties]
    if not isinstance(given, list) or not given:
        raise InvalidSchemaFile(step(at, "columns"), 'an array such as [{"name": "age", "dtype": "float64"}] is needed')
    columns = _columns(given, properties, at, legacy)
    closed = isinstance(items, Mapping) and items.get("additionalProperties") is False
    if (policy := entry.get("extra_columns")) is not None:
        if policy not in ("ignore", "refuse"):
            raise InvalidSchemaFile(step(at, "extra_columns"), f"ignore or refuse is needed, not {describe(policy)}")
        closed = policy == "refuse"
    return _Layout(
        frame_rules(fragment or frame_fragment(columns), columns, closed),
        lambda: Frames(columns, closed).decode,
        lambda: Frames(columns, closed).from_columns,
        columns=tuple(columns),
    )


def _columns(given: list[Any], properties: Mapping[str, Any], at: str, legacy: bool) -> "list[Column]":
    columns = []
    for position, column in enumerate(given):
        where = step(step(at, "columns"), position)
        if not isinstance(column, Mapping) or not isinstance(column.get("name"), (str, int)):
            raise InvalidSchemaFile(where, 'an object such as {"name": "age", "dtype": "float64"} is needed')
        name = column["name"]
        described = properties.get(str(name), ANYTHING)
        dtype = column.get("dtype") or column_of(described, step(at, "swagger"))
        zone = column.get("timezone", "")
        if dtype not in COLUMN_TYPES:
            known = ", ".join(COLUMN_TYPES)
            raise InvalidSchemaFile(step(where, "dtype"), f"{dtype!r} cannot be sent as JSON; known: {known}")
        categories = column.get("categories", ())
        if dtype == "category" and not _are_categories(categories):
            raise InvalidSchemaFile(step(where, "categories"), "an array of values that differ is needed, without null")
        cell = compile_standard(_cell_fragment(dtype, categories, described), where, legacy)
        nullable = column.get("nullable", True) is not False
        columns.append(Column(name, dtype, nullable, cell, tuple(categories), str(zone)))
    if len({str(column.name) for column in columns}) != len(columns):
        raise InvalidSchemaFile(step(at, "columns"), "two columns have the same name")
    return columns


def _are_categories(given: Any) -> bool:
    if not isinstance(given, list) or not given or not all(isinstance(each, (str, int, float)) for each in given):
        return False
    return len(set(given)) == len(given)


def _cell_fragment(dtype: str, categories: Any, described: Any) -> Any:
    if dtype == "category":
        return {"enum": list(categories)}
    if dtype in EXTENSION_TYPES:
        kind = EXTENSION_TYPES[dtype]
        return {"type": kind, "format": dtype.lower()} if kind == "integer" else {"type": kind}
    if dtype in ("str", "timedelta64[ns]"):
        return {"type": "string"}
    if dtype != "object":
        return ANYTHING
    bare = {"type": "object"}
    return ANYTHING if not described or described == bare else described


def sample_from_schema(schema: Any) -> Any:
    """A request body: the examples of a schema file's inputs, or values made up from their types where they lack. What
    may be left out and has no example is left out."""
    parsed = schema if isinstance(schema, Schema) else parse_schema(schema)
    return {
        name: each.example if each.has_example else made_up(each.swagger)
        for name, each in parsed.inputs.items()
        if each.required or each.has_example
    }
