"""Who uses which model versions: manifests, their images, the revisions of those and the services they serve."""

from collections.abc import Sequence

from sqlalchemy import Connection, select

from argosy.records import Usage
from argosy.store.tables import images, manifest_models, manifests, revisions, services


def usage_of(connection: Connection, model_ids: Sequence[int]) -> dict[int, Usage]:
    """Three queries however many models are asked about. A service uses a model while its live or target revision
    does; revisions are all that there ever were. Newest first."""
    used = {model_id: Usage() for model_id in model_ids}
    within = manifest_models.c.model_id.in_(model_ids)
    of_manifests = (
        select(manifest_models.c.model_id, manifests.c.name, manifests.c.version)
        .join(manifests, manifests.c.id == manifest_models.c.manifest_id)
        .where(within)
        .order_by(manifests.c.id.desc())
    )
    for model_id, name, version in connection.execute(of_manifests):
        used[model_id].manifests.append(f"{name}:{version}")
    of_images = (
        select(manifest_models.c.model_id, images.c.name, images.c.version)
        .join(images, images.c.manifest_id == manifest_models.c.manifest_id)
        .where(within)
        .order_by(images.c.id.desc())
    )
    for model_id, name, version in connection.execute(of_images):
        used[model_id].images.append(f"{name}:{version}")
    of_revisions = (
        select(
            manifest_models.c.model_id,
            services.c.name,
            revisions.c.number,
            services.c.live_revision,
            services.c.target_revision,
        )
        .join(images, images.c.manifest_id == manifest_models.c.manifest_id)
        .join(revisions, revisions.c.image_id == images.c.id)
        .join(services, services.c.id == revisions.c.service_id)
        .where(within)
        .order_by(revisions.c.id.desc())
    )
    for model_id, name, number, live, target in connection.execute(of_revisions):
        used[model_id].revisions.append(f"{name}/{number}")
        if number in (live, target) and name not in used[model_id].services:
            used[model_id].services.append(name)
    return used


def users(usage: Usage) -> list[str]:
    """Words for an InUse error, the nearest users first."""
    return [
        *(f"service {name}" for name in usage.services),
        *(f"revision {name}" for name in usage.revisions),
        *(f"image {name}" for name in usage.images),
        *(f"manifest {name}" for name in usage.manifests),
    ]
