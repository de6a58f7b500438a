from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from argosy.images.distribution.logins import Login, Logins
from argosy.images.distribution.patience import Patience
from argosy.images.distribution.registries import Registries
from argosy.images.distribution.session import RegistrySession
from argosy.keys import Vault, new_key
from images.distribution.docker_registry import PASSWORD, USER, make_certificate, serve
from images.distribution.folder_blobs import FolderBlobs


@dataclass(frozen=True)
class Secured:
    """A registry that speaks TLS under an authority of its own and wants a login."""

    host: str
    ca_file: Path


@pytest.fixture
def blobs(tmp_path: Path) -> FolderBlobs:
    return FolderBlobs(tmp_path / "here")


@pytest.fixture
def others(tmp_path: Path) -> FolderBlobs:
    """Where things are pulled to."""
    return FolderBlobs(tmp_path / "there")


@pytest.fixture(autouse=True)
def no_docker_config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Logins of who runs the tests stay out of them."""
    folder = tmp_path / "docker"
    folder.mkdir()
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))
    return folder


@pytest.fixture(scope="session")
def plain_registry(require: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serve(require("docker-registry"), tmp_path_factory.mktemp("plain") / "registry") as host:
        yield host


@pytest.fixture(scope="session")
def secured_registry(require: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("secured")
    certificate, key = make_certificate(require("openssl"), folder)
    with serve(require("docker-registry"), folder / "registry", (certificate, key)) as host:
        yield Secured(host, certificate)


@pytest.fixture
def logins(tmp_path: Path) -> Logins:
    return Logins(tmp_path / "registries.json", Vault(new_key()))


@pytest.fixture
def registries(logins: Logins) -> Registries:
    return Registries(logins, patience=Patience(first_s=0.01))


@pytest.fixture
def plain(plain_registry: str, registries: Registries) -> Iterator[RegistrySession]:
    with registries.session(plain_registry) as session:
        yield session


@pytest.fixture
def secured(secured_registry: Secured, logins: Logins) -> Iterator[RegistrySession]:
    registries = Registries(logins, str(secured_registry.ca_file))
    registries.log_in(secured_registry.host, Login(USER, PASSWORD))
    with registries.session(secured_registry.host) as session:
        yield session
