"""What is asked of every server: a model, a request, how many connections, and which servers take part."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

COLUMNS = ("sepal length", "sepal width", "petal length", "petal width")
FLOWER = (5.1, 3.5, 1.4, 0.2)
_ROW_BYTES = 415  # of JSON for twenty numbers
_BODY_BYTES = 19_900_000  # Argosy's limit for a body is 20 MB unless it is set


@dataclass(frozen=True)
class Case:
    """`work` names the model in apps/work.py, `decode` what a request's value is made into before it: an array, a
    frame, or nothing. `arrow`: Argosy is sent the same rows as an Arrow stream. `service_s`: about how long one request
    takes, for the deadline of four times that. `least_s`: a shorter cell would see too few requests. `only`: the
    servers that take part; none means all."""

    name: str
    title: str
    work: str
    value: "Any"
    decode: str = "array"
    connections: Sequence[int] = (1, 16, 64)
    overload: bool = False
    service_s: float = 0.0
    least_s: float = 0.0
    health: bool = False
    arrow: bool = False
    only: Sequence[str] = ()
    batch: bool = False

    def takes(self, peer: str) -> bool:
        if self.only:
            return peer in self.only
        return self.batch or peer != "argosy-batch"


@cache
def rows(count: int, columns: int = 20) -> list[list[float]]:
    """Numbers of full precision, the same at every call."""
    numbers = random.Random(0)
    return [[numbers.gauss(0, 1) for _ in range(columns)] for _ in range(count)]


class _Lazy(list[list[float]]):
    """The 20 MB of rows, made when a request is written and not when this module is imported."""


def value_of(case: Case) -> Any:
    return rows(_BODY_BYTES // _ROW_BYTES) if case.value is _LARGE else case.value


_LARGE = _Lazy()
_OURS = ("floor", "argosy", "argosy-batch")

CASES = {
    case.name: case
    for case in (
        Case("iris", "one row of iris, logistic regression", "iris", [list(FLOWER)], overload=True, service_s=0.001,
             batch=True),
        Case("noop", "a model that does nothing: the server alone", "noop", [list(FLOWER)], decode="none"),
        Case("forest1", "100-tree forest, one row", "forest", rows(1), batch=True),
        Case("forest100", "100-tree forest, 100 rows", "forest", rows(100)),
        Case("rows", "gradient boosting, 100 rows of 20 numbers", "boosted", rows(100), connections=(1, 16)),
        Case("arrow", "the same, sent to Argosy as an Arrow stream", "boosted", rows(100), connections=(1, 16),
             arrow=True, only=("floor", "argosy")),
        Case("frame", "one row of iris as a pandas frame", "frame", [dict(zip(COLUMNS, FLOWER, strict=True))],
             decode="frame", only=_OURS, batch=True),
        Case("body20mb", "a JSON body of 20 MB", "mean", _LARGE, connections=(1,), least_s=6.0),
        Case("sleep50", "a model that waits 50 ms", "sleep", [list(FLOWER)], connections=(1, 16, 64, 256),
             overload=True, service_s=0.05, least_s=3.0),
        Case("busy300", "a model that computes 300 ms in pure Python", "busy", [list(FLOWER)], connections=(1, 4),
             overload=True, service_s=0.3, health=True, least_s=4.0),
    )
}  # fmt: skip
