"""Scripts written for Argosy itself, with a real model: `async def run`, `request`, and a schema file made by code."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from e2e.calls import call
from e2e.running import Argosy

REQUIREMENTS = "scikit-learn\njoblib\npandas\n"
TRAIN_AND_DESCRIBE = """
import joblib
import pandas
from argosy.schema import DataTypes, SampleDefinition, generate_schema
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

flowers = load_iris(as_frame=True)
joblib.dump(LogisticRegression(max_iter=500).fit(flowers.data, flowers.target), "iris.joblib")

def run(flowers):
    return []

generate_schema(
    run_func=run, inputs={"flowers": SampleDefinition(DataTypes.PANDAS, flowers.data.head(2))}, filepath="schema.json"
)
"""
ASYNC = """
import asyncio
import joblib

def init():
    global model
    model = joblib.load("iris.joblib")

async def run(flowers, request):
    await asyncio.sleep(0.5)
    return {"species": model.predict(flowers), "id": request.id, "agent": request.headers.get("user-agent", "")}
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("modern")
    (folder / "make.py").write_text(TRAIN_AND_DESCRIBE)
    subprocess.run([sys.executable, "make.py"], cwd=folder, check=True, capture_output=True)
    (folder / "score.py").write_text(ASYNC)
    (folder / "requirements.txt").write_text(REQUIREMENTS)
    return folder


@pytest.mark.shows("Scripts that run unmodified", "`async def run(..., request)`", "`request.id`, `request.headers`")
@pytest.mark.shows(
    "Documents", "A schema file made by code", "`argosy.schema.generate_schema(run, inputs, outputs, filepath)`"
)
def test_async_run_and_a_schema_made_by_code(argosy: Argosy, trained: Path) -> None:
    argosy.ok(
        *("service", "create", "modern", "-m", "iris.joblib", "-f", "score.py", "-p", "requirements.txt"),
        *("-s", "schema.json", "--max-concurrent-requests", "8"),
        cwd=trained,
    )
    service, key = argosy.json("service", "show", "modern"), argosy.key("modern")
    rows = [
        {"sepal length (cm)": 5.1, "sepal width (cm)": 3.5, "petal length (cm)": 1.4, "petal width (cm)": 0.2},
        {"petal width (cm)": 2.3, "petal length (cm)": 5.2, "sepal width (cm)": 3.0, "sepal length (cm)": 6.7},
    ]

    def score(number: int) -> list[object]:
        headers = {"x-request-id": f"call-{number}", "user-agent": "a test"}
        reply = call(service["scoring_url"], {"flowers": rows}, token=key, headers=headers)
        assert reply.status == 200, reply.content
        return [reply.json["species"], reply.json["id"], reply.json["agent"]]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(score, range(8)))
    assert answers == [[[0, 2], f"call-{number}", "a test"] for number in range(8)], "all at once, on one loop"
    bad = call(service["scoring_url"], {"flowers": [rows[0] | {"petal width (cm)": "wide"}]}, token=key)
    assert (bad.status, bad.json["error"]["details"]["pointer"]) == (400, "/flowers/0/petal width (cm)")
