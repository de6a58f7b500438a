"""Manifests and indexes: read with care, and what they refer to."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from argosy.errors import RegistryFailed, UserError
from argosy.images.oci.blobs import OciBlobs
from argosy.images.oci.layout import DOCKER_LIST, DOCKER_MANIFEST, INDEX, MANIFEST, Descriptor, Malformed

MANIFESTS = (MANIFEST, DOCKER_MANIFEST)
INDEXES = (INDEX, DOCKER_LIST)
ACCEPT = ", ".join((*MANIFESTS, *INDEXES))
# The specification asks registries to take at least this much.
LARGEST_BYTES = 4 << 20


@dataclass(frozen=True)
class Document:
    """A manifest or index as it is stored: `content` is what `digest` covers. `blobs` are config and layers,
    `children` the manifests of an index."""

    digest: str
    content: bytes
    media_type: str
    body: dict[str, Any]
    blobs: tuple[Descriptor, ...] = ()
    children: tuple[Descriptor, ...] = ()

    @property
    def subject(self) -> str | None:
        """The digest of what an artifact is about."""
        subject = self.body.get("subject")
        return str(subject["digest"]) if isinstance(subject, dict) and subject.get("digest") else None


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def parse(content: bytes, announced: str = "") -> Document:
    """`announced` is the Content-Type that it came with. Raises Malformed."""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        raise Malformed("it is no JSON") from None
    if not isinstance(body, dict):
        raise Malformed("it is no JSON object")
    announced = announced.partition(";")[0].strip().lower()
    media_type = body.get("mediaType") or (announced if announced in (*MANIFESTS, *INDEXES) else _guess(body))
    if body.get("schemaVersion") != 2 or media_type not in (*MANIFESTS, *INDEXES):
        shown = media_type or announced or f"schema version {body.get('schemaVersion')}"
        raise Malformed(
            f"{shown!r} is no image manifest or index of OCI or Docker schema 2. Push it anew with a current tool"
        )
    if announced in (*MANIFESTS, *INDEXES) and announced != media_type:
        raise Malformed(f"it was announced as {announced} but says of itself {media_type}")
    if media_type in INDEXES:
        children = tuple(Descriptor.of(entry) for entry in _list(body, "manifests"))
        return Document(digest_of(content), content, media_type, body, children=children)
    blobs = (Descriptor.of(body.get("config")), *(Descriptor.of(entry) for entry in _list(body, "layers")))
    return Document(digest_of(content), content, media_type, body, blobs=blobs)


def load(blobs: OciBlobs, digest: str) -> Document:
    """A manifest or index that is stored here. UserError when it is not, or is damaged."""
    if not blobs.has(digest):
        raise UserError(
            f"The manifest {digest} is not stored here. Pull or build the image again, with all its platforms."
        )
    with blobs.open(digest) as stream:
        content = stream.read(LARGEST_BYTES + 1)
    if digest_of(content) != digest:
        raise UserError(f"The stored manifest {digest} is damaged. Delete the image, then pull or build it again.")
    try:
        return parse(content)
    except Malformed as problem:
        raise UserError(f"{digest} cannot be pushed: {problem}.") from None


def choose(host: str, what: str, document: Document, platform: str) -> Descriptor:
    """The manifest of an index that fits `os/architecture[/variant]`."""
    wanted = platform.split("/")
    # amd64 is amd64/v1 and arm64 is arm64/v8; without a variant any will do.
    alike = wanted[:2] if wanted[2:] in (["v1"], ["v8"]) else wanted
    for child in document.children:
        offered = child.platform.split("/")
        if offered[: len(wanted)] == wanted or offered == alike:
            return child
    offers = ", ".join(sorted({child.platform for child in document.children if child.platform})) or "none"
    raise UserError(f"{host}/{what} has nothing for the platform {platform!r}; it has {offers}. Choose one of them.")


def malformed(host: str, what: str, problem: Malformed) -> RegistryFailed:
    return RegistryFailed(host, f"What the registry {host} has as {what} cannot be used: {problem}.")


def _guess(body: dict[str, Any]) -> str:
    """OCI lets a document leave out its media type."""
    if isinstance(body.get("manifests"), list):
        return INDEX
    return MANIFEST if isinstance(body.get("layers"), list) and "config" in body else ""


def _list(body: dict[str, Any], name: str) -> list[Any]:
    found = body.get(name)
    if not isinstance(found, list):
        raise Malformed(f"its {name!r} is no list")
    return found
