"""Open loop: requests come when the schedule says, whether or not earlier ones were answered.

The schedule is made before the run (Poisson arrivals, the same at every run), and latency counts from the scheduled
moment: a server that stalls cannot slow its callers down and so hide its stall. Idle connections are used again, new
ones are opened as needed; a caller leaves after `timeout_s` and closes its connection.
"""

import asyncio
import gc
import random
import resource
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass

import uvloop

from bench.closed_loop import quantile
from bench.connections import RESET, TIMEOUT, Connection, Target, ask_once, connect

_MOST_CONNECTIONS = 4000
_SHED = ("429", "503")


@dataclass(frozen=True)
class Shot:
    """One request: when it was due after the start, how late it was sent, how it ended and how long after that."""

    due_s: float
    late_s: float
    outcome: str
    latency_s: float


@dataclass(frozen=True)
class Open:
    rate: float
    seconds: float
    shots: Sequence[Shot]
    after_s: float | None

    def outcomes(self) -> Counter[str]:
        return Counter(shot.outcome for shot in self.shots)

    def goodput(self, deadline_s: float) -> float:
        """Good answers within the deadline, per second of the schedule's second half, in which they came: queues have
        filled by then, and what is answered after the end is no rate that could go on."""
        good = [shot for shot in self.shots if shot.outcome == "200" and shot.latency_s <= deadline_s]
        half = self.seconds / 2
        return sum(half <= shot.due_s + shot.latency_s < self.seconds for shot in good) / half

    def latency_ms(self, share: float, outcomes: Sequence[str] = ("200",)) -> float:
        return quantile([shot.latency_s * 1000 for shot in self.shots if shot.outcome in outcomes], share)

    def summary(self, deadlines_s: Sequence[float]) -> dict[str, object]:
        late_ms = quantile([shot.late_s * 1000 for shot in self.shots], 0.99)
        return {
            "rate": self.rate,
            "seconds": self.seconds,
            "outcomes": dict(self.outcomes()),
            "goodput": {f"{deadline:g}": self.goodput(deadline) for deadline in deadlines_s},
            "p50_ms": self.latency_ms(0.5),
            "p99_ms": self.latency_ms(0.99),
            "p999_ms": self.latency_ms(0.999),
            "shed_p50_ms": self.latency_ms(0.5, _SHED),
            "shed_p99_ms": self.latency_ms(0.99, _SHED),
            "generator_late_p99_ms": late_ms,
            "after_s": self.after_s,
        }


def schedule(rate: float, seconds: float, seed: int = 0) -> list[float]:
    """Seconds from the start at which requests are due."""
    numbers = random.Random(seed)
    due, found = numbers.expovariate(rate), []
    while due < seconds:
        found.append(due)
        due += numbers.expovariate(rate)
    return found


def run(target: Target, rate: float, seconds: float, timeout_s: float = 5.0, after_s: float = 0.0) -> Open:
    """`after_s` > 0: when the last request has ended, how long the next caller waits, at most that long."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    return uvloop.run(run_async(target, rate, seconds, timeout_s, after_s))


async def run_async(
    target: Target, rate: float, seconds: float, timeout_s: float, after_s: float, stop: asyncio.Event | None = None
) -> Open:
    """`stop` ends the schedule early."""
    generator = _Generator(target, timeout_s)
    gc.collect()
    gc.disable()
    try:
        await generator.run(schedule(rate, seconds), stop or asyncio.Event())
    finally:
        gc.enable()
    waited = None
    if after_s:
        began = time.monotonic()
        outcome = ""
        while outcome != "200" and time.monotonic() - began < after_s:
            outcome, _ = await ask_once(target, after_s)
            await asyncio.sleep(0.01)
        waited = time.monotonic() - began
    return Open(rate, seconds, generator.shots, waited)


class _Generator:
    def __init__(self, target: Target, timeout_s: float) -> None:
        self._target, self._timeout_s, self._wire = target, timeout_s, target.wire()
        self.began = 0.0
        self._idle: list[Connection] = []
        self._open = 0
        self._waiting: deque[_Request] = deque()  # for a connection
        self._running: deque[_Request] = deque()  # in the order in which they are due
        self._opening: set[asyncio.Task[None]] = set()
        self.shots: list[Shot] = []

    async def run(self, due: Sequence[float], stop: asyncio.Event) -> None:
        began = self.began = time.monotonic() + 0.05
        for at in due:
            if stop.is_set():
                break
            early = began + at - time.monotonic()
            if early > 0:
                await asyncio.sleep(early)
                await self._wait_exactly(began + at)
            elif len(self.shots) % 50 == 0:
                await asyncio.sleep(0)  # behind schedule, yet answers must be read
            self._give_up()
            request = _Request(self, began + at)
            self._running.append(request)
            self._send(request)
        while any(not request.ended for request in self._running):
            await asyncio.sleep(0.005)
            self._give_up()
        for connection in self._idle:
            connection.abort()

    async def _wait_exactly(self, until: float) -> None:
        """The rest of a millisecond: timers are no finer."""
        while time.monotonic() < until:  # noqa: ASYNC110 - answers are read meanwhile
            await asyncio.sleep(0)

    def _send(self, request: "_Request") -> None:
        while self._idle:
            connection = self._idle.pop()
            if connection.open:
                request.start(connection, self._wire)
                return
            self._open -= 1
        self._waiting.append(request)
        if self._open < _MOST_CONNECTIONS:
            self._open += 1
            task = asyncio.create_task(self._connect())
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _connect(self) -> None:
        try:
            connection = await connect(self._target)
        except OSError:
            self._open -= 1
            while self._waiting:
                request = self._waiting.popleft()
                if not request.ended:
                    request.end(RESET)
                    return
            return
        self.freed(connection)

    def freed(self, connection: Connection) -> None:
        """Its last request has ended, or it is new: the next one that waits gets it."""
        if not connection.open:
            self._open -= 1
            return
        while self._waiting:
            request = self._waiting.popleft()
            if not request.ended:
                request.start(connection, self._wire)
                return
        self._idle.append(connection)

    def _give_up(self) -> None:
        limit = time.monotonic() - self._timeout_s
        while self._running and (self._running[0].ended or self._running[0].due < limit):
            request = self._running.popleft()
            if not request.ended:
                self._open -= request.leave()


class _Request:
    def __init__(self, generator: _Generator, due: float) -> None:
        self._generator, self.due = generator, due
        self._late_s = time.monotonic() - due  # the generator's own fault
        self._connection: Connection | None = None
        self.ended = False

    def start(self, connection: Connection, wire: bytes) -> None:
        self._connection = connection
        connection.ask(wire, self._answered)

    def leave(self) -> int:
        """Time-out; the number of connections that were closed."""
        connection = self._connection
        self.end(TIMEOUT)
        if connection is None:
            return 0
        connection.abort()
        return 1

    def end(self, outcome: str) -> None:
        self.ended = True
        self._generator.shots.append(
            Shot(self.due - self._generator.began, self._late_s, outcome, time.monotonic() - self.due)
        )

    def _answered(self, outcome: str) -> None:
        assert self._connection is not None
        self.end(outcome)
        # Not from within the parser's call: it is not done with this answer yet.
        asyncio.get_running_loop().call_soon(self._generator.freed, self._connection)
