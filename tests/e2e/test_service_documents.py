"""swagger.json and openapi.json of running services, and the commands that make and compare schemas."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import openapi_spec_validator
import pytest

from e2e.calls import call
from e2e.running import Argosy

REQUIREMENTS = "scikit-learn\npandas\njoblib\n"
TABLE = "sepal length,sepal width,day,kind\n5.1,3.5,2024-05-31,wild\n6.3,3.3,2024-06-01,\n"
BY_TABLE = """
import joblib

def init():
    global model
    model = joblib.load("iris.joblib")

def run(flowers):
    assert flowers["day"].dtype.kind == "M"
    return model.predict(flowers[["sepal length", "sepal width"]].to_numpy()).tolist()
"""
BY_HINTS = """
import datetime
import joblib

def init():
    global model
    model = joblib.load("iris.joblib")

def run(row: list[float], day: datetime.date, scale: float = 1.0) -> int:
    assert type(day) is datetime.date
    return int(model.predict([[scale * value for value in row]])[0])
"""


@pytest.fixture(scope="module")
def iris(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import joblib
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    data = load_iris()
    path = tmp_path_factory.mktemp("iris") / "iris.joblib"
    joblib.dump(LogisticRegression(max_iter=500).fit(data.data[:, :2], data.target), path)
    return path


def infer(argosy: Argosy, folder: Path, script: str, *words: object) -> Path:
    """A folder with score.py, the schema that `argosy schema infer` makes for it, and what to install."""
    (folder / "score.py").write_text(script)
    (folder / "requirements.txt").write_text(REQUIREMENTS)
    (folder / "schema.json").write_text(argosy.ok("schema", "infer", *words, cwd=folder).out)
    return folder / "schema.json"


def create(argosy: Argosy, name: str, model: Path, folder: Path, *more: str) -> None:
    argosy.ok(
        *("service", "create", name, "-m", model, "-f", "score.py", "-p", "requirements.txt", "-s", "schema.json"),
        *more, cwd=folder,
    )  # fmt: skip


def document(argosy: Argosy, service: str, file: str) -> Any:
    base = argosy.json("service", "show", service)["scoring_url"].removesuffix("/score")
    reply = call(f"{base}/{file}", token=argosy.key(service))
    assert reply.status == 200
    return reply.json


@pytest.mark.shows(
    "Documents",
    "`swagger.json` (2.0) and `openapi.json` (3.1) of a service",
    "official validators; the example is the sample",
)
@pytest.mark.shows(
    "Documents",
    "`argosy schema infer` from rows",
    "`argosy schema infer flowers.csv --script score.py`",
)
def test_a_schema_inferred_from_a_table_and_its_documents(argosy: Argosy, iris: Path, tmp_path: Path) -> None:
    (tmp_path / "flowers.csv").write_text(TABLE)
    infer(argosy, tmp_path, BY_TABLE, "flowers.csv", "--script", "score.py")
    create(argosy, "by-table", iris, tmp_path)
    sample = argosy.json("service", "run", "by-table")
    url = argosy.json("service", "show", "by-table")["scoring_url"]
    swagger, openapi = (document(argosy, "by-table", file) for file in ("swagger.json", "openapi.json"))
    openapi_spec_validator.validate(swagger)
    openapi_spec_validator.validate(openapi)
    assert swagger["schemes"] == ["http"] and swagger["securityDefinitions"]["key"]["type"] == "apiKey"
    assert f"http://{swagger['host']}" in url if "host" in swagger else True
    described = openapi["components"]["schemas"]["ServiceInput"]
    (example,) = described["examples"]
    jsonschema.validate(example, described)
    assert call(url, example, token=argosy.key("by-table")).json == sample, "the example of the page is the sample"
    assert described["required"] == ["flowers"]
    row = described["properties"]["flowers"]
    assert "sepal length" in json.dumps(row)
    answers = openapi["paths"]["/score"]["post"]["responses"]
    assert {"200", "400", "401", "413", "415", "429", "500", "503", "504"} <= set(answers)


@pytest.mark.shows(
    "Documents",
    "`argosy schema infer` from type hints",
    "`def run(row: list[float], day: datetime.date, scale: float = 1.0)`",
)
def test_a_schema_inferred_from_type_hints(argosy: Argosy, iris: Path, tmp_path: Path) -> None:
    infer(argosy, tmp_path, BY_HINTS, "score.py")
    create(argosy, "by-hints", iris, tmp_path, "--sample", sample(tmp_path))
    url, key = argosy.json("service", "show", "by-hints")["scoring_url"], argosy.key("by-hints")
    body = {"row": [5, 3.5], "day": "2024-05-31"}
    assert call(url, body, token=key).json == 0
    assert call(url, {**body, "scale": 1.3}, token=key).json in (0, 1, 2)
    for change, pointer in (({"day": "31.5.2024"}, "/day"), ({"row": [5, "x"]}, "/row/1"), ({"scale": "1"}, "/scale")):
        refused = call(url, {**body, **change}, token=key)
        assert (refused.status, refused.error["details"]["pointer"]) == (400, pointer)
    swagger = document(argosy, "by-hints", "swagger.json")["definitions"]["ServiceInput"]
    assert swagger["required"] == ["row", "day"]
    assert swagger["properties"]["day"] == {"type": "string", "format": "date"}


def sample(folder: Path) -> str:
    (folder / "sample.json").write_text(json.dumps({"row": [5, 3.5], "day": "2024-05-31"}))
    return "sample.json"


@pytest.mark.shows(
    "Documents",
    "`argosy schema diff A B`",
    "a stricter type and a new column of a manifest's schema",
)
def test_diff_says_what_breaks_callers_of_a_service(argosy: Argosy, iris: Path, tmp_path: Path) -> None:
    (tmp_path / "flowers.csv").write_text(TABLE)
    schema = infer(argosy, tmp_path, BY_TABLE, "flowers.csv", "--script", "score.py")
    argosy.ok(
        *("manifest", "create", "-n", "compared", "-m", iris, "-f", "score.py", "-p", "requirements.txt"),
        *("-s", "schema.json"), cwd=tmp_path,
    )  # fmt: skip
    assert argosy.ok("schema", "diff", "compared:1", schema).out == "The schemas take the same.\n"
    changed = json.loads(schema.read_text())
    columns = changed["input"]["flowers"]["columns"]
    columns[0]["dtype"] = "int64"
    columns.append({"name": "petal length", "dtype": "float64"})
    changed["input"]["flowers"].pop("swagger", None)
    changed["input"]["flowers"].pop("example", None)
    (tmp_path / "new.json").write_text(json.dumps(changed))
    done = argosy("schema", "diff", "compared:1", tmp_path / "new.json")
    assert done.code == 1
    assert "breaking" in done.out and "petal length" in done.out and "sepal length" in done.out
