"""Makes true what the database wants: one task a service, woken by events and by a jittered clock.

`plan.actions` decides, this module acts: it asks the target and the router, does what the plan says, and writes down
what came of it. Nothing here is needed for a prediction: replicas and gateway go on when it stops.
"""

import asyncio
import contextlib
import logging
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from argosy.environments.target import Launch, Observed, Target
from argosy.errors import EngineUnreachable, Error, NotFound
from argosy.records import ServiceSettings
from argosy.services import plan
from argosy.services.condition import Condition, condition
from argosy.services.keyring import Keyring
from argosy.services.registry import ServiceRegistry
from argosy.services.routes import Router, RouteTable, ServiceRoute
from argosy.services.settings import live_settings
from argosy.services.starts import Starts, usual_limit
from argosy.services.stored import Stored
from argosy.services.tended import Tended

log = logging.getLogger(__name__)

# How soon to look again: while something is on its way, while something is not as it should be, and when all is well.
# Then a change of what is wanted or the end of a replica wakes the service's task, and the clock is a safety net.
_CHANGING_TICK_S = 0.1
_TICK_S = 1.0
_CALM_TICK_S = 30.0
_WATCH_EVERY_S = 1.0
# Beyond the request timeout, for the replica to notice and flush (design: drain_timeout).
_DRAIN_MARGIN_S = 5.0
_KILL_MARGIN_S = 5.0
# Connections of a guard on top: requests whose bodies are on their way, and answers that are being read.
_ON_THE_WAY = 64


class Reconciler:
    """`launch(service, revision)` says how to start a replica; `tail(service, replica)` gives its last log lines."""

    def __init__(
        self,
        registry: ServiceRegistry,
        keyring: Keyring,
        target: Target,
        router: Router,
        launch: Callable[[str, int], Launch],
        tail: Callable[[str, str], list[str]],
        scheme: str,
        starts: Starts | None = None,
    ) -> None:
        self._registry = registry
        self._keyring = keyring
        self._target = target
        self._router = router
        self._launch = launch
        self._tail = tail
        self._scheme = scheme
        self._tended: dict[str, Tended] = {}
        self._events: dict[str, asyncio.Event] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._pool = ThreadPoolExecutor(max_workers=16, thread_name_prefix="reconcile")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._table = RouteTable(router, self._routes)
        self._starts = starts or Starts(usual_limit())
        self._stopped = threading.Event()

    # -- life ----------------------------------------------------------------------------------------------------

    def adopt(self) -> dict[str, ServiceRoute]:
        """Look at everything that runs already; the routes as they should be from the first moment on. Blocks."""
        names = sorted(set(self._registry.names()) | self._target.services())
        list(self._pool.map(self._adopt_one, names))
        return self._routes()

    async def run(self) -> None:
        """Tend all services until cancelled."""
        self._loop = asyncio.get_running_loop()
        try:
            for name in list(self._tended):
                self._tend(name)
            while True:
                await asyncio.sleep(_WATCH_EVERY_S)
                for name in await asyncio.to_thread(self._target.ended):
                    self._tend(name)
        finally:
            self._stopped.set()
            for task in self._tasks.values():
                task.cancel()
            self._loop = None
            self._pool.shutdown(wait=False, cancel_futures=True)

    def wake(self, name: str) -> None:
        """Desired state has changed: look at once, without waiting for a back-off. From any thread."""
        self._state(name).start_anew()
        self.look(name)

    def look(self, name: str) -> None:
        """The same, but a back-off after crashes goes on."""
        self._state(name).stale = True
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._tend, name)

    def _tend(self, name: str) -> None:
        self._state(name)
        event = self._events.setdefault(name, asyncio.Event())
        event.set()
        if name not in self._tasks or self._tasks[name].done():
            self._tasks[name] = asyncio.get_running_loop().create_task(self._follow(name, event), name=f"tend {name}")

    async def _follow(self, name: str, event: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        while name in self._tended:
            event.clear()
            delay_s = await loop.run_in_executor(self._pool, self._guarded_pass, name)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(event.wait(), delay_s * random.uniform(0.8, 1.2))  # noqa: S311
        self._events.pop(name, None)

    def renew_routes(self, apply: Callable[[Mapping[str, ServiceRoute]], None]) -> None:
        """Call `apply` with the routes of this moment, which no other change of routes overtakes."""
        with self._table.guard:
            apply(self._routes())

    # -- what others ask -----------------------------------------------------------------------------------------

    def observed(self, name: str) -> list[Observed]:
        """The replicas as of the last pass."""
        return self._state(name).observed if name in self._tended else []

    def stored(self) -> list[Stored]:
        """All services as of their last passes. Costs no look into the database."""
        return [state.stored for state in list(self._tended.values()) if state.stored is not None]

    def stored_of(self, name: str) -> Stored | None:
        """One of these; None when there is none, or it was not looked at yet."""
        state = self._tended.get(name)
        return state.stored if state else None

    def pause_s(self, name: str) -> float:
        """How long nothing starts, after crashes; 0 when it may."""
        state = self._tended.get(name)
        return max(0.0, state.not_before_s - time.monotonic()) if state else 0.0

    def addresses(self, name: str) -> list[str]:
        """Where the replicas are that the gateway sends to."""
        state = self._tended.get(name)
        return sorted(state.routed.values()) if state else []

    def condition(self, stored: Stored) -> Condition:
        state = self._tended.get(stored.name, Tended())
        return condition(stored.desired, state.observed, state.last_failure, state.trouble)

    def failure(self, name: str) -> tuple[str, list[str]]:
        """Why the last rollout or replica failed, and the last log lines of that replica."""
        state = self._tended.get(name, Tended())
        return state.last_failure, state.failed_log

    def answers_alone(self, name: str, revision: int) -> bool:
        """Whether no request reaches another revision any more."""
        # Under the lock, since a table counts when the gateway has it.
        with self._table.guard:
            state = self._tended.get(name, Tended())
            revisions = {replica.id: replica.revision for replica in state.observed}
            return all(revisions.get(replica, revision) == revision for replica in state.routed)

    def push_settings(self, name: str) -> None:
        """Bring live settings to every replica, and end replaced keys when all have confirmed the new ones."""
        state = self._state(name)
        with state.guard:
            self._push(state, self._registry.get(name))

    # -- one pass ------------------------------------------------------------------------------------------------

    def _guarded_pass(self, name: str) -> float:
        """Seconds until the next one. A failing pass is logged and repeated: it must never end the task."""
        state = self._state(name)
        try:
            with state.guard:
                delay_s = self._pass(name, state)
            state.trouble = self._target.trouble(name)
            return delay_s
        except Error as problem:
            if problem.message != state.trouble:
                log.warning("service %s: %s", name, problem.message)
            state.trouble = problem.message
        except Exception as problem:
            log.exception("service %s: this pass failed and will be repeated", name)
            state.trouble = f"This is a defect of Argosy: {problem!r}. The control plane's log has more."
        return _TICK_S

    def _pass(self, name: str, state: Tended) -> float:
        stored = self._fresh(name, state)
        state.observed = self._target.observe(name)
        self._begin_next(name, state)
        unpushed: Error | None = None
        if stored is not None and state.pushed_generation != stored.generation:
            try:
                self._push(state, stored)
            except Error as problem:
                # A full disk, say. What runs is tended all the same, and nothing starts with settings of yesterday.
                unpushed = problem
        desired = stored.desired if stored else plan.Desired(name, 0, None, None, deleting=True)
        seen = [self._seen(state, name, replica) for replica in state.observed]
        state.note_steadiness(desired)
        lost = state.lost.get(desired.target or 0, 0)
        wanted = (desired.live, desired.target)
        if any(r.state == "gone" and r.failure is not None and r.revision in wanted for r in state.observed):
            # Once for all that ended together; those of a revision that has failed already do not count.
            state.back_off()
        may_start = unpushed is None and state.may_start
        steps = plan.actions(desired, seen, lost, may_start)
        acted = self._do_all(name, state, steps)
        if stored is not None and not desired.deleting and state.announced != state.capacity:
            # Known to the gateway before its first replica is ready: callers get 503 meanwhile, not 404.
            self._table.change(state, dict(state.routed))
            state.announced = state.capacity
        if unpushed is not None:
            raise unpushed
        if acted or any(r.state in ("starting", "draining") for r in state.observed):
            return _CHANGING_TICK_S
        return _CALM_TICK_S if state.calm(desired) else _TICK_S

    def _do_all(self, name: str, state: Tended, steps: Sequence[plan.Action]) -> bool:
        """Whether anything was done: a start may have to wait for its place."""
        acted, starting, rerouted = False, True, False
        for step in steps:
            if isinstance(step, plan.Start):
                # What keeps one from starting keeps the next one too.
                starting = starting and self._starts.begin(name) and self._start(name, state, step.revision)
                acted = acted or starting
                continue
            acted = True
            if not isinstance(step, plan.Route | plan.Unroute):
                self._do(name, state, step)
            elif not rerouted:
                # All of them in one table.
                self._reroute(state, steps)
                rerouted = True
        return acted

    def _reroute(self, state: Tended, steps: Sequence[plan.Action]) -> None:
        address = {replica.id: replica.address for replica in state.observed}
        came = {step.replica: address[step.replica] for step in steps if isinstance(step, plan.Route)}
        left = {step.replica for step in steps if isinstance(step, plan.Unroute)}
        self._table.change(state, {k: v for k, v in {**state.routed, **came}.items() if k not in left})
        state.announced = state.capacity

    def _do(self, name: str, state: Tended, step: plan.Action) -> None:
        match step:
            case plan.Drain(replica):
                timeout_s = (state.stored.settings.request_timeout_ms / 1000 if state.stored else 0) + _DRAIN_MARGIN_S
                self._target.drain(replica, timeout_s + _KILL_MARGIN_S)
            case plan.Kill(replica):
                self._target.drain(replica, _KILL_MARGIN_S)
            case plan.Forget(replica, failure):
                self._forget(name, state, replica, failure)
            case plan.Promote(revision):
                self._registry.promote(name, revision)
                state.start_anew()
                state.stale = True
                log.info("service %s: revision %d is live", name, revision)
            case plan.Fail(revision, reason, replica):
                # The live revision is not to blame: its own replicas start without delay.
                state.start_anew()
                state.last_failure, state.failed_log = reason, self._tail(name, replica)
                state.stale = True
                self._registry.fail(name, revision, reason)
                log.warning("service %s: revision %d failed: %s", name, revision, reason)
            case plan.Removed():
                self._remove(name, state)

    def _begin_next(self, name: str, state: Tended) -> None:
        """Let those start that wait for the places of replicas that are done with it."""
        starting = {replica.id for replica in state.observed if replica.state == "starting"}
        for waiting in self._starts.settle(name, starting):
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._tend, waiting)

    def _start(self, name: str, state: Tended, revision: int) -> bool:
        """Whether it was started."""
        try:
            replica = self._target.start(self._launch(name, revision))
            if self._stopped.is_set():
                # The control plane ends, and has perhaps ended all others already.
                self._target.kill(replica)
            self._starts.began(name, replica)
            return True
        except EngineUnreachable:
            # No fault of this revision's, and told as the target's trouble: tried again until the engine answers.
            self._starts.failed()
            return False
        except Error as problem:
            reason = problem.message
            log.warning("service %s: no replica of revision %d can be started: %s", name, revision, reason)
        except Exception as problem:
            reason = f"This is a defect of Argosy: {problem!r}. The control plane's log has more."
            log.exception("service %s: no replica of revision %d can be started", name, revision)
        self._starts.failed()
        state.last_failure, state.failed_log = reason, []
        if state.stored is not None and revision != state.stored.live_revision:
            self._registry.fail(name, revision, reason)
            state.stale = True
        else:
            state.back_off()
        return False

    def _forget(self, name: str, state: Tended, replica: str, failure: str | None) -> None:
        gone = next(r for r in state.observed if r.id == replica)
        if replica in state.routed:
            ended = {r.id for r in state.observed if r.state == "gone"}
            self._table.change(state, {k: v for k, v in state.routed.items() if k not in ended})
        if failure is not None:
            state.last_failure, state.failed_log = failure, self._tail(name, replica)
            state.lost[gone.revision] = state.lost.get(gone.revision, 0) + 1
            delay_s = max(0.0, state.not_before_s - time.monotonic())
            log.warning("service %s: replica %s: %s; the next one starts in %.0f s", name, replica, failure, delay_s)
        self._target.forget(replica)

    def _remove(self, name: str, state: Tended) -> None:
        with self._table.guard:
            self._router.apply({service: route for service, route in self._routes().items() if service != name})
            self._tended.pop(name, None)
        try:
            self._target.remove_service(name)
            # Last, so that nobody can make a service of that name before all of this one is gone.
            if state.stored is not None:
                self._registry.remove(name)
        except BaseException:
            self._tended.setdefault(name, state)
            raise

    def _push(self, state: Tended, stored: Stored) -> None:
        hashes = self._keyring.hashes(stored.name)
        generation = stored.generation
        self._target.apply_settings(stored.name, live_settings(stored.settings, hashes, generation, self._scheme))
        observed = self._target.observe(stored.name)
        confirmed = all(r.generation >= generation for r in observed if r.state == "ready")
        if confirmed and self._keyring.settling(stored.name):
            self._keyring.settle(stored.name, generation)
            self._push(state, self._registry.get(stored.name))
            return
        # A replica that has not confirmed (busy, say) reads the file by itself; it is asked again in the next pass.
        state.pushed_generation = generation if confirmed else 0
        state.stored, state.stale = stored, True

    def _adopt_one(self, name: str) -> None:
        state = self._state(name)
        try:
            stored = self._fresh(name, state)
            state.observed = self._target.observe(name)
        except Exception:
            # One that cannot be read must not keep the others from being served, nor lose its own requests.
            log.exception("service %s could not be looked at", name)
            state.observed = self._target.observe(name)
            state.routed = {r.id: r.address for r in state.observed if r.state == "ready"}
            return
        wanted = {stored.live_revision, stored.target_revision} if stored else set()
        # Those of a rollout that was going on may be routed a little early, which does no harm: they are ready.
        state.routed = {r.id: r.address for r in state.observed if r.state == "ready" and r.revision in wanted}

    def _fresh(self, name: str, state: Tended) -> Stored | None:
        if state.stale:
            state.stale = False
            try:
                state.stored = self._registry.get(name)
            except NotFound:
                state.stored = None
            except BaseException:
                # Not known is not deleted: nothing is done to a service whose row cannot be read now.
                state.stale = True
                raise
        return state.stored

    def _seen(self, state: Tended, name: str, replica: Observed) -> plan.Seen:
        routed = replica.id in state.routed
        waiting = not routed and replica.state == "ready"
        return plan.Seen(replica, routed, self._router.in_use(name, replica.id) if waiting else 0)

    def _routes(self) -> dict[str, ServiceRoute]:
        routes = {}
        for name, state in list(self._tended.items()):
            if state.stored is None and not state.routed:
                continue
            # One that was found running, but whose row could not be read yet, is served with the usual limits.
            settings = state.stored.settings if state.stored else ServiceSettings()
            # More than there are slots when replicas work in batches, which they alone know.
            capacity = max(settings.max_concurrent_requests, state.capacity)
            guard = 4 * (capacity + settings.max_queued_requests) + _ON_THE_WAY
            on_demand = state.stored is not None and state.stored.on_demand and not state.stored.deleting
            servers = tuple(sorted(state.routed.items()))
            limits = (settings.request_timeout_ms, guard, on_demand, settings.overload_status)
            routes[name] = ServiceRoute(name, servers, *limits)
        return routes

    def _state(self, name: str) -> Tended:
        return self._tended.setdefault(name, Tended())
