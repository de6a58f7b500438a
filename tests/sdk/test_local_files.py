"""What is found to upload, and what is refused before anything is sent."""

import os
import socket
from pathlib import Path

import pytest

from argosy.errors import InvalidFile
from argosy.sdk.files import collect, existing, read_text, renamed, single


def paths(found: Path, **options: bool) -> list[str]:
    return [file.path for file in collect(found, **options)]


def test_a_directory_keeps_its_name_and_is_walked_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "models"
    for name in ("b/2.bin", "a.bin", "b/1.bin", ".hidden", "b/__pycache__/x.pyc"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"12")
    everything = ["models/.hidden", "models/a.bin", "models/b/1.bin", "models/b/2.bin", "models/b/__pycache__/x.pyc"]
    assert sorted(paths(root)) == sorted(everything)
    assert paths(root) == paths(Path(f"{root}/"))
    assert "models/b/__pycache__/x.pyc" not in paths(root, skip_caches=True)
    monkeypatch.chdir(root)
    assert paths(Path()) == paths(root)
    assert collect(root)[0].size_bytes == 2


def test_a_file_stands_for_itself_also_behind_a_link(tmp_path: Path) -> None:
    (tmp_path / "v3.pkl").write_bytes(b"123")
    (tmp_path / "model.pkl").symlink_to("v3.pkl")
    (found,) = collect(tmp_path / "model.pkl")
    assert (found.path, found.size_bytes) == ("model.pkl", 3)


def test_links_within_the_tree_are_followed(tmp_path: Path) -> None:
    root = tmp_path / "m"
    (root / "real").mkdir(parents=True)
    (root / "real" / "x").write_bytes(b"x")
    (root / "alias").symlink_to("real")
    (root / "y").symlink_to("real/x")
    assert paths(root) == ["m/alias/x", "m/real/x", "m/y"]


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda root: None, "holds no files"),
        (lambda root: (root / "deep" / "er").mkdir(parents=True), "holds no files"),
        (lambda root: (root / "x").symlink_to("/etc/passwd"), "link out of"),
        (lambda root: (root / "x").symlink_to("/etc"), "link out of"),
        (lambda root: (root / "x").symlink_to(root.parent), "link out of"),
        (lambda root: (root / "x").symlink_to("gone"), "not there"),
        (lambda root: (root / "x").symlink_to("x"), "not there"),
        (lambda root: (root / "x").symlink_to("."), "no end"),
        (lambda root: os.mkfifo(root / "x"), "no regular file"),
        (lambda root: (root / "a\nb").write_bytes(b""), "control character"),
        (lambda root: (root / "a\\b").write_bytes(b""), "backslash"),
        (lambda root: Path(os.fsdecode(os.fsencode(root) + b"/\xff")).write_bytes(b""), "not UTF-8"),
    ],
)
def test_trees_that_are_refused(tmp_path: Path, make: object, problem: str) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    make(root)  # type: ignore[operator]
    with pytest.raises(InvalidFile, match=problem):
        collect(root)


def test_a_socket_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("s")
        with pytest.raises(InvalidFile, match="socket"):
            collect("s")


def test_a_missing_file_says_where_it_was_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidFile) as caught:
        existing("sub/iris.pkl")
    for part in (
        "sub/iris.pkl: there is no such file",
        str(tmp_path / "sub/iris.pkl"),
        f"working directory {tmp_path}",
    ):
        assert part in str(caught.value)


def test_the_root_is_refused() -> None:
    with pytest.raises(InvalidFile, match="root"):
        collect("/")


def test_single_files(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match="a file is wanted"):
        single(tmp_path)
    (tmp_path / "x").write_bytes(b"\xff")
    with pytest.raises(InvalidFile, match="not UTF-8"):
        read_text(tmp_path / "x")


def test_renamed_keeps_the_rest_of_the_path(tmp_path: Path) -> None:
    (tmp_path / "v2").mkdir()
    (tmp_path / "v2" / "x.bin").write_bytes(b"")
    (tmp_path / "new.pkl").write_bytes(b"")
    assert [f.path for f in renamed(collect(tmp_path / "v2"), "v1")] == ["v1/x.bin"]
    assert [f.path for f in renamed(collect(tmp_path / "new.pkl"), "model.pkl")] == ["model.pkl"]
    assert [f.path for f in renamed(collect(tmp_path / "new.pkl"), "model.onnx")] == ["new.pkl"]
    assert [f.path for f in renamed(collect(tmp_path / "new.pkl"), None)] == ["new.pkl"]
