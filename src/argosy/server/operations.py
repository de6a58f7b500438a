"""Durable long jobs: a row each, run step by step in threads, resumed after a crash at the step that was not finished.

A kind of operation is a list of steps. A step gets the `Job`, does something idempotent and returns what it made;
that is stored with the step, so that a resumed operation does not make it again. Nothing here knows what steps do.
"""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from sqlalchemy import Row, select

from argosy.errors import Conflict, Error, NotFound, SystemFailure
from argosy.records import Operation, Page, utc_now
from argosy.store.db import Database
from argosy.store.paging import after, cursor_of
from argosy.store.tables import operations

log = logging.getLogger(__name__)

_ACTIVE = ("pending", "running")
_MOST_MESSAGES = 500


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

    def say(self, message: str, progress: float | None = None) -> None:
        """Tell the user what happens now; `progress` is 0..1."""
        self._runner.note(self.id, message, progress)

    @property
    def stopping(self) -> bool:
        """Whether the control plane is on its way down: a waiting step should return by raising `Interrupted`."""
        return self._runner.stopping.is_set()


class Interrupted(Exception):
    """The control plane stops; the step will be run again."""


@dataclass(frozen=True)
class Step:
    """`run` returns what it made, a JSON object that is merged into `Job.made`. It may run twice: be idempotent."""

    name: str
    run: Callable[[Job], Mapping[str, Any] | None]


class OperationRunner:
    """`kinds` maps an operation's kind to its steps."""

    def __init__(self, database: Database, kinds: Mapping[str, Sequence[Step]], workers: int) -> None:
        self._database = database
        self._kinds = kinds
        self._pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="operation")
        self.stopping = threading.Event()

    def resume(self) -> int:
        """Take up what an earlier control plane left unfinished; how many."""
        with self._database.read() as connection:
            ids = connection.execute(
                select(operations.c.id).where(operations.c.state.in_(_ACTIVE)).order_by(operations.c.created_at)
            ).scalars()
            unfinished = list(ids)
        for operation_id in unfinished:
            self._pool.submit(self._run, operation_id)
        return len(unfinished)

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
            if idempotency_key:
                known = connection.execute(
                    select(operations).where(operations.c.idempotency_key == idempotency_key)
                ).first()
                if known is not None:
                    if known.kind != kind or known.subject != subject:
                        raise Conflict(f"The Idempotency-Key {idempotency_key!r} was used for another request.")
                    return _record(known)
            busy = connection.execute(
                select(operations.c.id, operations.c.kind).where(
                    operations.c.subject == subject, operations.c.state.in_(_ACTIVE)
                )
            ).first()
            if busy is not None and not supersedes:
                raise Conflict(
                    f"Operation {busy.id} ({busy.kind}) works on {subject.replace('/', ' ')}. Wait until it is done, "
                    "then try again.",
                    {"operation": busy.id},
                )
            operation_id = uuid4().hex[:16]
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
        self._pool.submit(self._run, operation_id)
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
            statement = statement.where(operations.c.created_at < after(cursor, ""))
        if subject is not None:
            statement = statement.where(operations.c.subject == subject)
        if state is not None:
            statement = statement.where(operations.c.state == state)
        with self._database.read() as connection:
            rows = connection.execute(statement).all()
        found = [_record(row) for row in rows[:limit]]
        return Page(found, cursor_of(found[-1].created_at) if len(rows) > limit else None)

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

    def _run(self, operation_id: str) -> None:
        with self._database.read() as connection:
            row = connection.execute(select(operations).where(operations.c.id == operation_id)).one()
        job = Job(self, row)
        steps = self._kinds[row.kind]
        names = [step.name for step in steps]
        begin = names.index(row.step) if row.step in names else 0
        try:
            for step in steps[begin:]:
                self._store(operation_id, state="running", step=step.name)
                job.made |= dict(step.run(job) or {})
                self._store(operation_id, made=job.made)
            self._store(operation_id, state="succeeded", progress=1.0)
        except Interrupted:
            log.info("operation %s waits for the next start", operation_id)
        except Cancelled as reason:
            self._store(operation_id, state="cancelled", error=reason.body()["error"])
        except Error as problem:
            self._store(operation_id, state="failed", error=problem.body()["error"] | {"status": problem.status})
        except Exception as problem:
            log.exception("operation %s (%s) failed", operation_id, row.kind)
            unexpected = SystemFailure(f"This is a defect of Argosy: {problem!r}. The control plane's log has more.")
            self._store(operation_id, state="failed", error=unexpected.body()["error"] | {"status": 500})

    def _store(self, operation_id: str, **values: Any) -> None:
        with self._database.write() as connection:
            connection.execute(
                operations.update().where(operations.c.id == operation_id).values(updated_at=utc_now(), **values)
            )


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
        result=dict(row.made),
        error=row.error,
    )
