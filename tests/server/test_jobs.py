"""What the steps of deploys do, and that each may be run again after a power cut without doing it twice."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from argosy.environments.container import discovery
from argosy.environments.container.images import EngineImages
from argosy.environments.registry import EnvironmentRegistry
from argosy.images.leases import Leases
from argosy.images.oci.layout import CONFIG, MANIFEST, Descriptor, OciLayout
from argosy.images.oci.platforms import own_platform
from argosy.models.registry import ModelRegistry
from argosy.records import Operation
from argosy.server.image_runs import ImageRuns
from argosy.server.jobs import Jobs
from argosy.server.operations import Job, OperationRunner, Step
from argosy.server.placement import Placement
from argosy.server.scratch_replicas import ScratchReplicas
from argosy.server.trials import Trials
from argosy.server.tuner import Tuner
from argosy.services.registry import ServiceRegistry
from argosy.settings import Home, Settings
from environments.fake_engine import URL, FakeEngine, FakeEngines
from services.fakes import Services

GIVING_UP = {"name": "iris", "to": None, "giving_up": True}


class Power(BaseException):
    """Ends a step as a power cut does."""


class Deploys:
    """Operations over the service stage; a thread lets time pass and takes the reconciler's passes."""

    def __init__(self, services: Services) -> None:
        self.services = services
        shelf = services.shelf
        models = ModelRegistry(shelf.database, shelf.blobs, Settings())
        self.engine, self.layout = FakeEngine(shelf.folder), OciLayout(shelf.folder / "oci")
        engines, self.engine_images = FakeEngines(self.engine), EngineImages(self.layout, set)
        nowhere = Home(Path("/nowhere"))
        scratch = ScratchReplicas(nowhere, engines, self.engine_images)
        self.jobs = Jobs(
            Settings(),
            shelf.blobs,
            models,
            shelf.manifests,
            None,  # type: ignore[arg-type] # every request here names an image that is there
            shelf.images,
            None,  # type: ignore[arg-type]
            None,  # type: ignore[arg-type]
            services.registry,
            services.reconciler,
            Trials(nowhere, models, shelf.manifests, None),  # type: ignore[arg-type]
            Tuner(nowhere, services.registry, shelf.images, None, scratch),  # type: ignore[arg-type]
            Leases(),
            Placement(
                EnvironmentRegistry(shelf.database), services.registry, shelf.images, engines, self.engine_images
            ),
            ImageRuns(shelf.images, None, EnvironmentRegistry(shelf.database), engines, scratch),  # type: ignore[arg-type]
        )
        self.runner = OperationRunner(shelf.database, self.jobs.kinds(), 2)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._tend)
        self._thread.start()

    def _tend(self) -> None:
        while not self._ended.wait(0.005):
            for name in self.services.registry.names():
                self.services.steps(1, name)

    def stop(self) -> None:
        self.runner.stop()
        self._ended.set()
        self._thread.join()

    def run(self, kind: str, **request: Any) -> Operation:
        return self.ended(self.runner.submit(kind, f"service/{request['name']}", request))

    def ended(self, operation: Operation) -> Operation:
        deadline = time.monotonic() + 30
        while not (found := self.runner.get(operation.id)).done:
            assert time.monotonic() < deadline, found
            time.sleep(0.005)
        return found

    def container_image(self, content: bytes) -> tuple[str, str]:
        """Its reference, and what the engine calls it."""
        image = self.services.shelf.image(content=content)
        config = Descriptor(CONFIG, *self.layout.add_json({"made from": content.decode()}))
        digest, _ = self.layout.add_json({"mediaType": MANIFEST, "config": config.json(), "layers": []})
        self.services.shelf.images.set_oci(image, {own_platform(): digest})
        return image.reference, self.engine_images.tag(digest)

    def create(self, **request: Any) -> Operation:
        image = self.services.shelf.image()
        return self.run(
            "service.create",
            **{"name": "iris", "environment": "local", "image": image.reference, "replicas": 1, **request},
        )

    def cut_off_after_deploy(self, kind: str, **request: Any) -> Operation:
        """The deploy step does its work and the power goes before that is noted; then the next start."""
        done = threading.Event()

        def cut(step: Step) -> Step:
            def work(job: Job) -> None:
                step.run(job)
                done.set()
                raise Power

            return Step(step.name, work) if step.name == "deploy" else step

        kinds = {name: [cut(step) for step in steps] for name, steps in self.jobs.kinds().items()}
        first = OperationRunner(self.services.shelf.database, kinds, 1)
        begun = first.submit(kind, f"service/{request['name']}", request)
        assert done.wait(30)
        first.stop()
        return begun


@pytest.fixture
def deploys(services: Services) -> Iterator[Deploys]:
    deploys = Deploys(services)
    yield deploys
    deploys.stop()


def test_create(deploys: Deploys) -> None:
    done = deploys.create(replicas=2, settings={"max_queued_requests": 3})
    assert (done.state, done.result) == ("succeeded", {"service": "iris", "revision": 1})
    assert done.messages[-1] == "Revision 1 of iris is live: 2 of 2 replicas ready"
    assert deploys.services.registry.get("iris").settings.max_queued_requests == 3


def test_create_twice(deploys: Deploys) -> None:
    deploys.create()
    again = deploys.create()
    assert again.error is not None
    assert (again.state, again.error["code"], again.error["status"]) == ("failed", "conflict", 409)
    assert deploys.services.revisions() == {1: "live"}


def test_create_resumed(deploys: Deploys) -> None:
    image = deploys.services.shelf.image().reference
    begun = deploys.cut_off_after_deploy("service.create", name="iris", environment="local", image=image, replicas=1)
    deploys.runner.resume()
    assert deploys.ended(begun).state == "succeeded"
    assert deploys.services.revisions() == {1: "live"}


def update_with_new_image(deploys: Deploys) -> dict[str, Any]:
    return {"name": "iris", "image": deploys.services.shelf.image(content=b"new").reference}


def test_update(deploys: Deploys) -> None:
    deploys.create()
    done = deploys.run("service.update", **update_with_new_image(deploys))
    assert (done.state, done.result) == ("succeeded", {"service": "iris", "revision": 2})
    scaled = deploys.run("service.update", name="iris", replicas=3)
    assert (scaled.state, scaled.result) == ("succeeded", {"service": "iris", "revision": 2})
    assert len(deploys.services.target.replicas) == 3


@pytest.mark.parametrize("clock", ["right", "set back"])
def test_update_resumed(deploys: Deploys, monkeypatch: pytest.MonkeyPatch, clock: str) -> None:
    deploys.create()
    if clock == "set back":
        monkeypatch.setattr("argosy.server.operations.utc_now", lambda: "2001-01-01T00:00:00.000Z")
    begun = deploys.cut_off_after_deploy("service.update", **update_with_new_image(deploys))
    deploys.runner.resume()
    done = deploys.ended(begun)
    assert (done.state, done.result["revision"]) == ("succeeded", 2)
    assert deploys.services.revisions() == {1: "stopped", 2: "live"}, "no third revision"


def test_an_update_counts_though_the_clock_was_set_back(deploys: Deploys, monkeypatch: pytest.MonkeyPatch) -> None:
    deploys.create()
    monkeypatch.setattr("argosy.server.operations.utc_now", lambda: "2001-01-01T00:00:00.000Z")
    assert deploys.run("service.update", **update_with_new_image(deploys)).result["revision"] == 2


def test_rollback_and_resumed_rollback(deploys: Deploys) -> None:
    deploys.create()
    deploys.run("service.update", **update_with_new_image(deploys))
    assert deploys.run("service.rollback", name="iris", to=None).result["revision"] == 1
    assert deploys.services.registry.get("iris").live_revision == 1
    begun = deploys.cut_off_after_deploy("service.rollback", name="iris", to=None)
    deadline = time.monotonic() + 30
    while deploys.services.registry.get("iris").live_revision != 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    deploys.runner.resume()
    assert deploys.ended(begun).result["revision"] == 2, "not forth again"
    assert deploys.services.registry.get("iris").live_revision == 2


def test_a_rollback_gives_up_an_update_under_way(deploys: Deploys, monkeypatch: pytest.MonkeyPatch) -> None:
    deploys.create()
    monkeypatch.setattr(deploys.services.target, "time_passes", lambda: None)
    begun = deploys.runner.submit("service.update", "service/iris", update_with_new_image(deploys))
    deadline = time.monotonic() + 30
    while deploys.services.registry.get("iris").target_revision != 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    rollback = deploys.runner.submit("service.rollback", "service/iris", {"name": "iris", "to": None}, supersedes=True)
    assert deploys.ended(rollback).result["revision"] == 1, "what serves now, not what was before it"
    assert deploys.ended(begun).state == "cancelled"
    stored = deploys.services.registry.get("iris")
    assert (stored.live_revision, stored.target_revision) == (1, 1)
    assert deploys.services.revisions() == {1: "live", 2: "stopped"}


def test_an_update_that_was_rolled_back_before_it_deployed_does_not_deploy(deploys: Deploys) -> None:
    deploys.create()
    request = update_with_new_image(deploys)
    building, go_on = threading.Event(), threading.Event()

    def slow(job: Job) -> None:
        building.set()
        go_on.wait(30)

    steps = deploys.runner._kinds["service.update"]
    deploys.runner._kinds = {**deploys.runner._kinds, "service.update": [Step("image", slow), *steps[2:]]}
    begun = deploys.runner.submit("service.update", "service/iris", request)
    assert building.wait(30)
    deploys.runner.submit("service.rollback", "service/iris", GIVING_UP, supersedes=True)
    go_on.set()
    done = deploys.ended(begun)
    assert done.state == "cancelled"
    assert done.error is not None and "rolled back meanwhile" in done.error["message"]
    assert deploys.services.registry.get("iris").target_revision == 1


@pytest.mark.parametrize("dead", [False, True])
def test_a_rollback_brings_the_image_that_the_engine_lost(
    deploys: Deploys, monkeypatch: pytest.MonkeyPatch, dead: bool
) -> None:
    """In a step that shows; with a dead engine what runs is what is wanted all the same."""
    monkeypatch.setattr(discovery, "find", lambda given: given)
    EnvironmentRegistry(deploys.services.shelf.database).create("box", "container", URL)
    (first, tag), (second, _) = deploys.container_image(b"one"), deploys.container_image(b"two")
    deploys.run("service.create", name="iris", environment="box", image=first, replicas=1)
    deploys.run("service.update", name="iris", image=second)
    deploys.engine.images.clear()
    deploys.engine.dead = dead
    done = deploys.run("service.rollback", name="iris", to=None)
    assert (done.state, done.result["revision"]) == ("succeeded", 1), done.error
    assert (tag in deploys.engine.images) != dead
    assert any("Loading" in line for line in done.messages) != dead


def test_rollback_without_a_past(deploys: Deploys) -> None:
    deploys.create()
    done = deploys.run("service.rollback", name="iris", to=None)
    assert done.error is not None
    assert (done.state, done.error["status"]) == ("failed", 409)


def test_a_failed_deploy_says_why_with_the_last_lines(deploys: Deploys) -> None:
    deploys.services.launch_fails[1] = ValueError("no such thing")
    done = deploys.create()
    assert done.error is not None
    assert (done.state, done.error["code"]) == ("failed", "deploy_failed")
    assert "no such thing" in done.error["message"]
    scaled = deploys.run("service.update", name="iris", replicas=2)
    assert scaled.error is not None and "another image" in scaled.error["message"]
    del deploys.services.launch_fails[1]
    assert deploys.run("service.update", **update_with_new_image(deploys)).state == "succeeded"


def test_a_failed_update_says_what_goes_on_serving(deploys: Deploys) -> None:
    deploys.create()
    deploys.services.launch_fails[2] = ValueError("no such thing")
    done = deploys.run("service.update", **update_with_new_image(deploys))
    assert done.error is not None and "Revision 1 keeps serving" in done.error["message"]


def test_scaling_back_up_does_not_fail_for_a_reason_of_yesterday(deploys: Deploys) -> None:
    deploys.create()
    target = deploys.services.target
    target.change(next(iter(target.replicas)), state="gone", failure="killed")
    deadline = time.monotonic() + 30
    while deploys.services.condition()[0] != "healthy":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert deploys.run("service.update", name="iris", replicas=0).state == "succeeded"
    assert deploys.run("service.update", name="iris", replicas=1).state == "succeeded"


def test_delete_ends_what_is_under_way(deploys: Deploys, monkeypatch: pytest.MonkeyPatch) -> None:
    deploys.create()
    monkeypatch.setattr(deploys.services.target, "time_passes", lambda: None)
    begun = deploys.runner.submit("service.update", "service/iris", update_with_new_image(deploys))
    deadline = time.monotonic() + 30
    while not deploys.runner.get(begun.id).messages:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    monkeypatch.undo()
    deleting = deploys.runner.submit("service.delete", "service/iris", {"name": "iris"}, supersedes=True)
    assert deploys.ended(deleting).state == "succeeded"
    assert deploys.ended(begun).state in ("cancelled", "succeeded")
    assert deploys.services.registry.names() == []
    assert deploys.run("service.delete", name="iris").state == "succeeded", "the same again"


def test_if_match_of_an_update(deploys: Deploys) -> None:
    deploys.create()
    done = deploys.run("service.update", name="iris", replicas=2, if_match='"0-0-0-0"')
    assert done.error is not None
    assert done.error["status"] == 412
    assert isinstance(deploys.services.registry, ServiceRegistry)


@pytest.mark.parametrize("kind", ["image.run", "service.tune"])
def test_what_a_trial_runs_from_is_not_collected(deploys: Deploys, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    leases = deploys.jobs._leases

    def trial(job: Job) -> dict[str, Any]:
        leases.use("env:e")
        return {"kept": leases.used("env:e")}

    for owner in (deploys.jobs._image_runs, deploys.jobs._tuner):
        monkeypatch.setattr(owner, "steps", lambda: [Step("only", trial)])
    (step,) = deploys.jobs.kinds()[kind]
    assert step.run(None) == {"kept": True}  # type: ignore[arg-type]
    assert not leases.used("env:e")
