"""Loop and slots take turns while work is short: what is handed over, who waits for whom, and for how long."""

import asyncio
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from argosy_serving import workers
from argosy_serving.workers import Slots


class Entry:
    """Of the real one what slots ask of it."""

    def __init__(self, name: str, run: Callable[[], Any] = lambda: None, gone: bool = False) -> None:
        self.name, self.run, self._gone = name, run, gone
        self.answered = False
        self.work = SimpleNamespace(started_at=0.0, items=None)
        self.claim = threading.Lock().acquire

    def gone(self) -> bool:
        return self._gone


class Scorer:
    def score(self, work: Any) -> None:
        work.entry.run()


class Yard:
    """Slots on the loop that runs; `answered` is what the loop was told of, in turns."""

    def __init__(self, count: int, batcher: Any = None) -> None:
        self.turns: list[list[str]] = []
        self._told: list[str] = []
        self._more = asyncio.Event()
        loop = asyncio.get_running_loop()
        self.slots = Slots(loop, count, self._finished, lambda entry: None, lambda: None, lambda: None)
        self.slots.start(lambda: SimpleNamespace(scorer=Scorer(), batcher=batcher))  # type: ignore[arg-type,return-value]

    def _finished(self, entry: Any) -> None:
        self._told.append(entry.name)
        asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        if self._told:
            self.turns.append(self._told)
            self._told = []
            self._more.set()

    @property
    def answered(self) -> list[str]:
        return [name for turn in self.turns for name in turn]

    def submit(self, *entries: Entry) -> None:
        for entry in entries:
            entry.work.entry = entry
            self.slots.submit(entry)  # type: ignore[arg-type]

    async def until(self, count: int) -> None:
        async with asyncio.timeout(20):
            while len(self.answered) < count:
                self._more.clear()
                await self._more.wait()

    async def warm(self) -> None:
        """So that the slots know their work to be short."""
        for number in range(3):
            self.submit(Entry(f"warm-{number}"))
            await self.until(number + 1)
        self.turns.clear()


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that waits for nothing waits so long that a test sees it, whatever else the machine does."""
    monkeypatch.setattr(workers, "_ATTEND_S", 1.0)
    monkeypatch.setattr(workers, "_SHORT_S", 0.5)
    monkeypatch.setattr(workers, "_HOLD_S", 0.5)


def run(scenario: Callable[[], Any]) -> None:
    asyncio.run(scenario())


def test_what_came_together_is_answered_in_one_turn() -> None:
    async def scenario() -> None:
        yard = Yard(1)
        await yard.warm()
        yard.submit(*(Entry(str(number)) for number in range(10)))
        await yard.until(10)
        assert yard.turns == [[str(number) for number in range(10)]]
        assert yard.slots.stop(10)

    run(scenario)


@pytest.mark.parametrize("count", [1, 3])
def test_many_turns_lose_nothing(count: int) -> None:
    async def scenario() -> None:
        yard = Yard(count)
        await yard.warm()
        for number in range(300):
            yard.submit(Entry(str(number)))
            if number % 7 == 0:
                await asyncio.sleep(0)
        await yard.until(300)
        assert sorted(map(int, yard.answered)) == list(range(300))
        assert yard.slots.stop(10)

    run(scenario)


def test_the_loop_does_not_wait_for_who_has_left() -> None:
    async def scenario() -> None:
        yard = Yard(1)
        await yard.warm()
        began = time.monotonic()
        yard.submit(Entry("left", gone=True))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert time.monotonic() - began < workers._ATTEND_S
        yard.submit(Entry("next"))
        await yard.until(1)
        assert yard.answered == ["next"]
        assert yard.slots.stop(10)

    run(scenario)


def test_the_loop_does_not_wait_for_what_was_taken_already() -> None:
    """By a slot that was at work when it was put."""

    async def scenario() -> None:
        yard = Yard(1)
        await yard.warm()
        yard.slots._inbox.put(None)  # nobody is woken
        yard.slots._inbox.get()
        began = time.monotonic()
        yard.slots._hand_over()
        assert time.monotonic() - began < workers._ATTEND_S
        assert yard.slots.stop(10)

    run(scenario)


def test_work_that_turns_out_long_is_not_waited_for_again() -> None:
    """Once at most, and never longer than the limit."""

    async def scenario() -> None:
        yard = Yard(1)
        await yard.warm()
        free = threading.Event()
        yard.submit(Entry("long", free.wait), Entry("behind"))
        await asyncio.sleep(0.01)  # the loop has waited its time, and goes on
        assert yard.answered == []
        began = time.monotonic()
        yard.submit(Entry("later"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert time.monotonic() - began < workers._ATTEND_S
        free.set()
        await yard.until(3)
        assert yard.answered == ["long", "behind", "later"]
        assert yard.slots.stop(10)

    run(scenario)


def test_an_answer_held_back_does_not_wait_for_a_slot_that_sleeps() -> None:
    """The sweep, which would find it too, does not run here."""

    async def scenario() -> None:
        yard = Yard(2)
        await yard.warm()
        free = threading.Event()
        yard.submit(Entry("long", free.wait))
        await asyncio.sleep(0.01)
        yard.submit(Entry("short"), Entry("left", gone=True))
        await yard.until(1)
        assert yard.answered == ["short"]
        free.set()
        await yard.until(2)
        assert yard.slots.stop(10)

    run(scenario)


def test_a_batch_that_waits_for_company_gets_it() -> None:
    """Only the loop can bring it, so the loop does not wait for the batch."""

    async def scenario() -> None:
        yard = Yard(1)
        await yard.warm()
        yard.slots._batcher = SimpleNamespace(delay_s=0.0002)  # type: ignore[assignment]
        assert not yard.slots._attends()
        yard.slots._batcher = SimpleNamespace(delay_s=0.0)  # type: ignore[assignment]
        assert yard.slots._attends()
        assert yard.slots.stop(10)

    run(scenario)


def test_a_stream_has_the_loop_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of its chunks needs it."""
    at: list[float] = []

    def feed(entry: Any, scorer: Any, loop: asyncio.AbstractEventLoop, began: Any) -> None:
        there = threading.Event()
        loop.call_soon_threadsafe(there.set)
        started = time.monotonic()
        assert there.wait(10)
        at.append(time.monotonic() - started)

    monkeypatch.setattr(workers, "feed", feed)

    async def scenario() -> None:
        yard = Yard(1)
        await yard.warm()
        stream = Entry("stream")
        stream.work.items = iter([1])
        yard.submit(stream)
        await yard.until(1)
        assert at[0] < workers._ATTEND_S
        assert yard.slots.stop(10)

    run(scenario)


def test_bells_that_nobody_hears_block_no_slot() -> None:
    async def scenario() -> None:
        yard = Yard(1)
        await yard.warm()
        for _ in range(70_000):
            yard.slots._bell_rope.append(None)
            yard.slots._attending = True
            assert yard.slots._ring()
        yard.slots._attending = False
        yard.submit(Entry("after"))
        await yard.until(1)
        assert yard.slots.stop(10)

    run(scenario)
