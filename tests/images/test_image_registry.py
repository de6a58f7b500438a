"""Registered images: rows that name a plan, kept while a revision has them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from argosy.environments.registry import EnvironmentRegistry
from argosy.errors import InUse, NotFound
from argosy.images.plan import plan
from argosy.images.registry import manifest_contents
from argosy.keys import Vault, new_key
from argosy.records import Image, Manifest, Reference, ServiceSettings
from argosy.services.keyring import Keyring
from argosy.services.registry import ServiceRegistry
from store.shelf import Shelf


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    shelf = Shelf(tmp_path)
    yield shelf
    shelf.close()


def create(shelf: Shelf, name: str, manifest: Manifest) -> Image:
    contents = manifest_contents(shelf.database, manifest)
    return shelf.images.create(name, manifest, plan(manifest, contents, "e" * 64, "r" * 64, "0.1.0"))


def test_the_same_manifest_gives_the_same_image(shelf: Shelf) -> None:
    manifest = shelf.manifest()
    first = create(shelf, "iris", manifest)
    assert create(shelf, "iris", manifest) == first
    assert create(shelf, "other", manifest).digest == first.digest
    assert create(shelf, "iris", shelf.manifest(environment={"A": "1"})).version == 2


def test_an_image_names_the_manifest_that_was_asked_for(shelf: Shelf) -> None:
    recipe = shelf.recipe(shelf.model())
    one, two = shelf.manifests.create("one", recipe), shelf.manifests.create("two", recipe)
    first, second = create(shelf, "iris", one), create(shelf, "iris", two)
    assert (first.digest, first.manifest, second.manifest) == (second.digest, "one:1", "two:1")


def test_an_image_tells_its_lineage(shelf: Shelf) -> None:
    image = shelf.image()
    assert (image.manifest, [pin.reference for pin in image.models]) == ("iris:1", ["iris:1"])
    assert [layer.kind for layer in image.layers] == ["base", "dependencies", "runtime", "code", "model"]
    assert (image.serving_runtime, image.environment_key) == ("0.1.0", "e" * 64)
    found, manifest, contents = shelf.images.content(Reference("iris"))
    assert found == image
    assert manifest.recipe == shelf.manifests.get(Reference("iris")).recipe
    assert [(c.pin.reference, c.kind, [f.path for f in c.files]) for c in contents] == [
        ("iris:1", "file", ["model.pkl"])
    ]


@pytest.mark.parametrize(
    "reference",
    [
        Reference("nobody"),
        Reference("iris", version=9),
        Reference("iris", version=10**17),
        Reference("iris", alias="x"),
    ],
)
def test_what_is_not_there(shelf: Shelf, reference: Reference) -> None:
    shelf.image()
    for call in (shelf.images.get, shelf.images.delete, shelf.images.content):
        with pytest.raises(NotFound):
            call(reference)


def test_kept_while_a_revision_has_it(shelf: Shelf) -> None:
    image = shelf.image()
    EnvironmentRegistry(shelf.database).create("local", "process")
    services = ServiceRegistry(shelf.database, Keyring(shelf.database, Vault(new_key())))
    services.create("flowers", "local", image, 1, ServiceSettings(), "")
    used = shelf.images.get(Reference("iris")).used_by
    assert (used.services, used.revisions) == (["flowers"], ["flowers/1"])
    assert shelf.manifests.get(Reference("iris")).used_by.services == ["flowers"]
    with pytest.raises(InUse, match="flowers/1"):
        shelf.images.delete(Reference("iris", version=1))
    services.remove("flowers")
    assert shelf.images.delete(Reference("iris", version=1)).reference == "iris:1"
    assert shelf.images.keys_in_use() == (set(), set())
    assert shelf.image().version == 2, "a number is never given out again"


def test_what_is_in_use_on_the_disk(shelf: Shelf) -> None:
    first, second = shelf.image(), shelf.image("other")
    assert shelf.images.keys_in_use() == ({first.digest, second.digest}, {"e" * 64})


def test_pages(shelf: Shelf) -> None:
    for name in ("a", "b", "c"):
        shelf.image(name)
        shelf.image(name, b"other")
    first = shelf.images.page(2, None)
    rest = shelf.images.page(2, first.next)
    assert [m.reference for m in first.items + rest.items] == ["a:2", "b:2", "c:2"]
    newest = shelf.images.page(1, None, "a")
    older = shelf.images.page(1, newest.next, "a")
    assert [m.reference for m in newest.items + older.items] == ["a:2", "a:1"]
    assert older.next is None
    with pytest.raises(NotFound):
        shelf.images.page(10, None, "nobody")
