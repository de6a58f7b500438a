"""The engine's side of a build: it has the image so far, runs a step on it, and gives the layer that came of it."""

import gzip
import json
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, cast

from argosy.errors import EngineFailed, InvalidFile, InvalidOption, StorageFailed
from argosy.images.docker.build_engine import BuildEngine, image_name
from argosy.images.docker.handed import Handed
from argosy.images.docker.log import BuildLog
from argosy.images.docker.steps import Step
from argosy.images.oci.archive import archive
from argosy.images.oci.layers import LayerBlob
from argosy.images.oci.layout import TAR, Descriptor, OciLayout
from argosy.images.oci.platforms import Platform
from argosy.images.oci.sources import members, open_member, pieces, read_member

_GZIP = b"\x1f\x8b"


class Bench:
    """The engine is looked for when the first step needs it, and cleaned in the end. Use it as a context manager."""

    def __init__(
        self, layout: OciLayout, find: Callable[[], BuildEngine], platform: Platform, build: str, given: Handed
    ) -> None:
        self._layout, self._find, self._platform, self._build, self._given = layout, find, platform, build, given
        self._engine: BuildEngine | None = None
        self._folder = layout.work / f"build-{build}"
        # The diff ids of the image that the engine has, and its tag.
        self._there: list[str] = []
        self._tag, self._count = "", 0

    def __enter__(self) -> "Bench":
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

    def _ready(self) -> BuildEngine:
        if self._engine is None:
            engine = self._find()
            architecture = engine.about().architecture
            if architecture != self._platform.architecture:
                raise InvalidOption(
                    "--platform",
                    self._platform.name,
                    f"RUN needs an engine of that platform, and the one at {engine.url} runs "
                    f"linux/{architecture}. Build there, or without steps: --builder oci",
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

    def _load(self, engine: BuildEngine, digest: str) -> None:
        self._tag = self._next_tag()
        descriptor = self._layout.descriptor(digest, self._platform.name)
        engine.load(archive(self._layout, image_name(self._tag), descriptor)[1])

    def _commit(self, engine: BuildEngine, container: str, before: Sequence[str]) -> Descriptor:
        tag = self._next_tag()
        with _storing(self._folder), tempfile.NamedTemporaryFile(dir=self._folder, suffix=".tar") as file:
            after = engine.commit(container, tag, lambda piece: _keep(self._folder, file, piece))
            file.flush()
            layer = layer_of(self._layout, Path(file.name), after[len(before) :])
        self._tag, self._there = tag, after
        return layer


def layer_of(layout: OciLayout, saved: Path, added: Sequence[str]) -> Descriptor:
    """The newest layer of an image that `docker save` wrote, in the layout. `added` are the diff ids of new layers."""
    if not added:  # Docker keeps no layer of a step that changed nothing
        digest, size_bytes = layout.add([bytes(1024)])
        return Descriptor(TAR, digest, size_bytes)
    if len(added) != 1:
        raise InvalidFile("the committed step", f"has {len(added)} new layers instead of one")
    try:
        with tarfile.open(saved) as tar:
            found = members(tar)
            text = b"".join(read_member(tar, found, "manifest.json"))
            # In the order of the diff ids; the digest is checked, and the base's layers are not even read.
            newest = json.loads(text)[0]["Layers"][-1]
            with open_member(tar, found, newest) as stream:
                digest, size_bytes = layout.add(_plain(stream), added[0])
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, ValueError, LookupError, TypeError) as problem:
        raise InvalidFile("the committed step", f"cannot be read as the engine saved it ({problem})") from problem
    return Descriptor(TAR, digest, size_bytes)


def _plain(stream: IO[bytes]) -> Iterator[bytes]:
    """The tar of a layer, which Docker's store of containerd keeps packed."""
    packed = stream.read(len(_GZIP)) == _GZIP
    stream.seek(0)
    if packed:
        with gzip.GzipFile(fileobj=stream) as unpacked:
            yield from pieces(cast(IO[bytes], unpacked))
    else:
        yield from pieces(stream)


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


def _keep(folder: Path, file: IO[bytes], piece: bytes) -> None:
    with _storing(folder):
        file.write(piece)


@contextmanager
def _storing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        raise StorageFailed(
            f"The build cannot write to {folder}: {problem.strerror or problem}. Free some space, or set ARGOSY_HOME "
            "to another folder."
        ) from problem
