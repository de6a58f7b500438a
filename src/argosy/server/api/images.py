"""`/v1/images`."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from fastapi.responses import PlainTextResponse, StreamingResponse

from argosy.errors import InvalidOption
from argosy.images.docker import dockerfile as docker
from argosy.images.docker.steps import check_sources, parse
from argosy.images.oci.archive import archive
from argosy.images.oci.attachments import attached, needed
from argosy.images.oci.layers import tar_of
from argosy.images.oci.layout import OciLayout
from argosy.images.oci.platforms import own_platform, parse_platforms
from argosy.images.oci.tree import held, reachable
from argosy.images.usage.answer import usage as build_usage
from argosy.images.usage.place import check_elsewhere, place_of
from argosy.records import Image, ImageUsage, Operation, Page, Reference, check_name
from argosy.server.api.answers import Cursor, IdempotencyKey, Limit, accepted, reference
from argosy.server.control import Control
from argosy.server.requests import ImageBody, ImageRunBody


def router(control: Control) -> APIRouter:
    routes = APIRouter(prefix="/v1/images", tags=["images"])
    images = control.images

    @routes.get("")
    def page(limit: Limit = 100, cursor: Cursor = None) -> Page[Image]:
        """The newest version of each name."""
        return images.page(limit, cursor)

    @routes.post("", status_code=202, response_model=Operation)
    def create(body: ImageBody, idempotency_key: IdempotencyKey = None) -> Response:
        """Build the environment and the image; the operation's result is `{"image": "name:version"}`.

        With `builder` oci an OCI image is built on `base` (or the default one) for `platforms` instead of the
        environment; with docker, `docker_steps` run on the base before (RUN, ENV, ARG, LABEL, EXPOSE, COPY), `fresh`
        each of them again.
        """
        check_name("image", body.name)
        request: dict[str, Any] = {"image_name": body.name, "image_description": body.description, **_oci(body)}
        if isinstance(body.manifest, str):
            manifest = control.manifests.get(Reference.parse("manifest", body.manifest))
            request["manifest"] = manifest.reference
            _check_sources(body, [entry.path for entry in manifest.recipe.files])
        else:
            if body.manifest.from_ is None:
                _check_sources(body, [entry.path for entry in body.manifest.files or []])
            request["recipe"] = {"name": body.name, **body.manifest.stored()}
        return accepted(control.operations.submit("image.create", f"image/{body.name}", request, idempotency_key))

    @routes.get("/{name}")
    def versions(name: str, limit: Limit = 100, cursor: Cursor = None) -> Page[Image]:
        return images.page(limit, cursor, name)

    @routes.get("/{name}/log", response_class=PlainTextResponse)
    def last_log(name: str) -> str:
        """Of the last build with steps under this name, also one that failed."""
        return control.oci.log(check_name("image", name), None)

    @routes.get("/{name}/{version}/log", response_class=PlainTextResponse)
    def log(name: str, version: str) -> str:
        """Of the build of this version."""
        image = images.get(reference("image", name, version))
        return control.oci.log(image.name, image.version)

    @routes.get("/{name}/{version}")
    def show(name: str, version: str) -> Image:
        image = images.get(reference("image", name, version))
        contents = control.oci.contents(image)
        return replace(image, contents=contents, packages=_packages(control, image))

    @routes.get("/{name}/{version}/archive", response_class=StreamingResponse)
    def save(name: str, version: str, platform: str | None = None) -> StreamingResponse:
        """The OCI image of one platform as one archive, for `podman load` and `docker load`."""
        image = images.get(reference("image", name, version))
        chosen, digest = control.oci.chosen(image, platform)
        layout = _verified(control, digest)
        size_bytes, content = archive(layout, image.reference, layout.descriptor(digest, chosen))
        headers = {"content-length": str(size_bytes), "etag": f'"{digest}"'}
        return StreamingResponse(content, media_type="application/x-tar", headers=headers)

    @routes.get("/{name}/{version}/sbom")
    def sbom(name: str, version: str, platform: str | None = None) -> dict[str, Any]:
        """The bill of materials of one platform: CycloneDX 1.6."""
        image = images.get(reference("image", name, version))
        return needed(control.oci.layout, control.oci.chosen(image, platform)[1], "sbom")

    @routes.get("/{name}/{version}/provenance")
    def provenance(name: str, version: str, platform: str | None = None) -> dict[str, Any]:
        """What one platform was built from: an in-toto statement with a SLSA provenance."""
        image = images.get(reference("image", name, version))
        return needed(control.oci.layout, control.oci.chosen(image, platform)[1], "provenance")

    @routes.get("/{name}/{version}/usage")
    def usage(
        name: str,
        version: str,
        platform: str | None = None,
        elsewhere: str | None = None,
        port: Annotated[int | None, Query(ge=1, le=65535)] = None,
    ) -> ImageUsage:
        """Commands and files that run it where there is no Argosy. `elsewhere` is its name in a registry."""
        image, manifest, _ = images.content(reference("image", name, version))
        if elsewhere is not None and not check_elsewhere(elsewhere):
            raise InvalidOption("--reference", elsewhere, "write HOST/NAME:TAG or HOST/NAME@sha256:...")
        place = place_of(image, manifest, control.oci.chosen(image, platform)[0], elsewhere, port)
        given = {"--platform": platform, "--reference": elsewhere, "--port": port}
        options = [word for option, value in given.items() if value is not None for word in (option, str(value))]
        return build_usage(place, image.reference, options)

    @routes.get("/{name}/{version}/dockerfile", response_class=PlainTextResponse)
    def dockerfile(name: str, version: str, platform: str | None = None) -> str:
        """What builds the image by hand, with the context beside it."""
        image = images.get(reference("image", name, version))
        return docker.dockerfile(control.oci.layout, image.reference, control.oci.chosen(image, platform)[1])

    @routes.get("/{name}/{version}/context", response_class=StreamingResponse)
    def context(name: str, version: str, platform: str | None = None) -> StreamingResponse:
        """The Dockerfile with all it needs beside it, as an archive."""
        image, manifest, _ = images.content(reference("image", name, version))
        digest = control.oci.chosen(image, platform)[1]
        files, blobs = manifest.recipe.files, control.blobs.path
        layout = _verified(control, digest)
        content = docker.context(layout, image.reference, digest, files, blobs)
        return StreamingResponse(held(layout, digest, tar_of(content)), media_type="application/x-tar")

    @routes.post("/{name}/{version}/run", status_code=202, response_model=Operation)
    def run(name: str, version: str, body: ImageRunBody, idempotency_key: IdempotencyKey = None) -> Response:
        """Start one replica, ask it a sample, stop it; the operation's result is `{"image", "run": {...}}`."""
        image = images.get(reference("image", name, version))
        if body.environment is not None:
            control.environments.get(body.environment)
        if body.sample is not None and "input" not in body.sample:
            raise InvalidOption("sample", sorted(body.sample), "it must have `input`, and may have `output`")
        request = {"image": image.reference, **body.model_dump(mode="json")}
        subject = f"image/{image.reference}/run"
        return accepted(control.operations.submit("image.run", subject, request, idempotency_key))

    @routes.delete("/{name}/{version}", status_code=204)
    def delete(name: str, version: str) -> None:
        """409 while a revision of a service has it."""
        named = Reference.parse("image", f"{name}:{version}")
        control.image_builder.delete(named)
        control.oci.forget(named)

    return routes


def _verified(control: Control, digest: str) -> OciLayout:
    """The layout, each byte below `digest` read again: what has begun to be sent cannot be refused any more."""
    layout = control.oci.layout
    for blob in reachable(layout, digest):
        layout.verify(blob)
    return layout


def _packages(control: Control, image: Image) -> dict[str, str]:
    """What is installed: by the manifest's lock, or by the bill of materials that came with the image."""
    if image.manifest:
        return control.manifests.get(Reference.parse("manifest", image.manifest)).recipe.lock.packages
    for digest in image.oci.values():
        bill = attached(control.oci.layout, digest, "sbom") or {}
        listed = bill.get("components")
        parts = [
            part
            for part in (listed if isinstance(listed, list) else [])
            if isinstance(part, dict) and str(part.get("purl", "")).startswith(("pkg:pypi/", "pkg:conda/"))
        ]
        return {str(part.get("name")): str(part.get("version", "")) for part in parts}
    return {}


def _oci(body: ImageBody) -> dict[str, Any]:
    """What an operation must know to build an OCI image; nothing when none is asked for."""
    if body.builder is None and (body.docker_steps is not None or body.fresh):
        raise InvalidOption("--builder", None, "--docker-steps and --fresh need --builder docker")
    if body.builder is None and body.base is None and not body.platforms:
        return {}
    platforms = parse_platforms(body.platforms or [own_platform()])
    return {"oci": {"base": body.base, "platforms": [platform.name for platform in platforms], **_docker(body)}}


def _docker(body: ImageBody) -> dict[str, Any]:
    """What the Docker builder needs besides; nothing for the other one."""
    if body.builder != "docker":
        if body.docker_steps is not None or body.fresh:
            raise InvalidOption("--builder", body.builder, "--docker-steps and --fresh need --builder docker")
        return {}
    if body.docker_steps is None:
        raise InvalidOption(
            "--docker-steps", None, "--builder docker runs the steps of a file; without any, --builder oci is enough"
        )
    if len(body.platforms) > 1:
        raise InvalidOption(
            "--platform", ",".join(body.platforms), "--builder docker builds for the platform of its engine alone"
        )
    parse(body.docker_steps, body.docker_steps_name)
    return {"docker": {"text": body.docker_steps, "name": body.docker_steps_name, "fresh": body.fresh}}


def _check_sources(body: ImageBody, files: Sequence[str]) -> None:
    """That COPY finds what it names in a manifest with these files."""
    if body.docker_steps is not None:
        check_sources(parse(body.docker_steps, body.docker_steps_name), files, body.docker_steps_name)
