"""Registered manifests: immutable recipes, found by name and version."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, func, select

from argosy.errors import InUse, NotFound
from argosy.records import Manifest, Page, Recipe, Reference, Usage, check_name, decode, digest, encode, utc_now
from argosy.store.db import Database, next_version
from argosy.store.paging import after, cursor_of
from argosy.store.tables import images, manifest_files, manifest_models, manifests, models, revisions, services


class ManifestRegistry:
    """Manifests by name and version."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, name: str, recipe: Recipe, notes: Sequence[str] = (), description: str = "") -> Manifest:
        """The latest version of `name` when it has this very recipe, else a new version."""
        check_name("manifest", name)
        content = digest(recipe)
        with self._database.write() as connection:
            newest = connection.execute(
                select(manifests).where(manifests.c.name == name).order_by(manifests.c.version.desc())
            ).first()
            if newest is not None and newest.digest == content:
                return _records(connection, [newest])[0]
            version = next_version(connection, "manifest", name)
            manifest_id = connection.execute(
                manifests.insert()
                .values(
                    name=name,
                    version=version,
                    digest=content,
                    recipe=encode(recipe),
                    notes=list(notes),
                    description=description,
                    created_at=utc_now(),
                )
                .returning(manifests.c.id)
            ).scalar_one()
            for pin in recipe.models:
                model_id = connection.execute(
                    select(models.c.id).where(models.c.name == pin.name, models.c.version == pin.version)
                ).scalar()
                if model_id is None:
                    raise NotFound("model", pin.reference)
                connection.execute(manifest_models.insert().values(manifest_id=manifest_id, model_id=model_id))
            for entry in recipe.files:
                connection.execute(
                    manifest_files.insert().values(manifest_id=manifest_id, path=entry.path, sha256=entry.sha256)
                )
            return _one(connection, Reference(name, version))

    def get(self, reference: Reference) -> Manifest:
        """The newest version when the reference names none."""
        with self._database.read() as connection:
            return _one(connection, reference)

    def page(self, limit: int, cursor: str | None, name: str | None = None) -> Page[Manifest]:
        """Without `name` the newest version of each name, by name; with it all versions, newest first."""
        with self._database.read() as connection:
            statement = select(manifests).limit(limit + 1)
            if name is None:
                newest = select(func.max(manifests.c.id)).group_by(manifests.c.name)
                statement = statement.where(manifests.c.id.in_(newest), manifests.c.name > after(cursor, ""))
                statement = statement.order_by(manifests.c.name)
            else:
                statement = statement.where(manifests.c.name == name, manifests.c.version < after(cursor, 2**31))
                statement = statement.order_by(manifests.c.version.desc())
            rows = connection.execute(statement).all()
            if name is not None and not rows and cursor is None:
                raise NotFound("manifest", name)
            found = _records(connection, rows[:limit])
        more = len(rows) > limit
        return Page(found, cursor_of(found[-1].name if name is None else found[-1].version) if more else None)

    def delete(self, reference: Reference) -> None:
        """InUse while an image has it."""
        with self._database.write() as connection:
            manifest = _one(connection, reference)
            if manifest.used_by.images:
                raise InUse("Manifest", manifest.reference, [f"image {i}" for i in manifest.used_by.images])
            connection.execute(
                manifests.delete().where(manifests.c.name == manifest.name, manifests.c.version == manifest.version)
            )

    def files_in_use(self) -> set[str]:
        """SHA-256 of every file that some manifest names."""
        with self._database.read() as connection:
            return set(connection.execute(select(manifest_files.c.sha256)).scalars())


def _one(connection: Connection, reference: Reference) -> Manifest:
    if reference.alias not in (None, "latest"):
        raise NotFound("manifest", str(reference))
    statement = select(manifests).where(manifests.c.name == reference.name).order_by(manifests.c.version.desc())
    if reference.version is not None:
        statement = statement.where(manifests.c.version == reference.version)
    row = connection.execute(statement).first()
    if row is None:
        raise NotFound("manifest", str(reference))
    return _records(connection, [row])[0]


def _records(connection: Connection, rows: Sequence[Row[Any]]) -> list[Manifest]:
    used: dict[int, list[Any]] = {}
    for user in connection.execute(
        select(
            images.c.manifest_id, images.c.name, images.c.version, services.c.name.label("service"), revisions.c.number
        )
        .outerjoin(revisions, revisions.c.image_id == images.c.id)
        .outerjoin(services, services.c.id == revisions.c.service_id)
        .where(images.c.manifest_id.in_([row.id for row in rows]))
        .order_by(images.c.id.desc(), revisions.c.id.desc())
    ):
        used.setdefault(user.manifest_id, []).append(user)
    return [_record(row, used.get(row.id, [])) for row in rows]


def _record(row: Row[Any], users: Sequence[Any]) -> Manifest:
    usage = Usage(
        images=list(dict.fromkeys(f"{u.name}:{u.version}" for u in users)),
        services=sorted({u.service for u in users if u.service}),
        revisions=[f"{u.service}/{u.number}" for u in users if u.service],
    )
    return Manifest(
        name=row.name,
        version=row.version,
        digest=row.digest,
        recipe=decode(Recipe, row.recipe),
        created_at=row.created_at,
        description=row.description,
        notes=list(row.notes),
        used_by=usage,
    )
