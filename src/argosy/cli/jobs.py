"""Commands that start an operation: progress while it is waited for, and what to do when it is not."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from argosy.cli.output import Block, Pairs
from argosy.cli.progress import Reporter
from argosy.cli.session import Session
from argosy.records import Operation
from argosy.sdk.operations import succeeded


@dataclass(frozen=True)
class Job:
    """`title` heads the progress lines; `watch` is the command that shows how it goes on without us."""

    title: str
    watch: str
    wait: bool


def run(
    session: Session,
    job: Job,
    start: Callable[[Reporter], Operation],
    finished: Callable[[Operation], tuple[Any, list[Block]]],
) -> None:
    """Start it; then print what `finished` reads, or the operation itself when nobody waits.

    `start` is given where to report, and makes the SDK call that waits.
    """
    session.going_on = f"What the control plane has begun goes on; `{job.watch}` shows how it stands."
    with session.progress(job.title) as progress:
        operation = start(progress)
    session.going_on = ""
    if not operation.done:
        session.show(operation, lambda: [_pending(operation, job)])
        return
    data, blocks = finished(succeeded(operation))
    session.show(data, lambda: blocks)


def _pending(operation: Operation, job: Job) -> Pairs:
    return Pairs(
        (
            ("operation", operation.id),
            ("kind", operation.kind),
            ("subject", operation.subject),
            ("state", operation.state),
            ("watch", job.watch),
        )
    )
