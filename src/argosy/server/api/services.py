"""`/v1/services`."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import StreamingResponse

from argosy.errors import Conflict, InvalidOption, NotFound, PreconditionFailed, UserError
from argosy.records import (
    Environment,
    Image,
    Operation,
    Page,
    Reference,
    Revision,
    Service,
    ServiceKeys,
    ServiceSettings,
    ServiceUsage,
    check_name,
)
from argosy.server.api.answers import Cursor, IdempotencyKey, Limit, accepted
from argosy.server.control import Control
from argosy.server.placement import build_orders, check_base, check_image, check_settings, is_ready
from argosy.server.requests import ManifestBody, RollbackBody, ServiceBody, ServiceChanges, TuningBody
from argosy.services.logs import Follower, tail
from argosy.services.settings import changed
from argosy.services.stored import Stored, check_manual, check_replicas
from argosy.services.view import service_record, usage_record

_FOLLOW_EVERY_S = 0.25


def router(control: Control) -> APIRouter:
    routes = APIRouter(prefix="/v1/services", tags=["services"])
    services, operations = control.services, control.operations

    @routes.get("")
    def page(limit: Limit = 100, cursor: Cursor = None) -> Page[Service]:
        found = services.page(limit, cursor)
        return Page([_service(control, stored) for stored in found.items], found.next)

    @routes.post("", status_code=202, response_model=Operation)
    def create(body: ServiceBody, idempotency_key: IdempotencyKey = None) -> Response:
        """Deploy an image, or a recipe whose manifest and image are made on the way."""
        check_name("service", body.name)
        subject = f"service/{body.name}"
        if known := operations.repeated("service.create", subject, idempotency_key):
            return accepted(known)
        request = _check_new(control, body)
        return accepted(operations.submit("service.create", subject, request, idempotency_key))

    @routes.get("/{name}")
    def show(name: str, response: Response) -> Service:
        """Everything about a service: state and why, replicas, revision, image, manifest and models."""
        found = replace(_service(control, services.get(name)), decisions=control.autoscaler.decisions(name))
        response.headers["etag"] = found.etag
        return found

    @routes.patch("/{name}", status_code=202, response_model=Operation)
    def update(
        name: str,
        body: ServiceChanges,
        idempotency_key: IdempotencyKey = None,
        if_match: Annotated[str | None, Header(alias="If-Match")] = None,
    ) -> Response:
        """Roll out another image, recipe or model version, or change replicas and settings; URL and keys stay."""
        subject = f"service/{name}"
        if known := operations.repeated("service.update", subject, idempotency_key):
            return accepted(known)
        stored = services.get(name)
        if if_match is not None and if_match != stored.etag:
            raise PreconditionFailed("Service", name)
        request = _check_changes(control, stored, body) | {"if_match": if_match}
        return accepted(operations.submit("service.update", subject, request, idempotency_key))

    @routes.delete("/{name}", status_code=202, response_model=Operation)
    def delete(name: str) -> Response:
        # Marked at once: whatever else is under way for this service gives up.
        services.mark_deleting(name)
        return accepted(operations.submit("service.delete", f"service/{name}", {"name": name}, supersedes=True))

    @routes.get("/{name}/keys")
    def keys(name: str) -> ServiceKeys:
        return control.keyring.keys(name)

    @routes.post("/{name}/keys/{slot}")
    def regenerate(name: str, slot: str) -> ServiceKeys:
        """A new key. Returns when every replica that answers has taken it over and refuses the old one."""
        control.keyring.regenerate(name, slot)
        control.reconciler.push_settings(name)
        control.reconciler.wake(name)
        return control.keyring.keys(name)

    @routes.get("/{name}/usage")
    def usage(name: str) -> ServiceUsage:
        found = _service(control, services.get(name))
        sample = None
        if found.image:
            samples = control.images.content(Reference.parse("image", found.image))[1].recipe.samples
            sample = samples[0]["input"] if samples else None
        return usage_record(found, sample, control.ca_file)

    @routes.get("/{name}/history")
    def history(name: str, limit: Limit = 100, cursor: Cursor = None) -> Page[Revision]:
        """All revisions, newest first."""
        return services.history(name, limit, cursor)

    @routes.post("/{name}/rollback", status_code=202, response_model=Operation)
    def roll_back(name: str, body: RollbackBody, idempotency_key: IdempotencyKey = None) -> Response:
        """Make revision `to` live again, or the one that was live before; an update under way is given up."""
        subject = f"service/{name}"
        if known := operations.repeated("service.rollback", subject, idempotency_key):
            return accepted(known)
        stored = services.get(name)
        if stored.deleting:
            raise Conflict(f"Service {name} is being deleted.")
        if body.to is not None:
            services.revision(name, body.to)
        giving_up = "service.update" in operations.works_on(subject)
        services.revision_before(name, body.to, giving_up)
        request = {"name": stored.name, "to": body.to, "giving_up": giving_up}
        # An update that is under way is given up: who rolls back does not want to wait for what goes wrong.
        return accepted(operations.submit("service.rollback", subject, request, idempotency_key, supersedes=True))

    @routes.post("/{name}/tuning", status_code=202, response_model=Operation)
    def tune(name: str, body: TuningBody, idempotency_key: IdempotencyKey = None) -> Response:
        """Load a scratch replica of the live revision; the operation's result is `{"tuning": {...}}`."""
        subject = f"service/{name}/tuning"
        if known := operations.repeated("service.tune", subject, idempotency_key):
            return accepted(known)
        request = {"name": services.get(name).name, "body": body.body, "rate": body.rate}
        return accepted(operations.submit("service.tune", subject, request, idempotency_key))

    @routes.get("/{name}/tuning")
    def tuning(name: str) -> dict[str, Any]:
        """What the last tuning found."""
        return control.tuner.last(name)

    @routes.get("/{name}/logs", response_class=StreamingResponse)
    def logs(
        request: Request,
        name: str,
        lines: Annotated[int, Query(ge=0, le=100_000)] = 1_000,
        request_id: str | None = None,
        follow: bool = False,
    ) -> StreamingResponse:
        """JSON lines of all replicas, oldest first; with `follow` also those to come, until the caller goes."""
        services.get(name)
        files = control.target.log_files(name)
        follower = Follower(files)
        begin = tail(files, lines, request_id) if lines else []
        stream = _stream(control, request, name, begin, follower if follow else None, request_id)
        return StreamingResponse(stream, media_type="application/x-ndjson")

    return routes


def _service(control: Control, stored: Stored) -> Service:
    number = stored.live_revision or stored.target_revision
    if number is None:
        newest = control.services.history(stored.name, 1, None).items
        number = newest[0].number if newest else None
    revision = control.services.revision(stored.name, number) if number is not None else None
    image = control.images.get(Reference.parse("image", revision.image)) if revision else None
    condition = control.reconciler.condition(stored)
    observed = control.reconciler.observed(stored.name)
    last_failure, _ = control.reconciler.failure(stored.name)
    return service_record(stored, condition, observed, revision, image, control.gateway_url, last_failure=last_failure)


def _check_new(control: Control, body: ServiceBody) -> dict[str, Any]:
    """Everything that can be refused at once is, so that no operation fails later for it."""
    if body.name in control.services.names():
        raise Conflict(f"Service {body.name} exists already. Change it with `argosy service update {body.name}`.")
    named = body.environment
    environment = control.environments.default() if named is None else control.environments.get(named)
    settings = changed(ServiceSettings(), body.settings)
    check_settings(environment, settings)
    check_base(environment, body.base)
    if body.replicas is not None:
        check_replicas(body.replicas)
        if settings.autoscale_enabled:
            raise InvalidOption("replicas", body.replicas, "the autoscaler sets it; give min_replicas and max_replicas")
    request = body.model_dump(mode="json", exclude={"image", "recipe", "base"})
    request["environment"] = environment.name
    request["replicas"] = 1 if body.replicas is None else body.replicas
    return request | _source(control, body.name, body.image, body.recipe, environment, body.base)


def _check_changes(control: Control, stored: Stored, body: ServiceChanges) -> dict[str, Any]:
    if stored.deleting:
        raise Conflict(f"Service {stored.name} is being deleted.")
    if body.replicas is not None:
        check_replicas(body.replicas)
    settings = changed(stored.settings, body.settings)
    check_manual(stored.name, settings, body.replicas)
    environment = control.environments.get(stored.environment)
    check_settings(environment, settings)
    check_base(environment, body.base)
    request = body.model_dump(mode="json", exclude={"image", "recipe", "models", "base"}, exclude_none=True)
    request["name"] = stored.name
    if body.image is None and body.recipe is None and body.models is None and body.base is None:
        return request
    if body.image is not None and body.models is not None:
        raise InvalidOption("models", body.models, "the image has its models already; give either of the two")
    recipe = body.recipe
    if body.image is None:
        # The live recipe with what was given instead.
        given = recipe.stored() if recipe else {}
        recipe = ManifestBody.model_validate(
            {"from": _live_manifest(control, stored), **given}
            | ({"models": body.models} if body.models is not None else {})
        )
    live = control.images.get(Reference.parse("image", found)) if (found := _service(control, stored).image) else None
    return request | _source(control, stored.name, body.image, recipe, environment, body.base, live)


def _live_manifest(control: Control, stored: Stored) -> str:
    service = _service(control, stored)
    manifest = service.manifest
    if manifest is None and service.image is not None:
        raise UserError(
            f"Service {stored.name} runs the image {service.image}, which was built elsewhere: there is no manifest "
            "here to change. Update the service with --image."
        )
    if manifest is None:
        raise NotFound("revision", f"{stored.name}/1")
    return manifest


def _source(
    control: Control,
    service: str,
    image: str | None,
    recipe: ManifestBody | None,
    environment: Environment,
    base: str | None,
    live: Image | None = None,
) -> dict[str, Any]:
    """What to deploy: exactly one of an image and a recipe. `base` and `live` tell what a new image stands on."""
    if (image is None) == (recipe is None):
        raise InvalidOption("image", image, "give either an image or the recipe of one")
    if image is not None:
        found = control.images.get(Reference.parse("image", image))
        check_image(environment, found, base)
        if is_ready(environment, found) and base is None:
            return {"image": found.reference}
        # Made for processes so far: its manifest is built once more, as what runs in that environment.
        orders = build_orders(environment, base, live)
        return {"manifest": found.manifest, "image_name": found.name, **orders}
    assert recipe is not None
    orders = build_orders(environment, base, live)
    return {"recipe": {**recipe.stored(), "name": recipe.name or service}, "image_name": service, **orders}


async def _stream(
    control: Control, request: Request, name: str, begin: list[str], follower: Follower | None, request_id: str | None
) -> AsyncIterator[str]:
    for line in begin:
        yield f"{line}\n"
    while follower is not None and not await request.is_disconnected() and not control.operations.stopping.is_set():
        files = await asyncio.to_thread(control.target.log_files, name)
        for line in await asyncio.to_thread(follower.read, files, request_id):
            yield f"{line}\n"
        await asyncio.sleep(_FOLLOW_EVERY_S)
