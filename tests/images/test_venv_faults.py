"""Builders that are killed, builders in other processes, and a disk that fills up."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from argosy.images.pythons import Python
from argosy.images.venvs import Build, check_environment, ensure_environment, environment_key, list_environments
from argosy.manifests.lock import resolve
from argosy.manifests.requirements import parse_requirements
from argosy.manifests.uv import Index
from argosy.records import encode
from manifests.package_index import PackageIndex

BUILDER = """
import json, sys
from pathlib import Path
from argosy.errors import Error
from argosy.images.pythons import Python
from argosy.images.venvs import Build, ensure_environment
from argosy.manifests.uv import Index
from argosy.records import Lock, decode
root, key, lock, path, version, url = json.load(sys.stdin)
build = Build(key, decode(Lock, lock), Python(Path(path), version), Index(url))
try:
    print(ensure_environment(Path(root), build, lambda line: print(line, file=sys.stderr)))
except Error as problem:
    print(type(problem).__name__, problem)
"""


def a_build(index: PackageIndex, python: Python) -> Build:
    lock = resolve(parse_requirements("alpha\n"), python.minor, (), index.url)
    index.asked_for_wheel.clear()
    return Build(environment_key(lock, python.minor), lock, python, Index(index.url))


def start(root: Path, build: Build, prefix: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """A process that builds, in a group of its own."""
    child = subprocess.Popen(
        [*prefix, sys.executable, "-c", BUILDER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert child.stdin
    task = [str(root), build.key, encode(build.lock), str(build.python.path), build.python.version, build.index.url]
    json.dump(task, child.stdin)
    child.stdin.close()
    child.stdin = None
    return child


def kill(child: subprocess.Popen[str], group: bool) -> None:
    (os.killpg if group else os.kill)(child.pid, signal.SIGKILL)
    child.communicate()


def building(root: Path, key: str) -> list[Path]:
    return list(root.glob(f".building-{key}-*"))


def test_processes_build_it_once(index: PackageIndex, base_python: Python, root: Path) -> None:
    build = a_build(index, base_python)
    index.asked.clear()
    children = [start(root, build) for _ in range(2)]
    answers = {child.communicate()[0].strip() for child in children}
    assert answers == {str(root / build.key / "bin" / "python")}
    assert len([path for path in index.asked if path.endswith(".whl")]) == 2


def test_a_killed_build_leaves_nothing_that_counts(index: PackageIndex, base_python: Python, root: Path) -> None:
    build = a_build(index, base_python)
    index.gate.clear()
    child = start(root, build)
    assert index.asked_for_wheel.wait(60)
    kill(child, group=True)
    index.gate.set()
    assert building(root, build.key)
    assert check_environment(root, build.key) == "it was never built"
    assert list_environments(root) == []
    assert ensure_environment(root, build).exists()
    assert building(root, build.key) == []


def test_an_orphaned_uv_is_waited_for(index: PackageIndex, base_python: Python, root: Path) -> None:
    build = a_build(index, base_python)
    index.gate.clear()
    child = start(root, build)
    assert index.asked_for_wheel.wait(60)
    orphans = psutil.Process(child.pid).children()
    assert orphans
    kill(child, group=False)
    waiting = threading.Event()
    made: list[Path] = []

    def say(line: str) -> None:
        if line.startswith("Waiting"):
            waiting.set()

    thread = threading.Thread(target=lambda: made.append(ensure_environment(root, build, say)))
    thread.start()
    assert waiting.wait(60)
    assert orphans[0].is_running()
    index.gate.set()
    thread.join(60)
    assert made
    assert made[0].exists()
    assert building(root, build.key) == []


def test_a_full_disk_is_said_and_leaves_nothing(
    index: PackageIndex, base_python: Python, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk of two megabytes, seen by the builder alone; the cache of uv lies elsewhere."""
    unshare = ["unshare", "--user", "--map-root-user", "--mount"]
    if not shutil.which("unshare") or subprocess.run([*unshare, "true"], capture_output=True).returncode:
        pytest.skip("needs user namespaces: sysctl kernel.unprivileged_userns_clone=1, or a container that has them")
    index.add("large", "1.0", files={"large/data.bin": os.urandom(4_000_000)})
    lock = resolve(parse_requirements("large\n"), base_python.minor, (), index.url)
    build = Build(environment_key(lock, base_python.minor), lock, base_python, Index(index.url))
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = f'mount -t tmpfs -o size=2m none "{disk}" && "$@"; ls -A "{disk}/envs" >&3'
    listing = tmp_path / "listing"
    with listing.open("w") as out:
        monkeypatch.setenv("UV_LINK_MODE", "copy")
        child = start(disk / "envs", build, (*unshare, "sh", "-c", f'exec 3>"{listing}"; {mount}', "sh"))
        answer = child.communicate()[0]
        out.flush()
    assert answer.startswith("EnvironmentFailed")
    assert "no space left" in answer
    assert "argosy image delete" in answer
    assert listing.read_text().split() == [".locks"]


def test_a_limit_on_file_sizes_is_no_mystery(index: PackageIndex, base_python: Python, root: Path) -> None:
    index.add("large", "1.0", files={"large/data.bin": os.urandom(4_000_000)})
    lock = resolve(parse_requirements("large\n"), base_python.minor, (), index.url)
    build = Build(environment_key(lock, base_python.minor), lock, base_python, Index(index.url))
    child = start(root, build, ("sh", "-c", 'ulimit -f 1000; exec "$@"', "sh"))
    answer = child.communicate()[0]
    assert answer.startswith("EnvironmentFailed")
    assert "no space left" in answer
    assert list_environments(root) == []
    assert building(root, build.key) == []
