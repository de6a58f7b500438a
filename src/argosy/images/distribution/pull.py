"""Pull an image into a blob store, for one platform or for all."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from argosy.errors import RegistryFailed, RegistryRefused, TooLarge
from argosy.images.distribution.documents import (
    ACCEPT,
    Document,
    choose,
    malformed,
    parse,
)
from argosy.images.distribution.downloads import BlobDownload
from argosy.images.distribution.names import ImageName, check_digest
from argosy.images.distribution.progress import Moved, Progress, silent
from argosy.images.distribution.session import Ask, RegistrySession
from argosy.images.oci.blobs import OciBlobs
from argosy.images.oci.layout import Descriptor, Malformed

# Of an index, with all that it names at any depth: they are in memory together. Real ones have a few dozen.
_DEEPEST, _MOST_DOCUMENTS, _MOST_DOCUMENT_BYTES = 3, 200, 32 << 20


@dataclass(frozen=True)
class Pulled:
    """`digest` is what the name means in the registry: a manifest, or an index, whose fetched manifests `manifests`
    has by platform."""

    name: ImageName
    digest: str
    media_type: str
    manifests: dict[str, str] = field(default_factory=dict)


def pull(
    session: RegistrySession,
    name: ImageName,
    blobs: OciBlobs,
    *,
    platforms: Sequence[str] = (),
    progress: Progress = silent,
    limit_bytes: int | None = None,
) -> Pulled:
    """Bring `name` into `blobs`, each blob verified by its digest, manifests after their blobs, the index last.

    `platforms` are `os/architecture[/variant]`: of an index only those are fetched, without them all. An image that is
    no index is not asked which platform it is for. What is stored already is not fetched, so an interrupted pull is
    simply repeated. Raises RegistryRefused, RegistryFailed, TooLarge when it names more than `limit_bytes`, and
    UserError for a platform that the image is not for.
    """
    root = resolve(session, name)
    shown = f"{name.path}:{name.tag}" if name.tag else name.path
    # Chosen before anything is fetched: the last one may be missing.
    children = [choose(name.host, shown, root, platform) for platform in platforms] if root.children else []
    documents = list(_Tree(session, name.path).below(root, children or list(root.children), _DEEPEST))
    wanted = {blob.digest: blob for document in documents for blob in document.blobs}
    if limit_bytes is not None and sum(blob.size_bytes for blob in wanted.values()) > limit_bytes:
        raise TooLarge(f"The image {name}", limit_bytes)
    for document in documents:
        _store(session, name.path, blobs, document, progress)
    fetched = {child.platform: child.digest for child in children or root.children if child.platform}
    return Pulled(name, root.digest, root.media_type, fetched)


def resolve(session: RegistrySession, name: ImageName) -> Document:
    """What the name means now: its manifest or index. With a digest, that one, whatever the tag says."""
    return _fetch(session, name.path, name.reference)


class _Tree:
    """The documents of one pull, which are counted together."""

    def __init__(self, session: RegistrySession, path: str) -> None:
        self._session, self._path = session, path
        self._count, self._size_bytes = 0, 0

    def below(self, document: Document, children: Sequence[Descriptor], deepest: int) -> Iterator[Document]:
        """What the document refers to, as far as `children` go, then itself."""
        self._count += 1
        self._size_bytes += len(document.content)
        if not deepest or self._count + len(children) > _MOST_DOCUMENTS or self._size_bytes > _MOST_DOCUMENT_BYTES:
            raise RegistryFailed(
                self._session.host,
                f"What the registry {self._session.host} has as {self._path}@{document.digest} lies too deep or is too "
                f"wide: an image has at most {_MOST_DOCUMENTS} manifests.",
            )
        for child in children:
            inner = _fetch(self._session, self._path, child.digest)
            yield from self.below(inner, inner.children, deepest - 1)
        yield document


def _store(session: RegistrySession, path: str, blobs: OciBlobs, document: Document, progress: Progress) -> None:
    for blob in document.blobs:
        # Layers with a URL of their own are the ones that registries do not hold.
        if not blob.urls:
            BlobDownload(session, path, blobs, blob, progress).run()
    if not blobs.has(document.digest):
        blobs.add([document.content], document.digest)
    progress(Moved(document.digest, "done", len(document.content), len(document.content)))


def _fetch(session: RegistrySession, path: str, reference: str) -> Document:
    what = f"{path}{'@' if ':' in reference else ':'}{reference}"
    ask = Ask(
        "GET", f"v2/{path}/manifests/{reference}", f"pull {what}", (f"repository:{path}:pull",), {"accept": ACCEPT}
    )
    response = session.send(ask, (200, 404))
    if response.status_code == 404:
        raise RegistryRefused(
            session.host,
            f"The registry {session.host} has no {what}. Check its name and tag; for a private one log in: "
            f"`argosy image login {session.host} -u USER`.",
        )
    try:
        document = parse(response.content, response.headers.get("content-type", ""))
    except Malformed as problem:
        raise malformed(session.host, what, problem) from None
    said = response.headers.get("docker-content-digest", "")
    asked = reference if ":" in reference else said if check_digest(said) else document.digest
    if document.digest != asked:
        raise RegistryFailed(
            session.host,
            f"The registry {session.host} sent for {what} bytes with the digest {document.digest} instead of {asked}. "
            "Nothing was kept. Push the image there again, or use another registry.",
        )
    return document
