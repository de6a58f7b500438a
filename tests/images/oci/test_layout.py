"""The layout: whole at any moment, and true to its digests."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from argosy.errors import InvalidFile, StorageFailed
from argosy.images.oci.blobs import OciBlobs
from argosy.images.oci.layout import INDEX, MANIFEST, REF_NAME, Descriptor, OciLayout
from conftest import Require
from images.oci.images import make_base

WRITER = """
import sys
from pathlib import Path
from images.oci.images import add_image, usual, layer
from argosy.images.oci.layout import OciLayout
layout = OciLayout(Path(sys.argv[1]))
print("begins", flush=True)
for number in range(1_000_000):
    image = add_image(layout, [*usual(), layer({"n": str(number).encode() * 200_000})])
    layout.tag(f"image:{number % 3 + 1}", image)
"""


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def test_an_empty_layout_is_valid(tmp_path: Path) -> None:
    layout = OciLayout(tmp_path / "oci")
    assert json.loads((layout.root / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    index = json.loads((layout.root / "index.json").read_bytes())
    assert index == {"schemaVersion": 2, "mediaType": INDEX, "manifests": []}
    assert layout.tags() == {}


def test_blobs_are_stored_once_under_their_digest(tmp_path: Path) -> None:
    layout: OciBlobs = OciLayout(tmp_path)
    digest, size_bytes = layout.add([b"he", b"llo"])
    assert (digest, size_bytes) == (digest_of(b"hello"), 5)
    assert layout.add([b"hello"], digest) == (digest, 5)
    assert layout.has(digest) and layout.size(digest) == 5
    with layout.open(digest) as stream:
        assert stream.read() == b"hello"
    assert (tmp_path / "blobs" / "sha256" / digest[7:]).read_bytes() == b"hello"
    assert [p.name for p in (tmp_path / "blobs").iterdir()] == ["sha256"]


def test_a_blob_that_is_not_what_it_should_be_is_not_kept(tmp_path: Path) -> None:
    layout = OciLayout(tmp_path)
    wanted = digest_of(b"other")
    with pytest.raises(InvalidFile, match=r"sha256:.* is corrupt"):
        layout.add([b"hello"], wanted)
    assert not layout.has(wanted) and not layout.has(digest_of(b"hello"))
    assert list((tmp_path / ".incoming").iterdir()) == []


def test_a_source_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield b"x"
        raise OSError("the network went away")

    layout = OciLayout(tmp_path)
    with pytest.raises(OSError, match="went away"):
        layout.add(broken())
    assert list((tmp_path / ".incoming").iterdir()) == []


@pytest.mark.parametrize("digest", ["", "sha256:xyz", "sha512:" + "a" * 64, "sha256:" + "A" * 64, "sha256:../../x"])
def test_what_is_no_digest_is_refused(tmp_path: Path, digest: str) -> None:
    with pytest.raises(InvalidFile, match="digest"):
        OciLayout(tmp_path).has(digest)


def test_tags_move_and_go_and_never_point_at_nothing(tmp_path: Path) -> None:
    layout = OciLayout(tmp_path)
    one, two = ({"schemaVersion": 2, "n": n} for n in (1, 2))
    first = Descriptor(MANIFEST, *layout.add_json(one))
    second = Descriptor(MANIFEST, *layout.add_json(two))
    layout.tag("iris:1", first)
    layout.tag("other:1", first)
    layout.tag("iris:1", second)
    assert {name: d.digest for name, d in layout.tags().items()} == {"iris:1": second.digest, "other:1": first.digest}
    layout.untag("other:1")
    layout.untag("never")
    assert list(layout.tags()) == ["iris:1"]
    assert json.loads((tmp_path / "index.json").read_bytes())["manifests"][0]["annotations"] == {REF_NAME: "iris:1"}
    with pytest.raises(StorageFailed, match="missing from the image store"):
        layout.tag("bad:1", Descriptor(MANIFEST, "sha256:" + "0" * 64, 1))
    assert list(layout.tags()) == ["iris:1"]


def test_other_entries_of_the_index_are_kept(tmp_path: Path) -> None:
    layout = OciLayout(tmp_path)
    index = json.loads((tmp_path / "index.json").read_bytes())
    foreign = {"mediaType": MANIFEST, "digest": "sha256:" + "1" * 64, "size": 3, "urls": ["x"]}
    (tmp_path / "index.json").write_text(json.dumps({**index, "manifests": [foreign], "annotations": {"a": "b"}}))
    layout.tag("iris:1", Descriptor(MANIFEST, *layout.add_json({})))
    after = json.loads((tmp_path / "index.json").read_bytes())
    assert after["manifests"][0] == foreign and after["annotations"] == {"a": "b"}


def check_whole(root: Path) -> int:
    """How many tags there are; every one has all it needs, and every blob is what its name says."""
    for blob in (root / "blobs" / "sha256").iterdir():
        assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name
    index = json.loads((root / "index.json").read_bytes())
    assert json.loads((root / "oci-layout").read_bytes())["imageLayoutVersion"] == "1.0.0"
    for entry in index["manifests"]:
        manifest = json.loads((root / "blobs" / "sha256" / entry["digest"][7:]).read_bytes())
        for needed in (manifest["config"], *manifest["layers"]):
            assert (root / "blobs" / "sha256" / needed["digest"][7:]).stat().st_size == needed["size"]
    return len(index["manifests"])


def test_the_layout_is_whole_after_kill_9_at_any_moment(tmp_path: Path, require: Require) -> None:
    skopeo = require("skopeo")
    tests = Path(__file__).resolve().parents[2]
    environ = {**os.environ, "PYTHONPATH": f"{tests}{os.pathsep}{tests.parent / 'src'}"}
    chance = random.Random(5)
    tags = 0
    for _ in range(8):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], env=environ, stdout=subprocess.PIPE)
        assert writer.stdout is not None and writer.stdout.readline() == b"begins\n"
        time.sleep(chance.uniform(0.02, 0.4))
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        tags = check_whole(tmp_path)
    assert tags == 3
    seen = subprocess.run([skopeo, "inspect", f"oci:{tmp_path}:image:1"], capture_output=True, text=True, check=False)
    assert seen.returncode == 0, seen.stderr
    OciLayout(tmp_path)
    assert list((tmp_path / ".incoming").iterdir()) == [], "what was half written is swept"


def test_a_layout_made_here_is_read_by_skopeo(tmp_path: Path, require: Require) -> None:
    skopeo = require("skopeo")
    seen = subprocess.run([skopeo, "inspect", make_base(tmp_path)], capture_output=True, text=True, check=True)
    assert json.loads(seen.stdout)["Architecture"] == "amd64"
