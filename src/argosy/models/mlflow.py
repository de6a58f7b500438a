"""MLflow model folders: what the MLmodel file and the requirements beside it say."""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import yaml
from packaging.requirements import InvalidRequirement, Requirement

from argosy.models.inputs import usable
from argosy.models.mlflow_signature import signature_inputs
from argosy.models.references import is_version, pinned
from argosy.records import Inspection

_FILE_BYTES = 256 << 10

# Flavor -> distribution and the key of its version, in the order in which they decide.
_FLAVORS = {
    "sklearn": ("scikit-learn", "sklearn_version"),
    "xgboost": ("xgboost", "xgb_version"),
    "lightgbm": ("lightgbm", "lgb_version"),
    "catboost": ("catboost", "catboost_version"),
    "pytorch": ("torch", "pytorch_version"),
    "tensorflow": ("tensorflow", "tensorflow_version"),
    "keras": ("keras", "keras_version"),
    "onnx": ("onnxruntime", "onnx_version"),
    "statsmodels": ("statsmodels", "statsmodels_version"),
    "spacy": ("spacy", "spacy_version"),
    "prophet": ("prophet", "prophet_version"),
    "transformers": ("transformers", "transformers_version"),
}


def mlflow_folder(files: Mapping[str, Path]) -> Inspection | None:
    """The Inspection of a folder with an `MLmodel` file at its top; None when there is none."""
    top = next((path for path in files if PurePosixPath(path).name == "MLmodel" and path.count("/") <= 1), None)
    if top is None:
        return None
    try:
        content = yaml.safe_load(_text(files[top]))
    except (yaml.YAMLError, RecursionError) as problem:
        return Inspection("mlflow", findings=[f"{top}: it is no valid YAML ({type(problem).__name__})"])
    flavors = content.get("flavors") if isinstance(content, dict) else None
    if not isinstance(flavors, dict):
        return Inspection("mlflow", findings=[f"{top}: it names no flavors"])
    distribution, version = _framework(flavors)
    folder = top.removesuffix("MLmodel")
    listed = files.get(f"{folder}requirements.txt")
    requirements = _requirements(_text(listed)) if listed else ["mlflow"]
    if distribution and not any(requirement.split("==")[0] == distribution for requirement in requirements):
        requirements = pinned(requirements, distribution, version)
    example = files.get(f"{folder}input_example.json")
    return Inspection(
        "mlflow",
        distribution,
        version,
        requirements,
        template="mlflow" if isinstance(flavors.get("python_function"), dict) else None,
        artifact=folder.rstrip("/"),
        inputs=usable(signature_inputs(content.get("signature"), _text(example) if example else None)),
    )


def _framework(flavors: Mapping[Any, Any]) -> tuple[str | None, str | None]:
    for flavor, (distribution, key) in _FLAVORS.items():
        if isinstance(told := flavors.get(flavor), dict):
            version = str(told.get(key))
            # The `onnx` version there is that of the package that wrote the file, not of the one that runs it.
            return distribution, version if is_version(version) and flavor != "onnx" else None
    return None, None


def _requirements(text: str) -> list[str]:
    """`name` or `name==version` of each line; options, URLs and paths in a foreign file are passed over."""
    found = set()
    for line in text.splitlines()[:1000]:
        try:
            requirement = Requirement(line.partition(" #")[0].strip())
        except InvalidRequirement:
            continue
        if requirement.url is None:
            exact = [s.version for s in requirement.specifier if s.operator == "==" and is_version(s.version)]
            found.add(f"{requirement.name}=={exact[0]}" if exact else requirement.name)
    return sorted(found)


def _text(path: Path) -> str:
    with path.open("rb") as stream:
        return stream.read(_FILE_BYTES).decode("utf-8", "replace")
