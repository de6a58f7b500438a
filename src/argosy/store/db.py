"""The database: SQLite in WAL mode, many readers, one writer.

Every change is made inside `write()`, one at a time in this process, as one `BEGIN IMMEDIATE` transaction. Nothing
in it may touch files or the network. Migrations run when the database is opened.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.util import CommandError
from sqlalchemy import Connection, event, select
from sqlalchemy.dialects.sqlite import insert

from argosy.errors import StorageFailed
from argosy.store.tables import sequences

MIGRATIONS = Path(__file__).parent / "migrations"
_BUSY_TIMEOUT_S = 5.0


class Database:
    """Open with `Database.open(path)`; one object a process, handed to who needs it."""

    def __init__(self, engine: sqlalchemy.Engine) -> None:
        self._engine = engine
        self._writer = threading.RLock()

    @classmethod
    def open(cls, path: Path) -> "Database":
        """Open or make the database and bring it up to date. Raises StorageFailed."""
        engine = sqlalchemy.create_engine(
            sqlalchemy.URL.create("sqlite", database=str(path)),
            connect_args={"timeout": _BUSY_TIMEOUT_S, "check_same_thread": False},
            pool_size=20,
        )
        event.listen(engine, "connect", _configure)
        database = cls(engine)
        try:
            path.touch(mode=0o600)
            path.chmod(0o600)
            database._migrate()
        except CommandError as problem:
            engine.dispose()
            raise StorageFailed(
                f"The database {path} cannot be brought up to date: {problem}. If a newer Argosy made it, use that one."
            ) from problem
        except (sqlalchemy.exc.DatabaseError, OSError) as problem:
            engine.dispose()
            raise _translated(problem, path) from problem
        return database

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent snapshot for as long as the block runs."""
        with self._connection() as connection:
            connection.exec_driver_sql("BEGIN")
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction: committed when the block ends, rolled back when it raises."""
        with self._writer, self._connection() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection
            connection.commit()

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        """What the disk or the file is to blame for becomes StorageFailed; a wrong statement stays what it is."""
        try:
            with self._engine.connect() as connection:
                yield connection
        except sqlalchemy.exc.DatabaseError as problem:
            # A damaged file is a bare DatabaseError; its other subclasses are defects of ours.
            if type(problem) not in (sqlalchemy.exc.DatabaseError, sqlalchemy.exc.OperationalError):
                raise
            raise _translated(problem, self._engine.url.database or "") from problem

    def close(self) -> None:
        self._engine.dispose()

    def _migrate(self) -> None:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        with self._engine.connect() as connection:
            config.attributes["connection"] = connection
            # A table that a migration rebuilds must not take the rows along that refer to it, and a crash on the way
            # must leave the schema as it was. The first cannot be said within a transaction.
            connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            command.upgrade(config, "head")
            connection.commit()
            connection.exec_driver_sql("PRAGMA foreign_keys=ON")

    def integrity_problem(self) -> str:
        """What SQLite's own check finds; empty when all is well."""
        with self.read() as connection:
            found = connection.exec_driver_sql("PRAGMA quick_check(3)").scalars().all()
        return "" if list(found) == ["ok"] else "; ".join(str(line) for line in found)

    def revision(self) -> str | None:
        """The migration that the database stands at."""
        with self._engine.connect() as connection:
            return MigrationContext.configure(connection).get_current_revision()


def next_version(connection: Connection, noun: str, name: str) -> int:
    """The next version number of a name; never one that was used before, even after deletes."""
    statement = insert(sequences).values(noun=noun, name=name, last=1)
    statement = statement.on_conflict_do_update(
        index_elements=[sequences.c.noun, sequences.c.name], set_={"last": sequences.c.last + 1}
    )
    connection.execute(statement)
    found = select(sequences.c.last).where(sequences.c.noun == noun, sequences.c.name == name)
    return int(connection.execute(found).scalar_one())


def _configure(connection: Any, _record: Any) -> None:
    # The driver must not begin transactions by itself: `write` does, with IMMEDIATE, so that it never has to upgrade
    # a read lock and fail half-way.
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "temp_store=MEMORY"):
        connection.execute(f"PRAGMA {pragma}")


def _translated(problem: Exception, path: object) -> StorageFailed:
    text = str(getattr(problem, "orig", problem))
    advice = {
        "full": "Free some space and try again; nothing was changed.",
        "readonly": "Make it and its folder writable.",
        "locked": "Another program holds it open; end that and try again.",
        "malformed": "Restore it from a backup.",
        "not a database": "Restore it from a backup.",
    }
    hint = next((what for word, what in advice.items() if word in text), "Look at the disk and its permissions.")
    return StorageFailed(f"The database {path} failed: {text}. {hint}")
