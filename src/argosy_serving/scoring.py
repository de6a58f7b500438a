"""One request's work away from the HTTP side: decode, run, encode. Called in a slot's thread, or on the loop for
`async def run`."""

import asyncio
import logging
from collections.abc import Mapping
from time import monotonic
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any

from argosy_serving.answers import JSON, NotEncodable, Response, encode_json, encode_raw
from argosy_serving.azure.raw_http import AMLRequest
from argosy_serving.bodies import Exchange
from argosy_serving.refusals import BadInput, Refusal, ScoringFailed
from argosy_serving.request_context import REQUEST_ID
from argosy_serving.schema import InvalidInput, Schema
from argosy_serving.scripts import Caller, Script
from argosy_serving.streams import BYTES, Form, Stream, form_of, in_thread, is_stream, on_loop

logger = logging.getLogger("argosy")

_UNFINISHED = frozenset({CoroutineType, GeneratorType, AsyncGeneratorType})


class Work:
    """A request's body and what became of it. Times are of the monotonic clock, in seconds; 0.0 is "not yet"."""

    __slots__ = (
        "batch_requests", "body", "caller", "cause", "content_type", "decoded_at", "encoded_at", "exchange",
        "extra_headers", "headers",
        "items", "problem", "ran_at", "request_id", "result", "started_at", "status", "stream", "target",
    )  # fmt: skip

    def __init__(
        self,
        body: bytes,
        headers: Mapping[bytes, bytes],
        request_id: str,
        caller: str,
        exchange: "Exchange | None" = None,
    ) -> None:
        self.body, self.headers, self.request_id, self.caller = body, headers, request_id, caller
        self.exchange = exchange  # how to read and answer what is not plain JSON
        self.started_at = self.decoded_at = self.ran_at = self.encoded_at = 0.0
        self.status = 200
        self.content_type = JSON
        self.result = b""
        self.extra_headers: list[tuple[bytes, bytes]] = []
        self.problem: Refusal | None = None
        self.cause: BaseException | None = None  # what `run` raised; kept for samples, dropped with the request
        self.items: Any = None  # the generator that `run` returned; the worker streams it
        self.stream: Stream | None = None
        self.batch_requests = 0  # of the batch this request was the first of
        self.target: tuple[str, str, bytes] | None = None  # method, path and query, for scripts with rawhttp


class Scorer:
    """Knows the script and the schema; leaves its result, or the refusal, in the Work. Never raises."""

    def __init__(self, script: Script, schema: "Schema | None", raw_strings: bool) -> None:
        self._script, self._schema, self._raw_strings = script, schema, raw_strings
        self.run = script.run
        self._plain = (
            schema is not None and not script.raw_http and not (script.wants_request or script.wants_request_headers)
        )

    def score(self, work: Work) -> None:
        REQUEST_ID.set(work.request_id)
        try:
            arguments = self.arguments(work)
            work.decoded_at = monotonic()
            value = self.run(**arguments)
            if type(value) in _UNFINISHED:
                if type(value) is CoroutineType:  # a plain function that returns a coroutine
                    value = asyncio.run(_finish(value))
                if is_stream(value):
                    if work.exchange is None or not work.exchange.whole:
                        work.items = value
                        return
                    value = list(in_thread(value))
            work.ran_at = monotonic()
            self.encode(work, value)
        except BaseException as problem:  # noqa: BLE001 - user code may raise anything, sys.exit included
            work.problem = self.refusal(work, problem)
        work.encoded_at = monotonic()

    async def score_async(self, work: Work) -> None:
        """The same for `async def run`. Cancelled on time-out."""
        REQUEST_ID.set(work.request_id)
        try:
            arguments = self.arguments(work)
            work.decoded_at = monotonic()
            value = self.run(**arguments)
            if type(value) is not AsyncGeneratorType:
                value = await value
            if type(value) in _UNFINISHED:
                if work.exchange is None or not work.exchange.whole:
                    work.items = value
                    return
                value = [item async for item in on_loop(value)]
            work.ran_at = monotonic()
            self.encode(work, value)
        except asyncio.CancelledError:
            raise
        except BaseException as problem:  # noqa: BLE001 - as above
            work.problem = self.refusal(work, problem)
        work.encoded_at = monotonic()

    def form_of(self, first: Any, work: Work) -> Form:
        """How the stream that begins with `first` is sent."""
        return form_of(first, work.headers.get(b"accept"), self._raw_strings)

    def gather(self, work: Work) -> None:
        """A whole stream as one answer, for samples: an array of its items, or its bytes in one piece."""
        try:
            self._encode_all(work, list(in_thread(work.items)))
        except BaseException as problem:  # noqa: BLE001 - as above
            work.problem = self.refusal(work, problem)

    async def gather_async(self, work: Work) -> None:
        try:
            self._encode_all(work, [item async for item in on_loop(work.items)])
        except BaseException as problem:  # noqa: BLE001 - as above
            work.problem = self.refusal(work, problem)

    def _encode_all(self, work: Work, items: "list[Any]") -> None:
        form = form_of(items[0] if items else None, None, raw_strings=False)
        pieces = [form.chunk(item) for item in items]
        work.result = b"".join(pieces) if form.kind == BYTES else encode_json(items)

    def arguments(self, work: Work) -> "dict[str, Any]":
        """What `run` is called with. Raises InvalidInput and Refusals."""
        arguments: dict[str, Any] | None = None
        if work.exchange is not None:
            arguments = _read(work, work.exchange)
        if self._script.raw_http:
            method, path, query = work.target or ("POST", "/score", b"")
            request = AMLRequest(method, path, query, _text_headers(work.headers), work.body)
            arguments = {self._script.body_parameter: request}
        elif self._schema is not None:
            if arguments is None:
                empty = not self._schema.inputs and not work.body
                arguments = {} if empty else self._schema.decode_body(work.body)
            if self._plain:
                return arguments
        elif self._script.body_parameter:
            body: Any = work.body
            if not self._script.wants_bytes:
                try:
                    body = work.body.decode()
                except UnicodeDecodeError as problem:
                    raise InvalidInput("", "text in UTF-8", f"bytes that are none at {problem.start}") from None
            arguments = {self._script.body_parameter: body}
        else:
            arguments = {}
        if self._script.wants_request or self._script.wants_request_headers:
            headers = _text_headers(work.headers)
            if self._script.wants_request:
                arguments["request"] = Caller(work.request_id, headers, work.caller)
            if self._script.wants_request_headers:
                arguments["request_headers"] = headers
        return arguments

    def encode(self, work: Work, value: Any) -> None:
        """Raises NotEncodable."""
        if isinstance(value, Response):
            work.status, work.result = value.status, value.body
            work.content_type = b"application/octet-stream"
            for name, text in value.headers.items():
                if name.lower() == "content-type":
                    work.content_type = text.encode("latin-1")
                else:
                    work.extra_headers.append((name.lower().encode(), text.encode("latin-1")))
        elif work.exchange is not None and (made := work.exchange.write(value)) is not None:
            work.content_type, work.result, more = made
            work.extra_headers += more
        elif self._raw_strings and isinstance(value, str):
            work.content_type, work.result = encode_raw(value)
        else:
            work.result = encode_json(value)

    def refusal(self, work: Work, problem: BaseException) -> Refusal:
        work.cause = problem
        if isinstance(problem, InvalidInput) and (not work.decoded_at or self._script.raw_http):
            return BadInput.of(problem)
        if isinstance(problem, Refusal):
            return problem
        if isinstance(problem, NotEncodable):
            logger.error("%s", problem)
            return ScoringFailed(work.request_id, f"{problem}.")
        logger.error("run() raised %s", type(problem).__name__, exc_info=_trimmed(problem))
        return ScoringFailed(work.request_id)


def _read(work: Work, exchange: Exchange) -> "dict[str, Any] | None":
    """The arguments, or None with the body as it was before it was compressed."""
    if exchange.encoding:
        work.body = exchange.plain_body(work.body)
        work.headers = {name: value for name, value in work.headers.items() if name != b"content-encoding"}
    return exchange.read(work.body)


def _text_headers(headers: Mapping[bytes, bytes]) -> "dict[str, str]":
    """Without the key: scripts have no use for it, and logs would keep it."""
    return {
        name.decode("latin-1"): value.decode("latin-1") for name, value in headers.items() if name != b"authorization"
    }


def _trimmed(problem: BaseException) -> Any:
    """Exception info whose traceback starts in user code, not in this file."""
    trace = problem.__traceback__
    inner = trace.tb_next if trace is not None and trace.tb_next is not None else trace
    return type(problem), problem.with_traceback(inner), inner


async def _finish(value: Any) -> Any:
    return await value
