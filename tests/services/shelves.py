"""A home's state for tests that need no process, and the services in it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from argosy.environments.registry import EnvironmentRegistry
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
