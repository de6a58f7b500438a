"""Makes a real model of every kind that needs no script: `python make_models.py FOLDER`, in an environment with the
libraries. Not a test; tests/e2e/test_no_script.py runs it."""

import sys
from pathlib import Path
from typing import Any

import joblib  # type: ignore[import-untyped,unused-ignore]
import lightgbm  # type: ignore[import-not-found,unused-ignore]
import mlflow.pyfunc  # type: ignore[import-not-found,unused-ignore]
import mlflow.sklearn  # type: ignore[import-not-found,unused-ignore]
import pandas as pd
import skl2onnx  # type: ignore[import-not-found,unused-ignore]
import xgboost  # type: ignore[import-not-found,unused-ignore]
from mlflow.models import infer_signature  # type: ignore[import-not-found,unused-ignore]
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

COLUMNS = ["sepal length", "sepal width", "petal length", "petal width"]
# Of a pickled class of this file.
CLASS_REQUIREMENTS = ("mlflow-skinny", "scikit-learn", "pandas", "cloudpickle")
REQUIREMENTS = ("mlflow-skinny", "scikit-learn", "pandas", "skops")


class Told(mlflow.pyfunc.PythonModel):  # type: ignore[misc,unused-ignore]
    """Answers as its parameters say."""

    def __init__(self, pipeline: Any) -> None:
        self.pipeline = pipeline

    def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
        answers = getattr(self.pipeline, params["method"])(model_input)
        return [float(params["factor"]) * answer for answer in answers.tolist()][: params["most"]]


def main(folder: Path) -> None:
    iris = load_iris()
    rows = pd.DataFrame(iris.data, columns=COLUMNS)
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    joblib.dump(pipeline.fit(iris.data, iris.target), folder / "array.joblib")
    joblib.dump(pipeline.fit(rows, iris.target), folder / "frame.joblib")
    joblib.dump({"model": pipeline}, folder / "wrapped.joblib")
    mlflow.sklearn.save_model(
        pipeline,
        str(folder / "iris_model"),
        signature=infer_signature(rows, pipeline.predict(rows)),
        input_example=rows.head(2),
        pip_requirements=list(REQUIREMENTS),
    )
    params = {"method": "predict", "factor": 1.0, "most": 10}
    mlflow.pyfunc.save_model(
        str(folder / "told_model"),
        python_model=Told(pipeline),
        signature=infer_signature(rows, [1.0], params),
        input_example=(rows.head(2), {"factor": 3.0}),
        pip_requirements=list(CLASS_REQUIREMENTS),
    )
    trees = xgboost.XGBClassifier(n_estimators=5).fit(rows, iris.target)
    trees.save_model(folder / "trees.ubj")
    leaves = lightgbm.LGBMClassifier(n_estimators=5, verbose=-1).fit(iris.data, iris.target)
    leaves.booster_.save_model(folder / "leaves.txt")
    joblib.dump(leaves, folder / "leaves.joblib")
    linear = LogisticRegression(max_iter=500).fit(iris.data, iris.target)
    graph = skl2onnx.to_onnx(linear, iris.data[:1].astype("float32"), options={"zipmap": False})
    (folder / "linear.onnx").write_bytes(graph.SerializeToString())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
