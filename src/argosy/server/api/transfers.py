"""`/v1/images`, as far as they come and go: push, pull, load; and `/v1/gc`."""

from fastapi import APIRouter, Response

from argosy.errors import NotFound
from argosy.images.distribution.names import ImageName
from argosy.records import Operation, check_name
from argosy.server.api.answers import IdempotencyKey, accepted, reference
from argosy.server.control import Control
from argosy.server.requests import CollectBody, LoadBody, PullBody, PushBody


def router(control: Control) -> APIRouter:
    routes = APIRouter(prefix="/v1", tags=["images"])
    operations = control.operations

    @routes.post("/images/pull", status_code=202, response_model=Operation)
    def pull(body: PullBody, idempotency_key: IdempotencyKey = None) -> Response:
        """Fetch an image that Argosy built from a registry; the operation's result is `{"image": "name:version"}`."""
        name = body.name or ImageName.parse(body.reference).path.rpartition("/")[2]
        subject = f"image/{check_name('image', name)}"
        request = {"reference": body.reference, "name": name, "platforms": body.platforms}
        return accepted(operations.submit("image.pull", subject, request, idempotency_key))

    @routes.post("/images/load", status_code=202, response_model=Operation)
    def load(body: LoadBody, idempotency_key: IdempotencyKey = None) -> Response:
        """The image of an archive that is a blob already; the operation's result is `{"image": "name:version"}`."""
        if body.name is not None:
            check_name("image", body.name)
        if control.blobs.touch(body.sha256) is None:
            raise NotFound("blob", body.sha256, "Upload the archive first: POST /v1/blobs.")
        subject = f"image/{body.sha256[:12]}/load"
        return accepted(operations.submit("image.load", subject, body.model_dump(mode="json"), idempotency_key))

    @routes.post("/images/{name}/{version}/push", status_code=202, response_model=Operation)
    def push(name: str, version: str, body: PushBody, idempotency_key: IdempotencyKey = None) -> Response:
        """Push all platforms and what is attached to them; the operation's result is `{"pushed": [...], "digest"}`."""
        image = control.images.get(reference("image", name, version))
        control.oci.root(image)
        names = control.transfers.destination(image, body.destination, body.tags)
        request = {"image": image.reference, "names": [str(each) for each in names]}
        return accepted(operations.submit("image.push", f"image/{image.name}/push", request, idempotency_key))

    @routes.post("/gc", status_code=202, response_model=Operation)
    def collect(body: CollectBody, idempotency_key: IdempotencyKey = None) -> Response:
        """Delete what nothing needs any more; the operation's result is `{"freed": [Freed], "size_bytes"}`."""
        return accepted(operations.submit("gc", "garbage/collection", body.model_dump(), idempotency_key))

    return routes
