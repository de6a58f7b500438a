"""What somebody asks to register, and the rules that hold before anything is stored."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from argosy.errors import InvalidFile, InvalidOption, TooLarge
from argosy.models.paths import check_paths
from argosy.records import FileEntry, check_name

LATEST = "latest"
_FILES = 10_000
_ENTRIES = 200
_KEY_CHARACTERS = 255
_VALUE_CHARACTERS = 4096
_TEXT_CHARACTERS = 20_000


@dataclass(frozen=True)
class ModelRequest:
    """`files` lie in the blob store already. `kind` is file (one file, its path is its name) or directory (all files
    below one folder). `unpack` says that the one file is an archive whose content is the model."""

    name: str
    kind: str
    files: Sequence[FileEntry]
    source: str = ""
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    unpack: bool = False


def checked(request: ModelRequest, limit_bytes: int) -> tuple[ModelRequest, list[str]]:
    """The request with its files sorted by path, and warnings. Raises the UserError that names what is wrong."""
    check_name("model", request.name)
    if request.kind not in ("file", "directory"):
        raise InvalidOption("kind", request.kind, "write file or directory")
    warnings = check_files("file" if request.unpack else request.kind, request.files, limit_bytes)
    check_text("source", request.source)
    check_text("description", request.description)
    check_tags(request.tags)
    check_metrics(request.metrics)
    return replace(request, files=sorted(request.files, key=lambda file: file.path)), warnings


def check_files(kind: str, files: Sequence[FileEntry], limit_bytes: int) -> list[str]:
    """Warnings about the files of a model; InvalidFile or TooLarge when they cannot be one."""
    if not files:
        raise InvalidOption("files", [], "a model has at least one file; an empty folder is no model")
    if len(files) > _FILES:
        raise InvalidOption("files", f"{len(files):,} files", f"a model has at most {_FILES:,}; pack the rest into one")
    warnings = check_paths([file.path for file in files])
    if sum(file.size_bytes for file in files) > limit_bytes:
        raise TooLarge("The model", limit_bytes)
    if kind == "file" and (len(files) > 1 or "/" in files[0].path):
        raise InvalidFile(files[-1].path, "a model of kind file is one file without folders. Use kind directory.")
    tops = {file.path.partition("/")[0] for file in files}
    if kind == "directory" and (len(tops) > 1 or any("/" not in file.path for file in files)):
        raise InvalidFile(files[0].path, "the files of a directory model lie below one folder, as in 'iris/model.pkl'.")
    return warnings


def check_alias(alias: str) -> str:
    """Aliases follow the rules of names, and cannot be mistaken for a version."""
    check_name("alias", alias)
    if alias == LATEST:
        raise InvalidOption("alias", alias, "it always means the newest version; choose another name")
    if alias.isdigit():
        raise InvalidOption("alias", alias, "a number means a version; choose another name")
    return alias


def check_tags(tags: Mapping[str, str | None]) -> None:
    """A value of None removes the tag (in an update)."""
    _check_keys("tags", tags)
    for key, value in tags.items():
        if value is not None:
            check_text(f"tag {key}", value, _VALUE_CHARACTERS)


def check_metrics(metrics: Mapping[str, float | None]) -> None:
    """A value of None removes the metric (in an update)."""
    _check_keys("metrics", metrics)
    for key, value in metrics.items():
        # bool is an int to Python, and neither it nor NaN compares with other numbers in a useful way.
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or not _finite(value)):
            raise InvalidOption(f"metric {key}", value, "it must be a finite number")


def check_text(option: str, text: str, limit_characters: int = _TEXT_CHARACTERS) -> str:
    if not isinstance(text, str):
        raise InvalidOption(option, text, "it must be text")
    if len(text) > limit_characters:
        raise InvalidOption(option, f"{text[:40]}...", f"it is longer than {limit_characters:,} characters")
    if any((ord(c) < 32 and c not in "\n\r\t") or 0xD800 <= ord(c) <= 0xDFFF for c in text):
        raise InvalidOption(option, text[:80], "it has control characters or half a character")
    return text


def _check_keys(option: str, entries: Mapping[str, object]) -> None:
    if len(entries) > _ENTRIES:
        raise InvalidOption(option, f"{len(entries)} entries", f"at most {_ENTRIES} are kept")
    for key in entries:
        check_text(option, key, _KEY_CHARACTERS)
        if not key.strip() or key != key.strip() or not key.isprintable():
            raise InvalidOption(option, key, "a key is visible text without spaces at its ends")


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False
