"""Arrays that have a type already (npy, Arrow, tensors) to the schema's arrays, under the rules that JSON has.

Nothing is truncated or parsed out of text. NaN and infinity, which JSON cannot say, pass where the schema is nullable.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from argosy_serving.schema.arrays import ArrayDecode, Shape, compile_array, numeric, walk
from argosy_serving.schema.problems import InvalidInput

TypedDecode = Callable[[Any, str], Any]

_SURROGATES = (0xD800, 0xDFFF)
_LAST_CHARACTER = 0x10FFFF


def compile_typed(dtype: str, shape: Shape, nullable: bool) -> TypedDecode:
    """A function (array, pointer) -> array of the schema's type that user code may write to. Raises InvalidInput."""
    import numpy as np  # here, because only the model's own environment has it

    wanted = shape_text(shape)
    from_json = compile_array(dtype, shape, nullable)
    convert = _converter(np, dtype, nullable)

    def decode(array: Any, at: str) -> Any:
        if array.ndim != len(shape) or any(
            size is not None and size != actual for size, actual in zip(shape, array.shape, strict=True)
        ):
            raise InvalidInput(at, f"an array of shape {wanted}", f"one of shape {shape_text(array.shape)}")
        converted = convert(array)
        if converted is None:
            _refuse(dtype, from_json, array, shape, nullable, at)
        return converted if converted.flags.writeable and converted.flags.c_contiguous else converted.copy()

    return decode


def shape_text(shape: Sequence[int | None]) -> str:
    return f"[{', '.join('any' if size is None else str(size) for size in shape)}]"


def _converter(np: Any, dtype: str, nullable: bool) -> Callable[[Any], Any]:
    """A function array -> array, or None when some value does not fit."""
    if dtype == "object":
        return lambda array: array.astype(object)
    if dtype == "str":
        return lambda array: _text(np, array)
    if dtype.startswith(("datetime64", "timedelta64")):
        return lambda array: _moments(np, array, np.dtype(dtype), nullable)
    convert, kind = numeric(np, np.dtype(dtype), nullable), np.dtype(dtype).kind

    def to_number(array: Any) -> Any:
        given = array.dtype.kind
        if given not in "iufb" or (given == "b") != (kind == "b"):
            return None
        if given == "f" and (not nullable or kind in "iu") and not np.isfinite(array).all():
            return None
        return convert(array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("=")), None)

    return to_number


def _text(np: Any, array: Any) -> Any:
    if array.dtype.kind != "U":
        return None
    native = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("=")))
    if native.size and native.dtype.itemsize:
        # Bytes of a stranger need not be characters, and Python would find out in user code.
        codes = native.reshape(-1).view(np.uint32)
        if (codes > _LAST_CHARACTER).any() or ((codes >= _SURROGATES[0]) & (codes <= _SURROGATES[1])).any():
            return None
    return native


def _moments(np: Any, array: Any, dtype: Any, nullable: bool) -> Any:
    """Dates or durations in another unit, None where that drops digits or overflows."""
    if array.dtype.kind != dtype.kind or np.datetime_data(array.dtype)[0] == "generic":
        return None
    missing = np.isnat(array)
    if missing.any() and not nullable:
        return None
    try:
        fitted = array.astype(dtype)
    except (OverflowError, TypeError, ValueError):
        return None
    back = fitted.astype(array.dtype)
    return fitted if ((back == array) | missing).all() and (np.isnat(fitted) == missing).all() else None


def _refuse(dtype: str, from_json: ArrayDecode, array: Any, shape: Shape, nullable: bool, at: str) -> None:
    """Raise InvalidInput, at the first item that does not fit where that can be said."""
    if array.dtype.kind in "iufb" and not dtype.startswith(("datetime64", "timedelta64", "str")):
        walk(dtype, array.tolist(), at, shape, nullable)
    raise InvalidInput(at, f"an array of {dtype}", f"one of {array.dtype}" + _doubt(array))


def _doubt(array: Any) -> str:
    return " with values that do not fit" if array.size else ""
