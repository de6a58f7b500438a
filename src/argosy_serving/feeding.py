"""A worker's side of a stream: run the generator to its end, in a slot's thread or in a task.

Before the first item nothing is sent, so an error there is answered like any other. `began` runs on the loop, once,
with the first chunk: the caller is answered, while the entry goes on holding its slot.
"""

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Any

from argosy_serving.admission import Entry
from argosy_serving.scoring import Scorer
from argosy_serving.streams import Form, Stream, in_thread, on_loop

Began = Callable[[Entry], None]


def feed(entry: Entry, scorer: Scorer, loop: asyncio.AbstractEventLoop, began: Began) -> None:
    """In a slot's thread. Never raises."""
    work = entry.work
    items = in_thread(work.items)
    stream: Stream | None = None
    try:
        for item in items:
            form = stream.form if stream is not None else scorer.form_of(item, work)
            chunk = form.chunk(item)
            if stream is None:
                stream = _open(entry, form, loop)
                loop.call_soon_threadsafe(began, entry)
            if not stream.put_and_wait(chunk):
                break
        if stream is None:
            stream = _open(entry, scorer.form_of(None, work), loop)
            loop.call_soon_threadsafe(began, entry)
        stream.finish()
    except BaseException as problem:  # noqa: BLE001 - user code may raise anything
        _fail(entry, scorer, stream, problem)
    finally:
        _close(items, entry, scorer)
        work.ran_at = work.encoded_at = monotonic()


async def feed_async(entry: Entry, scorer: Scorer, loop: asyncio.AbstractEventLoop, began: Began) -> None:
    """The same in a task; cancelled when the reader is gone or out of time."""
    work = entry.work
    items: Any = on_loop(work.items)
    stream: Stream | None = None
    try:
        async for item in items:
            form = stream.form if stream is not None else scorer.form_of(item, work)
            chunk = form.chunk(item)
            if stream is None:
                stream = _open(entry, form, loop)
                began(entry)
            if not await stream.put(chunk):
                break
        if stream is None:
            stream = _open(entry, scorer.form_of(None, work), loop)
            began(entry)
        stream.finish()
    except asyncio.CancelledError:
        raise
    except BaseException as problem:  # noqa: BLE001 - user code may raise anything
        _fail(entry, scorer, stream, problem)
    finally:
        try:
            await items.aclose()
        except Exception as problem:  # noqa: BLE001 - as above
            scorer.refusal(work, problem)
        work.ran_at = work.encoded_at = monotonic()


def _open(entry: Entry, form: Form, loop: asyncio.AbstractEventLoop) -> Stream:
    entry.work.stream = Stream(loop, form, entry.deadline_at)
    return entry.work.stream


def _fail(entry: Entry, scorer: Scorer, stream: "Stream | None", problem: BaseException) -> None:
    refusal = scorer.refusal(entry.work, problem)
    if stream is None:
        entry.work.problem = refusal
    else:
        stream.finish(refusal)


def _close(items: Any, entry: Entry, scorer: Scorer) -> None:
    """End the generator; what its `finally` raises goes to the log, for the caller has had the last chunk."""
    try:
        items.close()
    except BaseException as problem:  # noqa: BLE001 - as above
        scorer.refusal(entry.work, problem)
