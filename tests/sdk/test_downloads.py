"""Downloads: verified, whole or not at all, never outside the target, nothing replaced unless told."""

from pathlib import Path
from typing import Any

import pytest

from argosy.errors import Conflict, Error, InvalidFile, StorageFailed
from argosy.sdk.downloads import safe_path
from sdk.conftest import Run
from sdk.fake_control_plane import Answer, FakeControlPlane, model

FILES = {"flowers/a.bin": b"a" * 2_000_000, "flowers/deep/b c.bin": b"b"}


@pytest.fixture
def served(fake: FakeControlPlane) -> FakeControlPlane:
    fake.answer("GET", "/v1/models/iris/latest", model(2, FILES, kind="directory"))
    fake.answer("GET", "/v1/models/iris/2/files/flowers/a.bin", Answer(FILES["flowers/a.bin"]))
    fake.answer("GET", "/v1/models/iris/2/files/flowers/deep/b%20c.bin", Answer(FILES["flowers/deep/b c.bin"]))
    return fake


def held(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_files_arrive_whole(run: Run, served: FakeControlPlane, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    made = run("models.download", "iris", tmp_path / "new" / "there", on_progress=lambda *step: seen.append(step))
    assert made == [tmp_path / "new" / "there" / "flowers"]
    assert held(tmp_path / "new" / "there") == FILES
    assert seen[-1] == (2_000_001, 2_000_001)


def test_nothing_is_replaced_unless_told(run: Run, served: FakeControlPlane, tmp_path: Path) -> None:
    (tmp_path / "flowers").mkdir()
    (tmp_path / "flowers" / "mine").write_bytes(b"mine")
    with pytest.raises(Conflict, match="exists already"):
        run("models.download", "iris", tmp_path)
    assert held(tmp_path) == {"flowers/mine": b"mine"}
    run("models.download", "iris", tmp_path, overwrite=True)
    assert held(tmp_path) == FILES


def test_a_damaged_file_leaves_nothing(run: Run, served: FakeControlPlane, tmp_path: Path) -> None:
    served.answer("GET", "/v1/models/iris/2/files/flowers/deep/b%20c.bin", Answer(b"B"))
    with pytest.raises(StorageFailed, match="arrived damaged"):
        run("models.download", "iris", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_refused_file_leaves_nothing(run: Run, served: FakeControlPlane, tmp_path: Path) -> None:
    served.answer("GET", "/v1/models/iris/2/files/flowers/a.bin", Answer({"error": {"message": "gone"}}, 404))
    with pytest.raises(Error, match="gone"):
        run("models.download", "iris", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_target_must_be_a_folder(run: Run, served: FakeControlPlane, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Error, match="file"):
        run("models.download", "iris", tmp_path / "file")


def test_a_single_file(run: Run, fake: FakeControlPlane, tmp_path: Path) -> None:
    fake.answer("GET", "/v1/models/iris/1", model(1))
    fake.answer("GET", "/v1/models/iris/1/files/model.pkl", Answer(b"weights"))
    assert run("models.download", "iris:1", tmp_path) == [tmp_path / "model.pkl"]
    (tmp_path / "model.pkl").write_bytes(b"old")
    run("models.download", "iris:1", tmp_path, overwrite=True)
    assert held(tmp_path) == {"model.pkl": b"weights"}


@pytest.mark.parametrize("path", ["/etc/x", "../x", "a/../../x", "a//b", "./a", "", "a\\b", "a\0b", "a/"])
def test_paths_that_would_lead_out(path: str, run: Any, fake: FakeControlPlane, tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match="outside"):
        safe_path(path)
    fake.answer("GET", "/v1/models/iris/latest", model(1, {path: b"x"}))
    with pytest.raises(InvalidFile, match="outside"):
        run("models.download", "iris", tmp_path)
    assert list(tmp_path.iterdir()) == []
