"""`image run`: where it runs, and that a crash at any moment leaves no container that nobody knows of."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from argosy.environments.container import discovery
from argosy.environments.container.engine import Order
from argosy.environments.container.images import EngineImages
from argosy.environments.registry import EnvironmentRegistry
from argosy.errors import InvalidOption
from argosy.images.oci.layout import CONFIG, MANIFEST, Descriptor, OciLayout
from argosy.images.oci.platforms import own_platform
from argosy.server.image_runs import ImageRuns
from argosy.server.scratch_replicas import ScratchReplicas
from argosy.settings import Home
from environments.fake_engine import URL, FakeEngine, FakeEngines
from environments.fake_serving import SOURCE
from store.shelf import Shelf


class Power(BaseException):
    """Ends a step as a power cut does."""


class Engine(FakeEngine):
    """`cut_off`: the power goes as soon as the container runs."""

    cut_off = False

    def run(self, order: Order) -> None:
        super().run(order)
        if self.cut_off:
            raise Power


class Runs:
    """Operations `image.run` of one container image, each control plane with an engine that has all it had before."""

    def __init__(self, home: Home, shelf: Shelf) -> None:
        self.home, self.shelf = home, shelf
        runtime = home.path / "runtime"
        (runtime / "argosy_serving").mkdir(parents=True)
        (runtime / "argosy_serving" / "__init__.py").write_text("")
        (runtime / "argosy_serving" / "__main__.py").write_text(SOURCE)
        (home.path / "image.json").write_text("{}")
        self.layout = OciLayout(home.oci)
        config = Descriptor(CONFIG, *self.layout.add_json({}))
        digest, _ = self.layout.add_json({"mediaType": MANIFEST, "config": config.json(), "layers": []})
        self.image = shelf.image()
        shelf.images.set_oci(self.image, {own_platform(): digest})
        self.environments = EnvironmentRegistry(shelf.database)
        self.engine = Engine(runtime)
        self._runtime = runtime
        self.another_control_plane()

    def another_control_plane(self) -> None:
        engines = FakeEngines(self.engine)
        self.scratch = ScratchReplicas(self.home, engines, EngineImages(self.layout, set))
        self.scratch.clean()
        self.runs = ImageRuns(
            self.shelf.images,
            SimpleNamespace(runnable=self._runnable),  # type: ignore[arg-type]
            self.environments,
            engines,
            self.scratch,
        )

    def _runnable(self, reference: object) -> Any:
        return SimpleNamespace(folder=self.home.path, python=Path(sys.executable), runtime_folder=self._runtime)

    def job(self, **made: Any) -> Any:
        """What a step sees of an operation."""
        job = SimpleNamespace(
            input={"image": self.image.reference, "sample": {"input": [1]}}, made=made, stopping=False, said=[]
        )
        job.keep = job.made.update
        job.say = job.said.append
        return job

    def run(self, job: Any) -> dict[str, Any]:
        (step,) = self.runs.steps()
        found: dict[str, Any] = dict(step.run(job) or {})["run"]
        return found


@pytest.fixture
def runs(folder: Path, shelf: Shelf) -> Iterator[Runs]:
    home = Home(folder)
    home.prepare()
    runs = Runs(home, shelf)
    yield runs
    for name in list(runs.engine.containers):
        runs.engine.remove(name)


@pytest.fixture
def box(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> Runs:
    monkeypatch.setattr(discovery, "find", lambda given="": given)
    runs.environments.create("box", "container", URL)
    return runs


def test_in_a_container(box: Runs) -> None:
    done = box.run(box.job())
    assert done["where"] == f"a container of Fake 1 at {URL}" and done["failure"] == ""
    assert box.engine.containers == {}


def test_where_no_engine_answers(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    def find() -> str:
        raise InvalidOption("--engine", "", "nobody answers")

    monkeypatch.setattr(discovery, "find", find)
    done = runs.run(runs.job())
    assert done["where"] == "a process of this machine, since no container engine answers here"


def test_a_crash_over_the_start_leaves_no_container(box: Runs) -> None:
    job = box.job()
    box.engine.cut_off = True
    with pytest.raises(Power):
        box.run(job)
    (lost,) = box.engine.containers
    box.engine.cut_off = False
    (folder,) = (box.home.run / "t").iterdir()
    box.another_control_plane()
    assert not folder.exists()
    box.run(box.job(**job.made))
    assert lost not in box.engine.containers


def test_a_leftover_in_a_dead_engine_keeps_nobody_from_trying_again(box: Runs) -> None:
    """It is swept away when the engine answers again."""
    box.engine.dead = True
    done = box.run(box.job(_replica={"engine": URL, "container": "argosy-trial-x"}))
    assert "no container engine answers here" in done["where"]
