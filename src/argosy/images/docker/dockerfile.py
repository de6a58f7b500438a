"""An image as a Dockerfile, for those who want to build it by hand: base, steps, Argosy's layers, configuration.

What the steps leave out is taken from the image: its own layers are archives in the context, which ADD unpacks.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from argosy.errors import InvalidOption
from argosy.images.docker.steps import parse, sources_of
from argosy.images.oci.layers import BASE, TITLE, Content
from argosy.images.oci.layout import BASE_DIGEST, BASE_NAME, STEPS, OciLayout
from argosy.images.unpack import BlobPath
from argosy.records import FileEntry

_LAYERS = "argosy-layers"
# Instructions of one word or of a list of words, and where they stand in an image's configuration.
_PLAIN = {"USER": "User", "WORKDIR": "WorkingDir", "STOPSIGNAL": "StopSignal"}
_STARTED = {"ENTRYPOINT": "Entrypoint", "CMD": "Cmd"}


def dockerfile(layout: OciLayout, reference: str, digest: str) -> str:
    """Of the image manifest `digest`. Raises InvalidOption for a value that a Dockerfile cannot hold."""
    manifest = layout.json(digest)
    annotations = manifest.get("annotations") or {}
    config = layout.json(manifest["config"]["digest"]).get("config") or {}
    values = dict(str(item).partition("=")[::2] for item in config.get("Env") or [])
    labels = config.get("Labels") or {}
    lines = [
        f"# {reference}, {digest}",
        *_base(annotations),
        *(_steps(annotations[STEPS]) if STEPS in annotations else []),
        *[f"ADD {place} /" for place in _own_layers(manifest)],
        *[f"ENV {_name(reference, name)}={_quoted(reference, name, value)}" for name, value in values.items()],
        *[f"LABEL {_quoted(reference, n, n)}={_quoted(reference, n, v)}" for n, v in labels.items()],
        *[f"EXPOSE {port}" for port in config.get("ExposedPorts") or {}],
        *[f"{word} {config[key]}" for word, key in _PLAIN.items() if config.get(key)],
        *[f"{word} {json.dumps(config[key])}" for word, key in _STARTED.items() if config.get(key)],
    ]
    for line in lines:
        _check(reference, line.partition(" ")[0], line)
    return "\n".join(lines) + "\n"


def context(
    layout: OciLayout, reference: str, digest: str, files: Sequence[FileEntry], blob_path: BlobPath
) -> dict[str, Content]:
    """The files that the Dockerfile needs beside it, and itself, by their path."""
    manifest = layout.json(digest)
    steps = (manifest.get("annotations") or {}).get(STEPS)
    entries = {entry.path: entry for entry in files}
    copied = {
        path: Content(blob_path(entries[path].sha256))
        for step in (parse(steps, "steps") if steps else [])
        if step.instruction == "COPY"
        for source in step.words[:-1]
        for path in sources_of(source, entries)
    }
    layers = {place: Content(layout.path(layer)) for place, layer in _own_layers(manifest).items()}
    return {**copied, **layers, "Dockerfile": Content(dockerfile(layout, reference, digest).encode())}


def _steps(text: str) -> list[str]:
    """As they ran here, whatever the base says of its user, folder and shell."""
    return ["USER 0", "WORKDIR /", 'SHELL ["/bin/sh", "-c"]', *(step.text for step in parse(text, "steps"))]


def _base(annotations: Mapping[str, str]) -> list[str]:
    digest = annotations.get(BASE_DIGEST, "")
    if name := annotations.get(BASE_NAME):
        folder, slash, last = name.partition("@")[0].rpartition("/")
        return [f"FROM {folder}{slash}{last.partition(':')[0]}@{digest}"]
    return [f"# BASE is the name of the image {digest}: --build-arg BASE=NAME", "ARG BASE", "FROM ${BASE}"]


def _own_layers(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Place in the context -> digest, of what is neither the base's nor a step's."""
    found: dict[str, str] = {}
    for layer in manifest["layers"]:
        kind = str((layer.get("annotations") or {}).get(TITLE, BASE)).partition(":")[0]
        if kind not in (BASE, "step"):
            plain = re.sub(r"[^a-z]", "", kind)
            found[f"{_LAYERS}/{len(found) + 1:02}-{plain}.tar"] = str(layer["digest"])
    return found


def _quoted(reference: str, name: str, value: str) -> str:
    _check(reference, name, value)
    for special in '\\"$':
        value = value.replace(special, f"\\{special}")
    return f'"{value}"'


def _name(reference: str, name: str) -> str:
    """Of a variable. Engines take nearly any."""
    if not re.fullmatch(r"[\w.-]+", name):
        raise InvalidOption("the image", reference, f"a Dockerfile cannot hold its variable {name[:60]!r}")
    return name


def _check(reference: str, name: str, value: str) -> None:
    """One line must stay one: what came from elsewhere would be instructions of its own."""
    if "\n" in value or "\r" in value:
        raise InvalidOption("the image", reference, f"its {name} has several lines, which a Dockerfile cannot hold")
