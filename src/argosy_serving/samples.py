"""The samples a replica must answer before it is ready, and how its answers are compared with recorded ones."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from argosy_serving.answers import encode_json
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


def differs(expected: Any, received: Any, relative: float, absolute: float, at: str = "") -> str:
    """Where and how two JSON values differ, '' when they do not. Numbers may differ by either tolerance."""
    numbers = (int, float)
    plain = isinstance(expected, numbers) and not isinstance(expected, bool) and not isinstance(received, bool)
    if not plain and type(expected) is not type(received):
        return f"{at or 'the answer'}: expected {expected!r:.100}, received {received!r:.100}"
    if isinstance(expected, dict):
        if expected.keys() != received.keys():
            return f"{at or 'the answer'}: expected members {sorted(expected)}, received {sorted(received)}"
        pairs = [(f"{at}/{key}", expected[key], received[key]) for key in expected]
    elif isinstance(expected, list):
        if len(expected) != len(received):
            return f"{at or 'the answer'}: expected {len(expected)} items, received {len(received)}"
        pairs = [(f"{at}/{n}", one, other) for n, (one, other) in enumerate(zip(expected, received, strict=True))]
    else:
        if isinstance(expected, numbers) and isinstance(received, numbers) and plain:
            same = math.isclose(expected, received, rel_tol=relative, abs_tol=absolute)
        else:
            same = expected == received
        return "" if same else f"{at or 'the answer'}: expected {expected!r:.100}, received {received!r:.100}"
    return next((found for where, one, other in pairs if (found := differs(one, other, relative, absolute, where))), "")
