"""What push and pull tell while they work."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Moved:
    """One blob or manifest. `state`: present (nothing to do), mounted (from another repository), moving, done."""

    digest: str
    state: str
    done_bytes: int
    total_bytes: int


# What it raises ends the push or pull.
Progress = Callable[[Moved], object]


def silent(_moved: Moved) -> None:
    """For callers who do not want to know."""
