"""The models, the same in every server. Run in the servers' own environments: imports only what a model needs.

`BENCH_WORK` names the model, `BENCH_DECODE` what the request's value is made into, `BENCH_MODEL` the model's file.
`python work.py FILE` trains the model into FILE.
"""

import os
import sys
import time
from collections.abc import Callable
from typing import Any

BUSY_STEPS = 6_000_000


def train(work: str) -> Any:
    import numpy as np

    numbers = np.random.default_rng(0)
    features = numbers.normal(size=(500, 20))
    labels = features[:, 0] > 0
    if work in ("iris", "frame"):
        from sklearn.datasets import load_iris
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression(max_iter=500).fit(*load_iris(return_X_y=True))
    if work == "forest":
        from sklearn.ensemble import RandomForestClassifier

        return RandomForestClassifier(n_estimators=100, random_state=0).fit(features, labels)
    if work == "boosted":
        from sklearn.ensemble import HistGradientBoostingClassifier

        return HistGradientBoostingClassifier(max_iter=50).fit(features, labels)
    return None


def predictor(path: str = "") -> Callable[[Any], Any]:
    """From a decoded value to an array or a list."""
    work = os.environ["BENCH_WORK"]
    if work == "noop":
        return lambda value: [1]
    if work == "mean":
        return lambda value: [float(value.mean())]
    if work == "sleep":
        return _sleep
    if work == "busy":
        return _compute
    import joblib

    predict: Callable[[Any], Any] = joblib.load(path or os.environ["BENCH_MODEL"]).predict
    return (lambda value: predict(value.to_numpy())) if work == "frame" else predict


def decoder() -> Callable[[Any], Any]:
    """From what JSON holds to what the model wants; a frame in the cheapest way that pandas has."""
    decode = os.environ["BENCH_DECODE"]
    if decode == "none":
        return lambda value: value
    import numpy as np

    if decode == "array":
        return np.array
    import pandas as pd

    columns = ["sepal length", "sepal width", "petal length", "petal width"]
    index = pd.Index(columns)
    return lambda value: pd.DataFrame(np.array([[row[c] for c in columns] for row in value]), columns=index)


def plain(result: Any) -> Any:
    """What the standard JSON encoder can say."""
    return result.tolist() if hasattr(result, "tolist") else result


def _sleep(value: Any) -> list[int]:
    time.sleep(0.05)
    return [1]


def _compute(value: Any) -> list[int]:
    total = 0
    for step in range(BUSY_STEPS):
        total += step * step & 7
    return [total]


if __name__ == "__main__":
    import joblib

    joblib.dump(train(os.environ["BENCH_WORK"]), sys.argv[1])
