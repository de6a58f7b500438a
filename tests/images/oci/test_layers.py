"""Layers: the same bytes for the same content, streamed, and not written twice."""

import hashlib
import io
import os
import tarfile
import tracemalloc
from pathlib import Path

import pytest

from argosy.errors import StorageFailed
from argosy.images.oci.layers import Content, known_layer, layer_key, link_to, write_layer
from argosy.images.oci.layout import OciLayout

LONG = "opt/" + "/".join(["a-folder-with-quite-a-long-name"] * 6) + "/file.txt"


def test_equal_content_makes_equal_bytes_whatever_the_files_times_modes_and_order_are(tmp_path: Path) -> None:
    digests = []
    for number, (time, mode) in enumerate([(1, 0o600), (2_000_000_000, 0o664)]):
        folder = tmp_path / str(number)
        folder.mkdir()
        for name in ("one", "two"):
            (folder / name).write_text(name)
            (folder / name).chmod(mode)
            os.utime(folder / name, (time, time))
        files = {"opt/b/two": Content(folder / "two"), "opt/a": Content(folder / "one"), LONG: Content(b"deep")}
        if number:
            files = dict(reversed(files.items()))
        digests.append(write_layer(OciLayout(tmp_path / f"layout-{number}"), "0" * 64, "t", files).descriptor)
    assert digests[0] == digests[1]


def test_entries_are_sorted_owned_by_root_and_without_time(tmp_path: Path) -> None:
    layout = OciLayout(tmp_path)
    files = {
        "opt/x/run": Content(b"#!", executable=True),
        "opt/x.d/file": Content(b"text"),
        "opt/x/link": link_to("/usr/bin/python3"),
        LONG: Content(b"deep"),
        "opt/ünïcode": Content(b"u"),
    }
    made = write_layer(layout, "0" * 64, "t", files)
    raw = layout.path(made.descriptor.digest).read_bytes()
    assert made.diff_id == f"sha256:{hashlib.sha256(raw).hexdigest()}" and len(raw) == made.descriptor.size_bytes
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        entries = tar.getmembers()
        assert {(e.uid, e.gid, e.uname, e.gname, e.mtime) for e in entries} == {(0, 0, "", "", 0)}
        names = [e.name for e in entries]
        assert names == sorted(names, key=lambda name: name.split("/"))
        assert {"opt", "opt/x", "opt/x.d", LONG, "opt/ünïcode"} <= set(names)
        modes = {e.name: (e.type, e.mode) for e in entries}
        assert modes["opt"] == (tarfile.DIRTYPE, 0o755)
        assert modes["opt/x/run"] == (tarfile.REGTYPE, 0o755) and modes["opt/x.d/file"] == (tarfile.REGTYPE, 0o644)
        assert tar.getmember("opt/x/link").linkname == "/usr/bin/python3"
        found = tar.extractfile(LONG)
        assert found is not None and found.read() == b"deep"
        pax = [e.name for e in entries if e.pax_headers]
        assert set(pax) <= {LONG, "opt/ünïcode", *(n for n in names if len(n) > 100)}, "PAX only where it is needed"


def test_a_layer_is_known_until_its_blob_is_gone_or_cut_short(tmp_path: Path) -> None:
    layout = OciLayout(tmp_path)
    key = layer_key("code", {"files": []})
    assert known_layer(layout, key, "t") is None
    made = write_layer(layout, key, "t", {"opt/a": Content(b"a")})
    assert known_layer(layout, key, "t") == made
    assert known_layer(layout, layer_key("code", {"files": [1]}), "t") is None
    blob = layout.path(made.descriptor.digest)
    blob.chmod(0o600)
    blob.write_bytes(b"short")
    assert known_layer(layout, key, "t") is None
    blob.unlink()
    assert known_layer(layout, key, "t") is None


def test_a_large_file_is_streamed(tmp_path: Path) -> None:
    model = tmp_path / "model"
    with model.open("wb") as out:
        out.truncate(200_000_000)
    layout = OciLayout(tmp_path / "layout")
    tracemalloc.start()
    try:
        write_layer(layout, "0" * 64, "model", {"opt/model": Content(model)})
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 50_000_000


def test_a_file_that_changes_meanwhile_leaves_no_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tmp_path / "model"
    model.write_bytes(b"12345")
    monkeypatch.setattr("argosy.images.oci.layers._size", lambda source: 9)
    layout = OciLayout(tmp_path / "layout")
    with pytest.raises(StorageFailed, match="changed while"):
        write_layer(layout, "0" * 64, "model", {"opt/model": Content(model)})
    assert list((layout.root / "blobs" / "sha256").iterdir()) == list((layout.root / ".incoming").iterdir()) == []
