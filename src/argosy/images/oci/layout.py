"""One OCI image layout (image-spec 1.1) that builders, the registry client and archives share.

`oci-layout`, `index.json` and `blobs/sha256/<hex>`, each written beside its place, synced and renamed. A tag comes into
`index.json` after every blob it needs, so the layout is valid whenever a power cut or `kill -9` comes. What is still
being written lies in `.incoming`, what was found out of blobs in `.known`; both may be deleted while nobody works.

What is attached to an image (its bill of materials, its provenance) stands in `index.json` too, without a tag but with
the digest of its subject: other tools pass over it, and the collector knows what keeps it.
"""

import hashlib
import json
import os
import re
import secrets
import shutil
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from argosy.errors import InvalidFile, StorageFailed
from argosy.images.leases import Leases
from argosy.store.blobs import LocalBlobs

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
TAR = "application/vnd.oci.image.layer.v1.tar"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
SUBJECT = "io.argosy.subject"
REF_NAME = "org.opencontainers.image.ref.name"
# Annotations of an image: what it stands on, and the steps that ran on that before anything else.
BASE_NAME, BASE_DIGEST = "org.opencontainers.image.base.name", "org.opencontainers.image.base.digest"
STEPS = "io.argosy.docker.steps"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_LARGEST_JSON_BYTES = 16 << 20


class Malformed(ValueError):
    """Why bytes are no descriptor, manifest or index; callers know where these came from."""


@dataclass(frozen=True)
class Descriptor:
    """What points at a blob. `platform` is `os/architecture[/variant]`, empty when nobody says; `urls` is where those
    layers lie that registries do not hold."""

    media_type: str
    digest: str
    size_bytes: int
    platform: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)
    artifact_type: str = ""
    urls: tuple[str, ...] = ()

    def json(self) -> dict[str, Any]:
        data: dict[str, Any] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size_bytes}
        if self.platform:
            os_name, architecture, *variant = self.platform.split("/")
            data["platform"] = {"architecture": architecture, "os": os_name}
            if variant:
                data["platform"]["variant"] = variant[0]
        if self.annotations:
            data["annotations"] = dict(self.annotations)
        if self.artifact_type:
            data["artifactType"] = self.artifact_type
        if self.urls:
            data["urls"] = list(self.urls)
        return data

    @classmethod
    def of(cls, data: Any) -> "Descriptor":
        """Raises Malformed."""
        if not isinstance(data, dict):
            raise Malformed("it refers to something without a descriptor")
        digest, size_bytes = data.get("digest"), data.get("size")
        if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
            raise Malformed(f"it refers to {str(digest)[:100]!r}, which is no sha256 digest")
        if type(size_bytes) is not int or size_bytes < 0:
            raise Malformed(f"it gives {digest} the size {size_bytes!r}")
        platform, annotations, urls = data.get("platform"), data.get("annotations"), data.get("urls")
        known = platform if isinstance(platform, dict) else {}
        return cls(
            str(data.get("mediaType", "")),
            digest,
            size_bytes,
            "/".join(str(known[key]) for key in ("os", "architecture", "variant") if known.get(key)),
            {str(key): str(value) for key, value in annotations.items()} if isinstance(annotations, dict) else {},
            str(data.get("artifactType", "")),
            tuple(map(str, urls)) if isinstance(urls, list) else (),
        )


class OciLayout:
    """The layout in `root`, which is made when it is missing. One process at a time writes, with any threads.

    Who builds, pushes or pulls holds `leases`, so that nothing is collected that they found or stored here.
    """

    def __init__(self, root: Path, leases: Leases | None = None) -> None:
        self.root = root
        self.leases = leases or Leases()
        # For what a build unpacks; a crash may leave some behind.
        self.work = root / ".work"
        self._tagging = threading.Lock()
        self._blobs = LocalBlobs(
            root / "blobs", True, root / ".incoming", lambda value: self.leases.use(f"sha256:{value}")
        )
        try:
            (root / "blobs" / "sha256").mkdir(mode=0o700, parents=True, exist_ok=True)
            (root / ".known").mkdir(mode=0o700, exist_ok=True)
            if not (root / "index.json").exists():
                self._write(root / "index.json", canonical({"schemaVersion": 2, "mediaType": INDEX, "manifests": []}))
            if not (root / "oci-layout").exists():
                self._write(root / "oci-layout", canonical({"imageLayoutVersion": "1.0.0"}))
            self._blobs.clean_temporary()
            for unfinished in (*root.glob(".index.json.*"), *(root / ".known").glob(".*")):
                unfinished.unlink(missing_ok=True)
            shutil.rmtree(self.work, ignore_errors=True)
        except OSError as problem:
            raise _failed(root, problem) from problem

    # -- blobs ---------------------------------------------------------------------------------------------------

    def has(self, digest: str) -> bool:
        self.leases.use(digest)
        return self._blobs.has(_hex(digest))

    def size(self, digest: str) -> int:
        try:
            return self.path(digest).stat().st_size
        except OSError as problem:
            raise _gone(digest) from problem

    def is_whole(self, wanted: Descriptor) -> bool:
        """Whether the blob is here with all its bytes, so that it need not be fetched."""
        return self.has(wanted.digest) and self.size(wanted.digest) == wanted.size_bytes

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
        """The manifest, index or config of this digest. InvalidFile when the blob is no such thing, StorageFailed when
        it is corrupt."""
        if not self._blobs.has(_hex(digest)):
            raise _gone(digest)
        with self.open(digest) as stream:
            raw = stream.read(_LARGEST_JSON_BYTES)
        if f"sha256:{hashlib.sha256(raw).hexdigest()}" != digest:
            self.verify(digest)
        return parse_json(raw, digest)

    def verify(self, digest: str) -> None:
        """Read the blob again. One that is corrupt is removed, so that the next build or pull writes it anew: nobody
        can use it, and one of the right size would be taken for whole. Raises StorageFailed."""
        try:
            self._blobs.verify(_hex(digest))
        except StorageFailed as problem:
            if not self._blobs.has(_hex(digest)):
                raise _gone(digest) from problem
            self._blobs.delete(_hex(digest))
            raise StorageFailed(
                f"The blob {digest} in {self.root} was corrupt: its bytes have changed on the disk. It was removed. "
                "Build or pull the image again, which stores it anew; check the disk.",
                {"digest": digest},
            ) from problem

    def digests(self) -> dict[str, int]:
        """All blobs and their sizes in bytes."""
        found = {}
        for path in (self.root / "blobs" / "sha256").iterdir():
            try:
                found[f"sha256:{path.name}"] = path.stat().st_size
            except FileNotFoundError:
                continue
        return found

    def collect(self, digest: str) -> bool:
        """Delete the blob unless somebody who holds a lease uses it; whether it was deleted."""
        gone: list[Path | None] = []
        if not self.leases.remove(digest, lambda: gone.append(self._blobs.take(_hex(digest)))):
            return False
        for path in filter(None, gone):
            path.unlink(missing_ok=True)
        return True

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
        self._change(lambda entries: [*(e for e in entries if e.annotations.get(REF_NAME) != name), named])

    def untag(self, name: str) -> None:
        """Nothing happens when there is no such tag. The blobs stay."""
        self._change(lambda entries: [entry for entry in entries if entry.annotations.get(REF_NAME) != name])

    def attach(self, subject: str, artifacts: Sequence[Descriptor]) -> None:
        """Let these manifests belong to the manifest `subject`, in place of others of the same type."""
        types = {artifact.artifact_type for artifact in artifacts}
        named = [
            Descriptor(a.media_type, a.digest, a.size_bytes, "", {SUBJECT: subject}, a.artifact_type) for a in artifacts
        ]
        self._change(
            lambda entries: [
                *(e for e in entries if e.annotations.get(SUBJECT) != subject or e.artifact_type not in types),
                *named,
            ]
        )

    def attached(self, subject: str = "") -> list[Descriptor]:
        """What belongs to the manifest `subject`, or all that belongs to any."""
        found = [Descriptor.of(item) for item in self._index()["manifests"]]
        return [
            entry for entry in found if SUBJECT in entry.annotations and subject in ("", entry.annotations[SUBJECT])
        ]

    def detach(self, subjects: Iterable[str]) -> None:
        """Forget what belongs to these. The blobs stay."""
        gone = set(subjects)
        self._change(lambda entries: [entry for entry in entries if entry.annotations.get(SUBJECT) not in gone])

    def _change(self, change: Callable[[list[Descriptor]], list[Descriptor]]) -> None:
        """Replace the entries of the index, in one step."""
        with self._tagging:
            index = self._index()
            known = [Descriptor.of(item) for item in index["manifests"]]
            changed = change(known)
            if changed == known:
                return
            try:
                content = canonical({**index, "manifests": [entry.json() for entry in changed]})
                self._write(self.root / "index.json", content)
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

    def forget_lost(self) -> None:
        """Drop what is remembered of blobs that are gone."""
        for path in (self.root / ".known").iterdir():
            about = f"sha256:{path.name.removeprefix('base-')}" if path.name.startswith("base-") else None
            digest = about or str((self.recall(path.name) or {}).get("digest"))
            # Names with a dot are still being written.
            if not path.name.startswith(".") and not (_DIGEST.fullmatch(digest) and self._blobs.has(_hex(digest))):
                path.unlink(missing_ok=True)

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


def media_type(content: Mapping[str, Any]) -> str:
    """Of a manifest or index: OCI lets it leave its type out."""
    return str(content.get("mediaType") or (INDEX if "manifests" in content else MANIFEST))


def parse_json(raw: bytes, where: str) -> dict[str, Any]:
    try:
        value = json.loads(raw)
    except ValueError as problem:
        raise InvalidFile(where, f"is not valid JSON ({problem})") from None
    except RecursionError:
        raise InvalidFile(where, "is not valid JSON (nested too deep)") from None
    if not isinstance(value, dict):
        raise InvalidFile(where, "must hold a JSON object")
    return value


def _hex(digest: str) -> str:
    if not _DIGEST.fullmatch(digest):
        raise InvalidFile(f"the digest {digest[:100]!r}", "must be sha256: and 64 hexadecimal digits in lower case")
    return digest.removeprefix("sha256:")


def _gone(digest: str) -> StorageFailed:
    return StorageFailed(f"The blob {digest} is missing from the image store. Build or pull the image again.")


def _failed(root: Path, problem: OSError) -> StorageFailed:
    return StorageFailed(
        f"The image store {root} cannot be used: {problem.strerror or problem}. "
        "Free some space, make it writable, or set ARGOSY_HOME to another folder."
    )
