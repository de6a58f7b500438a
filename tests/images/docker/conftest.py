"""Engines, and a base with a shell, for the tests that run steps."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import Require
from e2e.containers import base_image
from e2e.engine_sockets import docker_socket, podman_socket
from images.docker.house import House
from manifests.package_index import PackageIndex


@pytest.fixture(scope="session", params=["podman", "dockerd"])
def engine(request: pytest.FixtureRequest, require: Require) -> Iterator[str]:
    """URL of a running engine."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to start container engines of its own: run the tests as root")
    program = require(request.param)
    if request.param == "dockerd":
        with docker_socket(program) as url:
            yield url
    else:
        with podman_socket(program) as (url, _):
            yield url


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
