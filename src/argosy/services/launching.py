"""From a revision to what its replicas start with: the image on disk, variables, secrets looked up."""

import os

from argosy.environments.target import Launch
from argosy.images.build import ImageBuilder
from argosy.records import Reference
from argosy.services.registry import ServiceRegistry
from argosy.services.secret_references import look_up


class Launcher:
    """Called by the reconciler for every start, so that a changed secret reaches the next replica."""

    def __init__(self, registry: ServiceRegistry, images: ImageBuilder) -> None:
        self._registry = registry
        self._images = images

    def __call__(self, service: str, number: int) -> Launch:
        """May take long when the environment must be built again. Raises the Error that says why it cannot start."""
        revision = self._registry.revision(service, number)
        runnable = self._images.runnable(Reference.parse("image", revision.image))
        recipe, settings = runnable.manifest.recipe, revision.settings
        # What the service sets lies over what the manifest says, a plain value over a secret too.
        references = {name: at for name, at in recipe.secrets.items() if name not in settings.environment}
        secrets = look_up({**references, **settings.secrets}, os.environ)
        return Launch(
            service=service,
            revision=number,
            image_folder=runnable.folder,
            python=runnable.python,
            runtime_folder=runnable.runtime_folder,
            models=[(pin.name, pin.version) for pin in runnable.image.models],
            slots=settings.max_concurrent_requests,
            cpu=settings.cpu,
            init_timeout_s=settings.init_timeout_s,
            variables={**recipe.environment, **settings.environment, **secrets},
        )
