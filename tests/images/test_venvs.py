import shutil
import subprocess
import threading
import time
from pathlib import Path

import pytest

from argosy.errors import EnvironmentFailed
from argosy.images.leases import Leases
from argosy.images.pythons import Python
from argosy.images.venvs import (
    Build,
    check_environment,
    ensure_environment,
    environment_folder,
    environment_key,
    environment_python,
    list_environments,
)
from argosy.images.verify import verify_environment
from argosy.manifests.lock import resolve
from argosy.manifests.requirements import parse_requirements
from argosy.manifests.uv import Index
from argosy.records import Lock
from manifests.package_index import PackageIndex


def a_build(text: str, index: PackageIndex, python: Python) -> Build:
    lock = resolve(parse_requirements(text), python.minor, (), index.url)
    return Build(environment_key(lock, python.minor), lock, python, Index(index.url))


def run(python: Path, code: str) -> str:
    done = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_an_environment_holds_the_lock_compiled_and_runs(
    index: PackageIndex, base_python: Python, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    build = a_build("alpha\n", index, base_python)
    lines: list[str] = []
    python = ensure_environment(root, build, lines.append)
    assert python == environment_python(root, build.key)
    assert run(python, "import alpha, beta; print(alpha.VERSION, beta.VERSION)") == "1.0 1.1"
    assert run(python, "import sys; print(sys.prefix)") == str(root / build.key)
    assert Path(run(python, "import alpha; print(alpha.__cached__)")).is_file()
    script = subprocess.run([python.parent / "alpha"], capture_output=True, text=True, check=True)
    assert script.stdout == "1.0\n"
    assert any("alpha==1.0" in line for line in lines)
    assert list_environments(root) == [build.key]
    assert verify_environment(root / build.key) == []


def test_no_installer_is_in_it(index: PackageIndex, base_python: Python, root: Path) -> None:
    python = ensure_environment(root, a_build("beta\n", index, base_python))
    assert (
        run(python, "import importlib.util as u; print(u.find_spec('pip'), u.find_spec('setuptools'))") == "None None"
    )


def test_the_second_time_nothing_is_done(index: PackageIndex, base_python: Python, root: Path) -> None:
    build = a_build("beta\n", index, base_python)
    first = ensure_environment(root, build)
    stamp = first.parent.stat().st_mtime_ns
    index.status = 500
    lines: list[str] = []
    assert ensure_environment(root, build, lines.append) == first
    assert first.parent.stat().st_mtime_ns == stamp
    assert lines == []


def test_an_empty_lock_is_an_environment(base_python: Python, root: Path) -> None:
    lock = Lock(base_python.minor, "", {})
    python = ensure_environment(root, Build(environment_key(lock, base_python.minor), lock, base_python))
    assert run(python, "print(1)") == "1"


def test_keys_are_of_content() -> None:
    key = environment_key(Lock("3.12", "a==1\n", {"a": "1"}), "3.12")
    assert key == environment_key(Lock("3.12", "a==1\n", {}), "3.12")
    assert key != environment_key(Lock("3.12", "a==2\n", {}), "3.12")
    assert key != environment_key(Lock("3.12", "a==1\n", {}), "3.13")
    with pytest.raises(ValueError, match="no environment key"):
        environment_python(Path("/x"), "../../etc")


def test_changed_content_on_the_index_is_not_installed(index: PackageIndex, base_python: Python, root: Path) -> None:
    build = a_build("beta==1.0\n", index, base_python)
    file = "beta-1.0-py3-none-any.whl"
    assert file in index.projects["beta"]
    index.add("beta", "1.0", files={"beta/more.py": b"EVIL = True\n"})
    with pytest.raises(EnvironmentFailed) as caught:
        ensure_environment(root, build)
    assert "beta" in caught.value.message
    assert "other content than the manifest locked" in caught.value.message
    assert leftovers(root) == []


def test_a_lock_line_without_a_hash_is_not_installed(index: PackageIndex, base_python: Python, root: Path) -> None:
    lock = Lock(base_python.minor, "beta==1.0\n", {})
    with pytest.raises(EnvironmentFailed) as caught:
        ensure_environment(root, Build("0" * 64, lock, base_python, Index(index.url)))
    assert "hash" in caught.value.message
    assert leftovers(root) == []


def test_an_index_that_does_not_answer(index: PackageIndex, base_python: Python, root: Path) -> None:
    build = a_build("beta\n", index, base_python)
    index.status = 500
    with pytest.raises(EnvironmentFailed, match="index") as caught:
        ensure_environment(root, build)
    assert caught.value.details["log"]
    assert check_environment(root, build.key) == "it was never built"
    index.status = 200
    assert ensure_environment(root, build).exists()


def test_another_python_than_the_locks(index: PackageIndex, base_python: Python, root: Path) -> None:
    lock = Lock("3.99", "", {})
    with pytest.raises(EnvironmentFailed, match=r"The lock is for Python 3\.99"):
        ensure_environment(root, Build(environment_key(lock, "3.99"), lock, base_python))
    bad = Build("0" * 64, Lock(base_python.minor, "", {}), base_python, link_mode="magic")
    with pytest.raises(EnvironmentFailed, match="no link mode"):
        ensure_environment(root, bad)


def test_a_python_that_is_gone_is_said_and_replaced(index: PackageIndex, base_python: Python, root: Path) -> None:
    build = a_build("beta\n", index, base_python)
    python = ensure_environment(root, build)
    python.unlink()
    python.symlink_to("/nowhere/python3")
    assert check_environment(root, build.key) == (
        "its Python is gone from this machine: /nowhere/python3 does not exist any more"
    )
    assert run(ensure_environment(root, build), "import beta; print(beta.VERSION)") == "2.0"
    assert leftovers(root) == []


def test_an_unfinished_folder_is_no_environment(index: PackageIndex, base_python: Python, root: Path) -> None:
    build = a_build("beta\n", index, base_python)
    (root / build.key / "bin").mkdir(parents=True)
    (root / build.key / "bin" / "python").symlink_to(base_python.path)
    assert check_environment(root, build.key) == "its build was never finished"
    assert list_environments(root) == []
    assert run(ensure_environment(root, build), "import beta; print(1)") == "1"


def test_removal(index: PackageIndex, base_python: Python, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build = a_build("beta\n", index, base_python)
    ensure_environment(root, build)
    with monkeypatch.context() as cut:
        cut.setattr(shutil, "rmtree", lambda *_, **__: None)
        assert Leases().remove_folder("env", environment_folder(root, build.key))
    assert check_environment(root, build.key) == "it was never built"
    assert len(leftovers(root)) == 1, "the removal was cut short"
    ensure_environment(root, build)
    assert leftovers(root) == [] and check_environment(root, build.key) == ""


def test_threads_build_it_once(index: PackageIndex, base_python: Python, root: Path) -> None:
    build = a_build("alpha\n", index, base_python)
    lines: list[str] = []
    made: list[Path] = []
    threads = [
        threading.Thread(target=lambda: made.append(ensure_environment(root, build, lines.append))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [environment_python(root, build.key)] * 4
    assert len([line for line in lines if line.startswith("Installed")]) == 1


def test_a_write_into_one_copy_does_not_reach_another(index: PackageIndex, base_python: Python, root: Path) -> None:
    build = a_build("beta\n", index, base_python)
    copied = Build(build.key, build.lock, build.python, build.index, link_mode="copy")
    ensure_environment(root, copied)
    [module] = (root / build.key).glob("lib/*/site-packages/beta/__init__.py")
    assert module.stat().st_nlink == 1


def test_changes_are_found(index: PackageIndex, base_python: Python, root: Path) -> None:
    build = Build(**{**vars(a_build("alpha\n", index, base_python)), "link_mode": "copy"})
    ensure_environment(root, build)
    [library] = (root / build.key).glob("lib/*/site-packages")
    (library / "alpha" / "__init__.py").write_text("VERSION = 'evil'\n")
    (library / "beta" / "__init__.py").unlink()
    (library / "beta-1.1.dist-info" / "METADATA").write_text("")
    assert verify_environment(root / build.key) == [
        "alpha-1.0: alpha/__init__.py was changed",
        "beta-1.1: beta-1.1.dist-info/METADATA was changed",
        "beta-1.1: beta/__init__.py is missing",
    ]
    (library / "beta-1.1.dist-info" / "RECORD").write_text("../../../../../../../etc/passwd,sha256=x,1\n")
    assert "lies outside" in verify_environment(root / build.key)[1]
    (library / "beta-1.1.dist-info" / "RECORD").unlink()
    assert "cannot be read" in verify_environment(root / build.key)[1]
    assert "no site-packages" in verify_environment(root)[0]


def test_a_place_that_cannot_be_written(base_python: Python, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    lock = Lock(base_python.minor, "", {})
    build = Build(environment_key(lock, base_python.minor), lock, base_python)
    with pytest.raises(EnvironmentFailed, match="ARGOSY_HOME"):
        ensure_environment(tmp_path / "file", build)
    with pytest.raises(EnvironmentFailed, match="ARGOSY_HOME"):
        ensure_environment(Path("/proc/argosy-test"), build)


@pytest.mark.usefixtures("real_index")
def test_real_packages(base_python: Python, root: Path) -> None:
    lock = resolve(parse_requirements("numpy\nclick\n"), base_python.minor, ("six",))
    build = Build(environment_key(lock, base_python.minor), lock, base_python)
    python = ensure_environment(root, build)
    assert run(python, "import numpy, click, six; print(numpy.arange(3).sum())") == "3"
    assert verify_environment(root / build.key) == []
    started = time.monotonic()
    ensure_environment(root, build)
    again = time.monotonic() - started
    started = time.monotonic()
    run(python, "pass")
    assert again < time.monotonic() - started


def leftovers(root: Path) -> list[str]:
    return [path.name for path in root.iterdir() if path.name.startswith((".building", ".removed"))]
