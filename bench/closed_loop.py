"""Closed loop: so many connections, each asks again as soon as it was answered. By `wrk` where the machine has it."""

import asyncio
import re
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import uvloop

from bench.connections import Connection, Target, connect

_LARGE_BYTES = 1_000_000  # bodies beyond this are sent by the own client: wrk reads them from a Lua text


@dataclass
class Closed:
    """`latencies_ms` is empty when wrk counted; it keeps only the quantiles."""

    seconds: float
    outcomes: Counter[str]
    p50_ms: float
    p99_ms: float
    latencies_ms: list[float] = field(default_factory=list)

    @property
    def answered(self) -> int:
        """Requests that got an answer, whatever its status."""
        return sum(count for outcome, count in self.outcomes.items() if outcome != "reset")

    @property
    def failed(self) -> int:
        return sum(count for outcome, count in self.outcomes.items() if outcome != "200")


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of all lie; of no values, not a number."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def run(target: Target, connections: int, seconds: float) -> Closed:
    if shutil.which("wrk") and not target.unix and len(target.body) < _LARGE_BYTES:
        return _wrk(target, connections, seconds)
    return own(target, connections, seconds)


def together(targets: Sequence[Target], connections: int, seconds: float) -> list[float]:
    """Good answers per second of each, all asked at the same time."""
    with ThreadPoolExecutor(len(targets)) as pool:
        seen = list(pool.map(lambda target: run(target, connections, seconds), targets))
    return [each.outcomes["200"] / each.seconds for each in seen]


def own(target: Target, connections: int, seconds: float) -> Closed:
    """By the own client, which knows each status and each latency."""
    return uvloop.run(run_async(target, connections, seconds))


async def run_async(target: Target, connections: int, seconds: float) -> Closed:
    wire = target.wire()
    outcomes: Counter[str] = Counter()
    latencies: list[float] = []
    began = time.monotonic()
    until = began + seconds
    loop = asyncio.get_running_loop()
    held: list[Connection] = []

    async def one() -> None:
        connection = None
        while time.monotonic() < until:
            if connection is None or not connection.open:
                connection = await connect(target)
                held.append(connection)
            answered: asyncio.Future[str] = loop.create_future()
            sent = time.monotonic()
            connection.ask(wire, answered.set_result)
            outcome = await answered
            outcomes[outcome] += 1
            latencies.append((time.monotonic() - sent) * 1000)

    tasks = [asyncio.create_task(one()) for _ in range(connections)]
    # The last answers are not waited for: of 256 callers of a slow model they would take longer than the run.
    done, left = await asyncio.wait(tasks, timeout=seconds + 0.05)
    took_s = time.monotonic() - began
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    for connection in held:
        connection.abort()
    for task in done:
        if problem := task.exception():
            raise problem
    return Closed(took_s, outcomes, quantile(latencies, 0.5), quantile(latencies, 0.99), latencies)


def _wrk(target: Target, connections: int, seconds: float) -> Closed:
    headers = "".join(f"wrk.headers['{name}']='{value}'\n" for name, value in target.headers.items())
    with tempfile.NamedTemporaryFile("wb", suffix=".lua") as script:
        body = "".join(f"\\{byte:03}" for byte in target.body)
        script.write(f"wrk.method='{target.method}'\nwrk.path='{target.path}'\nwrk.body='{body}'\n{headers}".encode())
        script.flush()
        options = ["-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--latency", "--timeout", "30s"]
        command = ["wrk", *options, "-s", script.name, f"http://{target.host}:{target.port}"]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return read_wrk(said)


def read_wrk(said: str) -> Closed:
    """What wrk prints, as numbers."""
    count, took, unit = _found(r"(\d+) requests in ([\d.]+)(m|s)", said)
    outcomes = Counter({"200": int(count)})
    if refused := re.search(r"Non-2xx or 3xx responses: (\d+)", said):
        outcomes = Counter({"200": int(count) - int(refused[1]), "not 200": int(refused[1])})
    if errors := re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", said):
        outcomes["reset"] = sum(map(int, errors.groups()))
    half, most = (_milliseconds(*_found(rf" {share}% +([\d.]+)(us|ms|s|m)", said)) for share in ("50", "99"))
    return Closed(float(took) * (60 if unit == "m" else 1), +outcomes, half, most)


def _found(pattern: str, text: str) -> tuple[str, ...]:
    found = re.search(pattern, text)
    if found is None:
        raise RuntimeError(f"wrk said something else:\n{text}")
    return found.groups()


def _milliseconds(number: str, unit: str) -> float:
    return float(number) * {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}[unit]
