"""What Azure ML's conda files list and a replica does itself."""

import pytest

from argosy.manifests.conda import parse_conda
from argosy.manifests.dependencies import Dependencies, Requirement
from argosy.manifests.provided import without_provided

CONDA = """\
name: model-env
channels: [conda-forge]
dependencies:
  - python=3.11
  - numpy=1.26
  - scikit-learn=1.5
  - pip
  - pip:
    - azureml-defaults>=1.0.45
    - azureml-inference-server-http~=0.8
    - inference-schema[numpy-support]==1.7.2
    - joblib
"""


def test_servers_are_left_out_with_their_lines() -> None:
    left = without_provided(parse_conda(CONDA, "conda.yml"))
    assert [r.name for r in left.requirements] == ["numpy", "scikit-learn", "inference-schema", "joblib"]
    assert left.python is not None
    told = [note for note in left.notes if "is left out" in note and "azureml" in note]
    assert [note.partition(" is left out")[0] for note in told] == [
        "conda.yml line 9: azureml-defaults>=1.0.45",
        "conda.yml line 10: azureml-inference-server-http~=0.8",
    ]
    assert "azureml-core" in told[0] and "AMLRequest" in told[1]


@pytest.mark.parametrize(
    "text",
    ["azureml.datacollector==0.1.0a13", "azure-ml-api-sdk", "azureml_contrib_services==1.62.0"],
)
def test_names_in_any_spelling(text: str) -> None:
    left = without_provided(Dependencies((Requirement(text, "r.txt", 1, text),)))
    assert not left.requirements and len(left.notes) == 1


@pytest.mark.parametrize(
    ("specifier", "kept"),
    [
        ("", ["inference-schema"]),
        (">=1.0", ["inference-schema"]),
        ("==1.8", ["inference-schema"]),
        ("==1.7.*", ["inference-schema"]),
        ("~=1.5", ["inference-schema"]),
        ("==1.5.1", ["numpy", "pandas"]),
        ("~=1.5.0", ["numpy", "pandas"]),
        ("<1.4", ["numpy", "pandas"]),
        ("==1.3.*", ["numpy", "pandas"]),
    ],
)
def test_decorators_too_old_for_todays_pythons(specifier: str, kept: list[str]) -> None:
    wish = Requirement(f"inference-schema[numpy-support,pandas-support]{specifier}", "r.txt", 3)
    left = without_provided(Dependencies((wish,)))
    assert [r.name for r in left.requirements] == kept
    assert len(left.notes) == (kept != ["inference-schema"])
