"""A container engine whose containers are processes: mounts are translated, limits are not enforced."""

import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from argosy.environments.container.engine import ContainerEngine, Found, Order, State
from argosy.environments.container.engines import Engines
from argosy.errors import EngineUnreachable
from argosy.images.docker.engine import About

URL = "unix:///fake.sock"


@dataclass
class Contained:
    order: Order
    process: subprocess.Popen[bytes]
    out_of_memory: bool = False


@dataclass
class FakeEngine(ContainerEngine):
    """`dead`: it does not answer. `full`: no image can be loaded; `loses`: what is loaded is not there afterwards."""

    runtime: Path
    dead: bool = False
    full: bool = False
    loses: bool = False
    images: set[str] = field(default_factory=set)
    containers: dict[str, Contained] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__(URL)

    def ping(self) -> None:
        self._answer()

    def about(self) -> About:
        self._answer()
        return About("Fake", "1", "1.41", "/", "x86_64", rootless=False, cpu=True, memory=True)

    def has_image(self, tag: str) -> bool:
        self._answer()
        return tag in self.images

    def load(self, content: Iterator[bytes]) -> None:
        self._answer()
        if self.full:
            raise self._refusal("load the image", "write /x: no space left on device")
        archive = tarfile.open(fileobj=io.BytesIO(b"".join(content)))  # noqa: SIM115
        manifest = archive.extractfile("manifest.json")
        assert manifest is not None
        if self.loses:
            return
        self.images |= set(json.load(manifest)[0]["RepoTags"])

    def tags(self, repository: str) -> list[str]:
        self._answer()
        return [tag for tag in self.images if tag.startswith(f"{repository}:")]

    def remove_image(self, tag: str) -> None:
        self._answer()
        self.images.discard(tag)

    def run(self, order: Order) -> None:
        self._answer()
        shared = next(path for path, inside in order.mounts.items() if inside == "/run/argosy")
        text = (shared / "spec.json").read_text()
        for path, inside in order.mounts.items():
            text = text.replace(inside, str(path))
        scratch = shared.parent / "scratch"
        translated = shared.parent / "translated.json"
        translated.write_text(text.replace("/tmp/work", str(scratch)))
        environment = {**order.variables, "PYTHONPATH": str(self.runtime)}
        process = subprocess.Popen(
            [sys.executable, "-m", "argosy_serving", str(translated)],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.containers[order.name] = Contained(order, process)

    def look(self, name: str) -> State | None:
        self._answer()
        found = self.containers.get(name)
        if found is None:
            return None
        code = found.process.poll()
        return State(code is None, 128 - code if code is not None and code < 0 else code or 0, found.out_of_memory)

    def signal(self, name: str, signal: str) -> None:
        self._answer()
        if name in self.containers:
            self.containers[name].process.send_signal(9 if signal == "SIGKILL" else 15)

    def remove(self, name: str) -> None:
        self._answer()
        found = self.containers.pop(name, None)
        if found is not None:
            found.process.kill()
            found.process.wait()

    def output(self, name: str, lines: int) -> str:
        self._answer()
        return "python: not found\n"

    def labelled(self, labels: Mapping[str, str]) -> list[Found]:
        self._answer()
        wanted = set(labels.items())
        return [
            Found(name, one.order.labels)
            for name, one in self.containers.items()
            if wanted <= set(one.order.labels.items())
        ]

    def exhaust(self, name: str) -> None:
        """What the kernel does to a container that is over its limit."""
        self.containers[name].out_of_memory = True
        os.kill(self.containers[name].process.pid, 9)

    def relabel(self, name: str, other: str) -> None:
        """As if it had been started for another home."""
        order = self.containers[name].order
        self.containers[name].order = replace(order, labels={**order.labels, "io.argosy.home": other})

    def _answer(self) -> None:
        if self.dead:
            self.down = EngineUnreachable(URL, "Connection refused", self.meanwhile)
            raise self.down
        self.down = None


class FakeEngines(Engines):
    def __init__(self, engine: FakeEngine) -> None:
        super().__init__(lambda: [URL])
        self._engines[URL] = engine
