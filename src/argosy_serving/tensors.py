"""Tensors of the Open Inference Protocol, version 2: as JSON, as binary data, and as numpy arrays."""

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from argosy_serving.answers import encode_json
from argosy_serving.schema import InvalidInput
from argosy_serving.schema.arrays import compile_array
from argosy_serving.schema.problems import describe, step

DTYPES = {
    "BOOL": "bool", "FP16": "float16", "FP32": "float32", "FP64": "float64",
    **{f"{sign}INT{bits}": f"{sign.lower()}int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)},
}  # fmt: skip
BYTES = "BYTES"
# The upper half of an FP32. numpy has no such type, so it comes in as float32.
BF16 = "BF16"
DATATYPES = {dtype: datatype for datatype, dtype in DTYPES.items()}
_MOST_AXES = 32


@dataclass(frozen=True)
class Tensor:
    """`values` is a numpy array, or for BYTES the flat list of them. `at` points at its data in the request."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: Any
    at: str

    def texts(self) -> list[str]:
        """The values of BYTES as text. Raises InvalidInput."""
        try:
            return [value.decode() for value in self.values]
        except UnicodeDecodeError:
            raise InvalidInput(self.at, "text in UTF-8", "other bytes") from None

    def array(self) -> Any:
        """The values as an array, BYTES as text. Raises InvalidInput."""
        import numpy as np  # here, because only the model's own environment has it

        return _reshaped(np.array(self.texts()), list(self.shape), self.at) if self.datatype == BYTES else self.values


def parse_tensor(entry: Any, at: str, binary: memoryview) -> "tuple[Tensor, int]":
    """An entry of `inputs` and how many bytes of `binary` are its data. Raises InvalidInput."""
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise InvalidInput(at, "an object with name, shape, datatype and data", describe(entry))
    name, datatype, shape = entry["name"], entry.get("datatype"), entry.get("shape")
    if not isinstance(datatype, str) or (datatype not in (BYTES, BF16) and datatype not in DTYPES):
        raise InvalidInput(step(at, "datatype"), f"one of {', '.join((*DTYPES, BF16, BYTES))}", describe(datatype))
    sizes = isinstance(shape, list) and all(type(size) is int and 0 <= size < 2**40 for size in shape)
    if not isinstance(shape, list) or not sizes or len(shape) > _MOST_AXES:
        raise InvalidInput(step(at, "shape"), "an array of sizes", describe(shape))
    parameters = entry.get("parameters", {})
    if not isinstance(parameters, dict) or any(str(key).startswith("shared_memory") for key in parameters):
        raise InvalidInput(step(at, "parameters"), "parameters other than shared memory", describe(parameters))
    size = parameters.get("binary_data_size")
    if size is None:
        where = step(at, "data")
        if "data" not in entry:
            raise InvalidInput(where, "the tensor's data", "nothing")
        return Tensor(name, datatype, tuple(shape), _from_json(entry["data"], datatype, shape, where), where), 0
    if type(size) is not int or not 0 <= size <= len(binary):
        raise InvalidInput(step(step(at, "parameters"), "binary_data_size"), f"at most {len(binary)}", describe(size))
    values = _from_binary(binary[:size], datatype, shape, at)
    return Tensor(name, datatype, tuple(shape), values, at), size


def _from_json(data: Any, datatype: str, shape: list[int], at: str) -> Any:
    """`data` is flat or nested as the shape says."""
    flat = not (isinstance(data, list) and data and isinstance(data[0], list)) or len(shape) < 2
    axes = [math.prod(shape)] if flat else shape
    if flat and (not isinstance(data, list) or len(data) != axes[0]):
        raise InvalidInput(at, f"an array of {axes[0]}", describe(data))
    if datatype == BYTES:
        return [text.encode("utf-8", "surrogatepass") for text in compile_array("str", axes, False)(data, at, True)
                .reshape(-1).tolist()]  # fmt: skip
    dtype = "float32" if datatype == BF16 else DTYPES[datatype]
    return _reshaped(compile_array(dtype, axes, False)(data, at, True), shape, at)


def _from_binary(data: memoryview, datatype: str, shape: list[int], at: str) -> Any:
    import numpy as np  # here, because only the model's own environment has it

    count = math.prod(shape)
    if datatype != BYTES:
        dtype = np.dtype("uint16" if datatype == BF16 else DTYPES[datatype]).newbyteorder("<")
        if len(data) != count * dtype.itemsize:
            raise InvalidInput(at, f"{count * dtype.itemsize} bytes for the shape {shape}", f"{len(data)}")
        array = np.frombuffer(data, dtype=dtype) if count else np.empty(0, dtype)
        if datatype == "BOOL" and count and (np.frombuffer(data, dtype=np.uint8) > 1).any():
            raise InvalidInput(at, "bytes of 0 and 1", "others")
        if datatype == BF16:
            array = (array.astype(np.uint32) << 16).view(np.float32)
        return _reshaped(array, shape, at)
    found: list[bytes] = []
    place = 0
    while place < len(data) and len(found) < count:
        end = place + 4 + (struct.unpack_from("<I", data, place)[0] if place + 4 <= len(data) else len(data))
        if end > len(data):
            raise InvalidInput(at, "elements of the length that they announce", "a longer one")
        found.append(bytes(data[place + 4 : end]))
        place = end
    if place != len(data) or len(found) != count:
        raise InvalidInput(at, f"{count} elements for the shape {shape}", "another number")
    return found


def _reshaped(array: Any, shape: list[int], at: str) -> Any:
    try:
        return array.reshape(shape)
    except ValueError:  # no items, and sizes whose product is more than numpy can count
        raise InvalidInput(at, "a shape that can be had", describe(shape)) from None


@dataclass(frozen=True)
class Output:
    """A tensor of an answer. `values` is a flat numpy array, or the list of a BYTES tensor."""

    name: str
    datatype: str
    shape: Sequence[int]
    values: Any

    def json_data(self) -> Any:
        """Raises UnicodeDecodeError for bytes that are no text."""
        return [value.decode() for value in self.values] if self.datatype == BYTES else self.values

    def binary_data(self) -> bytes:
        if self.datatype == BYTES:
            return b"".join(struct.pack("<I", len(value)) + value for value in self.values)
        values = self.values
        return bytes(values.astype(values.dtype.newbyteorder("<")).tobytes())


def output_of(name: str, value: Any) -> Output:
    """Anything that `run` returns: numbers as such; strings and bytes as BYTES; everything else as JSON text."""
    import numpy as np  # as above

    if isinstance(value, (str, bytes, bytearray, memoryview, Mapping)) or value is None:
        return Output(name, BYTES, [1], [_as_bytes(value)])
    array = _as_array(np, value)
    if array is None:
        return Output(name, BYTES, [1], [_as_bytes(value)])
    shape = list(array.shape) or [1]
    flat = np.ascontiguousarray(array).reshape(-1)
    if flat.dtype.kind == "f" and flat.dtype.itemsize > 8:
        flat = flat.astype(np.float64)
    datatype = DATATYPES.get(flat.dtype.newbyteorder("=").name)
    if datatype is None:
        if flat.dtype.kind in "Mm":
            flat = flat.astype(np.str_)
        return Output(name, BYTES, shape, [_as_bytes(item) for item in flat.tolist()])
    return Output(name, datatype, shape, flat.astype(flat.dtype.newbyteorder("=")))


def _as_array(np: Any, value: Any) -> Any:
    try:
        array = value.to_numpy() if hasattr(value, "to_numpy") else np.asarray(value)
        if array.dtype.kind == "U" and isinstance(value, (list, tuple)):
            plain = np.asarray(value, dtype=object)
            # numpy would make text of the numbers beside it.
            return array if all(isinstance(item, str) for item in plain.reshape(-1)) else plain
        return array if array.dtype.names is None else _records(np, array)
    except (TypeError, ValueError, OverflowError):
        return None


def _records(np: Any, array: Any) -> Any:
    flat = array.reshape(-1)
    made = np.empty(len(flat), dtype=object)
    for place, record in enumerate(flat.tolist()):
        made[place] = record
    return made.reshape(array.shape)


def _as_bytes(item: Any) -> bytes:
    if isinstance(item, str):
        return item.encode("utf-8", "replace")
    return bytes(item) if isinstance(item, (bytes, bytearray, memoryview)) else encode_json(item)


def as_json(document: Mapping[str, Any]) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
