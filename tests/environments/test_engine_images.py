"""Images on their way into engines: one that takes minutes, or hangs, holds up nobody but who needs it."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from argosy.environments.container import images as module
from argosy.environments.container.images import EngineImages
from argosy.errors import EngineFailed, EngineUnreachable
from argosy.images.oci.layout import CONFIG, MANIFEST, Descriptor, OciLayout
from environments.fake_engine import FakeEngine


class SlowEngine(FakeEngine):
    """`loading` is set while it loads, `go_on` lets it end."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.loading, self.go_on = threading.Event(), threading.Event()

    def load(self, content: Iterator[bytes]) -> None:
        self.loading.set()
        assert self.go_on.wait(30)
        super().load(content)


class Loads:
    """An image, an engine that is being given it, and one thread after another that asks for it."""

    def __init__(self, folder: Path) -> None:
        layout = OciLayout(folder / "oci")
        config = Descriptor(CONFIG, *layout.add_json({}))
        self.image, _ = layout.add_json({"mediaType": MANIFEST, "config": config.json(), "layers": []})
        self.images = EngineImages(layout, lambda: [self.image])
        self.slow, self.other = SlowEngine(folder), FakeEngine(folder)
        self.other.url = "unix:///other.sock"
        self.said: list[str] = []
        self.problems: list[Exception] = []
        self._threads: list[threading.Thread] = []

    def begin(self) -> threading.Thread:
        return self.aside(lambda: self.images.ensure(self.slow, self.image, self.said.append))

    def aside(self, work: Callable[[], object]) -> threading.Thread:
        def guarded() -> None:
            try:
                work()
            except Exception as problem:
                self.problems.append(problem)

        thread = threading.Thread(target=guarded)
        self._threads.append(thread)
        thread.start()
        return thread

    def end(self) -> None:
        self.slow.go_on.set()
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()


@pytest.fixture
def loads(tmp_path: Path) -> Iterator[Loads]:
    loads = Loads(tmp_path)
    yield loads
    loads.end()


def test_another_engine_does_not_wait(loads: Loads) -> None:
    loads.begin()
    assert loads.slow.loading.wait(30)
    other = loads.aside(lambda: loads.images.ensure(loads.other, loads.image))
    other.join(30)
    assert not other.is_alive() and loads.other.images and not loads.slow.images


def test_who_sweeps_comes_again_later(loads: Loads) -> None:
    deleted = loads.images.tag("sha256:deleted")
    loads.slow.images.add(deleted)
    first = loads.begin()
    assert loads.slow.loading.wait(30)
    sweep = loads.aside(lambda: loads.images.prune(loads.slow))
    sweep.join(30)
    assert not sweep.is_alive() and deleted in loads.slow.images
    loads.slow.go_on.set()
    first.join(30)
    loads.images.prune(loads.slow)
    assert loads.slow.images == {loads.images.tag(loads.image)}


def test_who_waits_for_a_load_is_told_that_the_engine_has_died(loads: Loads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LOOK_EVERY_S", 0.01)
    loads.begin()
    assert loads.slow.loading.wait(30)
    waiting = loads.begin()
    waiting.join(0.1)
    assert waiting.is_alive(), "a load that goes on is waited for"
    loads.slow.down = EngineUnreachable(loads.slow.url, "no answer in time", "")
    waiting.join(30)
    assert not waiting.is_alive() and [type(problem) for problem in loads.problems] == [EngineUnreachable]


def test_two_at_once_load_it_once(loads: Loads) -> None:
    both = [loads.begin(), loads.begin()]
    assert loads.slow.loading.wait(30)
    loads.slow.go_on.set()
    for thread in both:
        thread.join(30)
    assert loads.problems == [] and len(loads.said) == 1


def test_a_load_that_leaves_nothing_is_told(loads: Loads) -> None:
    loads.other.loses = True
    with pytest.raises(EngineFailed, match="does not have localhost/argosy-"):
        loads.images.ensure(loads.other, loads.image)
