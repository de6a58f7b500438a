"""What an image was built from and by what: an in-toto statement with a SLSA provenance, the same for the same image.

It is not signed: it tells what the builder says, to those who trust where the image comes from.
"""

from hashlib import sha256
from typing import Any

from packaging.markers import Marker, default_environment

from argosy.images.oci.attachments import PREDICATE
from argosy.images.oci.base import Base
from argosy.images.oci.platforms import Platform
from argosy.images.plan import ModelContent, Plan
from argosy.manifests.lock import Entry, read_entries
from argosy.records import Lock, Manifest


def provenance(
    manifest: Manifest, models: list[ModelContent], plan: Plan, platform: Platform, base: Base, digest: str
) -> dict[str, Any]:
    """`digest` is that of the image's manifest for the platform."""
    builder = "docker" if base.steps else "oci"
    materials = [
        {"name": "base", "digest": {"sha256": base.origin.removeprefix("sha256:")}},
        *(_steps(base) if base.steps else []),
        *(
            {"name": f"code/{entry.path}", "digest": {"sha256": entry.sha256}}
            for entry in sorted(manifest.recipe.files, key=lambda entry: entry.path)
        ),
        *(
            {"name": f"model/{model.pin.reference}/{entry.path}", "digest": {"sha256": entry.sha256}}
            for model in models
            for entry in model.files
        ),
        *({"uri": f"pkg:pypi/{entry.name}@{entry.version}"} for entry in installed(manifest.recipe.lock, platform)),
        *(
            {"uri": each.url, "digest": {"sha256": each.sha256}}
            for each in manifest.recipe.lock.conda_packages(platform.conda)
        ),
    ]
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "image", "digest": {"sha256": digest.removeprefix("sha256:")}}],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": f"urn:argosy:build:{builder}:1",
                "externalParameters": {
                    "manifest": manifest.digest,
                    "base": base.origin,
                    "platform": platform.name,
                    "python": manifest.recipe.lock.python,
                },
                "internalParameters": {"plan": plan.digest},
                "resolvedDependencies": materials,
            },
            "runDetails": {
                "builder": {
                    "id": f"urn:argosy:builder:{builder}",
                    "version": {"argosy": plan.labels["io.argosy.serving"]},
                }
            },
        },
    }


def _steps(base: Base) -> list[dict[str, Any]]:
    """What ran, and what came of it: running it again gives something else."""
    return [
        {"name": "docker steps", "digest": {"sha256": sha256(base.steps.encode()).hexdigest()}},
        {"name": "base with steps", "digest": {"sha256": base.digest.removeprefix("sha256:")}},
    ]


def installed(lock: Lock, platform: Platform) -> list[Entry]:
    """The packages of a lock on one platform."""
    there = {
        **default_environment(),
        "os_name": "posix",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": platform.uname,
        "python_version": lock.python,
        "python_full_version": f"{lock.python}.0",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }
    return [
        entry
        for entry in read_entries(lock.text)
        if not entry.marker or Marker(entry.marker).evaluate({key: str(value) for key, value in there.items()})
    ]
