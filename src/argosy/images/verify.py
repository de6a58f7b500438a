"""Re-hashes an environment's files against what its packages say they are, for `argosy doctor`.

uv shares files between its cache and environments by hard links, so a write into one changes them all.
"""

import base64
import csv
import hashlib
import hmac
import json
import os
from collections.abc import Iterator
from pathlib import Path

_CHUNK_BYTES = 1 << 20


def verify_environment(folder: Path) -> list[str]:
    """What is wrong, one line a file; empty when all files are as they were installed. `folder` is the environment's.

    Compiled files are not checked: Python makes them itself.
    """
    libraries = sorted(folder.glob("lib/python*/site-packages"))
    if not libraries:
        return [f"{folder}: there is no site-packages folder"]
    of_conda: set[Path] = set()
    found = list(_verify_conda(folder, of_conda))
    return found + [problem for library in libraries for problem in _verify_library(library, folder, of_conda)]


def _verify_conda(folder: Path, of_conda: set[Path]) -> Iterator[str]:
    """conda's packages by what was noted when they were told their prefix; their files are added to `of_conda`."""
    for note in sorted((folder / "conda-meta").glob("*.json")):
        try:
            paths = json.loads(note.read_bytes())["paths_data"]["paths"]
        except (OSError, ValueError, KeyError) as problem:
            yield f"{note}: cannot be read ({problem})"
            continue
        for entry in paths:
            path = Path(os.path.normpath(folder / entry["_path"]))
            of_conda.add(path)
            wanted = entry.get("sha256_in_prefix") or entry.get("sha256")
            if not path.is_file():
                if wanted or not path.is_symlink():
                    yield f"{note.stem}: {entry['_path']} is missing"
            elif (
                wanted and entry["path_type"] != "softlink" and hashlib.sha256(path.read_bytes()).hexdigest() != wanted
            ):
                yield f"{note.stem}: {entry['_path']} was changed"


def _verify_library(library: Path, folder: Path, of_conda: set[Path]) -> Iterator[str]:
    for info in sorted(library.glob("*.dist-info")):
        if info / "METADATA" in of_conda:
            continue
        record = info / "RECORD"
        try:
            with record.open(newline="", encoding="utf-8") as lines:
                rows = [row for row in csv.reader(lines) if row]
        except (OSError, UnicodeDecodeError, csv.Error) as problem:
            yield f"{record}: cannot be read ({problem})"
            continue
        for row in rows:
            if problem_found := _verify_file(library, folder, row):
                yield f"{info.name.removesuffix('.dist-info')}: {problem_found}"


def _verify_file(library: Path, folder: Path, row: list[str]) -> str:
    name, digest = row[0], row[1] if len(row) > 1 else ""
    path = Path(os.path.normpath(library / name))
    if not path.is_relative_to(folder):
        return f"{name} lies outside of the environment"
    if not path.is_file():
        return f"{name} is missing" if digest else ""
    algorithm, _, wanted = digest.partition("=")
    if algorithm not in ("sha256", "sha384", "sha512"):
        return ""
    try:
        found = _digest(path, algorithm)
    except OSError as problem:
        return f"{name} cannot be read ({problem.strerror})"
    return "" if hmac.compare_digest(found, wanted.rstrip("=")) else f"{name} was changed"


def _digest(path: Path, algorithm: str) -> str:
    """As wheels write it: URL-safe base64 without padding (PEP 376, PEP 427)."""
    whole = hashlib.new(algorithm)
    with path.open("rb") as content:
        while chunk := content.read(_CHUNK_BYTES):
            whole.update(chunk)
    return base64.urlsafe_b64encode(whole.digest()).decode().rstrip("=")
