"""The queue's rules on a real loop, with workers that finish when the test says so."""

import asyncio
from collections.abc import Callable, Coroutine
from time import monotonic
from typing import Any

import pytest

from argosy_serving.admission import Admission, Entry
from argosy_serving.refusals import Refusal, ScoringTimeout, Shed
from argosy_serving.scoring import Work
from argosy_serving.settings import LiveSettings


class Hands:
    """Workers that start an entry at once when a slot is free, and finish it when told."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self.entries: list[Entry] = []
        self.given_up: list[Entry] = []

    def submit(self, entry: Entry) -> None:
        self.entries.append(entry)

    def give_up(self, entry: Entry) -> None:
        self.given_up.append(entry)

    def collect(self) -> None:
        """Nothing is held back."""

    def start(self, index: int) -> bool:
        entry = self.entries[index]
        if entry.claim(False):
            entry.work.started_at = monotonic()
            return True
        return False

    def finish(self, index: int) -> None:
        self._admission.finished(self.entries[index])


def rule(
    slots: int = 1, chance: float = 0.0, **settings: Any
) -> Callable[[Callable[[Admission, Hands], Coroutine[Any, Any, None]]], None]:
    def run(body: Callable[[Admission, Hands], Coroutine[Any, Any, None]]) -> None:
        async def life() -> None:
            live = LiveSettings(**{"max_queued_requests": 2, "max_queue_wait_ms": 5000, **settings})
            admission = Admission(asyncio.get_running_loop(), slots, lambda: live, chance=lambda: chance)
            hands = Hands(admission)
            admission.workers = hands
            await body(admission, hands)

        asyncio.run(life())

    return run


def send(admission: Admission, limit_s: float = 60, gone: Callable[[], bool] = lambda: False) -> "asyncio.Future[None]":
    """What becomes of one request. Raises Shed when there is no room."""
    now = monotonic()
    outcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def done(_: Entry, refusal: Refusal | None) -> None:
        if refusal is None:
            outcome.set_result(None)
        else:
            outcome.set_exception(refusal)

    admission.submit(Entry(Work(b"", {}, "1", ""), now, now + limit_s, gone, done))
    return outcome


def test_one_claim_wins() -> None:
    @rule(max_queue_wait_ms=30)
    async def _(admission: Admission, hands: Hands) -> None:
        task = send(admission)
        with pytest.raises(Shed) as caught:
            await task
        assert caught.value.code == "queue_wait"
        assert not hands.start(0), "the sweep has the claim: it never starts"
        assert admission.occupied == 0


def test_started_work_is_not_shed() -> None:
    @rule(max_queue_wait_ms=30)
    async def _(admission: Admission, hands: Hands) -> None:
        task = send(admission)
        await asyncio.sleep(0)
        assert hands.start(0)
        await asyncio.sleep(0.1)
        assert not task.done()
        hands.finish(0)
        await task
        assert admission.occupied == 0


def test_counts_and_the_full_queue() -> None:
    @rule()
    async def _(admission: Admission, hands: Hands) -> None:
        tasks = [send(admission) for _ in range(3)]
        await asyncio.sleep(0)
        assert (admission.in_flight, admission.queued) == (1, 2)
        with pytest.raises(Shed) as caught:
            await send(admission)
        assert caught.value.code == "queue_full"
        for index in range(3):
            hands.start(index)
            hands.finish(index)
        await asyncio.gather(*tasks)
        assert (admission.in_flight, admission.queued) == (0, 0)


def test_a_time_out_leaves_the_slot_busy() -> None:
    @rule(request_timeout_ms=40)
    async def _(admission: Admission, hands: Hands) -> None:
        task = send(admission, 0.04)
        await asyncio.sleep(0)
        hands.start(0)
        with pytest.raises(ScoringTimeout):
            await task
        assert (admission.stuck, admission.in_flight, admission.stalled) == (1, 1, True)
        assert hands.given_up == hands.entries
        assert not admission.hopeless(), "it is given the same time once more"
        hands.finish(0)
        assert (admission.stuck, admission.in_flight, admission.stalled) == (0, 0, False)


def test_a_callers_short_deadline_makes_no_stuck_slot() -> None:
    @rule(request_timeout_ms=60_000)
    async def _(admission: Admission, hands: Hands) -> None:
        task = send(admission, 0.03)
        await asyncio.sleep(0)
        hands.start(0)
        with pytest.raises(ScoringTimeout):
            await task
        assert (admission.stuck, admission.stalled) == (0, False)


def test_who_would_wait_too_long_is_told_at_the_door() -> None:
    @rule(max_queued_requests=50, max_queue_wait_ms=500)
    async def _(admission: Admission, hands: Hands) -> None:
        first = send(admission)
        admission.mean_run_s = 0.3
        hands.start(0)
        second = send(admission)
        assert admission.predicted_wait_s() == pytest.approx(0.45)
        third = send(admission)
        with pytest.raises(Shed) as caught:
            send(admission)
        assert caught.value.code == "queue_wait"
        for index, task in enumerate((first, second, third)):
            hands.start(index)
            hands.finish(index)
            await task
        admission.mean_run_s = 60.0
        assert not send(admission).done(), "nobody waits: it may try"
        assert not send(admission).done(), "and one may wait"


def test_a_caller_who_left_frees_the_queue() -> None:
    @rule()
    async def _(admission: Admission, hands: Hands) -> None:
        task = send(admission, gone=lambda: True)
        with pytest.raises(Shed):
            await task
        assert not hands.start(0)


@pytest.mark.parametrize(("chance", "seconds"), [(0.0, "15"), (0.5, "18"), (1.0, "22")])
def test_retry_after_grows_with_the_work_ahead(chance: float, seconds: str) -> None:
    """Twice 7.2 seconds, and up to half more by chance, so that those who were shed together come back one by one."""

    @rule(max_queued_requests=1, chance=chance)
    async def _(admission: Admission, hands: Hands) -> None:
        both = [send(admission), send(admission)]
        await asyncio.sleep(0)
        admission.mean_run_s = 7.2
        with pytest.raises(Shed) as caught:
            admission.check_door(60)
        assert caught.value.headers["retry-after"] == seconds
        for index in range(2):
            hands.start(index)
            hands.finish(index)
        await asyncio.gather(*both)


def test_the_mean_run_time_follows_what_is_run() -> None:
    @rule(max_queued_requests=0)
    async def _(admission: Admission, hands: Hands) -> None:
        for index in range(60):
            task = send(admission)
            assert hands.start(index)
            hands.entries[index].work.started_at -= 8.0 if index < 30 else 2.0
            hands.finish(index)
            await task
            if index == 29:
                assert 8 <= admission.mean_run_s < 8.5
        assert 2 <= admission.mean_run_s < 3


def test_an_entry_that_overtakes_is_counted_once() -> None:
    """Its thread was faster than that of the entry in front of it: it must not come to count as stuck for ever."""

    @rule(slots=2, request_timeout_ms=60)
    async def _(admission: Admission, hands: Hands) -> None:
        tasks = [send(admission), send(admission)]
        assert hands.start(1)
        hands.finish(1)
        assert hands.start(0)
        hands.finish(0)
        await asyncio.gather(*tasks)
        await asyncio.sleep(0.15)
        assert (admission.stuck, admission.stalled, admission.occupied) == (0, False, 0)


def test_an_answer_that_fails_harms_nobody_else() -> None:
    @rule()
    async def _(admission: Admission, hands: Hands) -> None:
        def fail(entry: Entry, refusal: Refusal | None) -> None:
            raise RuntimeError("cannot be written")

        now = monotonic()
        admission.submit(Entry(Work(b"", {}, "1", ""), now, now + 60, lambda: False, fail))
        admission.submit(Entry(Work(b"", {}, "2", ""), now, now + 0.05, lambda: False, fail))
        task = send(admission, 0.1)
        hands.start(0)
        hands.finish(0)
        with pytest.raises(Shed):
            await task
        assert admission.occupied == 0
        again = send(admission)
        assert hands.start(3)
        hands.finish(3)
        await again
