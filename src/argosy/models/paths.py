"""Paths of files within a model or a manifest: relative, with `/`, the same on every system, never escaping."""

import re
import unicodedata
from collections.abc import Iterable, Sequence

from argosy.errors import InvalidFile

# POSIX limits of one name and of a path, less the room that the folders above need.
_PART_BYTES = 255
_PATH_BYTES = 1024
_PARTS = 64
_DRIVE = re.compile(r"[A-Za-z]:")
# Control characters, lone surrogates, and what moves or hides text when a path is shown (U+202E and its kind).
_UNSEEN = frozenset({"Cc", "Cs", "Cf", "Zl", "Zp"})


def check_path(path: str) -> str:
    """The path itself; InvalidFile names what is wrong with it."""
    problem = _problem(path)
    if problem:
        raise InvalidFile(ascii(path), f"{problem}. Write a relative path with '/', such as 'model/weights.bin'.")
    return path


def check_paths(paths: Sequence[str]) -> list[str]:
    """Check each path and that all of them fit into one folder; answers warnings (names that differ by case only)."""
    seen: set[str] = set()
    for path in paths:
        check_path(path)
        if path in seen:
            raise InvalidFile(path, "it is there twice. Give every file a path of its own.")
        seen.add(path)
    for path in paths:
        for folder in _folders(path):
            if folder in seen:
                raise InvalidFile(folder, f"it is a file, and a folder too because of {path}. Rename one of them.")
    return _alike(paths)


def _problem(path: str) -> str | None:
    if not path:
        return "it is empty"
    if any(unicodedata.category(character) in _UNSEEN for character in path):
        return "it has control or invisible characters"
    if "\\" in path:
        return "it has a backslash"
    if path.startswith("/") or _DRIVE.match(path):
        return "it is absolute"
    parts = path.split("/")
    if ".." in parts:
        return "it has '..'"
    if "" in parts or "." in parts:
        return "it has an empty part or '.'"
    if len(parts) > _PARTS:
        return f"it is more than {_PARTS} folders deep"
    if len(path.encode()) > _PATH_BYTES or any(len(part.encode()) > _PART_BYTES for part in parts):
        return f"it is longer than {_PATH_BYTES} bytes, or {_PART_BYTES} in one part"
    return None


def _folders(path: str) -> Iterable[str]:
    parts = path.split("/")
    return ("/".join(parts[:count]) for count in range(1, len(parts)))


def _alike(paths: Iterable[str]) -> list[str]:
    """Names that are one file on a system that ignores case or normalises Unicode."""
    groups: dict[str, list[str]] = {}
    for path in paths:
        groups.setdefault(unicodedata.normalize("NFC", path).casefold(), []).append(path)
    return [
        f"{' and '.join(sorted(group))} differ by case or accents only and are one file on some systems"
        for group in groups.values()
        if len(group) > 1
    ]
