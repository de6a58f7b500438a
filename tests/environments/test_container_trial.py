"""A container for a moment: whatever fails over its start or its end, none is left for ever."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from argosy.environments.container.images import EngineImages
from argosy.environments.container.target import ContainerTarget
from argosy.environments.container.trial import ContainerTrial
from argosy.environments.target import Container, Launch
from argosy.environments.trial import Limits
from argosy.errors import EngineFailed, EngineUnreachable
from argosy.images.oci.layout import OciLayout
from argosy.settings import Home
from environments.conftest import Machine
from environments.fake_engine import URL, FakeEngine, FakeEngines


class FailingEngine(FakeEngine):
    """`late`: it starts containers and is not heard of any more. `sullen`: it sends no signals."""

    late = False
    sullen = False

    def run(self, order: object) -> None:
        super().run(order)  # type: ignore[arg-type]
        if self.late:
            self.dead = True
            self._answer()

    def signal(self, name: str, signal: str) -> None:
        if self.sullen:
            raise EngineFailed(URL, "It could not send SIGTERM.")
        super().signal(name, signal)


class Yard:
    """A home whose target sweeps when it is told to."""

    def __init__(self, home: Home, runtime: Path) -> None:
        self._home = home
        self.engine = FailingEngine(runtime)
        engines = FakeEngines(self.engine)
        engines.stop()
        self._target = ContainerTarget(home, engines, EngineImages(OciLayout(home.oci), set), 1_000_000)

    def trial(self) -> ContainerTrial:
        container = Container("box", URL, "sha256:x", "iris:1")
        launch = Launch("iris", 1, Path("/i"), Path("/p"), Path("/r"), [], container=container)
        return ContainerTrial(self._home, launch, Limits(), lambda: None, self.engine, "tag")

    def sweep(self) -> None:
        self._target._sweep(URL)

    @property
    def folders(self) -> list[Path]:
        return list((self._home.run / "t").iterdir())


@pytest.fixture
def yard(machine: Machine) -> Iterator[Yard]:
    yard = Yard(machine.home, machine.home.path / "runtime")
    yield yard
    yard.engine.dead = False
    for name in list(yard.engine.containers):
        yard.engine.remove(name)


def test_it_is_not_swept_away_while_it_is_asked(yard: Yard) -> None:
    trial = yard.trial()
    with trial:
        assert trial.wait_until_ready() == ""
        yard.sweep()
        assert list(yard.engine.containers) == [trial.name]
    assert yard.engine.containers == {} and yard.folders == []


def test_a_start_whose_answer_was_lost(yard: Yard) -> None:
    yard.engine.late = True
    with pytest.raises(EngineUnreachable):
        yard.trial().__enter__()
    assert yard.folders == []
    yard.engine.dead = False
    assert len(yard.engine.containers) == 1
    yard.sweep()
    assert yard.engine.containers == {}


def test_an_engine_that_sends_no_signal_removes_it_all_the_same(yard: Yard) -> None:
    with yard.trial():
        yard.engine.sullen = True
    assert yard.engine.containers == {}


def test_an_engine_that_dies_over_its_end(yard: Yard) -> None:
    with yard.trial():
        yard.engine.dead = True
    yard.engine.dead = False
    yard.sweep()
    assert yard.engine.containers == {} and yard.folders == []
