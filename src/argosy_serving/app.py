"""The data plane of one replica: `App.handle(request)` answers every request, with and without the service's prefix.

`/livez`, `/readyz` and `/metrics` exist only without the prefix, so the gateway can never route to them.
"""

import functools
import logging
import random
import re
from collections.abc import Callable
from time import monotonic
from typing import Any

import orjson

from argosy_serving import docs_page, documents
from argosy_serving.admission import Admission, Entry
from argosy_serving.auth import caller_of
from argosy_serving.bodies import Exchange, exchange_of, installed
from argosy_serving.inference_routes import Choose, Inference
from argosy_serving.messages import JSON_TYPE, Answer, Request, header_lines, since_arrival_s
from argosy_serving.metrics import Metrics
from argosy_serving.refusals import (
    BadInput,
    NoSuchPath,
    Refusal,
    ScoringFailed,
    ScoringTimeout,
    Shed,
    Unauthorized,
    Unavailable,
    WrongMethod,
)
from argosy_serving.request_context import working_on
from argosy_serving.schema import Schema
from argosy_serving.scoring import Work
from argosy_serving.settings import LiveSettings
from argosy_serving.spec import Image, Spec
from argosy_serving.state import DRAINING, State
from argosy_serving.streams import Stream
from argosy_serving.tap import TAP

logger = logging.getLogger("argosy")

# Ids must be unlike each other, not secret: seeded by the system once, so that a request costs no system call.
_RANDOM = random.Random().getrandbits  # noqa: S311
_SANE_ID = re.compile(rb"[\x20-\x7e]{1,128}").fullmatch
_TRACE = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}").fullmatch
_MILLISECONDS = re.compile(rb"[1-9][0-9]{0,15}").fullmatch
_SLOWEST_BODY_S = 30.0
_TYPES_KNOWN = 64  # pairs of content type and accept that are remembered; each form has a boundary of its own

Handler = Callable[[Request], "Answer | None"]  # None: it answers later


class App:
    """Everything that can be computed at start is: the routes, the headers, the documents."""

    def __init__(
        self, spec: Spec, image: Image, state: State, admission: Admission, settings: Callable[[], LiveSettings]
    ) -> None:
        self._spec, self._state, self._admission, self._settings = spec, state, admission, settings
        self.schema: Schema | None = None
        self._raw_http = False
        self._models = ",".join(map(str, image.models))
        self._with_schema = image.schema is not None
        self.metrics = Metrics(
            {
                "service": spec.service,
                "revision": str(spec.revision),
                "model": ",".join(model.name for model in image.models),
                "model_version": ",".join(str(model.version) for model in image.models),
            }
        )
        self.metrics.batching = admission.capacity > admission.slots
        admission.on_finished = self._measure
        identity = [(b"x-argosy-revision", str(spec.revision).encode())]
        if self._models:
            identity.append((b"x-argosy-model", self._models.encode("ascii", "replace")))
        self._identity = header_lines(identity)
        self._exchanges: dict[tuple[bytes | None, bytes | None], Exchange | None] = {}  # by content type and accept
        self._documents: dict[tuple[Any, ...], bytes] = {}
        prefix = f"/api/v1/service/{spec.service}"
        self._forms = installed()
        self._inference = Inference(
            spec,
            image,
            lambda: self.schema,
            self._check_ready,
            self._answer,
            self._for_readers,
            self._score,
            self._forms,
        )
        self._inference_paths = ("/v2/", f"{prefix}/v2/")
        self._routes: dict[str, tuple[str, Handler]] = {
            "/livez": ("GET", self._livez),
            "/readyz": ("GET", self._readyz),
            "/metrics": ("GET", self._metrics_page),
            **self._public_routes(""),
            **self._public_routes(prefix),
        }
        self._score_paths = {"/score", f"{prefix}/score"}

    def loaded(self, schema: "Schema | None", raw_http: bool) -> None:
        """Called before the state becomes ready. The schema is the manifest's or the script's own."""
        self.schema, self._raw_http = schema, raw_http
        self._exchanges.clear()
        self._with_schema = schema is not None and not raw_http

    def _public_routes(self, prefix: str) -> "dict[str, tuple[str, Handler]]":
        routes: dict[str, tuple[str, Handler]] = {
            f"{prefix}/score": ("POST", self._score),
            f"{prefix}/": ("GET", self._health),
            f"{prefix}/swagger.json": ("GET", self._document(documents.swagger, prefix)),
            f"{prefix}/openapi.json": ("GET", self._document(documents.openapi, prefix)),
            f"{prefix}/docs": ("GET", self._for_readers(lambda _: docs_page.page(self._spec.service))),
            f"{prefix}/docs/": ("GET", self._to_docs),
        }
        for name in docs_page.ASSETS:
            routes[f"{prefix}/docs/{name}"] = ("GET", self._asset(name))
        routes.update(self._inference.routes(prefix))
        if prefix:
            routes[prefix] = ("GET", self._health)
        return routes

    def handle(self, request: Request) -> None:
        """Leads to one answer, now or later. Never raises."""
        if request.path in self._score_paths and request.method == "POST":
            self._score(request)
            return
        try:
            answer = self._route(request)(request)
        except Refusal as refusal:
            answer = self._refuse(refusal, self._request_id(request), request)
        except Exception:
            logger.exception("Answering %s failed", request.path)
            answer = self._refuse(ScoringFailed("", "The server failed."), self._request_id(request), request)
        if answer is not None:
            request.respond(answer)

    def _route(self, request: Request) -> Handler:
        route = self._routes.get(request.path)
        if route is None:
            raise NoSuchPath(request.path)
        method, handler = route
        if self._raw_http and request.method == "GET" and request.path in self._score_paths:
            return self._score
        if request.method != method and not (method == "GET" and request.method == "HEAD"):
            raise WrongMethod(request.method, method)
        return handler

    def _score(self, request: Request, choose: "Choose | None" = None) -> None:
        """All that can be refused without the body is; then it is read, and admitted."""
        request_id = self._request_id(request)
        try:
            settings = self._settings()
            headers = request.headers
            caller = caller_of(settings, headers.get(b"authorization"))
            if caller is None:
                raise Unauthorized(self._spec.service, browser=False)
            self._check_ready()
            exchange: Exchange | None
            if choose is not None:
                exchange = choose(headers, settings.max_body_bytes)
            elif b"content-encoding" in headers:
                exchange = self._exchange(headers, settings.max_body_bytes)
            else:
                kind = headers.get(b"content-type"), headers.get(b"accept")
                if kind in self._exchanges:
                    exchange = self._exchanges[kind]
                else:
                    exchange = self._exchange(headers, settings.max_body_bytes)
                    if len(self._exchanges) >= _TYPES_KNOWN:
                        self._exchanges.clear()
                    self._exchanges[kind] = exchange
            arrived_at = self._arrived_at(request, settings)
            deadline_at = arrived_at + self._limit_s(settings, headers)
            work = Work(b"", headers, request_id.decode("latin-1"), caller, exchange)
            if request.whole and len(request.body) <= settings.max_body_bytes:
                self._admit(request, work, arrived_at, deadline_at)
                return
            self._admission.check_door(deadline_at - monotonic())
        except Exception as problem:  # noqa: BLE001 - a refusal, or a defect of ours
            self._turn_away(request, request_id, problem)
            return
        request.read(
            settings.max_body_bytes,
            min(_SLOWEST_BODY_S, max(0.0, deadline_at - monotonic())),
            functools.partial(self._admit, request, work, arrived_at, deadline_at),
            functools.partial(self._turn_away, request, request_id),
        )

    def _admit(self, request: Request, work: Work, arrived_at: float, deadline_at: float) -> None:
        try:
            self._check_ready()
            work.body = request.body
            if self._raw_http:
                work.target = (request.method, "/score", request.query)
            done = functools.partial(self._scored, request)
            self._admission.submit(Entry(work, arrived_at, deadline_at, request.gone, done))
        except Exception as problem:  # noqa: BLE001 - as above
            self._turn_away(request, work.request_id.encode("latin-1"), problem)

    def _turn_away(self, request: Request, request_id: bytes, problem: Exception) -> None:
        if not isinstance(problem, Refusal):
            name = request_id.decode("latin-1")
            with working_on(name):
                logger.error("The server failed", exc_info=problem)
            problem = ScoringFailed(name, "The server failed.")
        request.respond(self._refuse(problem, request_id, request, count=True))

    def _scored(self, request: Request, entry: Entry, refusal: "Refusal | None") -> None:
        """The end of an admitted request, in time or not."""
        problem: Exception | None = refusal
        if problem is None:
            try:
                self.metrics.answered(entry.work.status)
                request.respond(self._result(entry, request))
                return
            except Exception as defect:  # noqa: BLE001 - ours
                problem = defect
        self._turn_away(request, entry.work.request_id.encode("latin-1"), problem)

    def _result(self, entry: Entry, request: Request) -> Answer:
        work = entry.work
        if work.stream is not None:
            return self._streamed(entry, work.stream, request)
        head = (
            b"content-type: %b\r\nx-request-id: %b\r\n"
            b"server-timing: queue;dur=%.3f, decode;dur=%.3f, run;dur=%.3f, encode;dur=%.3f\r\n%b%b"
        ) % (
            work.content_type,
            work.request_id.encode("latin-1"),
            (work.started_at - entry.arrived_at) * 1e3,
            (work.decoded_at - work.started_at) * 1e3,
            (work.ran_at - work.decoded_at) * 1e3,
            (work.encoded_at - work.ran_at) * 1e3,
            self._identity,
            self._trace(request),
        )
        if work.extra_headers:
            head += header_lines(work.extra_headers)
        return Answer(work.status, head, work.result, closing=self._state.phase == DRAINING)

    def _streamed(self, entry: Entry, stream: Stream, request: Request) -> Answer:
        work = entry.work
        head = (
            b"content-type: %b\r\nx-request-id: %b\r\nserver-timing: queue;dur=%.3f, decode;dur=%.3f\r\n"
            b"cache-control: no-store\r\n%b%b"
        ) % (
            stream.form.content_type,
            work.request_id.encode("latin-1"),
            (work.started_at - entry.arrived_at) * 1e3,
            (work.decoded_at - work.started_at) * 1e3,
            self._identity,
            self._trace(request),
        )
        return Answer(200, head, b"", stream, closing=self._state.phase == DRAINING)

    @staticmethod
    def _request_id(request: Request) -> bytes:
        given = request.headers.get(b"x-request-id")
        if given is not None and _SANE_ID(given):
            return given
        return b"%032x" % _RANDOM(128)

    def _exchange(self, headers: "dict[bytes, bytes]", limit_bytes: int) -> "Exchange | None":
        """How to read and answer what is not plain JSON."""
        schema = self.schema if self._with_schema else None
        return exchange_of(headers, limit_bytes, schema, self._raw_http, self._forms)

    def _arrived_at(self, request: Request, settings: LiveSettings) -> float:
        """When the request reached the gateway first: one that was sent on waited elsewhere already."""
        given = request.headers.get(b"x-argosy-arrival") if request.behind_gateway else None
        return request.arrived_at - since_arrival_s(given, settings.request_timeout_ms / 1000)

    @staticmethod
    def _limit_s(settings: LiveSettings, headers: "dict[bytes, bytes]") -> float:
        """Seconds this request may take in all: the service's time-out, or the caller's when it is shorter."""
        given = headers.get(b"x-request-timeout-ms")
        if given is None:
            return settings.request_timeout_ms / 1000
        if not _MILLISECONDS(given):
            shown = given[:40].decode("latin-1")
            raise BadInput(
                f"Header x-request-timeout-ms must be a whole number of milliseconds, not {shown!r}.",
                {"header": "x-request-timeout-ms", "expected": "a whole number of milliseconds", "received": shown},
            )
        return min(settings.request_timeout_ms, int(given)) / 1000

    def _check_ready(self) -> None:
        if not self._state.takes_work:
            raise self._unavailable()

    def _unavailable(self) -> Unavailable:
        if self._state.phase == DRAINING:
            return Unavailable("draining", "This replica is stopping. Try again.", 1)
        return Unavailable("loading", f"The model is not ready: {self._state.reason}.", 2)

    def _refuse(self, refusal: Refusal, request_id: bytes, request: Request, count: bool = False) -> Answer:
        status = refusal.status
        headers = [(b"x-request-id", request_id)]
        if isinstance(refusal, Shed):
            status = refusal.outer_status(self._settings().overload_status)
            if count:
                self.metrics.refused(refusal.code)
            if request.behind_gateway and count:
                headers += [(b"x-argosy-shed", refusal.code.encode()), (b"x-argosy-overload", b"%d" % status)]
                status = 425
        if isinstance(refusal, ScoringTimeout):
            with working_on(request_id.decode("latin-1")):
                logger.warning("%s The slot stays busy until run() returns.", refusal.message)
        for name, value in refusal.headers.items():
            headers.append((name.encode(), value.encode("latin-1", "replace")))
        if count:
            self.metrics.answered(status)
        # The inference protocol wants a text for an error.
        as_text = f"{request.path}/".startswith(self._inference_paths)
        body = refusal.text_body() if as_text else refusal.body()
        return self._answer(body, request, status, header_lines(headers))

    @staticmethod
    def _trace(request: Request) -> bytes:
        trace = request.headers.get(b"traceparent")
        return b"" if trace is None or not _TRACE(trace) else b"traceparent: %b\r\n" % trace

    def _measure(self, entry: Entry) -> None:
        work = entry.work
        if work.batch_requests:
            self.metrics.batched(work.batch_requests)
        if work.problem is None and work.ran_at:
            self.metrics.scored(work, entry.queued_at, entry.arrived_at)

    def _health(self, request: Request) -> Answer:
        self._check_ready()
        return self._answer(b'"Healthy"', request)

    def _livez(self, request: Request) -> Answer:
        return self._answer(b'{"status":"alive"}', request)

    def _readyz(self, request: Request) -> Answer:
        phase = self._state.phase
        stalled = phase == "ready" and self._admission.stalled
        status = 200 if phase == "ready" and not stalled else 503
        reason = "no slot has answered for too long" if stalled else self._state.reason
        return self._answer(orjson.dumps({"status": phase, "reason": reason}), request, status)

    def _metrics_page(self, request: Request) -> Answer:
        admission = self._admission
        gauges = {
            "queue_depth": admission.queued,
            "in_flight": admission.in_flight,
            "concurrency_limit": admission.capacity,
            "queue_limit": admission.queue_limit,
            "stuck": admission.stuck,
            "ready": int(self._state.phase == "ready" and not admission.stalled),
            "collected_rows_total": TAP.rows_taken,
            "collected_rows_dropped_total": TAP.rows_dropped,
        }
        kind = b"content-type: text/plain; version=0.0.4; charset=utf-8\r\n"
        return Answer(200, kind, self.metrics.render(gauges).encode())

    def _document(self, render: "Callable[[documents.About, Schema | None], bytes]", prefix: str) -> Handler:
        def answer(request: Request) -> Answer:
            settings = self._settings()
            forwarded = request.headers.get(b"x-forwarded-proto") if request.behind_gateway else None
            scheme = forwarded.decode() if forwarded in (b"http", b"https") else settings.scheme
            key = (render, prefix, scheme, settings.auth, self.schema is None)
            if key not in self._documents:
                about = documents.About(
                    self._spec.service, self._spec.revision, self._models, prefix, scheme, settings.auth,
                    self._forms.forms,
                )  # fmt: skip
                self._documents[key] = render(about, self.schema)
            return self._answer(self._documents[key], request)

        return self._for_readers(answer)

    def _for_readers(self, answer: "Callable[[Request], Answer]") -> Handler:
        """Documents need a key, as Bearer or as the password of HTTP Basic, unless they are public."""

        def handler(request: Request) -> Answer:
            settings = self._settings()
            given = request.headers.get(b"authorization")
            if not settings.public_docs and caller_of(settings, given, browser=True) is None:
                raise Unauthorized(self._spec.service, browser=True)
            return answer(request)

        return handler

    def _asset(self, name: str) -> Handler:
        made: list[Answer] = []

        def answer(_: Request) -> Answer:
            if not made:
                made.append(docs_page.asset(name))
            return made[0]

        return self._for_readers(answer)

    def _to_docs(self, request: Request) -> Answer:
        return Answer(308, b"location: ../docs\r\n", b"")

    def _answer(self, body: bytes, request: Request, status: int = 200, more: bytes = b"") -> Answer:
        headers = b"".join((JSON_TYPE, more, self._identity, self._trace(request)))
        return Answer(status, headers, body, closing=self._state.phase == DRAINING)
