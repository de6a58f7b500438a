"""How many replicas start at the same time on this machine.

To start is to compute: importing a model's libraries takes a core for seconds. A hundred at once would all be late, and
the replicas that serve would starve.
"""

import os
import threading
import time
from collections.abc import Callable, Collection

# One that loads for longer is not computing imports any more, or will not be soon: the next may begin.
_LONGEST_S = 15.0


def usual_limit() -> int:
    return max(4, 2 * (os.cpu_count() or 1))


class Starts:
    """At most `at_once` places. Thread-safe."""

    def __init__(self, at_once: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._at_once, self._clock = at_once, clock
        self._guard = threading.Lock()
        self._since: dict[str, dict[str, float]] = {}
        self._begun = 0
        self._waiting: dict[str, None] = {}

    def begin(self, service: str) -> bool:
        """Whether one may start now. Then call `began` or `failed`; else the service is remembered as waiting."""
        with self._guard:
            now = self._clock()
            taken = sum(1 for mine in self._since.values() for since in mine.values() if now - since < _LONGEST_S)
            if taken + self._begun >= self._at_once:
                self._waiting[service] = None
                return False
            self._begun += 1
            return True

    def began(self, service: str, replica: str) -> None:
        with self._guard:
            self._begun -= 1
            self._since.setdefault(service, {})[replica] = self._clock()

    def failed(self) -> None:
        with self._guard:
            self._begun -= 1

    def settle(self, service: str, starting: Collection[str]) -> list[str]:
        """Only these replicas of the service are still starting. The services that may begin in the freed places."""
        with self._guard:
            mine = self._since.get(service)
            if not mine:
                return []
            done = [replica for replica in mine if replica not in starting]
            for replica in done:
                del mine[replica]
            if not mine:
                del self._since[service]
            following = list(self._waiting)[: len(done)]
            for name in following:
                del self._waiting[name]
            return following
