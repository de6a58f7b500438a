"""Engines, and a base with a shell, for the tests that run steps."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import Require
from e2e.containers import base_image
from e2e.engines import running
from images.docker.house import House
from manifests.package_index import PackageIndex


@pytest.fixture(scope="session", params=[("podman", "podman"), ("docker", "dockerd")], ids=["podman", "docker"])
def engine(request: pytest.FixtureRequest, require: Require) -> Iterator[str]:
    """URL of a running engine."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to start container engines of its own: run the tests as root")
    kind, program = request.param
    require("ip")
    with running(kind, require(program)) as server:
        yield server.url


@pytest.fixture(scope="session")
def debian(require: Require) -> tuple[str, str]:
    """(reference, Python) of a base image."""
    debootstrap = require("debootstrap")
    if os.geteuid() != 0:
        pytest.skip("needs root, to make a base image with debootstrap: run the tests as root")
    return base_image(debootstrap)


@pytest.fixture
def house(
    tmp_path: Path, index: PackageIndex, engine: str, debian: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[House]:
    monkeypatch.setenv("DOCKER_HOST", engine)
    made = House(tmp_path / "home", index, debian)
    yield made
    made.shelf.close()
