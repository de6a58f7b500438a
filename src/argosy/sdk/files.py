"""Local files that are to be uploaded: found and checked before a byte is sent."""

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from argosy.errors import InvalidFile
from argosy.records import FileEntry
from argosy.sdk.wire import Flow, Request, call_json, path_of

Progress = Callable[[int, int], object]
_UPLOAD_TIMEOUT_S = 300.0


@dataclass(frozen=True)
class LocalFile:
    """`path` is the name within the model or manifest, with `/`; `source` is where it lies here."""

    path: str
    source: Path
    size_bytes: int


def existing(path: str | os.PathLike[str]) -> Path:
    """The absolute path of something that is there; the error names what was typed and where it was looked for."""
    typed = Path(path).expanduser()
    absolute = Path(os.path.normpath(Path.cwd() / typed))
    if not os.path.lexists(absolute):
        looked = "" if typed.is_absolute() else f", looked for as {absolute} (working directory {Path.cwd()})"
        raise InvalidFile(path, f"there is no such file or directory{looked}")
    if not absolute.exists():
        raise InvalidFile(path, f"is a symbolic link to {absolute.readlink()}, which is not there")
    return absolute


def collect(path: str | os.PathLike[str], *, skip_caches: bool = False) -> list[LocalFile]:
    """A file as itself, a directory as its files in order, each below the directory's own name.

    Raises InvalidFile for an empty directory, a link that leaves the directory, a special or unreadable file.
    `skip_caches` leaves out `__pycache__`.
    """
    root = existing(path)
    if not root.is_dir():
        return [_entry(root, root.name)]
    real = root.resolve()
    if not real.name:
        raise InvalidFile(path, "the root of the file system cannot be uploaded")
    found = [
        _entry(source, f"{real.name}/{relative}") for source, relative in _walk(real, real, "", (real,), skip_caches)
    ]
    if not found:
        raise InvalidFile(path, f"the directory {root} holds no files")
    return found


def renamed(collected: list[LocalFile], name: str | None) -> list[LocalFile]:
    """The same files with `name` in place of their top-level name, unless that would change a file's suffix."""
    top = collected[0].path.partition("/")[0]
    if name is None or PurePosixPath(name).suffix != PurePosixPath(top).suffix:
        return collected
    return [replace(file, path=name + file.path[len(top) :]) for file in collected]


def single(path: str | os.PathLike[str]) -> LocalFile:
    """A regular, readable file, under its own name."""
    found = existing(path)
    if found.is_dir():
        raise InvalidFile(path, f"{found} is a directory; a file is wanted")
    return _entry(found, found.name)


def read_text(path: str | os.PathLike[str]) -> str:
    source = single(path).source
    try:
        return source.read_text(encoding="utf-8")
    except UnicodeDecodeError as problem:
        raise InvalidFile(path, f"is not UTF-8 text: byte {problem.start} cannot be read") from None
    except OSError as problem:
        raise InvalidFile(path, f"cannot be read: {problem.strerror}") from problem


def _walk(
    root: Path, folder: Path, prefix: str, above: tuple[Path, ...], skip_caches: bool
) -> Iterator[tuple[Path, str]]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as problem:
        raise InvalidFile(folder, f"cannot be read: {problem.strerror}") from problem
    for entry in entries:
        path, relative = Path(entry.path), f"{prefix}{entry.name}"
        if skip_caches and entry.name == "__pycache__":
            continue
        if entry.is_symlink():
            _check_link(root, path)
        if path.is_dir():
            real = path.resolve()
            if real in above:
                raise InvalidFile(path, f"is a link to {real}, which holds it: the tree would have no end")
            yield from _walk(root, path, f"{relative}/", (*above, real), skip_caches)
        else:
            yield path, relative


def _check_link(root: Path, path: Path) -> None:
    try:
        target = path.resolve(strict=True)
    except (OSError, RuntimeError):
        raise InvalidFile(path, f"is a symbolic link to {path.readlink()}, which is not there") from None
    if not target.is_relative_to(root):
        raise InvalidFile(
            path, f"is a symbolic link out of {root}, to {target}. Put a copy in its place (`cp -rL` copies a tree so)"
        )


def _entry(source: Path, path: str) -> LocalFile:
    try:
        status = source.stat()
    except OSError as problem:
        raise InvalidFile(source, f"cannot be read: {problem.strerror}") from problem
    if not stat.S_ISREG(status.st_mode):
        raise InvalidFile(source, "is no regular file but a device, pipe or socket; those cannot be uploaded")
    if not os.access(source, os.R_OK):
        raise InvalidFile(source, "cannot be read: permission denied")
    try:
        path.encode()
    except UnicodeEncodeError:
        raise InvalidFile(repr(str(source)), "the name is not UTF-8; rename the file") from None
    if any(ord(character) < 32 for character in path) or "\\" in path:
        raise InvalidFile(repr(str(source)), "the name holds a control character or a backslash; rename the file")
    return LocalFile(path, source, status.st_size)


def upload(files: Sequence[LocalFile], on_progress: Progress | None = None) -> Flow[list[FileEntry]]:
    """Send every file's content to the blob store; `on_progress` gets (bytes sent, bytes in all)."""
    total, done, entries = sum(file.size_bytes for file in files), 0, []
    for file in files:

        def sent(count: int, base: int = done) -> None:
            if on_progress:
                on_progress(base + count, total)

        request = Request(
            "POST", path_of("blobs"), upload=file.source, on_sent=sent, timeout_s=_UPLOAD_TIMEOUT_S, repeatable=True
        )
        blob = yield from call_json(request)
        if blob["size_bytes"] != file.size_bytes:
            raise InvalidFile(file.source, "changed while it was being uploaded. Try again when nothing writes to it")
        entries.append(FileEntry(file.path, blob["sha256"], blob["size_bytes"]))
        done += file.size_bytes
    return entries
