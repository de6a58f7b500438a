"""Garbage collection: what no image, service, tag, model or work under way needs any more.

Safe at any time, whatever else goes on: see `leases.py` for what builds, pushes and pulls use. Uploaded files go by age
as well, since who uploads one registers it later, in another request. Every deletion is of something that nobody needs,
so one that is cut short has done a part of it, and is simply repeated.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from argosy.images.leases import Leases
from argosy.images.oci.base import BASE_TAG
from argosy.images.oci.layout import SUBJECT, OciLayout
from argosy.images.oci.tree import reachable
from argosy.images.registry import ImageRegistry
from argosy.images.unpack import image_folder, remove_image
from argosy.images.venvs import environment_folders, remove_environment
from argosy.records import Freed
from argosy.settings import Home
from argosy.store.blobs import LocalBlobs

# An upload whose model or manifest is not registered yet must not lose its blobs.
BLOB_GRACE_S = 24 * 3600.0


class Collector:
    """`used_blobs` answers the SHA-256 of all files that models, manifests and operations under way name."""

    def __init__(
        self,
        home: Home,
        leases: Leases,
        layout: OciLayout,
        images: ImageRegistry,
        blobs: LocalBlobs,
        used_blobs: Callable[[], set[str]],
    ) -> None:
        self._home = home
        self._leases = leases
        self._layout = layout
        self._images = images
        self._blobs = blobs
        self._used_blobs = used_blobs

    def run(self, dry_run: bool, check: Callable[[], object] = lambda: None) -> list[Freed]:
        """What was deleted, or with `dry_run` would be. `check` may raise to end it in between."""
        found: list[Freed] = []
        # Held before anything is read: from now on nothing that somebody begins to use is taken away.
        with self._leases.hold():
            for part in (self._store, self._environments, self._folders, self._files):
                for freed in part(dry_run):
                    found.append(freed)
                    check()
        return found

    # -- the image store -----------------------------------------------------------------------------------------

    def _store(self, dry_run: bool) -> Iterator[Freed]:
        layout = self._layout
        # In this order: what has a tag when tags are read had its row before.
        blobs, tags = layout.digests(), layout.tags()
        manifests, bases = self._images.stored()
        stale = [name for name, tag in tags.items() if not self._is_needed(name, tag.digest, manifests, bases)]
        roots = {tag.digest for name, tag in tags.items() if name not in stale}
        roots |= {digest for digests in manifests.values() for digest in digests}
        needed = self._below(roots)
        lost = {entry.annotations[SUBJECT] for entry in layout.attached()} - needed
        needed |= self._below(e.digest for e in layout.attached() if e.annotations[SUBJECT] not in lost)
        if not dry_run:
            for name in stale:
                layout.untag(name)
            layout.detach(subject for subject in lost if not self._leases.used(subject))
        for digest, size_bytes in blobs.items():
            if digest in needed or self._leases.used(digest):
                continue
            if dry_run or layout.collect(digest):
                yield Freed("oci blob", digest, size_bytes)
        if not dry_run:
            layout.forget_lost()

    def _is_needed(self, name: str, digest: str, manifests: dict[str, set[str]], bases: set[str]) -> bool:
        """Whether an image has the tag; that of a default base serves as long as an image stands on it."""
        if name.startswith(BASE_TAG):
            return digest in bases or self._leases.used(name)
        return name in manifests

    def _below(self, roots: Iterable[str]) -> set[str]:
        return {digest for root in roots for digest in reachable(self._layout, root)}

    # -- what processes run from ---------------------------------------------------------------------------------

    def _environments(self, dry_run: bool) -> Iterator[Freed]:
        folders = environment_folders(self._home.envs)
        _, keys = self._images.keys_in_use()
        for key, folder in folders.items():
            if key in keys or self._leases.used(f"env:{key}"):
                continue
            size_bytes = _size(folder)
            if dry_run or self._leases.remove(f"env:{key}", lambda key=key: remove_environment(self._home.envs, key)):  # type: ignore[misc]
                yield Freed("environment", key, size_bytes)

    def _folders(self, dry_run: bool) -> Iterator[Freed]:
        folders = [path for path in self._home.images.iterdir() if not path.name.startswith(".")]
        digests, _ = self._images.keys_in_use()
        used = {image_folder(self._home.images, digest) for digest in digests}
        for folder in folders:
            key = f"folder:{folder.name}"
            if folder in used or self._leases.used(key):
                continue
            size_bytes = _size(folder)
            if dry_run or self._leases.remove(key, lambda name=folder.name: remove_image(self._home.images, name)):  # type: ignore[misc]
                yield Freed("image folder", folder.name, size_bytes)

    # -- uploaded files ------------------------------------------------------------------------------------------

    def _files(self, dry_run: bool) -> Iterator[Freed]:
        for blob in self._blobs.delete_unreferenced(self._used_blobs(), BLOB_GRACE_S, dry_run):
            yield Freed("file", blob.sha256, blob.size_bytes)


def _size(folder: Path) -> int:
    """Bytes on the disk that are of nobody else: uv shares files between environments by hard links."""
    total = 0
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            state = path.stat()
            total += state.st_size if state.st_nlink == 1 else 0
    return total
