"""The serving runtime beside old and new pins of what models are served with, on every Python that it supports.

Each combination is an environment of its own with real packages, from uv's cache when they are there, and a real
replica that scores in it.
"""

import datetime
import io
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from uv import find_uv_bin

import argosy_serving
from conftest import RanWith

MOST_PACKAGES, MOST_BYTES = 6, 25_000_000

# Flask before 2.2 does not say which versions of these it can live with.
FLASK_1_1 = ("Flask==1.1.4", "MarkupSafe==2.0.1")
FLASK_2_0 = ("Flask==2.0.3", "Werkzeug==2.0.3")
PINS = {
    "3.10-old": ("numpy==1.21.6", "pandas==1.3.5", "pydantic==1.8.2", "protobuf==3.20.3", *FLASK_1_1),
    "3.10-new": ("numpy==2.2.6", "pandas==2.3.3", "pydantic==2.14.3", "protobuf==7.36.2", "Flask==3.1.3"),
    "3.11-old": ("numpy==1.23.5", "pandas==1.5.3", "pydantic==1.10.2", "protobuf==3.20.3", *FLASK_2_0),
    "3.11-new": ("numpy==2.4.6", "pandas==3.1.1", "pydantic==2.14.3", "protobuf==7.36.2", "Flask==3.1.3"),
    "3.12-old": ("numpy==1.26.4", "pandas==2.1.4", "pydantic==1.10.13", "protobuf==4.25.8", "Flask==2.3.3"),
    "3.12-new": ("numpy==2.5.5", "pandas==3.1.1", "pydantic==2.14.3", "protobuf==7.36.2", "Flask==3.1.3"),
    "3.13-old": ("numpy==2.1.0", "pandas==2.2.3", "pydantic==1.10.19", "protobuf==5.28.3", "Flask==3.0.3"),
    "3.13-new": ("numpy==2.5.5", "pandas==3.1.1", "pydantic==2.14.3", "protobuf==7.36.2", "Flask==3.1.3"),
}

SCORE = """
import sys

import flask
import google.protobuf.struct_pb2 as protobuf
import numpy
import pandas
import pydantic


class Wanted(pydantic.BaseModel):
    factor: float


def init():
    global wanted
    message = protobuf.Struct()
    message.update({"factor": 2.0})
    app = flask.Flask("score")
    with app.test_request_context("/?factor=2"):
        assert float(flask.request.args["factor"]) == message["factor"]
    wanted = Wanted(factor=message["factor"])


def run(rows, weights):
    assert rows["at"].dtype.kind == "M" and isinstance(rows["kind"].dtype, pandas.CategoricalDtype)
    return {
        "python": "{}.{}".format(*sys.version_info),
        "versions": [numpy.__version__, pandas.__version__],
        "scores": wanted.factor * rows[["a", "b"]].to_numpy(dtype="float64") @ weights,
        "codes": rows["kind"].cat.codes.to_numpy(),
        "rows": rows,
    }
"""
SCHEMA = {
    "input": {
        "rows": {
            "type": "pandas",
            "columns": [
                {"name": "a", "dtype": "float64"},
                {"name": "b", "dtype": "int64"},
                {"name": "at", "dtype": "datetime64[ns]"},
                {"name": "kind", "dtype": "category", "categories": ["x", "y"]},
                {"name": "name", "dtype": "str"},
            ],
        },
        "weights": {"type": "numpy", "dtype": "float64", "shape": [2]},
    }
}
ROWS: list[dict[str, Any]] = [
    {"b": 2, "a": 1.5, "at": "2024-05-31T12:00:00", "kind": "y", "name": "Ä"},
    {"b": 4, "a": None, "at": None, "kind": None, "name": None},
]
BODY = {"rows": ROWS, "weights": [1, 0.5]}


@dataclass(frozen=True)
class Installed:
    """An environment, and what the runtime added to what the pins alone needed."""

    python: Path
    version: str
    packages: list[str]
    size_bytes: int


Install = Callable[[str, tuple[str, ...]], Installed]


@pytest.fixture
def install(tmp_path: Path, require: Callable[[str], str]) -> Install:
    def make(version: str, pins: tuple[str, ...]) -> Installed:
        uv("venv", "--python", require(f"python{version}"), tmp_path / "venv")
        python = tmp_path / "venv" / "bin" / "python"
        packages = tmp_path / "venv" / "lib" / f"python{version}" / "site-packages"
        add = ("pip", "install", "--python", python, "--only-binary", ":all:", *pins)
        uv(*add)
        before = set(packages.rglob("*"))
        uv(*add, *argosy_serving.REQUIREMENTS)
        uv("pip", "check", "--python", python)
        # The runtime's own code, as an image has it: not installed, but on the path.
        source = Path(argosy_serving.__file__).parent
        shutil.copytree(source, tmp_path / "serving" / "argosy_serving", ignore=shutil.ignore_patterns("__pycache__"))
        added = [p for p in packages.rglob("*") if p not in before] + [*(tmp_path / "serving").rglob("*")]
        sources = "\n".join(str(p) for p in added if p.suffix == ".py")
        subprocess.run([python, "-m", "compileall", "-qq", "-i", "-"], input=sources, text=True, check=True)
        files = [p for p in packages.rglob("*") if p not in before] + [*(tmp_path / "serving").rglob("*")]
        names = sorted(p.name.partition("-")[0] for p in files if p.suffix == ".dist-info")
        asked = subprocess.run([python, "-V"], capture_output=True, text=True, check=True).stdout.split()[1]
        return Installed(python, asked, names, sum(p.stat().st_size for p in files if p.is_file()))

    return make


def uv(*words: object) -> None:
    done = subprocess.run([find_uv_bin(), *map(str, words)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def _beside(combination: str) -> Any:
    pins = ", ".join(PINS[combination][:5]).replace("==", " ")
    mark = pytest.mark.shows("Beside a model's own pins", f"Python {combination.replace('-', ', ')} packages", pins)
    return pytest.param(combination, marks=mark, id=combination)


@pytest.mark.parametrize("combination", [_beside(name) for name in PINS])
def test_the_runtime_lives_beside_the_pins_of_a_model(
    combination: str, install: Install, replica: Any, tmp_path: Path, ran_with: RanWith
) -> None:
    installed = install(combination.partition("-")[0], PINS[combination])
    _is_small(installed)
    added = f"{len(installed.packages)} packages and {installed.size_bytes / 1e6:.1f} MB added"
    ran_with(f"Python {installed.version}: {added}")
    replica.python, replica.source = str(installed.python), tmp_path / "serving"
    replica.write_image(SCORE, SCHEMA, [{"input": BODY}])
    replica.start()
    reply = replica.score(BODY)
    assert reply.status == 200, reply.body
    answer = reply.json
    assert answer["python"] == combination.partition("-")[0]
    assert answer["versions"] == [pin.partition("==")[2] for pin in PINS[combination][:2]]
    assert (answer["scores"], answer["codes"]) == ([5.0, None], [1, -1])
    assert [{**row, "at": None} for row in answer["rows"]] == [{**row, "at": None} for row in ROWS]
    assert datetime.datetime.fromisoformat(answer["rows"][0]["at"]) == datetime.datetime(2024, 5, 31, 12)
    refused = replica.score({"rows": [{**ROWS[0], "b": 1.5}], "weights": [1, 2]})
    assert (refused.status, refused.error["details"]["pointer"]) == (400, "/rows/0/b")


@pytest.mark.parametrize("version", ["3.10", "3.11", "3.12", "3.13"])
@pytest.mark.shows(
    "Beside a model's own pins",
    "The runtime adds at most six packages and 25 MB",
    "an environment with numpy alone",
)
def test_what_the_runtime_adds_to_numpy_alone(version: str, install: Install) -> None:
    """Flask would have brought click already."""
    _is_small(install(version, ("numpy==2.1.0",)))


def _is_small(installed: Installed) -> None:
    assert 0 < len(installed.packages) <= MOST_PACKAGES, installed.packages
    assert 0 < installed.size_bytes <= MOST_BYTES, f"{installed.size_bytes:,}"


@pytest.mark.parametrize("combination", [name for name in PINS if name.endswith("-old")])
def test_arrays_pass_as_npy_and_tensors(combination: str, install: Install, replica: Any) -> None:
    replica.python = str(install(combination.partition("-")[0], PINS[combination]).python)
    schema = {"input": {"x": {"type": "numpy", "dtype": "float64", "shape": [None, 2]}}}
    replica.write_image("def run(x): return x * 2", schema)
    replica.start()
    out = io.BytesIO()
    np.save(out, np.array([[1.0, np.nan]]))
    npy = "application/x-npy"
    reply = replica.score(out.getvalue(), {"content-type": npy, "accept": npy})
    assert reply.status == 400, "NaN is missing, and the schema does not allow that"
    np.save(out := io.BytesIO(), np.array([[1.0, 2.0]]))
    reply = replica.score(out.getvalue(), {"content-type": npy, "accept": npy})
    assert np.load(io.BytesIO(reply.body)).tolist() == [[2.0, 4.0]]
    tensor = {"name": "x", "datatype": "FP64", "shape": [1, 2], "data": [1, 2]}
    assert replica.score({"inputs": [tensor]}, url="/v2/models/iris/infer").json["outputs"][0]["data"] == [2.0, 4.0]
