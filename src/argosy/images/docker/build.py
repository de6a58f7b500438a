"""Runs steps on a base: what comes out is another base, in the layout like any, under Argosy's own layers.

RUN is one container, committed; of that only the layer is taken, never what the engine says of the image. So nothing
that a step was handed can reach a layer's history or a config: those are written here, from the steps alone. Each
layer is remembered by what led to it, so a build that failed or was killed goes on at the step that is missing.
"""

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from argosy.errors import InvalidFile, StepFailed
from argosy.images.docker.bench import Bench
from argosy.images.docker.build_engine import BuildEngine, find_engine
from argosy.images.docker.handed import Handed, handed
from argosy.images.docker.log import BuildLog
from argosy.images.docker.placing import folders_above, place
from argosy.images.docker.steps import Step, check_sources, parse, sources_of
from argosy.images.docker.words import expand
from argosy.images.oci.base import LOCAL_KINDS, Base
from argosy.images.oci.build import CREATED, base_history
from argosy.images.oci.layers import Content, LayerBlob, known_layer, layer_key, write_layer
from argosy.images.oci.layout import BASE_DIGEST, BASE_NAME, CONFIG, MANIFEST, STEPS, Descriptor, OciLayout
from argosy.images.oci.platforms import Platform
from argosy.images.oci.pythons import File, apply
from argosy.images.unpack import BlobPath
from argosy.manifests.uv import Index
from argosy.records import FileEntry

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
    """The image so far. `files` are those of its first layers, as many as were `read`; the rest may be `left_bytes`
    large."""

    layers: list[LayerBlob]
    config: dict[str, Any]
    history: list[dict[str, Any]]
    variables: dict[str, str]
    left_bytes: int
    arguments: dict[str, str] = field(default_factory=dict)
    files: dict[str, File] = field(default_factory=dict)
    read: int = 0

    @property
    def diff_ids(self) -> list[str]:
        return [layer.diff_id for layer in self.layers]

    def look(self, layout: OciLayout) -> Mapping[str, File]:
        """The files that it has."""
        for layer in self.layers[self.read :]:
            self.left_bytes = apply(layout, layer, self.files, self.left_bytes)
        self.read = len(self.layers)
        return self.files

    def note(self, step: Step, layer: LayerBlob | None) -> None:
        entry: dict[str, Any] = {"created": CREATED, "created_by": step.text}
        if layer is None:
            entry["empty_layer"] = True
        else:
            self.layers.append(layer)
        self.history.append(entry)


class DockerBuilder:
    """`find` finds the engine when the first step needs one. COPY looks through no more than `limit_bytes`."""

    def __init__(
        self,
        layout: OciLayout,
        blob_path: BlobPath,
        limit_bytes: int,
        find: Callable[[], BuildEngine] = find_engine,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._layout, self._blob_path, self._limit_bytes = layout, blob_path, limit_bytes
        self._find, self._environ = find, environ

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
        state = _begin(base, self._limit_bytes)
        with Bench(self._layout, self._find, platform, build, given) as bench:
            for number, step in enumerate(steps, 1):
                shown = given.hide(_one_line(step.text))
                log.begin(f"Step {number}/{len(steps)}, line {step.line}: {shown}")
                if step.instruction == "RUN":
                    state.note(step, self._run(bench, state, step, wanted, log, given))
                elif step.instruction == "COPY":
                    state.note(step, self._copy(state, step, files, wanted))
                else:
                    _apply(state, step, wanted.name)
                    state.note(step, None)
            log.flush()
        # Whatever is built on it says where it came from.
        named = {} if base.reference.startswith(LOCAL_KINDS) else {BASE_NAME: base.reference}
        return _write(self._layout, state, {BASE_DIGEST: base.digest, STEPS: wanted.text, **named})

    def _run(
        self, bench: Bench, state: _State, step: Step, wanted: DockerSteps, log: BuildLog, given: Handed
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

    def _copy(self, state: _State, step: Step, files: Sequence[FileEntry], wanted: DockerSteps) -> LayerBlob:
        entries = {entry.path: entry for entry in files}
        content = {path: entries[path].sha256 for source in step.words[:-1] for path in sources_of(source, entries)}
        key = layer_key("copy", {"layers": state.diff_ids, "words": step.words, "files": content})
        title = f"step: {_short(step.text)}"
        if known := known_layer(self._layout, key, title):
            return known
        below = state.look(self._layout)
        try:
            placed = place(below, step.words, entries)
        except ValueError as problem:
            raise InvalidFile(wanted.name, f"line {step.line}: {problem}") from None
        contents = {path: Content(self._blob_path(entries[source].sha256)) for path, source in placed.items()}
        return write_layer(self._layout, key, title, contents, folders_above(below, placed))


def _begin(base: Base, limit_bytes: int) -> _State:
    inherited = base.config.get("config") or {}
    variables = dict(item.partition("=")[::2] for item in inherited.get("Env") or [])
    return _State(list(base.layers), base.config, base_history(base), variables, limit_bytes)


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


def _write(layout: OciLayout, state: _State, annotations: Mapping[str, str] = {}) -> str:
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
        **({"annotations": dict(annotations)} if annotations else {}),
    }
    return layout.add_json(manifest)[0]


def _one_line(text: str) -> str:
    """For people, without the indentation of continued lines."""
    return " ".join(text.split())


def _short(text: str) -> str:
    line = _one_line(text)
    return line if len(line) <= _SHOWN else f"{line[: _SHOWN - 3]}..."
