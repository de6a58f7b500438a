"""Inputs of an ONNX graph, by a reader of just so much of protobuf; weights are stepped over, never read.

Field numbers are those of onnx.proto: ModelProto.graph 7; GraphProto.initializer 5, .input 11; TensorProto.name 8;
ValueInfoProto.name 1, .type 2; TypeProto.tensor_type 1; Tensor.elem_type 1, .shape 2; TensorShapeProto.dim 1;
Dimension.dim_value 1.
"""

from collections.abc import Iterator
from typing import BinaryIO

from argosy.models.inputs import Inputs, array
from argosy.models.pickles import Budget

_GRAPH, _INITIALIZER, _INPUT = 7, 5, 11
_SMALL_BYTES = 64 << 10
# TensorProto.DataType
_TYPES = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 8: "str", 9: "bool",
    10: "float16", 11: "float64", 12: "uint32", 13: "uint64",
}  # fmt: skip
_MOST_INPUTS = 200


class _Unreadable(ValueError):
    """It is no protobuf, or none of this kind."""


def graph_inputs(stream: BinaryIO, size_bytes: int, budget: Budget) -> Inputs | None:
    """None when an input is no tensor of known type and rank. Budget as for pickles; raises Lost when it is spent."""
    try:
        return _inputs(stream, size_bytes, budget)
    except _Unreadable:
        return None


def _inputs(stream: BinaryIO, size_bytes: int, budget: Budget) -> Inputs | None:
    found: Inputs = {}
    weights: set[str] = set()
    for number, value, begin in _fields(stream, 0, size_bytes, budget):
        if number != _GRAPH or begin is None:
            continue
        for inner, length, start in _fields(stream, begin, begin + value, budget):
            if start is None or inner not in (_INITIALIZER, _INPUT):
                continue
            if inner == _INITIALIZER:
                weights.add(_name(stream, start, length, 8, budget))
            elif len(found) < _MOST_INPUTS:
                found[_name(stream, start, length, 1, budget)] = _tensor(stream, start, length, budget)
    # Before version 4 of the format weights are listed as inputs too.
    inputs = {name: entry for name, entry in found.items() if name not in weights}
    return inputs if inputs and all(entry is not None for entry in inputs.values()) else None


def _name(stream: BinaryIO, begin: int, length: int, field: int, budget: Budget) -> str:
    for number, size, start in _fields(stream, begin, begin + length, budget):
        if number == field and start is not None:
            if size > 1000:
                raise _Unreadable
            stream.seek(start)
            return stream.read(size).decode("utf-8", "replace")
    return ""


def _tensor(stream: BinaryIO, begin: int, length: int, budget: Budget) -> dict[str, object] | None:
    """The schema entry of a ValueInfoProto."""
    if length > _SMALL_BYTES:
        raise _Unreadable
    tensor = _inside(stream, _inside(stream, (begin, length), 2, budget), 1, budget)
    if tensor is None:
        return None
    begin, length = tensor
    dtype, shape = "", None
    for number, value, start in _fields(stream, begin, begin + length, budget):
        if number == 1 and start is None:
            dtype = _TYPES.get(value, "")
        elif number == 2 and start is not None:
            shape = _shape(stream, start, value, budget)
    return array(dtype, shape) if dtype and shape else None


def _shape(stream: BinaryIO, begin: int, length: int, budget: Budget) -> list[int | None]:
    """Sizes; None for a free or named axis."""
    sizes: list[int | None] = []
    for number, value, start in _fields(stream, begin, begin + length, budget):
        if number == 1 and start is not None and len(sizes) < 32:
            values = [v for n, v, s in _fields(stream, start, start + value, budget) if n == 1 and s is None]
            sizes.append(values[0] if values and 0 < values[0] < 1 << 31 else None)
    return sizes


def _inside(stream: BinaryIO, where: tuple[int, int] | None, field: int, budget: Budget) -> tuple[int, int] | None:
    """Begin and length of the message in `field`."""
    if where is None:
        return None
    for number, length, start in _fields(stream, where[0], where[0] + where[1], budget):
        if number == field and start is not None:
            return start, length
    return None


def _fields(stream: BinaryIO, begin: int, end: int, budget: Budget) -> Iterator[tuple[int, int, int | None]]:
    """(number, length, begin) of a string or message, (number, value, None) of an integer; others are stepped over."""
    at = begin
    while at < end:
        budget.spend(opcodes=1)
        stream.seek(at)
        tag = _varint(stream)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            value = _varint(stream)
            at = stream.tell()
            yield number, value, None
        elif kind == 2:
            length = _varint(stream)
            start = stream.tell()
            if start + length > end:
                raise _Unreadable
            at = start + length
            yield number, length, start
        elif kind in (1, 5):
            at = stream.tell() + (8 if kind == 1 else 4)
        else:
            raise _Unreadable


def _varint(stream: BinaryIO) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = stream.read(1)
        if not byte:
            raise _Unreadable
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise _Unreadable
