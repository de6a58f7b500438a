"""The body of a request that is held: small ones are kept, so that they can be sent again; large ones wait outside."""

import asyncio
from collections.abc import AsyncIterator

from starlette.types import Receive

from argosy.server import held_answers as answers

_KEPT_BYTES = 65_536


class CallerGone(Exception):
    """Nobody waits for the answer any more, or there is no more of it."""


class HeldBody:
    """At most `limit_bytes`, else HeldAnswer. One task reads at a time: `gone` until `stream` takes over."""

    def __init__(self, receive: Receive, limit_bytes: int) -> None:
        self._receive, self._limit_bytes = receive, limit_bytes
        self._kept: list[bytes] = []
        self._size = 0
        self._whole = False
        self._streaming = False
        self._turn = asyncio.Lock()
        self.repeatable = True

    async def gone(self) -> None:
        """Returns when the caller has left. That shows only while nothing of the body is still to be read."""
        while True:
            async with self._turn:
                if self._whole:
                    message = await self._receive()
                    if message["type"] == "http.disconnect":
                        return
                elif not self._streaming and self._size < _KEPT_BYTES:
                    if await self._read() is None:
                        return
                    continue
            await asyncio.sleep(0.05)

    async def kept(self) -> bytes | None:
        """The whole body when it is small, None when it must be streamed."""
        while not self._whole and self._size < _KEPT_BYTES:
            async with self._turn:
                if not self._whole and await self._read() is None:
                    raise CallerGone
        if self._whole:
            return b"".join(self._kept)
        return None

    async def stream(self) -> AsyncIterator[bytes]:
        """From the beginning; only once."""
        self._streaming, self.repeatable = True, False
        kept, self._kept = self._kept, []
        for chunk in kept:
            yield chunk
        while not self._whole:
            async with self._turn:
                more = await self._read()
            if more is None:
                raise CallerGone
            self._kept.clear()
            yield more

    async def _read(self) -> bytes | None:
        """The next chunk, None when the caller has left."""
        message = await self._receive()
        if message["type"] == "http.disconnect":
            return None
        chunk: bytes = message.get("body", b"")
        self._size += len(chunk)
        if self._size > self._limit_bytes:
            raise answers.too_large(self._limit_bytes)
        self._kept.append(chunk)
        self._whole = not message.get("more_body", False)
        return chunk
