"""What work under way needs, so that garbage collection takes nothing of it away.

A build, push, pull or archive holds a lease; whatever is used while anybody holds one is remembered until nobody does.
The collector holds one itself before it reads what is registered: what a build registers before that is read, and what
one uses after it is remembered. No clock decides, so neither a slow build nor a clock that is set back loses anything;
and a lease ends with the process, so that `kill -9` leaves none behind.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Leases:
    """Of one home. Keys: `sha256:<hex>` is a blob of the image store, `env:<key>`, `folder:<digest>`, `base:<name>`."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._held = 0
        self._used: set[str] = set()

    @contextmanager
    def hold(self) -> Iterator[None]:
        with self._guard:
            self._held += 1
        try:
            yield
        finally:
            with self._guard:
                self._held -= 1
                if not self._held:
                    self._used.clear()

    def use(self, key: str) -> None:
        """To be called before looking whether what `key` names is there."""
        with self._guard:
            if self._held:
                self._used.add(key)

    def remove(self, key: str, remove: Callable[[], object]) -> bool:
        """Call `remove` unless `key` is used; until it is done nobody begins to use it. Whether it was called."""
        with self._guard:
            if key in self._used:
                return False
            remove()
            return True

    def used(self, key: str) -> bool:
        with self._guard:
            return key in self._used
