"""Models: register, look at, move aliases, download, delete."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from argosy.errors import InvalidOption
from argosy.records import FileEntry, Model, Reference, check_name, encode
from argosy.sdk import downloads, files, operations
from argosy.sdk.files import Progress
from argosy.sdk.operations import OnMessage
from argosy.sdk.wire import Flow, Request, all_pages, call, call_record, path_of


def register(
    path: str | os.PathLike[str],
    name: str,
    *,
    tags: Mapping[str, str] | None = None,
    description: str = "",
    metrics: Mapping[str, float] | None = None,
    unpack: bool = False,
    file_name: str | None = None,
    on_progress: Progress | None = None,
    on_message: OnMessage | None = None,
) -> Flow[Model]:
    """A file, a directory or an http(s) URL as the next version of `name`; nothing is ever overwritten.

    A directory `models/` gives files `models/...`. `unpack` lets the server unpack an archive. A URL is fetched by
    the server. `file_name` is the name to store the file or the directory under, when it has the same suffix.
    `on_progress` gets (bytes sent, bytes in all). Everything is checked before the first byte is sent.
    """
    check_name("model", name)
    body = {
        "name": name,
        "description": description,
        "tags": dict(tags or {}),
        "metrics": dict(metrics or {}),
        "unpack": unpack,
    }
    if is_url(path):
        request = Request(
            "POST", path_of("models"), json={**body, "url": str(path)}, headers=operations.once(), repeatable=True
        )
        operation = yield from operations.start(request, True, on_message)
        return (yield from show(str(operation.result["model"])))
    found = files.existing(path)
    local = files.renamed(files.collect(path), file_name)
    entries = yield from files.upload(local, on_progress)
    kind = "directory" if found.is_dir() else "file"
    return (yield from create({**body, "kind": kind, "source": str(found)}, entries))


def create(body: Mapping[str, object], entries: Sequence[FileEntry]) -> Flow[Model]:
    """A version made of blobs that are uploaded already."""
    json = {**body, "files": encode(list(entries))}
    return (yield from call_record(Model, Request("POST", path_of("models"), json=json, headers=operations.once())))


def is_url(path: object) -> bool:
    return isinstance(path, str) and path.lower().startswith(("http://", "https://"))


def list_all(*, tags: Mapping[str, str] | None = None) -> Flow[list[Model]]:
    """The latest version of each name; with `tags`, those that carry all of them."""
    found: list[Model] = yield from all_pages(Model, path_of("models"), _first_tag(tags))
    return [model for model in found if (tags or {}).items() <= model.tags.items()]


def _first_tag(tags: Mapping[str, str] | None) -> dict[str, str | int | None]:
    """The server takes one tag; the others are looked for in its answer."""
    first = next(iter((tags or {}).items()), None)
    return {"tag": "=".join(first)} if first else {}


def versions(name: str) -> Flow[list[Model]]:
    """All versions, newest first, each with what uses it."""
    return (yield from all_pages(Model, path_of("models", check_name("model", name))))


def show(reference: str) -> Flow[Model]:
    """`iris` (the latest), `iris:3` or `iris@production`."""
    return (yield from call_record(Model, Request("GET", _path(reference))))


def tag(
    reference: str,
    tags: Mapping[str, str | None] | None = None,
    *,
    description: str | None = None,
    metrics: Mapping[str, float] | None = None,
) -> Flow[Model]:
    """Set tags (None removes one), and the description and metrics when given."""
    changes = {"tags": dict(tags) if tags else None, "description": description, "metrics": metrics}
    body = {key: value for key, value in changes.items() if value is not None}
    return (yield from call_record(Model, Request("PATCH", _path(reference), json=body)))


def alias(reference: str, name: str) -> Flow[Model]:
    """Point alias `name` at that version, away from any other."""
    check_name("alias", name)
    version = (yield from show(reference)).version
    path = path_of("models", Reference.parse("model", reference).name, "aliases", name)
    return (yield from call_record(Model, Request("PUT", path, json={"version": version}, repeatable=True)))


def unalias(model: str, name: str) -> Flow[None]:
    """Remove alias `name` of the model called `model`."""
    check_name("alias", name)
    yield from call(Request("DELETE", path_of("models", check_name("model", model), "aliases", name)))


def delete(reference: str) -> Flow[None]:
    """One version, which must be named: `iris:3` or `iris@old`. Raises InUse's code while something needs it."""
    model = yield from show(explicit("model", reference))
    yield from call(Request("DELETE", path_of("models", model.name, model.version)))


def download(
    reference: str,
    target: str | os.PathLike[str] = ".",
    *,
    overwrite: bool = False,
    on_progress: Progress | None = None,
) -> Flow[list[Path]]:
    """The model's files into the folder `target`, verified by SHA-256 and put in place whole or not at all.

    Answers the paths made: one file, or the folder of a directory. Refuses to replace anything unless `overwrite`.
    """
    model = yield from show(reference)
    base = path_of("models", model.name, model.version)
    return (yield from downloads.fetch(base, model.files, target, overwrite, on_progress))


def explicit(noun: str, reference: str) -> str:
    """The reference itself; raises InvalidOption when it is a bare name, since a version must be chosen to delete."""
    parsed = Reference.parse(noun, reference)
    if parsed.version is None and parsed.alias is None:
        raise InvalidOption(
            f"the {noun} to delete", reference, f"name the version, as in {reference}:1. `argosy {noun} show "
            f"{reference}` lists the versions."
        )  # fmt: skip
    return reference


def _path(reference: str) -> str:
    return versioned("models", "model", reference)


def versioned(nouns: str, noun: str, reference: str) -> str:
    """`/v1/<nouns>/<name>/<version, alias or latest>` of a reference."""
    parsed = Reference.parse(noun, reference)
    return path_of(nouns, parsed.name, parsed.version or parsed.alias or "latest")
