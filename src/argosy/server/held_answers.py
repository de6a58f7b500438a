"""What is answered here to a request for a service that sleeps, in the error shape of the data plane."""

import asyncio
import contextlib
import json
import math

from starlette.types import Receive, Send

from argosy.records import ServiceSettings

_LINGER_S = 2.0
_LINGER_BYTES = 4_000_000


class HeldAnswer(Exception):
    """Raised instead of holding."""

    def __init__(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        super().__init__(status)
        self.status, self.body, self.headers = status, body, headers

    async def send(self, receive: Receive, send: Send, request_id: bytes | None, method: str) -> None:
        headers = {"content-type": "application/json", **self.headers}
        lines = [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
        lines.append((b"content-length", b"%d" % len(self.body)))
        if request_id:
            lines.append((b"x-request-id", request_id))
        await send({"type": "http.response.start", "status": self.status, "headers": lines})
        await send({"type": "http.response.body", "body": b"" if method == "HEAD" else self.body, "more_body": True})
        if self.status == 413:
            await _discard(receive)
        await send({"type": "http.response.body", "body": b""})


async def _discard(receive: Receive) -> None:
    """Read on for a moment, so that who is still sending gets the answer instead of a reset."""
    size = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LINGER_S):
            while size < _LINGER_BYTES:
                message = await receive()
                if message["type"] != "http.request" or not message.get("more_body", False):
                    return
                size += len(message.get("body", b""))


def healthy() -> HeldAnswer:
    return HeldAnswer(200, b'"Healthy"', {})


def no_replica(reason: str, retry_after_s: float) -> HeldAnswer:
    return _error(503, "no_ready_replica", reason, {"retry-after": str(max(1, math.ceil(retry_after_s)))})


def shed(code: str, message: str, settings: ServiceSettings, retry_after_s: int) -> HeldAnswer:
    return _error(settings.overload_status, code, message, {"retry-after": str(retry_after_s)}, {"reason": code})


def too_large(limit_bytes: int) -> HeldAnswer:
    message = f"The body is larger than {limit_bytes} bytes."
    return _error(413, "too_large", message, {"connection": "close"}, {"limit_bytes": limit_bytes})


def no_milliseconds(given: bytes) -> HeldAnswer:
    shown = given[:40].decode("latin-1")
    expected = "a whole number of milliseconds"
    message = f"Header x-request-timeout-ms must be {expected}, not {shown!r}."
    details: dict[str, object] = {"header": "x-request-timeout-ms", "expected": expected, "received": shown}
    return _error(400, "invalid_input", message, {}, details)


def replica_failed() -> HeldAnswer:
    message = "The replica ended without a complete answer. Whether the request ran is unknown."
    return _error(502, "replica_failed", message, {})


def timed_out() -> HeldAnswer:
    return _error(504, "timeout", "The service did not answer in time.", {})


def unauthorized(service: str) -> HeldAnswer:
    message = "The key is missing or wrong. Send `Authorization: Bearer <key>` with the primary or the secondary key."
    return _error(401, "unauthorized", message, {"www-authenticate": f'Bearer realm="{service}"'})


def _error(
    status: int, code: str, message: str, headers: dict[str, str], details: dict[str, object] | None = None
) -> HeldAnswer:
    body = {"error": {"code": code, "message": message, "details": details or {}}}
    return HeldAnswer(status, json.dumps(body).encode(), headers)
