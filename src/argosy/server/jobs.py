"""The long operations: which steps each has, and what every step does with the stages.

A deploy has no engine of its own: it writes desired state, wakes the reconciler and watches what comes of it.
"""

import contextlib
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from argosy.errors import Conflict, DeployFailed, EngineUnreachable, NotFound
from argosy.images.build import ImageBuilder
from argosy.images.docker.build import DockerSteps
from argosy.images.leases import Leases
from argosy.images.oci.create import OciImages
from argosy.images.registry import ImageRegistry
from argosy.manifests.create import ManifestBuilder
from argosy.manifests.registry import ManifestRegistry
from argosy.models.fetch import Policy, fetch
from argosy.models.registry import ModelRegistry
from argosy.models.request import ModelRequest
from argosy.records import FileEntry, Image, Manifest, Model, Reference, ServiceSettings, encode
from argosy.server.image_runs import ImageRuns
from argosy.server.operations import Cancelled, Interrupted, Job, Step
from argosy.server.placement import Placement
from argosy.server.trials import Trials
from argosy.server.tuner import Tuner
from argosy.services.reconcile import Reconciler
from argosy.services.registry import ServiceRegistry
from argosy.services.settings import changed
from argosy.services.stored import Stored
from argosy.settings import Settings
from argosy.store.blobs import LocalBlobs

_WATCH_EVERY_S = 0.1
_WATCHING_OFTEN = 8
_PROGRESS_EVERY_S = 1.0


class Jobs:
    """`kinds()` is what the operation runner runs."""

    def __init__(
        self,
        settings: Settings,
        blobs: LocalBlobs,
        models: ModelRegistry,
        manifests: ManifestRegistry,
        manifest_builder: ManifestBuilder,
        images: ImageRegistry,
        image_builder: ImageBuilder,
        oci: OciImages,
        services: ServiceRegistry,
        reconciler: Reconciler,
        trials: Trials,
        tuner: Tuner,
        leases: Leases,
        placement: Placement,
        image_runs: ImageRuns,
    ) -> None:
        self._leases = leases
        self._settings = settings
        self._blobs = blobs
        self._models = models
        self._manifests = manifests
        self._manifest_builder = manifest_builder
        self._images = images
        self._image_builder = image_builder
        self._oci = oci
        self._services = services
        self._reconciler = reconciler
        self._trials = trials
        self._tuner = tuner
        self._placement = placement
        self._image_runs = image_runs
        self._watching = 0
        self._watch_guard = threading.Lock()

    def kinds(self) -> Mapping[str, Sequence[Step]]:
        manifest, image = Step("manifest", self._manifest), self._building(Step("image", self._image))
        load = Step("load", self._placement.load)
        rollout = Step("rollout", self._rollout, waits=True)
        return {
            "model.fetch": [Step("fetch", self._fetch), Step("register", self._register)],
            "manifest.create": [manifest],
            "manifest.test": [self._building(step) for step in self._trials.steps()],
            "image.create": [manifest, image],
            "image.run": [self._building(step) for step in self._image_runs.steps()],
            "service.create": [manifest, image, load, Step("deploy", self._create_service), rollout],
            "service.update": [manifest, image, load, Step("deploy", self._update_service), rollout],
            "service.rollback": [Step("load", self._load_former), Step("deploy", self._roll_back), rollout],
            "service.tune": [self._building(step) for step in self._tuner.steps()],
            "service.delete": [Step("delete", self._delete_service, waits=True)],
        }

    def _building(self, step: Step) -> Step:
        """The step with a lease: what it makes and uses is not collected before it is registered."""

        def run(job: Job) -> Mapping[str, Any] | None:
            with self._leases.hold():
                return step.run(job)

        return replace(step, run=run)

    # -- making --------------------------------------------------------------------------------------------------

    def _manifest(self, job: Job) -> dict[str, Any]:
        recipe = job.input.get("recipe")
        if recipe is None:
            return {}
        manifest = self._manifest_builder.create(recipe, job.say)
        job.say(f"Manifest {manifest.reference}: {len(manifest.recipe.lock.packages)} packages locked")
        return {"manifest": manifest.reference}

    def _image(self, job: Job) -> dict[str, Any]:
        reference = job.made.get("manifest") or job.input.get("manifest")
        if reference is None:
            return {}
        manifest = self._manifests.get(Reference.parse("manifest", reference))
        name = job.input.get("image_name") or manifest.name
        description = job.input.get("image_description", "")
        if wanted := job.input.get("oci"):
            steps = DockerSteps(**wanted["docker"], go_on=job.go_on) if "docker" in wanted else None
            image = self._oci.create(
                name,
                manifest,
                description,
                wanted["base"],
                wanted["platforms"],
                job.say,
                steps,
                wanted.get("base_digest", ""),
            )
        else:
            image = self._image_builder.create(name, manifest, description, job.say)
        job.say(f"Image {image.reference}")
        return {"image": image.reference}

    # -- services ------------------------------------------------------------------------------------------------

    def _create_service(self, job: Job) -> dict[str, Any]:
        name = job.input["name"]
        settings = changed(ServiceSettings(), job.input.get("settings", {}))
        if not job.made.get("_deploying") and not self._is_there(name):
            job.keep(_deploying=True)
        try:
            self._services.create(
                name,
                job.input["environment"],
                self._image_of(job),
                job.input["replicas"],
                settings,
                job.input.get("description", ""),
            )
        except Conflict:
            if not job.made.get("_deploying"):
                raise
            # Made by this very operation, before a crash kept it from being noted: nobody else may work on it.
        self._reconciler.wake(name)
        return {"service": name, "revision": 1}

    def _update_service(self, job: Job) -> dict[str, Any]:
        name = job.input["name"]
        if job.superseded:
            raise Cancelled(f"Service {name} was rolled back meanwhile, so this update is given up.")
        newest = self._services.history(name, 1, None).items[0]
        # Compared once: what this very operation has changed before a crash must not count against it.
        if_match = job.input.get("if_match") if "_newest" not in job.made else None
        if "_newest" not in job.made:
            job.keep(_newest=newest.number)
        if newest.number == job.made["_newest"]:
            has_image = "image" in job.made or "image" in job.input
            stored = self._services.update(
                name,
                image=self._image_of(job) if has_image else None,
                replicas=job.input.get("replicas"),
                changes=job.input.get("settings", {}),
                description=job.input.get("description"),
                if_match=if_match,
            )
            number = stored.target_revision
        else:
            # Made by this very operation, before a crash kept it from being noted.
            number = newest.number
        self._reconciler.push_settings(name)
        self._reconciler.wake(name)
        return {"service": name, "revision": number}

    def _load_former(self, job: Job) -> None:
        """An engine may have lost the image meanwhile."""
        revision = self._services.revision(job.input["name"], self._former(job))
        # With a dead engine what runs is kept all the same, and what is missing starts when it answers again.
        with contextlib.suppress(EngineUnreachable):
            self._placement.bring(job, revision.image)

    def _roll_back(self, job: Job) -> dict[str, Any]:
        stored = self._services.roll_back(job.input["name"], self._former(job))
        self._reconciler.wake(stored.name)
        return {"service": stored.name, "revision": stored.target_revision}

    def _former(self, job: Job) -> int:
        """Chosen once: after the rollout "the one before" would be another."""
        if "_to" not in job.made:
            name, giving_up = job.input["name"], job.input.get("giving_up", False)
            job.keep(_to=self._services.revision_before(name, job.input.get("to"), giving_up))
        number: int = job.made["_to"]
        return number

    def _delete_service(self, job: Job) -> dict[str, Any]:
        name = job.input["name"]
        try:
            self._services.mark_deleting(name)
        except NotFound:
            return {"service": name}
        self._reconciler.wake(name)
        job.say(f"Draining the replicas of {name}")
        while self._is_there(name):
            self._pause(job)
        job.say(f"Service {name} is deleted")
        return {"service": name}

    def _is_there(self, name: str) -> bool:
        try:
            return bool(self._services.get(name))
        except NotFound:
            return False

    def _rollout(self, job: Job) -> dict[str, Any]:
        """Until the revision is live, all replicas are ready and no other one answers; or it has failed."""
        with self._watch_guard:
            self._watching += 1
        try:
            name, number = job.made["service"], job.made["revision"]
            if number is None:
                raise DeployFailed(f"Service {name} has no revision that works. Update it with another image.")
            return self._watch_rollout(job, name, number)
        finally:
            with self._watch_guard:
                self._watching -= 1

    def _watch_rollout(self, job: Job, name: str, number: int) -> dict[str, Any]:
        said = ""
        while True:
            try:
                stored = self._services.get(name)
            except NotFound:
                raise Cancelled(f"Service {name} was deleted meanwhile.") from None
            if stored.deleting:
                raise Cancelled(f"Service {name} is being deleted.")
            condition = self._reconciler.condition(stored)
            if stored.target_revision != number or condition.state == "failed":
                self._check_failed(stored, number)
            live = stored.live_revision == number and self._reconciler.answers_alone(name, number)
            if live and condition.state in ("healthy", "stopped"):
                job.say(f"Revision {number} of {name} is live: {condition.reason}", 1.0)
                return {}
            if stored.target_revision not in (number, None) and stored.live_revision != number:
                raise Cancelled(f"Revision {number} of service {name} was superseded.")
            if condition.reason != said:
                said = condition.reason
                job.say(said)
            self._pause(job)

    def _check_failed(self, stored: Stored, number: int) -> None:
        revision = self._services.revision(stored.name, number)
        reason, lines = self._reconciler.failure(stored.name)
        if revision.state == "failed":
            live = stored.live_revision
            kept = f" Revision {live} keeps serving." if live is not None else ""
            _, manifest, _ = self._images.content(Reference.parse("image", revision.image))
            fixes = "".join(f" {text}" for text in self._advice(manifest, [revision.reason, *lines]))
            raise DeployFailed(
                f"Revision {number} of service {stored.name} did not become ready: {revision.reason}{kept}{fixes}",
                lines,
            )
        if stored.live_revision == number and self._reconciler.condition(stored).state == "failed":
            raise DeployFailed(f"No replica of service {stored.name} is ready: {reason}", lines)

    def _advice(self, manifest: Manifest, texts: list[str]) -> list[str]:
        """None for an image that was built elsewhere: its models are not here."""
        return self._trials.advice(manifest, texts) if manifest.name else []

    def _pause(self, job: Job) -> None:
        if job.stopping:
            raise Interrupted
        # The more that watch, the more rarely each looks: all of them together cost the same.
        time.sleep(_WATCH_EVERY_S * max(1.0, self._watching / _WATCHING_OFTEN))

    def _image_of(self, job: Job) -> Image:
        return self._images.get(Reference.parse("image", job.made.get("image") or job.input["image"]))

    # -- models --------------------------------------------------------------------------------------------------

    def _fetch(self, job: Job) -> dict[str, Any]:
        policy = Policy(self._settings.url_limit_bytes, self._settings.allow_private_urls)
        said_s = 0.0

        def progress(done: int, total: int | None) -> None:
            nonlocal said_s
            if job.stopping:
                raise Interrupted
            if time.monotonic() - said_s > _PROGRESS_EVERY_S:
                said_s = time.monotonic()
                job.say(f"Fetched {done / 1e6:,.1f} MB", done / total if total else None)

        fetched = fetch(job.input["url"], self._blobs, policy, progress)
        return {
            "file": encode(FileEntry(fetched.name, fetched.blob.sha256, fetched.blob.size_bytes)),
            "from": fetched.source,
        }

    def _register(self, job: Job) -> dict[str, Any]:
        name, entry = job.input["name"], FileEntry(**job.made["file"])
        source = job.input["source"] or job.made["from"]
        # Made by this very operation, before a crash kept it from being noted?
        model = self._registered_since(name, job.created_at)
        if model is None or model.source != source:
            model = self._models.register(
                ModelRequest(
                    name=name,
                    kind="file",
                    files=[entry],
                    source=source,
                    **{key: job.input[key] for key in ("description", "tags", "metrics", "unpack")},
                )
            )
        job.say(f"Model {model.reference}: {model.size_bytes:,} bytes")
        return {"model": model.reference}

    def _registered_since(self, name: str, moment: str) -> Model | None:
        with contextlib.suppress(NotFound):
            newest = self._models.latest(name)
            return newest if newest.created_at >= moment else None
        return None
