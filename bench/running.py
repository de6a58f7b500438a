"""The run: rounds of visits, budgets, and what is noted of every server. Goes on where an earlier run stopped."""

import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import argosy
from bench import argosy_rows, environments, machine, visits
from bench.cases import CASES, Case
from bench.peers import PEERS
from bench.results import Results


@dataclass(frozen=True)
class Plan:
    """`again`: also what earlier runs have measured already. `open_rounds`: rounds with open loops; None means all."""

    cases: Sequence[str]
    servers: Sequence[str]
    rounds: int
    seconds: float
    connections: Sequence[int] = ()
    again: bool = False
    open_rounds: int | None = None

    def visits(self) -> Iterable[tuple[Case, int, str]]:
        for name in self.cases:
            case = CASES[name]
            for number in range(1, self.rounds + 1):
                takers = [server for server in self.servers if case.takes(server)]
                # Each round begins with another server, so that nobody always comes first or after the same one.
                turn = number % max(1, len(takers))
                for server in takers[turn:] + takers[:turn]:
                    yield case, number, server


def run(plan: Plan, results: Results) -> None:
    results.data["machine"] = machine.describe()
    note_servers(plan.servers, results)
    wanted = [
        (case, number, server)
        for case, number, server in plan.visits()
        if plan.again
        or not results.has(results.key(case.name, server, number), plan.seconds, _version(results, server))
    ]
    began = time.monotonic()
    for done, (case, number, server) in enumerate(wanted):
        say(f"[{done + 1}/{len(wanted)}] {case.name}, round {number}: {server}")
        unavailable = results.data["servers"][server].get("problem")
        found = (
            {"problem": unavailable, "seconds": plan.seconds}
            if unavailable
            else visits.visit(
                server,
                case,
                plan.seconds,
                plan.connections or case.connections,
                open_loops=plan.open_rounds is None or number <= plan.open_rounds,
            )
        )
        found["version"] = _version(results, server)
        results.data["visits"][results.key(case.name, server, number)] = found
        results.save()
        left_s = (time.monotonic() - began) / (done + 1) * (len(wanted) - done - 1)
        say(f"    {_line(found)}; about {left_s / 60:.0f} min left")


def _version(results: Results, server: str) -> str:
    return str(results.data["servers"][server].get("version", ""))


def note_servers(servers: Sequence[str], results: Results) -> None:
    """Version, packages and size of each, or why it could not be installed."""
    base = environments.base()
    base_packages, base_bytes = len(environments.versions(base)), environments.size_bytes(base)
    for name in servers:
        try:
            results.data["servers"][name] = _server(name, base_packages, base_bytes)
        except (environments.NotInstalled, OSError) as problem:
            results.data["servers"][name] = {"problem": f"not installed: {problem}"}
    results.save()


def _server(name: str, base_packages: int, base_bytes: int) -> dict[str, Any]:
    ours = name in argosy_rows.TITLES
    python = argosy_rows.plain_python() if ours else PEERS[name].python()
    versions = environments.versions(python)
    found: dict[str, Any] = {
        "added_packages": len(versions) - base_packages,
        "added_mb": (environments.size_bytes(python) - base_bytes) / 1e6,
        "versions": {p: versions[p] for p in ("scikit-learn", "numpy", "uvicorn", "uvloop") if p in versions},
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    if ours:
        found["version"] = f"{argosy.__version__} ({argosy_rows.source_digest()})"
        found["own_mb"] = argosy_rows.runtime_size_bytes() / 1e6
    else:
        found["version"] = versions[PEERS[name].package]
    return found


def _line(found: dict[str, Any]) -> str:
    if "problem" in found:
        return f"problem: {found['problem'].splitlines()[0]}"
    cells: dict[str, dict[str, float]] = found["closed"]
    return ", ".join(f"{count}: {cell['per_s']:.0f}/s {cell['cpu_us'] or 0:.0f} us" for count, cell in cells.items())


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
