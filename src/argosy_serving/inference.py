"""The Open Inference Protocol, version 2: the schema's inputs as tensors, and answers as tensors.

An array is a tensor of its name, a frame one tensor for each column: of the column's name when the frame is the only
input, else `<input>.<column>`. A value of type `standard` is a tensor of its name: numbers and booleans as such, text
and bytes as BYTES of shape [1], arrays of these with their axes, and everything else as JSON text in BYTES.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from argosy_serving.bodies import Encoded, Installed
from argosy_serving.npy import NPY
from argosy_serving.refusals import BadInput, NotAcceptable, WrongType
from argosy_serving.schema import Field, InvalidInput, Schema
from argosy_serving.schema.frames import Column
from argosy_serving.schema.problems import describe, step
from argosy_serving.schema.records import structured
from argosy_serving.tensors import BYTES, DATATYPES, Output, Tensor, as_json, output_of, parse_tensor

HEADER_LENGTH = b"inference-header-content-length"
_LEAVES = {"number": "FP64", "integer": "INT64", "boolean": "BOOL", "string": BYTES}


def metadata(schema: "Schema | None", name: str, versions: "list[str]") -> dict[str, Any]:
    """GET /v2/models/<name>."""
    outputs = [_standard_tensor(each) if each.type == "standard" else None for each in _outputs(schema)]
    return {
        "name": name,
        "versions": versions,
        "platform": "argosy",
        "inputs": [tensor for each in (schema.inputs.values() if schema else ()) for tensor in _tensors(schema, each)],
        "outputs": [
            tensor
            for each, standard in zip(_outputs(schema), outputs, strict=True)
            for tensor in ([standard] if standard is not None else _tensors(None, each))
        ],
    }


def _outputs(schema: "Schema | None") -> "list[Field]":
    return list(schema.outputs.values()) if schema else []


def _tensors(schema: "Schema | None", each: Field) -> "list[dict[str, Any]]":
    if each.columns:
        return [
            {"name": _column_name(schema, each, column), "datatype": _datatype(column), "shape": _sizes(each) or [-1]}
            for column in each.columns
        ]
    if each.type == "numpy":
        shape = _sizes(each)
        return [{"name": each.name, "datatype": DATATYPES.get(each.dtype, BYTES), "shape": shape}]
    return [_standard_tensor(each)]


def _sizes(each: Field) -> "list[int]":
    return [-1 if size is None else size for size in each.shape]


def _column_name(schema: "Schema | None", each: Field, column: Column) -> str:
    alone = schema is None or schema.only_input is not None
    return str(column.name) if alone else f"{each.name}.{column.name}"


def _datatype(column: Column) -> str:
    dtype = column.dtype.lower() if column.dtype != "boolean" else "bool"
    if column.categories and all(type(word) is int for word in column.categories):
        return "INT64"
    return DATATYPES.get(dtype, BYTES)


def _standard_tensor(each: Field) -> dict[str, Any]:
    datatype, axes = _standard(each)
    return {"name": each.name, "datatype": datatype or BYTES, "shape": [-1] * axes or [1]}


def _standard(each: Field) -> "tuple[str, int]":
    """Datatype ('' for JSON text) and the number of axes, 0 for a single value."""
    fragment: Any = each.swagger
    axes = 0
    while isinstance(fragment, Mapping) and fragment.get("type") == "array":
        fragment, axes = fragment.get("items", {}), axes + 1
    kind = fragment.get("type") if isinstance(fragment, Mapping) else None
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), None) if len(kind) < 3 else None
    datatype = _LEAVES.get(str(kind), "")
    return (datatype, axes) if datatype else ("", 0)


@dataclass
class Inference:
    """One infer request: how its body is read and its answer written."""

    schema: Schema
    model: str
    version: str
    header_length: "int | None"
    asked: "dict[str, bool] | None" = None  # the outputs that were asked for, and whether as binary data
    all_binary: bool = False
    id: "str | None" = None

    def read(self, body: bytes) -> "dict[str, Any]":
        """The arguments of `run`. Raises InvalidInput."""
        length = len(body) if self.header_length is None else self.header_length
        if length > len(body):
            raise InvalidInput("", f"a JSON part of {length} bytes", f"a body of {len(body)}")
        try:
            document = orjson.loads(body[:length])
        except orjson.JSONDecodeError as problem:
            raise InvalidInput("", "valid JSON", f"something else: {problem}") from None
        if not isinstance(document, dict) or not isinstance(document.get("inputs"), list):
            raise InvalidInput("", 'an object with "inputs": [...]', describe(document))
        self._read_wishes(document)
        binary = memoryview(body)[length:]
        tensors: dict[str, Tensor] = {}
        for place, entry in enumerate(document["inputs"]):
            tensor, size = parse_tensor(entry, f"/inputs/{place}", binary)
            if tensor.name in tensors:
                raise InvalidInput(f"/inputs/{place}/name", "names that differ", describe(tensor.name))
            tensors[tensor.name], binary = tensor, binary[size:]
        if len(binary):
            raise InvalidInput("", "as much binary data as the inputs announce", f"{len(binary)} bytes more")
        return arguments(self.schema, tensors)

    def _read_wishes(self, document: "dict[str, Any]") -> None:
        given, parameters = document.get("id"), document.get("parameters", {})
        if given is not None and not isinstance(given, str):
            raise InvalidInput("/id", "a string", describe(given))
        if not isinstance(parameters, dict):
            raise InvalidInput("/parameters", "an object", describe(parameters))
        self.id, self.all_binary = given, parameters.get("binary_data_output") is True
        outputs = document.get("outputs")
        if not outputs:
            return
        if not isinstance(outputs, list):
            raise InvalidInput("/outputs", "an array", describe(outputs))
        self.asked = {}
        for place, wish in enumerate(outputs):
            at = f"/outputs/{place}"
            options = wish.get("parameters", {}) if isinstance(wish, dict) else None
            if not isinstance(options, dict) or not isinstance(wish.get("name"), str):
                raise InvalidInput(at, "an object with a name", describe(wish))
            if unknown := [key for key in options if key != "binary_data"]:
                raise InvalidInput(step(at, "parameters"), "binary_data only", describe(unknown[0]))
            self.asked[wish["name"]] = options.get("binary_data", self.all_binary) is True

    def write(self, value: Any) -> Encoded:
        """Content type, body and headers of the answer. Raises BadInput for outputs that there are not."""
        outputs = self._named(value)
        if self.asked is not None:
            for name in self.asked:
                if name not in outputs:
                    told = ", ".join(outputs) or "none"
                    raise BadInput(
                        f"/outputs: there is no output {name!r}; there are: {told}.", {"pointer": "/outputs"}
                    )
        shown, tail = [], b""
        for name, output in outputs.items():
            if self.asked is not None and name not in self.asked:
                continue
            entry: dict[str, Any] = {"name": name, "datatype": output.datatype, "shape": output.shape}
            if self.all_binary if self.asked is None else self.asked[name]:
                data = output.binary_data()
                entry["parameters"] = {"binary_data_size": len(data)}
                tail += data
            else:
                entry["data"] = _json_data(output)
            shown.append(entry)
        document = {"model_name": self.model, "model_version": self.version, "outputs": shown}
        head = as_json(document if self.id is None else {**document, "id": self.id})
        if not any("parameters" in entry for entry in shown):
            return b"application/json", head, []
        return b"application/octet-stream", head + tail, [(HEADER_LENGTH, b"%d" % len(head))]

    def _named(self, value: Any) -> "dict[str, Output]":
        names = list(self.schema.outputs)
        if hasattr(value, "to_dict") and hasattr(value, "columns"):
            return {str(name): output_of(str(name), value[name]) for name in value.columns}
        if isinstance(value, Mapping) and value:
            return {str(name): output_of(str(name), each) for name, each in value.items()}
        name = names[0] if len(names) == 1 else "output"
        return {name: output_of(name, value)}


def _json_data(output: Output) -> Any:
    try:
        return output.json_data()
    except UnicodeDecodeError:
        raise NotAcceptable("JSON", f"output {output.name!r} has bytes that are no text; ask for binary data") from None


def arguments(schema: Schema, tensors: Mapping[str, Tensor]) -> "dict[str, Any]":
    """The arguments of `run` from tensors by name. Raises InvalidInput."""
    ready: dict[str, Any] = {}
    document: dict[str, Any] = {}
    used: set[str] = set()
    for each in schema.inputs.values():
        if each.columns:
            names = {_column_name(schema, each, column): column for column in each.columns}
            if not each.required and not tensors.keys() & names.keys():
                continue
            found = {str(names[name].name): tensor for name, tensor in tensors.items() if name in names}
            used |= tensors.keys() & names.keys()
            if schema.only_input is not None and each.type == "pandas":
                used |= tensors.keys()
                found = {**{name: tensor for name, tensor in tensors.items() if name not in names}, **found}
            ready[each.name] = _columns(schema, each, found)
        elif (tensor := tensors.get(each.name)) is not None:
            used.add(each.name)
            if each.type == "numpy" and tensor.datatype != BYTES:
                ready[each.name] = schema.decode_typed(each.name, tensor.values, tensor.at)
            elif each.is_bytes and tensor.datatype == BYTES:
                ready[each.name] = _single(tensor)
            else:
                document[each.name] = _json_value(each, tensor)
    for name, tensor in tensors.items():
        if name not in used:
            raise InvalidInput(tensor.at, schema.expected().replace("a JSON object", "tensors"), f"a tensor {name!r}")
    return schema.decode_mixed(ready, document)


def _columns(schema: Schema, each: Field, tensors: Mapping[str, Tensor]) -> Any:
    at = step("", each.name)
    if len(each.shape) > 1:
        fields = {name: tensor.array() for name, tensor in tensors.items()}
        return schema.decode_typed(each.name, structured(fields, at), at)
    columns: dict[str, Any] = {}
    rows: "int | None" = None
    for name, tensor in tensors.items():
        if len(tensor.shape) not in (1, 2) or tensor.shape[1:] not in ((), (1,)):
            raise InvalidInput(tensor.at, "a shape such as [2] or [2, 1]", describe(list(tensor.shape)))
        rows = tensor.shape[0] if rows is None else rows
        if tensor.shape[0] != rows:
            raise InvalidInput(tensor.at, f"{rows} rows, as the first tensor has", f"{tensor.shape[0]}")
        columns[name] = tensor.texts() if tensor.datatype == BYTES else tensor.values.reshape(-1)
    if each.type == "numpy":
        return schema.decode_typed(each.name, structured(columns, at), at)
    return schema.decode_typed(each.name, columns, at)


def _single(tensor: Tensor) -> Any:
    if len(tensor.values) != 1:
        raise InvalidInput(tensor.at, "one element", describe(list(tensor.shape)))
    return tensor.values[0]


def _json_value(each: Field, tensor: Tensor) -> Any:
    """What the JSON decoder of the input takes."""
    values = tensor.texts() if tensor.datatype == BYTES else tensor.values.reshape(-1).tolist()
    datatype, axes = _standard(each) if each.type == "standard" else (BYTES, len(each.shape))
    if axes:
        return _nested(values, tensor.shape)
    if len(values) != 1:
        raise InvalidInput(tensor.at, "one element", describe(list(tensor.shape)))
    if datatype or tensor.datatype != BYTES:
        return values[0]
    try:
        return orjson.loads(values[0])
    except orjson.JSONDecodeError as problem:
        raise InvalidInput(tensor.at, "JSON text", f"something else: {problem}") from None


def _nested(values: "list[Any]", shape: "tuple[int, ...]") -> Any:
    for size in reversed(shape[1:]):
        values = [values[start : start + size] for start in range(0, len(values), size)] if size else []
    return values


def inference(
    schema: "Schema | None", model: str, version: str, headers: Mapping[bytes, bytes], forms: Installed
) -> Inference:
    """Decided before the body is read. Raises BadInput and WrongType."""
    if schema is None:
        raise BadInput("This service has no schema, so its inputs have no names. Use /score, or add a schema.")
    if forms.lacking[NPY]:
        raise WrongType("tensors", forms.lacking[NPY])
    given = headers.get(HEADER_LENGTH)
    if given is None:
        return Inference(schema, model, version, None)
    if not given.isdigit() or len(given) > 12:
        shown = given[:40].decode("latin-1")
        raise BadInput(
            f"Header Inference-Header-Content-Length must be a number of bytes, not {shown!r}.",
            {"header": "inference-header-content-length", "expected": "a number of bytes", "received": shown},
        )
    return Inference(schema, model, version, int(given))
