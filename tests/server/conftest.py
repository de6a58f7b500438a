import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from argosy.environments.registry import EnvironmentRegistry
from server.house import House
from server.plane import Plane
from services.fakes import Services
from services.shelves import services, shelf
from store.shelf import Shelf

__all__ = ["folder", "house", "plane", "services", "shelf", "still"]


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    """A plane for requests that change nothing, shared by the tests of a module."""
    shelf = Shelf(tmp_path_factory.mktemp("still"))
    EnvironmentRegistry(shelf.database).create("local", "process")
    plane = Plane(shelf, Services(shelf))
    yield plane
    plane.close()
    shelf.close()


@pytest.fixture
def plane(shelf: Shelf, services: Services) -> Iterator[Plane]:
    plane = Plane(shelf, services)
    yield plane
    plane.close()


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short, since sockets lie in it."""
    path = Path(tempfile.mkdtemp(prefix="hold-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def house(folder: Path, shelf: Shelf) -> Iterator[House]:
    house = House(folder, shelf)
    yield house
    house.gateway.stop(0)
