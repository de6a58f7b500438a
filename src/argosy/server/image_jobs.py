"""The long operations of images that come and go: push, pull, load and garbage collection."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from argosy.images.collect import Collector
from argosy.images.distribution.names import ImageName
from argosy.images.registry import ImageRegistry
from argosy.images.transfers import Progress, Transfers
from argosy.records import Reference, encode
from argosy.server.operations import Interrupted, Job, Step
from argosy.store.blobs import LocalBlobs

_PROGRESS_EVERY_S = 1.0


class ImageJobs:
    """`kinds()` is what the operation runner runs."""

    def __init__(self, images: ImageRegistry, transfers: Transfers, collector: Collector, blobs: LocalBlobs) -> None:
        self._images = images
        self._transfers = transfers
        self._collector = collector
        self._blobs = blobs

    def kinds(self) -> Mapping[str, Sequence[Step]]:
        return {
            "image.push": [Step("push", self._push)],
            "image.pull": [Step("pull", self._pull)],
            "image.load": [Step("load", self._load)],
            "gc": [Step("collect", self._collect)],
        }

    def _push(self, job: Job) -> dict[str, Any]:
        image = self._images.get(Reference.parse("image", job.input["image"]))
        names = [ImageName.parse(text) for text in job.input["names"]]
        job.say(f"Pushing {image.reference} to {names[0].host}/{names[0].path}")
        pushed = self._transfers.push(image, names, _told(job, "Pushed"))
        for name in names:
            job.say(f"{name} is {pushed.digest}")
        return {
            "image": image.reference,
            "pushed": [str(name) for name in names],
            "digest": pushed.digest,
            "attached": list(pushed.attached),
        }

    def _pull(self, job: Job) -> dict[str, Any]:
        wanted = job.input
        job.say(f"Pulling {wanted['reference']}")
        image = self._transfers.pull(wanted["reference"], wanted["name"], wanted["platforms"], _told(job, "Pulled"))
        job.say(f"Image {image.reference}: {', '.join(image.oci)}")
        return {"image": image.reference}

    def _load(self, job: Job) -> dict[str, Any]:
        wanted = job.input
        # Renewed, so that it outlives the operation however long that takes.
        self._blobs.touch(wanted["sha256"])
        path = self._blobs.path(wanted["sha256"])
        image = self._transfers.load(path, wanted["name"], wanted["tag"], wanted["file"], _told(job, "Loaded"))
        job.say(f"Image {image.reference}: {', '.join(image.oci)}")
        return {"image": image.reference}

    def _collect(self, job: Job) -> dict[str, Any]:
        dry = job.input["dry_run"]
        freed = self._collector.run(dry, lambda: _check(job))
        total = sum(each.size_bytes for each in freed)
        job.say(f"{'Would free' if dry else 'Freed'} {total / 1e6:,.1f} MB in {len(freed)} places")
        return {"dry_run": dry, "freed": [encode(each) for each in freed], "size_bytes": total}


def _check(job: Job) -> None:
    if job.stopping:
        raise Interrupted


def _told(job: Job, verb: str) -> Progress:
    """Says how far it is, now and then; ends the transfer when the control plane stops."""
    said_s = time.monotonic()

    def told(done: int, total: int) -> None:
        nonlocal said_s
        _check(job)
        if time.monotonic() - said_s > _PROGRESS_EVERY_S:
            said_s = time.monotonic()
            of = f" of {total / 1e6:,.1f}" if total else ""
            job.say(f"{verb} {done / 1e6:,.1f}{of} MB", done / total if total else None)

    return told
