"""Each example trains, writes the schema and the sample that stand in the repository, and answers in a real replica."""

import base64
import http.client
import io
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from PIL import Image

from argosy.keys import key_hash, new_key

EXAMPLES = Path(__file__).parents[2] / "examples"
READY_WITHIN_S = 120.0


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("replica", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


@dataclass(frozen=True)
class Replica:
    """A running replica; `score` and `get` answer status and body text."""

    path: Path
    key: str

    def score(self, body: str) -> tuple[int, str]:
        return self._call("POST", "/score", body, {"Content-Type": "application/json"})

    def get(self, path: str) -> tuple[int, str]:
        return self._call("GET", path, None, {})

    def _call(self, method: str, path: str, body: str | None, headers: dict[str, str]) -> tuple[int, str]:
        connection = UnixConnection(self.path)
        try:
            connection.request(method, path, body, {"Authorization": f"Bearer {self.key}", **headers})
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()


@dataclass(frozen=True)
class Recipe:
    """What a replica serves: a model file, and the script, schema and sample of an example."""

    example: Path
    model: Path
    script: str
    schema: dict[str, Any] | None
    sample: Any


Serve = Callable[[Recipe], Replica]


def trained(name: str, folder: Path) -> Path:
    """Run the example's train.py; the example's own folder."""
    subprocess.run([sys.executable, str(EXAMPLES / name / "train.py"), str(folder)], check=True)
    return EXAMPLES / name


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def recipe(example: Path, model: Path, variant: str = "") -> Recipe:
    """With the files that stand in the repository. `variant` is the ending of their names, such as `_image`."""
    schema = example / f"schema{variant}.json"
    return Recipe(
        example,
        model,
        f"score{variant}.py",
        read(schema) if schema.exists() else None,
        read(example / f"sample{variant}.json"),
    )


@pytest.fixture
def serve() -> Iterator[Serve]:
    with ExitStack() as running, tempfile.TemporaryDirectory(prefix="argosy-") as short:
        # Short, since a unix socket's path is: pytest's own folders are too deep.
        yield lambda recipe: running.enter_context(_replica(recipe, Path(tempfile.mkdtemp(dir=short))))


@contextmanager
def _replica(recipe: Recipe, folder: Path) -> Iterator[Replica]:
    model_dir = _write_image(recipe, folder / "image")
    replica = Replica(folder / "sock", new_key())
    spec = _write_spec(folder, replica)
    models = {"ARGOSY_MODEL_DIR": str(model_dir.parents[1]), "AZUREML_MODEL_DIR": str(model_dir)}
    process = subprocess.Popen([sys.executable, "-m", "argosy_serving", str(spec)], env={**os.environ, **models})
    try:
        _wait_until_ready(replica, process, folder)
        yield replica
    finally:
        process.terminate()
        try:
            assert process.wait(30) == 0
        finally:
            process.kill()
            process.wait()


def _write_image(recipe: Recipe, image: Path) -> Path:
    """The image folder of docs/architecture.md; answers the folder of its one model."""
    model_dir = image / "models" / "example" / "1"
    model_dir.mkdir(parents=True)
    (model_dir / recipe.model.name).write_bytes(recipe.model.read_bytes())
    (image / "code").mkdir()
    (image / "code" / recipe.script).write_bytes((recipe.example / recipe.script).read_bytes())
    described = {
        "digest": "0" * 64,
        "manifest": "1" * 64,
        "models": [{"name": "example", "version": 1, "kind": "file", "files": [recipe.model.name]}],
        "script": recipe.script,
        "schema": recipe.schema,
        "samples": [{"input": recipe.sample}],
        "serving": {"string_answers": "json"},
        "environment": {},
    }
    (image / "image.json").write_text(json.dumps(described))
    return model_dir


def _write_spec(folder: Path, replica: Replica) -> Path:
    (folder / "settings.json").write_text(
        json.dumps({
            "generation": 1, "keys": [key_hash(replica.key)], "auth": True, "public_docs": False,
            "max_queued_requests": 10, "max_queue_wait_ms": 500, "request_timeout_ms": 60000,
            "max_body_bytes": 20_000_000, "overload_status": 429, "log_level": "info", "scheme": "http",
        })
    )  # fmt: skip
    spec = folder / "spec.json"
    spec.write_text(
        json.dumps({
            "id": "example-1-test", "service": "example", "revision": 1, "image": str(folder / "image"),
            "listen": {"unix": str(replica.path)}, "admin": {"unix": str(folder / "admin")},
            "lock": str(folder / "lock"), "failure": str(folder / "failure.json"), "scratch": str(folder / "scratch"),
            "settings": str(folder / "settings.json"), "log": str(folder / "log"), "log_limit_bytes": 10_000_000,
            "slots": 1, "init_timeout_s": 120, "drain_grace_s": 0.0, "behind_gateway": False,
        })
    )  # fmt: skip
    return spec


def _wait_until_ready(replica: Replica, process: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline:
        assert process.poll() is None, _said(folder)
        try:
            if replica.get("/readyz")[0] == 200:
                return
        except OSError:
            pass
        time.sleep(0.1)
    raise AssertionError(f"not ready within {READY_WITHIN_S} s: {_said(folder)}")


def _said(folder: Path) -> str:
    return "\n".join(path.read_text() for path in (folder / "failure.json", folder / "log") if path.exists())


def test_iris_answers_as_in_2017(tmp_path: Path, serve: Serve) -> None:
    example = trained("iris", tmp_path)
    assert read(tmp_path / "schema.json") == read(example / "schema.json")
    assert read(tmp_path / "sample.json") == read(example / "sample.json")
    served = recipe(example, tmp_path / "model.pkl")
    replica = serve(served)
    assert replica.score(json.dumps(served.sample)) == (200, '"[\\"setosa\\", \\"versicolor\\"]"')
    # The order of the columns is the schema's, whatever the request's.
    turned = {"input_df": [dict(reversed(row.items())) for row in served.sample["input_df"]]}
    assert json.loads(json.loads(replica.score(json.dumps(turned))[1])) == ["setosa", "versicolor"]
    status, body = replica.score('{"input_df": [{"sepal length": 5.1}]}')
    assert status == 400
    assert "sepal width" in body


def test_digits_takes_arrays_and_pictures(tmp_path: Path, serve: Serve) -> None:
    example = trained("digits", tmp_path)
    model = joblib.load(tmp_path / "digits.joblib")
    assert read(tmp_path / "schema.json") == read(example / "schema.json")
    assert read(tmp_path / "sample.json") == read(example / "sample.json")
    rows = recipe(example, tmp_path / "digits.joblib")
    expected = model.predict(np.array(rows.sample["images"])).tolist()
    status, body = serve(rows).score(json.dumps(rows.sample))
    assert (status, json.loads(body)) == (200, {"digits": expected})

    picture = recipe(example, tmp_path / "digits.joblib", "_image")
    # How a PNG is compressed depends on the library's version; its pixels do not.
    made, kept = (pixels(read(folder / "sample_image.json")) for folder in (tmp_path, example))
    assert np.array_equal(made, kept)
    replica = serve(picture)
    status, body = replica.score(json.dumps(picture.sample))
    assert (status, json.loads(body)) == (200, {"digit": expected[0]})
    assert replica.score('{"image": "no base64!"}')[0] == 400


def pixels(sample: dict[str, str]) -> "np.ndarray[Any, Any]":
    with Image.open(io.BytesIO(base64.b64decode(sample["image"]))) as opened:
        return np.asarray(opened)


def test_text_answers_labels_and_probabilities(tmp_path: Path, serve: Serve) -> None:
    example = trained("text", tmp_path)
    assert read(tmp_path / "schema.json") == read(example / "schema.json")
    assert read(tmp_path / "sample.json") == read(example / "sample.json")
    served = recipe(example, tmp_path / "topics.joblib")
    replica = serve(served)
    status, body = replica.score(json.dumps(served.sample))
    assert status == 200
    first, second = json.loads(body)
    assert (first["label"], second["label"]) == ("internet", "numbers")
    assert sum(first["probabilities"].values()) == pytest.approx(1, abs=1e-3)
    assert replica.score('{"texts": []}') == (200, "[]")
    assert replica.score('{"texts": "not a list"}')[0] == 400


def test_diabetes_reads_the_raw_body(tmp_path: Path, serve: Serve) -> None:
    example = trained("diabetes", tmp_path)
    assert read(tmp_path / "sample.json") == read(example / "sample.json")
    served = recipe(example, tmp_path / "diabetes.joblib")
    assert served.schema is None
    replica = serve(served)
    status, body = replica.score(json.dumps(served.sample))
    expected = joblib.load(tmp_path / "diabetes.joblib").predict(np.array(served.sample["data"]))
    assert status == 200
    assert json.loads(body) == pytest.approx(expected.tolist())
    status, body = replica.score("{}")
    assert status == 500
    assert json.loads(body)["error"]["code"] == "scoring_failed"
