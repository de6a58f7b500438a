"""What an image is made of, as a pure function of its manifest: the same plan for every runtime and builder.

Layers lie in the order base, dependencies, runtime, code, model, so that a retrained model changes only the last one.
The plan's digest covers content only: never a name, a time or a machine.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from argosy.records import FileEntry, Layer, Manifest, ModelPin, digest

# Where an image's content lies when it is a container; the process runtime has the same tree in a folder of the home.
ENTRYPOINT = ["python", "-m", "argosy_serving"]


@dataclass(frozen=True)
class ModelContent:
    """A model version with its files, as the plan and the image folder need them."""

    pin: ModelPin
    kind: str
    files: Sequence[FileEntry]


@dataclass(frozen=True)
class Plan:
    """`base` is `python:3.12` until it is resolved to a container's digest."""

    digest: str
    layers: list[Layer]
    environment_key: str
    entrypoint: list[str]
    labels: dict[str, str]


def plan(
    manifest: Manifest,
    models: Sequence[ModelContent],
    environment_key: str,
    runtime_digest: str,
    runtime_version: str,
    base: str = "",
) -> Plan:
    """`environment_key` identifies lock and Python, `runtime_digest` the files of the serving runtime.

    `base` is the digest of a container's base, empty for a machine's own Python.
    """
    recipe = manifest.recipe
    base = base or f"python:{recipe.lock.python}"
    layers = [
        Layer("base", base, f"Python {recipe.lock.python}"),
        Layer("dependencies", environment_key, f"{len(recipe.lock.packages)} locked packages"),
        Layer("runtime", runtime_digest, f"argosy_serving {runtime_version}"),
        Layer("code", digest(recipe.files), recipe.script, sum(f.size_bytes for f in recipe.files)),
        *(
            Layer("model", m.pin.digest, m.pin.reference, sum(f.size_bytes for f in m.files))
            for m in sorted(models, key=lambda m: m.pin.name)
        ),
    ]
    labels = {
        "io.argosy.manifest": manifest.reference,
        "io.argosy.manifest.digest": manifest.digest,
        "io.argosy.models": ",".join(sorted(m.pin.reference for m in models)),
        "io.argosy.serving": runtime_version,
    }
    content = {"manifest": manifest.digest, "base": base, "runtime": runtime_digest}
    return Plan(digest(content), layers, environment_key, list(ENTRYPOINT), labels)


def image_json(plan_digest: str, manifest: Manifest, models: Sequence[ModelContent]) -> dict[str, Any]:
    """The `image.json` that a replica reads; see docs/architecture.md. Content only, as the digest."""
    recipe = manifest.recipe
    return {
        "digest": plan_digest,
        "manifest": manifest.digest,
        "models": [
            {"name": m.pin.name, "version": m.pin.version, "kind": m.kind, "files": [f.path for f in m.files]}
            for m in models
        ],
        "script": recipe.script,
        "schema": recipe.schema,
        "samples": recipe.samples,
        "serving": recipe.serving,
        "environment": recipe.environment,
    }
