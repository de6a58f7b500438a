"""Blobs in an OCI layout's folder, and small images made by hand in it."""

import gzip
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

OCI = "application/vnd.oci.image"


class FolderBlobs:
    """As OciBlobs asks for, in `<root>/blobs/sha256`. With `tag` other tools find an image in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._folder = root / "blobs" / "sha256"
        self._folder.mkdir(parents=True)
        (root / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')

    def path(self, digest: str) -> Path:
        return self._folder / digest.removeprefix("sha256:")

    def has(self, digest: str) -> bool:
        return self.path(digest).is_file()

    def size(self, digest: str) -> int:
        return self.path(digest).stat().st_size

    def open(self, digest: str) -> BinaryIO:
        return self.path(digest).open("rb")

    def verify(self, digest: str) -> None:
        """Not here: what a registry says of corrupt blobs is to be seen."""

    def add(self, chunks: Iterable[bytes], digest: str | None = None) -> tuple[str, int]:
        content = b"".join(chunks)
        found = f"sha256:{hashlib.sha256(content).hexdigest()}"
        assert digest in (None, found)
        self.path(found).write_bytes(content)
        return found, len(content)

    def digests(self) -> set[str]:
        return {f"sha256:{path.name}" for path in self._folder.iterdir()}

    def document(self, digest: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.path(digest).read_bytes())
        return found

    def tag(self, digest: str, tag: str) -> str:
        """How other tools name it."""
        entry = {
            "mediaType": self.document(digest)["mediaType"],
            "digest": digest,
            "size": self.size(digest),
            "annotations": {"org.opencontainers.image.ref.name": tag},
        }
        (self.root / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
        return f"oci:{self.root}:{tag}"

    def add_json(self, body: Any) -> tuple[str, int]:
        return self.add([json.dumps(body).encode()])

    def describe(self, added: tuple[str, int], media_type: str, **more: Any) -> dict[str, Any]:
        return {"mediaType": media_type, "digest": added[0], "size": added[1], **more}

    def image(self, content: bytes = b"hello", architecture: str = "amd64") -> str:
        """An image with one file, as one layer; the manifest's digest."""
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            member = tarfile.TarInfo("file")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        layer = self.add([gzip.compress(archive.getvalue(), mtime=0)])
        plain = f"sha256:{hashlib.sha256(archive.getvalue()).hexdigest()}"
        config = self.add_json(
            {"architecture": architecture, "os": "linux", "rootfs": {"type": "layers", "diff_ids": [plain]}}
        )
        manifest = {
            "schemaVersion": 2,
            "mediaType": f"{OCI}.manifest.v1+json",
            "config": self.describe(config, f"{OCI}.config.v1+json"),
            "layers": [self.describe(layer, f"{OCI}.layer.v1.tar+gzip")],
        }
        return self.add_json(manifest)[0]

    def layer_of(self, digest: str) -> str:
        return str(self.document(digest)["layers"][0]["digest"])

    def index(self, **images: str) -> str:
        """An index of manifests by architecture."""
        entries = [
            self.describe(
                (digest, self.size(digest)),
                f"{OCI}.manifest.v1+json",
                platform={"os": "linux", "architecture": architecture},
            )
            for architecture, digest in images.items()
        ]
        return self.add_json({"schemaVersion": 2, "mediaType": f"{OCI}.index.v1+json", "manifests": entries})[0]

    def artifact(self, subject: str, content: bytes = b"{}") -> str:
        """An artifact manifest about `subject`."""
        empty = self.add([b"{}"])
        manifest = {
            "schemaVersion": 2,
            "mediaType": f"{OCI}.manifest.v1+json",
            "artifactType": "application/vnd.cyclonedx+json",
            "config": self.describe(empty, "application/vnd.oci.empty.v1+json"),
            "layers": [self.describe(self.add([content]), "application/vnd.cyclonedx+json")],
            "subject": self.describe((subject, self.size(subject)), f"{OCI}.manifest.v1+json"),
            "annotations": {"kind": "sbom"},
        }
        return self.add_json(manifest)[0]


def random_bytes(size: int) -> bytes:
    return os.urandom(size)
