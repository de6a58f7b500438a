"""The operation `service.tune`: load curves of a scratch replica, and the limits that they suggest.

The replica runs the live image with the service's own variables, belongs to no service, and is reached by nobody but
the callers that load it; the service itself is neither changed nor slowed but for the cores that both share.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

from argosy.environments.target import Launch
from argosy.environments.trial import Limits, Trial, body_of, end_leftover
from argosy.errors import Conflict, DeployFailed, NotFound, StorageFailed
from argosy.records import utc_now
from argosy.schema import InvalidSchemaFile, parse_schema
from argosy.server.operations import Interrupted, Job, Step
from argosy.services.fair_share import machine_cores
from argosy.services.registry import ServiceRegistry
from argosy.services.tuning import Curve, Point, best_slots, more_slots_help, propose
from argosy.settings import Home
from argosy_serving.batching import BATCHES_OFF

_LEVELS = (1, 2, 4, 8, 16, 32, 64)
_SECONDS = 1.0
_MOST_SLOTS = 16
_BATCH = 32
# More callers than ever wait at once: nothing is shed while it is measured.
_QUEUE = 1000


class Tuner:
    """`launch(service, revision)` says how a replica of it starts."""

    def __init__(self, home: Home, services: ServiceRegistry, launch: Callable[[str, int], Launch]) -> None:
        self._home, self._services, self._launch = home, services, launch

    def steps(self) -> list[Step]:
        return [Step("tune", self._tune, waits=True)]

    def last(self, name: str) -> dict[str, Any]:
        """What the last tuning of a service found. NotFound before the first one."""
        self._services.get(name)
        try:
            found: dict[str, Any] = json.loads((self._home.services / name / "tuning.json").read_text())
        except (OSError, ValueError):
            raise NotFound("tuning", name, f"`argosy service tune {name}` measures one.") from None
        return found

    def _tune(self, job: Job) -> dict[str, Any]:
        if leftover := job.made.get("_replica"):
            end_leftover(leftover)
        name: str = job.input["name"]
        stored = self._services.get(name)
        if stored.live_revision is None:
            raise Conflict(f"Service {name} has no live revision yet: there is nothing to tune.")
        revision = self._services.revision(name, stored.live_revision)
        launch = self._launch(name, stored.live_revision)
        bodies, batchable = self._bodies(job, launch)
        curves: list[Curve] = []
        slots = 1
        while slots <= _MOST_SLOTS and more_slots_help(curves):
            curves.append(self._measured(job, replace(launch, slots=slots, max_batch_size=1), bodies))
            slots *= 2
        if batchable:
            best = best_slots(curves).slots
            curves.append(self._measured(job, replace(launch, slots=best, max_batch_size=_BATCH), bodies))
        cores = machine_cores()
        proposal = propose(curves, stored.settings.max_queue_wait_ms, cores, job.input.get("rate"))
        found = {
            "service": name, "revision": revision.number, "image": revision.image, "tuned_at": utc_now(),
            "cores": cores, "curves": [{**asdict(curve), "knee": curve.knee.clients} for curve in curves],
            "proposal": asdict(proposal),
        }  # fmt: skip
        self._save(name, found)
        return {"tuning": found}

    def _bodies(self, job: Job, launch: Launch) -> tuple[list[str], bool]:
        """What is sent, and whether its rows can be batched."""
        image = json.loads((launch.image_folder / "image.json").read_text())
        schema = None
        if image.get("schema") is not None:
            try:
                schema = parse_schema(image["schema"])
            except InvalidSchemaFile:
                schema = None
        given = job.input.get("body")
        bodies = [given] if given is not None else [body_of(s, schema is not None) for s in image.get("samples") or []]
        if not bodies:
            raise Conflict(f"Service {launch.service} has no sample to send. Give one with -d.")
        return bodies, schema is not None and not schema.unbatchable()

    def _measured(self, job: Job, launch: Launch, bodies: Sequence[str]) -> Curve:
        batch = launch.max_batch_size or 1
        job.say(f"{launch.slots} at once{f', batches of {batch} rows' if batch > 1 else ''}: starting a replica")

        def check() -> None:
            if job.stopping:
                raise Interrupted

        points = []
        with Trial(self._home.run / "t", launch, Limits(max_queued_requests=_QUEUE), check) as trial:
            job.keep(_replica=trial.identity)
            if failure := trial.wait_until_ready():
                raise DeployFailed(f"The replica to tune with did not become ready: {failure}")
            for line in _loaded(trial, launch, bodies, check):
                if line["failures"]:
                    found = ", ".join(line["failures"])
                    raise Conflict(f"The request cannot be used to measure, it was answered with {found}")
                rate = line["answers"] / line["seconds"]
                points.append(Point(line["clients"], rate, line["p50_ms"], line["p99_ms"], line["cores"]))
                job.say(f"{line['clients']} callers: {rate:.0f} answers/s, p99 {line['p99_ms']:.1f} ms")
            able = batch == 1 or not any(BATCHES_OFF in line for line in trial.log())
        job.keep(_replica=None)
        if not able:
            job.say("run() cannot answer batches: it must answer one item per row")
        return Curve(launch.slots, batch, points, able)

    def _save(self, name: str, found: dict[str, Any]) -> None:
        path = self._home.services / name / "tuning.json"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".{path.name}.{time.monotonic_ns()}")
            temporary.write_text(json.dumps(found, indent=2))
            temporary.replace(path)
        except OSError as problem:
            why = problem.strerror or problem
            raise StorageFailed(f"The curves could not be written to {path}: {why}.") from problem


def _loaded(trial: Trial, launch: Launch, bodies: Sequence[str], check: Callable[[], None]) -> Iterator[dict[str, Any]]:
    """What the callers report, level by level."""
    full = launch.slots * (launch.max_batch_size or 1)
    orders = {"socket": trial.socket, "bodies": list(bodies), "pid": trial.pid, "levels": _LEVELS,
              "full": min(full, max(_LEVELS)), "seconds": _SECONDS}  # fmt: skip
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
