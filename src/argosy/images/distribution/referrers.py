"""What is attached to an image: by the registry's referrers API, else by the fallback tag `sha256-<hex>`."""

import json
from typing import Any

import httpx

from argosy.images.distribution.documents import Document, malformed, parse
from argosy.images.distribution.session import Ask, RegistrySession
from argosy.images.oci.layout import INDEX, Malformed


def referrers(session: RegistrySession, path: str, digest: str) -> list[dict[str, Any]]:
    """Descriptors (`digest`, `mediaType`, `size`, `artifactType`, `annotations`) of all that has `digest` as its
    subject."""
    ask = _ask(session, "GET", path, f"referrers/{digest}", "pull")
    response = session.send(ask, (200, 400, 404, 405))
    content_type = response.headers.get("content-type", "")
    # Registries without the API answer with 404, or with a page of their own.
    if response.status_code == 200 and content_type.startswith(INDEX):
        return _entries(session, path, response)
    return _tagged(session, path, digest, "pull")


def announce(session: RegistrySession, path: str, artifact: Document) -> None:
    """Add the artifact to the index under the fallback tag of its subject.

    Two who do it at the same moment for one subject could lose one of the entries: the specification offers no lock.
    """
    assert artifact.subject is not None
    entries = _tagged(session, path, artifact.subject, "pull,push")
    if any(entry.get("digest") == artifact.digest for entry in entries):
        return
    body = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [*entries, _described(artifact)]}
    content = json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
    target = f"manifests/{fallback_tag(artifact.subject)}"
    ask = _ask(session, "PUT", path, target, "pull,push", {"content-type": INDEX}, content)
    session.send(ask, (201, 202))


def fallback_tag(digest: str) -> str:
    return digest.replace(":", "-")


def _tagged(session: RegistrySession, path: str, digest: str, actions: str) -> list[dict[str, Any]]:
    ask = _ask(session, "GET", path, f"manifests/{fallback_tag(digest)}", actions, {"accept": INDEX})
    response = session.send(ask, (200, 404))
    return [] if response.status_code == 404 else _entries(session, path, response)


def _entries(session: RegistrySession, path: str, response: httpx.Response) -> list[dict[str, Any]]:
    try:
        document = parse(response.content, response.headers.get("content-type", ""))
    except Malformed as problem:
        raise malformed(session.host, f"the list of attachments of {path}", problem) from None
    return list(document.body.get("manifests", []))


def _described(artifact: Document) -> dict[str, Any]:
    config = artifact.body.get("config", {})
    described: dict[str, Any] = {
        "mediaType": artifact.media_type,
        "digest": artifact.digest,
        "size": len(artifact.content),
        "artifactType": artifact.body.get("artifactType") or config.get("mediaType", ""),
    }
    if artifact.body.get("annotations"):
        described["annotations"] = artifact.body["annotations"]
    return described


def _ask(
    session: RegistrySession,
    method: str,
    path: str,
    target: str,
    actions: str,
    headers: dict[str, str] | None = None,
    content: bytes | None = None,
) -> Ask:
    what = f"{'push to' if 'push' in actions else 'pull'} {path}"
    return Ask(method, f"v2/{path}/{target}", what, (f"repository:{path}:{actions}",), headers or {}, content)
