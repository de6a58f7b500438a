"""Runs steps on a base: what comes out is another base, in the layout like any, under Argosy's own layers.

RUN is one container, committed; of that only the layer is taken, never what the engine says of the image. So nothing
that a step was handed can reach a layer's history or a config: those are written here, from the steps alone. Each
layer is remembered by what led to it, so a build that failed or was killed goes on at the step that is missing.
"""

import hashlib
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from argosy.errors import EngineFailed, InvalidFile, InvalidOption, StepFailed, StorageFailed
from argosy.images.docker.engine import Engine, find_engine
from argosy.images.docker.handed import Handed, handed
from argosy.images.docker.log import BuildLog
from argosy.images.docker.steps import Step, check_sources, parse, sources_of
from argosy.images.docker.words import expand
from argosy.images.oci.archive import archive
from argosy.images.oci.base import Base
from argosy.images.oci.build import CREATED, base_history
from argosy.images.oci.layers import Content, LayerBlob, known_layer, layer_key, write_layer
from argosy.images.oci.layout import CONFIG, MANIFEST, TAR, Descriptor, OciLayout
from argosy.images.oci.platforms import Platform
from argosy.images.oci.sources import members, read_member
from argosy.images.unpack import BlobPath
from argosy.manifests.uv import Index
from argosy.records import FileEntry

STEPS = "io.argosy.docker.steps"
BASE_NAME, BASE_DIGEST = "org.opencontainers.image.base.name", "org.opencontainers.image.base.digest"
_SHOWN = 60


@dataclass(frozen=True)
class DockerSteps:
    """`text` is the content of the file `name`. With `fresh` nothing of an earlier build is used again.

    `go_on` is asked now and then, and raises when the build shall end.
    """

    text: str
    name: str = "--docker-steps"
    fresh: bool = False
    go_on: Callable[[], None] = lambda: None


@dataclass
class _State:
    """The image so far."""

    layers: list[LayerBlob]
    config: dict[str, Any]
    history: list[dict[str, Any]]
    variables: dict[str, str]
    arguments: dict[str, str] = field(default_factory=dict)

    @property
    def diff_ids(self) -> list[str]:
        return [layer.diff_id for layer in self.layers]

    def note(self, step: Step, layer: LayerBlob | None) -> None:
        entry: dict[str, Any] = {"created": CREATED, "created_by": step.text}
        if layer is None:
            entry["empty_layer"] = True
        else:
            self.layers.append(layer)
        self.history.append(entry)


class DockerBuilder:
    """`find` finds the engine when the first step needs one."""

    def __init__(
        self,
        layout: OciLayout,
        blob_path: BlobPath,
        find: Callable[[], Engine] = find_engine,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._layout, self._blob_path, self._find, self._environ = layout, blob_path, find, environ

    def derive(
        self,
        base: Base,
        platform: Platform,
        wanted: DockerSteps,
        files: Sequence[FileEntry],
        index: Index,
        image: str,
        log: BuildLog,
    ) -> str:
        """The digest of the manifest of `base` with the steps on it. `image` names who builds: one at a time."""
        steps = parse(wanted.text, wanted.name)
        check_sources(steps, [entry.path for entry in files], wanted.name)
        given = handed(index, self._environ)
        # Two homes may use one engine.
        build = hashlib.sha256(f"{self._layout.root}\0{image}".encode()).hexdigest()[:16]
        state = _begin(base)
        with _Bench(self._layout, self._find, platform, build, given) as bench:
            for number, step in enumerate(steps, 1):
                shown = given.hide(_one_line(step.text))
                log.begin(f"Step {number}/{len(steps)}, line {step.line}: {shown}")
                if step.instruction == "RUN":
                    state.note(step, self._run(bench, state, step, wanted, log, given))
                elif step.instruction == "COPY":
                    state.note(step, self._copy(state, step, files))
                else:
                    _apply(state, step, wanted.name)
                    state.note(step, None)
            log.flush()
        return _write(self._layout, state)

    def _run(
        self, bench: "_Bench", state: _State, step: Step, wanted: DockerSteps, log: BuildLog, given: Handed
    ) -> LayerBlob:
        variables = {**state.arguments, **state.variables}
        title = f"step: {_short(step.text)}"
        key = layer_key("step", {"layers": state.diff_ids, "command": step.words, "variables": variables})
        known = known_layer(self._layout, key, title)
        if known and not wanted.fresh:
            log.line("kept from an earlier build")
            return known
        code, layer = bench.run(_write(self._layout, state), state.layers, step, variables, log, wanted.go_on)
        if code or layer is None:
            raise StepFailed(wanted.name, step.line, _short(given.hide(step.text)), code, log.last)
        self._layout.remember(key, {"digest": layer.digest, "size": layer.size_bytes})
        return LayerBlob(layer, layer.digest, title)

    def _copy(self, state: _State, step: Step, files: Sequence[FileEntry]) -> LayerBlob:
        entries = {entry.path: entry for entry in files}
        *sources, target = step.words
        placed: dict[str, FileEntry] = {}
        for source in sources:
            found = sources_of(source, entries)
            single = found.keys() == {source.rstrip("/").removeprefix("./")}
            for path, rest in found.items():
                place = target if single and not target.endswith("/") else f"{target.rstrip('/')}/{rest}"
                placed[place.lstrip("/")] = entries[path]
        key = layer_key("copy", {place: entry.sha256 for place, entry in placed.items()})
        title = f"step: {_short(step.text)}"
        contents = {place: Content(self._blob_path(entry.sha256)) for place, entry in placed.items()}
        return known_layer(self._layout, key, title) or write_layer(self._layout, key, title, contents)


class _Bench:
    """The engine's side of a build. The engine is asked for when the first step needs it, and cleaned in the end."""

    def __init__(
        self, layout: OciLayout, find: Callable[[], Engine], platform: Platform, build: str, given: Handed
    ) -> None:
        self._layout, self._find, self._platform, self._build, self._given = layout, find, platform, build, given
        self._engine: Engine | None = None
        self._folder = layout.work / f"build-{build}"
        # The diff ids of the image that the engine has, and its tag.
        self._there: list[str] = []
        self._tag, self._count = "", 0

    def __enter__(self) -> "_Bench":
        shutil.rmtree(self._folder, ignore_errors=True)
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        if self._engine is not None:
            # An engine that is gone is cleaned by the next build of this image.
            with suppress(EngineFailed):
                self._engine.clean(self._build)
            self._engine.close()

    def run(
        self,
        digest: str,
        layers: Sequence[LayerBlob],
        step: Step,
        variables: Mapping[str, str],
        log: BuildLog,
        go_on: Callable[[], None],
    ) -> tuple[int, Descriptor | None]:
        """The exit code of a RUN on the image `digest`, and its layer when it is 0."""
        engine = self._ready()
        before = [layer.diff_id for layer in layers]
        if self._there != before:
            self._load(engine, digest)
            self._there = before
        everything = {**self._given.variables, **variables}
        with engine.container(self._tag, self._build, self._folder / "handed") as container:
            pieces = engine.run(container, step.words, everything)
            code = _each_line(pieces, lambda line: log.line(self._given.hide(line)), log.flush, go_on)
            if code:
                return code, None
            return 0, self._commit(engine, container, before)

    def _ready(self) -> Engine:
        if self._engine is None:
            engine = self._find()
            if engine.architecture != self._platform.architecture:
                raise InvalidOption(
                    "--platform",
                    self._platform.name,
                    f"RUN needs an engine of that platform, and the one at {engine.url} runs "
                    f"linux/{engine.architecture}. Build there, or without steps: --builder oci",
                )
            self._engine = engine
            # What a control plane that was killed has left.
            engine.clean(self._build)
            with _storing(self._folder):
                self._folder.mkdir(mode=0o700, parents=True)
                self._given.write(self._folder / "handed")
        return self._engine

    def _next_tag(self) -> str:
        self._count += 1
        return f"{self._build}-{self._count:04}"

    def _load(self, engine: Engine, digest: str) -> None:
        self._tag = self._next_tag()
        name = f"localhost/argosy-build:{self._tag}"
        engine.load(self._tag, archive(self._layout, name, self._layout.descriptor(digest, self._platform.name))[1])

    def _commit(self, engine: Engine, container: str, before: Sequence[str]) -> Descriptor:
        tag = self._next_tag()
        with _storing(self._folder), tempfile.NamedTemporaryFile(dir=self._folder, suffix=".tar") as file:
            after = engine.commit(container, tag, file)
            file.flush()
            layer = self._layer_of(Path(file.name), after[len(before) :])
        self._tag, self._there = tag, after
        return layer

    def _layer_of(self, saved: Path, added: Sequence[str]) -> Descriptor:
        if not added:  # Docker keeps no layer of a step that changed nothing
            digest, size_bytes = self._layout.add([bytes(1024)])
            return Descriptor(TAR, digest, size_bytes)
        if len(added) != 1:
            raise InvalidFile("the committed step", f"has {len(added)} new layers instead of one")
        try:
            with tarfile.open(saved) as tar:
                found = members(tar)
                text = b"".join(read_member(tar, found, "manifest.json"))
                # In the order of the diff ids; the digest is checked, and the base's layers are not even read.
                newest = json.loads(text)[0]["Layers"][-1]
                digest, size_bytes = self._layout.add(read_member(tar, found, newest), added[0])
        except (tarfile.TarError, ValueError, LookupError, TypeError) as problem:
            raise InvalidFile("the committed step", f"cannot be read as the engine saved it ({problem})") from problem
        return Descriptor(TAR, digest, size_bytes)


def _begin(base: Base) -> _State:
    inherited = base.config.get("config") or {}
    variables = dict(item.partition("=")[::2] for item in inherited.get("Env") or [])
    return _State(list(base.layers), base.config, base_history(base), variables)


def _apply(state: _State, step: Step, where: str) -> None:
    """ENV, ARG, LABEL and EXPOSE."""
    config = {**(state.config.get("config") or {})}
    known = {**state.arguments, **state.variables}
    if step.instruction == "EXPOSE":
        ports = [port if "/" in port else f"{port}/tcp" for word in step.words for port in _ports(word)]
        config["ExposedPorts"] = {**(config.get("ExposedPorts") or {}), **{port: {} for port in ports}}
    else:
        pairs = [word.partition("=")[::2] for word in step.words]
        values = {expand(name, known): expand(value, known) for name, value in pairs}
        if step.instruction == "ENV":
            state.variables |= values
            config["Env"] = [f"{name}={value}" for name, value in state.variables.items()]
        elif step.instruction == "ARG":
            state.arguments |= values
        elif step.instruction == "LABEL":
            config["Labels"] = {**(config.get("Labels") or {}), **values}
    state.config = {**state.config, "config": config}


def _ports(word: str) -> list[str]:
    """`8000-8002/udp` as its ports."""
    numbers, slash, protocol = word.partition("/")
    first, _, last = numbers.partition("-")
    return [f"{port}{slash}{protocol}" for port in range(int(first), int(last or first) + 1)]


def _write(layout: OciLayout, state: _State) -> str:
    config: dict[str, Any] = {
        **{key: state.config[key] for key in ("architecture", "os", "variant") if key in state.config},
        "created": CREATED,
        "config": state.config.get("config") or {},
        "rootfs": {"type": "layers", "diff_ids": state.diff_ids},
        "history": state.history,
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": Descriptor(CONFIG, *layout.add_json(config)).json(),
        "layers": [layer.described() for layer in state.layers],
    }
    return layout.add_json(manifest)[0]


def _each_line(
    pieces: Generator[bytes, None, int],
    tell: Callable[[str], None],
    flush: Callable[[], None],
    go_on: Callable[[], None],
) -> int:
    """Tell the lines of a stream, and flush what was told when it is silent; what the generator returns."""
    rest = b""
    while True:
        go_on()
        try:
            piece = next(pieces)
        except StopIteration as end:
            if rest:
                tell(_text(rest))
            return int(end.value)
        if not piece:
            flush()
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            if text := _text(line):
                tell(text)


def _text(line: bytes) -> str:
    """What remains to be seen of a line that a progress bar drew again and again."""
    return line.rstrip().rpartition(b"\r")[2].decode("utf-8", "replace")


def _one_line(text: str) -> str:
    """For people, without the indentation of continued lines."""
    return " ".join(text.split())


def _short(text: str) -> str:
    line = _one_line(text)
    return line if len(line) <= _SHOWN else f"{line[: _SHOWN - 3]}..."


@contextmanager
def _storing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        raise StorageFailed(
            f"The build cannot write to {folder}: {problem.strerror or problem}. Free some space, or set ARGOSY_HOME "
            "to another folder."
        ) from problem
