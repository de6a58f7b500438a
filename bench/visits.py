"""A visit: one server at one case, started, measured and ended. Rounds of visits alternate between the servers."""

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from bench import argosy_rows, closed_loop, open_loop
from bench.cases import Case
from bench.closed_loop import Closed, quantile
from bench.connections import Target, ask, ask_once
from bench.servers import Running, serving

SHARES_OF_CAPACITY = (0.5, 1.0, 3.0)
DEADLINE_S = 1.0
_HEALTH_EVERY_S = 0.05
_AFTER_S = 30.0


def visit(name: str, case: Case, seconds: float, connections: Sequence[int], open_loops: bool = True) -> dict[str, Any]:
    """What was seen, or under `problem` why nothing was."""
    overload = case.overload and open_loops
    length = max(seconds, case.least_s)
    found: dict[str, Any] = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "seconds": seconds}
    try:
        with serving(name, case) as running:
            found["cold_start_s"] = None if running.cold_start_s != running.cold_start_s else running.cold_start_s
            found["idle_mb"] = running.idle_pss_bytes / 1e6
            found["answer"] = running.answer[:200].decode(errors="replace")
            closed_loop.run(running.target, 4, min(1.0, seconds))
            found["closed"] = {str(count): _closed(running, count, length) for count in connections}
            if case.health and running.health is not None:
                found["health"] = asyncio.run(_health_beside_load(running.target, running.health, length))
            found["loaded_mb"] = running.tree.pss_bytes() / 1e6
            if overload and name not in argosy_rows.TITLES:
                found["open"] = _overload(running, case, seconds, _capacity(found["closed"]))
        if overload and name in argosy_rows.TITLES:
            with serving(name, case, overload=True) as running:  # with its default limits
                closed_loop.run(running.target, 4, min(1.0, seconds))
                found["open"] = _overload(running, case, seconds, _capacity(found["closed"]))
    except Exception as problem:
        found["problem"] = f"{type(problem).__name__}: {problem}"[:1500]
    return found


def _closed(running: Running, connections: int, seconds: float) -> dict[str, Any]:
    # Whoever the last cell left waiting may still be worked on; this cell begins when a caller is answered again.
    ask(running.target, _AFTER_S)
    for length in (seconds, 5 * seconds):  # a slow server under many connections may not answer any in the first
        before = running.tree.cpu_s()
        seen = closed_loop.run(running.target, connections, length)
        cpu_s = running.tree.cpu_s() - before
        if seen.answered:
            break
    else:
        return {"per_s": 0.0, "p50_ms": None, "p99_ms": None, "cpu_us": None, "outcomes": dict(seen.outcomes)}
    return {**figures(seen), "cpu_us": cpu_s / seen.answered * 1e6}


def figures(seen: Closed) -> dict[str, Any]:
    return {
        "per_s": seen.answered / seen.seconds,
        "p50_ms": seen.p50_ms,
        "p99_ms": seen.p99_ms,
        "outcomes": dict(seen.outcomes),
    }


def _capacity(closed: dict[str, Any]) -> float:
    """The most good answers per second that any number of connections got."""
    return max(float(cell["per_s"]) * _good_share(cell) for cell in closed.values())


def _good_share(cell: dict[str, Any]) -> float:
    outcomes: dict[str, int] = cell["outcomes"]
    return outcomes.get("200", 0) / max(1, sum(outcomes.values()))


def _overload(running: Running, case: Case, seconds: float, capacity: float) -> dict[str, Any]:
    """At shares of what the closed loop reached, rising."""
    deadlines = (DEADLINE_S, 4 * case.service_s)
    found: dict[str, Any] = {"capacity": capacity, "deadlines_s": deadlines, "rates": {}}
    for share in SHARES_OF_CAPACITY:
        ask(running.target, _AFTER_S)
        # Long enough for an endless queue to pass the deadline within the first half.
        length = max(2 * seconds + 2, 20 / capacity)
        seen = open_loop.run(running.target, share * capacity, length, after_s=_AFTER_S)
        found["rates"][f"{share:g}"] = seen.summary(deadlines)
    return found


async def _health_beside_load(target: Target, health: Target, seconds: float) -> dict[str, Any]:
    """How long the health path takes while four callers keep the model computing."""
    load = asyncio.create_task(closed_loop.run_async(target, 4, seconds))
    took: list[float] = []
    failed = 0
    await asyncio.sleep(0.2)
    while not load.done():
        began = time.monotonic()
        outcome, _ = await ask_once(health, 10.0)
        took.append((time.monotonic() - began) * 1000)
        failed += outcome != "200"
        await asyncio.sleep(_HEALTH_EVERY_S)
    await load
    return {"asked": len(took), "failed": failed, "p50_ms": quantile(took, 0.5), "p99_ms": quantile(took, 0.99)}
