"""The parameter types of `inference_schema`: a sample value that says what an input is.

`entry` in `declared` makes a schema of the sample; `deserialize_input` serves scripts that call it, or `run`, by
themselves, and inputs that a schema cannot say. Both refuse with ValueError.
"""

import abc
import base64
import datetime
import io
import json
from collections.abc import Mapping
from typing import Any

from argosy_serving.schema import DataTypes, SampleDefinition, generate_schema

_ORIENTS = ("split", "records", "index", "columns", "values", "table")


class AbstractParameterType(abc.ABC):
    """The base of own types: a script overrides both methods."""

    def __init__(self, sample_input: Any) -> None:
        self.sample_input = sample_input
        self.sample_data_type = type(sample_input)

    def supported_versions(self) -> list[str]:
        return ["2.0", "3.0", "3.1"]

    @abc.abstractmethod
    def deserialize_input(self, input_data: Any) -> Any:
        """What `run` gets for a JSON value."""

    @abc.abstractmethod
    def input_to_swagger(self) -> dict[str, Any]:
        """The JSON Schema of the input, with an `example`."""


class NumpyParameterType(AbstractParameterType):
    """An array. Off, `enforce_column_type` keeps the types of the values, `enforce_shape` takes any shape."""

    def __init__(self, sample_input: Any, enforce_column_type: bool = True, enforce_shape: bool = True) -> None:
        import numpy as np  # the sample is its array, so it is there

        if not isinstance(sample_input, np.ndarray):
            raise TypeError(f"NumpyParameterType needs a numpy array as its sample, not {type(sample_input).__name__}.")
        super().__init__(sample_input)
        self.enforce_column_type, self.enforce_shape = enforce_column_type, enforce_shape

    def deserialize_input(self, input_data: Any) -> Any:
        import numpy as np  # as above

        if isinstance(input_data, np.ndarray):
            return input_data
        if not isinstance(input_data, list):
            raise ValueError("an array of items is needed")
        dtype = self.sample_input.dtype
        if dtype.names:
            input_data = [tuple(row[n] for n in dtype.names) if isinstance(row, Mapping) else row for row in input_data]
        array = np.array(input_data, dtype=dtype if self.enforce_column_type else None)
        wanted = self.sample_input.shape
        if self.enforce_shape and (array.ndim != len(wanted) or array.shape[1:] != wanted[1:]):
            raise ValueError(f"an array of shape {(None, *wanted[1:])} is needed, not {array.shape}")
        return array

    def input_to_swagger(self) -> dict[str, Any]:
        return _swagger(DataTypes.NUMPY, self.sample_input) | {"format": "numpy.ndarray"}


class PandasParameterType(AbstractParameterType):
    """A DataFrame, sent as `orient` of pandas says. Off, `enforce_column_type` keeps the types that JSON gives."""

    def __init__(
        self,
        sample_input: Any,
        enforce_column_type: bool = True,
        enforce_shape: bool = True,
        apply_column_names: bool = False,
        orient: str = "records",
    ) -> None:
        import pandas as pd  # the sample is its frame, so it is there

        if not isinstance(sample_input, pd.DataFrame):
            raise TypeError(f"PandasParameterType needs a DataFrame as its sample, not {type(sample_input).__name__}.")
        if orient not in _ORIENTS:
            raise ValueError(f"orient is one of {', '.join(_ORIENTS)}, not {orient!r}.")
        super().__init__(sample_input)
        self.enforce_column_type, self.enforce_shape = enforce_column_type, enforce_shape
        self.apply_column_names, self.orient = apply_column_names, orient

    def deserialize_input(self, input_data: Any) -> Any:
        import pandas as pd  # as above

        if isinstance(input_data, pd.DataFrame):
            return input_data
        if not isinstance(input_data, (list, dict)):
            raise ValueError(f"a DataFrame is sent as an array or an object, not as {type(input_data).__name__}")
        orient: Any = self.orient
        frame = pd.read_json(io.StringIO(json.dumps(input_data)), orient=orient, dtype=False)
        if self.apply_column_names:
            frame.columns = self.sample_input.columns.copy()
        if self.enforce_shape and len(frame.columns) != len(self.sample_input.columns):
            raise ValueError(f"{len(self.sample_input.columns)} columns are needed, not {len(frame.columns)}")
        if self.enforce_column_type:
            kinds = self.sample_input.dtypes.to_dict()
            for name in [n for n in frame.columns if str(kinds.get(n, "")).startswith("timedelta")]:
                frame[name] = pd.to_timedelta(frame[name])
            frame = frame.astype({name: kinds.get(name, "object") for name in frame.columns})
        return frame

    def input_to_swagger(self) -> dict[str, Any]:
        form = {"format": f"pandas.DataFrame:{self.orient}"}
        if self.orient == "records":
            return _swagger(DataTypes.PANDAS, self.sample_input) | form
        orient: Any = self.orient
        sample = json.loads(self.sample_input.to_json(orient=orient, date_format="iso"))
        return {"type": "array" if isinstance(sample, list) else "object", "example": sample} | form


class StandardPythonParameterType(AbstractParameterType):
    """Anything JSON can say, bytes as base64, dates as text. A list or dict may hold further parameter types."""

    def __init__(self, sample_input: Any) -> None:
        super().__init__(sample_input)
        items = sample_input.items() if isinstance(sample_input, dict) else ()
        self.sample_data_type_map = {k: v for k, v in items if isinstance(v, AbstractParameterType)}
        listed = sample_input if isinstance(sample_input, (list, tuple)) else ()
        self.sample_data_type_list = [v for v in listed if isinstance(v, AbstractParameterType)]

    def deserialize_input(self, input_data: Any) -> Any:
        wanted = self.sample_data_type
        if isinstance(input_data, str) and issubclass(wanted, (bytes, bytearray)):
            input_data = wanted(base64.b64decode(input_data, validate=True))
        elif isinstance(input_data, str) and issubclass(wanted, (datetime.date, datetime.time)):
            input_data = wanted.fromisoformat(input_data)
        if wanted is tuple and isinstance(input_data, list):
            input_data = tuple(input_data)
        if wanted is float and type(input_data) is int:
            return input_data
        if not isinstance(input_data, wanted):
            raise ValueError(f"{wanted.__name__} is needed, not {type(input_data).__name__}")
        return input_data

    def input_to_swagger(self) -> dict[str, Any]:
        if self.sample_input is None:
            raise ValueError("A sample must not be None.")
        if self.sample_data_type_map:
            members = {
                name: value.input_to_swagger()
                if isinstance(value, AbstractParameterType)
                else _swagger(DataTypes.STANDARD, value)
                for name, value in self.sample_input.items()
            }
            return {
                "type": "object",
                "required": list(members),
                "properties": {
                    name: {key: value for key, value in fragment.items() if key != "example"}
                    for name, fragment in members.items()
                },
                "example": {name: fragment.get("example") for name, fragment in members.items()},
            }
        if self.sample_data_type_list:
            item = self.sample_data_type_list[0].input_to_swagger()
            example = item.pop("example", None)
            return {"type": "array", "items": item, "example": [example]}
        return _swagger(DataTypes.STANDARD, self.sample_input)


def _swagger(kind: int, sample: Any) -> dict[str, Any]:
    made = generate_schema(_anything, {"sample": SampleDefinition(kind, sample)})["input"]["sample"]
    return dict(made["swagger"]) | {"example": made["example"]}


def _anything(**_: Any) -> None:
    """A `run` with any inputs."""
