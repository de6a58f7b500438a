"""Files of a model or manifest, fetched, verified, and put in place whole or not at all."""

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from argosy.errors import Conflict, InvalidFile, StorageFailed
from argosy.records import FileEntry
from argosy.sdk.files import Progress
from argosy.sdk.wire import Flow, Request, call

_TIMEOUT_S = 300.0


def fetch(
    base: str,
    files: Sequence[FileEntry],
    target: str | os.PathLike[str],
    overwrite: bool,
    on_progress: Progress | None,
) -> Flow[list[Path]]:
    """The files below REST path `base` into the folder `target`, which is made when missing.

    Answers the top-level files and folders made. Raises Conflict, before anything is fetched, when one of them is
    there and `overwrite` is off; StorageFailed when the content does not have the digest it should have.
    """
    folder = Path(target).expanduser().absolute()
    tops = sorted({safe_path(entry.path).parts[0] for entry in files})
    if not overwrite and (there := [str(folder / top) for top in tops if os.path.lexists(folder / top)]):
        raise Conflict(
            f"{there[0]} exists already. Choose another target, or overwrite it (--overwrite, overwrite=True)."
        )
    total, done = sum(entry.size_bytes for entry in files), 0
    staging = _make_staging(folder)
    try:
        for entry in files:

            def received(count: int, before: int = done) -> None:
                if on_progress:
                    on_progress(before + count, total)

            yield from _fetch_one(f"{base}/files/{quote(entry.path)}", entry, staging, received)
            done += entry.size_bytes
        for top in tops:
            _place(staging / top, folder / top, overwrite)
    except OSError as problem:
        raise StorageFailed(f"{folder} cannot be written: {problem.strerror}") from problem
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return [folder / top for top in tops]


def fetch_archive(
    url_path: str,
    query: Mapping[str, str | int | None],
    target: str | os.PathLike[str],
    overwrite: bool,
    total_bytes: int,
    on_progress: Progress | None,
) -> Flow[Path]:
    """What REST path `url_path` answers into the file `target`, whole or not at all. Raises as `fetch` does.

    `total_bytes` is only for `on_progress`.
    """
    place = Path(target).expanduser().absolute()
    if place.is_dir():
        raise InvalidFile(place, "is a folder; name the file to write")
    if not overwrite and os.path.lexists(place):
        raise Conflict(f"{place} exists already. Choose another target, or overwrite it (--overwrite, overwrite=True).")
    staging = _make_staging(place.parent)
    count = 0
    try:
        with (staging / place.name).open("xb") as out:

            def take(piece: bytes) -> None:
                nonlocal count
                out.write(piece)
                count += len(piece)
                if on_progress:
                    on_progress(count, max(count, total_bytes))

            yield from call(Request("GET", url_path, query=query, sink=take, timeout_s=_TIMEOUT_S))
        _place(staging / place.name, place, overwrite)
    except OSError as problem:
        raise StorageFailed(f"{place} cannot be written: {problem.strerror}") from problem
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return place


def safe_path(path: str) -> PurePosixPath:
    """A server's relative path, refused when it could lead out of the target folder."""
    pure = PurePosixPath(path)
    parts = path.split("/")
    if pure.is_absolute() or any(part in ("", ".", "..") for part in parts) or "\\" in path or "\0" in path:
        raise InvalidFile(repr(path), "the server names a file that would lie outside the target folder")
    return pure


def _make_staging(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=".argosy-", dir=folder))
    except FileExistsError:
        raise InvalidFile(folder, "is a file; the target must be a folder") from None
    except OSError as problem:
        raise StorageFailed(f"{folder} cannot be written: {problem.strerror}") from problem


def _fetch_one(url_path: str, entry: FileEntry, staging: Path, report: Callable[[int], object]) -> Flow[None]:
    path = staging / safe_path(entry.path)
    path.parent.mkdir(parents=True, exist_ok=True)
    digest, count = hashlib.sha256(), 0
    with path.open("xb") as out:

        def take(piece: bytes) -> None:
            nonlocal count
            try:
                out.write(piece)
            except OSError as problem:
                raise StorageFailed(f"{path} cannot be written: {problem.strerror}") from problem
            digest.update(piece)
            count += len(piece)
            report(count)

        yield from call(Request("GET", url_path, sink=take, timeout_s=_TIMEOUT_S))
    if digest.hexdigest() != entry.sha256:
        raise StorageFailed(
            f"{entry.path} arrived damaged: SHA-256 {digest.hexdigest()} instead of {entry.sha256}. Nothing was "
            "written. Try again; if it stays so, the blob store is corrupt."
        )


def _place(made: Path, target: Path, overwrite: bool) -> None:
    if overwrite:
        if target.is_dir() and not target.is_symlink():
            aside = made.with_name(f"{made.name}.old")
            target.rename(aside)
        made.replace(target)
        return
    if made.is_dir():
        # The check for an existing target lies before the transfer: rename would take an empty folder's place.
        if os.path.lexists(target):
            raise Conflict(f"{target} has been made by somebody else meanwhile. Nothing was overwritten.")
        made.rename(target)
        return
    try:
        os.link(made, target)
    except FileExistsError:
        raise Conflict(f"{target} has been made by somebody else meanwhile. Nothing was overwritten.") from None
    except OSError as problem:
        if problem.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP):
            raise
        made.rename(target)
