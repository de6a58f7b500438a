"""Arrays in numpy's own file format, in and out, where the model's environment has numpy."""

import importlib.util
import io
import math
from typing import Any

from argosy_serving.schema import InvalidInput, Schema
from argosy_serving.schema.problems import step

NPY = "application/x-npy"
_MOST_AXES = 32


def lacking() -> str:
    """Why arrays cannot be read here, '' when they can. Imports nothing."""
    if importlib.util.find_spec("numpy") is None:
        return "The model's environment has no numpy. Send application/json, or add it."
    return ""


def read_npy(schema: Schema, body: bytes) -> "dict[str, Any]":
    """The one input of a schema that has one array. Raises InvalidInput."""
    only = schema.only_input
    assert only is not None, "asked before the body was read"
    return {only.name: schema.decode_typed(only.name, parse_npy(body, step("", only.name)), step("", only.name))}


def parse_npy(body: bytes, at: str) -> Any:
    """The array as it lies in the body, read-only. Raises InvalidInput.

    numpy.load would allocate what the header promises before it looks for the bytes, and can unpickle.
    """
    import numpy as np  # here, because only the model's own environment has it

    file = io.BytesIO(body)
    try:
        version = np.lib.format.read_magic(file)
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version not in readers:
            raise ValueError(f"version {version[0]}.{version[1]}, and 1.0 and 2.0 can be read")
        shape, by_columns, dtype = readers[version](file)
    except Exception as problem:  # noqa: BLE001 - the header is Python text, which numpy evaluates as literals
        raise InvalidInput(at, "an array in numpy's npy format", f"something else: {str(problem)[:200]}") from None
    if dtype.hasobject:
        raise InvalidInput(at, "an array of numbers, strings or dates", "one of pickled objects")
    size, start = math.prod(shape), file.tell()
    if min(shape, default=0) < 0 or len(shape) > _MOST_AXES or size * dtype.itemsize != len(body) - start:
        raise InvalidInput(at, f"the bytes of an array of shape {list(shape)} of {dtype}", f"{len(body) - start} bytes")
    if dtype.itemsize == 0:
        raise InvalidInput(at, "an array whose items have a size", f"one of {dtype}")
    array = np.frombuffer(body, dtype, size, start) if size else np.empty(0, dtype)
    return array.reshape(shape, order="F" if by_columns else "C")


def write_npy(value: Any, _: str) -> "bytes | None":
    """The answer in that format; None when it is no array of numbers, strings or dates."""
    import numpy as np  # as above

    if isinstance(value, str):
        return None
    try:
        array = value.to_numpy() if hasattr(value, "to_numpy") else np.asarray(value)
    except (TypeError, ValueError, OverflowError):
        return None
    if array.dtype.kind not in "biufcMmU":
        return None
    out = io.BytesIO()
    np.lib.format.write_array(out, array, version=(1, 0), allow_pickle=False)
    return out.getvalue()
