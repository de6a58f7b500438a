import io
import tarfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import event, insert, select

from argosy.errors import InUse, InvalidFile, InvalidName, InvalidOption, NotFound, TooLarge, UserError
from argosy.models.registry import ModelRegistry
from argosy.models.request import ModelRequest
from argosy.records import FileEntry, Reference
from argosy.settings import Settings
from argosy.store.blobs import LocalBlobs
from argosy.store.db import Database
from argosy.store.tables import (
    environments,
    images,
    manifest_models,
    manifests,
    model_files,
    model_tags,
    models,
    revisions,
    sequences,
    services,
)

Store = Callable[..., FileEntry]


@pytest.fixture
def store(blobs: LocalBlobs) -> Store:
    def put(path: str, content: bytes = b"content") -> FileEntry:
        blob = blobs.put([content])
        return FileEntry(path, blob.sha256, blob.size_bytes)

    return put


def request(store: Store, name: str = "iris", content: bytes = b"content", **fields: object) -> ModelRequest:
    return ModelRequest(name, "file", [store("model.pkl", content)], **fields)  # type: ignore[arg-type]


def use(database: Database, model: str, version: int) -> None:
    """A manifest `rec:1`, an image `img:1` and a service `svc` with three revisions of it, the second one live."""
    with database.write() as connection:
        model_id = connection.execute(
            select(models.c.id).where(models.c.name == model, models.c.version == version)
        ).scalar_one()
        at = {"created_at": "2020-01-01T00:00:00.000Z"}
        made = {"digest": "d", "version": 1, **at}
        manifest_id = connection.execute(
            insert(manifests).values(name="rec", recipe={}, notes=[], **made).returning(manifests.c.id)
        ).scalar_one()
        connection.execute(insert(manifest_models).values(manifest_id=manifest_id, model_id=model_id))
        image_id = connection.execute(
            insert(images)
            .values(name="img", manifest_id=manifest_id, plan={}, environment_key="k", **made)
            .returning(images.c.id)
        ).scalar_one()
        connection.execute(insert(environments).values(id=1, name="local", kind="process", **at))
        connection.execute(
            insert(services).values(
                id=1, name="svc", environment_id=1, replicas=1, settings={}, live_revision=2, updated_at="", **at
            )
        )
        for number in (1, 2, 3):
            connection.execute(
                insert(revisions).values(
                    service_id=1, number=number, image_id=image_id, settings={}, state="live", **at
                )
            )


def test_a_model_is_what_was_registered(registry: ModelRegistry, store: Store) -> None:
    files = [store("iris/b.bin", b"2"), store("iris/a.bin", b"1")]
    made = registry.register(
        ModelRequest("iris", "directory", files, "/home/u/iris", "text", {"stage": "dev"}, {"auc": 0.9, "n": 3})
    )
    assert made.reference == "iris:1"
    assert [file.path for file in made.files] == ["iris/a.bin", "iris/b.bin"]
    assert (made.kind, made.size_bytes, made.source, made.description) == ("directory", 2, "/home/u/iris", "text")
    assert (made.tags, made.metrics, made.aliases) == ({"stage": "dev"}, {"auc": 0.9, "n": 3.0}, [])
    assert made.used_by.manifests == []
    assert registry.get(Reference("iris", 1)) == registry.latest("iris") == made


def test_the_same_name_gives_the_next_version(registry: ModelRegistry, store: Store) -> None:
    first = registry.register(request(store))
    second = registry.register(request(store, content=b"other"))
    third = registry.register(request(store))
    assert [first.version, second.version, third.version] == [1, 2, 3]
    assert first.digest == third.digest != second.digest
    assert registry.get(Reference("iris", 1)) == first


def test_the_digest_covers_content_only(registry: ModelRegistry, store: Store) -> None:
    one = registry.register(request(store, "one", tags={"a": "b"}, description="x", source="y"))
    two = registry.register(request(store, "two"))
    assert one.digest == two.digest
    other_name = registry.register(ModelRequest("one", "file", [store("other.pkl")]))
    assert other_name.digest != one.digest


def test_a_deleted_number_is_never_given_out_again(registry: ModelRegistry, store: Store) -> None:
    registry.register(request(store))
    registry.register(request(store))
    assert registry.delete(Reference("iris", 2)).reference == "iris:2"
    assert registry.latest("iris").version == 1
    assert registry.register(request(store)).version == 3


def test_two_at_once_get_two_versions(registry: ModelRegistry, store: Store) -> None:
    asked = request(store)
    barrier, versions = threading.Barrier(8), []

    def register() -> None:
        barrier.wait()
        versions.append(registry.register(asked).version)

    threads = [threading.Thread(target=register) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(versions) == list(range(1, 9))


def test_two_processes_worth_of_registries_get_two_versions(
    tmp_path: Path, database: Database, registry: ModelRegistry, blobs: LocalBlobs, store: Store
) -> None:
    """Another Database object has another lock: SQLite's own must hold then."""
    other = Database.open(tmp_path / "argosy.db")
    asked = request(store)
    registries = (registry, ModelRegistry(other, blobs, Settings()))
    versions: list[int] = []
    threads = [
        threading.Thread(target=lambda r=r: versions.extend(r.register(asked).version for _ in range(10)))
        for r in registries
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    other.close()
    assert sorted(versions) == list(range(1, 21))


BAD: list[tuple[dict[str, object], type[UserError], str]] = [
    ({"name": "Iris"}, InvalidName, "Iris"),
    ({"name": "../iris"}, InvalidName, "no valid model name"),
    ({"name": "i" * 64}, InvalidName, "1 to 63"),
    ({"kind": "folder"}, InvalidOption, "file or directory"),
    ({"files": []}, InvalidOption, "at least one file"),
    ({"description": "a\0b"}, InvalidOption, "control"),
    ({"description": "x" * 20_001}, InvalidOption, "longer"),
    ({"source": "\ud800"}, InvalidOption, "half a character"),
    ({"tags": {"": "x"}}, InvalidOption, "visible"),
    ({"tags": {"a": "x" * 5000}}, InvalidOption, "longer"),
    ({"tags": {str(n): "" for n in range(201)}}, InvalidOption, "at most 200"),
    ({"tags": {"a": 1}}, InvalidOption, "must be text"),
    ({"metrics": {"auc": float("nan")}}, InvalidOption, "metric auc cannot be nan: it must be a finite number"),
    ({"metrics": {"auc": float("inf")}}, InvalidOption, "finite"),
    ({"metrics": {"auc": True}}, InvalidOption, "finite"),
    ({"metrics": {"auc": "0.9"}}, InvalidOption, "finite"),
    ({"metrics": {"auc": 10**400}}, InvalidOption, "finite"),
]


@pytest.mark.parametrize(("fields", "error", "words"), BAD)
def test_bad_requests_register_nothing(
    registry: ModelRegistry, store: Store, fields: dict[str, object], error: type[UserError], words: str
) -> None:
    good = {"name": "iris", "kind": "file", "files": [store("model.pkl")]}
    with pytest.raises(error, match=words):
        registry.register(ModelRequest(**{**good, **fields}))  # type: ignore[arg-type]
    assert registry.page(10).items == []


def test_bad_files_register_nothing(registry: ModelRegistry, store: Store) -> None:
    file, size_bytes = store("model.pkl"), len(b"content")
    cases: list[tuple[str, list[FileEntry], str]] = [
        ("file", [FileEntry("model.pkl", "a" * 64, 5)], "was not uploaded"),
        ("file", [FileEntry("model.pkl", file.sha256, size_bytes + 1)], "7 bytes, but 8 were announced"),
        ("file", [FileEntry("../model.pkl", file.sha256, size_bytes)], r"'\.\.'"),
        ("file", [FileEntry("a/model.pkl", file.sha256, size_bytes)], "without folders"),
        ("file", [file, store("other.pkl")], "one file"),
        ("directory", [file], "below one folder"),
        ("directory", [store("a/x"), store("b/x")], "below one folder"),
        ("directory", [store("a/x"), store("a/x")], "twice"),
    ]
    for kind, files, words in cases:
        with pytest.raises(InvalidFile, match=words):
            registry.register(ModelRequest("iris", kind, files))
    with pytest.raises(InvalidOption, match="64 hexadecimal"):
        registry.register(ModelRequest("iris", "file", [FileEntry("m", "../../etc/passwd", 1)]))
    assert registry.page(10).items == []


def test_a_model_over_the_limit_is_refused(database: Database, blobs: LocalBlobs, store: Store) -> None:
    small = ModelRegistry(database, blobs, Settings(model_limit_bytes=10))
    with pytest.raises(TooLarge):
        small.register(request(store, content=bytes(11)))
    small.register(request(store, content=bytes(10)))


def test_names_by_case_only_become_a_finding(registry: ModelRegistry, store: Store) -> None:
    made = registry.register(ModelRequest("iris", "directory", [store("m/A", b"1"), store("m/a", b"2")]))
    assert "differ by case" in made.inspection.findings[0]


def test_references(registry: ModelRegistry, store: Store) -> None:
    for _ in range(3):
        registry.register(request(store))
    assert registry.set_alias("iris", "production", 1).aliases == ["production"]
    assert registry.get(Reference.parse("model", "iris@production")).version == 1
    assert registry.get(Reference.parse("model", "iris@latest")).version == 3
    assert registry.get(Reference.parse("model", "iris:2")).version == 2
    assert registry.get(Reference.parse("model", "iris")).version == 3


def test_an_alias_moves_and_goes(registry: ModelRegistry, store: Store) -> None:
    for _ in range(2):
        registry.register(request(store))
    registry.register(request(store, "other"))
    registry.set_alias("iris", "best", 1)
    registry.set_alias("other", "best", 1)
    registry.set_alias("iris", "best", 2)
    assert [model.aliases for model in registry.versions("iris").items] == [["best"], []]
    assert registry.get(Reference("other", alias="best")).name == "other"
    registry.unset_alias("iris", "best")
    with pytest.raises(NotFound):
        registry.unset_alias("iris", "best")
    registry.set_alias("iris", "best", 2)
    registry.delete(Reference("iris", alias="best"))
    with pytest.raises(NotFound):
        registry.get(Reference("iris", alias="best"))


@pytest.mark.parametrize("alias", ["latest", "7", "Best", "", "a b", "-x"])
def test_bad_aliases_are_refused(registry: ModelRegistry, store: Store, alias: str) -> None:
    registry.register(request(store))
    with pytest.raises((InvalidName, InvalidOption)):
        registry.set_alias("iris", alias, 1)


def test_not_found_says_what_there_is(registry: ModelRegistry, store: Store) -> None:
    for _ in range(7):
        registry.register(request(store))
    registry.set_alias("iris", "best", 2)
    cases = {
        "iris:9": "There is no model 'iris:9'. iris has the versions 7, 6, 5, 4, 3, ....",
        "iris@bets": "There is no model 'iris@bets'. iris has the versions 7, 6, 5, 4, 3, ... and the aliases: best.",
        "irsi": "There is no model 'irsi'. Did you mean 'iris'?",
        "wine": "There is no model 'wine'. `argosy model list` shows what there is.",
        "iris:99999999999999999": "There is no model 'iris:99999999999999999'.",
    }
    for reference, words in cases.items():
        with pytest.raises(NotFound) as caught:
            registry.get(Reference.parse("model", reference))
        assert caught.value.message.startswith(words)
        assert caught.value.code == "model_not_found"
    with pytest.raises(NotFound):
        registry.versions("wine")


def test_a_file_is_found_by_its_path(registry: ModelRegistry, store: Store) -> None:
    entry = store("iris/a.bin")
    registry.register(ModelRequest("iris", "directory", [entry, store("iris/b")]))
    assert registry.file(Reference("iris"), "iris/a.bin") == entry
    with pytest.raises(NotFound, match="`argosy model show iris:1` lists the files"):
        registry.file(Reference("iris"), "iris/../a.bin")


def test_what_may_change_changes(registry: ModelRegistry, store: Store) -> None:
    registry.register(request(store, tags={"a": "1", "b": "2"}, metrics={"auc": 0.5}))
    changed = registry.update(
        Reference("iris"), "new", {"a": "9", "b": None, "c": "3", "none": None}, {"auc": None, "f1": 0.7}
    )
    assert (changed.description, changed.tags, changed.metrics) == ("new", {"a": "9", "c": "3"}, {"f1": 0.7})
    assert registry.update(Reference("iris"), tags={}) == changed
    assert registry.update(Reference("iris"), description="").description == ""


def test_many_small_updates_keep_to_the_limit(registry: ModelRegistry, store: Store) -> None:
    registry.register(request(store, tags={f"a{n}": "" for n in range(200)}))
    with pytest.raises(InvalidOption, match="at most 200"):
        registry.update(Reference("iris"), "changed", tags={"one": "more"})
    assert registry.latest("iris").description == ""
    registry.update(Reference("iris"), tags={"one": "more", "a0": None})


def test_used_by_and_delete(database: Database, registry: ModelRegistry, store: Store) -> None:
    for _ in range(2):
        registry.register(request(store))
    use(database, "iris", 1)
    used = registry.get(Reference("iris", 1)).used_by
    assert (used.manifests, used.images, used.services) == (["rec:1"], ["img:1"], ["svc"])
    assert used.revisions == ["svc/3", "svc/2", "svc/1"]
    with pytest.raises(InUse, match="Model iris:1 is used by service svc, revision svc/3") as caught:
        registry.delete(Reference("iris", 1))
    assert "manifest rec:1" in caught.value.details["used_by"]
    registry.delete(Reference("iris", 2))
    assert registry.get(Reference("iris", 1)).version == 1


def test_pages_of_versions_and_of_names(registry: ModelRegistry, store: Store) -> None:
    for name in ("a", "b", "c.d", "e-f"):
        for _ in range(3):
            registry.register(request(store, name))
    seen, cursor = [], None
    while True:
        page = registry.page(3, cursor)
        seen += [model.reference for model in page.items]
        cursor = page.next
        if cursor is None:
            break
    assert seen == ["a:3", "b:3", "c.d:3", "e-f:3"]
    first = registry.versions("b", 2)
    assert [model.version for model in first.items] == [3, 2]
    last = registry.versions("b", 2, first.next)
    assert ([model.version for model in last.items], last.next) == ([1], None)


def test_pages_by_tag(registry: ModelRegistry, store: Store) -> None:
    registry.register(request(store, "a", tags={"stage": "prod", "team": "x"}))
    registry.register(request(store, "a", tags={"stage": "dev"}))
    registry.register(request(store, "b", tags={"stage": "prod"}))
    registry.register(request(store, "c"))

    def found(name: str | None = None, **tags: str) -> list[str]:
        return [model.reference for model in registry.page(10, name=name, tags=tags).items]

    assert found(stage="prod") == ["a:1", "b:1"]
    assert found(stage="prod", team="x") == ["a:1"]
    assert found(stage="gone") == found("a", stage="gone") == []
    assert found("a", stage="dev") == ["a:2"]


@pytest.mark.parametrize("cursor", ["", "x", "!!!", "ImEi", "é", "MTIz" * 30])
def test_bad_pages_are_refused(registry: ModelRegistry, store: Store, cursor: str) -> None:
    registry.register(request(store))
    for limit in (0, -1, 501):
        with pytest.raises(InvalidOption, match="1 to 500"):
            registry.page(limit)
    try:
        assert registry.page(10, cursor, "iris").items is not None
    except InvalidOption:
        pass


def test_the_number_of_queries_does_not_grow(database: Database, registry: ModelRegistry, store: Store) -> None:
    counted = []
    event.listen(database._engine, "before_cursor_execute", lambda *arguments: counted.append(arguments[2]))
    sizes = []
    for names in (1, 20):
        for number in range(names):
            registry.register(request(store, f"m{number}"))
        counted.clear()
        registry.page(100)
        sizes.append(len(counted))
    assert sizes[0] == sizes[1] <= 10


def seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def test_a_page_among_100_000_versions(
    database: Database, registry: ModelRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    """Budget: 50 ms a page. Printed, not asserted; asserted is that a page costs little beside reading all."""
    count = 100_000
    with database.write() as connection:
        row = {"digest": "", "kind": "file", "size_bytes": 1, "inspection": {}, "created_at": ""}
        ids = range(1, count + 1)
        connection.execute(
            models.insert(),
            [{**row, "source": "", "description": "", "id": i, "name": f"m{i // 100:04}", "version": i} for i in ids],
        )
        connection.execute(
            model_files.insert(),
            [{"model_id": i, "path": "m", "sha256": "", "size_bytes": 1, "position": 0} for i in ids],
        )
        connection.execute(model_tags.insert(), [{"model_id": i, "key": "stage", "value": "dev"} for i in ids])
    with database.read() as connection:
        began = time.perf_counter()
        connection.execute(select(models)).all()
        all_s = time.perf_counter() - began
    second = registry.page(100).next
    calls: dict[str, Callable[[], object]] = {
        "names": lambda: registry.page(100),
        "names, second page": lambda: registry.page(100, second),
        "versions": lambda: registry.versions("m0500"),
        "by tag": lambda: registry.page(100, tags={"stage": "dev"}),
        "latest": lambda: registry.latest("m0500"),
    }
    with capsys.disabled():
        for label, call in calls.items():
            took_s = min(seconds(call) for _ in range(5))
            print(f"\n  page at {count:,} versions, {label}: {took_s * 1000:.1f} ms", end="")
            assert took_s < all_s / 2
        print()


def test_sequences_survive_everything(database: Database, registry: ModelRegistry, store: Store) -> None:
    registry.register(request(store))
    registry.delete(Reference("iris", 1))
    with database.read() as connection:
        assert connection.execute(select(sequences.c.last)).scalar_one() == 1


def test_referenced_blobs_protect_from_collection(registry: ModelRegistry, blobs: LocalBlobs, store: Store) -> None:
    kept = registry.register(request(store)).files[0]
    blobs.put([b"garbage"])
    gone = blobs.delete_unreferenced(registry.referenced_blobs(), older_than_s=-1)
    assert [blob.size_bytes for blob in gone] == [7]
    assert blobs.has(kept.sha256)


def test_an_archive_becomes_a_directory(registry: ModelRegistry, blobs: LocalBlobs) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name in ("iris/MLmodel", "iris/model.pkl"):
            info = tarfile.TarInfo(name)
            info.size = 3
            archive.addfile(info, io.BytesIO(b"a: "))
    blob = blobs.put([out.getvalue()])
    files = [FileEntry("iris.tar.gz", blob.sha256, blob.size_bytes)]
    made = registry.register(ModelRequest("iris", "file", files, unpack=True))
    assert (made.kind, [file.path for file in made.files]) == ("directory", ["iris/MLmodel", "iris/model.pkl"])
    assert registry.register(ModelRequest("iris", "file", files)).kind == "file"
