"""What a tuning makes of replicas that do not start, of overload, and of a service that is deleted meanwhile."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from argosy.environments.load import STREAM
from argosy.environments.target import Launch
from argosy.environments.trial import Limits
from argosy.errors import NotTuned
from argosy.records import Image, Manifest, Operation, Reference
from argosy.server import tuner as tuning
from argosy.server.operations import OperationRunner
from argosy.server.tuner import Tuner
from argosy.settings import Home
from services.fakes import Services

Meet = Callable[[Launch, int], dict[str, int]]


class Bench:
    """`failure` and `failures` say how a replica fares: why it is not ready, and what so many callers met."""

    def __init__(self, services: Services, folder: Path) -> None:
        self.services, self.home = services, Home(folder)
        self.tuner = Tuner(self.home, services.registry, self, self._launch, self)  # type: ignore[arg-type]
        self.runner = OperationRunner(services.shelf.database, {"service.tune": self.tuner.steps()}, 1)
        self.failure: Callable[[Launch], str] = lambda launch: ""
        self.failures: Meet = lambda launch, clients: {}
        self.limits: list[Limits] = []

    def content(self, reference: Reference) -> tuple[Image, Manifest, list[object]]:
        image, manifest, _ = self.services.shelf.images.content(reference)
        schema = {"input": {"x": {"type": "standard", "swagger": {"type": "array", "items": {"type": "number"}}}}}
        serving = {"max_batch_size": 8}
        recipe = replace(manifest.recipe, samples=[{"input": {"x": [1]}}], schema=schema, serving=serving)
        return image, replace(manifest, recipe=recipe), []

    def _launch(self, service: str, revision: int) -> Launch:
        return Launch(service, revision, Path("/i"), Path("/p"), Path("/r"), [])

    def trial(self, launch: Launch, limits: Limits, check: object, say: object) -> "FakeTrial":
        self.limits.append(limits)
        return FakeTrial(self.failure(launch))

    def loaded(self, trial: object, launch: Launch, *_: object) -> Iterator[dict[str, Any]]:
        for clients in (1, 2, 4):
            failures = self.failures(launch, clients)
            yield {"clients": clients, "answers": 10, "failures": failures, "seconds": 1.0, "p50_ms": 1.0,
                   "p99_ms": 2.0, "cores": 1.0}  # fmt: skip

    def tune(self, **settings: Any) -> Operation:
        self.services.create(**settings)
        self.services.settle()
        (self.home.services / "iris").mkdir(parents=True)
        begun = self.runner.submit("service.tune", "service/iris/tuning", {"name": "iris"})
        deadline = time.monotonic() + 30
        while not (found := self.runner.get(begun.id)).done:
            assert time.monotonic() < deadline, found
            time.sleep(0.005)
        return found


class FakeTrial:
    identity, pid, socket = None, 0, ""

    def __init__(self, failure: str) -> None:
        self._failure = failure

    def __enter__(self) -> "FakeTrial":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def wait_until_ready(self) -> str:
        return self._failure

    def log(self) -> list[str]:
        return []


@pytest.fixture
def bench(services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    bench = Bench(services, tmp_path)
    monkeypatch.setattr(tuning, "_loaded", bench.loaded)
    yield bench
    bench.runner.stop()


def curves(operation: Operation) -> list[tuple[int, int, bool, list[int]]]:
    assert operation.state == "succeeded", operation
    found = operation.result["tuning"]["curves"]
    return [(c["slots"], c["batch"], c["able"], [point["clients"] for point in c["points"]]) for c in found]


def test_what_is_kept_and_what_the_service_has_now(bench: Bench) -> None:
    bench.services.create()
    with pytest.raises(NotTuned, match="iris has not been tuned yet"):
        bench.tuner.last("iris")
    bench.services.registry.remove("iris")
    done = bench.tune(autoscale_enabled=True, max_replicas=4, request_timeout_ms=90_000)
    assert done.result["tuning"] == bench.tuner.last("iris")
    current = {"max_batch_size": 8, "autoscale_enabled": True, "max_replicas": 4}
    assert done.result["tuning"]["current"] == current
    assert {limits.request_timeout_s for limits in bench.limits} == {90.0}, "as long as the service has for an answer"


def test_batches_that_do_not_start_leave_the_rest(bench: Bench) -> None:
    bench.failure = lambda launch: "run() is async" if launch.max_batch_size != 1 else ""
    done = bench.tune()
    assert curves(done)[-1] == (1, 32, False, [])
    assert curves(done)[0] == (1, 1, True, [1, 2, 4])
    assert "no batches: run() is async" in done.result["tuning"]["proposal"]["reasons"]


def test_nothing_starts(bench: Bench) -> None:
    bench.failure = lambda launch: "no such module"
    done = bench.tune()
    assert done.error is not None and "did not become ready: no such module" in done.error["message"]


@pytest.mark.parametrize("status", ["429", "504"])
def test_too_many_callers_end_a_curve(bench: Bench, status: str) -> None:
    bench.failures = lambda launch, clients: {f"{status}: too late": 1} if clients == 4 else {}
    assert {tuple(points) for _, _, _, points in curves(bench.tune())} == {(1, 2)}


@pytest.mark.parametrize(
    ("clients", "met", "said"), [(1, "504: too late", "answered with 504"), (4, "500: no", "500: no"),
                                 (1, STREAM, "streams cannot be measured")]
)  # fmt: skip
def test_what_cannot_be_measured(bench: Bench, clients: int, met: str, said: str) -> None:
    bench.failures = lambda launch, now: {met: 1} if now == clients else {}
    done = bench.tune()
    assert done.error is not None and said in done.error["message"]


@pytest.mark.parametrize("again", [True, False])
def test_a_deleted_service_gets_no_curves(bench: Bench, again: bool) -> None:
    def delete(launch: Launch) -> str:
        if launch.max_batch_size != 1:
            bench.services.registry.remove("iris")
            if again:
                bench.services.create()
        return ""

    bench.failure = delete
    done = bench.tune()
    assert done.error is not None and done.error["code"] == "service_not_found"
    assert list((bench.home.services / "iris").iterdir()) == []
