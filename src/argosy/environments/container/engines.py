"""All engines of this control plane, and one thread that knocks at each of them now and then."""

import logging
import threading
import time
from collections.abc import Callable, Iterable

from argosy.environments.container.engine import ContainerEngine
from argosy.errors import Error

log = logging.getLogger(__name__)

_KNOCK_EVERY_S = 2.0
_SWEEP_EVERY_S = 30.0


class Engines:
    """`registered` gives the sockets that environments name. Thread-safe."""

    def __init__(self, registered: Callable[[], Iterable[str]]) -> None:
        self._registered = registered
        self._guard = threading.Lock()
        self._engines: dict[str, ContainerEngine] = {}
        self._was_down: dict[str, bool] = {}
        self._swept_s: dict[str, float] = {}
        self._flipped: set[str] = set()
        self._stopped = threading.Event()

    def get(self, url: str) -> ContainerEngine:
        with self._guard:
            return self._engines.setdefault(url, ContainerEngine(url))

    def flipped(self) -> set[str]:
        """Those that came or went since this was asked last."""
        with self._guard:
            flipped, self._flipped = self._flipped, set()
            return flipped

    def watch(self, sweep: Callable[[str], None]) -> None:
        """Until `stop`. `sweep` is called with each engine that answers, when it comes back and every half minute."""
        threading.Thread(target=self._watch, args=[sweep], name="container engines", daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()

    def _watch(self, sweep: Callable[[str], None]) -> None:
        while not self._stopped.wait(_KNOCK_EVERY_S):
            try:
                for url in set(self._registered()) | set(self._engines):
                    self._knock(url, sweep)
            except Exception:
                log.exception("the container engines could not be looked at; it will be repeated")

    def _knock(self, url: str, sweep: Callable[[str], None]) -> None:
        engine = self.get(url)
        try:
            engine.ping()
            if self._was_down.get(url) or time.monotonic() - self._swept_s.get(url, -_SWEEP_EVERY_S) >= _SWEEP_EVERY_S:
                sweep(url)
                self._swept_s[url] = time.monotonic()
        except Error as problem:
            if not self._was_down.get(url):
                log.warning("%s", problem.message)
        down = engine.down is not None
        if down != self._was_down.get(url, False):
            self._was_down[url] = down
            if not down:
                log.info("the container engine at %s answers again", url)
            with self._guard:
                self._flipped.add(url)
