"""JSON numbers, strings and dates to numpy arrays, with nothing truncated, parsed out of text or rounded on the way.

The fast path lets numpy infer the type of the whole list and checks that; a walk in Python happens only when that
check fails, or when the request body contains `true`, `false` or `null` (`careful`), which numpy takes for numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from argosy_serving.schema.durations import NANOSECONDS, duration_ns
from argosy_serving.schema.problems import InvalidInput, describe
from argosy_serving.schema.standard import split_date_time

if TYPE_CHECKING:
    import numpy as np

ArrayDecode = Callable[[Any, str, bool], Any]
Shape = Sequence["int | None"]

NUMERIC = (
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64",
)  # fmt: skip
DATES = tuple(f"datetime64[{unit}]" for unit in ("D", "s", "ms", "us", "ns"))
DURATIONS = tuple(f"timedelta64[{unit}]" for unit in ("D", "h", "m", "s", "ms", "us", "ns"))
ARRAY_TYPES = (*NUMERIC, *DATES, *DURATIONS, "str", "object")

_EXACT_IN_FLOAT = 2**53


def compile_array(dtype: str, shape: Shape, nullable: bool) -> ArrayDecode:
    """A function (value, pointer, careful) -> array. `dtype` is one of ARRAY_TYPES, `shape` has None for free axes."""
    # Imported here: numpy is only there when the model's own environment has it.
    import numpy as np

    leaf = _leaf_check(np, dtype, nullable)
    if dtype == "object" or dtype.startswith(("datetime64", "timedelta64")):
        return _walked(np, dtype, shape, leaf)
    if dtype == "str":
        return _text(np, shape, leaf)
    convert = numeric(np, np.dtype(dtype), nullable)
    rank = len(shape)
    fits = _fitting(shape)

    def decode(value: Any, at: str, careful: bool) -> Any:
        try:
            array = np.array(value)
        except (ValueError, OverflowError, RecursionError, TypeError):
            array = None
        if array is not None and array.size == 0:
            array = _empty(np, value, array, shape)
        if array is None or array.ndim != rank or not fits(array.shape) or (careful or array.dtype.kind not in "iuf"):
            _walk(value, at, shape, 0, leaf, {})
        converted = convert(array, value)
        if converted is None:
            _walk(value, at, shape, 0, leaf, {})
            raise InvalidInput(at, f"an array of {dtype}", describe(value))
        return converted

    return decode


def _fitting(shape: Shape) -> Callable[[tuple[int, ...]], bool]:
    """A function that tells whether an array of the same rank has the sizes that `shape` fixes."""
    if all(size is not None for size in shape[1:]) and shape and shape[0] is None:
        rest = tuple(shape[1:])
        return lambda actual: actual[1:] == rest
    fixed = [(axis, size) for axis, size in enumerate(shape) if size is not None]
    return lambda actual: all(actual[axis] == size for axis, size in fixed)


def _empty(np: Any, value: Any, array: Any, shape: Shape) -> Any:
    """`[]` for a shape such as (None, 4) is zero rows of four."""
    if value == [] and shape and shape[0] in (None, 0):
        return np.empty((0, *(size or 0 for size in shape[1:])))
    return array


def numeric(np: Any, dtype: np.dtype[Any], nullable: bool) -> Callable[[Any, Any], Any]:
    """A function (inferred array, the list it came from) -> array of `dtype`, or None when some leaf does not fit."""
    kind = dtype.kind
    if kind == "f":
        narrow = dtype.itemsize < 8

        def to_float(array: Any, value: Any) -> Any:
            if array is None:
                return None
            if array.dtype.kind == "O":
                try:
                    array = np.array(value, dtype=np.float64)  # the walk has allowed every null: they become NaN
                except (ValueError, TypeError, OverflowError):
                    return None
            if array.dtype.kind not in "iuf":
                return None
            if array.dtype == dtype:
                return array
            if not narrow:
                return array.astype(dtype)
            with np.errstate(over="ignore"):
                result = array.astype(dtype)
            return None if (np.isinf(result) & np.isfinite(array)).any() else result

        return to_float
    if kind == "b":
        return lambda array, _: array.astype(dtype) if array is not None and _is_bool(array) else None
    limits = np.iinfo(dtype)

    def to_int(array: Any, _: Any) -> Any:
        if array is None or array.dtype.kind not in "iuf":
            return None
        if array.dtype == dtype:
            return array
        if array.size:
            low, high = array.min(), array.max()
            if array.dtype.kind == "f" and (
                max(abs(low), abs(high)) > _EXACT_IN_FLOAT or not (np.floor(array) == array).all()
            ):
                return None
            if int(low) < int(limits.min) or int(high) > int(limits.max):
                return None
        return array.astype(dtype)

    return to_int


def _is_bool(array: Any) -> bool:
    return bool(array.dtype.kind == "b" or array.size == 0)


def _text(np: Any, shape: Shape, leaf: Callable[[Any, str], Any]) -> ArrayDecode:
    def decode(value: Any, at: str, _: bool) -> Any:
        _walk(value, at, shape, 0, leaf, {})
        array = np.array(value, dtype=np.str_)
        return _empty(np, value, array, shape).astype(np.str_) if array.size == 0 else array

    return decode


def _walked(np: Any, dtype: str, shape: Shape, leaf: Callable[[Any, str], Any]) -> ArrayDecode:
    """Every leaf goes through `leaf`; for dates and objects, where numpy's own guess would be wrong."""

    def decode(value: Any, at: str, _: bool) -> Any:
        found, sizes = leaves(value, at, shape)
        array = np.empty(len(found), dtype=dtype)
        for index, (item, where) in enumerate(found):
            array[index] = leaf(item, where)
        return array.reshape(sizes)

    return decode


def leaves(value: Any, at: str, shape: Shape) -> tuple[list[tuple[Any, str]], list[int]]:
    """The items of nested lists with their pointers, and the sizes of all axes. Raises InvalidInput."""
    found: list[tuple[Any, str]] = []
    sizes: dict[int, int] = {}
    _walk(value, at, shape, 0, lambda item, where: found.append((item, where)), sizes)
    return found, [sizes.get(axis, shape[axis] or 0) for axis in range(len(shape))]


def walk(dtype: str, value: Any, at: str, shape: Shape, nullable: bool) -> None:
    """Raise InvalidInput for the first item of nested lists that does not fit."""
    import numpy as np  # as above

    _walk(value, at, shape, 0, _leaf_check(np, dtype, nullable), {})


def _walk(value: Any, at: str, shape: Shape, axis: int, leaf: Callable[[Any, str], Any], sizes: dict[int, int]) -> None:
    """Raise InvalidInput for the first item that does not fit. `sizes` remembers the first length seen per axis."""
    if axis == len(shape):
        leaf(value, at)
        return
    if not isinstance(value, list):
        left = len(shape) - axis
        raise InvalidInput(at, "an array" if left == 1 else f"an array of {left} dimensions", describe(value))
    wanted = shape[axis]
    if wanted is None and axis > 0:
        wanted = sizes.setdefault(axis, len(value))
    if wanted is not None and len(value) != wanted:
        raise InvalidInput(at, f"an array of {wanted}", describe(value))
    sizes.setdefault(axis, len(value))
    for index, item in enumerate(value):
        _walk(item, f"{at}/{index}", shape, axis + 1, leaf, sizes)


def _leaf_check(np: Any, dtype: str, nullable: bool) -> Callable[[Any, str], Any]:
    """A function (leaf, pointer) -> leaf that raises InvalidInput."""
    if dtype == "object":
        return lambda value, _: value
    if dtype.startswith("datetime64"):
        return _date_leaf(np, dtype, nullable)
    if dtype.startswith("timedelta64"):
        return _duration_leaf(np, dtype, nullable)
    if dtype == "str":
        return _typed_leaf("a string", lambda value: isinstance(value, str))
    kind = np.dtype(dtype).kind
    if kind == "b":
        return _typed_leaf("true or false", lambda value: isinstance(value, bool))
    if kind == "f":
        top = float(np.finfo(dtype).max)
        return _typed_leaf(
            f"a number ({dtype})",
            lambda value: (nullable and value is None) or (_is_number(value) and -top <= value <= top),
        )
    low, high = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    return _typed_leaf(
        f"a whole number from {low} to {high} ({dtype})",
        lambda value: _is_number(value) and low <= value <= high and value == int(value),
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _typed_leaf(expected: str, fits: Callable[[Any], bool]) -> Callable[[Any, str], Any]:
    def check(value: Any, at: str) -> Any:
        if not fits(value):
            raise InvalidInput(at, expected, describe(value))
        return value

    return check


def _date_leaf(np: Any, dtype: str, nullable: bool) -> Callable[[Any, str], Any]:
    expected = f"a date and time such as 2024-05-31T12:00:00Z that fits {dtype}"

    def check(value: Any, at: str) -> Any:
        if value is None and nullable:
            return np.datetime64("NaT")
        if not isinstance(value, str):
            raise InvalidInput(at, expected, describe(value))
        date, time, offset = split_date_time(value, at)
        try:
            moment = np.datetime64(f"{date}T{time}")
        except ValueError:
            raise InvalidInput(at, expected, describe(value)) from None
        if offset:
            moment = moment - np.timedelta64(int(offset.total_seconds()), "s")
        fitted = moment.astype(dtype)
        # A coarser unit would drop digits, a finer one can overflow without a word.
        if fitted.astype(moment.dtype) != moment:
            raise InvalidInput(at, expected, describe(value))
        return fitted

    return check


def _duration_leaf(np: Any, dtype: str, nullable: bool) -> Callable[[Any, str], Any]:
    unit = np.datetime_data(dtype)[0]
    size_ns = NANOSECONDS[unit]

    def check(value: Any, at: str) -> Any:
        if value is None and nullable:
            return np.timedelta64("NaT")
        count, rest = divmod(duration_ns(value, at), size_ns)
        if rest or abs(count) >= 2**63:
            raise InvalidInput(at, f"a duration that fits {dtype}", describe(value))
        return np.timedelta64(count, unit)

    return check
