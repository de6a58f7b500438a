"""Environments of conda packages: on this machine, and as files of an image for any platform."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from argosy.errors import InvalidDependencies
from argosy.images.conda import conda_python
from argosy.images.oci.layers import Content
from argosy.images.oci.packages import Packages
from argosy.images.oci.platforms import PLATFORMS, Platform
from argosy.images.venvs import Build, check_environment, ensure_environment, environment_key, environment_python
from argosy.images.verify import verify_environment
from argosy.manifests.channels import Channels
from argosy.manifests.conda_file import read_conda_file
from argosy.manifests.conda_lock import CondaWish, lock_conda
from argosy.manifests.runtime import Runtime
from argosy.manifests.uv import Index
from argosy.records import Lock, encode
from manifests.conda_channel import ELSEWHERE, HERE, PLACEHOLDER, CondaChannel, serve_channel
from manifests.package_index import PackageIndex


def a_lock(index: PackageIndex, url: str, setting: str = "", package: str = "greet") -> Lock:
    file = read_conda_file(f"channels: [{url}]\ndependencies: [tool, {package}, pip: [alpha]]\n")
    return lock_conda(CondaWish(file, Runtime(), file.pip, (), Channels.of(setting), index.url))[0]


def a_build(lock: Lock, index: PackageIndex, root: Path, setting: str = "") -> Build:
    key = environment_key(lock, lock.python)
    python = conda_python(lock, environment_python(root, key))
    return Build(key, lock, python, Index(index.url), "", Channels.of(setting))


def run(*words: str | Path) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


def platform_of(conda: str) -> Platform:
    return next(platform for platform in PLATFORMS.values() if platform.conda == conda)


def content_of(content: Content) -> bytes:
    return content.source if isinstance(content.source, bytes) else content.source.read_bytes()


def test_an_environment_is_condas_with_the_wheels_on_top(
    index: PackageIndex, channel: CondaChannel, root: Path
) -> None:
    build = a_build(a_lock(index, channel.url), index, root)
    python = ensure_environment(root, build)
    place = root / build.key
    said = run(python, "-I", "-c", "import sys, greet, alpha, beta; print(sys.prefix, greet.VERSION, beta.VERSION)")
    assert said == f"{place} 1.0 1.1"
    assert run(python.parent / "tool") == f"tool in {place}"
    assert run(python.parent / "greet") == "hello"
    assert run(python.parent / "alpha") == "1.0"
    native = (place / "lib" / "libtool.so").read_bytes()
    assert str(place).encode() + b"/share\0" in native and native.endswith(b"end") and PLACEHOLDER not in native
    assert (place / "lib/python3.12/site-packages/greet/__pycache__").is_dir()
    assert check_environment(root, build.key) == "" and verify_environment(place) == []
    library = place / "lib/python3.12/site-packages/greet/__init__.py"
    library.unlink()  # others share the file
    library.write_text("changed")
    (place / "bin/tool").unlink()
    assert len(verify_environment(place)) == 2


def test_an_environment_that_was_moved_is_built_anew(
    index: PackageIndex, channel: CondaChannel, tmp_path: Path
) -> None:
    build = a_build(a_lock(index, channel.url), index, tmp_path / "old")
    ensure_environment(tmp_path / "old", build)
    shutil.move(tmp_path / "old", tmp_path / "new")
    assert "another folder" in check_environment(tmp_path / "new", build.key)
    python = ensure_environment(tmp_path / "new", build)
    assert run(python.parent / "tool") == f"tool in {tmp_path / 'new' / build.key}"


BUILD = """
import json, sys
from pathlib import Path
from argosy.images.conda import conda_python
from argosy.images.venvs import Build, ensure_environment, environment_key, environment_python
from argosy.manifests.uv import Index
from argosy.records import Lock, decode

root, lock = Path(sys.argv[1]), decode(Lock, json.loads(Path(sys.argv[2]).read_text()))
key = environment_key(lock, lock.python)
ensure_environment(root, Build(key, lock, conda_python(lock, environment_python(root, key)), Index(sys.argv[3])))
"""


def test_a_build_that_was_killed_leaves_nothing_that_could_be_taken_for_one(
    index: PackageIndex, channel: CondaChannel, root: Path, tmp_path: Path
) -> None:
    lock = a_lock(index, channel.url)
    (tmp_path / "lock.json").write_text(json.dumps(encode(lock)))
    index.gate.clear()  # the wheels on top wait, conda's packages are there
    index.asked_for_wheel.clear()
    shutil.rmtree(os.environ["UV_CACHE_DIR"])
    words: list[str | Path] = [sys.executable, "-c", BUILD, root, tmp_path / "lock.json", index.url]
    builder = subprocess.Popen(words, start_new_session=True)
    try:
        assert index.asked_for_wheel.wait(60)
    finally:
        os.killpg(builder.pid, signal.SIGKILL)
        builder.wait()
        index.gate.set()
    build = a_build(lock, index, root)
    assert check_environment(root, build.key) != "" and len(list(root.glob(".building-*"))) == 1
    python = ensure_environment(root, build)
    assert run(python.parent / "tool") == f"tool in {root / build.key}"
    assert not list(root.glob(".building-*"))


def test_another_lock_of_conda_is_another_environment(index: PackageIndex, channel: CondaChannel) -> None:
    before = a_lock(index, channel.url)
    channel.add("tool", "2.1", {"bin/tool": b"new"})
    channel.add("tool", "2.1", {"bin/tool": b"new"}, subdir=ELSEWHERE)
    after = a_lock(index, channel.url)
    assert before.text == after.text
    assert environment_key(before, "3.12") != environment_key(after, "3.12")


@pytest.mark.parametrize("conda", [HERE, ELSEWHERE])
def test_files_of_an_image_are_the_same_wherever_they_were_unpacked(
    index: PackageIndex, channel: CondaChannel, tmp_path: Path, conda: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = a_lock(index, channel.url)
    found = []
    for place in ("one", "a-much-longer-folder"):
        monkeypatch.setenv("RATTLER_CACHE_DIR", str(tmp_path / f"rattler-{place}"))
        with Packages(tmp_path / place, Index(index.url), lambda line: None) as packages:
            unpacked = packages.files(lock, platform_of(conda))
            found.append({path: (content_of(c), c.executable) for path, c in unpacked.items() if not c.link})
            links = {path: content.link for path, content in unpacked.items() if content.link}
    assert found[0] == found[1]
    files = found[0]
    assert links["opt/argosy/bin/python"] == "python3.12" and links["opt/argosy/lib/libtool.so"] == "libtool.so.1"
    assert files["opt/argosy/bin/tool"][0].startswith(b"#!/opt/argosy/bin/python\n") and files["opt/argosy/bin/tool"][1]
    native = files["opt/argosy/lib/libtool.so.1"][0]
    assert conda.encode() in native and b"/opt/argosy/share\0" in native
    assert "opt/argosy/lib/python3.12/site-packages/greet/__init__.py" in files
    assert "opt/argosy/lib/python3.12/site-packages/alpha/__init__.py" in files
    assert not any("__pycache__" in path or path.endswith("history") for path in files)
    whole = b"\n".join(content for content, _ in files.values())
    assert str(tmp_path / "one").encode() not in whole and b"rattler-" not in whole
    noted = json.loads(files["opt/argosy/conda-meta/tool-2.0-h0_0.json"][0])
    assert noted["sha256"] == next(p.sha256 for p in lock.conda_packages(conda) if p.name == "tool")


def test_a_platform_that_was_not_locked_is_an_error(index: PackageIndex, channel: CondaChannel, tmp_path: Path) -> None:
    channel.add("driver", "1.0", {"lib/driver.so": b"x"}, subdir=HERE)
    lock = a_lock(index, channel.url, package="driver")
    with (
        Packages(tmp_path / "work", Index(index.url), lambda line: None) as packages,
        pytest.raises(InvalidDependencies, match=f"locked for {HERE}, and {ELSEWHERE} is wanted"),
    ):
        packages.files(lock, platform_of(ELSEWHERE))


def test_credentials_stay_out_of_environments_and_images(
    index: PackageIndex, channel: CondaChannel, root: Path, tmp_path: Path
) -> None:
    with serve_channel(channel.folder) as served:
        setting = served.url(login="joe:s3cret@")
        lock = a_lock(index, served.url(), setting)
        build = a_build(lock, index, root, setting)
        ensure_environment(root, build)
        with Packages(tmp_path / "work", Index(index.url), lambda line: None, Channels.of(setting)) as packages:
            files = packages.files(lock, platform_of(HERE))
            whole = [content_of(content) for content in files.values() if not content.link]
    whole += [path.read_bytes() for path in (root / build.key).rglob("*") if path.is_file()]
    assert not any(b"s3cret" in content for content in whole)
