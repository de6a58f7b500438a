"""The samples a replica must answer before it is ready, and how its answers are compared with recorded ones."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from argosy_serving.answers import encode_json
from argosy_serving.comparing import differs
from argosy_serving.schema import InvalidInput
from argosy_serving.scoring import Work
from argosy_serving.scripts import LoadFailed, explain

_TOLERANCE = 1e-6


def answer_samples(
    score: Callable[[Work], None],
    samples: Sequence[Mapping[str, Any]],
    has_schema: bool,
    code: Path,
    origin: str = "Sample {}",
) -> None:
    """Send every sample through `score`. Raises LoadFailed (sample_failed) for the first that fails or differs.

    `origin` is what a sample is called in messages, with {} for its number.
    A sample's `output` that is null or absent was not recorded, and then any answer of 200 will do.
    """
    for number, sample in enumerate(samples, 1):
        given, name = sample.get("input"), origin.format(number)
        body = given.encode() if isinstance(given, str) and not has_schema else encode_json(given)
        work = Work(body, {}, f"sample-{number}", "")
        score(work)
        if work.problem is not None:
            raise LoadFailed("sample_failed", f"{name}: {_why(work, code)}")
        if work.status != 200:
            raise LoadFailed("sample_failed", f"{name} was answered with status {work.status}.")
        if sample.get("output") is None:
            continue
        relative, absolute = _tolerances(sample.get("tolerance", _TOLERANCE))
        received = _decoded(work.result)
        if where := differs(sample["output"], received, relative, absolute):
            raise LoadFailed("sample_failed", f"{name}: the answer is not the recorded one: {where}")


def _why(work: Work, code: Path) -> str:
    problem = work.cause
    if problem is None or isinstance(problem, InvalidInput):
        return work.problem.message if work.problem else ""
    return explain(problem, code)


def _decoded(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return body.decode("utf-8", "replace")


def _tolerances(given: Any) -> "tuple[float, float]":
    if isinstance(given, Mapping):
        return float(given.get("relative", _TOLERANCE)), float(given.get("absolute", _TOLERANCE))
    return float(given), float(given)
