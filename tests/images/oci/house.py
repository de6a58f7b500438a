"""One home with a builder of OCI images in it."""

import tarfile
from pathlib import Path
from typing import Any

from argosy.images.oci.create import OciImages
from argosy.images.oci.layout import OciLayout
from argosy.manifests.lock import resolve
from argosy.manifests.requirements import parse_requirements
from argosy.records import Image, Manifest
from argosy.settings import Settings
from manifests.package_index import PackageIndex
from store.shelf import Shelf


class House:
    """Everything lies below `folder`, which is made."""

    def __init__(self, folder: Path, index: PackageIndex) -> None:
        folder.mkdir()
        self.shelf = Shelf(folder)
        self.layout = OciLayout(folder / "oci")
        self.lock = resolve(parse_requirements("alpha\n"), "3.12", (), index.url)
        self.index_url = index.url
        self.said: list[str] = []
        self.images = OciImages(
            self.layout,
            Settings(index_url=index.url),
            self.shelf.database,
            self.shelf.images,
            self.shelf.blobs.path,
            "0.1.0",
            folder / "logs",
        )

    def manifest(self, content: bytes = b"weights", name: str = "iris", **changes: object) -> Manifest:
        given = {"lock": self.lock, "environment": {"MODE": "fast"}, "secrets": {"TOKEN": "env:TOKEN"}, **changes}
        return self.shelf.manifest(name, content, **given)

    def build(self, manifest: Manifest, base: str, platforms: list[str] | None = None) -> Image:
        self.said.clear()
        return self.images.create(manifest.name, manifest, "", base, platforms or ["linux/amd64"], self.said.append)

    def config(self, image: Image, platform: str = "linux/amd64") -> dict[str, Any]:
        manifest = self.layout.json(image.oci[platform])
        return self.layout.json(manifest["config"]["digest"])

    def blobs(self) -> set[str]:
        return {path.name for path in (self.layout.root / "blobs" / "sha256").iterdir()}

    def names(self, digest: str) -> list[str]:
        with tarfile.open(self.layout.path(digest)) as tar:
            return [entry.name for entry in tar]
