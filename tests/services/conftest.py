from collections.abc import Callable

import pytest

from argosy.services import reconcile as reconcile_module
from argosy.services import tended as tended_module
from services.shelves import services, shelf

__all__ = ["clock", "services", "shelf"]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Moves the time on which back-off and steadiness go."""
    now = [1000.0]

    def forward(seconds: float) -> None:
        now[0] += seconds

    class Time:
        monotonic = staticmethod(lambda: now[0])

    monkeypatch.setattr(tended_module, "time", Time)
    monkeypatch.setattr(reconcile_module, "time", Time)
    return forward
