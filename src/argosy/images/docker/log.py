"""The log of a build: told to the operation as it comes, and kept whole in a file."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from argosy.errors import NotFound, StorageFailed

# The operation keeps each message in the database.
_SAY_EVERY_S = 0.3
_LAST_LINES = 20


class BuildLog:
    """Written to `<folder>/<image name>.log`; `keep` gives it the image's version. Use it as a context manager."""

    def __init__(self, folder: Path, name: str, say: Callable[[str], None]) -> None:
        self._path, self._say = _path(folder, name, None), say
        self._folder, self._name = folder, name
        self._waiting: list[str] = []
        self._said_s = 0.0
        self.last: list[str] = []
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = self._path.open("w", encoding="utf-8", errors="replace")
        except OSError as problem:
            raise _failed(self._path, problem) from problem

    def __enter__(self) -> "BuildLog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def begin(self, text: str) -> None:
        """A step begins: `last` will be its lines."""
        self.flush()
        self.last = []
        self._write(text)
        self._say(text)

    def line(self, text: str) -> None:
        self.last = [*self.last, text][-_LAST_LINES:]
        self._write(f"  {text}")
        self._waiting.append(text)
        if time.monotonic() - self._said_s > _SAY_EVERY_S:
            self.flush()

    def flush(self) -> None:
        """Tell the lines that were not told yet."""
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            self._said_s = time.monotonic()
            self._say("\n".join(waiting))

    def keep(self, version: int) -> None:
        """The log is that of this version of the image."""
        self.flush()
        self._file.flush()
        try:
            shutil.copyfile(self._path, _path(self._folder, self._name, version))
        except OSError as problem:
            raise _failed(self._path, problem) from problem

    def _write(self, text: str) -> None:
        try:
            self._file.write(f"{text}\n")
            self._file.flush()
        except OSError as problem:
            raise _failed(self._path, problem) from problem


def read_log(folder: Path, name: str, version: int | None) -> str:
    """Of the last build under this name, also one that failed; or of one version. Raises NotFound."""
    try:
        return _path(folder, name, version).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        raise NotFound("log", name, "Only images that were built with --docker-steps have one.") from None


def forget_log(folder: Path, name: str, version: int | None) -> None:
    """Nothing happens when there is none."""
    try:
        _path(folder, name, version).unlink(missing_ok=True)
    except OSError as problem:
        raise _failed(_path(folder, name, version), problem) from problem


def _path(folder: Path, name: str, version: int | None) -> Path:
    return folder / (f"{name}.log" if version is None else f"{name}:{version}.log")


def _failed(path: Path, problem: OSError) -> StorageFailed:
    return StorageFailed(f"The build log {path} cannot be written: {problem.strerror or problem}. Free some space.")
