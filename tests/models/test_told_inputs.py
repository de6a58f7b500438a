"""What artefacts tell of their inputs; real models of the other libraries are in tests/e2e/test_no_script.py."""

import json
import pickle
import struct
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from argosy.models.inputs import usable
from argosy.models.inspection import inspect
from argosy.models.mlflow_signature import signature_inputs
from argosy.records import Inspection

ROWS = np.arange(24.0).reshape(6, 4) % 7
LABELS = [0, 1, 0, 1, 0, 1]
NAMES = ["sepal length", "b", "c", "d"]
FRAME = pd.DataFrame(ROWS, columns=NAMES)


def told(tmp_path: Path, content: bytes, name: str = "model.bin") -> Inspection:
    (tmp_path / name).write_bytes(content)
    return inspect([(name, tmp_path / name)])


def names_of(inspection: Inspection) -> list[str]:
    assert inspection.inputs is not None
    return [column["name"] for column in inspection.inputs["data"]["columns"]]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_names_and_number_of_features_in_every_protocol(tmp_path: Path, protocol: int) -> None:
    plain = told(tmp_path, pickle.dumps(LogisticRegression().fit(ROWS, LABELS), protocol), "model.pkl")
    assert plain.template == "estimator"
    assert plain.inputs is not None
    assert plain.inputs["data"]["shape"] == [None, 4]
    assert plain.inputs["data"]["example"] == [[0, 0, 0, 0]]
    piped = make_pipeline(StandardScaler(), LogisticRegression()).fit(FRAME, LABELS)
    assert names_of(told(tmp_path, pickle.dumps(piped, protocol), "model.pkl")) == NAMES


@pytest.mark.parametrize("compress", [0, 3])
def test_joblib_writes_names_between_its_arrays(tmp_path: Path, compress: int) -> None:
    search = GridSearchCV(LogisticRegression(), {"C": [1.0, 2.0]}, cv=2).fit(FRAME, LABELS)
    joblib.dump(search, tmp_path / "model.joblib", compress=compress)
    assert names_of(inspect([("model.joblib", tmp_path / "model.joblib")])) == NAMES


def test_texts(tmp_path: Path) -> None:
    model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(["good day", "bad day"], [1, 0])
    found = told(tmp_path, pickle.dumps(model))
    assert found.inputs is not None
    assert found.inputs["data"]["swagger"] == {"type": "array", "items": {"type": "string"}}


def test_columns_of_unknown_types_are_not_guessed(tmp_path: Path) -> None:
    columns = make_column_transformer((StandardScaler(), ["b"]), (StandardScaler(), ["c"]))
    found = told(tmp_path, pickle.dumps(make_pipeline(columns, LogisticRegression()).fit(FRAME, LABELS)))
    assert (found.template, found.inputs) == ("estimator", None)


def test_what_holds_no_estimator_at_its_root_has_no_template(tmp_path: Path) -> None:
    model = LogisticRegression().fit(ROWS, LABELS)
    for value in ({"model": model}, [model], 3, None):
        assert told(tmp_path, pickle.dumps(value)).template is None
    assert told(tmp_path, pickle.dumps(model)[:-20], "model.pkl").template is None


def test_a_list_without_end_costs_no_memory(tmp_path: Path) -> None:
    found = told(tmp_path, b"\x80\x04](" + b"K\x01" * 100_000 + b"e.")
    assert (found.format, found.template) == ("pickle", None)


def test_two_models_in_a_folder_need_a_script(tmp_path: Path) -> None:
    for name in ("a.pkl", "b.pkl"):
        (tmp_path / name).write_bytes(pickle.dumps(LogisticRegression().fit(ROWS, LABELS)))
    two = inspect([(f"folder/{name}", tmp_path / name) for name in ("a.pkl", "b.pkl")])
    assert (two.framework, two.template, two.inputs) == ("scikit-learn", None, None)
    one = inspect([("folder/a.pkl", tmp_path / "a.pkl"), ("folder/notes.txt", Path(__file__))])
    assert (one.template, one.artifact) == ("estimator", "folder/a.pkl")


# -- ONNX ----------------------------------------------------------------------------------------------------------


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])


def field(number: int, value: bytes | int) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def tensor(name: str, kind: int, *sizes: int | str) -> bytes:
    dims = b"".join(field(1, field(1, s) if isinstance(s, int) else field(2, s.encode())) for s in sizes)
    return field(11, field(1, name.encode()) + field(2, field(1, field(1, kind) + field(2, dims))))


def onnx(graph: bytes) -> bytes:
    return field(1, 8) + field(2, b"test") + field(7, graph)


def test_inputs_of_an_onnx_graph(tmp_path: Path) -> None:
    weights = field(5, field(1, 3) + field(8, b"weights") + field(9, b"x" * 1000))
    graph = weights + tensor("weights", 1, 3) + tensor("input.1", 1, "N", 3, 8) + tensor("ids", 7, 1, "T")
    found = told(tmp_path, onnx(graph), "model.onnx")
    assert found.template == "onnx"
    assert found.inputs is not None
    assert {n: (e["dtype"], e["shape"]) for n, e in found.inputs.items()} == {
        "input.1": ("float32", [None, 3, 8]),
        "ids": ("int64", [1, None]),
    }
    assert "example" in found.inputs["input.1"]
    assert "example" not in found.inputs["ids"], "a length that is free cannot be made up"


@pytest.mark.parametrize(
    "graph",
    [
        b"",
        tensor("x", 14, 1),
        field(11, field(1, b"x") + field(2, field(4, b""))),
        b"\x5b\xff",
        b"\xff" * 30,
        field(11, b"\x0a\xff\xff\xff\xff\x0f"),
    ],
)
def test_onnx_inputs_that_are_no_tensors_or_no_protobuf(tmp_path: Path, graph: bytes) -> None:
    found = told(tmp_path, onnx(graph), "model.onnx")
    assert (found.framework, found.inputs) == ("onnxruntime", None)


# -- boosters ------------------------------------------------------------------------------------------------------


def lightgbm(names: str, categories: str = "[]") -> bytes:
    head = f"tree\nversion=v4\nnum_class=1\nmax_feature_idx=1\nfeature_names={names}\n\nTree=0\n"
    return f"{head}end of parameters\n\npandas_categorical:{categories}\n".encode()


def test_lightgbm(tmp_path: Path) -> None:
    assert names_of(told(tmp_path, lightgbm("age income"))) == ["age", "income"]
    plain = told(tmp_path, lightgbm("Column_0 Column_1"))
    assert plain.inputs is not None and plain.inputs["data"]["shape"] == [None, 2]
    assert told(tmp_path, lightgbm("age kind", '[["a", "b"]]')).inputs is None


def xgboost(names: list[str], kinds: list[str]) -> bytes:
    parameters = {"num_class": "0", "num_feature": "2"}
    learner = {"attributes": {}, "feature_names": names, "feature_types": kinds, "gradient_booster": {}}
    return json.dumps({"learner": {**learner, "learner_model_param": parameters}, "version": [3, 0, 0]}).encode()


def test_xgboost(tmp_path: Path) -> None:
    assert names_of(told(tmp_path, xgboost(["a b", "c"], ["float", "int"]))) == ["a b", "c"]
    plain = told(tmp_path, xgboost([], []))
    assert plain.inputs is not None and plain.inputs["data"]["shape"] == [None, 2]
    assert told(tmp_path, xgboost(["a", "b"], ["float", "c"])).inputs is None


def test_xgboost_in_binary_json(tmp_path: Path) -> None:
    def text(value: bytes) -> bytes:
        return b"SL" + struct.pack(">q", len(value)) + value

    def key(value: bytes) -> bytes:
        return b"L" + struct.pack(">q", len(value)) + value

    names = b"[#L" + struct.pack(">q", 2) + text(b"a b") + text(b"c")
    body = b"{" + key(b"learner") + b"{" + key(b"feature_names") + names + key(b"gradient_booster") + b"{}"
    body += key(b"num_feature") + text(b"2") + b"}}"
    assert names_of(told(tmp_path, body)) == ["a b", "c"]
    cut = told(tmp_path, body.replace(text(b"c"), b"SL" + struct.pack(">q", 1 << 40)))
    assert cut.inputs is not None and cut.inputs["data"]["type"] == "numpy"


# -- MLflow --------------------------------------------------------------------------------------------------------


def test_a_signature_of_columns_with_its_example() -> None:
    columns = [
        {"type": "double", "name": "a", "required": True},
        {"type": "string", "name": "b"},
        {"type": "datetime", "name": "when"},
        {"type": "long", "name": "n"},
    ]
    example = {"columns": ["a", "b", "when", "n"], "data": [[1.5, "x", "2024-01-01", 3]]}
    found = signature_inputs({"inputs": json.dumps(columns)}, json.dumps(example))
    assert found is not None
    assert [c["dtype"] for c in found["data"]["columns"]] == ["float64", "str", "datetime64[ns]", "int64"]
    assert found["data"]["example"] == [{"a": 1.5, "b": "x", "when": "2024-01-01", "n": 3}]


def test_parameters_of_a_signature() -> None:
    columns = [{"name": "x", "type": "double"}]
    params = [
        {"name": "k", "type": "long", "default": 3, "shape": None},
        {"name": "labels", "dtype": "string", "default": ["a"], "shape": [-1]},
        {"name": "when", "type": "datetime", "default": None, "shape": None},
        {"name": "what", "type": "object", "properties": {}, "default": {}},
    ]
    saved = {"inputs": {"columns": ["x"], "data": [[1.5]]}, "params": {"k": 1}}
    found = signature_inputs({"inputs": json.dumps(columns), "params": json.dumps(params)}, json.dumps(saved))
    assert found is not None and list(found) == ["data", "params"]
    assert found["data"]["example"] == [{"x": 1.5}]
    entry = found["params"]
    assert entry["required"] is False and entry["example"] == {"k": 3, "labels": ["a"], "when": None, "what": {}}
    assert entry["swagger"]["properties"] == {
        "k": {"type": "integer", "format": "int64"},
        "labels": {"type": "array", "items": {"type": "string"}},
        "when": {"type": "string", "nullable": True},
        "what": {},
    }
    assert found == usable(found)
    endless = signature_inputs(
        {"inputs": columns, "params": [{"name": "k", "type": "double", "default": float("inf")}]}
    )
    assert endless is not None and "example" not in endless["params"]
    for nothing in ("[", "{}", "[1]", "[]", None):
        assert list(signature_inputs({"inputs": columns, "params": nothing}) or ()) == ["data"]
    tensor = {"type": "tensor", "name": "params", "tensor-spec": {"dtype": "float32", "shape": [-1]}}
    own = signature_inputs({"inputs": [tensor], "params": params})
    assert own is not None and own["params"]["type"] == "numpy", "an input of that name is the input"


def test_a_signature_of_tensors() -> None:
    tensors = [
        {"type": "tensor", "name": "x", "tensor-spec": {"dtype": "float32", "shape": [-1, 28, 28]}},
        {"type": "tensor", "name": "y", "tensor-spec": {"dtype": "int64", "shape": [-1]}},
    ]
    found = signature_inputs({"inputs": json.dumps(tensors)})
    assert found is not None
    assert {name: entry["shape"] for name, entry in found.items()} == {"x": [None, 28, 28], "y": [None]}
    one = signature_inputs({"inputs": json.dumps([{"type": "tensor", "tensor-spec": tensors[0]["tensor-spec"]}])})
    assert one is not None and list(one) == ["data"]


@pytest.mark.parametrize(
    "signature",
    [None, {}, {"inputs": None}, {"inputs": "["}, {"inputs": "[]"}, {"inputs": "[1]"},
     {"inputs": '[{"type": "double"}]'},
     {"inputs": '[{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": "x"}}]'},
     {"inputs": '[{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-2]}}]'}],
)  # fmt: skip
def test_signatures_that_tell_nothing(signature: Any) -> None:
    assert signature_inputs(signature) is None


def test_an_mlmodel_with_types_that_no_schema_has(tmp_path: Path) -> None:
    tensors = [{"type": "tensor", "tensor-spec": {"dtype": "complex128", "shape": [-1]}}]
    text = f"flavors: {{python_function: {{}}}}\nsignature: {{inputs: '{json.dumps(tensors)}'}}\n"
    (tmp_path / "MLmodel").write_text(text)
    found = inspect([("m/MLmodel", tmp_path / "MLmodel")])
    assert (found.template, found.artifact, found.inputs) == ("mlflow", "m", None)
