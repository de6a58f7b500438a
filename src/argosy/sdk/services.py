"""Services: create, update, look at, control, delete. `scoring` holds what their callers need."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Unpack

from argosy.errors import Conflict, InvalidOption, NotFound, UserError
from argosy.records import Model, Operation, Reference, Revision, Service, check_name
from argosy.sdk import models, operations, recipes
from argosy.sdk.files import Progress
from argosy.sdk.operations import OnMessage
from argosy.sdk.recipes import RecipeOptions
from argosy.sdk.wire import Flow, Request, all_pages, call, call_record, path_of


def create(
    name: str,
    *,
    image: str | None = None,
    environment: str | None = None,
    base_image: str | None = None,
    replicas: int | None = None,
    settings: Mapping[str, Any] | None = None,
    description: str = "",
    wait: bool = True,
    on_message: OnMessage | None = None,
    on_progress: Progress | None = None,
    **recipe: Unpack[RecipeOptions],
) -> Flow[Operation]:
    """From an image, or in one go from a recipe: register, manifest, image, deploy.

    Without `environment` it goes to the default one. `base_image` is what an image stands on that must be built for an
    environment of containers: `oci:DIR[:TAG]`, `docker-archive:FILE`, a registry's.

    `settings` are fields of ServiceSettings; `replicas` is 1 by default, and not given with `autoscale_enabled`, which
    sets it. The result is `{"service": "iris", "revision": 1}`.
    """
    check_name("service", name)
    body: dict[str, Any] = {
        "name": name,
        "settings": dict(settings or {}),
        "description": description,
    }
    if environment is not None:
        body["environment"] = check_name("environment", environment)
    if base_image is not None:
        body["base"] = base_image
    if replicas is not None:
        body["replicas"] = replicas
    if image is not None:
        _refuse_both(image, recipe)
        body["image"] = str(Reference.parse("image", image))
    else:
        plan = recipes.plan(name, recipe)
        yield from _refuse_existing(name)
        body["recipe"] = yield from recipes.send(plan, on_progress, on_message)
    request = Request("POST", path_of("services"), json=body, headers=operations.once(), repeatable=True)
    return (yield from operations.start(request, wait, on_message))


def update(
    name: str,
    *,
    image: str | None = None,
    base_image: str | None = None,
    replicas: int | None = None,
    settings: Mapping[str, Any] | None = None,
    description: str | None = None,
    etag: str | None = None,
    wait: bool = True,
    on_message: OnMessage | None = None,
    on_progress: Progress | None = None,
    **recipe: Unpack[RecipeOptions],
) -> Flow[Operation]:
    """Change what is given, without losing a request.

    `models` alone renew the live recipe with those versions. `model_files` takes one file or folder, registered as
    the next version of the one model that the live revision uses. Further recipe options are laid over the live
    manifest. `settings` are only the changed ones. `etag` (of Service) makes the update fail when somebody else has
    changed the service since it was read.
    """
    changes = {
        "base": base_image,
        "replicas": replicas,
        "settings": dict(settings) if settings else None,
        "description": description,
    }
    body: dict[str, Any] = {key: value for key, value in changes.items() if value is not None}
    if image is not None:
        _refuse_both(image, recipe)
        body["image"] = str(Reference.parse("image", image))
    elif recipes.given(recipe):
        body |= yield from _renewed(name, recipe, on_progress, on_message)
    if not body:
        raise UserError("Nothing to change was given. `argosy service update --help` shows what can be.")
    headers = operations.once() | ({"If-Match": etag} if etag else {})
    request = Request("PATCH", _path(name), json=body, headers=headers)
    return (yield from operations.start(request, wait, on_message))


def _refuse_existing(name: str) -> Flow[None]:
    """Before models are registered on the way to a service that cannot be made."""
    try:
        yield from show(name)
    except UserError as problem:
        if problem.status != NotFound.status:
            raise
        return
    raise Conflict(f"Service {name} exists already. Change it with `argosy service update {name}`.")


def _refuse_both(image: str, recipe: RecipeOptions) -> None:
    if recipes.given(recipe):
        raise InvalidOption("image", image, "give either an image or the options of a new manifest, not both")


def _renewed(
    name: str, recipe: RecipeOptions, on_progress: Progress | None, on_message: OnMessage | None
) -> Flow[dict[str, Any]]:
    """`{"models": [...]}` when only models change, else `{"recipe": ...}` on top of the live manifest."""
    service = yield from show(name)
    rest = recipe.copy()
    paths = rest.pop("model_files", ())
    references = list(rest.pop("models", ()))
    plan = recipes.plan(name, rest)
    if paths:
        if len(paths) > 1 or references:
            raise InvalidOption("the models", [str(path) for path in paths], "give one file, or references with -i")
        if recipes.given(rest):
            yield from recipes.check(plan, service.manifest)
        references = [(yield from _next_version(service, paths[0], on_progress, on_message)).reference]
    for reference in references:
        Reference.parse("model", reference)
    if not recipes.given(rest):
        return {"models": references}
    body = yield from recipes.send(plan, on_progress, on_message)
    if service.manifest:
        body.setdefault("from", service.manifest)
    return {"recipe": body | ({"models": references} if references else {})}


def _next_version(
    service: Service, path: recipes.PathLike, on_progress: Progress | None, on_message: OnMessage | None
) -> Flow[Model]:
    """Register `path` as the next version of the one model in use, under the file name that the live recipe loads."""
    live = _only_model(service)
    if live is None:
        model = yield from models.register(path, service.name, on_progress=on_progress, on_message=on_message)
    else:
        known = (yield from models.show(live)).files[0].path.partition("/")[0]
        name = Reference.parse("model", live).name
        model = yield from models.register(path, name, file_name=known, on_progress=on_progress, on_message=on_message)
    if on_message:
        stored = model.files[0].path.partition("/")[0]
        renamed = f" ({path} as {stored}, the name that the recipe knows)" if stored != Path(path).name else ""
        on_message(f"registered model {model.reference}{renamed}")
    return model


def _only_model(service: Service) -> str | None:
    """Reference of the model that a new file is the next version of; None when the service uses none."""
    if len(service.models) > 1:
        raise InvalidOption(
            "-m",
            service.name,
            f"the service uses {len(service.models)} models ({', '.join(service.models)}). Register the new version "
            "(`argosy model register FILE -n NAME`) and name all of them with -i.",
        )
    return service.models[0] if service.models else None


def list_all() -> Flow[list[Service]]:
    return (yield from all_pages(Service, path_of("services")))


def show(name: str) -> Flow[Service]:
    return (yield from call_record(Service, Request("GET", _path(name))))


def scale(name: str, replicas: int, *, wait: bool = True, on_message: OnMessage | None = None) -> Flow[Operation]:
    request = Request("PATCH", _path(name), json={"replicas": replicas}, headers=operations.once())
    return (yield from operations.start(request, wait, on_message))


def tune(
    name: str,
    *,
    body: str | None = None,
    rate: float | None = None,
    wait: bool = True,
    on_message: OnMessage | None = None,
) -> Flow[Operation]:
    """Load a scratch replica of the live revision for about a minute, with its samples or `body`.

    The operation's result has `tuning`: `curves` (slots, batch, points of clients, rate, p50_ms, p99_ms, cores; the
    knee's clients) and a `proposal` with reasons. `rate`: requests a second that the replicas shall carry.
    """
    given = {key: value for key, value in (("body", body), ("rate", rate)) if value is not None}
    request = Request("POST", f"{_path(name)}/tuning", json=given, headers=operations.once(), repeatable=True)
    return (yield from operations.start(request, wait, on_message))


def tuning(name: str) -> Flow[dict[str, Any]]:
    """What the last `tune` found."""
    found: dict[str, Any] = (yield from call(Request("GET", f"{_path(name)}/tuning"))).json()
    return found


def delete(name: str, *, wait: bool = True, on_message: OnMessage | None = None) -> Flow[Operation]:
    """Stops its replicas and frees its name; what it was made of stays."""
    request = Request("DELETE", _path(name), headers=operations.once())
    return (yield from operations.start(request, wait, on_message))


def history(name: str) -> Flow[list[Revision]]:
    """All revisions, newest first."""
    return (yield from all_pages(Revision, f"{_path(name)}/history"))


def rollback(
    name: str, to: int | None = None, *, wait: bool = True, on_message: OnMessage | None = None
) -> Flow[Operation]:
    """Back to revision `to`; None means the one that was live before."""
    request = Request("POST", f"{_path(name)}/rollback", json={"to": to}, headers=operations.once(), repeatable=True)
    return (yield from operations.start(request, wait, on_message))


def _path(name: str) -> str:
    return path_of("services", check_name("service", name))
