"""Inputs of type `numpy` with a structured dtype: one axis, sent as an array of objects like the rows of a frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from argosy_serving.schema.arrays import compile_array
from argosy_serving.schema.frames import Column
from argosy_serving.schema.problems import InvalidInput, describe, step
from argosy_serving.schema.typed import compile_typed


class Records:
    """Builds structured arrays of `size` rows (None: any number). Members that are no fields are passed over."""

    def __init__(self, columns: Sequence[Column], size: int | None) -> None:
        import numpy as np  # here, because only the model's own environment has it

        self._empty, self._size = np.empty, size
        self._names = [str(column.name) for column in columns]
        self._json = [compile_array(column.dtype, [None], nullable=False) for column in columns]
        self._typed = [compile_typed(column.dtype, [None], nullable=False) for column in columns]
        self._dtype = np.dtype(
            [(str(column.name), "O" if column.dtype == "str" else column.dtype) for column in columns]
        )

    def decode(self, value: Any, at: str, careful: bool) -> Any:
        """A structured array from JSON. Raises InvalidInput."""
        if type(value) is not list:
            raise InvalidInput(at, "an array of row objects", describe(value))
        if self._size not in (None, len(value)):
            raise InvalidInput(at, f"an array of {self._size}", describe(value))
        for row, item in enumerate(value):
            if type(item) is not dict:
                raise InvalidInput(f"{at}/{row}", "an object", describe(item))
            for name in self._names:
                if name not in item:
                    raise InvalidInput(step(f"{at}/{row}", name), "this field", "nothing")
        made = self._empty(len(value), self._dtype)
        for name, decode in zip(self._names, self._json, strict=True):
            try:
                made[name] = decode([item[name] for item in value], "", careful)
            except InvalidInput as problem:
                raise InvalidInput(step(at + problem.pointer, name), problem.expected, problem.received) from None
        return made

    def from_array(self, array: Any, at: str) -> Any:
        """The same from a structured array with fields of these names. Raises InvalidInput."""
        names = array.dtype.names
        if names is None or set(names) != set(self._names):
            raise InvalidInput(at, f"a structured array with {', '.join(self._names)}", f"one of {array.dtype}")
        if array.ndim != 1 or self._size not in (None, len(array)):
            raise InvalidInput(at, f"an array of {self._size or 'rows'}", f"one of shape {list(array.shape)}")
        made = self._empty(len(array), self._dtype)
        for name, decode in zip(self._names, self._typed, strict=True):
            made[name] = decode(array[name], step(at, name))
        return made


def structured(columns: Mapping[str, Any], at: str) -> Any:
    """One structured array from arrays or lists of JSON values by field name. Raises InvalidInput."""
    import numpy as np  # as above

    arrays = {name: np.array(cells) if isinstance(cells, list) else cells for name, cells in columns.items()}
    for name, array in arrays.items():
        if array.dtype.kind == "O" or array.ndim != 1:
            raise InvalidInput(step(at, name), "values of one type, none missing", "others")
    rows = len(next(iter(arrays.values()))) if arrays else 0
    made = np.empty(rows, dtype=[(name, array.dtype) for name, array in arrays.items()])
    for name, array in arrays.items():
        made[name] = array
    return made
