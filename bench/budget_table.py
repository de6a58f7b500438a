"""The budgets with what was found: held, or by how much not. From the same results as every other table."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bench.markdown import grid, reason
from bench.results import Results, at, goodput, middle

_PEERS = ("mlserver", "mlserver-worker", "bentoml", "mlflow", "litserve", "ray", "azure")


@dataclass(frozen=True)
class Line:
    """One promise: `found` is to be at most `limit`, or at least where `least`. `why`: why there is no number."""

    budget: str
    what: str
    found: float | None
    limit: float
    least: bool = False
    unit: str = ""
    why: str = "not measured"

    def cells(self) -> list[str]:
        bound = f"{'>=' if self.least else '<='} {self.limit:g}{self.unit}"
        if self.found is None:
            return [self.budget, self.what, bound, "-", self.why]
        return [self.budget, self.what, bound, f"{self.found:.3g}{self.unit}", self.verdict(self.found)]

    def verdict(self, found: float) -> str:
        if found >= self.limit if self.least else found <= self.limit:
            return "held"
        if self.limit == 0:
            return "**not held**"
        if not self.least and found > 2 * self.limit:
            return f"**not held**, {found / self.limit:.1f} times that"
        return f"**not held**, by {abs(found - self.limit) / self.limit * 100:.0f} %"


def table(results: Results) -> str:
    rows = [line.cells() for line in lines(results)]
    text = (
        "## Budgets\n\nWhat the project holds itself to; each a ratio of two things measured in the same round. "
        "B17-B19 are not of this page.\n\n"
    )
    return text + grid(["budget", "what", "hold", "found", ""], rows)


def lines(results: Results) -> list[Line]:
    return [*_costs(results), *_rates(results), *_overload(results), *_own_runs(results), *_many(results)]


def _costs(results: Results) -> Iterator[Line]:
    def over_floor(case: str, connections: int) -> float | None:
        return results.ratio(case, "argosy", "floor", at("closed", str(connections), "cpu_us"))

    yield Line("B1", "iris, one row, CPU per request over the floor, 16 connections", over_floor("iris", 16), 1.0)
    yield Line("B1", "the same, 1 connection", over_floor("iris", 1), 1.3)
    yield Line("B4", "a model that does nothing, CPU over the floor, 16 connections", over_floor("noop", 16), 1.3)
    yield Line("B5", "pandas schema, CPU over the floor with the cheapest frame, 16", over_floor("frame", 16), 1.2)
    yield Line("B6", "100 x 20 JSON rows, CPU over the floor, 16 connections", over_floor("rows", 16), 1.1)
    yield Line("B6", "the same rows as Arrow over the floor with JSON, 16", over_floor("arrow", 16), 0.9)


def _rates(results: Results) -> Iterator[Line]:
    for connections in (16, 64):
        yield Line("B2", f"iris, requests/s over the best peer's, {connections} connections",
                   _against_best(results, connections), 2.0, least=True)  # fmt: skip
    for case, what, least in (
        ("iris", "iris numpy", 1.6),
        ("frame", "iris pandas", 3.0),
        ("forest1", "100-tree forest, one row", 8.0),
    ):
        why = reason(results.problem(case, "argosy-batch") or "not measured")
        gain = results.ratio(case, "argosy-batch", "argosy", at("closed", "64", "per_s"))
        yield Line("B3", f"{what}: requests/s with batching over without, 64 connections", gain, least, True, why=why)
        slower = results.ratio(case, "argosy-batch", "argosy", at("closed", "1", "p50_ms"))
        yield Line("B3", f"{what}: p50 with batching over without, 1 connection", slower, 1.1, why=why)


def _against_best(results: Results, connections: int) -> float | None:
    """The median over rounds of ours over the best peer of the round."""
    ours = results.values("iris", "argosy", at("closed", str(connections), "per_s"))
    theirs = [results.values("iris", peer, at("closed", str(connections), "per_s")) for peer in _PEERS]
    found = [
        mine / max(peer[number] for peer in theirs if number in peer)
        for number, mine in ours.items()
        if any(number in peer for peer in theirs)
    ]
    return middle(found)


def _overload(results: Results) -> Iterator[Line]:
    for case, what in (("iris", "iris"), ("sleep50", "waits 50 ms"), ("busy300", "computes 300 ms")):
        for server, where in (("argosy", ""), ("argosy-gateway", ", behind the gateway")):
            good = results.median(case, server, goodput("3", 1.0))
            shed = results.median(case, server, at("open", "rates", "3", "shed_p50_ms"))
            lost = results.median(case, server, _lost)
            yield Line("B8", f"{what}, 3x capacity{where}: goodput within 1 s over capacity", good, 0.9, True)
            yield Line("B8", f"{what}, 3x capacity{where}: p50 of a shed answer", shed, 5.0, unit=" ms",
                       why="no answer was shed" if good is not None else "not measured")  # fmt: skip
            yield Line("B8", f"{what}, 3x capacity{where}: resets and time-outs", lost, 0.0)


def _lost(visit: dict[str, Any]) -> int:
    outcomes = visit["open"]["rates"]["3"]["outcomes"]
    return int(outcomes.get("reset", 0) + outcomes.get("time-out", 0))


def _own_runs(results: Results) -> Iterator[Line]:
    def of(name: str, *path: str) -> float | None:
        value: Any = results.data["budgets"].get(name, {})
        for key in path:
            value = value.get(key, {}) if isinstance(value, dict) else {}
        return float(value) if isinstance(value, int | float) else None

    def line(name: str, what: str, path: tuple[str, ...], limit: float, least: bool = False, unit: str = "") -> Line:
        problem = results.data["budgets"].get(name, {}).get("problem", "not measured")
        budget = name.upper().replace("B3A", "B3a")
        return Line(budget, what, of(name, *path), limit, least, unit, reason(str(problem)))

    yield line("b3a", "N replicas on N cores, requests/s over N times one", ("ratio",), 0.8, least=True)
    yield line("b7", "the gateway's CPU per request over nginx's", ("cpu_ratio",), 1.1)
    yield line("b7", "p50 that the gateway adds at 1 connection", ("added_p50_ms",), 0.2, unit=" ms")
    changes = results.data["budgets"].get("b9", {}).get("changes", {"any change": {}})
    for name in changes:
        if name != "quiet":
            yield line("b9", f"{name} under load: failed requests", ("changes", name, "failed"), 0)
            yield line("b9", f"{name} under load: p99 over quiet", ("changes", name, "p99_ratio"), 2.0)
    yield line("b10", "idle replica's memory over a bare script's", ("over_mb",), 25, unit=" MB")
    yield line("b10", "ready time over the bare script's", ("over_s",), 0.5, unit=" s")
    yield line("b11", "`service create` to first answer over (1.5 x the script's start + 1 s)", ("of_allowed",), 1.0)
    for command, limit in (("argosy --help", 4), ("argosy version", 4), ("argosy model list", 16)):
        yield line("b12", f"`{command}` over `python -c pass`", ("ratios", command), limit)
    yield line("b13", "register 1 GB over `sha256sum` and `cp`", ("ratio",), 1.6)
    yield line("b13", "memory growth meanwhile", ("growth_mb",), 50, unit=" MB")
    yield line("b14", "build again after a new model of 1 GB, over copying it", ("over_s",), 1.0, unit=" s")
    yield line("b14", "the same manifest built again", ("again_s",), 1.0, unit=" s")
    yield line("b14", "the iris example: first build, its packages in uv's cache", ("iris_first_s",), 15.0, unit=" s")
    yield line("b14", "the iris example: build after a new model", ("iris_changed_s",), 1.0, unit=" s")
    yield line("b14", "the iris example: size of the layers over the base", ("iris_mb",), 350.0, unit=" MB")
    replica = results.data["servers"].get("argosy", {})
    yield Line("B15", "packages added to a model's environment", replica.get("added_packages"), 6)
    added = replica.get("added_mb")
    yield Line("B15", "their size with the serving code", added and added + replica["own_mb"], 25, unit=" MB")
    yield line("b16", "reconcile pass of 200 services x 5 replicas, CPU", ("cpu_ms",), 200, unit=" ms")


def _many(results: Results) -> Iterator[Line]:
    found = results.data["budgets"].get("many", {})
    why = reason(str(found.get("problem", "not measured")))
    for part, what in (("services", "many services"), ("replicas", "many replicas of one")):
        seen = found.get(part, {})
        if seen:
            count = "one service" if seen["services"] == 1 else f"{seen['services']} services"
            what = f"{count}, {seen['replicas']} replicas"
        for key, of, limit, unit in (
            ("start_ratio", "seconds to all healthy over (replicas x a single one's / cores)", 1.2, ""),
            ("pss_ratio", "an idle replica's memory over a bare interpreter's", 3.0, ""),
            ("service_cpu_percent", "idle CPU of a service, of one core", 0.1 * _replicas_each(seen), " %"),
            ("control_plane_cpu_percent", "idle CPU of the control plane, of one core", 5.0, " %"),
        ):
            yield Line("many", f"{what}: {of}", seen.get(key), limit, unit=unit, why=why)
    one_more = "one more server, the gateway's time over that with one service"
    yield Line("many", one_more, found.get("gateway_ratio"), 3.0, why=why)


def _replicas_each(seen: dict[str, Any]) -> float:
    return float(seen["replicas"] / seen["services"]) if seen else 1.0
