"""Replicas that come and go with the load, sleep and wake: real command line, HAProxy, replicas and callers."""

import http.client
import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest

from e2e.running import Argosy, RecipeFolder

SLEEPER = "import time\n\ndef init():\n    pass\n\ndef run(numbers):\n    time.sleep(numbers[0])\n    return numbers\n"
RECORDED = json.loads((Path(__file__).parents[1] / "services" / "recorded_needs.json").read_text())


@pytest.fixture(scope="module")
def sleeper(argosy: Argosy, recipe: RecipeFolder) -> str:
    """An image that sleeps as long as it is told."""
    options = recipe.options(script=SLEEPER)
    argosy.ok("service", "create", "sleeper", "-m", recipe.model(2), *options)
    argosy.ok("service", "delete", "sleeper", "--yes")
    return "sleeper:1"


@pytest.fixture
def create(argosy: Argosy, sleeper: str) -> Callable[..., dict[str, Any]]:
    def make(name: str, *options: object) -> dict[str, Any]:
        argosy.ok("service", "create", name, "--image", sleeper, "--autoscale-enabled", "true", *options)
        shown: dict[str, Any] = argosy.json("service", "show", name)
        return shown

    return make


class Callers:
    """A changing number of callers, each with one request at a time."""

    def __init__(self, argosy: Argosy, service: str, seconds: float) -> None:
        self.url = urlsplit(argosy.json("service", "show", service)["scoring_url"])
        self.headers = {"authorization": f"Bearer {argosy.key(service)}", "content-type": "application/json"}
        self.body = json.dumps({"numbers": [seconds]})
        self.statuses: Counter[int] = Counter()
        self._wanted = 0
        self._threads: list[threading.Thread] = []
        self._guard = threading.Lock()

    def be(self, count: int) -> None:
        with self._guard:
            self._wanted = count
            while len(self._threads) < count:
                thread = threading.Thread(target=self._run, args=(len(self._threads),), daemon=True)
                self._threads.append(thread)
                thread.start()

    def call(self, **headers: str) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection(self.url.netloc, timeout=90)
        connection.request("POST", self.url.path, self.body, self.headers | headers)
        response = connection.getresponse()
        response.read()
        connection.close()
        return response

    def end(self) -> None:
        self.be(0)
        self._ending = True
        for thread in self._threads:
            thread.join(30)

    _ending = False

    def _run(self, place: int) -> None:
        while not self._ending:
            if place >= self._wanted:
                time.sleep(0.01)
                continue
            status = self.call().status
            with self._guard:
                self.statuses[status] += 1


def until(claim: Callable[[], bool], timeout_s: float = 90) -> None:
    deadline = time.monotonic() + timeout_s
    while not claim():
        assert time.monotonic() < deadline, "never came true"
        time.sleep(0.1)


def wanted(argosy: Argosy, service: str) -> int:
    return int(argosy.json("service", "show", service)["replicas_wanted"])


def test_a_recorded_load(argosy: Argosy, create: Callable[..., dict[str, Any]]) -> None:
    """Eight recorded seconds in one. Up with the load, down when it is gone, no flapping in between, no request lost,
    and every step explained."""
    create("day", "--max-replicas", 4, "--scale-down-delay-seconds", 10)
    callers = Callers(argosy, "day", 0.05)
    numbers = []
    for second in range(0, len(RECORDED), 8):
        callers.be(round(sum(RECORDED[second : second + 8]) / 8))
        time.sleep(1)
        numbers.append(wanted(argosy, "day"))
    callers.end()
    assert set(callers.statuses) == {200}
    assert max(numbers) >= 3
    moves = [number for before, number in zip([1, *numbers], numbers, strict=False) if number != before]
    turns = sum((b - a) * (c - b) < 0 for a, b, c in zip([1, *moves], moves, moves[1:], strict=False))
    assert turns <= 2, f"with the day, not with each second: {numbers}"
    until(lambda: wanted(argosy, "day") == 1)
    shown = argosy.json("service", "show", "day")
    assert (shown["state"], shown["settings"]["max_replicas"]) == ("healthy", 4)
    up = [d for d in shown["decisions"] if d["replicas"] > d["before"]]
    down = [d for d in shown["decisions"] if d["replicas"] < d["before"]]
    assert down and all("requests" in d["reason"] or "no request" in d["reason"] for d in [*up, *down])
    text = argosy.ok("service", "show", "day").out
    assert "autoscaled 1 to 4" in text and "target 70 %" in text and "DECIDED" in text
    assert "autoscale: " not in text
    argosy.ok("service", "delete", "day", "--yes")


def test_from_zero_with_requests_that_wait(argosy: Argosy, create: Callable[..., dict[str, Any]]) -> None:
    create("nap", "--min-replicas", 0, "--max-replicas", 2, "--scale-down-delay-seconds", 2)
    until(lambda: argosy.json("service", "show", "nap")["replicas"] == [])
    asleep = argosy.json("service", "show", "nap")
    assert (asleep["state"], asleep["reason"]) == ("healthy", "scaled to zero, the next request starts a replica")
    callers = Callers(argosy, "nap", 0.01)
    stranger = callers.call(authorization="Bearer wrong")
    assert stranger.status == 401
    assert argosy.json("service", "show", "nap")["replicas_wanted"] == 0, "a stranger wakes nobody"
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda number: callers.call(**{"x-request-id": f"held-{number}"}), range(16)))
    assert [answer.status for answer in answers] == [200] * 16
    assert [answer.headers["x-request-id"] for answer in answers] == [f"held-{number}" for number in range(16)]
    assert {answer.headers["x-argosy-revision"] for answer in answers} == {"1"}, "answered by the replica"
    decisions = argosy.json("service", "show", "nap")["decisions"]
    assert any(d["limit"] == "wake" and (d["before"], d["replicas"]) == (0, 1) for d in decisions)
    until(lambda: argosy.json("service", "show", "nap")["replicas"] == [])

    pid = argosy.address["pid"]
    os.kill(pid, signal.SIGKILL)
    until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    # Its socket closes with its last thread, a moment after its first one.
    until(lambda: callers.call().status == 503)
    nobody = callers.call()
    argosy.ok("up")
    assert (nobody.status, nobody.headers.get("retry-after")) == (503, "1"), "nobody is there to hold it"
    assert callers.call().status == 200
    argosy.ok("service", "delete", "nap", "--yes")


def test_zero_by_hand_stays_zero(argosy: Argosy, sleeper: str) -> None:
    argosy.ok("service", "create", "off", "--image", sleeper)
    argosy.ok("service", "scale", "off", "-z", "0")
    answer = Callers(argosy, "off", 0).call()
    assert (answer.status, int(answer.headers["retry-after"]) >= 1) == (503, True)
    assert argosy.json("service", "show", "off")["replicas"] == []
    argosy.ok("service", "delete", "off", "--yes")


def test_the_users_number_and_the_autoscalers(argosy: Argosy, create: Callable[..., dict[str, Any]]) -> None:
    create("mine", "--min-replicas", 2)
    assert "--autoscale-enabled false -z 1" in argosy.fails("service", "scale", "mine", "-z", "1")
    assert "max_replicas" in argosy.fails("service", "update", "mine", "--min-replicas", "11")
    argosy.ok("service", "update", "mine", "--autoscale-enabled", "false")
    shown = argosy.json("service", "show", "mine")
    assert (shown["replicas_wanted"], shown["replicas_ready"]) == (2, 2)
    argosy.ok("service", "update", "mine", "--autoscale-enabled", "false", "-z", "1")
    assert wanted(argosy, "mine") == 1
    assert "autoscaler sets it" in argosy.fails(
        "service", "create", "x", "--image", "sleeper:1", "-z", "2", "--autoscale-enabled", "true"
    )
    argosy.ok("service", "delete", "mine", "--yes")


def test_a_machine_that_has_less_than_all_want(argosy: Argosy, create: Callable[..., dict[str, Any]]) -> None:
    """Each replica of these counts as the whole machine."""
    cores = str(os.cpu_count())
    create("greedy", "--cpu", cores)
    callers = Callers(argosy, "greedy", 0.05)
    callers.be(4)
    try:
        until(lambda: any(d["limit"] == "share" for d in argosy.json("service", "show", "greedy")["decisions"]))
    finally:
        callers.end()
    newest = next(d for d in argosy.json("service", "show", "greedy")["decisions"] if d["limit"] == "share")
    assert newest["replicas"] == 1
    assert newest["reason"].startswith("wants 2, gets 1: it alone wants")
    argosy.ok("service", "delete", "greedy", "--yes")


def test_a_rollback_does_not_wait_for_an_update(argosy: Argosy, create: Callable[..., dict[str, Any]]) -> None:
    create("back")
    slow = "import time\n\ndef init():\n    time.sleep(300)\n\ndef run(numbers):\n    return numbers\n"
    folder = Path(argosy.home) / "slow"
    folder.mkdir(exist_ok=True)
    (folder / "score.py").write_text(slow)
    argosy.ok("service", "update", "back", "-f", folder / "score.py", "--no-wait")
    until(lambda: any(r["revision"] == 2 for r in argosy.json("service", "show", "back")["replicas"]))
    argosy.ok("service", "rollback", "back")
    until(lambda: all(r["revision"] == 1 for r in argosy.json("service", "show", "back")["replicas"]))
    shown = argosy.json("service", "show", "back")
    assert (shown["live_revision"], shown["target_revision"], shown["state"]) == (1, 1, "healthy")
    argosy.ok("service", "delete", "back", "--yes")
