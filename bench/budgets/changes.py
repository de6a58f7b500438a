"""B9: what callers notice of an update, a change of scale, a new key and the end of the control plane.

Two replicas behind the gateway, requests by a schedule at a quarter of what they can do, each change beside it. Argosy
has all cores here, as it would: a control plane that starts must not take the only one from the replicas.
"""

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import uvloop

from bench import argosy_rows, closed_loop, machine, open_loop
from bench.argosy_rows import Home
from bench.cases import CASES
from bench.connections import Target
from bench.servers import scratch

_CASE = CASES["iris"]
_SHARE = 0.25
_MOST_PER_S = 300.0


def measure(rounds: int, seconds: float) -> dict[str, Any]:
    with scratch() as folder, argosy_rows.home(folder, machine.CORES) as home:
        # A wide queue: this is about what a change loses, and a busy machine must not shed beside it.
        home.create(_CASE, "bench", "-z", 2, "--max-queued-requests", 10_000, "--max-queue-wait-ms", 10_000)
        target = home.target(_CASE)
        capacity = closed_loop.run(target, 16, max(1.0, seconds)).answered / max(1.0, seconds)
        rate = min(_SHARE * capacity, _MOST_PER_S)
        quiet = open_loop.run(target, rate, 10.0)
        changes: dict[str, Callable[[], None]] = {
            "update": lambda: _update(home),
            "scale up": lambda: _scale(home, 3),
            "scale down": lambda: _scale(home, 1),
            "new key": lambda: _run(home, "service", "keys", "bench", "--regenerate", "secondary"),
            "control plane killed": lambda: _kill(home),
        }
        found = {"quiet": _figures(quiet, quiet)}
        for name, change in changes.items():
            found[name] = _figures(uvloop.run(_beside(target, rate, change)), quiet)
    return {"rate": rate, "changes": found}


async def _beside(target: Target, rate: float, change: Callable[[], None]) -> open_loop.Open:
    """Load for as long as the change takes, and some seconds before and after."""
    before_s, after_s = 2.0, 3.0
    load = asyncio.create_task(open_loop.run_async(target, rate, 60.0, 5.0, 0.0, stop := asyncio.Event()))
    await asyncio.sleep(before_s)
    try:
        await asyncio.to_thread(change)
        await asyncio.sleep(after_s)
    finally:
        stop.set()
    return await load


def _figures(seen: open_loop.Open, quiet: open_loop.Open) -> dict[str, Any]:
    outcomes = seen.outcomes()
    return {
        "requests": outcomes.total(),
        "failed": outcomes.total() - outcomes["200"],
        "outcomes": dict(outcomes),
        "p99_ratio": seen.latency_ms(0.99) / quiet.latency_ms(0.99),
    }


def _run(home: Home, *arguments: object) -> None:
    home.run(*arguments)


def _update(home: Home) -> None:
    """A new revision: the same model with another script."""
    script = home.folder / "recipe" / "score.py"
    script.write_text(script.read_text() + f"\n# {time.time()}\n")
    home.run("service", "update", "bench", "-f", script, "-D", machine.APPS / "work.py")


def _scale(home: Home, replicas: int) -> None:
    home.run("service", "scale", "bench", "-z", replicas)


def _kill(home: Home) -> None:
    """kill -9, some seconds without, and a new one."""
    assert home.tree is not None
    for process in home.tree.control_planes():
        process.kill()
    time.sleep(2.0)
    home.restart()
    json.loads(home.run("service", "show", "bench", "-o", "json"))
