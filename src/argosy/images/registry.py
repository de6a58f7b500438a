"""Registered images: rows that name a plan, found by name and version."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, Select, func, select

from argosy.errors import InUse, NotFound
from argosy.images.oci.described import Described
from argosy.images.plan import ModelContent, Plan
from argosy.records import (
    FileEntry,
    Image,
    Layer,
    Manifest,
    ModelPin,
    Page,
    Recipe,
    Reference,
    Usage,
    decode,
    encode,
    utc_now,
)
from argosy.store.db import Database, next_version
from argosy.store.paging import after, cursor_of
from argosy.store.tables import images, manifest_models, manifests, model_files, models, revisions, services


class ImageRegistry:
    """Images by name and version."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, name: str, manifest: Manifest, plan: Plan, description: str = "") -> Image:
        """The image of this plan under `name`: the latest version when it already is this plan, else a new one."""
        with self._database.write() as connection:
            latest = connection.execute(_rows().where(images.c.name == name).order_by(images.c.version.desc())).first()
            wanted = (plan.digest, manifest.name, manifest.version)
            if latest and (latest.digest, latest.manifest_name, latest.manifest_version) == wanted:
                return self._records(connection, [latest])[0]
            manifest_id = connection.execute(
                select(manifests.c.id).where(manifests.c.name == manifest.name, manifests.c.version == manifest.version)
            ).scalar()
            if manifest_id is None:
                raise NotFound("manifest", manifest.reference)
            version = next_version(connection, "image", name)
            connection.execute(
                images.insert().values(
                    name=name,
                    version=version,
                    digest=plan.digest,
                    manifest_id=manifest_id,
                    plan={
                        "layers": [vars(layer) for layer in plan.layers],
                        "entrypoint": plan.entrypoint,
                        "labels": plan.labels,
                    },
                    environment_key=plan.environment_key,
                    description=description,
                    created_at=utc_now(),
                )
            )
            return self._one(connection, Reference(name, version))

    def adopt(self, name: str, described: Described, source: str, description: str = "") -> Image:
        """An image that was built elsewhere, under `name`: the latest version when it is this one already, else a new
        one. It has no manifest here."""
        kept = {
            "layers": [vars(layer) for layer in described.layers],
            "entrypoint": described.entrypoint,
            "labels": described.labels,
            "manifest_digest": described.manifest_digest,
            "recipe": encode(described.recipe),
            "source": source,
        }
        with self._database.write() as connection:
            latest = connection.execute(_rows().where(images.c.name == name).order_by(images.c.version.desc())).first()
            if latest and latest.oci == described.manifests:
                return self._records(connection, [latest])[0]
            version = next_version(connection, "image", name)
            connection.execute(
                images.insert().values(
                    name=name,
                    version=version,
                    digest=described.digest,
                    manifest_id=None,
                    plan=kept,
                    oci=described.manifests,
                    environment_key="",
                    description=description,
                    created_at=utc_now(),
                )
            )
            return self._one(connection, Reference(name, version))

    def set_oci(self, image: Image, digests: Mapping[str, str]) -> Image:
        """Note the OCI digests of these platforms beside those of others."""
        with self._database.write() as connection:
            this = (images.c.name == image.name) & (images.c.version == image.version)
            known = connection.execute(select(images.c.oci).where(this)).scalar_one_or_none() or {}
            connection.execute(images.update().where(this).values(oci={**known, **digests}))
            return self._one(connection, Reference(image.name, image.version))

    def get(self, reference: Reference) -> Image:
        """The newest version when the reference names none."""
        with self._database.read() as connection:
            return self._one(connection, reference)

    def page(self, limit: int, cursor: str | None, name: str | None = None) -> Page[Image]:
        """Without `name` the newest version of each name, by name; with it all versions, newest first."""
        with self._database.read() as connection:
            statement = _rows().limit(limit + 1)
            if name is None:
                newest = select(func.max(images.c.id)).group_by(images.c.name)
                statement = statement.where(images.c.id.in_(newest), images.c.name > after(cursor, "")).order_by(
                    images.c.name
                )
            else:
                statement = statement.where(images.c.name == name, images.c.version < after(cursor, 2**31)).order_by(
                    images.c.version.desc()
                )
            rows = connection.execute(statement).all()
            if name is not None and not rows and cursor is None:
                raise NotFound("image", name)
            found = self._records(connection, rows[:limit])
        more = len(rows) > limit
        return Page(found, cursor_of(found[-1].name if name is None else found[-1].version) if more else None)

    def delete(self, reference: Reference) -> Image:
        """The image that was deleted. InUse while a revision of a service has it."""
        with self._database.write() as connection:
            image = self._one(connection, reference)
            if image.used_by.revisions:
                raise InUse("Image", image.reference, [f"revision {r}" for r in image.used_by.revisions])
            connection.execute(images.delete().where(images.c.name == image.name, images.c.version == image.version))
            return image

    def keys_in_use(self) -> tuple[set[str], set[str]]:
        """Plan digests and environment keys that some image still names."""
        with self._database.read() as connection:
            rows = connection.execute(select(images.c.digest, images.c.environment_key)).all()
        return {row.digest for row in rows}, {row.environment_key for row in rows}

    def stored(self) -> tuple[dict[str, set[str]], set[str]]:
        """By reference the OCI manifests of each image; and the digests of the bases that images stand on."""
        with self._database.read() as connection:
            rows = connection.execute(select(images.c.name, images.c.version, images.c.oci, images.c.plan)).all()
        manifests_of = {f"{row.name}:{row.version}": set((row.oci or {}).values()) for row in rows}
        return manifests_of, {layer["key"] for row in rows for layer in row.plan["layers"] if layer["kind"] == "base"}

    def oci_digests(self) -> set[str]:
        """Of all platforms of all images."""
        with self._database.read() as connection:
            return {
                digest
                for found in connection.execute(select(images.c.oci)).scalars()
                for digest in (found or {}).values()
            }

    def content(self, reference: Reference) -> tuple[Image, Manifest, list[ModelContent]]:
        """All that is needed to unpack an image. Of one that was built elsewhere: what it says of itself, as a manifest
        without a name, and no files."""
        with self._database.read() as connection:
            image = self._one(connection, reference)
            if not image.manifest:
                kept = connection.execute(
                    select(images.c.plan).where(images.c.name == image.name, images.c.version == image.version)
                ).scalar_one()
                said = decode(Recipe, kept["recipe"])
                return image, Manifest("", 0, image.manifest_digest, said, image.created_at), []
            row = connection.execute(
                select(manifests)
                .join(images, images.c.manifest_id == manifests.c.id)
                .where(images.c.name == image.name, images.c.version == image.version)
            ).one()
            manifest = Manifest(row.name, row.version, row.digest, decode(Recipe, row.recipe), row.created_at)
            return image, manifest, _contents(connection, row.id)

    def _one(self, connection: Connection, reference: Reference) -> Image:
        statement = _rows().where(images.c.name == reference.name).order_by(images.c.version.desc())
        if reference.alias not in (None, "latest"):
            raise NotFound("image", str(reference))
        if reference.version is not None:
            statement = statement.where(images.c.version == reference.version)
        row = connection.execute(statement).first()
        if row is None:
            raise NotFound("image", str(reference))
        return self._records(connection, [row])[0]

    def _records(self, connection: Connection, rows: Sequence[Row[Any]]) -> list[Image]:
        ids = [row.id for row in rows]
        pins: dict[int, list[ModelPin]] = {}
        for pin in connection.execute(
            select(images.c.id, models.c.name, models.c.version, models.c.digest)
            .join(manifest_models, manifest_models.c.manifest_id == images.c.manifest_id)
            .join(models, models.c.id == manifest_models.c.model_id)
            .where(images.c.id.in_(ids))
            .order_by(models.c.name)
        ):
            pins.setdefault(pin.id, []).append(ModelPin(pin.name, pin.version, pin.digest))
        used: dict[int, list[tuple[str, int]]] = {}
        for user in connection.execute(
            select(revisions.c.image_id, services.c.name, revisions.c.number)
            .join(services, services.c.id == revisions.c.service_id)
            .where(revisions.c.image_id.in_(ids))
            .order_by(revisions.c.id.desc())
        ):
            used.setdefault(user.image_id, []).append((user.name, user.number))
        return [_record(row, pins.get(row.id) or _told(row), used.get(row.id, [])) for row in rows]


def manifest_contents(database: Database, manifest: Manifest) -> list[ModelContent]:
    """The files of a manifest's models."""
    with database.read() as connection:
        manifest_id = connection.execute(
            select(manifests.c.id).where(manifests.c.name == manifest.name, manifests.c.version == manifest.version)
        ).scalar_one()
        return _contents(connection, manifest_id)


def _rows() -> Select[Any]:
    return select(
        images,
        manifests.c.name.label("manifest_name"),
        manifests.c.version.label("manifest_version"),
        manifests.c.digest.label("manifest_digest"),
    ).outerjoin(manifests, manifests.c.id == images.c.manifest_id)


def _contents(connection: Connection, manifest_id: int) -> list[ModelContent]:
    rows = connection.execute(
        select(models.c.name, models.c.version, models.c.digest, models.c.kind, model_files)
        .join(manifest_models, manifest_models.c.model_id == models.c.id)
        .join(model_files, model_files.c.model_id == models.c.id)
        .where(manifest_models.c.manifest_id == manifest_id)
        .order_by(models.c.name, models.c.version, model_files.c.position)
    ).all()
    found: dict[ModelPin, tuple[str, list[FileEntry]]] = {}
    for row in rows:
        pin = ModelPin(row.name, row.version, row.digest)
        found.setdefault(pin, (row.kind, []))[1].append(FileEntry(row.path, row.sha256, row.size_bytes))
    return [ModelContent(pin, kind, files) for pin, (kind, files) in found.items()]


def _told(row: Row[Any]) -> list[ModelPin]:
    """The models that an image names which was built elsewhere."""
    return decode(Recipe, row.plan["recipe"]).models if row.manifest_id is None else []


def _record(row: Row[Any], pins: list[ModelPin], used: list[tuple[str, int]]) -> Image:
    return Image(
        name=row.name,
        version=row.version,
        digest=row.digest,
        manifest="" if row.manifest_id is None else f"{row.manifest_name}:{row.manifest_version}",
        manifest_digest=row.manifest_digest or row.plan["manifest_digest"],
        models=pins,
        layers=[decode(Layer, layer) for layer in row.plan["layers"]],
        environment_key=row.environment_key,
        serving_runtime=row.plan["labels"].get("io.argosy.serving", ""),
        entrypoint=row.plan["entrypoint"],
        labels=row.plan["labels"],
        created_at=row.created_at,
        description=row.description,
        oci=row.oci or {},
        source=row.plan.get("source", ""),
        used_by=Usage(
            services=sorted({name for name, _ in used}), revisions=[f"{name}/{number}" for name, number in used]
        ),
    )
