"""The bill of materials of an image on one platform: CycloneDX 1.6, the same for the same image.

Nothing in it depends on a clock or on chance: it has no time, and its serial number follows from the image's digest.
"""

import json
from hashlib import sha256
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from argosy.images.oci.base import Base
from argosy.images.oci.platforms import Platform
from argosy.images.oci.provenance import installed
from argosy.images.plan import ModelContent, Plan
from argosy.manifests.lock import Entry
from argosy.records import CondaPackage, FileEntry, Manifest

_ALGORITHMS = {"sha256": HashAlgorithm.SHA_256, "sha384": HashAlgorithm.SHA_384, "sha512": HashAlgorithm.SHA_512}


def bill(
    manifest: Manifest, models: list[ModelContent], plan: Plan, platform: Platform, base: Base, digest: str
) -> dict[str, Any]:
    """`digest` is that of the image's manifest for the platform."""
    image = Component(
        name="image",
        type=ComponentType.CONTAINER,
        version=digest,
        bom_ref=f"image@{digest}",
        properties=[
            Property(name="io.argosy.image.digest", value=plan.digest),
            Property(name="io.argosy.manifest.digest", value=manifest.digest),
            Property(name="io.argosy.platform", value=platform.name),
        ],
    )
    parts = [
        _container("base", base.origin),
        *([_text("docker steps", base.steps), _container("base with steps", base.digest)] if base.steps else []),
        Component(
            name="argosy-serving",
            type=ComponentType.LIBRARY,
            version=plan.labels["io.argosy.serving"],
            bom_ref="argosy-serving",
        ),
        *(_package(entry) for entry in installed(manifest.recipe.lock, platform)),
        *(_conda_package(each) for each in manifest.recipe.lock.conda_packages(platform.conda)),
        *(_model(model) for model in models),
        *(_file(entry, "code") for entry in manifest.recipe.files),
    ]
    made = Bom(
        components=parts,
        serial_number=uuid5(NAMESPACE_URL, f"urn:argosy:image:{digest}"),
        metadata=BomMetaData(component=image),
    )
    made.metadata.timestamp = None  # type: ignore[assignment] # optional in the format, and not in the library's types
    made.register_dependency(image, parts)
    found: dict[str, Any] = json.loads(JsonV1Dot6(made).output_as_string())
    return found


def _container(name: str, digest: str) -> Component:
    return Component(
        name=name,
        type=ComponentType.CONTAINER,
        version=digest,
        bom_ref=f"{name}@{digest}",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest.removeprefix("sha256:"))],
    )


def _text(name: str, text: str) -> Component:
    content = sha256(text.encode()).hexdigest()
    hashes = [HashType(alg=HashAlgorithm.SHA_256, content=content)]
    return Component(name=name, type=ComponentType.FILE, bom_ref=name, hashes=hashes)


def _package(entry: Entry) -> Component:
    """With the hashes of all files that the lock allows, one of which was installed."""
    purl = PackageURL("pypi", None, entry.name, entry.version)
    hashes = [value.partition(":")[::2] for value in entry.hashes]
    return Component(
        name=entry.name,
        type=ComponentType.LIBRARY,
        version=entry.version,
        purl=purl,
        bom_ref=purl.to_string(),
        hashes=[HashType(alg=_ALGORITHMS[name], content=value) for name, value in hashes if name in _ALGORITHMS],
    )


def _conda_package(package: CondaPackage) -> Component:
    qualifiers = {"build": package.build, "channel": package.channel, "subdir": package.subdir}
    purl = PackageURL("conda", None, package.name, package.version, qualifiers)
    return Component(
        name=package.name,
        type=ComponentType.LIBRARY,
        version=package.version,
        purl=purl,
        bom_ref=purl.to_string(),
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=package.sha256)],
    )


def _model(model: ModelContent) -> Component:
    reference = f"model:{model.pin.reference}"
    return Component(
        name=model.pin.name,
        type=ComponentType.MACHINE_LEARNING_MODEL,
        version=str(model.pin.version),
        bom_ref=reference,
        components=[_file(entry, reference) for entry in model.files],
        properties=[Property(name="io.argosy.model.digest", value=model.pin.digest)],
    )


def _file(entry: FileEntry, whose: str) -> Component:
    return Component(
        name=entry.path,
        type=ComponentType.FILE,
        bom_ref=f"{whose}/{entry.path}",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=entry.sha256)],
    )
