"""Copies of the installed `argosy_serving`, one folder per content, to be put on a replica's PYTHONPATH.

A folder holds nothing but that package, so nothing of a model's own environment is hidden by it; and it is a copy, so
that replacing the installed version never changes the code under a running replica.
"""

import errno
import hashlib
import importlib.util
import os
import re
import secrets
import shutil
from pathlib import Path

from argosy.errors import EnvironmentFailed, StorageFailed

_PACKAGE = "argosy_serving"
_MARKER = ".complete"
_LEFTOVER = re.compile(r"\.installing-[0-9a-f]{16}-(\d+)-[0-9a-f]+")


def runtime_files(package: Path | None = None) -> dict[str, Path]:
    """Relative path -> file of the installed package (or of the folder `package`), without compiled files, sorted."""
    folder = package or _installed()
    found = {
        path.relative_to(folder).as_posix(): path
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix not in (".pyc", ".pyo")
    }
    return dict(sorted(found.items()))


def runtime_digest(package: Path | None = None) -> str:
    """SHA-256 of the names and contents of the package's files: the version of the serving runtime."""
    whole = hashlib.sha256()
    for name, path in runtime_files(package).items():
        whole.update(f"{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return whole.hexdigest()


def install_runtime(root: Path, package: Path | None = None) -> Path:
    """The folder for PYTHONPATH, `<root>/runtime-<digest>`; made when it is not there yet.

    Any number of processes may call this at once. Raises EnvironmentFailed or StorageFailed.
    """
    files = runtime_files(package)
    digest = runtime_digest(package)
    place = root / f"runtime-{digest}"
    if (place / _MARKER).is_file():
        return place
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        _sweep(root)
        work = root / f".installing-{digest[:16]}-{os.getpid()}-{secrets.token_hex(4)}"
        try:
            for name, path in files.items():
                target = work / _PACKAGE / name
                target.parent.mkdir(parents=True, exist_ok=True)
                _write(target, path.read_bytes())
            _write(work / _MARKER, digest.encode())
            _publish(work, place)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    except OSError as problem:
        raise StorageFailed(
            f"The serving runtime could not be copied to {root}: {problem.strerror or problem}. "
            "Free some space, make the folder writable, or set ARGOSY_HOME to another folder."
        ) from problem
    return place


def _publish(work: Path, place: Path) -> None:
    try:
        work.rename(place)
    except OSError as problem:
        if problem.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise
        if not (place / _MARKER).is_file():
            shutil.rmtree(place)
            work.rename(place)


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())


def _sweep(root: Path) -> None:
    """Remove copies that a process which is gone left unfinished."""
    for leftover in root.glob(".installing-*"):
        match = _LEFTOVER.fullmatch(leftover.name)
        if match and not Path(f"/proc/{match[1]}").exists():
            shutil.rmtree(leftover, ignore_errors=True)


def _installed() -> Path:
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.origin:
        raise EnvironmentFailed(f"The package {_PACKAGE} is missing from this installation. Reinstall argosy.")
    return Path(spec.origin).parent
