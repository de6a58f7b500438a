"""Where user code runs: one thread per slot, never the event loop. `async def run` has tasks instead.

What a small model costs beside itself is changes of threads, and caches gone cold with each of them. So while the work
at hand is short, loop and slots take turns: the loop reads what has come, hands all of it over and waits, the slot
answers all of it, the loop sends the answers. The loop never waits longer than `_ATTEND_S`, and not at all where work
is not short; a probe waits no longer than that either.
"""

import asyncio
import contextlib
import functools
import os
import queue
import select
import threading
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any

from argosy_serving.admission import Entry
from argosy_serving.batching import Batcher, Part
from argosy_serving.feeding import Began, feed, feed_async
from argosy_serving.inbox import Inbox
from argosy_serving.loading import Loaded
from argosy_serving.refusals import ScoringFailed
from argosy_serving.request_context import REQUEST_ID
from argosy_serving.scoring import Scorer

Finished = Callable[[Entry], None]
_Opened = tuple[Entry, "Part | None"]

_SHORT_S = 0.001
_HOLD_S = 0.0025  # the longest an answer waits for other short work
_ATTEND_S = 0.003
_SMOOTHING = 0.1  # weight of the newest time in the running mean


class Slots:
    """`count` threads that take entries from one queue. The first also runs `prepare`, so init() and run() share it."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        count: int,
        finished: Finished,
        began: Began,
        end_request: Callable[[], None],
        batches_off: Callable[[], None],
    ):
        self._loop, self._count, self._end_request, self._batches_off = loop, count, end_request, batches_off
        self._finished, self._began = finished, began
        self._inbox: Inbox[Entry | None] = Inbox(count, self._before_sleep)
        self._done: deque[Entry] = deque()
        self._armed = self._handing_over = self._attending = False
        self._bell = os.pipe()  # rung by a slot while the loop attends,
        self._bell_rope: deque[None] = deque()  # once
        for end in self._bell:
            os.set_blocking(end, False)
        self._usual_s = 0.0  # from start to end of an entry or a batch; 0 until the first
        self._scorer: Scorer | None = None
        self._batcher: Batcher | None = None
        self._threads = [threading.Thread(target=self._serve, name=f"slot-{n}", daemon=True) for n in range(1, count)]

    def start(self, prepare: "Callable[[], Loaded | None]") -> None:
        """Run `prepare` in the first slot's thread, then serve. None from it ends the thread: nothing to serve."""

        def first() -> None:
            loaded = prepare()
            if loaded is None:
                return
            self._scorer, self._batcher = loaded.scorer, loaded.batcher
            for thread in self._threads[1:]:
                thread.start()
            self._serve()

        self._threads.insert(0, threading.Thread(target=first, name="slot-0", daemon=True))
        self._threads[0].start()

    def submit(self, entry: Entry) -> None:
        self._inbox.put(entry)
        self._hand_over_soon()

    def _hand_over_soon(self) -> None:
        if not self._handing_over:
            self._handing_over = True
            self._loop.call_soon(self._hand_over)  # behind all that has come: one hand-over for several requests

    def _hand_over(self) -> None:
        self._handing_over = False
        if self._inbox.empty():  # a slot that was at work has taken it
            self._drain()
            return
        if not self._attends():
            self._inbox.wake()
            return
        self._bell_rope.append(None)
        self._attending = True
        self._inbox.wake()  # on a core that both share the answer may be there when this returns
        if not self._done and not select.select([self._bell[0]], [], [], _ATTEND_S)[0]:
            self._usual_s = 2 * _SHORT_S
        self._attending = False
        if self._bell_rope:
            self._bell_rope.clear()
        else:  # a slot has rung, or is about to: then the loop looks once for nothing, next time
            with contextlib.suppress(BlockingIOError):
                os.read(self._bell[0], 64)
        self._drain()
        if not self._inbox.empty():
            self._hand_over_soon()

    def _attends(self) -> bool:
        """Not where a batch waits for company, which only the loop can bring."""
        return 0 < self._usual_s < _SHORT_S and (self._batcher is None or not self._batcher.delay_s)

    def give_up(self, entry: Entry) -> None:
        """A thread cannot be stopped: its slot stays busy until it returns."""

    def stop(self, timeout_s: float) -> bool:
        """End idle threads; True when all have ended within `timeout_s`."""
        for _ in self._threads:
            self._inbox.put(None)
        self._inbox.wake()
        until = monotonic() + timeout_s
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, until - monotonic()))
        if any(thread.is_alive() for thread in self._threads):
            return False
        self._inbox.close()
        for end in self._bell:
            os.close(end)
        return True

    def _serve(self) -> None:
        scorer, get, done = self._scorer, self._inbox.get, self._done
        assert scorer is not None
        if self._batcher is not None and not self._serve_batches(self._batcher):
            return
        held_since = 0.0
        while (entry := get()) is not None:
            if entry.gone() or not entry.claim(False):
                continue  # the sweep answers or has answered it
            entry.work.started_at = monotonic()
            scorer.score(entry.work)
            if entry.work.items is not None:
                self._ring()  # each chunk needs the loop
                feed(entry, scorer, self._loop, self._began)
            self._end_request()
            done.append(entry)
            now = monotonic()
            self._took(took_s := now - entry.work.started_at)
            held_since = held_since or now
            del entry  # what it holds may be large, and the next may be long in coming
            if took_s < _SHORT_S and now - held_since < _HOLD_S and not self._inbox.empty():
                continue  # it goes out with the next
            held_since = 0.0
            if not self._report():
                return

    def _before_sleep(self) -> None:
        """Another slot took what was next, or its caller had left: neither an answer held back nor the loop waits."""
        if self._done:
            self._report()
        else:
            self._ring()

    def _took(self, seconds: float) -> None:
        usual_s = self._usual_s
        self._usual_s = usual_s + _SMOOTHING * (seconds - usual_s) if usual_s else seconds

    def _serve_batches(self, batcher: Batcher) -> bool:
        """Until there is no more to do (False), or the script has shown that it cannot answer batches (True)."""
        left: _Opened | None = None
        while left is not None or not batcher.hopeless:
            batch, left, more = self._gather(batcher, left)
            if batch and not self._answer(batcher, batch):
                return False
            if not more and left is None:
                return False
        self._call_loop(self._batches_off)
        return True

    def _gather(self, batcher: Batcher, left: "_Opened | None") -> "tuple[list[_Opened], _Opened | None, bool]":
        """The next batch, what did not fit into it, and False when the replica ends.

        What does not fit goes on waiting, unclaimed: it may still be shed, or lose its caller. A request that comes
        alone is not opened: it goes the short way.
        """
        batch: list[_Opened] = []
        rows, until = 0, 0.0
        while rows < batcher.max_rows:
            part: Part | None = None
            if left is not None:
                (entry, part), left = left, None
            else:
                try:
                    taken = self._inbox.get(max(0.0, until - monotonic())) if batch else self._inbox.get()
                except queue.Empty:
                    break
                if taken is None:
                    return batch, None, False
                entry = taken
            if entry.gone() or entry.answered:
                continue  # the sweep answers or has answered it
            if part is None and (batch or batcher.delay_s or not self._inbox.empty()):
                part = batcher.open(entry.work)
            if batch and part is not None and rows + part.rows > batcher.max_rows:
                return batch, (entry, part), True
            if not entry.claim(False):
                continue
            entry.work.started_at = now = monotonic()
            batch.append((entry, part))
            if part is None:
                break
            until = until or now + batcher.delay_s
            rows += part.rows
        return batch, None, True

    def _answer(self, batcher: Batcher, batch: "list[_Opened]") -> bool:
        """Score a batch; False when the loop has ended."""
        parts = [part for _, part in batch if part is not None]
        if parts:
            batcher.score(parts)
        else:
            batcher.score_alone(batch[0][0].work)
        self._took(monotonic() - batch[0][0].work.started_at)
        self._end_request()
        self._done.extend(entry for entry, _ in batch if entry.work.items is None)
        alive = self._report()
        for entry, _ in batch:
            if entry.work.items is not None and self._scorer is not None:
                self._ring()
                feed(entry, self._scorer, self._loop, self._began)
                self._end_request()
                self._done.append(entry)
                alive = self._report()
        return alive

    def _ring(self) -> bool:
        """True when the loop attends: it is told to go on, once, and looks at what is done when it has stopped."""
        if not self._attending:
            return False
        try:
            self._bell_rope.pop()
        except IndexError:
            return True
        with contextlib.suppress(BlockingIOError):  # it is full: nobody has listened for long, nobody sleeps
            os.write(self._bell[1], b"\0")
        return True

    def _report(self) -> bool:
        """Have the loop look at what is done; False when it has ended."""
        if self._ring():
            return True
        # Cleared by `_drain` before it looks: an entry appended after that finds the flag down.
        if not self._armed:
            self._armed = True
            return self._call_loop(self._drain)
        return True

    def _call_loop(self, function: Callable[[], None]) -> bool:
        try:
            self._loop.call_soon_threadsafe(function)
        except RuntimeError:
            return False  # it has ended
        return True

    def collect(self) -> None:
        """For what was held back behind work that turned out to be long."""
        if self._done:
            self._drain()

    def _drain(self) -> None:
        self._armed = False
        done = self._done
        while done:
            self._finished(done.popleft())


class LoopTasks:
    """`async def run`: at most `count` tasks at once on the loop, the rest waits."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, count: int, finished: Finished, began: Began, scorer: Scorer
    ) -> None:
        self._loop, self._count, self._scorer = loop, count, scorer
        self._finished, self._began = finished, began
        self._waiting: deque[Entry] = deque()
        self._tasks: dict[Entry, asyncio.Task[Any]] = {}

    def submit(self, entry: Entry) -> None:
        self._waiting.append(entry)
        self._start()

    def give_up(self, entry: Entry) -> None:
        if task := self._tasks.get(entry):
            task.cancel()

    def collect(self) -> None:
        """Tasks report at once."""

    def _start(self) -> None:
        while self._waiting and len(self._tasks) < self._count:
            entry = self._waiting.popleft()
            if not entry.gone() and entry.claim(False):
                entry.work.started_at = monotonic()
                self._tasks[entry] = task = self._loop.create_task(self._score(entry))
                # Not in the task itself: one that is cancelled before its first step never comes to any `finally`.
                task.add_done_callback(functools.partial(self._end, entry))

    async def _score(self, entry: Entry) -> None:
        REQUEST_ID.set(entry.work.request_id)
        await self._scorer.score_async(entry.work)
        if entry.work.items is not None:
            await feed_async(entry, self._scorer, self._loop, self._began)

    def _end(self, entry: Entry, task: "asyncio.Task[None]") -> None:
        del self._tasks[entry]
        work = entry.work
        if task.cancelled():  # by `give_up`, and then its caller has been answered; or by the script itself
            work.problem = ScoringFailed(work.request_id, "The scoring script cancelled its own task.")
        elif (problem := task.exception()) is not None:
            work.problem = self._scorer.refusal(work, problem)
        if work.problem is not None and work.stream is not None:
            work.stream.finish(work.problem)
        self._finished(entry)
        self._start()
