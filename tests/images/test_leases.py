import shutil
import threading
from pathlib import Path

import pytest

from argosy.errors import StorageFailed
from argosy.images.leases import Leases


def test_what_is_used_under_a_lease_is_not_removed_until_nobody_holds_one() -> None:
    leases = Leases()
    removed: list[str] = []
    with leases.hold():
        leases.use("a")
        with leases.hold():  # somebody else's
            pass
        assert not leases.remove("a", lambda: removed.append("a"))
        assert leases.remove("b", lambda: removed.append("b"))
    assert leases.remove("a", lambda: removed.append("a"))
    assert removed == ["b", "a"]


def test_without_a_lease_nothing_is_remembered() -> None:
    leases = Leases()
    leases.use("a")
    assert not leases.used("a")


def test_a_collector_that_came_meanwhile_still_knows_what_a_finished_build_used() -> None:
    leases = Leases()
    collecting = leases.hold()
    with leases.hold():
        leases.use("layer")
        collecting.__enter__()
    assert leases.used("layer"), "the build is done, the collector may have read the tags before that"
    collecting.__exit__(None, None, None)
    assert not leases.used("layer")


def test_nobody_waits_for_the_files_of_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leases, folder = Leases(), tmp_path / "large"
    folder.mkdir()
    deleting, go_on = threading.Event(), threading.Event()

    def slow(*_: object, **__: object) -> None:
        deleting.set()
        go_on.wait(60)

    monkeypatch.setattr(shutil, "rmtree", slow)
    removal = threading.Thread(target=leases.remove_folder, args=("large", folder))
    removal.start()
    assert deleting.wait(60)
    with leases.hold():
        user = threading.Thread(target=leases.use, args=("large",), daemon=True)
        user.start()
        user.join(30)
        assert not user.is_alive() and leases.used("large")
    assert not folder.exists(), "who uses it now makes it anew"
    go_on.set()
    removal.join()


def test_a_folder_that_is_used_stays_and_one_that_cannot_go_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leases, folder = Leases(), tmp_path / "used"
    folder.mkdir()
    with leases.hold():
        leases.use("used")
        assert not leases.remove_folder("used", folder) and folder.is_dir()

    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "rename", refused)
    with pytest.raises(StorageFailed, match="Permission denied"):
        leases.remove_folder("used", folder)
