import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from argosy.errors import StorageFailed
from argosy.images.runtimes import install_runtime, runtime_digest, runtime_files


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "argosy_serving"
    (folder / "static").mkdir(parents=True)
    (folder / "__init__.py").write_text("NAME = 'one'\n")
    (folder / "static" / "page.css").write_bytes(b"\xff\x00")
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "x.pyc").write_bytes(b"compiled")
    return folder


def test_the_installed_package_is_copied(tmp_path: Path) -> None:
    place = install_runtime(tmp_path / "envs")
    assert place == tmp_path / "envs" / f"runtime-{runtime_digest()}"
    assert sorted(path.name for path in place.iterdir()) == [".complete", "argosy_serving"]
    for name, path in runtime_files().items():
        assert (place / "argosy_serving" / name).read_bytes() == path.read_bytes()
    code = "import argosy_serving; print(argosy_serving.__file__)"
    environment = {"PYTHONPATH": str(place), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.strip() == str(place / "argosy_serving" / "__init__.py")


def test_the_digest_covers_names_and_contents_only(package: Path) -> None:
    before = runtime_digest(package)
    (package / "__pycache__" / "y.pyc").write_bytes(b"more")
    os.utime(package / "__init__.py", (1, 1))
    assert runtime_digest(package) == before
    assert list(runtime_files(package)) == ["__init__.py", "static/page.css"]
    (package / "__init__.py").rename(package / "other.py")
    assert runtime_digest(package) != before


def test_a_copy_outlives_a_change_of_the_package(package: Path, tmp_path: Path) -> None:
    old = install_runtime(tmp_path / "envs", package)
    (package / "__init__.py").write_text("NAME = 'two'\n")
    new = install_runtime(tmp_path / "envs", package)
    assert (old / "argosy_serving/__init__.py").read_text() == "NAME = 'one'\n"
    assert (new / "argosy_serving/__init__.py").read_text() == "NAME = 'two'\n"


def test_again_and_at_the_same_time(package: Path, tmp_path: Path) -> None:
    root = tmp_path / "envs"
    made: list[Path] = []
    threads = [threading.Thread(target=lambda: made.append(install_runtime(root, package))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 6
    assert list(root.iterdir()) == [made[0]]


def test_an_unfinished_copy_is_replaced_and_a_leftover_removed(package: Path, tmp_path: Path) -> None:
    root = tmp_path / "envs"
    half = root / f"runtime-{runtime_digest(package)}"
    (half / "argosy_serving").mkdir(parents=True)
    gone = root / ".installing-0123456789abcdef-99999999-00ff"
    gone.mkdir()
    living = root / f".installing-0123456789abcdef-{os.getpid()}-00ff"
    living.mkdir()
    assert install_runtime(root, package) == half
    assert (half / "argosy_serving" / "static" / "page.css").exists()
    assert not gone.exists()
    assert living.exists()


def test_a_place_that_cannot_be_written(package: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageFailed, match="ARGOSY_HOME"):
        install_runtime(tmp_path / "file", package)
