"""The packages of a lock as files for any platform, without an emulator: wheels are unpacked, nothing is run.

What comes out depends on the lock, the Python and the platform alone. Scripts start with the image's Python, and no
bytecode is compiled: what a compiler writes differs between patch levels of Python and even between two runs.
"""

import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from argosy.errors import EnvironmentFailed, Error, InvalidDependencies, StorageFailed
from argosy.images.conda import conda_files
from argosy.images.oci.layers import Content
from argosy.images.oci.platforms import Platform
from argosy.images.scripts import settle_scripts
from argosy.manifests.channels import Channels
from argosy.manifests.uv import Finished, Index, run_uv
from argosy.records import Lock

PREFIX = "opt/argosy"
PYTHON = f"/{PREFIX}/bin/python"
_NO_WHEEL = re.compile(
    r"\b([A-Za-z0-9][A-Za-z0-9._-]*)(?:\{[^}]*\})?(==\S+)? (?:has|have) no "
    r"(?:usable wheels|wheels with|`[^`]*`-compatible wheels)"
)
_HASH_DIFFERS = re.compile(r"Hash mismatch for `?([^`\s]+)`?")
_LEFT_OUT = ("/__pycache__/", "/.lock")


class Packages:
    """Unpacks locks into folders that last as long as the object: use it as a context manager."""

    def __init__(self, root: Path, index: Index, say: Callable[[str], None], channels: Channels | None = None) -> None:
        self._index, self._say, self._channels = index, say, channels or Channels()
        try:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._folder = Path(tempfile.mkdtemp(prefix="packages-", dir=root))
        except OSError as problem:
            raise _storage(root, problem) from problem

    def __enter__(self) -> "Packages":
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def files(self, lock: Lock, platform: Platform) -> dict[str, Content]:
        """The files of an image by their path. Raises InvalidDependencies for a package without a wheel."""
        if not lock.conda:
            return self._wheels(lock, platform)
        try:
            below = conda_files(lock, platform.conda, PREFIX, self._folder, self._channels)
        except OSError as problem:
            raise _storage(self._folder, problem) from problem
        return below | self._wheels(lock, platform)

    def _wheels(self, lock: Lock, platform: Platform) -> dict[str, Content]:
        target = self._folder / platform.architecture
        (self._folder / "lock.txt").write_text(lock.text, encoding="utf-8")
        arguments = ["pip", "install", "--target", str(target), "--python-platform", platform.wheels]
        strict = ["--require-hashes", "--only-binary", ":all:", "--no-deps", "--no-sources", "--quiet"]
        python = ["--python-version", lock.python, "--python", sys.executable, "--no-compile-bytecode"]
        done = run_uv(
            [*arguments, *strict, *python, "-r", "lock.txt"], self._folder, index=self._index, on_line=self._say
        )
        if done.code:
            raise _explained(done, lock, platform)
        site = f"{PREFIX}/lib/python{lock.python}/site-packages"
        try:
            settle_scripts(target / "bin", target, Path(PYTHON))
            return {
                f"{site}/{path.relative_to(target).as_posix()}": Content(path, bool(path.stat().st_mode & 0o111))
                for path in target.rglob("*")
                if path.is_file() and not any(part in f"/{path.relative_to(target)}" for part in _LEFT_OUT)
            }
        except OSError as problem:
            raise _storage(target, problem) from problem


def _explained(done: Finished, lock: Lock, platform: Platform) -> Error:
    details = {"log": done.log, "platform": platform.name}
    text = " ".join(done.text.split())
    what = f"The packages for {platform.name} could not be installed"
    if match := _NO_WHEEL.search(text):
        name = match[1].lower()
        version = lock.packages.get(name) or (match[2] or "").removeprefix("==")
        return InvalidDependencies(
            f"{name} {version} has no wheel for Python {lock.python} on {platform.name} (glibc 2.28 or later), and "
            "source distributions are not built: that would run their code here, for another platform. Choose a "
            f"version that has one, leave {platform.name} out of --platform, or put a wheel that you built on your own "
            "index.",
            {**details, "package": name},
        )
    if match := _HASH_DIFFERS.search(text):
        return EnvironmentFailed(
            f"{what}: the index now serves {match[1]} with other content than the manifest locked. If that change is "
            "intended, make the manifest again; if not, distrust the index.",
            details,
        )
    return EnvironmentFailed(f"{what}: {text[:600] or f'uv ended with code {done.code}'}", details)


def _storage(folder: Path, problem: OSError) -> StorageFailed:
    return StorageFailed(
        f"The packages could not be unpacked in {folder}: {problem.strerror or problem}. Free some space, make it "
        "writable, or set ARGOSY_HOME to another folder."
    )
