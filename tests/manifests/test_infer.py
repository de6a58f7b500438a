import pytest

from argosy.manifests.infer import Inferred, as_dependencies, distribution, infer
from argosy.manifests.scripts import check_script
from argosy.records import Inspection


def texts(found: list[Inferred]) -> list[str]:
    return [each.requirement for each in found]


def test_imports_models_and_schema_together() -> None:
    script = check_script("score.py", b"import json, joblib, sklearn, pandas\nfrom PIL import Image\ndef run(df): ...")
    model = Inspection("joblib", "scikit-learn", "1.7.2", ["scikit-learn", "numpy", "joblib"])
    schema = {"input": {"df": {"type": "pandas"}}, "output": {"y": {"type": "numpy"}}}
    found = infer(script, [("iris:3", model)], schema)
    assert texts(found) == ["joblib", "numpy", "pandas", "pillow", "scikit-learn==1.7.2"]
    assert "iris:3" in found[-1].reason
    assert found[3].reason == "the script imports PIL"


@pytest.mark.parametrize(
    ("module", "wanted"),
    [
        ("sklearn.linear_model", "scikit-learn"),
        ("cv2", "opencv-python-headless"),
        ("yaml", "pyyaml"),
        ("google.cloud.storage", "google-cloud-storage"),
        ("google.cloud.storage.Client", "google-cloud-storage"),
        ("google.cloud", ""),
        ("azureml.core", "azureml-core"),
        ("azureml.core.model.Model", ""),
        ("azureml.core.run", "azureml-core"),
        ("azureml.api.schema.dataTypes", ""),
        ("azureml.datacollector", ""),
        ("azureml.contrib.services.aml_request", ""),
        ("inference_schema.schema_decorators", ""),
        ("azureml_inference_server_http.api.aml_request", ""),
        ("argosy_serving", ""),
        ("Some_Thing", "some-thing"),
        ("mpl_toolkits.mplot3d", "matplotlib"),
    ],
)
def test_distributions(module: str, wanted: str) -> None:
    assert distribution(module) == wanted


def test_files_of_2017_number_their_types() -> None:
    assert texts(infer(None, [], {"input": {"a": {"type": 1}, "b": {"type": 3}}})) == ["numpy", "pandas"]


def test_old_libraries_get_the_numpy_they_were_built_for() -> None:
    found = infer(None, [("m:1", Inspection("pickle", "scikit-learn", "1.3.2", ["numpy"]))])
    assert texts(found) == ["numpy<2", "scikit-learn==1.3.2"]
    assert texts(infer(None, [("m:1", Inspection("pickle", "scikit-learn", "1.5.0"))])) == ["scikit-learn==1.5.0"]


def test_two_models_of_different_versions_are_both_shown() -> None:
    models = [
        ("a:1", Inspection("pickle", "scikit-learn", "1.6.0")),
        ("b:1", Inspection("pickle", "scikit-learn", "1.7.0")),
    ]
    found = infer(None, models)
    assert texts(found) == ["scikit-learn==1.6.0", "scikit-learn==1.7.0"]
    places = [r.place for r in as_dependencies(found).requirements]
    assert places[0] == "inferred because the model a:1 was written with it: scikit-learn==1.6.0"


def test_what_a_model_file_says_is_not_trusted() -> None:
    evil = Inspection(
        "pickle",
        "scikit-learn",
        "1.0 --index-url https://evil.example",
        [
            "x @ https://evil.example/x.whl",
            "a\n--extra-index-url https://evil.example",
            "-r /etc/passwd",
            "",
            "xgboost==2.0",
        ],
    )
    assert texts(infer(None, [("m:1", evil)])) == ["scikit-learn", "xgboost==2.0"]


def test_nothing_known_is_nothing_inferred() -> None:
    assert infer(None, [("m:1", Inspection())], {"input": "nonsense"}) == []
    assert infer(check_script("score.py", b"def run(x): ..."), []) == []
