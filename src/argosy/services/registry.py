"""Services and their revisions in the database: desired state and history. The reconciler makes it true."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, select

from argosy.errors import Conflict, InvalidOption, NotFound, PreconditionFailed
from argosy.records import (
    Image,
    ModelPin,
    Page,
    Reference,
    Revision,
    ServiceSettings,
    check_name,
    encode,
    utc_now,
)
from argosy.services import settings as service_settings
from argosy.services.keyring import Keyring
from argosy.services.stored import Stored, check_replicas, replicas_after
from argosy.store.db import Database
from argosy.store.paging import after, cursor_of
from argosy.store.tables import (
    environments,
    images,
    manifest_models,
    models,
    revisions,
    services,
)


class ServiceRegistry:
    """Every method is one transaction."""

    def __init__(self, database: Database, keyring: Keyring) -> None:
        self._database = database
        self._keyring = keyring

    # -- services ------------------------------------------------------------------------------------------------

    def create(
        self, name: str, environment: str, image: Image, replicas: int, settings: ServiceSettings, description: str
    ) -> Stored:
        """The service with revision 1 as its target. Conflict when the name is taken."""
        check_name("service", name)
        check_replicas(replicas)
        now = utc_now()
        with self._database.write() as connection:
            if connection.execute(select(services.c.id).where(services.c.name == name)).first() is not None:
                raise Conflict(
                    f"Service {name} exists already. Change it with `argosy service update {name}` or use another name."
                )
            environment_id = connection.execute(
                select(environments.c.id).where(environments.c.name == environment)
            ).scalar()
            if environment_id is None:
                raise NotFound("environment", environment)
            service_id = connection.execute(
                services.insert()
                .values(
                    name=name,
                    environment_id=environment_id,
                    description=description,
                    replicas=replicas,
                    # The first revision is proven on one replica, also of a service that may sleep.
                    scaled=max(settings.min_replicas, 1) if settings.autoscale_enabled else None,
                    settings=encode(settings),
                    live_revision=None,
                    target_revision=1,
                    deleting=False,
                    generation=1,
                    created_at=now,
                    updated_at=now,
                )
                .returning(services.c.id)
            ).scalar_one()
            self._keyring.add(connection, service_id, name)
            _add_revision(connection, service_id, 1, image, settings)
            return _stored(connection, name)

    def update(
        self,
        name: str,
        image: Image | None = None,
        replicas: int | None = None,
        changes: dict[str, Any] | None = None,
        description: str | None = None,
        if_match: str | None = None,
    ) -> Stored:
        """Change what is given. A new image or a cold setting becomes a new target revision."""
        if replicas is not None:
            check_replicas(replicas)
        with self._database.write() as connection:
            stored = _stored(connection, name)
            if if_match is not None and if_match != stored.etag:
                raise PreconditionFailed("Service", name)
            if stored.deleting:
                raise Conflict(f"Service {name} is being deleted.")
            values: dict[str, Any] = {"updated_at": utc_now()}
            settings = service_settings.changed(stored.settings, changes or {})
            if settings != stored.settings:
                values |= {"settings": encode(settings), "generation": stored.generation + 1}
            values |= replicas_after(stored, settings, replicas)
            if description is not None:
                values["description"] = description
            if image is not None or service_settings.is_cold(stored.settings, settings):
                values["target_revision"] = self._next_revision(connection, stored, image, settings)
            connection.execute(services.update().where(services.c.id == stored.id).values(**values))
            return _stored(connection, name)

    def revision_before(self, name: str, to: int | None, giving_up: bool = False) -> int:
        """What a rollback would go to: `to` when it was live once, else the one that was live before this one; or the
        live one itself, when it gives up an update: one that is rolled out, or `giving_up` one still to come."""
        with self._database.read() as connection:
            stored = _stored(connection, name)
            rows = connection.execute(
                select(revisions.c.number, revisions.c.live_at)
                .where(revisions.c.service_id == stored.id, revisions.c.live_at.is_not(None))
                .order_by(revisions.c.live_at, revisions.c.number)
            ).all()
        giving_up = giving_up or stored.target_revision != stored.live_revision
        if to is None and stored.live_revision is not None and giving_up:
            return stored.live_revision
        earlier = [row.number for row in rows if row.number != stored.live_revision]
        if to is None and not earlier:
            raise Conflict(f"Service {name} has no earlier revision that was live, so there is nothing to go back to.")
        chosen = earlier[-1] if to is None else to
        if chosen not in (row.number for row in rows):
            there = ", ".join(str(row.number) for row in sorted(rows)) or "none"
            raise InvalidOption("--to", to, f"choose a revision of {name} that was live before ({there})")
        if chosen == stored.live_revision and not giving_up:
            raise Conflict(f"Revision {chosen} of service {name} is live already.")
        return int(chosen)

    def roll_back(self, name: str, to: int) -> Stored:
        """Make the earlier revision `to` the target. Nothing changes when it is that already."""
        with self._database.write() as connection:
            stored = _stored(connection, name)
            if stored.deleting:
                raise Conflict(f"Service {name} is being deleted.")
            if stored.target_revision == to:
                return stored
            chosen = _revision(connection, stored.id, to)
            settings = service_settings.with_cold_of(stored.settings, service_settings.read(chosen.settings))
            connection.execute(
                services.update()
                .where(services.c.id == stored.id)
                .values(target_revision=to, settings=encode(settings), updated_at=utc_now())
            )
            if stored.target_revision not in (None, stored.live_revision):
                _set_revision(
                    connection, stored.id, stored.target_revision, state="stopped", reason=f"given up for revision {to}"
                )
            if to != stored.live_revision:
                _set_revision(connection, stored.id, to, state="starting", reason="")
            return _stored(connection, name)

    def rescale(self, name: str, replicas: int) -> bool:
        """The autoscaler's number; whether it is taken. Not when the user has turned it off or away meanwhile."""
        with self._database.write() as connection:
            stored = _stored(connection, name)
            settings = stored.settings
            fits = settings.min_replicas <= replicas <= settings.max_replicas
            if not settings.autoscale_enabled or stored.deleting or not fits:
                return False
            # Not `updated_at`, nor anything of the ETag: nobody has changed the service.
            connection.execute(services.update().where(services.c.id == stored.id).values(scaled=replicas))
            return True

    def mark_deleting(self, name: str) -> Stored:
        with self._database.write() as connection:
            stored = _stored(connection, name)
            connection.execute(
                services.update().where(services.c.id == stored.id).values(deleting=True, updated_at=utc_now())
            )
            return _stored(connection, name)

    def remove(self, name: str) -> None:
        with self._database.write() as connection:
            connection.execute(services.delete().where(services.c.name == name))

    def promote(self, name: str, number: int) -> None:
        """The target came up: it is live, the one before is history."""
        with self._database.write() as connection:
            stored = _stored(connection, name)
            if stored.live_revision is not None and stored.live_revision != number:
                _set_revision(connection, stored.id, stored.live_revision, state="stopped", reason="")
            _set_revision(connection, stored.id, number, state="live", reason="", live_at=utc_now())
            connection.execute(
                services.update().where(services.c.id == stored.id).values(live_revision=number, updated_at=utc_now())
            )

    def fail(self, name: str, number: int, reason: str) -> None:
        """The target did not come up: the live one stays what is wanted, with the settings it was made with."""
        with self._database.write() as connection:
            stored = _stored(connection, name)
            _set_revision(connection, stored.id, number, state="failed", reason=reason)
            if stored.target_revision != number:
                return  # Somebody wants another one meanwhile.
            values: dict[str, Any] = {"target_revision": stored.live_revision, "updated_at": utc_now()}
            if stored.live_revision is not None:
                live = _revision(connection, stored.id, stored.live_revision)
                kept = service_settings.with_cold_of(stored.settings, service_settings.read(live.settings))
                values["settings"] = encode(kept)
            connection.execute(services.update().where(services.c.id == stored.id).values(**values))

    def get(self, name: str) -> Stored:
        with self._database.read() as connection:
            return _stored(connection, name)

    def names(self) -> list[str]:
        with self._database.read() as connection:
            return list(connection.execute(select(services.c.name).order_by(services.c.name)).scalars())

    def page(self, limit: int, cursor: str | None) -> Page[Stored]:
        with self._database.read() as connection:
            rows = connection.execute(
                _services().where(services.c.name > after(cursor, "")).order_by(services.c.name).limit(limit + 1)
            ).all()
        found = [_record(row) for row in rows[:limit]]
        return Page(found, cursor_of(found[-1].name) if len(rows) > limit else None)

    # -- revisions -----------------------------------------------------------------------------------------------

    def history(self, name: str, limit: int, cursor: str | None) -> Page[Revision]:
        """Newest first."""
        with self._database.read() as connection:
            stored = _stored(connection, name)
            found = _revisions(connection, stored, after(cursor, 2**31), limit + 1)
        more = len(found) > limit
        return Page(found[:limit], cursor_of(found[limit - 1].number) if more else None)

    def revision(self, name: str, number: int) -> Revision:
        with self._database.read() as connection:
            stored = _stored(connection, name)
            for revision in _revisions(connection, stored, number + 1, 1):
                if revision.number == number:
                    return revision
        raise NotFound("revision", f"{name}/{number}")

    def _next_revision(
        self, connection: Connection, stored: Stored, image: Image | None, settings: ServiceSettings
    ) -> int:
        if stored.target_revision != stored.live_revision:
            raise Conflict(
                f"Revision {stored.target_revision} of service {stored.name} is still being rolled out. Wait for it "
                f"(`argosy service wait {stored.name}`), then repeat the update."
            )
        newest = _revisions(connection, stored, 2**31, 1)[0]
        base = newest if stored.live_revision is None else _record_of(connection, stored, stored.live_revision)
        image_id = _image_id(connection, image) if image else _image_id_of(connection, stored.id, base.number)
        connection.execute(
            revisions.insert().values(
                service_id=stored.id,
                number=newest.number + 1,
                image_id=image_id,
                settings=encode(settings),
                state="starting",
                created_at=utc_now(),
            )
        )
        return newest.number + 1


def _services() -> Any:
    return select(services, environments.c.name.label("environment")).join(
        environments, environments.c.id == services.c.environment_id
    )


def _stored(connection: Connection, name: str) -> Stored:
    row = connection.execute(_services().where(services.c.name == name)).first()
    if row is None:
        raise NotFound("service", name)
    return _record(row)


def _record(row: Row[Any]) -> Stored:
    return Stored(
        id=row.id,
        name=row.name,
        environment=row.environment,
        description=row.description,
        replicas=row.replicas,
        scaled=row.scaled,
        settings=service_settings.read(row.settings),
        live_revision=row.live_revision,
        target_revision=row.target_revision,
        deleting=row.deleting,
        generation=row.generation,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def _image_id(connection: Connection, image: Image) -> int:
    found = connection.execute(
        select(images.c.id).where(images.c.name == image.name, images.c.version == image.version)
    ).scalar()
    if found is None:
        raise NotFound("image", str(Reference(image.name, image.version)))
    return int(found)


def _image_id_of(connection: Connection, service_id: int, number: int) -> int:
    return int(_revision(connection, service_id, number).image_id)


def _add_revision(
    connection: Connection, service_id: int, number: int, image: Image, settings: ServiceSettings
) -> None:
    connection.execute(
        revisions.insert().values(
            service_id=service_id,
            number=number,
            image_id=_image_id(connection, image),
            settings=encode(settings),
            state="starting",
            created_at=utc_now(),
        )
    )


def _revision(connection: Connection, service_id: int, number: int) -> Row[Any]:
    return connection.execute(
        select(revisions).where(revisions.c.service_id == service_id, revisions.c.number == number)
    ).one()


def _set_revision(connection: Connection, service_id: int, number: int, **values: Any) -> None:
    connection.execute(
        revisions.update().where(revisions.c.service_id == service_id, revisions.c.number == number).values(**values)
    )


def _record_of(connection: Connection, stored: Stored, number: int) -> Revision:
    return _revisions(connection, stored, number + 1, 1)[0]


def _revisions(connection: Connection, stored: Stored, below: int, limit: int) -> list[Revision]:
    rows = connection.execute(
        select(revisions, images.c.name, images.c.version, images.c.digest, images.c.manifest_id, images.c.plan)
        .join(images, images.c.id == revisions.c.image_id)
        .where(revisions.c.service_id == stored.id, revisions.c.number < below)
        .order_by(revisions.c.number.desc())
        .limit(limit)
    ).all()
    pins: dict[int, list[str]] = {}
    for pin in connection.execute(
        select(manifest_models.c.manifest_id, models.c.name, models.c.version, models.c.digest)
        .join(models, models.c.id == manifest_models.c.model_id)
        .where(manifest_models.c.manifest_id.in_({row.manifest_id for row in rows}))
        .order_by(models.c.name)
    ):
        pins.setdefault(pin.manifest_id, []).append(ModelPin(pin.name, pin.version, pin.digest).reference)
    # An image that was built elsewhere has no manifest here, and says itself what models it has.
    return [_revision_record(stored.name, row, pins.get(row.manifest_id) or _told(row.plan)) for row in rows]


def _told(plan: Mapping[str, Any]) -> list[str]:
    return [f"{pin['name']}:{pin['version']}" for pin in plan.get("recipe", {}).get("models", [])]


def _revision_record(service: str, row: Row[Any], pins: Sequence[str]) -> Revision:
    return Revision(
        service=service,
        number=row.number,
        image=f"{row.name}:{row.version}",
        image_digest=row.digest,
        state=row.state,
        created_at=row.created_at,
        settings=service_settings.read(row.settings),
        reason=row.reason,
        models=list(pins),
        live_at=row.live_at,
    )
