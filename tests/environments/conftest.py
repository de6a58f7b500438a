"""Real processes in a home of its own; none is left."""

import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from argosy.environments.process import ProcessTarget
from argosy.environments.target import Launch, Observed
from argosy.settings import Home
from environments.fake_serving import SOURCE

_PATIENCE_S = 30.0


class Machine:
    """A home, and targets as successive control planes see it."""

    def __init__(self, home: Home, runtime: Path) -> None:
        self.home = home
        self._launch = Launch("iris", 1, home.images / "x", Path(sys.executable), runtime, [("iris", 1)])
        self.target = ProcessTarget(home, 1_000_000)
        self.former: list[ProcessTarget] = []

    def another_control_plane(self) -> ProcessTarget:
        """What the next control plane finds. What the former ones started stays their child."""
        self.former.append(self.target)
        self.target = ProcessTarget(self.home, 1_000_000)
        return self.target

    def launch(self, fake: str = "", **changes: object) -> Launch:
        launch = replace(self._launch, **changes)  # type: ignore[arg-type]
        return replace(launch, variables={**launch.variables, "FAKE": fake})

    def start(self, fake: str = "", **changes: object) -> str:
        return self.target.start(self.launch(fake, **changes))

    def one(self, replica: str, service: str = "iris") -> Observed:
        return next(seen for seen in self.target.observe(service) if seen.id == replica)

    def until(self, replica: str, state: str) -> Observed:
        wait_for(lambda: self.one(replica).state == state, f"{replica} {state}")
        return self.one(replica)

    def folder(self, replica: str) -> Path:
        return self.home.run / "r" / replica.rpartition("-")[2]


def wait_for(is_so: Callable[[], object], what: str = "it") -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.01)


def lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def all_gone(target: ProcessTarget) -> bool:
    return all(seen.state == "gone" for service in target.services() for seen in target.observe(service))


@pytest.fixture
def machine() -> Iterator[Machine]:
    # Short, since sockets lie in it.
    path = Path(tempfile.mkdtemp(prefix="argosy-t-"))
    home = Home(path)
    home.prepare()
    runtime = path / "runtime"
    (runtime / "argosy_serving").mkdir(parents=True)
    (runtime / "argosy_serving" / "__init__.py").write_text("")
    (runtime / "argosy_serving" / "__main__.py").write_text(SOURCE)
    machine = Machine(home, runtime)
    yield machine
    for process in psutil.process_iter():
        try:
            if str(path) in " ".join(process.cmdline()) or str(path) in process.environ().get("ARGOSY_MODEL_DIR", ""):
                process.kill()
        except psutil.Error:
            continue
    for target in (*machine.former, machine.target):
        wait_for(lambda target=target: all_gone(target))  # type: ignore[misc]
    shutil.rmtree(path, ignore_errors=True)
