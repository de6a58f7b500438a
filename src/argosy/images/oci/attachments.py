"""What belongs to an image without being part of it: artifacts whose subject is the manifest of one platform.

By image-spec 1.1: an artifact is a manifest with one layer, an empty config, and the image as its `subject`. Registries
list them by their referrers API.
"""

from collections.abc import Mapping
from typing import Any

from argosy.errors import InvalidFile, NotFound
from argosy.images.oci.layout import MANIFEST, Descriptor, OciLayout

BILL_TYPE = "application/vnd.cyclonedx+json"
PROVENANCE_TYPE = "application/vnd.in-toto+json"
PREDICATE = "https://slsa.dev/provenance/v1"
# Names as users write them, and the type of the artifact.
KINDS = {"sbom": BILL_TYPE, "provenance": PROVENANCE_TYPE}
_EMPTY = "application/vnd.oci.empty.v1+json"
_ANNOTATIONS = {PROVENANCE_TYPE: {"in-toto.io/predicate-type": PREDICATE}}


def attach(layout: OciLayout, subject: Descriptor, contents: Mapping[str, Any]) -> list[Descriptor]:
    """Store JSON `contents` by their type, and let them belong to `subject`."""
    made = [_artifact(layout, subject, kind, content) for kind, content in sorted(contents.items())]
    layout.attach(subject.digest, made)
    return made


def attached(layout: OciLayout, subject: str, kind: str) -> dict[str, Any] | None:
    """The JSON of that `kind` (of KINDS) that belongs to the manifest `subject`."""
    for found in layout.attached(subject):
        if found.artifact_type == KINDS[kind]:
            layers = layout.json(found.digest).get("layers")
            if not isinstance(layers, list) or len(layers) != 1 or not isinstance(layers[0], dict):
                raise InvalidFile(found.digest, f"is no {kind}: it must have one layer")
            return layout.json(str(layers[0].get("digest")))
    return None


def needed(layout: OciLayout, subject: str, kind: str) -> dict[str, Any]:
    """As `attached`; NotFound when there is none."""
    found = attached(layout, subject, kind)
    if found is None:
        raise NotFound(
            kind, subject, "It was built without one, or pulled from where none is attached. Building it again adds it."
        )
    return found


def _artifact(layout: OciLayout, subject: Descriptor, kind: str, content: Any) -> Descriptor:
    empty = layout.add([b"{}"])
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": kind,
        "config": Descriptor(_EMPTY, *empty).json(),
        "layers": [Descriptor(kind, *layout.add_json(content)).json()],
        "subject": Descriptor(subject.media_type, subject.digest, subject.size_bytes).json(),
        **({"annotations": _ANNOTATIONS[kind]} if kind in _ANNOTATIONS else {}),
    }
    return Descriptor(MANIFEST, *layout.add_json(manifest), artifact_type=kind)
