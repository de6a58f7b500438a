"""Everything a request handler may need, built once by the composition root."""

from collections.abc import Callable
from dataclasses import dataclass

from argosy.environments.registry import EnvironmentRegistry
from argosy.environments.target import Target
from argosy.gateway.gateway import Gateway
from argosy.images.build import ImageBuilder
from argosy.images.distribution.registries import Registries
from argosy.images.oci.create import OciImages
from argosy.images.registry import ImageRegistry
from argosy.images.transfers import Transfers
from argosy.manifests.create import ManifestBuilder
from argosy.manifests.registry import ManifestRegistry
from argosy.models.registry import ModelRegistry
from argosy.server.operations import OperationRunner
from argosy.server.tuner import Tuner
from argosy.services.keyring import Keyring
from argosy.services.reconcile import Reconciler
from argosy.services.registry import ServiceRegistry
from argosy.services.scaling import Autoscaler
from argosy.settings import Home, Settings
from argosy.store.blobs import LocalBlobs
from argosy.store.db import Database


@dataclass(frozen=True)
class Control:
    """The objects of one control plane. `url` and `gateway_url` are what users type; `shutdown(services)` ends it, and
    with True also every replica and the gateway."""

    home: Home
    settings: Settings
    database: Database
    blobs: LocalBlobs
    models: ModelRegistry
    manifests: ManifestRegistry
    recipes: ManifestBuilder
    images: ImageRegistry
    image_builder: ImageBuilder
    registries: Registries
    oci: OciImages
    transfers: Transfers
    environments: EnvironmentRegistry
    services: ServiceRegistry
    keyring: Keyring
    target: Target
    tuner: Tuner
    reconciler: Reconciler
    autoscaler: Autoscaler
    gateway: Gateway
    operations: OperationRunner
    url: str
    gateway_url: str
    ca_file: str | None
    started_at: str
    version: str
    shutdown: Callable[[bool], None]
