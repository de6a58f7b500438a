"""Builds images for the process runtime: the environment from the lock, the folder from the plan, then the row."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from argosy.errors import UserError
from argosy.images.conda import conda_python
from argosy.images.leases import REMOVED, Leases
from argosy.images.plan import Plan, image_json, plan
from argosy.images.pythons import Python, find_python
from argosy.images.registry import ImageRegistry, manifest_contents
from argosy.images.runtimes import install_runtime, runtime_digest
from argosy.images.unpack import BlobPath, image_folder, sweep, unpack
from argosy.images.venvs import (
    Build,
    check_environment,
    ensure_environment,
    environment_folder,
    environment_key,
    environment_python,
)
from argosy.manifests.channels import Channels
from argosy.manifests.dependencies import Dependencies
from argosy.manifests.lock import index_for
from argosy.records import Image, Manifest, Reference, check_name
from argosy.settings import Home, Settings
from argosy.store.db import Database

Say = Callable[[str], None]


@dataclass(frozen=True)
class Runnable:
    """What a replica of an image needs on this machine."""

    image: Image
    manifest: Manifest
    folder: Path
    python: Path
    runtime_folder: Path


@dataclass(frozen=True)
class Place:
    """Where an image lies on this machine, registered or not."""

    folder: Path
    python: Path
    runtime_folder: Path


class ImageBuilder:
    """Everything it does is keyed by content, so it can be repeated at any time."""

    def __init__(
        self,
        home: Home,
        settings: Settings,
        database: Database,
        images: ImageRegistry,
        blob_path: BlobPath,
        version: str,
        leases: Leases | None = None,
    ) -> None:
        self._leases = leases or Leases()
        self._home = home
        self._settings = settings
        self._database = database
        self._images = images
        self._blob_path = blob_path
        self._version = version
        sweep(home.images)
        # Nothing else: a uv that outlived its control plane may still build there.
        sweep(home.envs, f"{REMOVED}*")

    def create(self, name: str, manifest: Manifest, description: str, say: Say) -> Image:
        """The image of a manifest; the same manifest gives the same image."""
        check_name("image", name)
        key = environment_key(manifest.recipe.lock, _python_of(manifest))
        models = manifest_contents(self._database, manifest)
        made = plan(manifest, models, key, runtime_digest(), self._version)
        self._prepare(manifest, made.digest, key, say)
        return self._images.create(name, manifest, Plan(**vars(made)), description)

    def runnable(self, reference: Reference, say: Say = lambda line: None) -> Runnable:
        """An image ready to run; what was deleted from the disk meanwhile is made again."""
        image, manifest, _ = self._images.content(reference)
        check_process(image)
        self._prepare(manifest, image.digest, image.environment_key, say)
        return Runnable(
            image,
            manifest,
            image_folder(self._home.images, image.digest),
            environment_python(self._home.envs, image.environment_key),
            install_runtime(self._home.envs),
        )

    def place(self, manifest: Manifest, say: Say) -> Place:
        """The image that `create` would make, on disk alone: built when it is missing, and not registered."""
        key = environment_key(manifest.recipe.lock, _python_of(manifest))
        models = manifest_contents(self._database, manifest)
        made = plan(manifest, models, key, runtime_digest(), self._version)
        self._prepare(manifest, made.digest, key, say)
        folder = image_folder(self._home.images, made.digest)
        return Place(folder, environment_python(self._home.envs, key), install_runtime(self._home.envs))

    def delete(self, reference: Reference) -> None:
        """Delete the image, and from the disk what no other image needs."""
        image = self._images.delete(reference)
        digests, keys = self._images.keys_in_use()
        folder, key = image_folder(self._home.images, image.digest), image.environment_key
        # Unless somebody at work, as a build that is not registered yet, uses them.
        with self._leases.hold():
            if image.digest not in digests:
                self._leases.remove_folder(f"folder:{folder.name}", folder)
            if key and key not in keys:
                self._leases.remove_folder(f"env:{key}", environment_folder(self._home.envs, key))

    def _prepare(self, manifest: Manifest, plan_digest: str, key: str, say: Say) -> None:
        lock = manifest.recipe.lock
        self._leases.use(f"env:{key}")
        self._leases.use(f"folder:{image_folder(self._home.images, plan_digest).name}")
        if check_environment(self._home.envs, key):
            say(f"Building the environment: Python {_python_of(manifest)}, {len(lock.packages)} packages")
            named = Dependencies(
                index_url=manifest.recipe.index_url, extra_index_urls=tuple(manifest.recipe.extra_index_urls)
            )
            index = index_for(named, self._settings.index_url, self._settings.extra_index_url)
            channels = Channels.of(self._settings.conda_channels)
            ensure_environment(self._home.envs, Build(key, lock, self._python(manifest, key), index, "", channels), say)
        models = manifest_contents(self._database, manifest)
        description = image_json(plan_digest, manifest, models)
        unpack(self._home.images, description, manifest.recipe.files, models, self._blob_path)
        install_runtime(self._home.envs)

    def _python(self, manifest: Manifest, key: str) -> Python:
        """What the environment is made with: a Python of this machine, or the one that comes with conda's packages."""
        lock = manifest.recipe.lock
        if not lock.conda:
            return find_python(_python_of(manifest))
        return conda_python(lock, environment_python(self._home.envs, key))


def check_process(image: Image) -> None:
    """Raise UserError for an image whose replicas cannot be processes here."""
    if not image.manifest:
        raise UserError(
            f"Image {image.reference} came from {image.source} as a container: replicas that are processes need the "
            "manifest that it was built from, which is not in this home. Run it in an environment of kind container, "
            "or make the image here: `argosy image create -n NAME --manifest MANIFEST`."
        )


def _python_of(manifest: Manifest) -> str:
    """`3.12`, or `3.12.4` where exactly that one was asked for."""
    return manifest.recipe.runtime.removeprefix("python:")
