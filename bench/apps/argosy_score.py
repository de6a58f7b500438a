"""The scoring script of Argosy's rows."""

import os
from typing import Any

import work


def init() -> None:
    global predict
    predict = work.predictor("model.joblib" if os.path.exists("model.joblib") else "")


def run(x: Any) -> Any:
    return predict(x)
