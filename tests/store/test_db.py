"""The database: one writer, snapshots, migrations that are whole or not at all, faults in a sentence."""

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import func, insert, select

from argosy.errors import InvalidOption, StorageFailed
from argosy.store.db import Database, next_version
from argosy.store.paging import after, cursor_of
from argosy.store.tables import environments, metadata, sequences


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "argosy.db"


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    opened = Database.open(path)
    yield opened
    opened.close()


def add(database: Database, name: str) -> None:
    with database.write() as connection:
        connection.execute(insert(environments).values(name=name, kind="process", created_at="now"))


def names(database: Database) -> list[str]:
    with database.read() as connection:
        return list(connection.execute(select(environments.c.name).order_by(environments.c.name)).scalars())


def test_the_migrated_schema_is_the_one_in_tables(database: Database) -> None:
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "render_as_batch": True})
        assert compare_metadata(context, metadata) == []


def test_only_the_owner_can_read_it(database: Database, path: Path) -> None:
    add(database, "local")
    for file in path.parent.glob("argosy.db*"):
        assert file.stat().st_mode & 0o077 == 0, file.name


def test_it_keeps_its_settings(database: Database) -> None:
    with database.read() as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "foreign_keys", "synchronous")
        }
    assert pragmas == {"journal_mode": "wal", "foreign_keys": 1, "synchronous": 2}


def test_a_change_that_fails_leaves_nothing(database: Database) -> None:
    class Half(Exception): ...

    def change() -> None:
        with database.write() as connection:
            connection.execute(insert(environments).values(name="half", kind="process", created_at="now"))
            raise Half

    with pytest.raises(Half):
        change()
    assert names(database) == []
    add(database, "next")
    assert names(database) == ["next"]


def test_a_read_is_a_snapshot(database: Database) -> None:
    add(database, "one")
    with database.read() as connection:
        count = select(func.count()).select_from(environments)
        assert connection.execute(count).scalar_one() == 1
        add(database, "two")
        assert connection.execute(count).scalar_one() == 1
    assert names(database) == ["one", "two"]


def test_numbers_are_given_out_once_by_many_threads(database: Database) -> None:
    found: list[int] = []

    def work() -> None:
        for _ in range(10):
            with database.write() as connection:
                found.append(next_version(connection, "model", "iris"))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == list(range(1, 41))
    with database.read() as connection:
        assert connection.execute(select(sequences.c.last)).scalar_one() == 40


def test_opened_again_it_is_the_same(database: Database, path: Path) -> None:
    add(database, "local")
    revision = database.revision()
    database.close()
    again = Database.open(path)
    assert (names(again), again.revision(), again.integrity_problem()) == (["local"], revision, "")
    again.close()


def test_a_migration_that_is_cut_off_leaves_the_database_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from alembic.operations import Operations

    made: list[str] = []
    create_table = Operations.create_table

    def power_cut(self: Operations, name: str, *args: object, **options: object) -> object:
        made.append(name)
        if len(made) == 4:
            raise KeyboardInterrupt
        return create_table(self, name, *args, **options)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(Operations, "create_table", power_cut)
        with pytest.raises(KeyboardInterrupt):
            Database.open(path)
    assert len(made) == 4
    with sqlite3.connect(path) as raw:
        assert raw.execute("SELECT name FROM sqlite_master").fetchall() == []
    raw.close()
    Database.open(path).close()


def test_a_database_of_a_newer_version_is_named_as_such(database: Database, path: Path) -> None:
    with database.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    database.close()
    with pytest.raises(StorageFailed, match="newer Argosy"):
        Database.open(path)


def test_a_file_that_is_no_database(path: Path) -> None:
    path.write_bytes(b"this is a text " * 100)
    with pytest.raises(StorageFailed, match="backup"):
        Database.open(path)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(StorageFailed):
        Database.open(tmp_path / "missing" / "argosy.db")


def test_a_name_that_looks_like_a_url(tmp_path: Path) -> None:
    path = tmp_path / "a?mode=memory%20#b" / "argosy.db"
    path.parent.mkdir()
    Database.open(path).close()
    assert path.exists()


def test_damage_met_later_is_told_in_a_sentence(database: Database, path: Path) -> None:
    with database.write() as connection:
        rows = [{"name": f"many-{n}", "kind": "process", "created_at": "x" * 30} for n in range(3000)]
        connection.execute(insert(environments), rows)
    database.close()
    content = bytearray(path.read_bytes())
    # The tables came first, the rows lie at the end.
    content[-len(content) // 2 :] = b"\xff" * (len(content) // 2)
    path.write_bytes(content)
    damaged = Database.open(path)
    with pytest.raises(StorageFailed, match="backup"), damaged.read() as connection:
        connection.execute(select(environments)).all()
    damaged.close()


def test_a_full_disk_is_told_and_changes_nothing(database: Database) -> None:
    add(database, "before")
    with database.read() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()

    def full(connection: sqlalchemy.Connection) -> None:
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
        rows = [{"name": f"many-{n}", "kind": "process", "created_at": "x" * 30} for n in range(3000)]
        connection.execute(insert(environments), rows)

    with pytest.raises(StorageFailed, match="Free some space"), database.write() as connection:
        full(connection)
    assert names(database) == ["before"]


def test_a_lock_of_somebody_else_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("argosy.store.db._BUSY_TIMEOUT_S", 0.1)
    database = Database.open(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageFailed, match="Another program"):
        add(database, "local")
    other.execute("ROLLBACK")
    other.close()
    add(database, "local")
    database.close()


def test_a_wrong_statement_is_no_storage_failure(database: Database) -> None:
    add(database, "local")
    with pytest.raises(sqlalchemy.exc.IntegrityError):
        add(database, "local")


@pytest.mark.parametrize("key", ["iris", "ünï", 0, 1, 2**62])
def test_a_cursor_comes_back(key: str | int) -> None:
    assert (after(cursor_of(key), "") if isinstance(key, str) else after(cursor_of(key), 0)) == key


@pytest.mark.parametrize(
    "cursor",
    ["x", "%%%", "ü", "e30", cursor_of(5), cursor_of("\ud800"), "W1tbW1tbW1tb" * 5000, "dHJ1ZQ", ""],
)
def test_a_cursor_that_is_none(cursor: str) -> None:
    with pytest.raises(InvalidOption, match="next"):
        after(cursor, "")


@pytest.mark.parametrize("cursor", [cursor_of("a"), cursor_of(2**63), cursor_of(-(2**80)), "dHJ1ZQ", "MS41"])
def test_a_cursor_that_is_no_number(cursor: str) -> None:
    with pytest.raises(InvalidOption, match="next"):
        after(cursor, 0)
