"""Passes a held request on to a replica and its answer back, as they are, chunk by chunk."""

import asyncio

import httpx
from starlette.types import Scope, Send

from argosy.server import held_answers as answers
from argosy.server.held_body import CallerGone, HeldBody

# Of one connection only (RFC 9110, 7.6.1); `expect` was answered here.
_HOP = frozenset({b"connection", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"expect"})
_CONNECT_S = 2.0


class Busy(Exception):
    """The replica did not begin with it, and it can be sent again."""


async def pass_on(path: str, scope: Scope, body: HeldBody, send: Send, timeout_s: float) -> None:
    """To the replica at the unix socket `path`. Raises Busy, or HeldAnswer when no answer has begun."""
    kept = await body.kept()
    headers = [(name, value) for name, value in scope["headers"] if name not in _HOP]
    target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
    url = httpx.URL("http://replica").copy_with(raw_path=target)
    request = httpx.Request(scope["method"], url, headers=headers, content=body.stream() if kept is None else kept)
    # No time-outs but ours: a model may take long.
    request.extensions = {"timeout": {"connect": _CONNECT_S, "read": None, "write": None, "pool": None}}
    async with httpx.AsyncHTTPTransport(uds=path, verify=False) as transport:
        try:
            async with asyncio.timeout(timeout_s):
                response = await transport.handle_async_request(request)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            # Nothing was sent: it is gone, or stopped with its backlog full.
            raise Busy from None
        except TimeoutError:
            raise answers.timed_out() from None
        except httpx.TransportError:
            raise answers.replica_failed() from None
        shed = response.status_code == 425 and "x-argosy-shed" in response.headers
        if shed and body.repeatable:
            raise Busy
        await _send(response, send)


async def _send(response: httpx.Response, send: Send) -> None:
    lines = [(name.lower(), value) for name, value in response.headers.raw if name.lower() not in _HOP]
    await send({"type": "http.response.start", "status": response.status_code, "headers": lines})
    try:
        async for chunk in response.aiter_raw():
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
    except httpx.TransportError:
        # An answer that breaks off ends this connection too.
        raise CallerGone from None
    await send({"type": "http.response.body", "body": b""})
