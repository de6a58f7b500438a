"""Writes the model as MLflow keeps it: `python mlflow_save.py FOLDER`."""

import os
import sys
from pathlib import Path
from typing import Any

import joblib
import mlflow

import work


class Model(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    def load_context(self, context: Any) -> None:
        self._predict = work.predictor()

    def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
        return work.plain(self._predict(model_input))


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    if os.environ["BENCH_WORK"] in ("iris", "forest", "boosted"):
        model = joblib.load(os.environ["BENCH_MODEL"])
        mlflow.sklearn.save_model(model, folder, pip_requirements=[], serialization_format="cloudpickle")
    else:
        here = str(Path(__file__).parent)
        code = [f"{here}/work.py", f"{here}/mlflow_save.py"]
        from mlflow_save import Model as Saved  # by its module's name, not as __main__

        mlflow.pyfunc.save_model(folder, python_model=Saved(), pip_requirements=[], code_paths=code)
