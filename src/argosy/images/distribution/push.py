"""Push an image, or what is attached to one, with all that it refers to."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from argosy.errors import RegistryFailed, UserError
from argosy.images.distribution.documents import Document, load
from argosy.images.distribution.names import ImageName
from argosy.images.distribution.progress import Moved, Progress, silent
from argosy.images.distribution.referrers import announce
from argosy.images.distribution.session import Ask, RegistrySession
from argosy.images.distribution.uploads import CHUNK_BYTES, BlobUpload
from argosy.images.oci.blobs import OciBlobs
from argosy.images.oci.layout import Descriptor


@dataclass(frozen=True)
class Pushed:
    """`digest` is what the tag now means; `attached` are the digests of the artifacts that went along."""

    name: ImageName
    digest: str
    attached: tuple[str, ...] = ()


def push(
    session: RegistrySession,
    blobs: OciBlobs,
    digest: str,
    name: ImageName,
    *,
    attach: Sequence[str] = (),
    mount_from: str | None = None,
    progress: Progress = silent,
    chunk_bytes: int = CHUNK_BYTES,
) -> Pushed:
    """Push the manifest or index `digest` as `name`, whose tag appears last, when all that it refers to is there.

    `attach` are digests of artifact manifests (SBOM, provenance) whose `subject` is this image or one of its
    platforms. `mount_from` is a repository of the same registry where blobs may be taken from. Blobs of more than
    `chunk_bytes` go in chunks of that size, and on from the last byte that the registry kept when a connection breaks.
    Blobs that are there already are not sent, so an interrupted push is simply repeated. Raises RegistryRefused,
    RegistryFailed, and UserError when something is missing here.
    """
    root = load(blobs, digest)
    if name.digest is not None and name.digest != digest:
        raise UserError(f"{name} names another digest than the image that is to be pushed ({digest}). Leave it out.")
    documents = list(_tree(blobs, root))
    artifacts = [load(blobs, attached) for attached in attach]
    known = {document.digest for document in documents}
    for artifact in artifacts:
        if artifact.subject not in known:
            raise UserError(f"{artifact.digest} is attached to {artifact.subject}, which is no part of {digest}.")
    wanted = {blob.digest: blob for document in (*documents, *artifacts) for blob in document.blobs}
    for blob in wanted.values():
        if blobs.has(blob.digest):
            BlobUpload(session, name.path, blobs, blob, progress, mount_from, chunk_bytes).run()
        else:
            _only_elsewhere(session, name, blobs, blob, progress)
    for document in documents[:-1]:
        _put(session, name.path, document, document.digest, progress)
    # Before the tag: who can pull the image can also see what belongs to it.
    _put(session, name.path, root, root.digest, progress)
    for artifact in artifacts:
        answer = _put(session, name.path, artifact, artifact.digest, progress)
        if "oci-subject" not in answer:
            announce(session, name.path, artifact)
    if name.tag is not None:
        _put(session, name.path, root, name.tag, progress)
    return Pushed(name, digest, tuple(artifact.digest for artifact in artifacts))


def _tree(blobs: OciBlobs, document: Document) -> Iterator[Document]:
    """What the document refers to, then itself."""
    for child in document.children:
        if not blobs.has(child.digest):
            platform = f" for {child.platform}" if child.platform else ""
            raise UserError(
                f"{document.digest} names the manifest {child.digest}{platform}, which is not stored here. Pull or "
                "build all its platforms, or push the manifest of one platform alone."
            )
        yield from _tree(blobs, load(blobs, child.digest))
    yield document


def _only_elsewhere(
    session: RegistrySession, name: ImageName, blobs: OciBlobs, blob: Descriptor, progress: Progress
) -> None:
    """A layer that is not here may be one that the registry has, or that everybody fetches from its own URL."""
    if blob.urls or BlobUpload(session, name.path, blobs, blob, progress).there():
        progress(Moved(blob.digest, "present", blob.size_bytes, blob.size_bytes))
        return
    raise UserError(
        f"The layer {blob.digest} ({blob.size_bytes:,} bytes) is stored neither here nor in {name.host}/{name.path}. "
        "Pull or build the image again."
    )


def _put(session: RegistrySession, path: str, document: Document, reference: str, progress: Progress) -> set[str]:
    """The names of the answer's headers."""
    ask = Ask(
        "PUT",
        f"v2/{path}/manifests/{reference}",
        f"push to {path}",
        (f"repository:{path}:pull,push",),
        {"content-type": document.media_type},
        document.content,
        slow=True,
    )
    response = session.send(ask, (201, 202))
    stored = response.headers.get("docker-content-digest", document.digest)
    if stored != document.digest:
        raise RegistryFailed(
            session.host,
            f"The registry {session.host} stored {path}@{stored} instead of {document.digest}: it changes manifests. "
            "Turn that off, or use another.",
        )
    progress(Moved(document.digest, "done", len(document.content), len(document.content)))
    return {key.lower() for key in response.headers}
