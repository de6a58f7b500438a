"""The life of one replica: lock, log, sockets, load, serve, drain, exit.

Exit codes: 0 drained, 2 the run folder is held by another process, 3 it could not become ready (`failure.json` says
why), 4 every slot hung, 5 the drain took too long or was cut short by a second signal.
"""

import asyncio
import dataclasses
import datetime
import faulthandler
import fcntl
import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Coroutine
from pathlib import Path
from time import monotonic
from typing import Any

import orjson

from argosy_serving import logs, request_context
from argosy_serving.admin import Admin
from argosy_serving.admission import Admission
from argosy_serving.app import App
from argosy_serving.azure import finder as azure_modules
from argosy_serving.listener import Listener
from argosy_serving.loading import Loaded, load
from argosy_serving.scratch import enter, prepare_scratch
from argosy_serving.scripts import LoadFailed, in_user_code
from argosy_serving.settings import InvalidSettings, SettingsFile
from argosy_serving.spec import Image, InvalidSpec, Spec, load_image, load_spec
from argosy_serving.state import DRAINING, FAILED, LOADING, READY, State
from argosy_serving.workers import LoopTasks, Slots

logger = logging.getLogger("argosy")

DRAINED, HELD, NOT_READY, STUCK, OVERTIME = 0, 2, 3, 4, 5
_BEAT_S = 1.0
_DRAIN_EXTRA_S = 5.0
_BACKLOG_S = 0.05  # for callers who had connected before the socket was hidden
_LAST_THREADS_S = 5.0
_SWITCH_S = 0.0005


class Replica:
    """The composition root: builds every part, and is the only one that knows them all."""

    def __init__(
        self, spec: Spec, image: Image, settings: SettingsFile, file: logs.LogFile, out: "tuple[logs.Lines, logs.Lines]"
    ) -> None:
        self._spec, self._image, self._settings, self._file, self._out = spec, image, settings, file, out
        self._loop = asyncio.get_running_loop()
        now = datetime.datetime.now(datetime.timezone.utc)
        self._state = State(started_at=now.isoformat(timespec="milliseconds"))
        self._admission = Admission(self._loop, spec.slots, lambda: settings.current, image.max_batch_size)
        self._app = App(spec, image, self._state, self._admission, lambda: settings.current)
        self._data = [Listener(self._app.handle, spec.listen, spec.shared, spec.behind_gateway)]
        if spec.direct is not None:
            self._data.append(Listener(self._app.handle, spec.direct))
        admission = self._admission
        self._slots = Slots(
            self._loop, spec.slots, admission.finished, admission.began, self._end_request, admission.batches_off
        )
        self._ended: asyncio.Future[int] = self._loop.create_future()
        self._grace_until = 0.0
        self._hurry = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = threading.Event()

    async def serve(self) -> int:
        """Until drained or failed; the exit code. The sockets answer from the start, with 503 while loading."""
        for listener in self._data:
            await listener.open()
        # Before the admin socket: who has seen that answer may signal.
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._terminate)
        admin = None
        if self._spec.admin is not None:
            handle = Admin(
                self._spec,
                self._state,
                self._admission,
                self._app.metrics,
                self._settings,
                self._drain,
                self._apply_settings,
            ).handle
            admin = Listener(handle, self._spec.admin, self._spec.shared)
            await admin.open()
        self._apply_settings()
        threading.Thread(target=self._keep_house, name="housekeeping", daemon=True).start()
        where = " and ".join(map(str, self._data))
        logger.info("Replica %s of %s revision %d listens on %s", *self._names(), where)
        self._start(self._beat(admin))
        self._start(self._watch_init())
        self._slots.start(self._prepare)
        code = await self._ended
        self._closing.set()
        for listener in self._data:
            await listener.close()
        if admin is not None:
            admin.hide()
            await admin.close()
        for task in self._tasks:
            task.cancel()
        logger.info("Replica %s ends with exit code %d", self._spec.id, code)
        if not self._slots.stop(timeout_s=0.5 if code == DRAINED else 0.0):
            _leave_now(code)
        return code

    def _names(self) -> "tuple[str, str, int]":
        return self._spec.id, self._spec.service, self._spec.revision

    def _start(self, work: "Coroutine[Any, Any, None]") -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _end(self, code: int) -> None:
        if not self._ended.done():
            self._ended.set_result(code)

    def _end_request(self) -> None:
        for lines in self._out:
            lines.end_request()

    # Loading

    def _prepare(self) -> "Loaded | None":
        """In the first slot's thread. None when the replica failed."""
        started = monotonic()
        try:
            loaded = load(self._image, lambda work: asyncio.run_coroutine_threadsafe(work, self._loop).result())
        except BaseException as problem:
            failed = problem if isinstance(problem, LoadFailed) else LoadFailed("init_failed", repr(problem))
            self._end_request()
            shown = problem if failed is not problem else in_user_code(problem.__cause__, self._image.code)
            logger.error("Not ready: %s", failed.reason, exc_info=shown)
            self._call_loop(self._fail, failed)
            return None
        self._end_request()
        # What loading left behind lives as long as the process: no collection need look at it again.
        gc.collect()
        gc.freeze()
        self._call_loop(self._become_ready, loaded, monotonic() - started)
        return loaded

    def _call_loop(self, function: Any, *arguments: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            pass  # the loop has ended, and with it the need to know

    def _become_ready(self, loaded: Loaded, took_s: float) -> None:
        self._app.loaded(loaded.schema, loaded.raw_http)
        admission = self._admission
        admission.workers = (
            LoopTasks(self._loop, self._spec.slots, admission.finished, admission.began, loaded.scorer)
            if loaded.is_async
            else self._slots
        )
        if self._state.phase == LOADING:
            self._state.become(READY)
            logger.info("Ready after %.1f s", took_s)

    def _fail(self, failed: LoadFailed) -> None:
        if self._state.phase != LOADING:
            return
        self._state.become(FAILED, failed.reason)
        write_failure(self._spec, failed)
        self._end(NOT_READY)

    async def _watch_init(self) -> None:
        await asyncio.sleep(self._spec.init_timeout_s)
        if self._state.phase == LOADING:
            reason = f"init() and the samples took longer than {self._spec.init_timeout_s:g} seconds."
            logger.error("Not ready: %s", reason)
            self._fail(LoadFailed("init_timeout", reason))

    # Living

    def _apply_settings(self) -> None:
        logs.set_level(self._settings.current.log_level)

    async def _beat(self, admin: "Listener | None") -> None:
        while True:
            await asyncio.sleep(_BEAT_S)
            for listener in self._data:
                listener.tick()
            if admin is not None:
                admin.tick()
            if self._admission.hopeless():
                logger.critical("All %d slots hang; the replica gives up.", self._spec.slots)
                self._end(STUCK)

    def _keep_house(self) -> None:
        """A thread of its own, so that storage that hangs never holds up the loop."""
        while not self._closing.wait(_BEAT_S):
            self._file.rotate_if_large()
            if self._settings.poll():
                self._call_loop(self._apply_settings)

    # Ending

    def _terminate(self) -> None:
        if self._state.phase == DRAINING:
            logger.warning("A second signal cuts the drain short")
            self._end(OVERTIME)
        else:
            self._drain(self._spec.drain_grace_s)

    def _drain(self, grace_s: float) -> None:
        """Begin to drain, or shorten the grace of a drain that has begun."""
        until = monotonic() + grace_s
        if self._state.phase == DRAINING:
            self._grace_until = min(self._grace_until, until)
            self._hurry.set()
            return
        self._grace_until = until
        self._state.become(DRAINING, "asked to stop")
        logger.info("Draining, with %.1f s of grace", grace_s)
        self._start(self._finish())

    async def _finish(self) -> None:
        while (left_s := self._grace_until - monotonic()) > 0:
            self._hurry.clear()
            try:
                await asyncio.wait_for(self._hurry.wait(), left_s)
            except (asyncio.TimeoutError, TimeoutError):
                break
        self._state.refusing = True
        limit_s = self._settings.current.request_timeout_ms / 1000 + _DRAIN_EXTRA_S
        until = monotonic() + limit_s
        hidden_at = 0.0
        while monotonic() < until:
            if self._admission.occupied or any(listener.busy for listener in self._data):
                hidden_at = hidden_at and monotonic()
            elif not hidden_at:
                for listener in self._data:
                    listener.hide()
                hidden_at = monotonic()
            elif monotonic() - hidden_at > _BACKLOG_S:
                self._end(DRAINED)
                return
            await asyncio.sleep(0.01)
        logger.error("The drain took longer than %.0f s; %d requests are lost.", limit_s, self._admission.occupied)
        self._end(OVERTIME)


def write_failure(spec: Spec, failed: LoadFailed) -> None:
    """`failure.json`, whole or not at all."""
    if spec.failure is None:
        return
    temporary = spec.failure.with_name(f".{spec.failure.name}.{os.getpid()}")
    try:
        temporary.write_bytes(orjson.dumps({"code": failed.code, "reason": failed.reason}))
        temporary.replace(spec.failure)
    except OSError as problem:
        logger.error("%s cannot be written: %s", spec.failure, problem)


def hold(lock: "Path | None") -> "int | None":
    """The descriptor that holds the lock until the process ends; None when another process holds it."""
    if lock is None:
        return -1
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def run(spec_path: Path) -> int:
    """The whole life of the replica that `spec_path` describes; its exit code."""
    try:
        spec = load_spec(spec_path)
        descriptor = hold(spec.lock)
    except (InvalidSpec, OSError) as problem:
        print(f"argosy_serving: {problem}", file=sys.stderr)
        return NOT_READY
    if descriptor is None:
        print(f"argosy_serving: {spec.lock} is held by another replica.", file=sys.stderr)
        return HELD
    try:
        if spec.failure is not None:
            spec.failure.unlink(missing_ok=True)
        file = logs.LogFile(spec.log, spec.log_limit_bytes, spec.shared)
    except OSError as problem:
        print(f"argosy_serving: the log {spec.log} cannot be written: {problem}", file=sys.stderr)
        return NOT_READY
    identity = {"replica": spec.id, "service": spec.service, "revision": spec.revision}
    out = logs.capture(logs.Journal(file, identity))
    logs.set_level("info")
    # A crash of native code leaves its stack in the log; the other threads are ours, and would push the user's own
    # last lines out of what an error shows.
    faulthandler.enable(all_threads=False)
    # While a script computes in pure Python, the loop waits so long for the interpreter before it may answer a probe or
    # refuse a request: 0.6 ms instead of 5, at no cost that could be measured.
    sys.setswitchinterval(_SWITCH_S)
    sys.dont_write_bytecode = True  # an image is content; running it must not add files to it
    request_context.inherit_in_threads()
    azure_modules.install()
    try:
        image = load_image(spec.image)
        if spec.max_batch_size is not None:
            image = dataclasses.replace(image, max_batch_size=spec.max_batch_size)
        if spec.max_batch_delay_ms is not None:
            image = dataclasses.replace(image, max_batch_delay_ms=spec.max_batch_delay_ms)
        settings = SettingsFile(spec.settings)
        prepare_scratch(spec.scratch, image)
        enter(spec.scratch, image)
        code = _run_loop(spec, image, settings, file, out)
    except (InvalidSpec, InvalidSettings, OSError) as problem:
        logger.error("Not ready: %s", problem)
        write_failure(spec, LoadFailed("invalid_spec", str(problem)))
        return NOT_READY
    # Threads of user code that do not end must not keep the process.
    timer = threading.Timer(_LAST_THREADS_S, _leave_now, [code])
    timer.daemon = True
    timer.start()
    return code


def _run_loop(
    spec: Spec, image: Image, settings: SettingsFile, file: logs.LogFile, out: "tuple[logs.Lines, logs.Lines]"
) -> int:
    try:
        import uvloop  # not on every platform

        loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    except ImportError:
        loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)

    async def life() -> int:
        return await Replica(spec, image, settings, file, out).serve()

    try:
        return loop.run_until_complete(life())
    finally:
        loop.close()


def _leave_now(code: int) -> None:
    """Without waiting for threads that hang in user code."""
    os._exit(code)
