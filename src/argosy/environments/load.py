"""Callers in a closed loop against one replica: each sends its next request when it has the answer to the last.

    python -m argosy.environments.load < orders.json

Runs as a process of its own, so that the control plane goes on serving meanwhile. Orders are
`{"socket", "bodies": [text], "pid", "levels": [clients, ...], "full", "seconds", "timeout_s"}`, where no answer takes
longer than `timeout_s`. Each level prints a line of JSON:
`{"clients", "answers", "failures": {what: n}, "seconds", "p50_ms", "p99_ms", "cores"}`. It stops early when two
levels of at least `full` callers bring nothing more, and at the first failure.
"""

import asyncio
import json
import sys
import time
from collections import Counter
from typing import Any

import psutil

_WARM_UP_S = 0.3
_ENOUGH = 20  # answers, or the percentile says nothing
_LONGEST = 4  # times the seconds that were asked for, where answers are slow
_PLATEAU = 1.05
_GRACE_S = 10.0
_SHOWN = 300  # characters of an answer that is no 200 and no error of Argosy
STREAM = "a stream"


class Caller(asyncio.Protocol):
    """One connection. Answers are told apart by their length; nothing of them is looked at but the status."""

    def __init__(self, requests: list[bytes], done: "asyncio.Future[None]", results: "Results") -> None:
        self._requests, self._done, self._results = requests, done, results
        self._number = 0
        self._sent_at = 0.0
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._send()

    def connection_lost(self, problem: Exception | None) -> None:
        if not self._done.done():
            self._results.failures["connection lost"] += 1
            self._done.set_result(None)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, body = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        length = head.lower().partition(b"content-length: ")[2].split(b"\r\n", 1)[0]
        if not length:
            self._results.failures[STREAM] += 1
            self._end()
            return
        if len(body) < int(length):
            return
        self._buffer = b""
        status = head[9:12].decode("ascii", "replace")
        if status == "200":
            self._results.times_s.append(time.perf_counter() - self._sent_at)
        else:
            self._results.failures[f"{status}: {_said(body)}"] += 1
        if self._results.ended():
            self._end()
        else:
            self._send()

    def _end(self) -> None:
        # More of a stream may come when its caller has ended already.
        if not self._done.done():
            self._done.set_result(None)

    def _send(self) -> None:
        assert self._transport is not None
        self._number += 1
        self._sent_at = time.perf_counter()
        self._transport.write(self._requests[self._number % len(self._requests)])

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()


def _said(body: bytes) -> str:
    """What an answer that is no 200 says to people."""
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, LookupError, TypeError):
        return body.decode(errors="replace")[:_SHOWN]


class Results:
    """Shared by the callers of one level."""

    def __init__(self, seconds: float) -> None:
        self.times_s: list[float] = []
        self.failures: Counter[str] = Counter()
        self._started_at = time.perf_counter()
        self._seconds = seconds

    def ended(self) -> bool:
        took_s = time.perf_counter() - self._started_at
        enough = len(self.times_s) >= _ENOUGH or took_s >= self._seconds * _LONGEST
        return (took_s >= self._seconds and enough) or self.failures.total() > 0


async def level(socket: str, requests: list[bytes], clients: int, seconds: float, timeout_s: float) -> Results:
    """All callers of one level, until its time is over and their last answers are there."""
    loop = asyncio.get_running_loop()
    results = Results(seconds)
    callers: list[Caller] = []
    ends = []
    for _ in range(clients):
        done: asyncio.Future[None] = loop.create_future()
        caller = Caller(requests, done, results)
        await loop.create_unix_connection(lambda one=caller: one, socket)  # type: ignore[misc]
        callers.append(caller)
        ends.append(done)
    await asyncio.wait(ends, timeout=seconds * _LONGEST + timeout_s + _GRACE_S)
    for caller, end in zip(callers, ends, strict=True):
        if not end.done():
            results.failures["no answer"] += 1
            end.set_result(None)
        caller.close()
    return results


def percentile(times_s: list[float], part: float) -> float:
    """In milliseconds; of sorted times, the smallest that `part` of them do not exceed."""
    return times_s[min(len(times_s) - 1, int(part * len(times_s)))] * 1e3


async def run(orders: dict[str, Any]) -> None:
    requests = [
        b"POST /score HTTP/1.1\r\nHost: replica\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
        % (len(body), body)
        for body in (text.encode() for text in orders["bodies"])
    ]
    replica = psutil.Process(orders["pid"])
    seconds, timeout_s = orders["seconds"], orders["timeout_s"]
    await level(orders["socket"], requests, 1, _WARM_UP_S, timeout_s)
    best, flat = 0.0, 0
    for clients in orders["levels"]:
        before, started_at = sum(replica.cpu_times()[:2]), time.perf_counter()
        results = await level(orders["socket"], requests, clients, seconds, timeout_s)
        took_s = time.perf_counter() - started_at
        cores = (sum(replica.cpu_times()[:2]) - before) / took_s
        times_s = sorted(results.times_s)
        line = {"clients": clients, "answers": len(times_s), "failures": results.failures, "seconds": took_s,
                "p50_ms": percentile(times_s, 0.5) if times_s else None,
                "p99_ms": percentile(times_s, 0.99) if times_s else None, "cores": cores}  # fmt: skip
        print(json.dumps(line), flush=True)
        rate = len(times_s) / took_s
        flat = 0 if rate > best * _PLATEAU or clients < orders["full"] else flat + 1
        best = max(best, rate)
        if results.failures or flat == 2:
            return


if __name__ == "__main__":
    asyncio.run(run(json.load(sys.stdin)))
