"""Manifests of models that come without a scoring script: the script, the schema and the dependencies are made from
what the model's file says of itself. Nothing is loaded.
"""

import keyword
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from argosy.errors import InvalidFile, InvalidOption
from argosy.manifests import script_templates as templates
from argosy.manifests.samples import inferred_samples, read_schema
from argosy.models.mlflow_signature import PARAMS
from argosy.records import FileEntry, Model, Recipe

SCRIPT = "score.py"
_TITLES = {
    "estimator": "an estimator of {framework}", "onnx": "an ONNX model", "xgboost": "an XGBoost model",
    "lightgbm": "a LightGBM model", "mlflow": "an MLflow model",
}  # fmt: skip
_ONE_INPUT = {
    "estimator": templates.ESTIMATOR, "xgboost": templates.XGBOOST, "lightgbm": templates.LIGHTGBM,
    "mlflow": templates.MLFLOW, "mlflow with params": templates.MLFLOW_PARAMS,
}  # fmt: skip
_ANY_INPUTS = {
    "onnx": templates.ONNX, "mlflow": templates.MLFLOW_SEVERAL, "mlflow with params": templates.MLFLOW_SEVERAL_PARAMS,
}  # fmt: skip
# What MLflow writes beside MLmodel; the first there is says what the model needs, the conda file its Python too.
_DEPENDENCY_FILES = (("conda.yaml", "conda"), ("conda.yml", "conda"), ("requirements.txt", "requirements"))

Read = Callable[[FileEntry], bytes]


@dataclass(frozen=True)
class Generated:
    """What stands in for what was not given. `dependencies` are keys of a ManifestRequest. `has_sample` says whether
    the schema has examples that the model surely takes."""

    script: str
    schema: dict[str, Any]
    has_sample: bool
    dependencies: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def generate(models: Sequence[Model], schema: dict[str, Any] | None, read: Read) -> Generated:
    """Raises the error that says what must be given instead. `read` opens a file of the model."""
    model = _scriptless(models)
    given = schema is not None
    if schema is None:
        if model.inspection.inputs is None:
            raise InvalidOption(
                "-s/--schema",
                None,
                f"the file of model {model.reference} does not tell what it takes, so give a schema. "
                "`argosy schema infer rows.csv > schema.json` makes one from sample rows",
            )
        schema = {"input": model.inspection.inputs, "output": {}}
    names = list(read_schema(schema).inputs)
    notes = [
        f"The scoring script was generated for {_title(model)} ({model.reference}): see it with `argosy manifest show "
        "NAME --script`, or give your own with -f."
    ]
    if not given:
        notes.append(f"The schema is what {model.inspection.artifact} says of its inputs: {', '.join(names)}.")
    entries = schema["input"].values()
    has_sample = given or all("example" in entry or entry.get("required") is False for entry in entries)
    return Generated(render(model, names), schema, has_sample, _dependencies(model, read), notes)


def render(model: Model, inputs: Sequence[str]) -> str:
    """The script for a model with a template and a schema with these inputs."""
    kind, inspection = str(model.inspection.template), model.inspection
    if kind == "mlflow" and PARAMS in inputs and (inspection.inputs or {}).get(PARAMS, {}).get("required") is False:
        kind, inputs = "mlflow with params", [name for name in inputs if name != PARAMS]
    one = inputs[0] if len(inputs) == 1 and inputs[0].isidentifier() and not keyword.iskeyword(inputs[0]) else ""
    text = _ONE_INPUT.get(kind) if one else None
    text = text or _ANY_INPUTS.get(kind)
    if text is None:
        raise InvalidOption(
            "-s/--schema",
            ", ".join(inputs),
            f"the script that is generated for {_title(model)} takes one input, with a name that Python allows. "
            "Change the schema, or write a scoring script and give it with -f",
        )
    head = templates.HEADER.format(title=_title(model))
    return head + text.format(file=repr(inspection.artifact), input=one)


def without_generated(recipe: Recipe, models: Sequence[Model], read: Read) -> Recipe:
    """The recipe without the parts that were generated for its model and not edited since, so that those of another
    model can take their place. The recipe itself when its script is somebody's own."""
    entry = next((entry for entry in recipe.files if entry.path == recipe.script), None)
    if len(models) != 1 or not models[0].inspection.template or recipe.schema is None or entry is None:
        return recipe
    model = models[0]
    try:
        text = render(model, list(read_schema(recipe.schema).inputs))
    except InvalidOption:
        return recipe
    if read(entry) != text.encode():
        return recipe
    rest = replace(recipe, script="", files=[each for each in recipe.files if each.path != recipe.script])
    own = _dependencies(model, read)
    if recipe.conda == own.get("conda") and recipe.requirements == own.get("requirements"):
        rest = replace(rest, conda=None, requirements=None)
    if recipe.schema == {"input": model.inspection.inputs, "output": {}}:
        made = recipe.samples in ([], inferred_samples(read_schema(recipe.schema)))
        rest = replace(rest, schema=None, samples=[] if made else recipe.samples)
    return rest


def _scriptless(models: Sequence[Model]) -> Model:
    if len(models) == 1 and models[0].inspection.template:
        return models[0]
    if len(models) == 1:
        what = f"model {models[0].reference} is none of these as far as its file tells ({models[0].inspection.format})"
    else:
        what = f"this manifest has {len(models)} models"
    raise InvalidOption(
        "-f/--script",
        None,
        "a manifest needs a scoring script with a run() function. One is generated only for a single MLflow, ONNX, "
        f"scikit-learn, XGBoost or LightGBM model, and {what}",
    )


def _title(model: Model) -> str:
    return _TITLES[str(model.inspection.template)].format(framework=model.inspection.framework)


def _dependencies(model: Model, read: Read) -> dict[str, str]:
    """Of an MLflow folder, its own dependency file; of others nothing: those are inferred."""
    if model.inspection.template != "mlflow":
        return {}
    files: Mapping[str, FileEntry] = {entry.path: entry for entry in model.files}
    folder = model.inspection.artifact
    for name, kind in _DEPENDENCY_FILES:
        path = f"{folder}/{name}" if folder else name
        if entry := files.get(path):
            if entry.size_bytes > 1_000_000:
                raise InvalidFile(path, "a dependency file of more than 1,000,000 bytes is not read.")
            return {kind: read(entry).decode("utf-8", "replace"), f"{kind}_name": name}
    return {}
