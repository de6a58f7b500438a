"""What a service needs to run in its environment: settings that fit its kind, an image of the right sort."""

from typing import Any

from argosy.environments.container.engines import Engines
from argosy.environments.container.images import EngineImages
from argosy.environments.registry import EnvironmentRegistry
from argosy.errors import InvalidOption, UserError
from argosy.images.build import check_process
from argosy.images.oci.platforms import own_platform
from argosy.images.registry import ImageRegistry
from argosy.records import Environment, Image, Reference, ServiceSettings
from argosy.server.operations import Job
from argosy.services.registry import ServiceRegistry


def check_settings(environment: Environment, settings: ServiceSettings) -> None:
    """InvalidOption for what this kind of environment cannot do."""
    if environment.kind == "process" and settings.memory_bytes is not None:
        raise InvalidOption(
            "memory_bytes",
            settings.memory_bytes,
            f"replicas in environment {environment.name} are processes, whose memory is not limited. Use an "
            "environment of containers: `argosy env create NAME --kind container`, then --env NAME",
        )


def check_base(environment: Environment, base: str | None) -> None:
    if base is not None and environment.kind != "container":
        raise InvalidOption(
            "--base",
            base,
            f"services in environment {environment.name} are processes, and only what runs in a container has a base",
        )


def check_image(environment: Environment, image: Image, base: str | None) -> None:
    """Raise UserError where an image that was built elsewhere, so that it cannot be built anew here, will not do."""
    if image.manifest:
        return
    if environment.kind != "container":
        check_process(image)
    elif base is not None:
        raise InvalidOption("--base", base, f"image {image.reference} was built elsewhere, on a base of its own")
    elif not is_ready(environment, image):
        raise UserError(
            f"Image {image.reference} is for {', '.join(sorted(image.oci))}, and the containers of environment "
            f"{environment.name} are for {own_platform()}. Pull or load it with that platform."
        )


def is_ready(environment: Environment, image: Image) -> bool:
    """Whether the image can run there as it is."""
    return environment.kind != "container" or own_platform() in image.oci


def build_orders(environment: Environment, base: str | None, live: Image | None) -> dict[str, Any]:
    """What an operation must know to build an image for this environment. `live` is what the service runs now: the
    next one stands on the same base unless another is named."""
    if environment.kind != "container":
        return {}
    orders: dict[str, Any] = {"platforms": [own_platform()]}
    if base is not None:
        return {"oci": {**orders, "base": base}}
    known = next((layer.key for layer in live.layers if layer.kind == "base"), "") if live else ""
    if not known.startswith("sha256:"):
        return {"oci": {**orders, "base": None}}  # the default one
    return {"oci": {**orders, "base": known, "base_digest": known}}


class Placement:
    """The step of a deploy that brings the image to where its replicas start, so that no start has to wait for it."""

    def __init__(
        self,
        environments: EnvironmentRegistry,
        services: ServiceRegistry,
        images: ImageRegistry,
        engines: Engines,
        engine_images: EngineImages,
    ) -> None:
        self._environments, self._services, self._images = environments, services, images
        self._engines, self._engine_images = engines, engine_images

    def load(self, job: Job) -> dict[str, Any]:
        named = job.made.get("image") or job.input.get("image")
        if named is not None:
            self.bring(job, named)
        return {}

    def bring(self, job: Job, named: str) -> None:
        """Nothing happens where replicas are processes."""
        where = job.input.get("environment") or self._services.get(job.input["name"]).environment
        environment = self._environments.get(where)
        if environment.kind == "container":
            image = self._images.get(Reference.parse("image", named))
            engine = self._engines.get(environment.engine)
            self._engine_images.ensure(engine, image.oci[own_platform()], job.say)
