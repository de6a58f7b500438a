"""Finds the Python of a base image without running anything: its layers are read, one on top of the other."""

import gzip
import hashlib
import posixpath
import re
import struct
import tarfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO, Self, cast

from argosy.errors import InvalidFile
from argosy.images.oci.layers import Folder, LayerBlob
from argosy.images.oci.layout import OciLayout

_NAME = re.compile(r"(?:.*/)?python3\.\d+")
_FOLDERS = ("usr/local/bin", "usr/bin")
_MUSL = re.compile(r"(?:usr/)?lib/ld-musl-[^/]+")
_OPAQUE, _WHITEOUT = ".wh..wh..opq", ".wh."
_LONGEST_CHAIN = 40
_ELF_HEADER_BYTES = 20
_IN_MEMORY = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
_LONGEST_NAME_BYTES = 1 << 20


@dataclass(frozen=True)
class BasePython:
    """`path` is absolute in the image, `minor` such as 3.12, `machine` the number in its ELF header (0: no ELF)."""

    path: str
    minor: str
    machine: int


@dataclass(frozen=True)
class Findings:
    """What matters of a base's files. `musl`: it has that C library, and no glibc."""

    pythons: list[BasePython]
    musl: bool

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> "Findings":
        return cls([BasePython(**python) for python in data["pythons"]], bool(data["musl"]))

    def json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class File:
    """`link` is a symbolic link's target; `head` the first bytes of what may be a Python."""

    link: str = ""
    executable: bool = False
    head: bytes = b""
    folder: Folder | None = None


def look_into(layout: OciLayout, layers: list[LayerBlob], limit_bytes: int) -> Findings:
    """Raises InvalidFile for a layer that cannot be read, or is not what the config says, and for layers that unpack to
    more than `limit_bytes`."""
    files: dict[str, File] = {}
    left_bytes = limit_bytes
    for layer in layers:
        left_bytes = apply(layout, layer, files, left_bytes)
    musl = any(_MUSL.fullmatch(path) for path in files) and not any(p.endswith("/libc.so.6") for p in files)
    return Findings([found for folder in _FOLDERS for found in _pythons(files, folder)], musl)


def _pythons(files: Mapping[str, File], folder: str) -> list[BasePython]:
    real = resolve(files, folder)
    names = sorted(p for p in files if posixpath.dirname(p) == real and _NAME.fullmatch(p))
    found = []
    for path in names:
        file = files.get(resolve(files, path) or "")
        if file is not None and file.executable:
            elf = file.head.startswith(b"\x7fELF") and len(file.head) == _ELF_HEADER_BYTES
            machine = struct.unpack_from("<H", file.head, 18)[0] if elf else 0
            name = posixpath.basename(path)
            found.append(BasePython(f"/{folder}/{name}", name.removeprefix("python"), machine))
    return found


def resolve(files: Mapping[str, File], path: str) -> str | None:
    """Follow the symbolic links in every part of `path`, within the image; None when they lead in a circle."""
    done, rest = "", path.split("/")
    for _ in range(_LONGEST_CHAIN * 4):
        if not rest:
            return done
        part, rest = rest[0], rest[1:]
        if part in ("", "."):
            continue
        if part == "..":
            done = posixpath.dirname(done)
            continue
        here = f"{done}/{part}".lstrip("/")
        link = files[here].link if here in files else ""
        if not link:
            done = here
        else:
            done = "" if link.startswith("/") else done
            rest = [*link.split("/"), *rest]
    return None


def apply(layout: OciLayout, layer: LayerBlob, files: dict[str, File], left_bytes: int) -> int:
    """Put a layer on top of `files`, by their path without a slash in front. How much of `left_bytes` it leaves.

    Raises InvalidFile.
    """
    digest = layer.descriptor.digest
    with layout.open(digest) as raw:
        try:
            inside = Bounded(unpacked(raw, layer.descriptor.media_type, digest), "the base", left_bytes)
            stream = _Hashed(inside)
            own: set[str] = set()
            with tarfile.open(fileobj=cast(BinaryIO, stream), mode="r|", tarinfo=Entry) as tar:
                for entry in tar:
                    _take(tar, entry, files, own)
            stream.drain()
        except (tarfile.TarError, EOFError, OSError, gzip.BadGzipFile) as problem:
            raise InvalidFile(f"the base's layer {digest}", f"cannot be read as a tar file ({problem})") from problem
    if stream.digest != layer.diff_id:
        raise InvalidFile(
            f"the base's layer {digest}", f"unpacks to {stream.digest}, its config says {layer.diff_id}: it is corrupt"
        )
    return inside.left_bytes


def _take(tar: tarfile.TarFile, entry: tarfile.TarInfo, files: dict[str, File], own: set[str]) -> None:
    path = posixpath.normpath("/" + entry.name).lstrip("/")
    folder, name = posixpath.split(path)
    if name == _OPAQUE:
        _remove(files, folder, own)
    elif name.startswith(_WHITEOUT):
        gone = posixpath.join(folder, name.removeprefix(_WHITEOUT))
        if gone not in own:
            files.pop(gone, None)
        _remove(files, gone, own)
    elif entry.isdir():
        own.add(path)
        files[path] = File(folder=Folder(entry.mode & 0o7777, entry.uid, entry.gid))
    else:
        own.add(path)
        if path in files and files[path].folder:
            _remove(files, path, own)
        if entry.islnk():
            files[path] = files.get(posixpath.normpath("/" + entry.linkname).lstrip("/"), File())
        else:
            files[path] = _file(tar, entry, path)


def _file(tar: tarfile.TarFile, entry: tarfile.TarInfo, path: str) -> File:
    if entry.issym():
        return File(link=entry.linkname)
    head = b""
    if entry.isfile() and _NAME.fullmatch(path):
        content = tar.extractfile(entry)
        head = content.read(_ELF_HEADER_BYTES) if content else b""
    return File("", entry.isfile() and bool(entry.mode & 0o111), head)


def _remove(files: dict[str, File], folder: str, own: set[str]) -> None:
    """What lower layers put below `folder`; what the layer at work has put there stays."""
    for path in [p for p in files if p.startswith(f"{folder}/" if folder else "") and p not in own]:
        del files[path]


def unpacked(raw: BinaryIO, media_type: str, digest: str) -> BinaryIO:
    """The tar of a layer. InvalidFile for a compression that is not known."""
    if media_type.endswith("gzip"):
        return cast(BinaryIO, gzip.GzipFile(fileobj=raw))
    if media_type.endswith("tar"):
        return raw
    raise InvalidFile(
        f"the layer {digest}",
        f"has the type {media_type}, and only tar and gzip can be read. Convert the image: "
        "skopeo copy --dest-compress-format gzip SOURCE oci:DIR:TAG",
    )


class Bounded:
    """Reads at most so many bytes of `what`: a small layer may unpack to any size."""

    def __init__(self, inner: BinaryIO, what: str, left_bytes: int) -> None:
        self._inner, self._what, self.left_bytes = inner, what, left_bytes

    def read(self, size: int = -1) -> bytes:
        piece = self._inner.read(size)
        self.left_bytes -= len(piece)
        if self.left_bytes < 0:
            raise InvalidFile(self._what, "its layers unpack to more than the setting image_limit_bytes allows")
        return piece


class Entry(tarfile.TarInfo):
    """Refuses long names and attributes of any size: tarfile reads each of them into memory, before it tells of it."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        entry = super().frombuf(buf, encoding, errors)
        if entry.type in _IN_MEMORY and entry.size > _LONGEST_NAME_BYTES:
            raise InvalidFile("a tar file", f"cannot be read: it has a name or attributes of {entry.size:,} bytes")
        return entry


class _Hashed:
    """Reads on while hashing."""

    def __init__(self, inner: Bounded) -> None:
        self._inner, self._hash = inner, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        piece = self._inner.read(size)
        self._hash.update(piece)
        return piece

    def drain(self) -> None:
        """What lies behind the end of the archive belongs to the digest too."""
        while self.read(1 << 20):
            pass

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"
