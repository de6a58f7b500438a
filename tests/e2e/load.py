"""A load generator: closed loop, several connections, every answer counted."""

import contextlib
import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit


@dataclass
class Load:
    """Posts `body` to `url` until `stop`. `outcomes` counts statuses and errors, `answers` distinct answers."""

    url: str
    key: str
    body: Any
    connections: int = 4
    outcomes: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)

    def __enter__(self) -> "Load":
        self._stop = threading.Event()
        self._guard = threading.Lock()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(self.connections)]
        for thread in self._threads:
            thread.start()
        self.wait_for(lambda: sum(self.outcomes.values()) > 0)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def wait_for(self, condition: Callable[[], bool], timeout_s: float = 120) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"never came true; {self.outcomes} {self.answers}"
            time.sleep(0.02)

    def more(self, count: int = 100) -> None:
        """Wait for so many further requests."""
        goal = sum(self.outcomes.values()) + count
        self.wait_for(lambda: sum(self.outcomes.values()) >= goal)

    @property
    def failures(self) -> dict[str, int]:
        return {outcome: count for outcome, count in self.outcomes.items() if outcome != "200"}

    def _run(self) -> None:
        parts = urlsplit(self.url)
        payload = json.dumps(self.body)
        headers = {"authorization": f"Bearer {self.key}", "content-type": "application/json"}
        with contextlib.closing(http.client.HTTPConnection(parts.netloc, timeout=60)) as connection:
            self._repeat(connection, parts.path, payload, headers)

    def _repeat(self, connection: http.client.HTTPConnection, path: str, payload: str, headers: dict[str, str]) -> None:
        while not self._stop.is_set():
            try:
                connection.request("POST", path, payload, headers)
                response = connection.getresponse()
                text = response.read().decode()
                outcome = str(response.status)
            except (OSError, http.client.HTTPException) as problem:
                outcome, text = repr(problem), ""
                connection.close()
            with self._guard:
                self.outcomes[outcome] += 1
                self.answers[text] += 1
