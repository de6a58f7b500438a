"""Holds requests for services that sleep, wakes these, and passes the requests on to the first replica.

The gateway brings what finds no replica to a unix socket here, for services that may be scaled to zero. A request that
has a key wakes the service and waits; its head stays as it is, so that the replica checks and counts as always. Nothing
is read of a large body before there is somebody to take it.
"""

import asyncio
import contextlib
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import uvicorn
from starlette.types import Receive, Scope, Send

from argosy.errors import Error
from argosy.records import ServiceSettings
from argosy.server import held_answers as answers
from argosy.server.held_answers import HeldAnswer
from argosy.server.held_body import CallerGone, HeldBody
from argosy.server.passing_on import Busy, pass_on
from argosy.services.access import admits
from argosy.services.reconcile import Reconciler
from argosy.services.scaling import Autoscaler
from argosy.services.stored import Stored
from argosy_serving.listener import bind_unix
from argosy_serving.messages import since_arrival_s

log = logging.getLogger(__name__)

_PREFIX = "/api/v1/service/"
_HEALTH = re.compile(r"|v2/health/(live|ready)|v2/models/[^/]+(/versions/[^/]+)?/ready").fullmatch
_LONGEST_AGE_S = 3600.0  # longer than any time-out: who has waited longer is late, and told so
_MILLISECONDS = re.compile(rb"[1-9][0-9]{0,15}").fullmatch  # as a replica reads them
_DOCUMENTS = ("docs", "swagger.json", "openapi.json")
_LOOK_EVERY_S = 0.05
# What the gateway needs to bring an answer home before its own time-out, which is 5 s after the request's.
_MARGIN_S = 2.0
_STOP_S = 5.0


@dataclass(frozen=True)
class _Asked:
    """One request: of which service, and until when (monotonic). `deadline` says that its caller set that."""

    stored: Stored
    until_s: float
    deadline: bool


class Holding:
    """`hashes(service)` are those of the keys that are valid now."""

    def __init__(
        self, path: Path, reconciler: Reconciler, autoscaler: Autoscaler, hashes: Callable[[str], list[str]]
    ) -> None:
        self._path, self._reconciler, self._autoscaler, self._hashes = path, reconciler, autoscaler, hashes
        self._known: dict[str, tuple[str, int, list[str]]] = {}
        self._held: Counter[str] = Counter()
        self._passing: Counter[str] = Counter()
        self._stopping = False
        self._ended, self._freed = asyncio.Event(), asyncio.Event()
        self._server: uvicorn.Server | None = None

    # -- life ----------------------------------------------------------------------------------------------------

    async def serve(self) -> None:
        config = uvicorn.Config(
            self,
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="off",
            timeout_keep_alive=65,
            timeout_graceful_shutdown=3,
        )
        self._server = _Server(config)
        try:
            await self._server.serve(sockets=[bind_unix(self._path)])
        finally:
            self._ended.set()

    async def stop(self) -> None:
        """Those that wait are told to come again."""
        self._stopping = True
        if self._server is not None:
            self._server.should_exit = True
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), _STOP_S)

    # -- one request ---------------------------------------------------------------------------------------------

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers: dict[bytes, bytes] = dict(scope["headers"])
        try:
            asked = await self._admit(scope, headers)
            with self._place(asked.stored):
                body = HeldBody(receive, asked.stored.settings.max_body_bytes)
                await self._hold(asked, scope, body, send)
        except CallerGone:
            pass
        except HeldAnswer as answer:
            await answer.send(receive, send, headers.get(b"x-request-id"), scope["method"])

    async def _admit(self, scope: Scope, headers: dict[bytes, bytes]) -> _Asked:
        """Raises HeldAnswer for what must not wake the service."""
        name, _, rest = scope["path"].removeprefix(_PREFIX).partition("/")
        stored = self._reconciler.stored_of(name)
        if stored is None or not stored.on_demand or stored.live_revision is None:
            raise answers.no_replica("No replica of this service is ready. Try again soon.", 1)
        if scope["method"] in ("GET", "HEAD") and _HEALTH(rest.rstrip("/")):
            raise self._health(stored)
        settings = stored.settings
        if not admits(headers.get(b"authorization"), await self._keys(stored)):
            if settings.public_docs and rest.partition("/")[0] in _DOCUMENTS:
                raise answers.no_replica("The service is asleep. A request with a key wakes it.", 5)
            raise answers.unauthorized(name)
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > settings.max_body_bytes:
            raise answers.too_large(settings.max_body_bytes)
        left_s, deadline = _left_s(settings, headers)
        if left_s <= 0:
            raise _too_late(settings, deadline, "it came too late to wake it")
        return _Asked(stored, monotonic() + left_s, deadline)

    def _health(self, stored: Stored) -> HeldAnswer:
        """A look at a service must not wake it: asleep is healthy, as long as it could be woken."""
        condition = self._reconciler.condition(stored)
        if condition.state == "healthy" or not self._reconciler.pause_s(stored.name):
            return answers.healthy()
        return answers.no_replica(condition.reason, self._reconciler.pause_s(stored.name))

    async def _keys(self, stored: Stored) -> list[str]:
        """A service that was deleted and made anew is another one: generation 1 again, and SQLite may reuse its id."""
        created_at, generation, hashes = self._known.get(stored.name, ("", 0, []))
        if (created_at, generation) != (stored.created_at, stored.generation):
            hashes = await asyncio.to_thread(self._hashes, stored.name)
            self._known[stored.name] = (stored.created_at, stored.generation, hashes)
        return hashes

    @contextlib.contextmanager
    def _place(self, stored: Stored) -> Iterator[None]:
        """As many may wait as all replicas together would take."""
        settings = stored.settings
        most = settings.max_replicas * (settings.max_concurrent_requests + settings.max_queued_requests)
        if self._held[stored.name] >= most:
            raise answers.shed("queue_full", f"{most} requests wait for the first replica already.", settings, 2)
        self._held[stored.name] += 1
        try:
            yield
        finally:
            self._held[stored.name] -= 1
            self._held += Counter()

    async def _hold(self, asked: _Asked, scope: Scope, body: HeldBody, send: Send) -> None:
        """Until the answer is sent, or the caller is gone."""
        waiting = contextlib.ExitStack()
        await self._need(asked.stored.name, waiting)
        gone = asyncio.create_task(body.gone())
        work = asyncio.create_task(self._serve_when_ready(asked, scope, body, send, waiting))
        try:
            await asyncio.wait({gone, work}, return_when=asyncio.FIRST_COMPLETED)
            # What went wrong in either is told to the caller.
            for task in (work, gone):
                if task.done():
                    return task.result()
        finally:
            for task in (gone, work):
                task.cancel()
            await asyncio.gather(gone, work, return_exceptions=True)
            waiting.close()

    async def _need(self, name: str, waiting: contextlib.ExitStack) -> None:
        """Counts for the autoscaler until `waiting` is closed."""
        counted = asyncio.ensure_future(asyncio.to_thread(self._autoscaler.hold, name))
        try:
            await asyncio.shield(counted)
        except Error as problem:
            raise answers.no_replica(problem.message, 2) from problem
        except asyncio.CancelledError:
            # The thread goes on, and counts a request that is gone.
            counted.add_done_callback(lambda done: None if done.exception() else self._autoscaler.release(name))
            raise
        waiting.callback(self._autoscaler.release, name)

    async def _serve_when_ready(
        self, asked: _Asked, scope: Scope, body: HeldBody, send: Send, waiting: contextlib.ExitStack
    ) -> None:
        while True:
            address = await self._free_replica(asked)
            name = asked.stored.name
            # From here on the replica counts it.
            waiting.close()
            self._passing[name] += 1
            try:
                left_s = asked.stored.settings.request_timeout_ms / 1000 + _MARGIN_S
                return await pass_on(address, scope, body, send, left_s)
            except Busy:
                # It waits here again, and nobody else counts it.
                await self._need(name, waiting)
                await asyncio.sleep(_LOOK_EVERY_S)
            finally:
                self._passing[name] -= 1
                self._passing += Counter()
                self._freed.set()
                self._freed = asyncio.Event()

    async def _free_replica(self, asked: _Asked) -> str:
        """The address of a replica that has a slot for one of ours. Raises HeldAnswer when there is none in time."""
        name, settings = asked.stored.name, asked.stored.settings
        while True:
            if self._stopping:
                raise answers.no_replica("The control plane stops. Try again soon.", 1)
            addresses = self._reconciler.addresses(name)
            late = monotonic() >= asked.until_s
            if not late and self._passing[name] < len(addresses) * settings.max_concurrent_requests:
                return addresses[self._passing[name] % len(addresses)].removeprefix("unix@")
            stored = self._reconciler.stored_of(name)
            if stored is None or stored.deleting:
                raise answers.no_replica(f"Service {name} is being deleted.", 1)
            condition, pause_s = self._reconciler.condition(stored), self._reconciler.pause_s(name)
            if condition.state == "failed" and pause_s:
                raise answers.no_replica(f"No replica can be started: {condition.reason}.", pause_s)
            if late:
                raise _too_late(settings, asked.deadline, f"it is not ready yet: {condition.reason}")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._freed.wait(), min(_LOOK_EVERY_S, max(0.0, asked.until_s - monotonic())))


class _Server(uvicorn.Server):
    """Beside the control plane's own server, which takes the signals."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _left_s(settings: ServiceSettings, headers: Mapping[bytes, bytes]) -> tuple[float, bool]:
    """Seconds that the request may still take, and whether its caller said so. Raises HeldAnswer as a replica does."""
    given = headers.get(b"x-request-timeout-ms")
    if given is not None and not _MILLISECONDS(given):
        raise answers.no_milliseconds(given)
    most_ms = settings.request_timeout_ms
    own_ms = most_ms if given is None else min(int(given), most_ms)
    waited_s = since_arrival_s(headers.get(b"x-argosy-arrival"), _LONGEST_AGE_S)
    return own_ms / 1000 - waited_s, own_ms < most_ms


def _too_late(settings: ServiceSettings, deadline: bool, why: str) -> HeldAnswer:
    if deadline:
        return answers.shed("deadline", "The request's deadline passed while the service was asleep.", settings, 2)
    return answers.no_replica(f"The service was asleep, and {why}.", 5)
