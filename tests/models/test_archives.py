import bz2
import gzip
import io
import os
import stat
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from argosy.errors import InvalidFile, TooLarge
from argosy.models.archives import Limits, unpack
from argosy.store.blobs import LocalBlobs

ROOM = Limits(total_bytes=10_000_000, members=100)
Members = list[tuple[str, bytes]]


def tar(members: Members, mode: str = "w") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def special(**fields: object) -> bytes:
    """A tar whose second member is something else than a file."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("m/a"), io.BytesIO())
        info = tarfile.TarInfo("m/odd")
        for key, value in fields.items():
            setattr(info, key, value)
        archive.addfile(info)
    return out.getvalue()


def zipped(members: Members, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return out.getvalue()


def unpacked(blobs: LocalBlobs, data: bytes, name: str = "model.tar.gz", limits: Limits = ROOM) -> dict[str, bytes]:
    files = unpack(blobs, blobs.put([data]).sha256, name, limits)
    assert [file.path for file in files] == sorted(file.path for file in files)
    contents = {}
    for file in files:
        with blobs.open(file.sha256) as stream:
            contents[file.path] = stream.read()
        assert len(contents[file.path]) == file.size_bytes
    return contents


MODEL: Members = [("iris/model.pkl", b"abc" * 50_000), ("iris/sub/empty", b""), ("iris/ünï.txt", b"x")]


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_every_kind_of_tar_comes_out(blobs: LocalBlobs, mode: str) -> None:
    assert unpacked(blobs, tar(MODEL, mode)) == dict(MODEL)


def test_zip_comes_out(blobs: LocalBlobs) -> None:
    assert unpacked(blobs, zipped([*MODEL, ("iris/folder/", b"")]), "m.zip") == dict(MODEL)
    assert unpacked(blobs, zipped(MODEL, zipfile.ZIP_STORED), "m.zip") == dict(MODEL)


def test_real_tar_of_a_folder_comes_out(blobs: LocalBlobs, tmp_path: Path) -> None:
    """As `tar -C folder .` writes it: `./` before every name, and members for the folders."""
    folder = tmp_path / "f"
    (folder / "deep" / ("n" * 150)).mkdir(parents=True)
    (folder / "deep" / ("n" * 150) / "model.bin").write_bytes(b"12345")
    (folder / "score.txt").write_bytes(b"6")
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        archive.add(folder, ".")
    assert unpacked(blobs, out.getvalue(), "wine.tar.gz") == {
        f"wine/deep/{'n' * 150}/model.bin": b"12345",
        "wine/score.txt": b"6",
    }


def test_files_without_a_common_folder_get_the_archives_name(blobs: LocalBlobs) -> None:
    assert list(unpacked(blobs, tar([("a", b"1"), ("b/c", b"2")]), "wine.v2.TAR.GZ")) == ["wine.v2/a", "wine.v2/b/c"]
    assert list(unpacked(blobs, zipped([("a/x", b"1"), ("b/x", b"2")]), "wine.zip")) == ["wine/a/x", "wine/b/x"]
    assert list(unpacked(blobs, tar([("only", b"1")]), "noext")) == ["noext/only"]


def test_nothing_is_written_outside_the_blob_store(blobs: LocalBlobs, tmp_path: Path) -> None:
    before = {path for path in tmp_path.rglob("*") if not path.is_relative_to(tmp_path / "blobs")}
    unpacked(blobs, tar(MODEL))
    for data in (tar([("../escaped", b"x")]), zipped([("../escaped", b"x")])):
        with pytest.raises(InvalidFile):
            unpacked(blobs, data)
    assert {path for path in tmp_path.rglob("*") if not path.is_relative_to(tmp_path / "blobs")} == before
    assert not (tmp_path.parent / "escaped").exists()


@pytest.mark.parametrize("pack", [tar, zipped])
@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("../evil", r"member '\.\./evil' cannot be unpacked: .*'\.\.'"),
        ("a/../../evil", r"'\.\.'"),
        ("/etc/cron.d/evil", "absolute"),
        ("C:/evil", "absolute"),
        ("a\\..\\evil", "backslash"),
        ("a/new\nline", "control"),
        ("a//b", "empty part"),
    ],
)
def test_names_that_escape_are_refused(blobs: LocalBlobs, pack: object, name: str, problem: str) -> None:
    data = tar([("a/ok", b"1"), (name, b"x")]) if pack is tar else zipped([("a/ok", b"1"), (name, b"x")])
    with pytest.raises(InvalidFile, match=problem) as caught:
        unpacked(blobs, data, "evil.tar")
    assert caught.value.message.startswith("evil.tar: ")


def test_a_zip_name_cut_by_nul_is_refused(blobs: LocalBlobs) -> None:
    data = zipped([("m/good.pklX.py", b"x")]).replace(b"good.pklX.py", b"good.pkl\0.py")
    with pytest.raises(InvalidFile, match="control"):
        unpacked(blobs, data, "m.zip")


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}, "'m/odd' is a link to '/etc/passwd'"),
        ({"type": tarfile.SYMTYPE, "linkname": "a"}, "is a link to 'a'"),
        ({"type": tarfile.LNKTYPE, "linkname": "m/a"}, "is a link"),
        ({"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3}, "neither a file nor a folder"),
        ({"type": tarfile.FIFOTYPE}, "neither a file nor a folder"),
    ],
)
def test_links_and_devices_are_refused(blobs: LocalBlobs, fields: dict[str, object], problem: str) -> None:
    with pytest.raises(InvalidFile, match=problem):
        unpacked(blobs, special(**fields))


@pytest.mark.parametrize(("mode", "problem"), [(stat.S_IFLNK, "is a link"), (stat.S_IFCHR, "neither a file")])
def test_links_and_devices_in_a_zip_are_refused(blobs: LocalBlobs, mode: int, problem: str) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        info = zipfile.ZipInfo("m/odd")
        info.external_attr = (mode | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(InvalidFile, match=problem):
        unpacked(blobs, out.getvalue(), "m.zip")


def test_encrypted_and_exotic_zips_are_refused(blobs: LocalBlobs) -> None:
    data = bytearray(zipped([("m/a", b"x")]))
    at = data.rfind(b"PK\x01\x02")
    data[at + 8] |= 1
    with pytest.raises(InvalidFile, match="encrypted"):
        unpacked(blobs, bytes(data), "m.zip")
    with pytest.raises(InvalidFile, match="deflate"):
        unpacked(blobs, zipped([("m/a", b"x")], zipfile.ZIP_BZIP2), "m.zip")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_duplicates_are_refused(blobs: LocalBlobs) -> None:
    for data in (tar([("m/a", b"1"), ("./m/a", b"2")]), zipped([("m/a", b"1"), ("m/a", b"2")])):
        with pytest.raises(InvalidFile, match="'m/a' is there twice"):
            unpacked(blobs, data)
    with pytest.raises(InvalidFile, match="a folder too"):
        unpacked(blobs, tar([("m/a", b"1"), ("m/a/b", b"2")]))


def test_too_many_members_are_refused(blobs: LocalBlobs) -> None:
    many = [(f"m/{number}", b"") for number in range(101)]
    for data in (tar(many), zipped(many)):
        with pytest.raises(InvalidFile, match="more than 100 members"):
            unpacked(blobs, data)
    folders = [(f"m/{number}/", b"") for number in range(101)]
    with pytest.raises(InvalidFile, match="more than 100 members"):
        unpacked(blobs, zipped(folders))


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_tar_bombs_stop_at_the_limit(blobs: LocalBlobs, mode: str) -> None:
    data = tar([("m/a", b"1"), ("m/zeros", bytes(60_000_000))], mode)
    assert len(data) < 100_000
    with pytest.raises(TooLarge, match="unpacked up to 'm/zeros', is larger than the limit of 10,000,000"):
        unpacked(blobs, data)


def test_zip_bombs_stop_at_the_limit(blobs: LocalBlobs) -> None:
    data = zipped([("m/a", bytes(6_000_000)), ("m/b", bytes(6_000_000))])
    with pytest.raises(TooLarge, match="12,000,000 bytes"):
        unpacked(blobs, data, "m.zip")


def test_a_zip_that_lies_about_its_sizes_is_damaged(blobs: LocalBlobs) -> None:
    data = zipped([("m/a", bytes(20_000_000))]).replace(struct.pack("<L", 20_000_000), struct.pack("<L", 5))
    with pytest.raises(InvalidFile, match="damaged"):
        unpacked(blobs, data, "m.zip")


def test_headers_cannot_fill_the_memory(blobs: LocalBlobs) -> None:
    """tarfile reads an extended header into memory as a whole, whatever its size."""
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XHDTYPE, 40_000_000
    data = gzip.compress(header.tobuf(tarfile.USTAR_FORMAT) + bytes(header.size), 1)
    with pytest.raises(InvalidFile, match="headers are larger than 1,048,576 bytes"):
        unpacked(blobs, data)


def test_a_chain_of_headers_ends(blobs: LocalBlobs) -> None:
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XHDTYPE, 20
    block = header.tobuf(tarfile.USTAR_FORMAT) + b"20 comment=xxxxxxxx\n".ljust(512, b"\0")
    with pytest.raises(InvalidFile, match="cannot be read"):
        unpacked(blobs, block * 1000)


def test_a_zip_directory_cannot_fill_the_memory(blobs: LocalBlobs) -> None:
    data = zipped([(f"m/{number:060}", b"") for number in range(1000)])
    with pytest.raises(InvalidFile, match="more than 100 members"):
        unpacked(blobs, data, "m.zip")


@pytest.mark.parametrize("keep_bytes", [100, 512, 700, 1024, 1500, 2048])
def test_a_tar_that_was_cut_off_is_damaged(blobs: LocalBlobs, keep_bytes: int) -> None:
    """At any point, also between two members, where tarfile sees nothing wrong."""
    data = tar([("m/a", b"1" * 512), ("m/b", b"2" * 512)])
    with pytest.raises(InvalidFile, match=r"damaged|neither a tar"):
        unpacked(blobs, data[:keep_bytes])


def test_a_bad_second_header_is_damage(blobs: LocalBlobs) -> None:
    data = bytearray(tar([("m/a", b"1"), ("m/b", b"2")]))
    data[1024 + 5] ^= 0xFF
    with pytest.raises(InvalidFile, match="damaged"):
        unpacked(blobs, bytes(data))


@pytest.mark.parametrize("data", [b"", b"hello", bytes(1024), os.urandom(3000), b"PK\x03\x04" + bytes(100)])
def test_what_is_no_archive_is_told(blobs: LocalBlobs, data: bytes) -> None:
    with pytest.raises(InvalidFile):
        unpacked(blobs, data)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_damaged_archives_end_in_an_error_or_in_files(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    small: Members = [("m/a", b"abc" * 300), ("m/b", b"")]
    makers = (tar(small), tar(small, "w:gz"), bz2.compress(tar(small)), zipped(small))
    content = bytearray(data.draw(st.sampled_from(makers)))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    store = LocalBlobs(tmp_path_factory.mktemp("blobs"))
    try:
        files = unpack(store, store.put([bytes(content)]).sha256, "m.tar", ROOM)
    except (InvalidFile, TooLarge):
        return
    assert files
