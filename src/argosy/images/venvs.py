"""Isolated Python environments on this machine: one folder per lock and Python, shared by all images that need it.

An environment is built in a folder beside its final place, checked, and renamed, so that a half made one is never
seen. `flock` lets one builder per environment work at a time, across threads and processes; uv inherits the lock, so
that a uv that outlives a killed control plane is waited for instead of written over.
"""

import errno
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from argosy.errors import EnvironmentFailed, Error
from argosy.images.conda import built_elsewhere, locked_packages, remember_place
from argosy.images.leases import REMOVED
from argosy.images.pythons import Python
from argosy.images.scripts import settle_scripts
from argosy.manifests.channels import Channels
from argosy.manifests.conda_install import install_conda
from argosy.manifests.conda_lock import own_platform
from argosy.manifests.uv import Finished, Index, OnLine, run_uv
from argosy.records import Lock, encode

_MARKER = ".argosy-environment.json"
_BUILDING = ".building-"
_KEY = re.compile(r"[0-9a-f]{64}")
# uv keeps the user's choice of how files get from its cache into an environment, unless told otherwise.
LINK_MODES = ("clone", "copy", "hardlink", "symlink")
_NO_SPACE = re.compile(r"No space left on device|Disk quota exceeded|File too large|os error (28|122|27)\b")
_HASH_DIFFERS = re.compile(r"Hash mismatch for `?([^`\s]+)`?")
_UNREACHABLE = re.compile(
    r"Failed to fetch|error sending request|dns error|timed out|HTTP status|tcp connect error|Connection refused",
    re.IGNORECASE,
)


def environment_key(lock: Lock, python_minor: str) -> str:
    """SHA-256 of what an environment holds: equal for every image with the same lock and Python (`3.12`)."""
    parts = {"lock": lock.text, "python": python_minor, **({"conda": encode(lock.conda)} if lock.conda else {})}
    content = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(content.encode()).hexdigest()


def environment_folder(root: Path, key: str) -> Path:
    """Where an environment lies, whether it is there or not."""
    return root / _checked(key)


def environment_python(root: Path, key: str) -> Path:
    """The interpreter of a built environment. It need not exist; see check_environment."""
    return environment_folder(root, key) / "bin" / "python"


def list_environments(root: Path) -> list[str]:
    """The keys of all finished environments, whether their Python is still there or not."""
    if not root.is_dir():
        return []
    return sorted(f.name for f in root.iterdir() if _KEY.fullmatch(f.name) and (f / _MARKER).is_file())


def environment_folders(root: Path) -> dict[str, Path]:
    """All environments by their key, also those that were never finished."""
    return {f.name: f for f in root.iterdir() if _KEY.fullmatch(f.name)} if root.is_dir() else {}


def check_environment(root: Path, key: str) -> str:
    """Empty when the environment can be used, else the reason why not."""
    folder = root / _checked(key)
    if not (folder / _MARKER).is_file():
        return "it was never built" if not folder.exists() else "its build was never finished"
    python = folder / "bin" / "python"
    if built_elsewhere(folder):
        return "it was built in another folder, which conda's packages remember"
    if not python.exists():
        base = os.path.realpath(python)
        return f"its Python is gone from this machine: {base} does not exist any more"
    return ""


@dataclass(frozen=True)
class Build:
    """What an environment is made of. `link_mode` is how files leave uv's cache: clone, copy, hardlink, symlink or
    "" for uv's own choice, which shares them; only copies are safe from what is written into another environment.
    `channels` know the credentials of conda channels; with conda's packages, `python` is the one of the lock."""

    key: str
    lock: Lock
    python: Python
    index: Index = field(default_factory=Index)
    link_mode: str = ""
    channels: Channels = field(default_factory=Channels)


def ensure_environment(root: Path, build: Build, on_line: OnLine | None = None) -> Path:
    """The interpreter of the environment of `build.key`, which is built when it is not there.

    `root` holds all environments. A finished one is returned at once; one whose base Python is gone is built anew.
    Raises EnvironmentFailed; nothing is left behind that could be taken for an environment.
    """
    if not check_environment(root, build.key):
        return environment_python(root, build.key)
    if build.python.minor != build.lock.python:
        raise EnvironmentFailed(
            f"The lock is for Python {build.lock.python}, the interpreter is {build.python.version}."
        )
    if build.link_mode not in ("", *LINK_MODES):
        raise EnvironmentFailed(f"{build.link_mode!r} is no link mode. Use one of {', '.join(LINK_MODES)}.")
    say = on_line or (lambda line: None)
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(root, build.key, say) as descriptor:
            if check_environment(root, build.key):
                _sweep(root, build.key)
                _build(root, build, say, descriptor)
    except OSError as problem:
        raise _storage_problem(root, problem) from problem
    return environment_python(root, build.key)


@contextmanager
def _locked(root: Path, key: str, say: OnLine) -> Iterator[int]:
    folder = root / ".locks"
    folder.mkdir(exist_ok=True)
    # The lock file stays for ever: removing it would let two builders lock two files of the same name.
    descriptor = os.open(folder / _checked(key), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Waiting for another build of the same environment ...")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def _build(root: Path, build: Build, say: OnLine, descriptor: int) -> None:
    work = root / f"{_BUILDING}{build.key}-{secrets.token_hex(4)}"
    work.mkdir(mode=0o700)
    try:
        place = work / "environment"
        (work / "lock.txt").write_text(build.lock.text, encoding="utf-8")
        if build.lock.conda:
            _make_of_conda(work, place, root / build.key, build, say, descriptor)
        else:
            _make(work, place, build, say, descriptor)
        _mark(place, build)
        _retire(root, build.key)
        place.rename(root / build.key)
        _sync_folder(root)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _make(work: Path, place: Path, build: Build, say: OnLine, descriptor: int) -> None:
    python, link = build.python, ["--link-mode", build.link_mode] if build.link_mode else []
    # Relocatable: scripts find their interpreter beside them, so the folder can be renamed when it is finished.
    venv = ["venv", "--no-project", "--relocatable", "--quiet", "--python", str(python.path), str(place)]
    made = run_uv(venv, work, on_line=say, keep_open=[descriptor])
    if made.code:
        raise _failure(work, f"An environment of Python {python.version} ({python.path}) could not be made", made)
    sync = ["pip", "sync", "--require-hashes", "--only-binary", ":all:", "--no-sources", "--compile-bytecode"]
    target = ["--allow-empty-requirements", "--python", str(place / "bin" / "python"), "lock.txt"]
    filled = run_uv([*sync, *link, *target], work, index=build.index, on_line=say, keep_open=[descriptor])
    if filled.code:
        raise _failure(work, "The environment's packages could not be installed", filled)


def _make_of_conda(work: Path, place: Path, final: Path, build: Build, say: OnLine, descriptor: int) -> None:
    """conda's packages as they must be at `final`, and the wheels of the lock on top."""
    install_conda(
        locked_packages(build.lock, own_platform()), own_platform(), place, final, build.channels, [descriptor]
    )
    link = ["--link-mode", build.link_mode] if build.link_mode else []
    install = ["pip", "install", "--require-hashes", "--only-binary", ":all:", "--no-deps", "--no-sources"]
    target = ["--compile-bytecode", "--python", str(place / "bin" / "python"), "-r", "lock.txt"]
    filled = run_uv([*install, *link, *target], work, index=build.index, on_line=say, keep_open=[descriptor])
    if filled.code:
        raise _failure(work, "The environment's packages could not be installed", filled)
    site = place / "lib" / f"python{build.lock.python}" / "site-packages"
    # `noarch: python` packages come without bytecode; what cannot be compiled runs as it is, or is never imported.
    compiling = [str(place / "bin" / "python"), "-I", "-m", "compileall", "-q", "-j", "0", str(site)]
    subprocess.run(compiling, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    settle_scripts(place / "bin", site, final / "bin" / "python")
    remember_place(place, final)


def _mark(place: Path, build: Build) -> None:
    """All packages reach the disk before the marker does: a power cut leaves a whole environment or none."""
    os.sync()
    marker = {"key": build.key, "python": build.python.version, "base": str(build.python.path)}
    with (place / _MARKER).open("w", encoding="utf-8") as out:
        json.dump(marker, out, sort_keys=True)
        out.flush()
        os.fsync(out.fileno())
    _sync_folder(place)


def _retire(root: Path, key: str) -> None:
    """Take the folder of `key` away in one step; its files are deleted after."""
    if (root / key).is_dir():
        gone = root / f"{REMOVED}{key}-{secrets.token_hex(4)}"
        (root / key).rename(gone)
        shutil.rmtree(gone, ignore_errors=True)


def _sweep(root: Path, key: str) -> None:
    """Remove what crashed builds and removals of `key` left. The caller holds its lock."""
    for leftover in [*root.glob(f"{_BUILDING}{key}-*"), *root.glob(f"{REMOVED}{key}-*")]:
        shutil.rmtree(leftover, ignore_errors=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _checked(key: str) -> str:
    if not _KEY.fullmatch(key):
        raise ValueError(f"{key!r} is no environment key")
    return key


def _failure(where: Path, what: str, finished: Finished) -> Error:
    """uv's failure as an error that says what to do; uv's own words are in details["log"]."""
    details = {"log": finished.log}
    if _NO_SPACE.search(finished.text) or finished.code == -signal.SIGXFSZ:
        return EnvironmentFailed(f"{what}: {_full(where)}", details)
    if finished.code < 0:
        name = signal.Signals(-finished.code).name
        return EnvironmentFailed(f"{what}: uv was ended by {name}; perhaps memory ran out. Try again.", details)
    if differs := _HASH_DIFFERS.search(finished.text):
        return EnvironmentFailed(
            f"{what}: the index now serves {differs[1]} with other content than the manifest locked. Nothing was "
            "installed. If that change is intended, make the manifest again; if not, distrust the index.",
            details,
        )
    reason = " ".join(_reason(finished.log))
    if _UNREACHABLE.search(finished.text):
        return EnvironmentFailed(
            f"{what}: the package index did not answer ({reason}). Check the network, the proxy variables and the "
            "index_url setting, then try again.",
            details,
        )
    return EnvironmentFailed(f"{what}: {reason or f'uv ended with code {finished.code}'}", details)


def _reason(log: list[str]) -> list[str]:
    start = next((n for n, line in enumerate(log) if line.startswith("error:")), 0)
    return [re.sub(r"^(error|cause):\s*", "", line.strip()) for line in log[start : start + 6] if line.strip()]


def _full(where: Path) -> str:
    probe = next((folder for folder in (where, *where.parents) if folder.exists()), Path("/"))
    free_bytes = shutil.disk_usage(probe).free
    return (
        f"no space left on the disk of {probe} or of uv's cache ({free_bytes / 1e6:,.0f} MB free here). Delete images "
        "that are not needed (`argosy image delete`), run `uv cache prune`, or move ARGOSY_HOME, then try again."
    )


def _storage_problem(root: Path, problem: OSError) -> EnvironmentFailed:
    if problem.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return EnvironmentFailed(f"The environment could not be stored: {_full(root)}")
    return EnvironmentFailed(
        f"The environment could not be stored in {root}: {problem.strerror or problem}. "
        "Make the folder writable for this user, or set ARGOSY_HOME to another folder."
    )
