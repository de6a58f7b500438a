"""Arrow IPC streams in and out, where the model's environment has pyarrow.

A stream for a schema with one input is that input: a frame's columns by name, or an array as one column (lists for
further axes) or as one column for each place of its last axis. For several inputs it has one row, in which each input
has a column of its name.

Streams come from strangers, so only types are read whose size the body bounds, nothing compressed inside, and nothing
is touched before pyarrow has validated it.
"""

import functools
import importlib.metadata
import struct
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from argosy_serving.answers import NotEncodable, encode_json
from argosy_serving.schema import Field, InvalidInput, Schema
from argosy_serving.schema.problems import step
from argosy_serving.schema.records import structured

ARROW = "application/vnd.apache.arrow.stream"
_SAFE_SINCE = (14, 0, 1)  # before, reading a stream could run code that it carries
_RECORD_BATCH_COMPRESSION = 3  # the place of `compression` in the flatbuffer table RecordBatch
_DICTIONARY_BATCH_DATA = 1
_SCHEMA_KEPT_BYTES = 4096


def lacking() -> str:
    """Why streams cannot be read here, '' when they can. Imports nothing."""
    try:
        version = importlib.metadata.version("pyarrow")
    except importlib.metadata.PackageNotFoundError:
        return "The model's environment has no pyarrow. Send application/json, or add it."
    if tuple(int(part) for part in version.split(".")[:3] if part.isdigit()) < _SAFE_SINCE:
        return f"pyarrow {version} cannot read streams safely; 14.0.1 and later can."
    return ""


def read_arrow(schema: Schema, body: bytes) -> "dict[str, Any]":
    """The arguments of `run`. Raises InvalidInput."""
    import pyarrow as pa  # here, because only the model's own environment has it

    table = read_table(pa, body)
    arguments: dict[str, Any] = _guarded(pa, lambda: _arguments(pa, schema, table))
    return arguments


def _guarded(pa: Any, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except (pa.ArrowException, NotEncodable, OverflowError, TypeError, ValueError) as problem:
        if isinstance(problem, InvalidInput):
            raise
        # A date beyond what Python can say, for one.
        raise InvalidInput("", "values that Python knows", str(problem)[:200]) from None


def _arguments(pa: Any, schema: Schema, table: Any) -> "dict[str, Any]":
    only = schema.only_input
    if only is not None and only.make_typed is not None:
        return {only.name: read_input(pa, schema, only, table)}
    if table.num_rows != 1:
        raise InvalidInput("", f"one row with the columns {', '.join(schema.inputs)}", f"{table.num_rows} rows")
    cells = {name: table.column(place)[0] for place, name in enumerate(table.schema.names)}
    ready, document = {}, {}
    for name, cell in cells.items():
        each = schema.inputs.get(name)
        if each is None:
            raise InvalidInput(step("", name), schema.expected(), "an unknown input")
        if each.make_typed is not None:
            ready[name] = _cell_input(pa, schema, each, cell)
        else:
            document[name] = orjson.loads(encode_json(cell.as_py()))
    return schema.decode_mixed(ready, document)


def read_part(schema: Schema, each: Field, content: bytes) -> Any:
    """One input from a stream of its own. Raises InvalidInput."""
    import pyarrow as pa  # as above

    table = read_table(pa, content)
    return _guarded(pa, lambda: read_input(pa, schema, each, table))


def read_input(pa: Any, schema: Schema, each: Field, table: Any) -> Any:
    """An array or a frame from a whole table. Raises InvalidInput."""
    at = step("", each.name)
    if table.num_columns == 1 and not each.columns:
        return schema.decode_typed(each.name, _array(pa, table.column(0), at), at)
    columns = {name: table.column(place) for place, name in enumerate(table.schema.names)}
    if len(columns) != table.num_columns:
        raise InvalidInput(at, "columns with names that differ", "a stream in which they do not")
    if each.columns:
        kinds = {str(column.name): column.dtype for column in each.columns}
        made = {name: _values(pa, column, kinds.get(name, "")) for name, column in columns.items() if name in kinds}
        extra = {name: () for name in columns if name not in kinds}
        if each.type == "numpy":
            return schema.decode_typed(each.name, structured(made, at), at)
        return schema.decode_typed(each.name, {**made, **extra}, at)
    if len(each.shape) != 2 or not columns:
        raise InvalidInput(at, "one column", f"{len(columns)}")
    import numpy as np  # pyarrow's own requirement for the arrays below

    return schema.decode_typed(
        each.name, np.column_stack([_array(pa, column, step(at, name)) for name, column in columns.items()]), at
    )


def _cell_input(pa: Any, schema: Schema, each: Field, cell: Any) -> Any:
    values = getattr(cell, "values", None)
    if not isinstance(values, pa.Array):
        raise InvalidInput(step("", each.name), "a list in the stream's one row", str(cell.type))
    if each.columns and pa.types.is_struct(values.type):
        return read_input(pa, schema, each, pa.Table.from_struct_array(values))
    return read_input(pa, schema, each, pa.table({each.name: values}))


def read_table(pa: Any, body: bytes) -> Any:
    """The table of a hostile stream, or the only batch of one, validated. Raises InvalidInput."""
    try:
        table = _read_batches(pa, body)
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError, struct.error, IndexError) as problem:
        if isinstance(problem, InvalidInput):
            raise
        raise InvalidInput("", "an Arrow IPC stream", f"something else: {str(problem)[:200]}") from None
    return table


def _read_batches(pa: Any, body: bytes) -> Any:
    """Message by message: each is looked at before it is read. Raises what pyarrow raises, and InvalidInput."""
    messages = pa.MessageReader.open_stream(body)
    try:
        schema = _schema(pa, messages.read_next_message())
    except StopIteration:
        raise InvalidInput("", "an Arrow IPC stream", "an empty one") from None
    batches: list[Any] = []
    rows = 0
    for message in iter(messages.read_next_message, None):
        _refuse_compressed(message)
        if message.type != "record batch":  # dictionaries, which only a reader of the whole stream puts together
            for rest in iter(messages.read_next_message, None):
                _refuse_compressed(rest)
            batches, rows = [], 0
            for batch in pa.ipc.open_stream(body):
                rows = _bounded(pa, schema, rows + batch.num_rows, body)
                batches.append(batch)
            break
        batch = pa.ipc.read_record_batch(message, schema)
        rows = _bounded(pa, schema, rows + batch.num_rows, body)
        batches.append(batch)
    return batches[0] if len(batches) == 1 else pa.Table.from_batches(batches, schema)


def _bounded(pa: Any, schema: Any, rows: int, body: bytes) -> int:
    """The rows so far, no more than the body has bytes for: pyarrow's own sum may overflow. Raises InvalidInput."""
    # Booleans take an eighth of a byte, missing values of type null no byte at all.
    if rows * max(1, len(schema)) > len(body) + 64:
        wide = sum(not pa.types.is_boolean(field.type) for field in schema)
        if rows * max(1, wide) > 8 * len(body) or rows * wide > len(body) + 64:
            raise InvalidInput("", "as many rows as the stream has bytes for", f"{rows} rows")
    return rows


@functools.lru_cache(maxsize=64)
def _types_known(metadata: bytes) -> "list[Any]":
    """A place for the checked schema of these bytes: callers of a service send the same one each time."""
    return []


def _schema(pa: Any, message: Any) -> Any:
    """The stream's schema, checked."""
    metadata = message.metadata
    known = _types_known(metadata.to_pybytes()) if metadata.size <= _SCHEMA_KEPT_BYTES else []
    if not known:
        schema = pa.ipc.read_schema(message)
        for field in schema:
            _check_type(pa, field.type, field.name)
        known.append(schema)
    return known[0]


def _refuse_compressed(message: Any) -> None:
    """Buffers compressed inside the stream may grow without bound, and pyarrow has no limit to give."""
    if message.type not in ("record batch", "dictionary"):
        return
    metadata = memoryview(message.metadata)
    table = _follow(metadata, struct.unpack_from("<I", metadata, 0)[0], 2)  # Message.header
    if table and message.type == "dictionary":
        table = _follow(metadata, table, _DICTIONARY_BATCH_DATA)
    if table and _follow(metadata, table, _RECORD_BATCH_COMPRESSION):
        raise InvalidInput("", "buffers that are not compressed; compress the body with gzip", "compressed buffers")


def _follow(flat: memoryview, table: int, field: int) -> int:
    """Where the table in a field of a flatbuffer table lies, 0 when the field is absent. pyarrow has verified both."""
    vtable = table - int(struct.unpack_from("<i", flat, table)[0])
    if 4 + 2 * field >= struct.unpack_from("<H", flat, vtable)[0]:
        return 0
    offset = int(struct.unpack_from("<H", flat, vtable + 4 + 2 * field)[0])
    return table + offset + int(struct.unpack_from("<I", flat, table + offset)[0]) if offset else 0


def _check_type(pa: Any, kind: Any, name: str, depth: int = 0) -> None:
    """Raise InvalidInput for types whose values may be many more than their bytes, or that cannot be read."""
    types = pa.types
    if depth > 32:
        raise InvalidInput(step("", name), "lists at most 32 deep", "deeper ones")
    if types.is_dictionary(kind):
        return _check_type(pa, kind.value_type, name, depth + 1)
    if types.is_list(kind) or types.is_large_list(kind) or (types.is_fixed_size_list(kind) and kind.list_size > 0):
        if not types.is_null(kind.value_type):
            return _check_type(pa, kind.value_type, name, depth + 1)
    elif types.is_struct(kind) and kind.num_fields:
        for place in range(kind.num_fields):
            _check_type(pa, kind.field(place).type, name, depth + 1)
        return None
    elif (types.is_null(kind) and not depth) or any(
        test(kind)
        for test in (
            types.is_boolean, types.is_integer, types.is_floating, types.is_decimal, types.is_string,
            types.is_large_string, types.is_binary, types.is_large_binary, types.is_timestamp, types.is_date,
            types.is_time, types.is_duration,
        )
    ):  # fmt: skip
        return None
    raise InvalidInput(step("", name), "numbers, strings, bytes, dates, lists or structs", f"a column of {kind}")


def _array(pa: Any, column: Any, at: str) -> Any:
    """A numpy array of any rank from a column of numbers, dates, strings, or lists of them that have one length."""
    values = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(values, pa.ChunkedArray):
        values = pa.concat_arrays(values.chunks)
    shape = [len(values)]
    while isinstance(values, (pa.ListArray, pa.LargeListArray, pa.FixedSizeListArray)):
        if values.null_count:
            raise InvalidInput(at, "lists", "missing ones")
        lengths = values.value_lengths().unique() if not isinstance(values, pa.FixedSizeListArray) else None
        if lengths is not None and len(lengths) > 1:
            raise InvalidInput(at, "lists of one length", "lists of several lengths")
        size = values.type.list_size if lengths is None else (lengths[0].as_py() if len(lengths) else 0)
        shape.append(size)
        values = values.flatten() if lengths is not None else _inner(values, size)
    if isinstance(values, pa.StructArray):
        raise InvalidInput(at, "an array of numbers or strings", "structs")
    import numpy as np  # as above

    made = _values(pa, values, "")
    if isinstance(made, list):
        if any(not isinstance(item, str) for item in made):
            raise InvalidInput(at, "values of one type, none missing", f"a column of {values.type}")
        made = np.array(made, dtype=np.str_)
    if values.null_count and made.dtype.kind == "f" and not pa.types.is_floating(values.type):
        raise InvalidInput(at, "whole numbers", "missing ones")
    return made.reshape(shape)


def _inner(lists: Any, size: int) -> Any:
    """What lists of one size hold; `flatten` looks for missing ones again, and takes as long as all the rest."""
    inner, first, count = lists.values, lists.offset * size, len(lists) * size
    return inner if not first and len(inner) == count else inner.slice(first, count)


def _values(pa: Any, column: Any, wanted: str) -> Any:
    """A numpy array where numbers and dates lie as such, else a list of JSON values. `wanted` is the schema's type."""
    types, kind = pa.types, column.type
    if types.is_dictionary(kind):
        chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
        return [cell for chunk in chunks for cell in _from_dictionary(pa, chunk, wanted)]
    whole = column.null_count == 0
    if types.is_floating(kind) or (whole and (types.is_integer(kind) or types.is_boolean(kind))):
        return column.to_numpy() if isinstance(column, pa.ChunkedArray) else column.to_numpy(zero_copy_only=False)
    dates = types.is_timestamp(kind) or types.is_date(kind) or types.is_duration(kind)
    if dates and (not wanted or wanted.startswith(("datetime64", "timedelta64"))):
        return column.to_numpy() if isinstance(column, pa.ChunkedArray) else column.to_numpy(zero_copy_only=False)
    cells = column.to_pylist()
    if types.is_string(kind) or types.is_large_string(kind) or types.is_integer(kind) or types.is_boolean(kind):
        return cells
    if types.is_decimal(kind) and not wanted.startswith(("float", "Float", "int", "Int", "uint", "UInt")):
        return [None if cell is None else str(cell) for cell in cells]
    return orjson.loads(encode_json(cells))


def _from_dictionary(pa: Any, chunk: Any, wanted: str) -> "list[Any]":
    """By reference: spelled out, a few bytes of indices could stand for gigabytes of text."""
    words = _values(pa, chunk.dictionary, wanted)
    words = words if isinstance(words, list) else words.tolist()
    return [None if place is None else words[place] for place in chunk.indices.to_pylist()]


def write_arrow(value: Any, name: str) -> "bytes | None":
    """The answer as a stream; None when it is no table. An array is one column `name`, lists for further axes."""
    import pyarrow as pa  # as above

    try:
        table = _table(pa, value, name)
        if table is None:
            return None
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        return bytes(sink.getvalue())
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return None


def _table(pa: Any, value: Any, name: str) -> Any:
    if hasattr(value, "to_frame"):  # a pandas Series or Index
        value = value.to_frame(name=value.name if value.name is not None else name)
    if hasattr(value, "to_dict") and hasattr(value, "columns"):
        value = value.rename(columns=str)
        return pa.Table.from_pandas(value, preserve_index=False).replace_schema_metadata(None)
    if isinstance(value, Mapping) and value:
        if not all(_is_column(each) for each in value.values()):
            return None
        return pa.table({str(key): _column(pa, each) for key, each in value.items()})
    if isinstance(value, list) and value and all(isinstance(row, Mapping) for row in value):
        return pa.Table.from_pylist([{str(key): cell for key, cell in row.items()} for row in value])
    return pa.table({name: _column(pa, value)}) if _is_column(value) else None


def _is_column(value: Any) -> bool:
    return isinstance(value, (list, tuple)) or (hasattr(value, "tolist") and getattr(value, "ndim", 0) > 0)


def _column(pa: Any, value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return pa.array(value)
    shape, array = value.shape, pa.array(value.reshape(-1) if value.ndim > 1 else value)
    for size in reversed(shape[1:]):
        array = pa.FixedSizeListArray.from_arrays(array, size)
    return array
