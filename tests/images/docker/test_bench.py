"""The layer of a step, out of what engines save: plain, packed by Docker's store of containerd, or broken."""

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from argosy.errors import InvalidFile
from argosy.images.docker.bench import layer_of
from argosy.images.oci.layout import TAR, OciLayout
from images.oci.images import layer

CONTENT = layer({"srv/here": b"ahoy" * 500_000})
DIFF_ID = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


@pytest.fixture
def layout(tmp_path: Path) -> OciLayout:
    return OciLayout(tmp_path / "oci")


def saved(folder: Path, newest: bytes) -> Path:
    """As `docker save` writes it."""
    files = {"blobs/sha256/a": b"the base's", "blobs/sha256/b": newest}
    files["manifest.json"] = json.dumps([{"Config": "c", "RepoTags": ["x:1"], "Layers": list(files)}]).encode()
    with tarfile.open(folder / "saved.tar", "w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return folder / "saved.tar"


@pytest.mark.parametrize(
    "newest",
    [CONTENT, gzip.compress(CONTENT), gzip.compress(CONTENT[:5000]) + gzip.compress(CONTENT[5000:])],
    ids=["plain", "gzip", "gzip in parts"],
)
def test_the_layer_is_kept_unpacked(layout: OciLayout, tmp_path: Path, newest: bytes) -> None:
    found = layer_of(layout, saved(tmp_path, newest), [DIFF_ID])
    assert (found.media_type, found.digest, found.size_bytes) == (TAR, DIFF_ID, len(CONTENT))
    assert layout.path(DIFF_ID).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("newest", "why"),
    [
        (CONTENT[:-512], "is corrupt"),
        (gzip.compress(CONTENT[:-512]), "is corrupt"),
        (gzip.compress(CONTENT)[:-20], "cannot be read as the engine saved it"),
        (b"\x1f\x8bnothing of the kind", "cannot be read as the engine saved it"),
    ],
    ids=["cut short", "another", "gzip cut short", "no gzip"],
)
def test_another_layer_than_the_engine_named_is_not_kept(
    layout: OciLayout, tmp_path: Path, newest: bytes, why: str
) -> None:
    with pytest.raises(InvalidFile, match=why):
        layer_of(layout, saved(tmp_path, newest), [DIFF_ID])
    assert layout.digests() == {}
