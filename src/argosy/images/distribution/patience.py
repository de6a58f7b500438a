"""How often and how long a registry is asked again."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

from argosy.errors import RegistryFailed

# What may go well the next time; 501 and 505 will not.
PASSING = (408, 429, 500, 502, 503, 504)


@dataclass(frozen=True)
class Patience:
    """`attempts` in all, with pauses that double from `first_s`. A registry that says Retry-After is obeyed up to
    `longest_s`; when it wants more, that is an error at once."""

    attempts: int = 5
    first_s: float = 0.5
    longest_s: float = 60.0
    sleep: Callable[[float], None] = time.sleep

    def pause(self, host: str, attempt: int, response: httpx.Response | None = None) -> None:
        """After attempt number `attempt` (from 1). RegistryFailed when the registry wants a longer pause."""
        asked = wanted_s(response)
        if asked is not None and asked > self.longest_s:
            raise RegistryFailed(
                host, f"The registry {host} is overloaded or limits us: it wants {asked:.0f} s of rest. Try again then."
            )
        # Half of the pause is by chance, so that clients that failed together do not come back together.
        own = self.first_s * 2 ** (attempt - 1) * random.uniform(0.5, 1.0)  # noqa: S311
        self.sleep(min(self.longest_s, own) if asked is None else asked)


def wanted_s(response: httpx.Response | None) -> float | None:
    """The seconds that Retry-After asks for, given as a number or as a date."""
    text = response.headers.get("retry-after", "").strip() if response is not None else ""
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None
