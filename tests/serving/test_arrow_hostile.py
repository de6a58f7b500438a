"""Arrow streams that promise more rows than they have bytes for, in one message or over many."""

import numpy as np
import pyarrow as pa
import pytest

from argosy_serving.arrow import read_arrow
from argosy_serving.schema import InvalidInput, Schema, parse_schema

NUMBERS = {"input": {"x": {"type": "numpy", "dtype": "float64", "shape": [None]}}}
FRAME = {"input": {"x": {"type": "pandas", "columns": [{"name": "n", "dtype": "float64"}]}}}


def schema(document: object) -> Schema:
    made = parse_schema(document)
    made.prepare()
    return made


def stream(kind: pa.Schema, *batches: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, kind, options=pa.ipc.IpcWriteOptions(allow_64bit=True)) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return bytes(sink.getvalue())


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("document", [NUMBERS, FRAME])
def test_rows_that_take_no_bytes_are_counted_beyond_64_bits(count: int, document: object) -> None:
    """Two batches make pyarrow's own sum negative, four make it zero."""
    nothing = pa.RecordBatch.from_arrays([pa.Array.from_buffers(pa.null(), 2**62, [None])], names=["n"])
    body = stream(nothing.schema, *[nothing] * count)
    assert len(body) < 2000
    with pytest.raises(InvalidInput) as told:
        read_arrow(schema(document), body)
    assert "rows" in str(told.value.expected)


def test_words_by_reference_are_put_together() -> None:
    """Dictionaries need a reader of the whole stream."""
    words = {"input": {"x": {"type": "numpy", "dtype": "str", "shape": [None]}}}
    batch = pa.record_batch({"x": pa.array(["a", "b", "a"]).dictionary_encode()})
    made = read_arrow(schema(words), stream(batch.schema, batch, batch))["x"]
    assert made.tolist() == ["a", "b", "a", "a", "b", "a"]


def test_batches_are_put_together() -> None:
    parts = [pa.record_batch({"x": pa.array(values, pa.float64())}) for values in ([1.0, 2.0], [], [3.0])]
    made = read_arrow(schema(NUMBERS), stream(parts[0].schema, *parts))["x"]
    np.testing.assert_array_equal(made, [1.0, 2.0, 3.0])
    assert made.flags.writeable


def test_a_schema_seen_before_still_belongs_to_its_own_stream() -> None:
    """Schemas are remembered by their bytes: the data behind them are read anew each time."""
    here = schema(NUMBERS)
    for values in ([1.0], [2.0, 3.0]):
        batch = pa.record_batch({"x": pa.array(values, pa.float64())})
        np.testing.assert_array_equal(read_arrow(here, stream(batch.schema, batch))["x"], values)


def test_a_slice_of_lists_of_one_size_holds_its_own_rows() -> None:
    two = {"input": {"x": {"type": "numpy", "dtype": "float64", "shape": [None, 2]}}}
    lists = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(10.0)), 2).slice(1, 3)
    batch = pa.record_batch({"x": lists})
    made = read_arrow(schema(two), stream(batch.schema, batch))["x"]
    np.testing.assert_array_equal(made, [[2, 3], [4, 5], [6, 7]])


@pytest.mark.parametrize("body", [b"", b"\xff\xff\xff\xff\x00\x00\x00\x00", b"\xff" * 8, b"PAR1"])
def test_what_is_no_stream_is_said_so(body: bytes) -> None:
    with pytest.raises(InvalidInput):
        read_arrow(schema(NUMBERS), body)
