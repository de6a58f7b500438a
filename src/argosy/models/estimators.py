"""What a pickled estimator of scikit-learn, XGBoost or LightGBM takes, told by its attributes, never by loading it."""

from typing import Any

from argosy.models.inputs import Inputs, features, texts
from argosy.models.pickles import Call, Name, kept_list

_PACKAGES = ("sklearn.", "xgboost.sklearn.", "lightgbm.sklearn.", "imblearn.")
# Objects of these packages that are pickled too, but have no predict().
_OTHERS = ("sklearn.utils.", "sklearn.datasets.", "sklearn.model_selection._split.")
_RECONSTRUCTORS = ("copyreg._reconstructor", "copy_reg._reconstructor")
# Steps whose input is neither numbers nor texts: what each column holds cannot be told.
_OF_ANY_TYPE = ("ColumnTransformer", "OneHotEncoder", "OrdinalEncoder", "TargetEncoder", "DictVectorizer",
                "FeatureHasher", "FunctionTransformer", "FeatureUnion")  # fmt: skip
_COUNTS = ("n_features_in_", "_n_features_in", "_n_features")
_DEEP = 10


def is_estimator(root: Any) -> bool:
    """Whether loading would return an object of a known library's own that most likely has `predict`."""
    name = class_name(root)
    return name.startswith(_PACKAGES) and not name.startswith(_OTHERS)


def estimator_inputs(root: Any) -> Inputs | None:
    """None when the file does not tell what `predict` takes."""
    whole, first = _attributes(root), root
    for _ in range(_DEEP):
        if not class_name(first).endswith("pipeline.Pipeline"):
            break
        steps = [step for step in kept_list(_attributes(first).get("steps")) or [] if isinstance(step, tuple)]
        first = next((step[1] for step in steps if len(step) == 2 and isinstance(step[1], Call)), None)
    name = class_name(first)
    if not name or name.rpartition(".")[2] in _OF_ANY_TYPE:
        return None
    if name.startswith("sklearn.feature_extraction.text."):
        return texts()
    known = _attributes(first) | whole
    count = next((known[key] for key in _COUNTS if isinstance(known.get(key), int)), None)
    return features(kept_list(known.get("feature_names_in_")), count)


def class_name(value: Any) -> str:
    """The dotted class of an object, empty when it is none or not known."""
    if not isinstance(value, Call):
        return ""
    if value.name in _RECONSTRUCTORS:  # protocols 0 and 1
        kind = value.arguments[0] if isinstance(value.arguments, tuple) and value.arguments else None
        return kind.dotted if isinstance(kind, Name) else ""
    return value.name


def _attributes(value: Any) -> dict[str, Any]:
    state = value.state if isinstance(value, Call) else None
    return state if isinstance(state, dict) else {}
