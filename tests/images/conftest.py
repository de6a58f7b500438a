"""An interpreter, an index and a folder of environments for these tests."""

import sys
from pathlib import Path

import pytest

from argosy.images.pythons import Python, inspect_python
from manifests.conda_channel import channel, conda_python
from manifests.package_index import index, real_index

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
