"""Durable long jobs: a row each, run step by step in threads, resumed after a crash at the step that was not finished.

A kind of operation is a list of steps. A step gets the `Job`, does something idempotent and returns what it made;
that is stored with the step, so that a resumed operation does not make it again. Nothing here knows what steps do.
"""

import contextlib
import json
import logging
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, Row, func, select

from argosy.errors import Conflict, Error, NotFound, StorageFailed, SystemFailure
from argosy.records import Operation, Page, utc_now
from argosy.store.db import Database
from argosy.store.paging import after, cursor_of
from argosy.store.tables import operations

log = logging.getLogger(__name__)

_ACTIVE = ("pending", "running")
_MOST_MESSAGES = 500
# Threads: most of them only watch a rollout.
_MOST_RUNNING = 64
_RETRY_S = 1.0
_SHA256 = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")


class Cancelled(SystemFailure):
    """Raised by a step whose work is no longer wanted."""

    code = "cancelled"


class Job:
    """One running operation, as its steps see it. `input` is the request, `made` what steps have made so far."""

    def __init__(self, runner: "OperationRunner", row: Row[Any]) -> None:
        self._runner = runner
        self.id: str = row.id
        self.subject: str = row.subject
        self.created_at: str = row.created_at
        self.input: dict[str, Any] = row.input
        self.made: dict[str, Any] = dict(row.made)

    @property
    def superseded(self) -> bool:
        """Whether a later operation has taken this one's place."""
        return self._runner.superseded(self.id)

    def say(self, message: str, progress: float | None = None) -> None:
        """Tell the user what happens now; `progress` is 0..1. Raises Interrupted when the control plane stops."""
        self.go_on()
        self._runner.note(self.id, message, progress)

    def keep(self, **facts: Any) -> None:
        """Store what a step must know when it is run again, before it changes anything. Names that begin with `_` are
        not shown to users."""
        self.made |= facts
        self._runner.store(self.id, made=self.made)

    def go_on(self) -> None:
        """Raises Interrupted when the control plane stops."""
        if self.stopping:
            raise Interrupted

    @property
    def stopping(self) -> bool:
        """Whether the control plane is on its way down: a waiting step should return by raising `Interrupted`."""
        return self._runner.stopping.is_set()


class Interrupted(Exception):
    """The control plane stops; the step will be run again."""


@dataclass(frozen=True)
class Step:
    """`run` returns what it made, a JSON object that is merged into `Job.made`. It may run twice: be idempotent.

    A step that only `waits` takes none of the places of those that work, so that hung deploys hold up nobody.
    """

    name: str
    run: Callable[[Job], Mapping[str, Any] | None]
    waits: bool = False


class OperationRunner:
    """`kinds` maps an operation's kind to its steps; `workers` of them may work at once."""

    def __init__(self, database: Database, kinds: Mapping[str, Sequence[Step]], workers: int) -> None:
        self._database = database
        self._kinds = kinds
        self._pool = ThreadPoolExecutor(max_workers=_MOST_RUNNING, thread_name_prefix="operation")
        self._places = threading.BoundedSemaphore(workers)
        self.stopping = threading.Event()

    def resume(self) -> int:
        """Take up what an earlier control plane left unfinished; how many."""
        with self._database.read() as connection:
            ids = connection.execute(
                select(operations.c.id).where(operations.c.state.in_(_ACTIVE)).order_by(operations.c.created_at)
            ).scalars()
            unfinished = list(ids)
        for operation_id in unfinished:
            self._begin(operation_id)
        return len(unfinished)

    def repeated(self, kind: str, subject: str, idempotency_key: str | None) -> Operation | None:
        """The operation that an earlier request with this key began. Conflict when that asked for something else."""
        if not idempotency_key:
            return None
        with self._database.read() as connection:
            return _repeated(connection, kind, subject, idempotency_key)

    def submit(
        self,
        kind: str,
        subject: str,
        request: Mapping[str, Any],
        idempotency_key: str | None = None,
        supersedes: bool = False,
    ) -> Operation:
        """Begin an operation. Conflict when another one works on `subject`, unless this one supersedes it."""
        now = utc_now()
        with self._database.write() as connection:
            known = _repeated(connection, kind, subject, idempotency_key) if idempotency_key else None
            if known is not None:
                return known
            busy = connection.execute(
                select(operations.c.id, operations.c.kind).where(
                    operations.c.subject == subject, operations.c.state.in_(_ACTIVE)
                )
            ).first()
            if busy is not None and not supersedes:
                raise Conflict(
                    f"Operation {busy.id} ({busy.kind}) works on {_words(subject)}. Wait until it is done, "
                    "then try again.",
                    {"operation": busy.id},
                )
            operation_id = uuid4().hex[:16]
            connection.execute(
                operations.update()
                .where(operations.c.subject == subject, operations.c.state.in_(_ACTIVE))
                .values(superseded_by=operation_id)
            )
            connection.execute(
                operations.insert().values(
                    id=operation_id,
                    kind=kind,
                    subject=subject,
                    state="pending",
                    input=dict(request),
                    made={},
                    messages=[],
                    idempotency_key=idempotency_key or None,
                    created_at=now,
                    updated_at=now,
                )
            )
        self._begin(operation_id)
        return self.get(operation_id)

    def get(self, operation_id: str) -> Operation:
        with self._database.read() as connection:
            row = connection.execute(select(operations).where(operations.c.id == operation_id)).first()
        if row is None:
            raise NotFound("operation", operation_id)
        return _record(row)

    def page(self, limit: int, cursor: str | None, subject: str | None, state: str | None) -> Page[Operation]:
        """Newest first."""
        statement = select(operations).order_by(operations.c.created_at.desc(), operations.c.id).limit(limit + 1)
        if cursor is not None:
            # Several may begin in the same millisecond.
            begun, _, last = after(cursor, "").partition(" ")
            same = (operations.c.created_at == begun) & (operations.c.id > last)
            statement = statement.where((operations.c.created_at < begun) | same)
        if subject is not None:
            statement = statement.where(operations.c.subject == subject)
        if state is not None:
            statement = statement.where(operations.c.state == state)
        with self._database.read() as connection:
            rows = connection.execute(statement).all()
        found = [_record(row) for row in rows[:limit]]
        more = len(rows) > limit
        return Page(found, cursor_of(f"{found[-1].created_at} {found[-1].id}") if more else None)

    def works_on(self, subject: str) -> set[str]:
        """The kinds of operations under way for it."""
        with self._database.read() as connection:
            active = (operations.c.subject == subject) & operations.c.state.in_(_ACTIVE)
            return set(connection.execute(select(operations.c.kind).where(active)).scalars())

    def superseded(self, operation_id: str) -> bool:
        with self._database.read() as connection:
            by = select(operations.c.superseded_by).where(operations.c.id == operation_id)
            return connection.execute(by).scalar_one() is not None

    def active(self) -> int:
        """How many are not done."""
        with self._database.read() as connection:
            waiting = select(func.count()).select_from(operations).where(operations.c.state.in_(_ACTIVE))
            return int(connection.execute(waiting).scalar_one())

    def mentioned_blobs(self) -> set[str]:
        """Every SHA-256 that an operation which is not done was asked with, or has made."""
        with self._database.read() as connection:
            rows = connection.execute(
                select(operations.c.input, operations.c.made).where(operations.c.state.in_(_ACTIVE))
            ).all()
        return {value for row in rows for value in _SHA256.findall(json.dumps([row.input, row.made]))}

    def forget_finished(self, before: str) -> int:
        """Delete finished operations that were last touched before that time (ISO 8601, UTC); how many."""
        with self._database.write() as connection:
            old = operations.delete().where(operations.c.state.not_in(_ACTIVE), operations.c.updated_at < before)
            return connection.execute(old).rowcount

    def stop(self) -> None:
        """Let running steps end where they are; they are resumed by the next control plane."""
        self.stopping.set()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def note(self, operation_id: str, message: str, progress: float | None) -> None:
        with self._database.write() as connection:
            row = connection.execute(select(operations.c.messages).where(operations.c.id == operation_id)).one()
            said = [*row.messages, message][-_MOST_MESSAGES:]
            connection.execute(
                operations.update()
                .where(operations.c.id == operation_id)
                .values(messages=said, progress=progress, updated_at=utc_now())
            )

    def _begin(self, operation_id: str) -> None:
        try:
            self._pool.submit(self._run, operation_id)
        except RuntimeError:
            # The control plane has begun to stop: the next one resumes it.
            log.info("operation %s waits for the next start", operation_id)

    def _run(self, operation_id: str) -> None:
        try:
            self._take_steps(operation_id)
        except Interrupted:
            log.info("operation %s waits for the next start", operation_id)
        except Cancelled as reason:
            self._end(operation_id, state="cancelled", error=reason.body()["error"])
        except Error as problem:
            self._end(operation_id, state="failed", error=problem.body()["error"] | {"status": problem.status})
        except Exception as problem:
            log.exception("operation %s failed", operation_id)
            unexpected = SystemFailure(f"This is a defect of Argosy: {problem!r}. The control plane's log has more.")
            self._end(operation_id, state="failed", error=unexpected.body()["error"] | {"status": 500})

    def _take_steps(self, operation_id: str) -> None:
        with self._database.read() as connection:
            row = connection.execute(select(operations).where(operations.c.id == operation_id)).one()
        job = Job(self, row)
        steps = self._kinds.get(row.kind)
        if steps is None:
            raise SystemFailure(f"This version of Argosy has no operation {row.kind}. Begin it again.")
        names = [step.name for step in steps]
        begin = names.index(row.step) if row.step in names else 0
        for step in steps[begin:]:
            with contextlib.nullcontext() if step.waits else self._places:
                if self.stopping.is_set():
                    raise Interrupted
                self.store(operation_id, state="running", step=step.name)
                job.made |= dict(step.run(job) or {})
                self.store(operation_id, made=job.made)
        self._end(operation_id, state="succeeded", progress=1.0)

    def _end(self, operation_id: str, **values: Any) -> None:
        """Store how it ended, on a full disk as soon as there is room: until then its subject counts as busy."""
        while True:
            try:
                return self.store(operation_id, **values)
            except StorageFailed as problem:
                log.warning("the end of operation %s cannot be stored yet: %s", operation_id, problem.message)
            if self.stopping.wait(_RETRY_S):
                return None

    def store(self, operation_id: str, **values: Any) -> None:
        with self._database.write() as connection:
            connection.execute(
                operations.update().where(operations.c.id == operation_id).values(updated_at=utc_now(), **values)
            )


def _repeated(connection: Connection, kind: str, subject: str, idempotency_key: str) -> Operation | None:
    known = connection.execute(select(operations).where(operations.c.idempotency_key == idempotency_key)).first()
    if known is None:
        return None
    if known.kind != kind or known.subject != subject:
        raise Conflict(f"The Idempotency-Key {idempotency_key!r} was used for another request.")
    return _record(known)


def _words(subject: str) -> str:
    """`service/iris` as `service iris`, `service/iris/tuning` as `the tuning of service iris`."""
    noun, name, *part = subject.split("/")
    return f"the {part[0]} of {noun} {name}" if part else f"{noun} {name}"


def _record(row: Row[Any]) -> Operation:
    return Operation(
        id=row.id,
        kind=row.kind,
        subject=row.subject,
        state=row.state,
        step=row.step,
        created_at=row.created_at,
        updated_at=row.updated_at,
        progress=row.progress,
        message=row.messages[-1] if row.messages else "",
        messages=list(row.messages),
        result={name: value for name, value in row.made.items() if not name.startswith("_")},
        error=row.error,
    )
