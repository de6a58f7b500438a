"""Garbage collection: what is needed stays whatever else goes on, the rest goes."""

import contextlib
import fcntl
import json
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from argosy.errors import StorageFailed
from argosy.images.collect import BLOB_GRACE_S, Collector
from argosy.images.docker.build import DockerSteps
from argosy.images.oci.archive import archive
from argosy.images.oci.layout import Descriptor, OciLayout
from argosy.images.oci.platforms import PLATFORMS
from argosy.images.oci.tree import reachable
from argosy.records import Freed, Image, Reference
from argosy.settings import Home
from images.oci.house import House
from images.oci.images import make_base, make_index

BOTH = ["linux/amd64", "linux/arm64"]


class Yard:
    """A house with a collector."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.layout = house.layout
        self.home = Home(house.shelf.folder)
        for folder in (self.home.envs, self.home.images):
            folder.mkdir(exist_ok=True)
        self.used: set[str] = set()
        shelf = house.shelf
        self.collector = Collector(
            self.home, self.layout.leases, self.layout, shelf.images, shelf.blobs, lambda: self._used()
        )

    def _used(self) -> set[str]:
        return self.used | self.house.shelf.models.referenced_blobs() | self.house.shelf.manifests.files_in_use()

    def collect(self, dry_run: bool = False) -> list[Freed]:
        return self.collector.run(dry_run)

    def delete(self, image: Image) -> None:
        self.house.shelf.images.delete(Reference(image.name, image.version))
        self.layout.untag(image.reference)

    def check(self, *images: Image) -> None:
        """Every image is here, tagged, with each byte of it."""
        tags = self.layout.tags()
        for image in images:
            for digest in (tags[image.reference].digest, *image.oci.values()):
                tree = reachable(self.layout, digest)
                manifest = self.layout.json(digest)
                wanted = [*manifest.get("layers", []), *manifest.get("manifests", [])]
                assert {item["digest"] for item in wanted} <= set(tree)
                for blob in tree:
                    self.layout.verify(blob)
            for digest in image.oci.values():
                assert len(self.layout.attached(digest)) == 2


@pytest.fixture
def yard(house: Callable[[str], House]) -> Yard:
    return Yard(house("one"))


def test_nothing_that_an_image_needs_is_collected(yard: Yard, tmp_path: Path) -> None:
    image = yard.house.build(yard.house.manifest(), make_index(tmp_path / "base"), BOTH)
    before = yard.house.blobs()
    assert yard.collect() == [] and yard.house.blobs() == before
    yard.check(image)


def test_a_deleted_image_leaves_what_others_share(yard: Yard, tmp_path: Path) -> None:
    base = make_base(tmp_path / "base")
    first = yard.house.build(yard.house.manifest(), base)
    only_first = yard.house.blobs()
    second = yard.house.build(yard.house.manifest(b"retrained"), base)
    yard.delete(second)
    planned = yard.collect(dry_run=True)
    assert yard.house.blobs() > only_first, "a dry run deletes nothing"
    assert yard.collect() == planned
    assert all(each.what == "oci blob" and each.size_bytes > 0 for each in planned)
    assert yard.house.blobs() == only_first
    assert not list((yard.layout.root / ".incoming").iterdir()), "gone, and not only out of sight"
    yard.check(first)
    # What was remembered of the layers is gone with them: they are written again.
    again = yard.house.build(yard.house.manifest(b"retrained"), base)
    yard.check(first, again)


@pytest.mark.parametrize("when", range(6))
def test_a_build_loses_nothing_to_a_collection_meanwhile(yard: Yard, tmp_path: Path, when: int) -> None:
    """The collector runs at each line that the build says; its layers were left by an image that is deleted."""
    base = make_base(tmp_path / "base")
    manifest = yard.house.manifest()
    yard.delete(yard.house.build(manifest, base))
    retrained = yard.house.manifest(b"retrained")
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        if len(said) >= when:
            yard.collect()

    image = yard.house.images.create("iris", retrained, "", base, ["linux/amd64"], say)
    yard.check(image)
    yard.collect()
    yard.check(image)


def test_a_default_base_stays_as_long_as_an_image_stands_on_it(yard: Yard, tmp_path: Path) -> None:
    base = make_index(tmp_path / "base")
    digest = yard.house.images._bases.default(base, [PLATFORMS["linux/amd64"]])
    image = yard.house.build(yard.house.manifest(), base)
    yard.collect()
    assert f"base/{base}" in yard.layout.tags() and yard.layout.has(digest)
    yard.delete(image)
    yard.collect()
    assert yard.layout.tags() == {} and yard.layout.digests() == {}


def test_a_base_is_there_for_the_next_update(yard: Yard, tmp_path: Path) -> None:
    """As a service in containers is updated: on the base of the image that is live, which nobody can fetch again."""
    base = make_index(tmp_path / "base")
    image = yard.house.build(yard.house.manifest(), base)
    key = next(layer.key for layer in image.layers if layer.kind == "base")
    shutil.rmtree(tmp_path / "base")
    yard.collect()
    manifest, platforms = yard.house.manifest(b"retrained"), ["linux/amd64"]
    updated = yard.house.images.create("iris", manifest, "", key, platforms, print, base_digest=key)
    yard.collect()
    yard.check(image, updated)
    yard.delete(image)
    yard.delete(updated)
    yard.collect()
    assert yard.layout.digests() == {}


@pytest.mark.parametrize("make", [make_base, make_index])
def test_a_base_below_steps_stays_as_long_as_the_image(yard: Yard, tmp_path: Path, make: Callable[[Path], str]) -> None:
    base, platforms = make(tmp_path / "base"), ["linux/amd64"]
    digest = yard.house.images._bases.default(base, [PLATFORMS["linux/amd64"]])
    steps, manifest = DockerSteps("ENV MOOD=calm\n"), yard.house.manifest()
    image = yard.house.images.create("iris", manifest, "", base, platforms, print, steps)
    yard.collect()
    assert yard.layout.tags()[f"base/{base}"].digest == digest
    yard.house.images._bases.parts(base, digest, PLATFORMS["linux/amd64"])
    key = next(layer.key for layer in image.layers if layer.kind == "base")
    retrained = yard.house.manifest(b"retrained")
    updated = yard.house.images.create("iris", retrained, "", key, platforms, print, base_digest=key)
    yard.check(image, updated)
    yard.delete(image)
    yard.delete(updated)
    yard.collect()
    assert yard.layout.tags() == {} and yard.layout.digests() == {}


def test_a_default_base_that_a_build_begins_to_use_stays(
    yard: Yard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The build asks for the base when the collector has found already that nobody needs it."""
    base, platforms = make_index(tmp_path / "base"), [PLATFORMS["linux/amd64"]]
    bases, attached = yard.house.images._bases, yard.layout.attached
    digest = bases.default(base, platforms)
    shutil.rmtree(tmp_path / "base")
    with contextlib.ExitStack() as build:

        def begin(subject: str = "") -> list[Descriptor]:
            build.enter_context(yard.layout.leases.hold())
            assert bases.default(base, platforms) == digest
            return attached(subject)

        monkeypatch.setattr(yard.layout, "attached", begin)
        yard.collect()
        monkeypatch.undo()
        assert yard.layout.tags()[f"base/{base}"].digest == digest
        assert bases.open(base, digest, platforms[0], "3.12").python == "/usr/bin/python3.12"
    yard.collect()
    assert yard.layout.tags() == {} and yard.layout.digests() == {}


def test_what_is_being_written_beside_a_collection_stays(yard: Yard, tmp_path: Path) -> None:
    """A build remembers a layer: a file beside its place, then a rename."""
    yard.house.build(yard.house.manifest(), make_base(tmp_path / "base"))
    writing = yard.layout.root / ".known" / f".{'a' * 64}.0123abcd"
    writing.write_text('{"digest": ')
    yard.collect()
    assert writing.exists()
    OciLayout(yard.layout.root)
    assert not writing.exists(), "nobody writes when a control plane starts"


def test_a_collection_does_not_wait_for_who_builds_an_environment(yard: Yard) -> None:
    """Such as the installer that a killed control plane has left behind."""
    key = "f" * 64
    (yard.home.envs / key).mkdir()
    (yard.home.envs / ".locks").mkdir()
    with (yard.home.envs / ".locks" / key).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        collecting = threading.Thread(target=yard.collect, daemon=True)
        collecting.start()
        collecting.join(60)
        assert not collecting.is_alive()
    assert not (yard.home.envs / key).exists()


def test_an_archive_that_is_read_stays(yard: Yard, tmp_path: Path) -> None:
    image = yard.house.build(yard.house.manifest(), make_base(tmp_path / "base"))
    size_bytes, content = archive(yard.layout, "iris:1", yard.layout.descriptor(image.oci["linux/amd64"]))
    read = len(next(content))
    yard.delete(image)
    yard.collect()
    read += sum(len(piece) for piece in content)
    assert read == size_bytes
    yard.collect()
    assert yard.layout.digests() == {}


def test_a_row_without_a_tag_keeps_its_blobs_and_a_tag_without_a_row_goes(yard: Yard, tmp_path: Path) -> None:
    """As `kill -9` leaves them between the two."""
    manifest, base = yard.house.manifest(), make_base(tmp_path / "base")
    image = yard.house.build(manifest, base)
    tag = yard.layout.tags()[image.reference]
    yard.layout.untag(image.reference)
    yard.collect()
    assert all(yard.layout.has(digest) for digest in image.oci.values())
    yard.check(yard.house.build(manifest, base))
    yard.layout.tag("gone:1", tag)
    yard.collect()
    assert "gone:1" not in yard.layout.tags()


def test_a_corrupt_manifest_stops_it(yard: Yard, tmp_path: Path) -> None:
    """Nobody knows what it needed: its layers must not be taken for garbage."""
    manifest, base = yard.house.manifest(), make_base(tmp_path / "base")
    image = yard.house.build(manifest, base)
    before = yard.house.blobs()
    _spoil(yard.layout, image.oci["linux/amd64"])
    with pytest.raises(StorageFailed, match="was corrupt"):
        yard.collect()
    assert len(before - yard.house.blobs()) == 1
    yard.check(yard.house.build(manifest, base))


def test_corrupt_layers_are_found_and_built_anew(yard: Yard, tmp_path: Path) -> None:
    manifest, base = yard.house.manifest(), make_base(tmp_path / "base")
    image = yard.house.build(manifest, base)
    tree = reachable(yard.layout, image.oci["linux/amd64"])
    for digest in tree:
        _spoil(yard.layout, digest)
        with pytest.raises(StorageFailed, match="Build or pull the image again"):
            yard.layout.verify(digest)
        yard.check(yard.house.build(manifest, base))


def test_environments_and_folders_that_no_image_names_go(yard: Yard) -> None:
    image = yard.house.shelf.image()
    names = {"e" * 64: True, "f" * 64: False, "d" * 64: True}
    for name in names:
        (yard.home.envs / name).mkdir()
        (yard.home.envs / name / "file").write_bytes(b"x" * 1000)
    for name in (image.digest[:32], "a" * 32):
        (yard.home.images / name).mkdir()
        (yard.home.images / name / "image.json").write_text("{}")
    with yard.layout.leases.hold():
        yard.layout.leases.use(f"env:{'d' * 64}")
        freed = yard.collect()
    found = {(each.what, each.name): each.size_bytes for each in freed}
    assert found == {("environment", "f" * 64): 1000, ("image folder", "a" * 32): 2}
    assert {path.name for path in yard.home.envs.iterdir() if len(path.name) == 64} == {"e" * 64, "d" * 64}
    assert [path.name for path in yard.home.images.iterdir()] == [image.digest[:32]]


def test_uploads_go_when_they_are_old_and_nobody_names_them(yard: Yard) -> None:
    blobs = yard.house.shelf.blobs
    old, young, named = (blobs.put([content]).sha256 for content in (b"old", b"young", b"named"))
    model = yard.house.shelf.model(content=b"registered").files[0].sha256
    long_ago = time.time() - BLOB_GRACE_S - 60
    for sha256 in (old, named, model):
        os.utime(blobs.path(sha256), (long_ago, long_ago))
    yard.used = {named}
    assert yard.collect(dry_run=True) == [Freed("file", old, 3)] and blobs.has(old)
    assert yard.collect() == [Freed("file", old, 3)]
    assert [blobs.has(sha256) for sha256 in (old, young, named, model)] == [False, True, True, True]


def test_it_can_be_ended_in_between_and_repeated(yard: Yard, tmp_path: Path) -> None:
    image = yard.house.build(yard.house.manifest(), make_base(tmp_path / "base"))
    yard.delete(image)
    planned = yard.collect(dry_run=True)

    class Stop(Exception):
        pass

    def stop() -> None:
        raise Stop

    with pytest.raises(Stop):
        yard.collector.run(False, stop)
    assert len(yard.layout.digests()) == len(planned) - 1
    assert json.loads((yard.layout.root / "index.json").read_text())["manifests"] == []
    yard.collect()
    assert yard.layout.digests() == {}


def _spoil(layout: OciLayout, digest: str) -> None:
    path = layout.path(digest)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(content)
