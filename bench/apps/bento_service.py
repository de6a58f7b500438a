import os
from typing import Any

import bentoml
import numpy as np

import work

Value = np.ndarray if os.environ["BENCH_DECODE"] == "array" else list


@bentoml.service(workers=1, logging={"access": {"enabled": False}})
class Model:
    def __init__(self) -> None:
        self._predict = work.predictor()

    @bentoml.api
    def predict(self, x: Value) -> np.ndarray:  # type: ignore[valid-type]
        result: Any = self._predict(x)
        return np.asarray(result)
