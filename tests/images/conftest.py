"""An interpreter, an index, a folder of environments and homes with a builder for these tests."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from argosy.images.pythons import Python, inspect_python
from images.oci.house import House
from manifests.conda_channel import channel, conda_python
from manifests.package_index import PackageIndex, index, real_index

__all__ = ["base_python", "channel", "conda_python", "index", "real_index", "root"]


@pytest.fixture(scope="session")
def base_python() -> Python:
    """The interpreter that runs the tests, outside of its virtual environment."""
    found = inspect_python(Path(sys.executable))
    assert found
    return found


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "envs"


@pytest.fixture
def house(tmp_path: Path, index: PackageIndex) -> Iterator[Callable[[str], House]]:
    made: list[House] = []

    def make(name: str) -> House:
        made.append(House(tmp_path / name, index))
        return made[-1]

    yield make
    for each in made:
        each.shelf.close()
