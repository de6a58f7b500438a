"""Who may start, who waits, who is refused: the queue in front of the slots, kept on the event loop.

A tap (archive, shadow) attaches in `Admission.finished`, which sees every started request with its body, answer and
times after the caller was answered; it must hand a copy aside and return. With batching a worker takes more than one
waiting entry from the same queue; each keeps its own claim and its own end.
"""

import asyncio
import functools
import logging
import random
import threading
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Protocol

from argosy_serving.refusals import Refusal, ScoringTimeout, Shed
from argosy_serving.scoring import Work
from argosy_serving.settings import LiveSettings

logger = logging.getLogger("argosy")

SWEEP_S = 0.02
_SMOOTHING = 0.1  # weight of the newest run time in the running mean
_LONGEST_STUCK_S = 30.0
_JITTER = 0.5  # callers who were shed together must not come back together


class Entry:
    """One admitted request. `claim` is won once: by the worker that starts it, or by the loop that gives it up.

    `done(entry, refusal)` is called once, on the loop; None for a result that is in `work`.
    """

    __slots__ = ("answered", "arrived_at", "claim", "deadline_at", "done", "gone", "queued_at", "work")

    def __init__(
        self, work: Work, arrived_at: float, deadline_at: float, gone: Callable[[], bool], done: "Done"
    ) -> None:
        self.work, self.arrived_at, self.deadline_at, self.gone, self.done = work, arrived_at, deadline_at, gone, done
        self.queued_at = monotonic()
        self.answered = False
        # A lock that is never released: taking it without waiting is atomic, with and without the GIL.
        self.claim = threading.Lock().acquire

    def answer(self, refusal: "Refusal | None") -> None:
        """Only the first call counts."""
        if not self.answered:
            self.answered = True
            try:
                self.done(self, refusal)
            except Exception:  # the entries behind this one must have their ends too
                logger.exception("A request was left without an answer")


Done = Callable[[Entry, "Refusal | None"], None]


class Workers(Protocol):
    """Where admitted entries run. Calls `Admission.finished` on the loop for each entry it took."""

    def submit(self, entry: Entry) -> None: ...

    def collect(self) -> None:
        """Report what is finished; asked now and then, beside what is reported at once."""

    def give_up(self, entry: Entry) -> None:
        """Its caller was told it timed out; stop it where that is possible."""


class Admission:
    """All of it runs on the loop; only claims are shared with workers."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        slots: int,
        settings: Callable[[], LiveSettings],
        batch: int = 1,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._loop, self.slots, self._batch, self._settings = loop, slots, batch, settings
        self.capacity = slots * batch  # requests that may be at work at once
        self._chance = chance  # 0 to 1
        self.workers: Workers | None = None
        self.occupied = 0  # admitted and not yet finished, waiting and running
        self.mean_run_s = 0.0
        self.last_finished_at = monotonic()
        self._waiting: deque[Entry] = deque()
        self._running: set[Entry] = set()
        self._sweeping = False
        self._all_stuck_since = 0.0
        self.on_finished: Callable[[Entry], None] = lambda entry: None

    @property
    def stuck(self) -> int:
        """Slots whose request was given up after the request timeout and that still have not returned."""
        limit_s = self._settings().request_timeout_ms / 1000
        now = monotonic()
        # The requests of one batch share the moment they started.
        return len({e.work.started_at for e in self._running if e.answered and now >= e.arrived_at + limit_s})

    @property
    def in_flight(self) -> int:
        return min(self.occupied, self.capacity)

    @property
    def queued(self) -> int:
        return max(0, self.occupied - self.capacity)

    @property
    def queue_limit(self) -> int:
        """With batches at least one for every slot, so that the next can gather while one runs."""
        limit = self._settings().max_queued_requests
        return limit if self._batch == 1 else max(limit, self.capacity)

    @property
    def stalled(self) -> bool:
        """Every slot hangs, or the queue is full and nothing has finished for ten usual times (at least 2 s)."""
        if self._running and self.stuck >= self.slots:
            return True
        full = self.occupied >= self.capacity + self.queue_limit and self.occupied > self.capacity
        return full and monotonic() - self.last_finished_at > max(2.0, 10 * self.mean_run_s)

    def hopeless(self) -> bool:
        """True when every slot has hung for the request timeout again (2 to 30 s): only a new process helps."""
        if not self._running or self.stuck < self.slots:
            self._all_stuck_since = 0.0
            return False
        now = monotonic()
        self._all_stuck_since = self._all_stuck_since or now
        patience_s = min(_LONGEST_STUCK_S, max(2.0, self._settings().request_timeout_ms / 1000))
        return now - self._all_stuck_since > patience_s

    def batches_off(self) -> None:
        """The script cannot answer batches, so there is room for one request a slot."""
        self._batch, self.capacity = 1, self.slots

    def predicted_wait_s(self) -> float:
        """Of a request that comes now. What runs is half done, as seen by somebody who comes at any moment."""
        ahead = self.occupied - self.capacity + 1
        return (ahead - 0.5) * self.mean_run_s / self.capacity if ahead > 0 else 0.0

    def check_door(self, left_s: float) -> None:
        """Raise Shed when a request with `left_s` until its deadline could only be refused later."""
        if self.occupied >= self.capacity + self.queue_limit:
            raise self._shed("queue_full", f"All {self.slots} slots are busy and the queue is full.")
        if left_s <= 0:
            raise self._shed("deadline", "The request's deadline has passed.")
        wait_s = self.predicted_wait_s()
        if wait_s > left_s:
            raise self._shed("deadline", "The request would wait past its deadline.")
        # One may always wait, or a single slow run would shut the door for good.
        longest_s = self._settings().max_queue_wait_ms / 1000
        if wait_s > longest_s and self.queued:
            raise self._shed("queue_wait", f"The request would wait longer than {longest_s:g} seconds.")

    def submit(self, entry: Entry) -> None:
        """Admit. Raises Shed when there is no room."""
        self.check_door(entry.deadline_at - entry.queued_at)
        assert self.workers is not None, "requests are refused until the script is loaded"
        self.occupied += 1
        self._waiting.append(entry)
        if not self._sweeping:
            self._sweeping = True
            self._loop.call_later(SWEEP_S, self._sweep)
        self.workers.submit(entry)

    def began(self, entry: Entry) -> None:
        """The first chunk of a stream is there: its caller is answered, and the entry goes on holding its slot."""
        stream = entry.work.stream
        assert stream is not None, "only streams begin before they are finished"
        if entry.answered:
            stream.close()  # the caller was told it timed out, or is gone
            return
        if self.workers is not None:
            stream.on_close = functools.partial(self.workers.give_up, entry)
        self._running.add(entry)
        entry.answer(None)

    def finished(self, entry: Entry) -> None:
        """A worker is done with `entry`, in time or not."""
        self.occupied -= 1
        self._running.discard(entry)
        waiting = self._waiting
        while waiting and (first := waiting[0]).work.started_at:
            waiting.popleft()
            if first is not entry and not first.answered:  # else it has finished before those in front of it
                self._running.add(first)
        work = entry.work
        self.last_finished_at = now = monotonic()
        took_s = now - work.started_at
        self.mean_run_s += _SMOOTHING * (took_s - self.mean_run_s) if self.mean_run_s else took_s
        entry.answer(work.problem)
        self.on_finished(entry)

    def _sweep(self) -> None:
        """Move started entries over, and give up what waited too long, passed its deadline or lost its caller."""
        if self.workers is not None:
            self.workers.collect()
        now = monotonic()
        longest_wait_s = self._settings().max_queue_wait_ms / 1000
        kept: deque[Entry] = deque()
        # An answer may bring the next request of its connection, which is admitted while this goes on.
        waiting, self._waiting = self._waiting, deque()
        for entry in waiting:
            if entry.answered:
                continue
            if entry.work.started_at:
                self._running.add(entry)
                continue
            refusal = self._expired(entry, now, longest_wait_s)
            if refusal is None:
                kept.append(entry)
            elif entry.claim(False):
                self.occupied -= 1
                entry.answer(refusal)
            else:
                self._running.add(entry)  # a worker was faster
        kept.extend(self._waiting)
        self._waiting = kept
        for entry in list(self._running):
            if now >= entry.deadline_at and not entry.answered:
                entry.answer(ScoringTimeout(round(entry.deadline_at - entry.arrived_at, 3)))
                if self.workers is not None:
                    self.workers.give_up(entry)
        if self.occupied:
            self._loop.call_later(SWEEP_S, self._sweep)
        else:
            self._waiting.clear()
            self._sweeping = False

    def _expired(self, entry: Entry, now: float, longest_wait_s: float) -> "Refusal | None":
        if now >= entry.deadline_at or entry.gone():
            return self._shed("deadline", "The request's deadline passed while it waited.")
        if now - entry.queued_at >= longest_wait_s:
            return self._shed("queue_wait", f"The request waited longer than {longest_wait_s:g} seconds.")
        return None

    def _shed(self, reason: str, message: str) -> Shed:
        wait_s = self.occupied * self.mean_run_s / self.capacity
        return Shed(reason, message, wait_s * (1 + _JITTER * self._chance()))
