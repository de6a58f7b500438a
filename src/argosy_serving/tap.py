"""Where rows that a script collects leave the replica: one seam, whoever listens.

One per process, since scripts of 2017 make their collectors out of nothing. Without a sink rows are only counted.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

logger = logging.getLogger("argosy")


@dataclass(frozen=True)
class Collected:
    """Rows of one `collect` call, copied: whoever takes them owns them.

    `columns` is empty when the script named none. `timestamp` is UTC in ISO 8601. `origin` has the collector's own
    words: model_name, identifier, and whatever ids the script gave.
    """

    origin: Mapping[str, str]
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    timestamp: str
    request_id: str
    correlation_id: str


class Tap:
    """`sink` is set by the replica when it stores rows; it must hand them aside and return. Safe from any thread."""

    def __init__(self) -> None:
        self.sink: Callable[[Collected], None] | None = None
        self.rows_taken = 0
        self.rows_dropped = 0
        self._lock = threading.Lock()

    def give(self, collected: Collected) -> None:
        """Never raises: what is collected must not break what is scored."""
        sink, taken = self.sink, False
        if sink is not None:
            try:
                sink(collected)
                taken = True
            except Exception:
                logger.exception("Rows that the script collected are lost")
        if not taken:
            self.drop(len(collected.rows))
            return
        with self._lock:
            self.rows_taken += len(collected.rows)

    def drop(self, rows: int) -> None:
        """Count rows that nobody took."""
        with self._lock:
            self.rows_dropped += rows


TAP = Tap()
