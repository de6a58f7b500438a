"""Inputs of type `numpy` with a structured dtype: sent as an array of objects, like the rows of a frame, or as nested
arrays of them when it has more axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from argosy_serving.schema.arrays import Shape, compile_array, leaves
from argosy_serving.schema.frames import Column
from argosy_serving.schema.problems import InvalidInput, describe, step
from argosy_serving.schema.typed import compile_typed


class Records:
    """Builds structured arrays of a shape. Members that are no fields are passed over."""

    def __init__(self, columns: Sequence[Column], shape: Shape) -> None:
        import numpy as np  # here, because only the model's own environment has it

        self._empty, self._shape = np.empty, shape
        self._names = [str(column.name) for column in columns]
        self._json = [compile_array(column.dtype, [None], nullable=False) for column in columns]
        self._typed = [compile_typed(column.dtype, [None], nullable=False) for column in columns]
        self._dtype = np.dtype(
            [(str(column.name), "O" if column.dtype == "str" else column.dtype) for column in columns]
        )

    def decode(self, value: Any, at: str, careful: bool) -> Any:
        """A structured array from JSON. Raises InvalidInput."""
        items, sizes = leaves(value, at, self._shape)
        for item, where in items:
            if type(item) is not dict:
                raise InvalidInput(where, "an object", describe(item))
            for name in self._names:
                if name not in item:
                    raise InvalidInput(step(where, name), "this field", "nothing")
        made = self._empty(len(items), self._dtype)
        for name, decode in zip(self._names, self._json, strict=True):
            try:
                made[name] = decode([item[name] for item, _ in items], "", careful)
            except InvalidInput as problem:
                where = items[int(problem.pointer.split("/")[1])][1]
                raise InvalidInput(step(where, name), problem.expected, problem.received) from None
        return made.reshape(sizes)

    def from_array(self, array: Any, at: str) -> Any:
        """The same from a structured array with fields of these names. Raises InvalidInput."""
        names = array.dtype.names
        if names is None or set(names) != set(self._names):
            raise InvalidInput(at, f"a structured array with {', '.join(self._names)}", f"one of {array.dtype}")
        same = [size in (None, actual) for size, actual in zip(self._shape, array.shape, strict=False)]
        if array.ndim != len(self._shape) or not all(same):
            wanted = ", ".join("any" if size is None else str(size) for size in self._shape)
            raise InvalidInput(at, f"an array of shape [{wanted}]", f"one of shape {list(array.shape)}")
        flat = array.reshape(-1)
        made = self._empty(len(flat), self._dtype)
        for name, decode in zip(self._names, self._typed, strict=True):
            made[name] = decode(flat[name], step(at, name))
        return made.reshape(array.shape)


def structured(columns: Mapping[str, Any], at: str) -> Any:
    """One structured array from arrays of one shape, or lists of JSON values, by field name. Raises InvalidInput."""
    import numpy as np  # as above

    arrays = {name: np.array(cells) if isinstance(cells, list) else cells for name, cells in columns.items()}
    shape = next(iter(arrays.values())).shape if arrays else (0,)
    for name, array in arrays.items():
        if array.dtype.kind == "O" or array.shape != shape:
            raise InvalidInput(step(at, name), "values of one type, none missing", "others")
    made = np.empty(shape, dtype=[(name, array.dtype) for name, array in arrays.items()])
    for name, array in arrays.items():
        made[name] = array
    return made
