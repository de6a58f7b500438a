from typing import Any

import pytest

from argosy.manifests.advice import advice
from argosy.records import Inspection, Lock, Recipe

CONDA = "dependencies:\n  - python=3.11\n  - scikit-learn=1.8.0\n  - pip:\n    - joblib==1.5.0\n"


def recipe(**parts: Any) -> Recipe:
    packages = {"scikit-learn": "1.8.0", "numpy": "1.26.4", "joblib": "1.5.0"}
    parts = {"conda_name": "my-conda.yaml", "requirements_name": "pins.txt", **parts}
    return Recipe([], "python:3.11", "score.py", [], Lock("3.11", "", packages), **parts)


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"conda": CONDA}, "'PIL' is missing: add `pillow` to `dependencies` in my-conda.yaml."),
        ({"requirements": "joblib\n"}, "'PIL' is missing: add a line `pillow` to pins.txt."),
        ({"inferred": ["joblib (the script imports joblib)"]}, "the dependencies were inferred (joblib)"),
    ],
)
def test_a_missing_module(parts: dict[str, Any], said: str) -> None:
    found = advice(recipe(**parts), [], ["ModuleNotFoundError: No module named 'PIL' (score.py, line 3)"])
    assert len(found) == 1
    assert said in found[0]


def test_a_type_that_the_schema_needs() -> None:
    assert "add `pandas`" in advice(recipe(conda=CONDA), [], ["but the environment has no pandas: add it"])[0]


@pytest.mark.shows(
    "The local loop",
    "A model of another version names the line to change",
    "`Change my-conda.yaml line 3: scikit-learn=1.8.0 to scikit-learn=1.9.1.`",
)
def test_a_pickle_of_another_version_names_the_line() -> None:
    warning = "Trying to unpickle estimator LogisticRegression from version 1.9.1 when using version 1.8.0. This might"
    expected = (
        "The model was saved by scikit-learn 1.9.1 and is loaded by 1.8.0. "
        "Change my-conda.yaml line 3: scikit-learn=1.8.0 to scikit-learn=1.9.1."
    )
    assert advice(recipe(conda=CONDA), [], [warning, warning]) == [expected]
    inspected = [("iris:1", Inspection("pickle", "scikit-learn", "1.9.1"))]
    assert advice(recipe(conda=CONDA), inspected, []) == [expected.replace("The model", "Model iris:1")]
    assert advice(recipe(conda=CONDA), [("iris:1", Inspection("pickle", "scikit-learn", "1.8.0"))], []) == []


def test_requirements_files_and_packages_that_nobody_named() -> None:
    inspected = [("iris:1", Inspection("pickle", "scikit-learn", "1.9.1"))]
    named = advice(recipe(requirements="# pins\nscikit-learn==1.8.0\n"), inspected, [])
    assert "Change pins.txt line 2: scikit-learn==1.8.0 to scikit-learn==1.9.1." in named[0]
    unnamed = advice(recipe(requirements="joblib\n"), inspected, [])
    assert "add a line `scikit-learn==1.9.1` to pins.txt" in unnamed[0]


def test_a_module_that_another_version_has() -> None:
    found = advice(recipe(conda=CONDA), [], ["ModuleNotFoundError: No module named 'numpy._core'"])
    assert found[0].startswith("numpy 1.26.4 has no module 'numpy._core'")


def test_nothing_to_say() -> None:
    assert advice(recipe(), [], ["ZeroDivisionError: division by zero", ""]) == []
