"""The queue between the loop and the slots: nothing is lost, nobody sleeps on work, and nobody is woken for nothing."""

import os
import random
import threading
import time
from queue import Empty

import pytest

from argosy_serving.inbox import Inbox


def takers(inbox: "Inbox[int | None]", count: int) -> tuple[list[threading.Thread], list[list[int]]]:
    taken: list[list[int]] = [[] for _ in range(count)]

    def take(mine: list[int]) -> None:
        while (item := inbox.get()) is not None:
            mine.append(item)

    threads = [threading.Thread(target=take, args=(mine,), daemon=True) for mine in taken]
    for thread in threads:
        thread.start()
    return threads, taken


@pytest.mark.parametrize("count", [1, 2, 5])
def test_every_item_is_taken_once_and_in_order(count: int) -> None:
    inbox: Inbox[int | None] = Inbox(5, lambda: None)
    threads, taken = takers(inbox, count)
    chance = random.Random(count)
    for number in range(20_000):
        inbox.put(number)
        if chance.random() < 0.3:
            inbox.wake()
        if chance.random() < 0.001:
            time.sleep(0.001)  # so that takers fall asleep now and then
    for _ in threads:
        inbox.put(None)
    inbox.wake()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive(), "it sleeps though there is work"
    assert sorted(number for mine in taken for number in mine) == list(range(20_000))
    assert all(mine == sorted(mine) for mine in taken)
    inbox.close()


def test_put_alone_wakes_nobody() -> None:
    inbox: Inbox[int | None] = Inbox(5, lambda: None)
    (thread,), (mine,) = takers(inbox, 1)
    while not inbox._sleepers:
        time.sleep(0.001)
    inbox.put(1)
    time.sleep(0.05)
    assert mine == []
    inbox.put(None)
    inbox.wake()
    thread.join(30)
    assert mine == [1]


def test_a_wait_has_an_end() -> None:
    inbox: Inbox[int] = Inbox(1, lambda: None)
    for timeout_s in (0.0, -1.0, 0.02):
        with pytest.raises(Empty):
            inbox.get(timeout_s)
    assert not inbox._sleepers, "a note left behind would take a wake from somebody who sleeps"
    inbox.put(7)
    assert inbox.get(0.0) == 7


def test_a_timed_wait_takes_what_comes() -> None:
    inbox: Inbox[int] = Inbox(1, lambda: None)
    got: list[int] = []
    thread = threading.Thread(target=lambda: got.append(inbox.get(20.0)), daemon=True)
    thread.start()
    while not inbox._sleepers:
        time.sleep(0.001)
    inbox.put(3)
    inbox.wake()
    thread.join(10)
    assert got == [3]


def test_waits_that_end_just_then_lose_nothing() -> None:
    inbox: Inbox[int] = Inbox(1, lambda: None)
    got: list[int] = []

    def take() -> None:
        while len(got) < 3000:
            try:
                got.append(inbox.get(0.0002))
            except Empty:
                continue

    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    for number in range(3000):
        inbox.put(number)
        inbox.wake()
        time.sleep(0.0002)
    thread.join(30)
    assert got == list(range(3000))


def test_who_finds_nothing_says_so_before_it_sleeps() -> None:
    said: list[str] = []
    inbox: Inbox[int] = Inbox(1, lambda: said.append("nothing"))
    inbox.put(1)
    assert (inbox.get(), said) == (1, [])
    with pytest.raises(Empty):
        inbox.get(0.0)
    assert said == [], "it did not sleep"
    with pytest.raises(Empty):
        inbox.get(0.001)
    assert said == ["nothing"]


def test_closing_gives_the_descriptors_back() -> None:
    inbox: Inbox[int] = Inbox(1, lambda: None)
    with pytest.raises(Empty):
        inbox.get(0.0001)
    (pipe,) = inbox._pipes
    inbox.close()
    for end in pipe:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(end)
