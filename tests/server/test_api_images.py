"""Images of the REST API that lie in the image store: what is streamed, said and deleted of them."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from argosy.images.oci.attachments import BILL_TYPE, attach
from argosy.images.oci.described import describe
from argosy.images.oci.layout import OciLayout
from argosy.records import Image, Lock
from images.oci.images import make_base
from server.plane import Plane


@pytest.fixture
def image(plane: Plane, tmp_path: Path) -> Image:
    """Without any package, so that no index is asked."""
    manifest = plane.shelf.manifest("iris", lock=Lock("3.12", "", {}))
    base = make_base(tmp_path / "base")
    return plane.control.oci.create("iris", manifest, "", base, ["linux/amd64"], lambda line: None)


def layout(plane: Plane) -> OciLayout:
    return plane.control.oci.layout


def spoil(plane: Plane, digest: str) -> None:
    path = layout(plane).path(digest)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(content)


def test_the_context_is_verified_before_it_is_sent(plane: Plane, image: Image) -> None:
    answer = plane.client.get("/v1/images/iris/1/context")
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as tar:
        assert "Dockerfile" in tar.getnames()
    model = layout(plane).json(image.oci["linux/amd64"])["layers"][-1]["digest"]
    spoil(plane, model)
    refused = plane.client.get("/v1/images/iris/1/context")
    assert refused.status_code == 500 and model in refused.json()["error"]["message"]


def test_nothing_of_a_context_is_collected_while_it_is_sent(
    plane: Plane, image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[bool] = []
    opened = Path.open

    def looks(path: Path, *words: Any, **more: Any) -> Any:
        if path.parent == layout(plane).root / "blobs" / "sha256":
            used.append(layout(plane).leases.used(f"sha256:{path.name}"))
        return opened(path, *words, **more)

    digest = image.oci["linux/amd64"]
    layers = layout(plane).json(digest)["layers"]
    monkeypatch.setattr(Path, "open", looks)
    assert plane.client.get("/v1/images/iris/1/context").status_code == 200
    assert used[-len(layers) + 1 :] == [True] * (len(layers) - 1), "all but the base's"
    assert not layout(plane).leases.used(digest)


@pytest.mark.parametrize("components", [5, "x", ["x", 7, {"purl": 3}], {"a": 1}])
def test_a_bill_of_another_shape_lists_nothing(plane: Plane, image: Image, components: Any) -> None:
    """Of an image that was built elsewhere: somebody else wrote it."""
    store, digest = layout(plane), image.oci["linux/amd64"]
    attach(store, store.descriptor(digest), {BILL_TYPE: {"components": components}})
    plane.shelf.images.adopt("theirs", describe(store, "theirs", digest, 10_000_000), "registry")
    answer = plane.client.get("/v1/images/theirs/1")
    assert answer.status_code == 200, json.dumps(answer.json())
    assert answer.json()["packages"] == {}
