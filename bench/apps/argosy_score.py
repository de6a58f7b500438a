"""The scoring script of Argosy's rows."""

from pathlib import Path
from typing import Any

import work


def init() -> None:
    global predict
    predict = work.predictor("model.joblib" if Path("model.joblib").exists() else "")


def run(x: Any) -> Any:
    return predict(x)
