"""Registered manifests: immutable versions, found by name, kept while somebody needs them."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from argosy.errors import InUse, InvalidName, NotFound
from argosy.records import ModelPin, Reference
from store.shelf import Shelf


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    shelf = Shelf(tmp_path)
    yield shelf
    shelf.close()


def test_versions(shelf: Shelf) -> None:
    first = shelf.manifest()
    second = shelf.manifest(environment={"A": "1"})
    assert [m.version for m in (first, second)] == [1, 2]
    assert shelf.manifests.get(Reference("iris")) == second
    assert shelf.manifests.get(Reference("iris", version=1)) == first
    assert shelf.manifests.get(Reference("iris", alias="latest")) == second
    assert shelf.manifests.create("iris", second.recipe, ["other notes"], "other text") == second
    assert shelf.manifests.create("iris", first.recipe).version == 3, "only the newest can be the same"


def test_a_digest_covers_the_recipe_and_not_the_name(shelf: Shelf) -> None:
    recipe = shelf.recipe(shelf.model())
    assert shelf.manifests.create("a", recipe).digest == shelf.manifests.create("b", recipe, ["n"], "text").digest
    assert shelf.manifests.create("a", replace(recipe, environment={"A": "1"})).version == 2


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
    shelf.manifest()
    with pytest.raises(NotFound, match=str(reference)):
        shelf.manifests.get(reference)


def test_a_number_is_never_given_out_again(shelf: Shelf) -> None:
    shelf.manifest()
    shelf.manifest(environment={"A": "1"})
    shelf.manifests.delete(Reference("iris", version=2))
    assert shelf.manifest(environment={"A": "2"}).version == 3
    with pytest.raises(NotFound):
        shelf.manifests.delete(Reference("iris", version=2))


def test_nothing_is_registered_of_a_model_that_is_gone(shelf: Shelf) -> None:
    recipe = replace(shelf.recipe(shelf.model()), models=[ModelPin("gone", 1, "0" * 64)])
    with pytest.raises(NotFound, match="gone:1"):
        shelf.manifests.create("iris", recipe)
    with pytest.raises(NotFound):
        shelf.manifests.page(10, None, "iris")
    with pytest.raises(InvalidName):
        shelf.manifests.create("Iris", recipe)


def test_kept_while_an_image_has_it(shelf: Shelf) -> None:
    shelf.image()
    with pytest.raises(InUse, match="image iris:1"):
        shelf.manifests.delete(Reference("iris", version=1))
    with pytest.raises(InUse):
        shelf.models.delete(Reference("iris", version=1))
    shelf.images.delete(Reference("iris", version=1))
    manifest = shelf.manifests.get(Reference("iris"))
    assert shelf.manifests.files_in_use() == {entry.sha256 for entry in manifest.recipe.files}
    shelf.manifests.delete(Reference("iris", version=1))
    assert shelf.manifests.files_in_use() == set()
    shelf.models.delete(Reference("iris", version=1))


def test_pages(shelf: Shelf) -> None:
    for name in ("a", "b", "c"):
        shelf.manifest(name)
        shelf.manifest(name, environment={"A": "1"})
    first = shelf.manifests.page(2, None)
    rest = shelf.manifests.page(2, first.next)
    assert [m.reference for m in first.items + rest.items] == ["a:2", "b:2", "c:2"]
    assert rest.next is None
    newest = shelf.manifests.page(1, None, "a")
    older = shelf.manifests.page(1, newest.next, "a")
    assert [m.reference for m in newest.items + older.items] == ["a:2", "a:1"]
    assert older.next is None
