"""Brings images from this home's OCI layout into an engine, once each, under a tag made of the digest."""

import threading
from collections.abc import Callable

from argosy.environments.container.engine import Engine
from argosy.images.oci.archive import archive
from argosy.images.oci.layout import OciLayout

REPOSITORY = "localhost/argosy"


class EngineImages:
    """Thread-safe: two replicas that start at once load an image once."""

    def __init__(self, layout: OciLayout) -> None:
        self._layout = layout
        self._loading = threading.Lock()

    def ensure(self, engine: Engine, digest: str, say: Callable[[str], None] = lambda line: None) -> str:
        """The engine's name of the image manifest `digest`, which it has afterwards."""
        tag = engine_tag(digest)
        if engine.has_image(tag):
            return tag
        with self._loading:
            if not engine.has_image(tag):
                size_bytes, content = archive(self._layout, tag, self._layout.descriptor(digest))
                say(f"Loading {size_bytes / 1e6:,.0f} MB into the container engine at {engine.url}")
                engine.load(content)
        return tag


def engine_tag(digest: str) -> str:
    return f"{REPOSITORY}:{digest.removeprefix('sha256:')}"
