"""What Argosy holds itself to: budgets B1-B15, the reconcile part of B16 and what many services cost, each a ratio
within one run.

Most are read off the visits (`table`); what needs a run of its own is measured by the modules of this package, one
each, whose functions answer plain figures.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from bench.budgets import (
    building,
    changes,
    commands,
    idle,
    many,
    proxies,
    reconciling,
    registering,
    spreading,
    starting,
)  # fmt: skip
from bench.results import Results
from bench.running import say

# name -> measure(rounds, seconds)
MEASURES: Mapping[str, Callable[[int, float], dict[str, Any]]] = {
    "b3a": spreading.measure,
    "b7": proxies.measure,
    "b9": changes.measure,
    "b10": idle.measure,
    "b11": starting.measure,
    "b12": commands.measure,
    "b13": registering.measure,
    "b14": building.measure,
    "b16": reconciling.measure,
    "many": many.measure,
}


def measure(names: Sequence[str], results: Results, rounds: int, seconds: float, again: bool) -> None:
    """Those named, else all that have not been measured yet."""
    unknown = set(names) - set(MEASURES)
    if unknown:
        raise SystemExit(f"There is no measure {', '.join(sorted(unknown))}; known: {', '.join(MEASURES)}.")
    for name in names or MEASURES:
        known = results.data["budgets"].get(name)
        if known and "problem" not in known and not (again or names):
            continue
        say(f"{name} ...")
        found: dict[str, Any] = {"at": datetime.now(UTC).isoformat(timespec="seconds")}
        try:
            found |= MEASURES[name](rounds, seconds)
        except Exception as problem:
            found["problem"] = f"{type(problem).__name__}: {problem}"[:1500]
        results.data["budgets"][name] = found
        results.save()
        say(f"    {found}")
