import gzip
import io
import json
import os
import pickle
import socket
import struct
import subprocess
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import sklearn
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_iris
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from argosy.models.inspection import inspect
from argosy.models.pickles import Budget, scan
from argosy.records import Inspection

SKLEARN = f"scikit-learn=={sklearn.__version__}"


@pytest.fixture(scope="module")
def model() -> Any:
    rows, labels = load_iris(return_X_y=True)
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(rows, labels)


def of(path: Path, name: str | None = None) -> Inspection:
    return inspect([(name or path.name, path)])


def of_bytes(tmp_path: Path, content: bytes, name: str = "model.pkl") -> Inspection:
    path = tmp_path / "blob"
    path.write_bytes(content)
    return of(path, name)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_of_every_protocol(model: Any, tmp_path: Path, protocol: int) -> None:
    found = of_bytes(tmp_path, pickle.dumps(model, protocol))
    assert (found.format, found.framework, found.framework_version) == ("pickle", "scikit-learn", sklearn.__version__)
    assert found.requirements == ["numpy", SKLEARN]
    assert found.findings == []


@pytest.mark.parametrize("compress", [0, 3, ("zlib", 9), ("gzip", 3), ("bz2", 3), ("xz", 3), ("lzma", 3)])
def test_joblib_of_every_compression(model: Any, tmp_path: Path, compress: Any) -> None:
    path = tmp_path / "model.joblib"
    joblib.dump(model, path, compress=compress)
    found = of(path)
    assert (found.format, found.framework, found.framework_version) == ("joblib", "scikit-learn", sklearn.__version__)
    assert (found.requirements, found.findings) == (["joblib", "numpy", SKLEARN], [])
    assert (found.template, found.artifact) == ("estimator", "model.joblib")
    assert found.inputs is not None and found.inputs["data"]["shape"] == [None, 4]


def test_joblib_arrays_of_every_kind_are_stepped_over(model: Any, tmp_path: Path) -> None:
    """joblib writes array bytes between the opcodes; what stands behind the last one must still be found."""
    arrays = [
        np.arange(12).reshape(3, 4).astype(dtype)
        for dtype in ("f8", "f4", ">f4", "i8", "u1", "?", "c16", "M8[s]", "m8[D]")
    ]
    content = {
        "arrays": arrays,
        "objects": np.array([["a", None], [{1: 2}, [3]]], dtype=object),
        "nested": np.array([np.zeros(3), np.array(["x"], dtype=object)], dtype=object),
        "text": np.array(["abc", "d"]),
        "bytes": np.array([b"abc", b"d"]),
        "records": np.zeros(3, dtype=[("a", "f4"), ("b", "i8")]),
        "fortran": np.asfortranarray(np.ones((3, 4))),
        "scalar": np.array(5.0),
        "empty": np.zeros((0, 3)),
        "opcodes": np.frombuffer(b"\x80\x04.cos\nsystem\n", dtype="u1"),
        "last": model,
    }
    for compress in (0, 3):
        joblib.dump(content, tmp_path / "model.pkl", compress=compress)
        found = of(tmp_path / "model.pkl")
        assert found.findings == []
        assert (found.framework, found.framework_version) == ("scikit-learn", sklearn.__version__)


class Marker:
    """Loading it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_nothing_is_ever_loaded(tmp_path: Path, protocol: int) -> None:
    marker = tmp_path / "loaded"
    evil = pickle.dumps(Marker(marker), protocol)
    joblib.dump({"a": np.zeros(3), "b": Marker(marker)}, tmp_path / "evil.joblib", compress=3)
    torch = io.BytesIO()
    with zipfile.ZipFile(torch, "w") as archive:
        archive.writestr("model/data.pkl", evil)
    for found in (
        of_bytes(tmp_path, evil),
        of_bytes(tmp_path, gzip.compress(evil)),
        of(tmp_path / "evil.joblib"),
        of_bytes(tmp_path, torch.getvalue(), "model.pt"),
    ):
        assert any("posix.system, which can run any command" in finding for finding in found.findings)
        assert any("do not load it unless you trust" in finding for finding in found.findings)
    assert not marker.exists()
    pickle.loads(evil)
    assert marker.exists()  # so it would have been


class Calls:
    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.function, ("x",)


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (eval, "builtins.eval"),
        (exec, "builtins.exec"),
        (open, "io.open"),
        (getattr, "builtins.getattr"),
        (__import__, "builtins.__import__"),
        (subprocess.Popen, "subprocess.Popen"),
        (socket.create_connection, "socket.create_connection"),
        (os.remove, "posix.remove"),
    ],
)
def test_dangerous_names_are_found(tmp_path: Path, function: Callable[..., Any], name: str) -> None:
    found = of_bytes(tmp_path, pickle.dumps([Calls(function)]))
    assert any(f"refers to {name}, which can " in finding for finding in found.findings), found.findings


def test_names_through_the_memo_and_computed_names_are_found(tmp_path: Path) -> None:
    through_memo = b"\x80\x04\x8c\x06system\x94\x8c\x02os\x94h\x01h\x00\x93."
    assert any("os.system" in finding for finding in of_bytes(tmp_path, through_memo).findings)
    computed = b"\x80\x04\x8c\x02os\x94\x8c\x01x\x85\x8c\x01y\x86\x93."
    assert any("<computed>" in finding for finding in of_bytes(tmp_path, computed).findings)
    behind_another = pickle.dumps(1) + pickle.dumps(Calls(os.system))
    assert any("posix.system" in finding for finding in of_bytes(tmp_path, behind_another).findings)


def test_what_loading_will_not_find_is_told(tmp_path: Path) -> None:
    found = of_bytes(tmp_path, b"\x80\x04c__main__\nMyModel\n.")
    assert any("__main__.MyModel: defined in the script" in finding for finding in found.findings)
    found = of_bytes(tmp_path, b"\x80\x04cmypackage.models\nMyModel\n.")
    assert any("needs the modules mypackage" in finding for finding in found.findings)


def test_a_truncated_pickle_tells_what_it_can(model: Any, tmp_path: Path) -> None:
    content = pickle.dumps(model)
    found = of_bytes(tmp_path, content[: len(content) // 2])
    assert found.framework == "scikit-learn"
    assert any("could not be read to its end: it ends too early" in finding for finding in found.findings)
    found = of_bytes(tmp_path, gzip.compress(content)[:300])
    assert found.framework == "scikit-learn"
    assert any("gzip stream ends too early" in finding for finding in found.findings)


def test_large_contents_cost_no_memory(model: Any, tmp_path: Path) -> None:
    """200 MB of arrays and strings are skipped."""
    path = tmp_path / "large.pkl"
    with path.open("wb") as out:
        joblib.dump({"w": np.zeros(20_000_000), "text": "x" * 20_000_000, "raw": bytes(20_000_000), "m": model}, out)
    tracemalloc.start()
    found = of(path)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.framework_version == sklearn.__version__
    assert peak_bytes < 5_000_000


def test_work_is_bounded(tmp_path: Path) -> None:
    vocabulary = CountVectorizer().fit([" ".join(f"w{n}" for n in range(20_000))])
    content = pickle.dumps(vocabulary)
    assert scan(io.BytesIO(content), Budget()).sklearn_version == sklearn.__version__
    assert scan(io.BytesIO(content), Budget(opcodes=5_000)).problem == "it is too large to be read as a whole"
    bomb = gzip.compress(b"\x80\x04B" + struct.pack("<L", 200_000_000) + bytes(200_000_000))
    (tmp_path / "bomb.pkl").write_bytes(bomb)
    times = iter([0.0, 0.0, 0.0, *[100.0] * 100])
    found = inspect([("bomb.pkl", tmp_path / "bomb.pkl")], timeout_s=10, clock=lambda: next(times))
    assert any("too large" in finding for finding in found.findings)
    found = inspect([("a", tmp_path / "bomb.pkl")] * 3, timeout_s=-1)
    assert found.findings == ["only 0 of 3 files were inspected"]


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), st.sampled_from(["m.pkl", "m.onnx", "m.zip", "saved_model.pb", "MLmodel", "m"]))
@example(b"\x80\x04" + b"(" * 100 + b"t" * 100, "m.pkl")
@example(b"\x80\x04N2222b.", "m.pkl")
@example(b"PK\x05\x06" + bytes(18), "m.zip")
@example(b"PK\x03\x04" + b"PK\x05\x06" + bytes(18), "m.zip")
def test_garbage_never_raises(tmp_path_factory: pytest.TempPathFactory, content: bytes, name: str) -> None:
    path = tmp_path_factory.mktemp("garbage") / "blob"
    path.write_bytes(content)
    assert isinstance(inspect([(name, path)]), Inspection)
    assert isinstance(inspect([(f"m/{name}", path), ("m/MLmodel", path)]), Inspection)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_damaged_pickles_never_raise(model: Any, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    buffer = io.BytesIO()
    joblib.dump(model, buffer)
    content = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / "blob"
    path.write_bytes(content)
    assert isinstance(inspect([("m.pkl", path)]), Inspection)


def test_a_missing_file_is_a_finding(tmp_path: Path) -> None:
    assert of(tmp_path / "gone").findings == ["gone: could not be inspected (FileNotFoundError)"]


XGBOOST_UBJ = (
    b"{L\0\0\0\0\0\0\0\x07learner{L\0\0\0\0\0\0\0\x0aattributes{}}"
    b"L\0\0\0\0\0\0\0\x07version[#L\0\0\0\0\0\0\0\x03i\x03i\x02i\x00}"
)
ONNX = b"\x08\x0e\x12\x08skl2onnx\x1a\x031.2" + b":\x06\x0a\x00\x12\x02g!" + b"B\x02\x10\x1c"
SAVED_MODEL = b"\x08\x01\x12\x28\x0a\x26\x22\x05serve\x2a\x062.15.0\x32\x14v2.15.0-rc1-8-g6887368d6d4"
H5 = b"\x89HDF\r\n\x1a\n" + bytes(200) + b"keras_version\0" + bytes(900) + b"2.15.0\0"


def npy(array: Any) -> bytes:
    out = io.BytesIO()
    np.save(out, array, allow_pickle=True)
    return out.getvalue()


def npz() -> bytes:
    out = io.BytesIO()
    np.savez(out, a=np.zeros(3))
    return out.getvalue()


def keras() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.4.1"}))
        archive.writestr("config.json", json.dumps({"config": {"layers": [{"class_name": "Lambda"}]}}))
    return out.getvalue()


FORMATS = [
    (b'{"learner":{"attributes":{}},"version":[2,1,0]}', "m.json", ("xgboost", "xgboost", "2.1.0")),
    (XGBOOST_UBJ, "m.ubj", ("xgboost", "xgboost", "3.2.0")),
    (b"tree\nversion=v4\nnum_class=3\n", "m.txt", ("lightgbm", "lightgbm", None)),
    (b"CBM1\x00\x01", "m.cbm", ("catboost", "catboost", None)),
    (ONNX, "m.onnx", ("onnx", "onnxruntime", None)),
    (SAVED_MODEL, "saved_model.pb", ("tensorflow", "tensorflow", "2.15.0")),
    (H5, "m.h5", ("keras", "keras", "2.15.0")),
    (keras(), "m.keras", ("keras", "keras", "3.4.1")),
    (npy(np.zeros(3)), "m.npy", ("npy", "numpy", None)),
    (npz(), "m.npz", ("npy", "numpy", None)),
    (struct.pack("<Q", 44) + b'{"w":{"dtype":"F32","shape":[1],"data_off":0}}', "m.st", ("safetensors",) * 2 + (None,)),
    (b'{"some": "json"}', "m.json", ("unknown", None, None)),
    (b"hello world\n" * 100, "m.txt", ("unknown", None, None)),
    (b"", "m", ("unknown", None, None)),
]


@pytest.mark.parametrize(("content", "name", "expected"), FORMATS)
def test_formats(tmp_path: Path, content: bytes, name: str, expected: tuple[str, str | None, str | None]) -> None:
    found = of_bytes(tmp_path, content, name)
    assert (found.format, found.framework, found.framework_version) == expected
    pin = f"{expected[1]}=={expected[2]}" if expected[2] else expected[1]
    assert found.requirements == ([pin] if pin else [])


def test_notes_of_formats(tmp_path: Path) -> None:
    assert any("Lambda layer" in finding for finding in of_bytes(tmp_path, keras(), "m.keras").findings)
    objects = npy(np.array([{}], dtype=object))
    assert any("pickled objects" in finding for finding in of_bytes(tmp_path, objects, "m.npy").findings)
    assert of_bytes(tmp_path, b"hello").findings == ["model.pkl: is named like a pickle, but is none"]
    assert of_bytes(tmp_path, b"\x04\x22\x4d\x18" + bytes(20)).requirements == ["joblib", "lz4"]


MLMODEL = """
flavors:
  python_function: {loader_module: mlflow.sklearn, python_version: 3.11.7}
  sklearn: {pickled_model: model.pkl, sklearn_version: 1.4.2}
"""


def folder(tmp_path: Path, **files: bytes) -> list[tuple[str, Path]]:
    found = []
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        found.append((f"iris/{name.replace('__', '.')}", tmp_path / name))
    return found


def test_mlflow_folders(model: Any, tmp_path: Path) -> None:
    text = b"mlflow<4,>=2\nscikit-learn==1.4.2 # pin\n--index-url http://evil/\nx @ http://evil/x.whl\n\ncloudpickle==3.0.0\n"
    files = folder(tmp_path, MLmodel=MLMODEL.encode(), model__pkl=pickle.dumps(model), requirements__txt=text)
    requirements = ["cloudpickle==3.0.0", "mlflow", "scikit-learn==1.4.2"]
    assert inspect(files) == Inspection(
        "mlflow", "scikit-learn", "1.4.2", requirements, [], template="mlflow", artifact="iris"
    )
    found = inspect(folder(tmp_path, MLmodel=MLMODEL.encode(), model__pkl=pickle.dumps(Calls(os.system))))
    assert found.requirements == ["mlflow", "scikit-learn==1.4.2"]
    assert any(finding.startswith("iris/model.pkl: refers to posix.system") for finding in found.findings)


@pytest.mark.parametrize("content", [b"!!python/object/apply:os.system ['x']", b"[", b"a: [" * 5000, b"- 1", b"\xff"])
def test_hostile_mlmodel_files_are_findings(tmp_path: Path, content: bytes) -> None:
    found = inspect(folder(tmp_path, MLmodel=content))
    assert found.format == "mlflow"
    assert len(found.findings) == 1


def test_folders_combine_their_files(model: Any, tmp_path: Path) -> None:
    files = folder(tmp_path, a__txt=b"notes", b__pkl=pickle.dumps(model), c__onnx=ONNX, d__pkl=b"\x80\x04cmine\nX\n.")
    found = inspect(files)
    assert (found.format, found.framework) == ("pickle", "scikit-learn")
    assert found.requirements == ["numpy", "onnxruntime", SKLEARN]
    assert found.findings == ["iris/d.pkl: needs the modules mine: add their files or packages to the manifest"]
