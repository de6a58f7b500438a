"""Brings images from this home's OCI layout into an engine, once each, and takes those away that are not needed."""

import hashlib
import os
import threading
from collections.abc import Callable, Collection

from argosy.environments.container.engine import ContainerEngine
from argosy.errors import EngineFailed
from argosy.images.oci.archive import archive
from argosy.images.oci.layout import OciLayout

# How often somebody who waits for another's load looks whether the engine has died over it.
_LOOK_EVERY_S = 1.0


class EngineImages:
    """`wanted` gives the digests of all images of this home. Thread-safe: two replicas that start at once load an image
    once. The tags carry the home, so that no other home's image is ever taken for one of ours."""

    def __init__(self, layout: OciLayout, wanted: Callable[[], Collection[str]]) -> None:
        self._layout, self._wanted = layout, wanted
        self.repository = f"localhost/argosy-{hashlib.sha256(os.fsencode(layout.root.parent)).hexdigest()[:12]}"
        self._guard = threading.Lock()
        # By the engine's URL: a load takes minutes, of one that hangs most of all.
        self._loading: dict[str, threading.Lock] = {}

    def tag(self, digest: str) -> str:
        """The engine's name of an image manifest."""
        return f"{self.repository}:{digest.removeprefix('sha256:')}"

    def ensure(self, engine: ContainerEngine, digest: str, say: Callable[[str], None] = lambda line: None) -> str:
        """The tag of the image manifest `digest`, which the engine has afterwards."""
        tag = self.tag(digest)
        if engine.has_image(tag):
            return tag
        loading = self._lock(engine)
        while not loading.acquire(timeout=_LOOK_EVERY_S):
            if (down := engine.down) is not None:
                raise down.with_traceback(None)
        try:
            if not engine.has_image(tag):
                size_bytes, content = archive(self._layout, tag, self._layout.descriptor(digest))
                say(f"Loading {size_bytes / 1e6:,.0f} MB into the container engine at {engine.url}")
                engine.load(content)
                if not engine.has_image(tag):
                    raise EngineFailed(
                        engine.url,
                        f"The container engine at {engine.url} took the image and reported nothing, but does not have "
                        f"{tag}. Its own log says why (`journalctl -u docker` or `-u podman`).",
                    )
        finally:
            loading.release()
        return tag

    def prune(self, engine: ContainerEngine) -> None:
        """Remove what was loaded for images that have been deleted; one that a container still has is left. Nothing
        happens while one is loaded: there is a next time."""
        loading = self._lock(engine)
        if not loading.acquire(blocking=False):
            return
        try:
            keep = {self.tag(digest) for digest in self._wanted()}
            for tag in engine.tags(self.repository):
                if tag not in keep:
                    engine.remove_image(tag)
        finally:
            loading.release()

    def _lock(self, engine: ContainerEngine) -> threading.Lock:
        with self._guard:
            return self._loading.setdefault(engine.url, threading.Lock())
