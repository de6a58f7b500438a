"""One OCI image layout (image-spec 1.1) that builders, the registry client and archives share.

`oci-layout`, `index.json` and `blobs/sha256/<hex>`, each written beside its place, synced and renamed. A tag comes into
`index.json` after every blob it needs, so the layout is valid whenever a power cut or `kill -9` comes. What is still
being written lies in `.incoming`, what was found out of blobs in `.known`; both may be deleted while nobody works.
"""

import json
import os
import secrets
import shutil
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from argosy.errors import InvalidFile, StorageFailed
from argosy.store.blobs import LocalBlobs

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
TAR = "application/vnd.oci.image.layer.v1.tar"
REF_NAME = "org.opencontainers.image.ref.name"
_LARGEST_JSON_BYTES = 16 << 20


@dataclass(frozen=True)
class Descriptor:
    """What points at a blob."""

    media_type: str
    digest: str
    size_bytes: int
    platform: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)

    def json(self) -> dict[str, Any]:
        data: dict[str, Any] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size_bytes}
        if self.platform:
            os_name, architecture, *variant = self.platform.split("/")
            data["platform"] = {"architecture": architecture, "os": os_name}
            if variant:
                data["platform"]["variant"] = variant[0]
        if self.annotations:
            data["annotations"] = dict(self.annotations)
        return data

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> "Descriptor":
        """Raises KeyError, TypeError or ValueError when `data` is none."""
        platform = data.get("platform") or {}
        parts = [platform[key] for key in ("os", "architecture", "variant") if platform.get(key)]
        return cls(
            str(data["mediaType"]),
            str(data["digest"]),
            int(data["size"]),
            "/".join(parts),
            dict(data.get("annotations") or {}),
        )


class OciLayout:
    """The layout in `root`, which is made when it is missing. One process at a time writes, with any threads."""

    def __init__(self, root: Path) -> None:
        self.root = root
        # For what a build unpacks; a crash may leave some behind.
        self.work = root / ".work"
        self._tagging = threading.Lock()
        self._blobs = LocalBlobs(root / "blobs", flat=True, incoming=root / ".incoming")
        try:
            (root / "blobs" / "sha256").mkdir(mode=0o700, parents=True, exist_ok=True)
            (root / ".known").mkdir(mode=0o700, exist_ok=True)
            if not (root / "index.json").exists():
                self._write(root / "index.json", canonical({"schemaVersion": 2, "mediaType": INDEX, "manifests": []}))
            if not (root / "oci-layout").exists():
                self._write(root / "oci-layout", canonical({"imageLayoutVersion": "1.0.0"}))
            self._blobs.clean_temporary()
            shutil.rmtree(self.work, ignore_errors=True)
        except OSError as problem:
            raise _failed(root, problem) from problem

    # -- blobs ---------------------------------------------------------------------------------------------------

    def has(self, digest: str) -> bool:
        return self._blobs.has(_hex(digest))

    def size(self, digest: str) -> int:
        try:
            return self.path(digest).stat().st_size
        except OSError as problem:
            raise _gone(digest) from problem

    def open(self, digest: str) -> BinaryIO:
        return self._blobs.open(_hex(digest))

    def path(self, digest: str) -> Path:
        """Where the blob lies, for reading."""
        return self._blobs.path(_hex(digest))

    def add(self, chunks: Iterable[bytes], digest: str | None = None) -> tuple[str, int]:
        """Store what `chunks` yield, atomically; digest and size. A digest that is given must be what comes out."""
        with self._blobs.begin() as writer:
            for chunk in chunks:
                writer.write(chunk)
            try:
                blob = writer.commit(None if digest is None else _hex(digest))
            except InvalidFile as problem:
                raise InvalidFile(
                    f"the blob {digest}", f"is corrupt: {problem.message} Nothing was kept of it."
                ) from problem
        return f"sha256:{blob.sha256}", blob.size_bytes

    def add_json(self, value: Any) -> tuple[str, int]:
        return self.add([canonical(value)])

    def json(self, digest: str) -> dict[str, Any]:
        """The manifest, index or config of this digest. InvalidFile when the blob is no such thing."""
        with self.open(digest) as stream:
            return parse_json(stream.read(_LARGEST_JSON_BYTES), digest)

    def descriptor(self, digest: str, platform: str = "") -> Descriptor:
        """What points at a manifest that is here."""
        return Descriptor(MANIFEST, digest, self.size(digest), platform)

    # -- tags ----------------------------------------------------------------------------------------------------

    def tags(self) -> dict[str, Descriptor]:
        found = [Descriptor.of(item) for item in self._index()["manifests"]]
        return {item.annotations[REF_NAME]: item for item in found if REF_NAME in item.annotations}

    def tag(self, name: str, descriptor: Descriptor) -> None:
        """Let `name` point at a manifest or index that is here with all it needs."""
        if not self.has(descriptor.digest):
            raise _gone(descriptor.digest)
        named = Descriptor(
            descriptor.media_type, descriptor.digest, descriptor.size_bytes, descriptor.platform, {REF_NAME: name}
        )
        with self._changing(name) as manifests:
            manifests.append(named.json())

    def untag(self, name: str) -> None:
        """Nothing happens when there is no such tag. The blobs stay."""
        with self._changing(name):
            pass

    @contextmanager
    def _changing(self, name: str) -> Iterator[list[Any]]:
        """The entries of the index without that of `name`; what the block makes of them is written."""
        with self._tagging:
            index = self._index()
            others = [m for m in index["manifests"] if (m.get("annotations") or {}).get(REF_NAME) != name]
            yield others
            try:
                self._write(self.root / "index.json", canonical({**index, "manifests": others}))
            except OSError as problem:
                raise _failed(self.root, problem) from problem

    def _index(self) -> dict[str, Any]:
        try:
            return parse_json((self.root / "index.json").read_bytes(), str(self.root / "index.json"))
        except OSError as problem:
            raise _failed(self.root, problem) from problem

    # -- what is known of blobs ----------------------------------------------------------------------------------

    def recall(self, key: str) -> dict[str, Any] | None:
        """What was remembered under `key` (hex), None when nothing was."""
        try:
            return parse_json((self.root / ".known" / key).read_bytes(), key)
        except (OSError, InvalidFile):
            return None

    def remember(self, key: str, value: dict[str, Any]) -> None:
        try:
            self._write(self.root / ".known" / key, canonical(value))
        except OSError as problem:
            raise _failed(self.root, problem) from problem

    @staticmethod
    def _write(path: Path, content: bytes) -> None:
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        try:
            with temporary.open("xb") as out:
                out.write(content)
                out.flush()
                os.fsync(out.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def canonical(value: Any) -> bytes:
    """JSON with one spelling, so that equal content has an equal digest."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def parse_json(raw: bytes, where: str) -> dict[str, Any]:
    try:
        value = json.loads(raw)
    except ValueError as problem:
        raise InvalidFile(where, f"is not valid JSON ({problem})") from None
    if not isinstance(value, dict):
        raise InvalidFile(where, "must hold a JSON object")
    return value


def _hex(digest: str) -> str:
    algorithm, _, value = digest.partition(":")
    if algorithm != "sha256" or len(value) != 64 or set(value) - set("0123456789abcdef"):
        raise InvalidFile(f"the digest {digest[:100]!r}", "must be sha256: and 64 hexadecimal digits in lower case")
    return value


def _gone(digest: str) -> StorageFailed:
    return StorageFailed(f"The blob {digest} is missing from the image store. Build or pull the image again.")


def _failed(root: Path, problem: OSError) -> StorageFailed:
    return StorageFailed(
        f"The image store {root} cannot be used: {problem.strerror or problem}. "
        "Free some space, make it writable, or set ARGOSY_HOME to another folder."
    )
