"""What work under way needs, so that garbage collection takes nothing of it away.

A build, push, pull or archive holds a lease; whatever is used while anybody holds one is remembered until nobody does.
The collector holds one itself before it reads what is registered: what a build registers before that is read, and what
one uses after it is remembered. No clock decides, so neither a slow build nor a clock that is set back loses anything;
and a lease ends with the process, so that `kill -9` leaves none behind.
"""

import secrets
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from argosy.errors import StorageFailed

# What is on its way out of a folder; a crash may leave some.
REMOVED = ".removed-"


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
        """Call `remove` unless `key` is used; until it is done nobody begins to use it. Whether it was called.

        All that build and pull wait meanwhile: it must be quick, and wait for nobody.
        """
        with self._guard:
            if key in self._used:
                return False
            remove()
            return True

    def remove_folder(self, key: str, folder: Path) -> bool:
        """As `remove`: the folder goes away in one step, its files after that, when nobody waits any more."""
        gone = folder.with_name(f"{REMOVED}{folder.name}-{secrets.token_hex(4)}")
        try:
            if not self.remove(key, lambda: folder.rename(gone)):
                return False
        except FileNotFoundError:
            return True
        except OSError as problem:
            raise StorageFailed(
                f"{folder} cannot be deleted: {problem.strerror or problem}. Make the folder it lies in writable for "
                "this user, then try again."
            ) from problem
        shutil.rmtree(gone, ignore_errors=True)
        return True

    def used(self, key: str) -> bool:
        with self._guard:
            return key in self._used
