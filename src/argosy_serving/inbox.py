"""The queue from the event loop to the threads of slots.

A `queue.SimpleQueue` wakes its reader while the writer holds the lock of the interpreter: where both share a core, the
reader gets the core, finds the lock taken and gives the core back, four changes of threads for one hand-over. Here a
reader sleeps on a pipe, whose writer lets go of the lock first and says when to write.
"""

import os
import select
import threading
from collections import deque
from collections.abc import Callable
from queue import Empty
from time import monotonic
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Inbox(Generic[Item]):
    """One thread puts and wakes, `readers` threads take. A reader calls `before_sleep` when there is nothing to take.

    Its pipes are made at once: beside a model that has many files open, new ones would be beyond what `select` takes.
    """

    def __init__(self, readers: int, before_sleep: Callable[[], None]) -> None:
        self._items: deque[Item] = deque()
        self._sleepers: deque[int] = deque()  # the pipes of threads that sleep or are about to
        self._before_sleep = before_sleep
        self._mine = threading.local()
        self._pipes = [os.pipe() for _ in range(readers)]
        self._free = list(self._pipes)

    def empty(self) -> bool:
        return not self._items

    def put(self, item: Item) -> None:
        """Nobody is woken before `wake`."""
        self._items.append(item)

    def wake(self) -> None:
        """Wake as many sleeping threads as there are items."""
        for _ in range(len(self._items)):
            try:
                pipe = self._sleepers.pop()
            except IndexError:
                return  # all are at work, and look here before they sleep
            os.write(pipe, b"\0")

    def get(self, timeout_s: "float | None" = None) -> Item:
        """Raises queue.Empty after `timeout_s`; without one it waits for ever."""
        items = self._items
        until = None if timeout_s is None else monotonic() + timeout_s
        while True:
            try:
                return items.popleft()
            except IndexError:
                left_s = None if until is None else until - monotonic()
                if left_s is not None and left_s <= 0:
                    raise Empty from None
            self._before_sleep()
            out, into = self._pipe()
            self._sleepers.append(into)
            # What is put from here on is followed by a wake that finds the note; what was put before is seen now.
            if (items or not _readable(out, left_s)) and self._withdraw(into):
                continue
            os.read(out, 1)

    def close(self) -> None:
        """When no thread will call `get` any more."""
        for pipe in self._pipes:
            for end in pipe:
                os.close(end)
        self._pipes.clear()

    def _withdraw(self, pipe: int) -> bool:
        """False when somebody has taken the note: a byte has come or is coming."""
        try:
            self._sleepers.remove(pipe)
        except ValueError:
            return False
        return True

    def _pipe(self) -> "tuple[int, int]":
        pipe: tuple[int, int] | None = getattr(self._mine, "pipe", None)
        if pipe is None:
            self._mine.pipe = pipe = self._free.pop()
        return pipe


def _readable(pipe: int, timeout_s: "float | None") -> bool:
    return timeout_s is None or bool(select.select([pipe], [], [], timeout_s)[0])
