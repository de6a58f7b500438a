"""Garbage collection: what no image, service, tag, model or work under way needs any more.

Safe at any time, whatever else goes on: see `leases.py` for what builds, pushes and pulls use. Uploaded files go by age
as well, since who uploads one registers it later, in another request. Every deletion is of something that nobody needs,
so one that is cut short has done a part of it, and is simply repeated.
"""

from collections.abc import Callable, Container, Iterable, Iterator
from pathlib import Path

from argosy.images.leases import Leases
from argosy.images.oci.base import BASE_TAG
from argosy.images.oci.layout import BASE_DIGEST, SUBJECT, OciLayout
from argosy.images.oci.tree import children, reachable
from argosy.images.registry import ImageRegistry
from argosy.images.unpack import image_folder
from argosy.images.venvs import environment_folders
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
        made = {digest for digests in manifests.values() for digest in digests}
        # Those of before any steps too. An update of a service, or of an image, stands on them again.
        bases = {base for base in bases if base.startswith("sha256:")}
        bases |= self._named_bases(made & blobs.keys()) & blobs.keys()
        stale = [name for name, tag in tags.items() if not self._is_needed(name, tag.digest, manifests, bases, blobs)]
        roots = {tag.digest for name, tag in tags.items() if name not in stale} | made | bases
        needed = self._below(roots)
        lost = {entry.annotations[SUBJECT] for entry in layout.attached()} - needed
        needed |= self._below(e.digest for e in layout.attached() if e.annotations[SUBJECT] not in lost)
        if not dry_run:
            for name in stale:
                self._leases.remove(name, lambda name=name: layout.untag(name))  # type: ignore[misc]
            for subject in lost:
                self._leases.remove(subject, lambda subject=subject: layout.detach([subject]))  # type: ignore[misc]
        for digest, size_bytes in blobs.items():
            if digest in needed or self._leases.used(digest):
                continue
            if dry_run or layout.collect(digest):
                yield Freed("oci blob", digest, size_bytes)
        if not dry_run:
            layout.forget_lost()

    def _is_needed(
        self, name: str, digest: str, manifests: dict[str, set[str]], bases: set[str], blobs: Container[str]
    ) -> bool:
        """Whether an image has the tag; that of a default base serves as long as an image stands on it."""
        if not name.startswith(BASE_TAG):
            return name in manifests
        return digest in bases or self._leases.used(name) or (digest in blobs and self._has_any(digest, bases))

    def _has_any(self, index: str, bases: set[str]) -> bool:
        """Whether one of these bases is the index's for some platform. Looking marks nothing as used."""
        return any(isinstance(item, dict) and item.get("digest") in bases for item in children(self._layout, index))

    def _named_bases(self, manifests: Iterable[str]) -> set[str]:
        """What these images say that they stand on: with steps, that is not the base of their plan."""
        said = (self._layout.json(digest).get("annotations") for digest in manifests)
        return {str(each[BASE_DIGEST]) for each in said if isinstance(each, dict) and BASE_DIGEST in each}

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
            if dry_run or self._leases.remove_folder(f"env:{key}", folder):
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
            if dry_run or self._leases.remove_folder(key, folder):
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
