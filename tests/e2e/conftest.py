"""Homes to run a whole Argosy in."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.running import Argosy, RecipeFolder


@pytest.fixture(scope="session")
def shared_environments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder of environments for all homes of this worker: building them is not what most tests are about.

    Not of all workers: a home that deletes its last image of an environment deletes that too.
    """
    folder = tmp_path_factory.mktemp("shared-envs")
    folder.chmod(0o700)
    return folder


@pytest.fixture(scope="module")
def module_home(shared_environments: Path) -> Iterator[Path]:
    yield from _home(shared_environments)


@pytest.fixture
def fresh_home(shared_environments: Path) -> Iterator[Path]:
    yield from _home(shared_environments)


def _home(shared_environments: Path) -> Iterator[Path]:
    # Short, since sockets lie in it.
    home = Path(tempfile.mkdtemp(prefix="argosy-e2e-"))
    (home / "envs").symlink_to(shared_environments)
    yield home
    argosy = Argosy(home)
    argosy("down")
    for process in argosy.processes():
        process.kill()
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="module")
def argosy(module_home: Path) -> Argosy:
    """A running Argosy, shared by the tests of a module."""
    running = Argosy(module_home)
    running.up()
    return running


@pytest.fixture
def fresh(fresh_home: Path) -> Argosy:
    """A home in which nothing runs yet."""
    return Argosy(fresh_home)


@pytest.fixture(scope="session")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> RecipeFolder:
    return RecipeFolder(tmp_path_factory.mktemp("recipe"))
