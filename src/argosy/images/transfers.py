"""Images on their way: to and from registries, and out of archives.

What arrives becomes an image of this home by what it says of itself (`oci/described.py`): it has no manifest here.
Blobs first, then the row, then the tag; what was interrupted is repeated, and passes over what is there.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from argosy.errors import InvalidOption, RegistryFailed
from argosy.images.distribution.names import ImageName
from argosy.images.distribution.progress import Moved
from argosy.images.distribution.pull import pull
from argosy.images.distribution.push import Pushed, push
from argosy.images.distribution.referrers import referrers
from argosy.images.distribution.registries import Registries
from argosy.images.distribution.session import RegistrySession
from argosy.images.oci.attachments import KINDS
from argosy.images.oci.create import OciImages
from argosy.images.oci.described import describe
from argosy.images.oci.layout import DOCKER_LIST, INDEX, MANIFEST, Descriptor, Malformed, media_type
from argosy.images.oci.load import Loader
from argosy.images.oci.sources import open_archive
from argosy.images.oci.tree import reachable
from argosy.images.registry import ImageRegistry
from argosy.records import Image, check_name
from argosy.settings import Settings

# (bytes moved or found, bytes in all, 0 when nobody knows). What it raises ends the transfer.
Progress = Callable[[int, int], object]
_MOST_ATTACHMENTS = 20
_LARGEST_ATTACHMENT_BYTES = 16 << 20


class Transfers:
    def __init__(self, settings: Settings, images: ImageRegistry, oci: OciImages, registries: Registries) -> None:
        self._settings = settings
        self._images = images
        self._oci = oci
        self._layout = oci.layout
        self._registries = registries

    def push(self, image: Image, names: Sequence[ImageName], progress: Progress) -> Pushed:
        """Push all its platforms, with what is attached to them, under each of `names`, which are of one repository."""
        with self._layout.leases.hold():
            root = self._oci.root(image)
            tree = reachable(self._layout, root)
            attached = [a.digest for subject in tree for a in self._layout.attached(subject)]
            whole = {**tree, **{d: s for each in attached for d, s in reachable(self._layout, each).items()}}
            told = _Told(progress, sum(whole.values()))
            with self._registries.session(names[0].host) as session:
                pushed = [push(session, self._layout, root, name, attach=attached, progress=told) for name in names]
        return pushed[0]

    def destination(self, image: Image, text: str | None, tags: Sequence[str] = ()) -> list[ImageName]:
        """Where `text` says, as `tags` or else as its version; below the setting `registry` without a text."""
        if not text and not self._settings.registry:
            raise InvalidOption(
                "the destination",
                "",
                f"say where to: `argosy image push {image.reference} HOST/PATH`, or set the setting `registry`",
            )
        named = text or f"{self._settings.registry.rstrip('/')}/{image.name}"
        name = ImageName.parse(named)
        if name.digest:
            raise InvalidOption("the destination", named, "name a tag instead of a digest")
        own = name.tag if ":" in named.rpartition("/")[2] else None
        wanted = [*([own] if own else []), *tags] or [str(image.version)]
        return [ImageName.parse(f"{name.host}/{name.path}:{tag}") for tag in dict.fromkeys(wanted)]

    def pull(self, reference: str, name: str | None, platforms: Sequence[str], progress: Progress) -> Image:
        """The image that `reference` names, with all its platforms or those that are named, as `name`."""
        found = ImageName.parse(reference)
        own = check_name("image", name or found.path.rpartition("/")[2])
        with self._layout.leases.hold(), self._registries.session(found.host) as session:
            told = _Told(progress, 0)
            limit = self._settings.image_limit_bytes
            pulled = pull(session, found, self._layout, platforms=platforms, progress=told, limit_bytes=limit)
            root = pulled.digest
            if platforms and pulled.manifests:
                root = self._index(list(pulled.manifests.items()))
            image = self._register(own, root, str(found), str(found))
            for digest in image.oci.values():
                self._attachments(session, found.path, digest, told)
        return image

    def load(self, archive: Path, name: str | None, tag: str, source: str, progress: Progress) -> Image:
        """The image of an OCI archive or of what `docker save` writes; `source` is its file's name."""
        limit = self._settings.image_limit_bytes
        with self._layout.leases.hold(), open_archive(archive, limit, tag) as opened:
            own = name or opened.title().rpartition("/")[2].partition(":")[0]
            if not own:
                raise InvalidOption("--name", "", "the archive does not say what the image is called: give it a name")
            check_name("image", own)
            loader = Loader(self._layout, opened, limit, lambda done: progress(done, 0))
            return self._register(own, loader.run(), source, source)

    def _register(self, name: str, root: str, what: str, source: str) -> Image:
        described = describe(self._layout, what, root, self._settings.image_limit_bytes)
        image = self._images.adopt(name, described, source)
        kind = media_type(self._layout.json(root))
        if kind not in (INDEX, DOCKER_LIST):
            root, kind = self._index(list(described.manifests.items())), INDEX
        self._layout.tag(image.reference, Descriptor(kind, root, self._layout.size(root)))
        return image

    def _index(self, manifests: Sequence[tuple[str, str]]) -> str:
        """An index of our own over these platforms."""
        entries = [
            Descriptor(media_type(self._layout.json(digest)), digest, self._layout.size(digest), at)
            for at, digest in sorted(manifests)
        ]
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry.json() for entry in entries]}
        return self._layout.add_json(index)[0]

    def _attachments(self, session: RegistrySession, path: str, subject: str, told: "_Told") -> None:
        """The bill of materials and the provenance, if the registry has them; nothing else that somebody attached."""
        kept: list[Descriptor] = []
        for entry in referrers(session, path, subject)[:_MOST_ATTACHMENTS]:
            try:
                offered = Descriptor.of(entry)
            except Malformed as problem:
                raise RegistryFailed(
                    session.host,
                    f"The registry {session.host} lists for {path}@{subject} what cannot be used: {problem}.",
                ) from None
            if offered.artifact_type not in KINDS.values() or offered.artifact_type in {a.artifact_type for a in kept}:
                continue
            name = ImageName(session.host, path, None, offered.digest)
            pull(session, name, self._layout, progress=told, limit_bytes=_LARGEST_ATTACHMENT_BYTES)
            content = self._layout.json(offered.digest)
            about = content.get("subject")
            if isinstance(about, dict) and about.get("digest") == subject:
                size_bytes = self._layout.size(offered.digest)
                kept.append(replace(offered, media_type=MANIFEST, size_bytes=size_bytes, annotations={}))
        if kept:
            self._layout.attach(subject, kept)


class _Told:
    """What the client says of single blobs, as bytes in all. `total_bytes` grows with what is met."""

    def __init__(self, progress: Progress, total_bytes: int) -> None:
        self._progress, self._total = progress, total_bytes
        self._done: dict[str, int] = {}
        self._met: dict[str, int] = {}

    def __call__(self, moved: Moved) -> None:
        self._done[moved.digest], self._met[moved.digest] = moved.done_bytes, moved.total_bytes
        self._progress(sum(self._done.values()), max(self._total, sum(self._met.values())))
