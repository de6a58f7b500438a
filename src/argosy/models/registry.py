"""Registered models: immutable versions by name, with tags, metrics and aliases that may change.

A version is a row written last, after all its bytes are stored and inspected, so nothing is ever half-registered.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, Table, delete, func, select
from sqlalchemy.dialects.sqlite import insert

from argosy.errors import InUse, InvalidFile, InvalidOption, NotFound
from argosy.models.archives import Limits, unpack
from argosy.models.inspection import inspect
from argosy.models.request import (
    LATEST,
    ModelRequest,
    check_alias,
    check_files,
    check_metrics,
    check_tags,
    check_text,
    checked,
)
from argosy.models.usage import usage_of, users
from argosy.records import FileEntry, Inspection, Model, Page, Reference, decode, digest, encode, utc_now
from argosy.settings import Settings
from argosy.store.blobs import LocalBlobs
from argosy.store.db import Database, next_version
from argosy.store.paging import after, cursor_of
from argosy.store.tables import model_aliases, model_files, model_metrics, model_tags, models

_PAGE_LIMIT = 500
_LAST_VERSION = 2**31 - 1
_RARE = 20_000


class ModelRegistry:
    """Models by name and version. Methods block (files, hashing): call them from a thread, not from an event loop."""

    def __init__(self, database: Database, blobs: LocalBlobs, settings: Settings) -> None:
        self._database = database
        self._blobs = blobs
        self._limit_bytes = settings.model_limit_bytes

    def register(self, request: ModelRequest) -> Model:
        """A new version of `request.name`. Its files must have been uploaded as blobs before."""
        request, warnings = checked(request, self._limit_bytes)
        self._check_blobs(request.files)
        if request.unpack:
            request, warnings = self._unpacked(request)
        inspection = inspect([(file.path, self._blobs.path(file.sha256)) for file in request.files])
        inspection = replace(inspection, findings=[*warnings, *inspection.findings])
        content = digest([[file.path, file.sha256, file.size_bytes] for file in request.files])
        with self._database.write() as connection:
            version = next_version(connection, "model", request.name)
            self._insert(connection, request, version, content, inspection)
            return self._one(connection, Reference(request.name, version))

    def get(self, reference: Reference) -> Model:
        """By version or alias; the latest version when the reference names none. Raises NotFound."""
        with self._database.read() as connection:
            return self._one(connection, reference)

    def latest(self, name: str) -> Model:
        return self.get(Reference(name))

    def file(self, reference: Reference, path: str) -> FileEntry:
        """One file of a model; its bytes are the blob of that SHA-256. Raises NotFound."""
        with self._database.read() as connection:
            row = self._row(connection, reference)
            found = connection.execute(
                select(model_files).where(model_files.c.model_id == row.id, model_files.c.path == path)
            ).first()
        if found is None:
            name = f"{row.name}:{row.version}"
            raise NotFound("file", f"{name}/{path}", f"`argosy model show {name}` lists the files of {name}.")
        return FileEntry(found.path, found.sha256, found.size_bytes)

    def page(
        self, limit: int, cursor: str | None = None, name: str | None = None, tags: Mapping[str, str] | None = None
    ) -> Page[Model]:
        """Without `name` the newest version of each name, by name; with it all its versions, newest first.

        With `tags` only versions that carry all of them count. `limit` is at most 500.
        """
        if not 1 <= limit <= _PAGE_LIMIT:
            raise InvalidOption("limit", limit, f"write a number from 1 to {_PAGE_LIMIT}")
        with self._database.read() as connection:
            conditions = _tagged(connection, tags or {})
            if name is None:
                statement = _newest_of_each(cursor, limit + 1, conditions)
            else:
                statement = _versions_of(name, cursor, limit + 1, conditions)
            rows = connection.execute(statement).all()
            if name is not None and not rows and cursor is None and not tags:
                raise self._no_model(connection, Reference(name))
            found = self._records(connection, rows[:limit])
        last = found[-1] if len(rows) > limit else None
        return Page(found, None if last is None else cursor_of(last.name if name is None else last.version))

    def versions(self, name: str, limit: int = 100, cursor: str | None = None) -> Page[Model]:
        """All versions of a name, newest first. Raises NotFound when there are none."""
        return self.page(limit, cursor, name)

    def update(
        self,
        reference: Reference,
        description: str | None = None,
        tags: Mapping[str, str | None] | None = None,
        metrics: Mapping[str, float | None] | None = None,
    ) -> Model:
        """Change what may change of a version. A tag or metric whose value is None is removed, others stay."""
        check_tags(tags or {})
        check_metrics(metrics or {})
        if description is not None:
            check_text("description", description)
        with self._database.write() as connection:
            model_id = self._row(connection, reference).id
            if description is not None:
                connection.execute(models.update().where(models.c.id == model_id).values(description=description))
            _put_entries(connection, model_tags, model_id, tags or {})
            _put_entries(connection, model_metrics, model_id, metrics or {})
            model = self._one(connection, reference)
            # The sum of many updates keeps to the limit too; raising here rolls the transaction back.
            check_tags(model.tags)
            check_metrics(model.metrics)
            return model

    def set_alias(self, name: str, alias: str, version: int) -> Model:
        """Point `name@alias` at a version, away from the one it named before."""
        check_alias(alias)
        with self._database.write() as connection:
            model_id = self._row(connection, Reference(name, version)).id
            statement = insert(model_aliases).values(name=name, alias=alias, model_id=model_id)
            connection.execute(
                statement.on_conflict_do_update(
                    index_elements=[model_aliases.c.name, model_aliases.c.alias], set_={"model_id": model_id}
                )
            )
            return self._one(connection, Reference(name, version))

    def unset_alias(self, name: str, alias: str) -> None:
        with self._database.write() as connection:
            self._row(connection, Reference(name, alias=alias))
            connection.execute(
                delete(model_aliases).where(model_aliases.c.name == name, model_aliases.c.alias == alias)
            )

    def delete(self, reference: Reference) -> Model:
        """The version that was deleted; its number is never given out again. InUse while anything refers to it.

        Its blobs stay until garbage collection.
        """
        with self._database.write() as connection:
            model = self._one(connection, reference)
            if found := users(model.used_by):
                raise InUse("Model", model.reference, found)
            connection.execute(delete(models).where(models.c.name == model.name, models.c.version == model.version))
            return model

    def referenced_blobs(self) -> set[str]:
        """SHA-256 of every file of every model, for garbage collection."""
        with self._database.read() as connection:
            return set(connection.execute(select(model_files.c.sha256).distinct()).scalars())

    def _check_blobs(self, files: Sequence[FileEntry]) -> None:
        """Every file is stored and as long as it says; renews the blobs, so that they outlive the registration."""
        for file in files:
            stored_bytes = self._blobs.touch(file.sha256)
            if stored_bytes is None:
                raise InvalidFile(file.path, f"its content (SHA-256 {file.sha256}) was not uploaded. Upload it first.")
            if stored_bytes != file.size_bytes:
                raise InvalidFile(
                    file.path,
                    f"it has {stored_bytes:,} bytes, but {file.size_bytes:,} were announced. Upload it again.",
                )

    def _unpacked(self, request: ModelRequest) -> tuple[ModelRequest, list[str]]:
        archive = request.files[0]
        files = unpack(self._blobs, archive.sha256, archive.path, Limits(self._limit_bytes))
        return replace(request, kind="directory", files=files), check_files("directory", files, self._limit_bytes)

    def _insert(
        self, connection: Connection, request: ModelRequest, version: int, content: str, inspection: Inspection
    ) -> None:
        statement = (
            models.insert()
            .returning(models.c.id)
            .values(
                name=request.name,
                version=version,
                digest=content,
                kind=request.kind,
                size_bytes=sum(file.size_bytes for file in request.files),
                source=request.source,
                description=request.description,
                inspection=encode(inspection),
                created_at=utc_now(),
            )
        )
        model_id = connection.execute(statement).scalar_one()
        rows = [{"model_id": model_id, "position": at, **vars(file)} for at, file in enumerate(request.files)]
        connection.execute(model_files.insert(), rows)
        _put_entries(connection, model_tags, model_id, request.tags)
        _put_entries(connection, model_metrics, model_id, request.metrics)

    def _one(self, connection: Connection, reference: Reference) -> Model:
        return self._records(connection, [self._row(connection, reference)])[0]

    def _row(self, connection: Connection, reference: Reference) -> Row[Any]:
        statement = select(models).where(models.c.name == reference.name)
        if reference.version is not None:
            statement = statement.where(models.c.version == min(reference.version, _LAST_VERSION))
        elif reference.alias not in (None, LATEST):
            statement = statement.join(model_aliases, model_aliases.c.model_id == models.c.id).where(
                model_aliases.c.name == reference.name, model_aliases.c.alias == reference.alias
            )
        row = connection.execute(statement.order_by(models.c.version.desc()).limit(1)).first()
        if row is None:
            raise self._no_model(connection, reference)
        return row

    def _no_model(self, connection: Connection, reference: Reference) -> NotFound:
        """NotFound with what there is instead."""
        name = reference.name
        versions = list(
            connection.execute(
                select(models.c.version).where(models.c.name == name).order_by(models.c.version.desc()).limit(6)
            ).scalars()
        )
        if not versions:
            names = connection.execute(select(models.c.name).distinct().limit(2000)).scalars().all()
            near = difflib.get_close_matches(name, names, n=1)
            return NotFound("model", str(reference), f"Did you mean {near[0]!r}?" if near else "")
        shown = ", ".join(map(str, versions[:5])) + (", ..." if len(versions) > 5 else "")
        if reference.alias is None:
            return NotFound("model", str(reference), f"{name} has the versions {shown}.")
        aliases = connection.execute(
            select(model_aliases.c.alias).where(model_aliases.c.name == name).order_by(model_aliases.c.alias)
        ).scalars()
        has = ", ".join(aliases) or "no aliases yet"
        return NotFound("model", str(reference), f"{name} has the versions {shown} and the aliases: {has}.")

    def _records(self, connection: Connection, rows: Sequence[Row[Any]]) -> list[Model]:
        """Six queries, however many rows."""
        ids = [row.id for row in rows]
        files = _grouped(connection, select(model_files).order_by(model_files.c.position), ids)
        tags = _grouped(connection, select(model_tags).order_by(model_tags.c.key), ids)
        metrics = _grouped(connection, select(model_metrics).order_by(model_metrics.c.key), ids)
        aliases = _grouped(connection, select(model_aliases).order_by(model_aliases.c.alias), ids)
        used = usage_of(connection, ids)
        return [
            Model(
                name=row.name,
                version=row.version,
                digest=row.digest,
                kind=row.kind,
                files=[FileEntry(file.path, file.sha256, file.size_bytes) for file in files.get(row.id, [])],
                size_bytes=row.size_bytes,
                created_at=row.created_at,
                description=row.description,
                source=row.source,
                tags={tag.key: tag.value for tag in tags.get(row.id, [])},
                metrics={metric.key: metric.value for metric in metrics.get(row.id, [])},
                aliases=[alias.alias for alias in aliases.get(row.id, [])],
                inspection=decode(Inspection, row.inspection),
                used_by=used[row.id],
            )
            for row in rows
        ]


def _tagged(connection: Connection, tags: Mapping[str, str]) -> list[ColumnElement[bool]]:
    """Conditions for versions that carry all of `tags`.

    A list of ids is quick for a tag that few carry, a look-up per version for one that many do: the page is then full
    after a few. Both keep a page among 100 000 versions within some 30 ms; the wrong one takes 100.
    """
    conditions: list[ColumnElement[bool]] = []
    for key, value in tags.items():
        carrying = select(model_tags.c.model_id).where(model_tags.c.key == key, model_tags.c.value == value)
        some = select(func.count()).select_from(carrying.limit(_RARE).subquery())
        if connection.execute(some).scalar_one() < _RARE:
            conditions.append(models.c.id.in_(carrying))
        else:
            conditions.append(carrying.where(model_tags.c.model_id == models.c.id).exists())
    return conditions


def _versions_of(name: str, cursor: str | None, limit: int, conditions: Sequence[ColumnElement[bool]]) -> Select[Any]:
    below = min(after(cursor, _LAST_VERSION), _LAST_VERSION)
    within = (models.c.name == name, models.c.version < below, *conditions)
    return select(models).where(*within).order_by(models.c.version.desc()).limit(limit)


def _newest_of_each(cursor: str | None, limit: int, conditions: Sequence[ColumnElement[bool]]) -> Select[Any]:
    newest = (
        select(models.c.name, func.max(models.c.version).label("version"))
        .where(models.c.name > after(cursor, ""), *conditions)
        .group_by(models.c.name)
        .order_by(models.c.name)
        .limit(limit)
        .subquery()
    )
    same = (models.c.name == newest.c.name) & (models.c.version == newest.c.version)
    return select(models).join(newest, same).order_by(models.c.name)


def _grouped(connection: Connection, statement: Select[Any], ids: Sequence[int]) -> dict[int, list[Row[Any]]]:
    found: dict[int, list[Row[Any]]] = {}
    for row in connection.execute(statement.where(statement.selected_columns.model_id.in_(ids))):
        found.setdefault(row.model_id, []).append(row)
    return found


def _put_entries(
    connection: Connection, table: Table, model_id: int, entries: Mapping[str, str | None] | Mapping[str, float | None]
) -> None:
    gone = [key for key, value in entries.items() if value is None]
    kept = [{"model_id": model_id, "key": key, "value": value} for key, value in entries.items() if value is not None]
    if gone:
        connection.execute(delete(table).where(table.c.model_id == model_id, table.c.key.in_(gone)))
    if kept:
        statement = insert(table)
        statement = statement.on_conflict_do_update(
            index_elements=[table.c.model_id, table.c.key], set_={"value": statement.excluded.value}
        )
        connection.execute(statement, kept)
