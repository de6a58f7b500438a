"""From a revision to what its replicas start with: the image, variables, secrets looked up."""

import os
from collections.abc import Mapping

from argosy.environments.container.replica import IMAGE
from argosy.environments.registry import EnvironmentRegistry
from argosy.environments.target import Container, Launch
from argosy.errors import EnvironmentFailed
from argosy.images.build import ImageBuilder
from argosy.images.oci.platforms import own_platform
from argosy.images.registry import ImageRegistry
from argosy.records import Environment, Manifest, Reference, Revision
from argosy.services.registry import ServiceRegistry
from argosy.services.secret_references import look_up


class Launcher:
    """Called by the reconciler for every start, so that a changed secret reaches the next replica."""

    def __init__(
        self,
        registry: ServiceRegistry,
        builder: ImageBuilder,
        images: ImageRegistry,
        environments: EnvironmentRegistry,
    ) -> None:
        self._registry = registry
        self._builder = builder
        self._images = images
        self._environments = environments

    def __call__(self, service: str, number: int) -> Launch:
        """May take long when the environment must be built again. Raises the Error that says why it cannot start."""
        environment = self._environments.get(self._registry.get(service).environment)
        if environment.kind == "container":
            return self._in_container(environment, self._registry.revision(service, number))
        return self._as_process(self._registry.revision(service, number))

    def _as_process(self, revision: Revision) -> Launch:
        runnable = self._builder.runnable(Reference.parse("image", revision.image))
        settings = revision.settings
        return Launch(
            service=revision.service,
            revision=revision.number,
            image_folder=runnable.folder,
            python=runnable.python,
            runtime_folder=runnable.runtime_folder,
            models=[(pin.name, pin.version) for pin in runnable.image.models],
            slots=settings.max_concurrent_requests,
            cpu=settings.cpu,
            init_timeout_s=settings.init_timeout_s,
            variables=_variables(runnable.manifest, revision),
        )

    def _in_container(self, environment: Environment, revision: Revision) -> Launch:
        image, manifest, _ = self._images.content(Reference.parse("image", revision.image))
        digest = image.oci.get(own_platform())
        if digest is None:
            raise EnvironmentFailed(
                f"Image {image.reference} is no container image for {own_platform()}. Build it: argosy image create "
                f"-n {image.name} --manifest {image.manifest} --builder oci --base BASE"
            )
        settings = revision.settings
        return Launch(
            service=revision.service,
            revision=revision.number,
            image_folder=IMAGE,
            python=IMAGE.parent / "bin" / "python",
            runtime_folder=IMAGE.parent / "runtime",
            models=[(pin.name, pin.version) for pin in image.models],
            slots=settings.max_concurrent_requests,
            cpu=settings.cpu,
            init_timeout_s=settings.init_timeout_s,
            variables=_variables(manifest, revision),
            container=Container(
                environment.name, environment.engine, digest, image.reference, settings.memory_bytes
            ),
        )  # fmt: skip


def _variables(manifest: Manifest, revision: Revision) -> Mapping[str, str]:
    """What the service sets lies over what the manifest says, a plain value over a secret too."""
    recipe, settings = manifest.recipe, revision.settings
    references = {name: at for name, at in recipe.secrets.items() if name not in settings.environment}
    secrets = look_up({**references, **settings.secrets}, os.environ)
    return {**recipe.environment, **settings.environment, **secrets}
