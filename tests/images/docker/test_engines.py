"""What those who drive an engine have in common: its errors in our words, and no second wait for one that is gone."""

from collections.abc import Iterator
from typing import Any, TypeVar

import pytest
from docker.errors import APIError
from requests import Response

from argosy.environments.container.engine import ContainerEngine
from argosy.errors import EngineFailed, EngineUnreachable, StorageFailed
from argosy.images.docker.build_engine import BuildEngine
from argosy.images.docker.engine import Engine

E = TypeVar("E", bound=Engine)


class Client:
    """Answers as the `docker` package does; `problem` is raised by what commits."""

    def __init__(self, problem: Exception | None = None) -> None:
        self.problem, self.asked = problem, list[str]()

    def commit(self, container: str, repository: str, tag: str) -> None:
        self.asked.append("commit")
        if self.problem is not None:
            raise self.problem

    def get_image(self, name: str) -> Iterator[bytes]:
        yield b"archive"

    def ping(self) -> None:
        self.asked.append("ping")

    def images(self) -> list[Any]:
        raise ConnectionRefusedError(111, "Connection refused")


def stubbed(engine: E, client: Client, monkeypatch: pytest.MonkeyPatch) -> E:
    def client_of(timeout_s: float) -> Any:
        return client

    monkeypatch.setattr(engine, "_client", client_of)
    return engine


@pytest.mark.parametrize(
    ("kind", "meanwhile"), [(ContainerEngine, "Replicas that run go on"), (BuildEngine, "Steps that are finished")]
)
def test_one_that_is_gone_is_told_with_what_that_means(
    kind: type[Engine], meanwhile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = stubbed(kind("unix:///x"), Client(), monkeypatch)
    with pytest.raises(EngineUnreachable) as told:
        engine.tags("localhost/some")
    assert engine.down is told.value and "unix:///x does not answer (Connection refused)" in told.value.message
    assert meanwhile in told.value.message


def test_one_that_is_gone_is_asked_again_by_a_knock_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client(ConnectionRefusedError(111, "Connection refused"))
    engine = stubbed(BuildEngine("unix:///x"), client, monkeypatch)
    for _ in range(2):
        with pytest.raises(EngineUnreachable, match="Connection refused"):
            engine.commit("one", "tag", lambda piece: None)
    assert client.asked == ["commit"]
    engine.ping()
    assert engine.down is None and client.asked == ["commit", "ping"]


def test_a_full_store_of_the_engine_is_told_with_what_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = APIError("refused", Response(), "write /var/lib/x: no space left on device")
    engine = stubbed(BuildEngine("unix:///x"), Client(problem), monkeypatch)
    with pytest.raises(EngineFailed, match=r"could not save a step: its image store is full .*docker system df"):
        engine.commit("one", "tag", lambda piece: None)
    assert engine.down is None


def test_a_full_disk_of_ours_is_no_fault_of_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = stubbed(BuildEngine("unix:///x"), Client(), monkeypatch)

    def keep(piece: bytes) -> None:
        raise StorageFailed("no room")

    with pytest.raises(StorageFailed, match="no room"):
        engine.commit("one", "tag", keep)
    assert engine.down is None
