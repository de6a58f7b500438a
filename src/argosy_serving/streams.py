"""Answers of generators: chunks on their way from a worker to the connection.

The worker keeps its slot until the generator has ended. At most a few chunks wait, so a slow reader slows the
generator down; when the reader goes away or the deadline passes, the generator is closed at its next `yield`.

How a stream ends is never in doubt: whole, with the last chunk of HTTP; or cut off, without it, after an error record
where the form has one.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from types import AsyncGeneratorType, GeneratorType
from typing import Any

from argosy_serving.answers import encode_json
from argosy_serving.refusals import Refusal

_AHEAD = 8  # chunks that may wait for the reader
_END: Any = object()

EVENTS, LINES, TEXT, BYTES = "text/event-stream", "application/x-ndjson", "text/plain; charset=utf-8", "bytes"


@dataclass(frozen=True)
class Form:
    """How items become chunks: server-sent events, lines of JSON, or the items themselves (text, bytes)."""

    kind: str
    raw_strings: bool

    @property
    def content_type(self) -> bytes:
        return b"application/octet-stream" if self.kind == BYTES else self.kind.encode()

    def chunk(self, item: Any) -> bytes:
        """Raises NotEncodable, or TypeError for an item that is not of the stream's kind."""
        if self.kind == BYTES:
            if not isinstance(item, (bytes, bytearray, memoryview)):
                raise TypeError(f"run() yielded bytes first, and then a {type(item).__name__}")
            return bytes(item)
        if isinstance(item, str) and self.raw_strings:
            data = item.encode("utf-8", "replace")
        else:
            data = encode_json(item)
        if self.kind == LINES:
            return data + b"\n"
        return _event(data) if self.kind == EVENTS else data

    def error(self, refusal: Refusal) -> bytes:
        """The last record of a stream that is cut off; empty where there is no room for one."""
        if self.kind == EVENTS:
            return b"event: error\n" + _event(refusal.body())
        return refusal.body() + b"\n" if self.kind == LINES else b""


def _event(data: bytes) -> bytes:
    lines = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    return b"".join(b"data: " + line + b"\n" for line in lines) + b"\n"


def form_of(first: Any, accept: "bytes | None", raw_strings: bool) -> Form:
    """`first` is what the generator yielded first."""
    if isinstance(first, (bytes, bytearray, memoryview)):
        return Form(BYTES, raw_strings)
    if accept is not None and b"text/event-stream" in accept.lower():
        return Form(EVENTS, raw_strings)
    return Form(TEXT if raw_strings and isinstance(first, str) else LINES, raw_strings)


class Stream:
    """One answer's chunks. Lives on the loop; only `put_and_wait` and `finish` may be called from other threads."""

    def __init__(self, loop: asyncio.AbstractEventLoop, form: Form, deadline_at: float) -> None:
        self._loop, self.form, self.deadline_at = loop, form, deadline_at
        self.closed = False
        self.whole = False
        self.on_close: Callable[[], None] = lambda: None
        self._chunks: deque[bytes] = deque()
        self._ended = False
        self._moved = asyncio.Event()

    async def put(self, chunk: bytes) -> bool:
        """Wait for room. False when nobody reads any more: the generator must be closed."""
        while len(self._chunks) >= _AHEAD and not self.closed:
            self._moved.clear()
            await self._moved.wait()
        if self.closed:
            return False
        if chunk:
            self._chunks.append(chunk)
            self._moved.set()
        return True

    def put_and_wait(self, chunk: bytes) -> bool:
        """`put`, from a worker's thread."""
        return asyncio.run_coroutine_threadsafe(self.put(chunk), self._loop).result()

    def finish(self, refusal: "Refusal | None" = None) -> None:
        """No more chunks; with a `refusal` the stream is cut off."""
        self._loop.call_soon_threadsafe(self._finish, refusal)

    def _finish(self, refusal: "Refusal | None") -> None:
        if refusal is not None and (record := self.form.error(refusal)):
            self._chunks.append(record)
        self.whole, self._ended = refusal is None, True
        self._moved.set()

    def close(self) -> None:
        """The reader is gone, or out of time."""
        if not self.closed:
            self.closed = True
            self._moved.set()
            if not self._ended:
                self.on_close()

    async def chunks(self) -> AsyncIterator[bytes]:
        """Until the end; `whole` then says which end it was."""
        while True:
            while self._chunks:
                yield self._chunks.popleft()
                self._moved.set()
            if self._ended or self.closed:
                return
            self._moved.clear()
            await self._moved.wait()


def is_stream(value: Any) -> bool:
    return isinstance(value, (GeneratorType, AsyncGeneratorType))


def in_thread(items: Any) -> Iterator[Any]:
    """The items of either kind of generator, for a worker's thread. Closes it, too."""
    if isinstance(items, GeneratorType):
        try:
            yield from items
        finally:
            items.close()
        return
    loop = asyncio.new_event_loop()
    try:
        while True:
            try:
                item = loop.run_until_complete(items.__anext__())
            except StopAsyncIteration:
                return
            yield item
    finally:
        loop.run_until_complete(items.aclose())
        loop.close()


async def on_loop(items: Any) -> AsyncIterator[Any]:
    """The same for a task; a plain generator's steps run in threads, since they may block."""
    try:
        if isinstance(items, AsyncGeneratorType):
            async for item in items:
                yield item
            return
        while (item := await asyncio.to_thread(next, items, _END)) is not _END:
            yield item
    finally:
        if isinstance(items, AsyncGeneratorType):
            await items.aclose()
        elif not items.gi_running:
            items.close()
