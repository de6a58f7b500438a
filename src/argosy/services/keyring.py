"""The two keys of every service: made, shown, replaced. Sealed in the database, hashed everywhere else."""

from typing import Any

from sqlalchemy import Connection, Row, func, select

from argosy.errors import InvalidOption, NotFound
from argosy.keys import Vault, key_hash, new_key
from argosy.records import ServiceKeys, utc_now
from argosy.store.db import Database
from argosy.store.tables import service_keys, services

SLOTS = ("primary", "secondary")


class Keyring:
    """A key that is regenerated leaves its old one valid until `settle`: until every replica knows the new one."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self._vault = vault

    def add(self, connection: Connection, service_id: int, name: str) -> None:
        """Both keys of a new service, in the transaction that makes it."""
        for slot in SLOTS:
            key = new_key()
            sealed = self._vault.seal(key, f"{name}/{slot}")
            connection.execute(
                service_keys.insert().values(service_id=service_id, slot=slot, hash=key_hash(key), sealed=sealed)
            )

    def keys(self, name: str) -> ServiceKeys:
        with self._database.read() as connection:
            rows = _rows(connection, name)
        return ServiceKeys(**{row.slot: self._vault.open_sealed(row.sealed, f"{name}/{row.slot}") for row in rows})

    def hashes(self, name: str) -> list[str]:
        """Hashes of all keys that are valid now, those that are being replaced included."""
        with self._database.read() as connection:
            rows = _rows(connection, name)
        return sorted({row.hash for row in rows} | {row.previous_hash for row in rows if row.previous_hash})

    def regenerate(self, name: str, slot: str) -> None:
        if slot not in SLOTS:
            raise InvalidOption("--regenerate", slot, f"choose {' or '.join(SLOTS)}")
        key = new_key()
        with self._database.write() as connection:
            service_id = _service_id(connection, name)
            connection.execute(
                service_keys.update()
                .where(service_keys.c.service_id == service_id, service_keys.c.slot == slot)
                .values(
                    hash=key_hash(key),
                    sealed=self._vault.seal(key, f"{name}/{slot}"),
                    # The one that every replica knows, also when the key in between was never confirmed.
                    previous_hash=func.coalesce(service_keys.c.previous_hash, service_keys.c.hash),
                )
            )
            _bump_generation(connection, service_id)

    def settle(self, name: str, generation: int) -> None:
        """Every replica has taken over the keys of `generation`: the replaced ones end here. Nothing happens when the
        service has changed since, with another new key perhaps: that generation is to be confirmed first."""
        with self._database.write() as connection:
            service_id = _service_id(connection, name)
            now = connection.execute(select(services.c.generation).where(services.c.id == service_id)).scalar_one()
            if now != generation:
                return
            connection.execute(
                service_keys.update().where(service_keys.c.service_id == service_id).values(previous_hash=None)
            )
            _bump_generation(connection, service_id)

    def settling(self, name: str) -> bool:
        """Whether a replaced key is still valid."""
        with self._database.read() as connection:
            waiting = select(func.count()).where(
                service_keys.c.service_id == _service_id(connection, name), service_keys.c.previous_hash.is_not(None)
            )
            return bool(connection.execute(waiting).scalar_one())


def _rows(connection: Connection, name: str) -> list[Row[Any]]:
    service_id = _service_id(connection, name)
    return list(connection.execute(select(service_keys).where(service_keys.c.service_id == service_id)))


def _service_id(connection: Connection, name: str) -> int:
    found = connection.execute(select(services.c.id).where(services.c.name == name)).scalar()
    if found is None:
        raise NotFound("service", name)
    return int(found)


def _bump_generation(connection: Connection, service_id: int) -> None:
    """Replicas report the generation of the settings they follow."""
    connection.execute(
        services.update()
        .where(services.c.id == service_id)
        .values(generation=services.c.generation + 1, updated_at=utc_now())
    )
