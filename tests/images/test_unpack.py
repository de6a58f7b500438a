"""Images as folders: whole or not there, and never a second name for a registered model's bytes."""

import errno
import json
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from argosy.errors import StorageFailed
from argosy.images import unpack as unpack_module
from argosy.images.leases import Leases
from argosy.images.plan import ModelContent
from argosy.images.unpack import image_folder, sweep, unpack
from argosy.records import FileEntry, ModelPin

DIGEST = "d" * 64
CODE = [FileEntry("score.py", "s" * 64, 6), FileEntry("lib/help.py", "h" * 64, 4)]
MODELS = [
    ModelContent(ModelPin("iris", 3, ""), "file", [FileEntry("model.pkl", "m" * 64, 7)]),
    ModelContent(ModelPin("extra", 1, ""), "directory", [FileEntry("extra/a/b", "m" * 64, 7)]),
]


@pytest.fixture
def blobs(tmp_path: Path) -> Path:
    folder = tmp_path / "blobs"
    folder.mkdir()
    for name, content in {"s": b"script", "h": b"help", "m": b"weights"}.items():
        (folder / (name * 64)).write_bytes(content)
        (folder / (name * 64)).chmod(0o400)
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "images"


def make(root: Path, blobs: Path, digest: str = DIGEST) -> Path:
    return unpack(root, {"digest": digest, "script": "score.py"}, CODE, MODELS, blobs.joinpath)


def everything(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_folder_has_everything_in_its_place(root: Path, blobs: Path) -> None:
    folder = make(root, blobs)
    assert folder == image_folder(root, DIGEST)
    found = everything(folder)
    assert json.loads(found.pop("image.json")) == {"digest": DIGEST, "script": "score.py"}
    assert found == {
        "code/score.py": b"script",
        "code/lib/help.py": b"help",
        "models/iris/3/model.pkl": b"weights",
        "models/extra/1/extra/a/b": b"weights",
    }
    assert [path.name for path in root.iterdir()] == [folder.name]


def test_files_are_copies_that_nobody_writes_by_accident(root: Path, blobs: Path) -> None:
    model = make(root, blobs) / "models" / "iris" / "3" / "model.pkl"
    blob = blobs / ("m" * 64)
    assert model.stat().st_ino != blob.stat().st_ino
    assert (model.stat().st_nlink, blob.stat().st_nlink, model.stat().st_mode & 0o222) == (1, 1, 0)
    model.chmod(0o644)
    model.write_bytes(b"spoilt")
    assert blob.read_bytes() == b"weights"


def test_the_second_time_is_the_first_one_found(root: Path, blobs: Path) -> None:
    before = make(root, blobs).stat().st_mtime_ns
    assert make(root, blobs).stat().st_mtime_ns == before


def test_many_at_once_make_one(root: Path, blobs: Path) -> None:
    made: list[Path] = []
    threads = [threading.Thread(target=lambda: made.append(make(root, blobs))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [image_folder(root, DIGEST)] * 6
    assert len(everything(made[0])) == 5
    assert len(list(root.iterdir())) == 1


def test_a_failure_leaves_nothing(root: Path, blobs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (blobs / ("m" * 64)).unlink()
    with pytest.raises(StorageFailed, match="unpacked"):
        make(root, blobs)
    assert list(root.iterdir()) == []

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(unpack_module, "_place", full)
    with pytest.raises(StorageFailed, match="No space left"):
        make(root, blobs)
    assert list(root.iterdir()) == []


def test_removed_in_one_step(root: Path, blobs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make(root, blobs)
    with monkeypatch.context() as cut:
        cut.setattr(shutil, "rmtree", lambda *_, **__: None)
        assert Leases().remove_folder("folder", folder)
    assert not folder.exists(), "no folder that looks whole"
    assert len(list(root.iterdir())) == 1
    sweep(root)
    assert list(root.iterdir()) == []
    assert len(everything(make(root, blobs))) == 5, "and it can be made again"
    assert Leases().remove_folder("folder", folder)
    assert Leases().remove_folder("folder", folder), "gone is gone"
    assert list(root.iterdir()) == []


def test_a_sweep_takes_what_was_half_made_and_nothing_else(root: Path, blobs: Path) -> None:
    folder = make(root, blobs)
    (root / f".{folder.name}.abcd" / "models").mkdir(parents=True)
    sweep(root)
    assert list(root.iterdir()) == [folder]
    sweep(root / "missing")


def test_two_images_share_nothing(root: Path, blobs: Path) -> None:
    first, second = make(root, blobs), make(root, blobs, "e" * 64)
    Leases().remove_folder("folder", first)
    assert not first.exists()
    files: dict[str, Any] = everything(second)
    assert len(files) == 5
