"""Unpacks .tar, .tar.gz, .tar.bz2, .tar.xz and .zip from one blob into blobs; nothing is ever written elsewhere.

Since members become content-addressed blobs, no name in an archive can reach a file of this machine. What would not
mean the same after unpacking is refused all the same, and the error names the member: links of any kind (also those
within the tree: a model's files are plain files), devices, absolute paths and `..`, duplicates, control characters.
Work is bounded: members, unpacked bytes and header bytes are counted while they are read, not as they are announced.
"""

import contextlib
import errno
import io
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, BinaryIO

from argosy.errors import InvalidFile, StorageFailed, TooLarge
from argosy.models.decompress import Damaged, Decompressed, compression
from argosy.models.paths import check_path, check_paths
from argosy.records import FileEntry
from argosy.store.blobs import LocalBlobs

_BLOCK_BYTES = 1 << 20
# What one tar member may say of itself (long names, pax records) before its content begins.
_TAR_HEADER_BYTES = 1 << 20
# A central directory's entry is 46 bytes and a name; this leaves room for names of 450.
_ZIP_ENTRY_BYTES = 512
_TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tbz", ".tar.xz", ".txz", ".tar.lzma")


@dataclass(frozen=True)
class Limits:
    """How much an archive may hold, unpacked."""

    total_bytes: int
    members: int = 10_000


def unpack(blobs: LocalBlobs, sha256: str, name: str, limits: Limits) -> list[FileEntry]:
    """The files of the archive in blob `sha256`, each stored as a blob, sorted by path.

    `name` is the archive's file name. Files lie under the archive's one top folder; when it has none, under a folder
    named as the archive. Raises InvalidFile and TooLarge; blobs stored before that are garbage, not a model.
    """
    files: dict[str, FileEntry] = {}
    left_bytes = limits.total_bytes
    with blobs.open(sha256) as stream, _errors_of(name):
        # By the first bytes: zipfile would also take a tar whose last member is a zip for one.
        is_zip = stream.read(4) in (b"PK\x03\x04", b"PK\x05\x06")
        for path, content in (_zip_members if is_zip else _tar_members)(stream, name, limits):
            if path in files:
                raise InvalidFile(name, f"member {path!r} is there twice. Pack the folder again.")
            try:
                blob = blobs.put(_chunks(content), left_bytes)
            except TooLarge:
                raise TooLarge(f"{name}, unpacked up to {path!r},", limits.total_bytes) from None
            left_bytes -= blob.size_bytes
            files[path] = FileEntry(path, blob.sha256, blob.size_bytes)
    if not files:
        raise InvalidFile(name, "it has no files. Pack the folder of the model.")
    check_paths(list(files))
    return _below_one_folder(sorted(files.values(), key=lambda file: file.path), name)


def _below_one_folder(files: list[FileEntry], name: str) -> list[FileEntry]:
    tops = {PurePosixPath(file.path).parts[0] for file in files}
    if len(tops) == 1 and all("/" in file.path for file in files):
        return files
    folder = _stem(name)
    return [FileEntry(check_path(f"{folder}/{file.path}"), file.sha256, file.size_bytes) for file in files]


def _chunks(content: IO[bytes]) -> Iterator[bytes]:
    while chunk := content.read(_BLOCK_BYTES):
        yield chunk


def _too_many(name: str, limits: Limits) -> InvalidFile:
    return InvalidFile(name, f"it has more than {limits.members:,} members. Pack the model alone.")


def _stem(name: str) -> str:
    last = PurePosixPath(name).name
    for suffix in sorted((*_TAR_SUFFIXES, ".zip"), key=len, reverse=True):
        if last.lower().endswith(suffix) and len(last) > len(suffix):
            return last[: -len(suffix)]
    return last or "model"


@contextlib.contextmanager
def _errors_of(name: str) -> Iterator[None]:
    """Foreign errors of damaged archives as InvalidFile."""
    try:
        yield
    except (tarfile.TarError, zipfile.BadZipFile, Damaged, zlib.error, EOFError, struct.error) as problem:
        raise InvalidFile(name, f"the archive is damaged: {problem}. Pack or download it again.") from problem
    except OSError as problem:
        # zipfile seeks to where a damaged directory points, be it in front of the file. Other errors are the disk's.
        if problem.errno != errno.EINVAL:
            raise StorageFailed(f"{name} cannot be read from the blob store: {problem}. Check the disk.") from problem
        raise InvalidFile(name, "the archive is damaged: it points outside itself. Pack it again.") from problem
    except (NotImplementedError, RuntimeError, UnicodeError, ValueError) as problem:
        raise InvalidFile(name, f"the archive cannot be read: {problem}. Pack it as .tar.gz or .zip.") from problem


def _member_path(name: str, member: str) -> str:
    """The member's checked path, without the `./` that `tar .` puts in front."""
    try:
        return check_path(member.removeprefix("./"))
    except InvalidFile as problem:
        raise InvalidFile(name, f"member {member!a} cannot be unpacked: {problem.message}") from problem


# --- tar -------------------------------------------------------------------------------------------------------------


class _Meter(io.RawIOBase):
    """Reads on from `source` until the allowance is used up: tarfile reads announced header sizes into memory."""

    def __init__(self, source: BinaryIO, name: str) -> None:
        self._source = source
        self._name = name
        self._left_bytes = 0

    def allow(self, size_bytes: int) -> None:
        # tarfile reads in blocks of 10 KiB and pads members to 512 bytes.
        self._left_bytes = size_bytes + 2 * tarfile.RECORDSIZE

    def read(self, size_bytes: int = -1) -> bytes:
        data = self._source.read(size_bytes)
        self._left_bytes -= len(data)
        if self._left_bytes < 0:
            raise InvalidFile(self._name, f"a member's headers are larger than {_TAR_HEADER_BYTES:,} bytes.")
        return data


class _Strict(tarfile.TarInfo):
    """tarfile takes a damaged header after the first member for the end of the archive; files would go missing."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> "_Strict":
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.HeaderError as problem:
            # The two zero blocks of POSIX. An archive that merely stops there is one that was cut off.
            if type(problem).__name__ == "EOFHeaderError":
                raise
            raise tarfile.ReadError(str(problem)) from problem


def _tar_members(stream: BinaryIO, name: str, limits: Limits) -> Iterator[tuple[str, IO[bytes]]]:
    stream.seek(0)
    kind = compression(stream.read(16))
    stream.seek(0)
    if kind == "lz4":
        raise InvalidFile(name, "lz4 is not supported. Pack it as .tar.gz or .zip.")
    plain = io.BufferedReader(Decompressed(stream, kind), _BLOCK_BYTES) if kind else stream
    meter = _Meter(plain, name)
    meter.allow(_TAR_HEADER_BYTES)
    try:
        archive = tarfile.open(fileobj=meter, mode="r|", tarinfo=_Strict)  # noqa: SIM115
    except tarfile.ReadError as problem:
        raise InvalidFile(name, f"it is neither a tar nor a zip archive ({problem}). Leave --unpack out.") from problem
    with archive:
        for count, member in enumerate(archive, start=1):
            if count > limits.members:
                raise _too_many(name, limits)
            # tarfile keeps every member, and global headers may bring a megabyte each.
            archive.members.clear()  # type: ignore[attr-defined]
            archive.pax_headers = {}
            path = None if member.isdir() and member.name in (".", "./") else _member_path(name, member.name)
            if path and not member.isdir():
                _refuse_special(name, member)
                content = archive.extractfile(member)
                assert content is not None  # a regular file has content, be it empty
                meter.allow(member.size + _TAR_HEADER_BYTES)
                yield path, content
            meter.allow(_TAR_HEADER_BYTES)


def _refuse_special(name: str, member: tarfile.TarInfo) -> None:
    if member.issym() or member.islnk():
        raise InvalidFile(
            name, f"member {member.name!r} is a link to {member.linkname!r}. Pack it with links followed (tar -h)."
        )
    if not member.isreg():
        raise InvalidFile(name, f"member {member.name!r} is neither a file nor a folder. Leave it out.")
    if member.sparse is not None:
        raise InvalidFile(name, f"member {member.name!r} is a sparse file. Pack it without --sparse.")


# --- zip -------------------------------------------------------------------------------------------------------------


def _zip_members(stream: BinaryIO, name: str, limits: Limits) -> Iterator[tuple[str, IO[bytes]]]:
    if zip_directory_bytes(stream) > limits.members * _ZIP_ENTRY_BYTES:
        raise _too_many(name, limits)
    with zipfile.ZipFile(stream) as archive:
        if len(archive.infolist()) > limits.members:
            raise _too_many(name, limits)
        announced = sum(member.file_size for member in archive.infolist())
        if announced > limits.total_bytes:
            raise TooLarge(f"{name}, unpacked ({announced:,} bytes),", limits.total_bytes)
        for member in archive.infolist():
            # The name as it stands in the file: zipfile cuts it at a NUL.
            path = _member_path(name, member.orig_filename.removesuffix("/"))
            if member.is_dir():
                continue
            _refuse_unreadable(name, member)
            with archive.open(member) as content:
                yield path, content


def _refuse_unreadable(name: str, member: zipfile.ZipInfo) -> None:
    mode = member.external_attr >> 16
    if stat.S_ISLNK(mode):
        raise InvalidFile(name, f"member {member.filename!r} is a link. Pack it with links followed (zip without -y).")
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        raise InvalidFile(name, f"member {member.filename!r} is neither a file nor a folder. Leave it out.")
    if member.flag_bits & 0x1:
        raise InvalidFile(name, f"member {member.filename!r} is encrypted. Pack it without a password.")
    # zipfile inflates bzip2 and lzma without a bound: 4 KB may become gigabytes in one call.
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise InvalidFile(name, f"member {member.filename!r} is not packed with deflate. Pack it with plain zip.")


def zip_directory_bytes(stream: BinaryIO) -> int:
    """Size of the central directory as the end record has it; zipfile would read all of it into objects.

    APPNOTE.TXT 4.3.16: 22 bytes and a comment at the file's end; 4.3.14 when the size does not fit into 32 bits.
    """
    size_bytes = stream.seek(0, io.SEEK_END)
    stream.seek(max(0, size_bytes - 0xFFFF - 22 - 20 - 56))
    tail = stream.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < 22:
        raise zipfile.BadZipFile("it has no end record")
    wide, locator = at - 76, at - 20
    if wide >= 0 and tail.startswith(b"PK\x06\x07", locator) and tail.startswith(b"PK\x06\x06", wide):
        return int(struct.unpack_from("<Q", tail, wide + 40)[0])
    return int(struct.unpack_from("<L", tail, at + 12)[0])
