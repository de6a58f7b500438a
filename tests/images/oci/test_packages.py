"""Packages for any platform: files that do not depend on the machine that unpacked them."""

import base64
import csv
import hashlib
from pathlib import Path

import pytest

from argosy.errors import InvalidDependencies
from argosy.images.oci.layers import Content
from argosy.images.oci.packages import Packages
from argosy.images.oci.platforms import PLATFORMS
from argosy.manifests.lock import resolve
from argosy.manifests.requirements import parse_requirements
from argosy.manifests.uv import Index
from argosy.records import Lock
from manifests.package_index import PackageIndex

AMD, ARM = PLATFORMS["linux/amd64"], PLATFORMS["linux/arm64"]
SITE = "opt/argosy/lib/python3.12/site-packages"


def a_lock(text: str, index: PackageIndex) -> Lock:
    return resolve(parse_requirements(text), "3.12", (), index.url)


def content_of(content: Content) -> bytes:
    return content.source if isinstance(content.source, bytes) else content.source.read_bytes()


def native(index: PackageIndex, *tags: str) -> None:
    """A package `native` with a wheel of its own for each tag."""
    for tag in tags:
        index.add("native", "1.0", tag=f"cp312-cp312-{tag}", files={"native/lib.so": tag.encode()})


def test_each_platform_gets_its_own_wheels(index: PackageIndex, tmp_path: Path) -> None:
    native(index, "manylinux_2_28_x86_64", "manylinux_2_28_aarch64")
    lock = a_lock("native\nalpha\n", index)
    with Packages(tmp_path / "work", Index(index.url), lambda line: None) as packages:
        found = {platform.name: packages.files(lock, platform) for platform in (AMD, ARM)}
        read = {name: content_of(files[f"{SITE}/native/lib.so"]) for name, files in found.items()}
    assert read == {"linux/amd64": b"manylinux_2_28_x86_64", "linux/arm64": b"manylinux_2_28_aarch64"}
    assert f"{SITE}/beta/__init__.py" in found["linux/arm64"]
    assert list((tmp_path / "work").iterdir()) == []


def test_scripts_start_with_the_images_python_and_records_are_true(index: PackageIndex, tmp_path: Path) -> None:
    with Packages(tmp_path, Index(index.url), lambda line: None) as packages:
        files = packages.files(a_lock("alpha\n", index), AMD)
        script = files[f"{SITE}/bin/alpha"]
        assert script.executable
        assert content_of(script).startswith(b"#!/opt/argosy/bin/python\n")
        assert b"alpha" in content_of(script)
        record = content_of(files[f"{SITE}/alpha-1.0.dist-info/RECORD"]).decode()
        rows = [row for row in csv.reader(record.splitlines()) if row]
        assert rows == sorted(rows)
        for path, digest, size in rows:
            if digest:
                content = content_of(files[f"{SITE}/{path}"])
                own = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
                assert (digest, int(size)) == (f"sha256={own}", len(content))
        assert any(path == "bin/alpha" for path, _, _ in rows)
        assert not [path for path in files if "__pycache__" in path or path.endswith((".pyc", ".lock"))]
        assert not [path for path, content in files.items() if str(tmp_path).encode() in content_of(content)]


def test_a_package_without_a_wheel_is_named_with_the_way_out(index: PackageIndex, tmp_path: Path) -> None:
    native(index, "manylinux_2_28_x86_64")
    lock = a_lock("native\n", index)
    with Packages(tmp_path, Index(index.url), lambda line: None) as packages:
        packages.files(lock, AMD)
        with pytest.raises(
            InvalidDependencies,
            match=r"native 1\.0 has no wheel for .* on linux/arm64.*leave linux/arm64 out",
        ):
            packages.files(lock, ARM)


def test_a_wheel_that_is_too_new_for_the_platform_is_none(index: PackageIndex, tmp_path: Path) -> None:
    native(index, "manylinux_2_28_x86_64", "manylinux_2_39_aarch64")
    lock = a_lock("native\n", index)
    with (
        Packages(tmp_path, Index(index.url), lambda line: None) as packages,
        pytest.raises(InvalidDependencies, match=r"no wheel.*glibc 2\.28"),
    ):
        packages.files(lock, ARM)
