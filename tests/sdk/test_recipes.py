"""A recipe's options as the ManifestRequest they become, and what is refused while planning."""

from pathlib import Path
from typing import Any

import pytest

from argosy.errors import Error, InvalidFile, InvalidName, InvalidOption
from argosy.sdk.recipes import given, model_names, plan


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, text in {
        "score.py": "def run(x): ...",
        "conda.yml": "dependencies: []",
        "reqs.txt": "numpy",
        "schema.json": '{"input": {}, "output": {}}',
        "body.json": '{"x": 1}',
        "pair.json": '{"input": {"x": 1}, "output": 2}',
        "looks.json": '{"input": [1]}',
        "bad.json": '{"x":\n oops}',
        "list.json": "[]",
        "iris.pkl": "w",
        "My Model_v2.PKL": "w",
        "lib/a.py": "",
        "lib/sub/b.py": "",
        "lib/__pycache__/a.pyc": "",
        "other/score.py": "",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_everything_given() -> None:
    made = plan(
        "iris",
        {
            "models": ["iris:1"], "script": "score.py", "files": ["lib"], "conda": "conda.yml",
            "requirements": "reqs.txt", "schema": "schema.json",
            "samples": ["body.json", "pair.json", "looks.json", {"input": 3}],
            "runtime": "python:3.12", "variables": {"A": "1"}, "secrets": {"S": "env:S"},
            "serving": {"string_answers": "raw"}, "base": "iris:1",
        },
        "text",
    )  # fmt: skip
    assert made.body == {
        "name": "iris", "description": "text", "from": "iris:1", "runtime": "python:3.12", "script": "score.py",
        "conda": "dependencies: []", "conda_name": "conda.yml", "requirements": "numpy",
        "requirements_name": "reqs.txt",
        "schema": {"input": {}, "output": {}},
        "samples": [{"input": {"x": 1}}, {"input": {"x": 1}, "output": 2}, {"input": {"input": [1]}}, {"input": 3}],
        "environment": {"A": "1"}, "secrets": {"S": "env:S"}, "serving": {"string_answers": "raw"},
        "models": ["iris:1"],
    }  # fmt: skip
    assert [file.path for file in made.uploads] == ["score.py", "lib/a.py", "lib/sub/b.py"]


def test_nothing_given_asks_for_nothing() -> None:
    assert plan("iris", {"models": [], "variables": {}, "base": None}).body == {"name": "iris"}
    assert not given({"models": [], "script": None, "variables": {}})
    assert given({"runtime": "python:3.12"})


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"script": "gone.py"}, "gone.py: there is no such file.*working directory"),
        ({"script": "lib"}, "a file is wanted"),
        ({"schema": "bad.json"}, "line 2, column 2"),
        ({"schema": "list.json"}, "no schema"),
        ({"samples": ["bad.json"]}, "not valid JSON"),
        ({"script": "score.py", "files": ["other/score.py"]}, "beside the script"),
        ({"models": ["iris:x"]}, "no model reference"),
        ({"base": "Iris"}, "no valid manifest name"),
    ],
)
def test_what_is_refused(options: Any, problem: str) -> None:
    with pytest.raises(Error, match=problem):
        plan("iris", options)


def test_the_same_file_twice_is_no_clash() -> None:
    assert len(plan("iris", {"script": "score.py", "files": ["score.py"]}).uploads) == 2


def test_a_secrets_value_is_neither_sent_nor_repeated() -> None:
    with pytest.raises(InvalidOption) as caught:
        plan("iris", {"secrets": {"PASSWORD": "hunter2"}})
    assert "hunter2" not in str(caught.value)
    assert "PASSWORD" in str(caught.value)


def test_names_of_model_files() -> None:
    assert model_names("iris", ["iris.pkl"]) == {"iris": "iris.pkl"}
    several = model_names("iris", ["iris.pkl", "My Model_v2.PKL", "lib/"])
    assert list(several) == ["iris-iris.pkl", "iris-my-model-v2.pkl", "iris-lib"]
    with pytest.raises(InvalidFile, match=r"registered as iris-iris\.pkl"):
        model_names("iris", ["iris.pkl", "./iris.pkl"])
    with pytest.raises(InvalidName):
        model_names("i" * 63, ["iris.pkl", "lib"])
    with pytest.raises(InvalidFile, match="no such file"):
        model_names("iris", ["iris.pkl", "gone.pkl"])
