"""Registered environments: where services may run, by name."""

from sqlalchemy import select

from argosy.environments.container import discovery
from argosy.errors import Conflict, InUse, InvalidOption, NotFound
from argosy.records import Environment, check_name, utc_now
from argosy.store.db import Database
from argosy.store.tables import environments, services

KINDS = ("process", "container")
LOCAL = "local"


class EnvironmentRegistry:
    """Environments by name. There is always `local` after the first start, until somebody deletes it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, name: str, kind: str, engine: str = "") -> Environment:
        """`engine` is a socket's URL; that of the first engine that answers when it is empty."""
        check_name("environment", name)
        if kind not in KINDS:
            raise InvalidOption("--kind", kind, f"this version knows: {', '.join(KINDS)}")
        if engine and kind != "container":
            raise InvalidOption("--engine", engine, "it belongs to --kind container")
        if any(known.name == name for known in self.all()):
            raise Conflict(f"There is an environment {name} already.")
        found = discovery.find(engine) if kind == "container" else ""
        with self._database.write() as connection:
            if connection.execute(select(environments.c.id).where(environments.c.name == name)).first() is not None:
                raise Conflict(f"There is an environment {name} already.")
            connection.execute(environments.insert().values(name=name, kind=kind, engine=found, created_at=utc_now()))
        return self.get(name)

    def get(self, name: str) -> Environment:
        for environment in self.all():
            if environment.name == name:
                return environment
        raise NotFound("environment", name)

    def default(self) -> Environment:
        """Where a service goes that names none."""
        found = self.all()
        chosen = [each for each in found if each.is_default] or [each for each in found if each.name == LOCAL]
        if not chosen:
            raise NotFound("environment", LOCAL)
        return chosen[0]

    def use(self, name: str) -> Environment:
        """Make it the default."""
        self.get(name)
        with self._database.write() as connection:
            connection.execute(environments.update().values(is_default=environments.c.name == name))
        return self.get(name)

    def all(self) -> list[Environment]:
        """All of them by name, with the services that run there."""
        with self._database.read() as connection:
            rows = connection.execute(select(environments).order_by(environments.c.name)).all()
            running: dict[int, list[str]] = {}
            for row in connection.execute(select(services.c.environment_id, services.c.name).order_by(services.c.name)):
                running.setdefault(row.environment_id, []).append(row.name)
        chosen = any(row.is_default for row in rows)
        return [
            Environment(
                row.name,
                row.kind,
                row.created_at,
                running.get(row.id, []),
                row.engine,
                row.is_default or (not chosen and row.name == LOCAL),
            )
            for row in rows
        ]

    def engines(self) -> set[str]:
        """The sockets of all container engines that are named."""
        with self._database.read() as connection:
            return {url for url in connection.execute(select(environments.c.engine)).scalars() if url}

    def delete(self, name: str) -> None:
        """InUse while a service runs there."""
        with self._database.write() as connection:
            found = connection.execute(select(environments.c.id).where(environments.c.name == name)).scalar()
            if found is None:
                raise NotFound("environment", name)
            using = (
                connection.execute(select(services.c.name).where(services.c.environment_id == found)).scalars().all()
            )
            if using:
                raise InUse("Environment", name, [f"service {service}" for service in using])
            connection.execute(environments.delete().where(environments.c.id == found))
