"""Kinds of scripts, inputs and environments, each through the gateway with a real model of scikit-learn."""

import http.client
import importlib.metadata
import io
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from uv import find_uv_bin

from conftest import RanWith, Require
from e2e.calls import Reply, call
from e2e.running import Argosy

SETOSA, VIRGINICA = [5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]
COLUMNS = ["sepal length", "sepal width", "petal length", "petal width"]
REQUIREMENTS = "".join(f"{n}=={importlib.metadata.version(n)}\n" for n in ("scikit-learn", "numpy", "pandas"))
TRAIN = """
import joblib
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

data = load_iris()
joblib.dump(LogisticRegression(max_iter=1000).fit(data.data, data.target), "iris.joblib")
"""
INIT = """
import joblib

def init():
    global model
    model = joblib.load("iris.joblib")

def flower(row):
    return {"flower": int(model.predict([row])[0])}
"""
# What run() gives back is a generator in each, of another kind.
GENERATORS = {
    "yields": """
import time

def run(rows, pause):
    for row in rows:
        yield flower(row)
        time.sleep(pause)
""",
    "yields-async": """
import asyncio

async def run(rows, pause):
    for row in rows:
        yield flower(row)
        await asyncio.sleep(pause)
""",
    "returns": """
async def flowers(rows):
    for row in rows:
        yield flower(row)

def run(rows, pause):
    return flowers(rows) if pause else (flower(row) for row in rows)
""",
    "async-returns": """
async def run(rows, pause):
    return (flower(row) for row in rows)
""",
}
PLAIN_ROWS = {"type": "array", "items": {"type": "array", "items": {"type": "number"}}, "example": [SETOSA]}
PAUSE = {"type": "standard", "swagger": {"type": "number"}, "example": 0}
PLAIN_SCHEMA = {"input": {"rows": {"type": "standard", "swagger": PLAIN_ROWS}, "pause": PAUSE}}

CHOOSY = """
def run(strict, lenient=None, detail=False, request=None):
    frame = strict if lenient is None else lenient
    answer = {"flowers": model.predict(frame.to_numpy()), "columns": list(frame), "caller": request.caller}
    keys = [name for name in request.headers if name == "authorization"]
    answer |= {"id": request.id, "own": request.headers.get("x-own"), "keys": keys}
    if detail:
        answer["chances"] = model.predict_proba(frame.to_numpy()).round(2)
    return answer
"""
FRAME = {"type": "pandas", "columns": [{"name": name, "dtype": "float64"} for name in COLUMNS]}
FLOWER = dict(zip(COLUMNS, VIRGINICA, strict=True))
CHOOSY_SCHEMA = {
    "input": {
        "strict": {**FRAME, "extra_columns": "refuse", "example": [FLOWER]},
        "lenient": {**FRAME, "required": False},
        "detail": {"type": "standard", "swagger": {"type": "boolean"}, "required": False},
    }
}

OF_2017 = """
import json, joblib
import pandas as pd
from azureml.api.schema.dataTypes import DataTypes
from azureml.api.schema.sampleDefinition import SampleDefinition
from azureml.api.realtime.services import generate_schema
from azureml.marked import MARK

def init():
    global model
    model = joblib.load("iris.joblib")

def run(input_df):
    return json.dumps([int(each) for each in model.predict(input_df.to_numpy())] + [MARK])

def main():
    df = pd.DataFrame([[5.1, 3.5, 1.4, 0.2]], columns=["sepal length", "sepal width", "petal length", "petal width"])
    inputs = {"input_df": SampleDefinition(DataTypes.PANDAS, df)}
    return generate_schema(run_func=run, inputs=inputs, filepath="service_schema.json")

assert main()["input"]["input_df"]["type"] == "pandas"
"""
ASYNC = """
import asyncio

async def run(rows, wait):
    await asyncio.sleep(wait)
    return [flower(row)["flower"] for row in rows]
"""
ASYNC_SCHEMA = {"input": {"rows": PLAIN_SCHEMA["input"]["rows"], "wait": PAUSE}}
OLD = ("numpy==1.21.6", "scikit-learn==1.0.2", "joblib==1.1.0")
ARRAY_SCHEMA = {"input": {"x": {"type": "numpy", "dtype": "float64", "shape": [None, 4]}}}
NPY = "application/x-npy"


@pytest.fixture(scope="module")
def iris(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import joblib
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    folder = tmp_path_factory.mktemp("iris")
    features, species = load_iris(return_X_y=True)
    joblib.dump(LogisticRegression(max_iter=1000).fit(features, species), folder / "iris.joblib")
    (folder / "requirements.txt").write_text(REQUIREMENTS)
    return folder


def create(
    argosy: Argosy, name: str, iris: Path, script: str, schema: dict[str, Any] | None, folder: Path, *more: object
) -> None:
    (folder / "score.py").write_text(script)
    options: list[object] = ["-m", iris / "iris.joblib", "-f", folder / "score.py", "-p", iris / "requirements.txt"]
    if schema is not None:
        (folder / "schema.json").write_text(json.dumps(schema))
        options += ["-s", folder / "schema.json"]
    argosy.ok("service", "create", name, *options, *more)


def address(argosy: Argosy, name: str) -> tuple[str, str]:
    """Where to score, and a key."""
    return argosy.json("service", "show", name)["scoring_url"], argosy.key(name)


@contextmanager
def streaming(argosy: Argosy, name: str, body: Any) -> Iterator[http.client.HTTPResponse]:
    url, key = address(argosy, name)
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    connection.request("POST", parts.path, json.dumps(body), headers)
    try:
        yield connection.getresponse()
    finally:
        connection.close()


@pytest.mark.shows(
    "Scripts that run unmodified",
    "Generators of every kind",
    "generator, async generator, or a function that returns one; server-sent events, or chunks as they are made",
)
def test_every_kind_of_generator(argosy: Argosy, iris: Path, tmp_path: Path) -> None:
    for kind, script in GENERATORS.items():
        create(argosy, kind, iris, INIT + script, PLAIN_SCHEMA, tmp_path)
        url, key = address(argosy, kind)
        for pause in (0, 0.01):
            body = {"rows": [VIRGINICA, SETOSA], "pause": pause}
            reply = call(url, body, token=key)
            assert (reply.status, reply.content) == (200, b'{"flower":2}\n{"flower":0}\n'), kind
            assert reply.headers["content-type"] == "application/x-ndjson"
            events = call(url, body, token=key, headers={"accept": "text/event-stream"})
            assert events.content == b'data: {"flower":2}\n\ndata: {"flower":0}\n\n', kind
    for kind in ("yields", "yields-async"):
        with streaming(argosy, kind, {"rows": [VIRGINICA, SETOSA], "pause": 1}) as answer:
            assert answer.headers["transfer-encoding"] == "chunked"
            first, begun = answer.readline(), time.monotonic()
            assert (json.loads(first), json.loads(answer.readline())) == ({"flower": 2}, {"flower": 0})
            assert time.monotonic() - begun > 0.5, "the first arrives before the second is made"


@pytest.fixture(scope="module")
def choosy(argosy: Argosy, iris: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Any], Reply]:
    create(argosy, "choosy", iris, INIT + CHOOSY, CHOOSY_SCHEMA, tmp_path_factory.mktemp("choosy"))
    url, key = address(argosy, "choosy")
    return lambda body: call(url, body, token=key)


@pytest.mark.shows("Inputs and outputs", "Further columns", 'passed over; `"extra_columns": "refuse"` refuses them')
def test_further_columns(choosy: Callable[[Any], Reply]) -> None:
    further = {**FLOWER, "colour": "blue"}
    kept = choosy({"strict": [FLOWER], "lenient": [further]}).json
    assert (kept["flowers"], kept["columns"]) == ([2], COLUMNS)
    refused = choosy({"strict": [FLOWER, further]})
    assert (refused.status, refused.error["details"]["pointer"]) == (400, "/strict/1/colour")


@pytest.mark.shows("Inputs and outputs", "Inputs that may be left out", '`"required": false`')
def test_inputs_that_may_be_left_out(choosy: Callable[[Any], Reply]) -> None:
    short = choosy({"strict": [FLOWER]}).json
    assert short["flowers"] == [2] and "chances" not in short
    assert len(choosy({"strict": [FLOWER], "detail": True}).json["chances"][0]) == 3
    for body, pointer in (({"detail": True}, "/strict"), ({"strict": [FLOWER], "detail": "yes"}, "/detail")):
        refused = choosy(body)
        assert (refused.status, refused.error["details"]["pointer"]) == (400, pointer)


@pytest.mark.shows("Scripts that run unmodified", "`run(..., request)`", "id, headers and caller of the request")
def test_the_request_tells_of_its_caller(argosy: Argosy, choosy: Callable[[Any], Reply]) -> None:
    url, primary = address(argosy, "choosy")
    secondary = argosy.key("choosy", "secondary")
    first, other = (call(url, {"strict": [FLOWER]}, token=key).json for key in (primary, secondary))
    assert first["caller"] == choosy({"strict": [FLOWER]}).json["caller"] != other["caller"]
    assert first["caller"] not in primary and other["caller"] not in secondary
    told = call(url, {"strict": [FLOWER]}, token=primary, headers={"x-request-id": "r-1", "x-own": "mine"}).json
    assert (told["id"], told["own"], told["keys"]) == ("r-1", "mine", [])


@pytest.mark.shows(
    "Scripts that run unmodified",
    "2017 Azure ML: `generate_schema` in the script",
    "`generate_schema(run_func=run, inputs={'input_df': SampleDefinition(DataTypes.PANDAS, df)}, ...)`",
)
@pytest.mark.shows(
    "Scripts that run unmodified",
    "Stand-ins only where the package is absent",
    "an `azureml` package beside the script; what it lacks comes from the replica",
)
def test_a_schema_made_in_the_script_and_a_package_beside_it(argosy: Argosy, iris: Path, tmp_path: Path) -> None:
    package = tmp_path / "azureml"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "marked.py").write_text("MARK = 'beside'\n")
    schema = {"input": {"input_df": {**FRAME, "example": [FLOWER]}}}
    create(argosy, "old-school", iris, OF_2017, schema, tmp_path, "-D", package)
    url, key = address(argosy, "old-school")
    reply = call(url, {"input_df": [FLOWER, dict(zip(COLUMNS, SETOSA, strict=True))]}, token=key)
    assert (reply.status, json.loads(reply.json)) == (200, [2, 0, "beside"])


@pytest.mark.shows("Scripts that run unmodified", "`async def run`", "many requests at once on one loop")
def test_many_requests_wait_at_once(argosy: Argosy, iris: Path, tmp_path: Path) -> None:
    create(argosy, "waiting", iris, INIT + ASYNC, ASYNC_SCHEMA, tmp_path, "--max-concurrent-requests", 6)
    url, key = address(argosy, "waiting")

    def ask(wait_s: float) -> tuple[int, Any]:
        reply = call(url, {"rows": [VIRGINICA], "wait": wait_s}, token=key)
        return reply.status, reply.json

    begun = time.monotonic()
    with ThreadPoolExecutor(6) as callers:
        assert list(callers.map(ask, [1.5] * 6)) == [(200, [2])] * 6
    assert time.monotonic() - begun < 6 * 1.5, "one after the other takes longer"


@pytest.mark.shows(
    "Beside a model's own pins",
    "npy and tensors with old numpy",
    "`Accept: application/x-npy`, `/v2/models/iris/infer`",
)
def test_arrays_pass_as_npy_and_tensors_with_old_numpy(
    argosy: Argosy, require: Require, tmp_path: Path, ran_with: RanWith
) -> None:
    """The model is trained by the old packages that it is served with."""
    uv, place = find_uv_bin(), tmp_path / "old"
    subprocess.run([uv, "venv", "-q", "--python", require("python3.10"), place], check=True, cwd=tmp_path)
    python = place / "bin" / "python"
    install: list[str | Path] = [uv, "pip", "install", "-q", "--only-binary", ":all:", "--python", python, *OLD]
    subprocess.run(install, check=True, cwd=tmp_path)
    subprocess.run([python, "-c", TRAIN], check=True, cwd=tmp_path)
    (tmp_path / "requirements.txt").write_text("\n".join(OLD) + "\n")
    script = f"{INIT}\ndef run(x):\n    return model.predict_proba(x)\n"
    create(argosy, "iris", tmp_path, script, ARRAY_SCHEMA, tmp_path, "-r", "python:3.10")
    ran_with(argosy.versions("iris", "numpy", "scikit-learn"))
    np.save(out := io.BytesIO(), np.array([VIRGINICA, SETOSA]))
    url, key = address(argosy, "iris")
    npy = {"content-type": NPY, "accept": NPY}
    reply = call(url, out.getvalue(), token=key, headers=npy)
    assert (reply.status, reply.headers["content-type"]) == (200, NPY)
    chances = np.load(io.BytesIO(reply.content))
    assert chances.shape == (2, 3) and chances.argmax(axis=1).tolist() == [2, 0]
    infer = url.removesuffix("/score") + "/v2/models/iris/infer"
    tensor = {"name": "x", "datatype": "FP64", "shape": [1, 4], "data": VIRGINICA}
    [answer] = call(infer, {"inputs": [tensor]}, token=key).json["outputs"]
    assert answer["shape"] == [1, 3] and np.allclose(answer["data"], chances[0])
    np.save(out := io.BytesIO(), np.array([[1.0, np.nan, 1.0, 1.0]]))
    assert call(url, out.getvalue(), token=key, headers=npy).status == 400, "NaN is missing"
