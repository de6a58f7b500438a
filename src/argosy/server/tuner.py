"""The operation `service.tune`: load curves of a scratch replica, and the limits that they suggest.

The replica runs the live image where the service's own do, with its variables and limits. It belongs to no service and
is reached by nobody but the callers that load it; the service is neither changed nor slowed but for the cores that both
share.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from argosy.environments.load import STREAM
from argosy.environments.target import Launch
from argosy.environments.trial import Limits, Trial, body_of
from argosy.errors import Conflict, DeployFailed, Error, NotFound, NotTuned, StorageFailed
from argosy.images.registry import ImageRegistry
from argosy.records import Recipe, Reference, utc_now
from argosy.schema import InvalidSchemaFile, parse_schema
from argosy.server.operations import Interrupted, Job, Step
from argosy.server.scratch_replicas import ScratchReplicas
from argosy.services.fair_share import machine_cores
from argosy.services.registry import ServiceRegistry
from argosy.services.stored import Stored
from argosy.services.tuning import Curve, Point, best_slots, more_slots_help, propose
from argosy.settings import Home
from argosy_serving.batching import BATCHES_OFF

_LEVELS = (1, 2, 4, 8, 16, 32, 64)
_SECONDS = 1.0
_MOST_SLOTS = 16
_BATCH = 32
# More callers than ever wait at once: nothing is shed while it is measured.
_QUEUE = 1000
# What a replica answers that has more callers than it can answer within the request timeout.
_TOO_MANY = ("429", "504")


class Tuner:
    """`launch(service, revision)` says how a replica of it starts."""

    def __init__(
        self,
        home: Home,
        services: ServiceRegistry,
        images: ImageRegistry,
        launch: Callable[[str, int], Launch],
        scratch: ScratchReplicas,
    ) -> None:
        self._home, self._services, self._images = home, services, images
        self._launch, self._scratch = launch, scratch

    def steps(self) -> list[Step]:
        return [Step("tune", self._tune, waits=True)]

    def last(self, name: str) -> dict[str, Any]:
        """What the last tuning of a service found. NotTuned before the first one."""
        self._services.get(name)
        try:
            found: dict[str, Any] = json.loads((self._home.services / name / "tuning.json").read_text())
        except (OSError, ValueError):
            raise NotTuned(name) from None
        return found

    def _tune(self, job: Job) -> dict[str, Any]:
        if leftover := job.made.get("_replica"):
            self._scratch.end(leftover)
        name: str = job.input["name"]
        stored = self._services.get(name)
        if stored.live_revision is None:
            raise Conflict(f"Service {name} has no live revision yet: there is nothing to tune.")
        revision = self._services.revision(name, stored.live_revision)
        launch = self._launch(name, stored.live_revision)
        _, manifest, _ = self._images.content(Reference.parse("image", revision.image))
        curves = self._curves(job, stored, launch, manifest.recipe)
        cores = machine_cores()
        proposal = propose(curves, stored.settings.max_queue_wait_ms, cores, job.input.get("rate"))
        found = {
            "service": name, "revision": revision.number, "image": revision.image, "tuned_at": utc_now(),
            "cores": cores, "curves": [_shown(curve) for curve in curves], "proposal": asdict(proposal),
            "current": {
                "max_batch_size": manifest.recipe.serving.get("max_batch_size", 1),
                "autoscale_enabled": stored.settings.autoscale_enabled, "max_replicas": stored.settings.max_replicas,
            },
        }  # fmt: skip
        self._save(stored, found)
        return {"tuning": found}

    def _curves(self, job: Job, stored: Stored, launch: Launch, recipe: Recipe) -> list[Curve]:
        """The first one has points, or an error says why there are none."""
        bodies, batchable = self._bodies(job, launch, recipe)
        limits = Limits(launch.init_timeout_s, stored.settings.request_timeout_ms / 1000, _QUEUE)
        curves: list[Curve] = []

        def measure(slots: int, batch: int) -> None:
            self._check_there(stored)
            try:
                curve = self._measured(job, replace(launch, slots=slots, max_batch_size=batch), limits, bodies)
            except _Unable as problem:
                if not curves:
                    raise problem.error from None
                job.say(problem.reason)
                curve = Curve(slots, batch, [], able=False, reason=problem.reason)
            curves.append(curve)

        slots = 1
        while slots <= _MOST_SLOTS and more_slots_help(curves):
            measure(slots, 1)
            slots *= 2
        if batchable:
            measure(best_slots(curves).slots, _BATCH)
        return curves

    def _bodies(self, job: Job, launch: Launch, recipe: Recipe) -> tuple[list[str], bool]:
        """What is sent, and whether its rows can be batched."""
        schema = None
        if recipe.schema is not None:
            try:
                schema = parse_schema(recipe.schema)
            except InvalidSchemaFile:
                schema = None
        given = job.input.get("body")
        bodies = [given] if given is not None else [body_of(s, schema is not None) for s in recipe.samples]
        if not bodies:
            raise Conflict(f"Service {launch.service} has no sample to send. Give one with -d.")
        return bodies, schema is not None and not schema.unbatchable()

    def _measured(self, job: Job, launch: Launch, limits: Limits, bodies: Sequence[str]) -> Curve:
        """Raises _Unable when there is not one point."""
        batch = launch.max_batch_size or 1
        job.say(f"{launch.slots} at once{f', batches of {batch} rows' if batch > 1 else ''}: starting a replica")

        def check() -> None:
            if job.stopping:
                raise Interrupted

        points: list[Point] = []
        starting = self._scratch.trial(launch, limits, check, job.say)
        # A container is known by its name before it is there: a crash over its start leaves none behind.
        job.keep(_replica=starting.identity)
        with starting as trial:
            job.keep(_replica=trial.identity)
            if failure := trial.wait_until_ready():
                raise _Unable(DeployFailed(f"The replica to tune with did not become ready: {failure}"), failure)
            for line in _loaded(trial, launch, limits, bodies, check):
                if failures := line["failures"]:
                    if points and all(what.startswith(_TOO_MANY) for what in failures):
                        job.say(f"{_callers(line['clients'])}: too many to be answered in time")
                        break
                    problem = _refusal(launch.service, failures)
                    raise problem if points else _Unable(problem, f"it was answered with {', '.join(failures)}")
                rate = line["answers"] / line["seconds"]
                points.append(Point(line["clients"], rate, line["p50_ms"], line["p99_ms"], line["cores"]))
                job.say(f"{_callers(line['clients'])}: {rate:.0f} answers/s, p99 {line['p99_ms']:.1f} ms")
            able = batch == 1 or not any(BATCHES_OFF in line for line in trial.log())
        job.keep(_replica=None)
        if not able:
            job.say("run() cannot answer batches: it must answer one item per row")
        return Curve(launch.slots, batch, points, able, "" if able else "run() must answer one item per row for them")

    def _check_there(self, stored: Stored) -> None:
        """NotFound when the service was deleted meanwhile, also when there is another one of its name."""
        now = self._services.get(stored.name)
        # The database may give the same id again.
        if (now.id, now.created_at) != (stored.id, stored.created_at) or now.deleting:
            raise NotFound("service", stored.name)

    def _save(self, stored: Stored, found: dict[str, Any]) -> None:
        """Into the folder that the service has: one that is deleted must not leave its curves to the next."""
        self._check_there(stored)
        path = self._home.services / stored.name / "tuning.json"
        try:
            temporary = path.with_name(f".{path.name}.{time.monotonic_ns()}")
            temporary.write_text(json.dumps(found, indent=2))
            temporary.replace(path)
        except FileNotFoundError:
            raise NotFound("service", stored.name) from None
        except OSError as problem:
            why = problem.strerror or problem
            raise StorageFailed(f"The curves could not be written to {path}: {why}.") from problem


class _Unable(Exception):
    """A replica with these slots and batches answers nobody. `error` is what to tell when it is the first."""

    def __init__(self, error: Error, reason: str) -> None:
        self.error, self.reason = error, reason


def _refusal(service: str, failures: Mapping[str, int]) -> Conflict:
    if STREAM in failures:
        return Conflict(f"Service {service} answers with a stream, which takes as long as its caller reads: streams "
                        "cannot be measured.")  # fmt: skip
    found = ", ".join(failures)
    return Conflict(f"The request cannot be used to measure, it was answered with {found}")


def _callers(number: int) -> str:
    return "1 caller" if number == 1 else f"{number} callers"


def _shown(curve: Curve) -> dict[str, Any]:
    return {**asdict(curve), "knee": curve.knee.clients if curve.knee else None}


def _loaded(
    trial: Trial, launch: Launch, limits: Limits, bodies: Sequence[str], check: Callable[[], None]
) -> Iterator[dict[str, Any]]:
    """What the callers report, level by level."""
    full = launch.slots * (launch.max_batch_size or 1)
    orders = {"socket": trial.socket, "bodies": list(bodies), "pid": trial.pid, "levels": _LEVELS,
              "full": min(full, max(_LEVELS)), "seconds": _SECONDS,
              "timeout_s": limits.request_timeout_s}  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "argosy.environments.load"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        process.stdin.write(json.dumps(orders))
        process.stdin.close()
        for line in process.stdout:
            check()
            yield json.loads(line)
        if process.wait() != 0:
            raise DeployFailed(f"The replica could not be loaded: {process.stderr.read().strip()[-500:]}")
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
