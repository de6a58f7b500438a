"""A home that builds images with steps, and what one can look up in them."""

import contextlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import docker

from argosy.images.docker.build import DockerSteps
from argosy.images.oci.create import OciImages
from argosy.images.oci.layout import OciLayout
from argosy.manifests.lock import resolve
from argosy.manifests.requirements import parse_requirements
from argosy.records import Image, Manifest
from argosy.settings import Settings
from manifests.package_index import PackageIndex
from store.shelf import SCRIPT, Shelf


class House:
    """`said` is what the operation was told by the last build."""

    def __init__(self, folder: Path, index: PackageIndex, debian: tuple[str, str]) -> None:
        folder.mkdir()
        self.folder, self.base, self.python, self.said = folder, debian[0], debian[1], list[str]()
        self.shelf = Shelf(folder)
        self.layout = OciLayout(folder / "oci")
        lock = resolve(parse_requirements("alpha\n"), self.python, (), index.url)
        self.settings = Settings(index_url=index.url)
        files = [self.shelf.file("score.py", SCRIPT), self.shelf.file("data/words.txt", b"ahoy\n")]
        self.manifest: Manifest = self.shelf.manifest("iris", b"weights", lock=lock, files=files)
        self.images = self._images()

    def _images(self) -> OciImages:
        blobs, images = self.shelf.blobs.path, self.shelf.images
        return OciImages(self.layout, self.settings, self.shelf.database, images, blobs, "0.1.0", self.folder / "logs")

    def set_index(self, url: str) -> None:
        self.settings = Settings(index_url=url)
        self.images = self._images()

    def build(self, steps: str | None, fresh: bool = False, base: str = "") -> Image:
        self.said.clear()
        wanted = DockerSteps(steps, "steps.txt", fresh) if steps is not None else None
        platforms = ["linux/amd64"]
        return self.images.create("iris", self.manifest, "", base or self.base, platforms, self.said.append, wanted)

    def layer(self, image: Image, title: str) -> dict[str, bytes | None]:
        """The entries of the layers whose title begins so: content of files, None for all else."""
        content = self.images.contents(image)[0]
        found: dict[str, bytes | None] = {}
        for layer in content.layers:
            if layer.title.startswith(title):
                with tarfile.open(self.layout.path(layer.digest)) as tar:
                    for entry in tar:
                        file = tar.extractfile(entry) if entry.isfile() else None
                        found[entry.name] = file.read() if file else None
        return found

    def config(self, image: Image) -> dict[str, Any]:
        manifest = self.layout.json(image.oci["linux/amd64"])
        return self.layout.json(manifest["config"]["digest"])

    def everything(self) -> dict[str, bytes]:
        """All that the home keeps, by path, the members of archives unpacked."""
        found = {}
        for path in self.folder.rglob("*"):
            if path.is_file():
                content = found[str(path)] = path.read_bytes()
                if tarfile.is_tarfile(io.BytesIO(content)):
                    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
                        found[f"{path}!names"] = json.dumps([(e.name, e.linkname, e.pax_headers) for e in tar]).encode()
        return found


def left_behind(engine: str) -> list[str]:
    """Images and containers in an engine."""
    with contextlib.closing(docker.APIClient(engine, version="auto")) as api:
        images = [name for image in api.images(all=True) for name in image["RepoTags"] or [image["Id"]]]
        return [*images, *(found["Id"] for found in api.containers(all=True))]
