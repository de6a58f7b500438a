from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from argosy.environments.registry import EnvironmentRegistry
from argosy.services import reconcile as reconcile_module
from argosy.services import tended as tended_module
from services.fakes import Services
from store.shelf import Shelf


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    shelf = Shelf(tmp_path)
    EnvironmentRegistry(shelf.database).create("local", "process")
    yield shelf
    shelf.close()


@pytest.fixture
def services(shelf: Shelf) -> Services:
    return Services(shelf)


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
