"""Bases: read from layouts and archives, verified, and refused with a reason when they cannot carry the image."""

import gzip
import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from argosy.errors import InvalidFile, InvalidOption, TooLarge
from argosy.images.oci.archive import archive
from argosy.images.oci.base import Base, Bases
from argosy.images.oci.layout import OciLayout
from argosy.images.oci.platforms import PLATFORMS
from images.oci.images import AMD64, ARM64, add_image, elf, layer, make_base, make_index, usual

LIMIT_BYTES = 1_000_000
AMD, ARM = PLATFORMS["linux/amd64"], PLATFORMS["linux/arm64"]


@pytest.fixture
def layout(tmp_path: Path) -> OciLayout:
    return OciLayout(tmp_path / "ours")


def opened(layout: OciLayout, reference: str, platform: str = "linux/amd64", python: str = "3.12") -> Base:
    bases = Bases(layout, LIMIT_BYTES)
    digest = bases.resolve(reference, [PLATFORMS[platform]])
    return bases.open(reference, digest, PLATFORMS[platform], python)


@pytest.mark.parametrize("packed", [False, True])
def test_a_layout_is_taken_over_blob_by_blob(layout: OciLayout, tmp_path: Path, packed: bool) -> None:
    base = opened(layout, make_base(tmp_path / "theirs", packed=packed))
    assert base.python == "/usr/bin/python3.12"
    theirs = OciLayout(tmp_path / "theirs")
    assert base.digest == theirs.tags()["base"].digest
    for part in base.layers:
        assert layout.path(part.descriptor.digest).read_bytes() == theirs.path(part.descriptor.digest).read_bytes()
        assert part.descriptor.media_type.endswith("gzip") is packed
        assert (part.diff_id != part.descriptor.digest) is packed


def test_an_index_gives_each_platform_its_own(layout: OciLayout, tmp_path: Path) -> None:
    reference = make_index(tmp_path / "theirs")
    bases = Bases(layout, LIMIT_BYTES)
    digest = bases.resolve(reference, [AMD, ARM])
    assert digest == OciLayout(tmp_path / "theirs").tags()["base"].digest
    found = [bases.open(reference, digest, platform, "3.12") for platform in (AMD, ARM)]
    assert [base.config["architecture"] for base in found] == ["amd64", "arm64"]


def test_only_what_the_platforms_need_is_taken_over(layout: OciLayout, tmp_path: Path) -> None:
    Bases(layout, LIMIT_BYTES).resolve(make_index(tmp_path / "theirs"), [ARM])
    theirs = len(list((tmp_path / "theirs" / "blobs" / "sha256").iterdir()))
    assert len(list((layout.root / "blobs" / "sha256").iterdir())) == theirs - 3


@pytest.mark.parametrize("kind", ["oci-archive", "docker-archive"])
def test_an_archive_gives_the_same_layers(layout: OciLayout, tmp_path: Path, kind: str) -> None:
    theirs = OciLayout(tmp_path / "theirs")
    descriptor = add_image(theirs, [*usual(), layer({"opt/more": b"more"})])
    size_bytes, content = archive(theirs, "base:1", descriptor)
    raw = b"".join(content)
    assert len(raw) == size_bytes
    (tmp_path / "base.tar").write_bytes(raw)
    base = opened(layout, f"{kind}:{tmp_path / 'base.tar'}")
    assert [part.diff_id for part in base.layers] == base.config["rootfs"]["diff_ids"]
    assert base.python == "/usr/bin/python3.12"
    if kind == "oci-archive":
        assert base.digest == descriptor.digest


@pytest.mark.parametrize(
    ("layers", "python"),
    [
        ([{"usr/local/bin/python3.12": elf(AMD64), "usr/bin/python3.12": elf(AMD64)}], "/usr/local/bin/python3.12"),
        ([{"usr/bin/python3.12": "../../opt/py/bin/py", "opt/py/bin/py": elf(AMD64)}], "/usr/bin/python3.12"),
        ([{"usr/bin": "/opt/bin", "opt/bin/python3.12": elf(AMD64)}], "/usr/bin/python3.12"),
        ([{"usr/bin/python3.12": elf(AMD64)}, {"usr/bin/.wh.python3": b""}], "/usr/bin/python3.12"),
        ([{"usr/bin/python3.12": b"#!/bin/sh\n"}], "/usr/bin/python3.12"),
        ([{"usr/bin/python3.12": elf(AMD64)}, {"usr/bin/.wh.python3.12": b""}], ""),
        ([{"usr/bin/python3.12": elf(AMD64)}, {"usr/bin/.wh..wh..opq": b""}], ""),
        ([{"usr/bin/python3.12": elf(AMD64)}, {"usr/.wh.bin": b""}], ""),
        ([{"usr/bin/.wh..wh..opq": b"", "usr/bin/python3.12": elf(AMD64)}], "/usr/bin/python3.12"),
        ([{"usr/bin/python3.12": "gone"}], ""),
        ([{"usr/bin/python3.12": "python3.12"}], ""),
        ([{"usr/bin/python3.12/": b""}], ""),
        ([{"opt/bin/python3.12": elf(AMD64)}], ""),
    ],
)
def test_pythons_are_found_as_they_would_be_in_the_container(
    layout: OciLayout, tmp_path: Path, layers: list[dict[str, bytes | str]], python: str
) -> None:
    reference = make_base(tmp_path / "theirs", [layer(files) for files in layers])
    if python:
        assert opened(layout, reference).python == python
    else:
        with pytest.raises(InvalidOption, match=r"no Python 3\.12.*found none"):
            opened(layout, reference)


def test_a_base_with_another_python_says_which_it_has(layout: OciLayout, tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match=r"no Python 3\.13.*found /usr/bin/python3\.12.*-r python:X\.Y"):
        opened(layout, make_base(tmp_path / "theirs"), python="3.13")


def test_a_base_of_another_architecture_is_refused(layout: OciLayout, tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match="an image for linux/arm64, and linux/amd64 is wanted"):
        opened(layout, make_base(tmp_path / "arm", architecture="arm64"))
    theirs = OciLayout(tmp_path / "liar")
    theirs.tag("base", add_image(theirs, [layer({"usr/bin/python3.12": elf(ARM64)})], "amd64"))
    with pytest.raises(InvalidOption, match=r"its /usr/bin/python3\.12 is for linux/arm64"):
        opened(layout, f"oci:{theirs.root}:base")


def test_an_index_without_the_platform_says_what_it_has(layout: OciLayout, tmp_path: Path) -> None:
    reference = make_index(tmp_path / "theirs")
    path = tmp_path / "theirs"
    theirs = OciLayout(path)
    index = theirs.json(theirs.tags()["base"].digest)
    digest, size_bytes = theirs.add_json({**index, "manifests": index["manifests"][:1]})
    theirs.tag("base", theirs.tags()["base"].__class__(index["mediaType"], digest, size_bytes))
    with pytest.raises(InvalidOption, match=r"no image for linux/arm64 \(it has: linux/amd64\)"):
        opened(layout, reference, "linux/arm64")


def test_a_base_on_musl_is_refused(layout: OciLayout, tmp_path: Path) -> None:
    files: dict[str, bytes | str] = {"usr/local/bin/python3.12": elf(AMD64), "lib/ld-musl-x86_64.so.1": b"musl"}
    with pytest.raises(InvalidOption, match="musl"):
        opened(layout, make_base(tmp_path / "theirs", [layer(files)]))


def test_a_corrupt_blob_is_refused_and_not_kept(layout: OciLayout, tmp_path: Path) -> None:
    reference = make_base(tmp_path / "theirs")
    theirs = OciLayout(tmp_path / "theirs")
    manifest = theirs.json(theirs.tags()["base"].digest)
    digest = manifest["layers"][0]["digest"]
    blob = theirs.path(digest)
    content = blob.read_bytes()
    blob.chmod(0o600)
    blob.write_bytes(content[:-1] + b"x")
    with pytest.raises(InvalidFile, match=rf"{digest}: is corrupt"):
        opened(layout, reference)
    assert not layout.has(digest)


def test_a_layer_that_unpacks_to_something_else_is_refused(layout: OciLayout, tmp_path: Path) -> None:
    theirs = OciLayout(tmp_path / "theirs")
    descriptor = add_image(theirs, usual(), packed=True)
    manifest = theirs.json(descriptor.digest)
    config = theirs.json(manifest["config"]["digest"])
    config["rootfs"]["diff_ids"] = ["sha256:" + "0" * 64]
    digest, size_bytes = theirs.add_json(config)
    manifest["config"] |= {"digest": digest, "size": size_bytes}
    digest, size_bytes = theirs.add_json(manifest)
    theirs.tag("base", theirs.descriptor(digest))
    with pytest.raises(InvalidFile, match="unpacks to"):
        opened(layout, f"oci:{theirs.root}:base")


@pytest.mark.parametrize(
    ("reference", "problem"),
    [
        ("oci:/nowhere/at/all", "is no OCI layout"),
        ("oci-archive:/nowhere.tar", "cannot be read"),
        ("docker-archive:/etc/hostname", "cannot be read as an archive"),
    ],
)
def test_what_is_no_image_is_said_so(layout: OciLayout, reference: str, problem: str) -> None:
    with pytest.raises(InvalidFile, match=problem):
        Bases(layout, LIMIT_BYTES).resolve(reference, [AMD])


def test_an_archive_without_the_files_is_said_so(layout: OciLayout, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "empty.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("hello"), io.BytesIO())
    for kind, missing in (("oci-archive", "index.json"), ("docker-archive", "manifest.json")):
        with pytest.raises(InvalidFile, match=missing):
            Bases(layout, LIMIT_BYTES).resolve(f"{kind}:{tmp_path / 'empty.tar'}", [AMD])


def test_a_layout_with_several_images_needs_a_tag(layout: OciLayout, tmp_path: Path) -> None:
    make_base(tmp_path / "theirs")
    theirs = OciLayout(tmp_path / "theirs")
    theirs.tag("other", add_image(theirs, usual("arm64"), "arm64"))
    for reference in (f"oci:{theirs.root}", f"oci:{theirs.root}:third"):
        with pytest.raises(InvalidOption, match="base, other"):
            Bases(layout, LIMIT_BYTES).resolve(reference, [AMD])


def test_a_registry_is_asked_when_there_is_one(layout: OciLayout, tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match=r"oci:DIR\[:TAG\]"):
        Bases(layout, LIMIT_BYTES).resolve("python:3.12-slim", [AMD])
    asked: list[tuple[str, list[str], int]] = []

    def pull(reference: str, platforms: Sequence[str], into: OciLayout, limit_bytes: int) -> str:
        asked.append((reference, list(platforms), limit_bytes))
        return add_image(into, usual()).digest

    bases = Bases(layout, LIMIT_BYTES, pull)
    digest = bases.resolve("python:3.12-slim", [AMD])
    assert bases.open("python:3.12-slim", digest, AMD, "3.12").python == "/usr/bin/python3.12"
    assert asked == [("python:3.12-slim", ["linux/amd64"], LIMIT_BYTES)]


def test_a_base_that_is_too_large_is_not_taken_over(layout: OciLayout, tmp_path: Path) -> None:
    with pytest.raises(TooLarge, match="The base oci:"):
        Bases(layout, 100).resolve(make_base(tmp_path / "theirs"), [AMD])
    assert len(layout.digests()) == 1, "its manifest, which says so"


def test_a_base_that_unpacks_to_any_size_is_given_up(layout: OciLayout, tmp_path: Path) -> None:
    """Each layer is within the limit, packed and unpacked; all of them are not."""
    large: list[dict[str, bytes | str]] = [{f"large-{n}": bytes(LIMIT_BYTES // 2), f"{n}": b""} for n in range(3)]
    reference = make_base(tmp_path / "theirs", [*usual(), *map(layer, large)], packed=True)
    with pytest.raises(InvalidFile, match="image_limit_bytes"):
        opened(layout, reference)


def test_a_layer_with_an_endless_name_is_given_up(layout: OciLayout, tmp_path: Path) -> None:
    entry = tarfile.TarInfo()
    entry.type, entry.size = tarfile.GNUTYPE_LONGNAME, 2 << 20
    reference = make_base(tmp_path / "theirs", [entry.tobuf() + bytes(entry.size + 10_000)], packed=True)
    bases = Bases(layout, 10 * entry.size)
    digest = bases.resolve(reference, [AMD])
    with pytest.raises(InvalidFile, match="a name or attributes of 2,097,152 bytes"):
        bases.open(reference, digest, AMD, "3.12")


def test_an_archive_that_unpacks_to_any_size_is_given_up(layout: OciLayout, tmp_path: Path) -> None:
    """Before it is unpacked: what it says it has is enough."""
    entry = tarfile.TarInfo("large")
    entry.size = 1 << 50
    (tmp_path / "base.tar.gz").write_bytes(gzip.compress(entry.tobuf() + bytes(10_000), mtime=0))
    with pytest.raises(TooLarge, match=f"{LIMIT_BYTES:,}"):
        opened(layout, f"oci-archive:{tmp_path / 'base.tar.gz'}")


def test_a_manifest_that_cannot_be_read_is_said_so(layout: OciLayout, tmp_path: Path) -> None:
    theirs = OciLayout(tmp_path / "theirs")
    broken: list[dict[str, Any]] = [{"schemaVersion": 2}, {"config": {"digest": 1}, "layers": []}, {"manifests": [{}]}]
    broken += [{"config": {}, "layers": 5}, {"config": "x", "layers": []}, {"manifests": 5}, {"manifests": ["x"]}]
    for content in broken:
        theirs.tag("base", theirs.descriptor(theirs.add_json(content)[0]))
        with pytest.raises(InvalidFile):
            Bases(layout, LIMIT_BYTES).resolve(f"oci:{theirs.root}:base", [AMD])
    (theirs.root / "index.json").write_text(json.dumps({"manifests": [{"digest": 1}]}))
    with pytest.raises(InvalidFile, match=r"index\.json"):
        Bases(layout, LIMIT_BYTES).resolve(f"oci:{theirs.root}:base", [AMD])


@pytest.mark.parametrize(
    "wrong",
    [
        {"rootfs": "none"},
        {"config": ["x"]},
        {"history": {"a": 1}},
        {"config": {"Env": {"A": "1"}}},
        {"config": {"Labels": ["A=1"]}},
        {"config": {"ExposedPorts": [1]}},
    ],
)
def test_a_config_of_another_shape_is_said_so(layout: OciLayout, tmp_path: Path, wrong: dict[str, Any]) -> None:
    theirs = OciLayout(tmp_path / "theirs")
    manifest = theirs.json(add_image(theirs, usual()).digest)
    config = theirs.json(manifest["config"]["digest"])
    digest, size_bytes = theirs.add_json(config | wrong)
    manifest["config"] |= {"digest": digest, "size": size_bytes}
    theirs.tag("base", theirs.descriptor(theirs.add_json(manifest)[0]))
    with pytest.raises(InvalidFile, match=f"{next(iter(wrong))}|Env|Labels|ExposedPorts"):
        opened(layout, f"oci:{theirs.root}:base")


def test_json_that_lies_too_deep_is_said_so(layout: OciLayout, tmp_path: Path) -> None:
    theirs = OciLayout(tmp_path / "theirs")
    deep = b'{"schemaVersion": 2, "layers": ' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    theirs.tag("base", theirs.descriptor(theirs.add([deep])[0]))
    with pytest.raises(InvalidFile, match="nested too deep"):
        Bases(layout, LIMIT_BYTES).resolve(f"oci:{theirs.root}:base", [AMD])
