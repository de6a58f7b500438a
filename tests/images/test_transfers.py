"""Images from registries that misbehave and from archives that somebody made to do harm: nothing of them is kept."""

import gzip
import io
import json
import tarfile
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from argosy.errors import Error, InvalidFile, InvalidOption, RegistryFailed, RegistryRefused, TooLarge
from argosy.images.oci.archive import archive
from argosy.images.oci.attachments import KINDS, attached
from argosy.images.oci.layout import CONFIG, INDEX, MANIFEST, TAR, Descriptor, OciLayout, canonical
from argosy.records import Image, Reference
from images.distribution.fake_registry import FakeRegistry, Handler, digest_of, resets, says, sends_part
from images.oci.house import House
from images.oci.images import make_base, make_index
from images.port import LIMIT_BYTES, Port

BOTH = ["linux/amd64", "linux/arm64"]


@pytest.fixture
def here(house: Callable[[str], House]) -> Port:
    return Port(house("here"))


@pytest.fixture
def there(house: Callable[[str], House]) -> Port:
    return Port(house("there"))


@pytest.fixture
def image(here: Port, tmp_path: Path) -> Image:
    return here.house.build(here.house.manifest(), make_index(tmp_path / "base"), BOTH)


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    registry = FakeRegistry()
    yield registry
    registry.close()


def test_what_is_pushed_is_pulled_whole(here: Port, there: Port, image: Image, fake: FakeRegistry) -> None:
    here.push(image, f"{fake.host}/team/iris:1", f"{fake.host}/team/iris:latest")
    found = there.pull(f"{fake.host}/team/iris:latest")
    assert (found.reference, found.oci, found.digest) == ("iris:1", image.oci, image.digest)
    assert [pin.reference for pin in found.models] == ["iris:1"]
    there.check(found)
    assert all(len(there.layout.attached(digest)) == 2 for digest in image.oci.values())
    _, manifest, _ = there.house.shelf.images.content(Reference.parse("image", found.reference))
    assert manifest.recipe.environment == {"MODE": "fast"} and manifest.recipe.lock.python == "3.12"
    one = there.pull(f"{fake.host}/team/iris:1", "one", ["linux/arm64"])
    assert one.oci == {"linux/arm64": image.oci["linux/arm64"]}
    there.check(one)


REFUSALS: list[tuple[Callable[[Handler], None], type[Error], str]] = [
    (says(500), RegistryFailed, "HTTP 500"),
    (says(503), RegistryFailed, "HTTP 503"),
    (says(429), RegistryFailed, "limits how often"),
    (says(429, Retry_After="4000"), RegistryFailed, "4000 s of rest"),
    (says(401, WWW_Authenticate='Basic realm="x"'), RegistryRefused, "argosy image login"),
    (says(403), RegistryRefused, "does not let"),
    (resets, RegistryFailed, "could not be asked"),
]


@pytest.mark.parametrize("what", ["GET /v2/team/iris/manifests/", "GET /v2/team/iris/blobs/"])
def test_a_registry_that_refuses_leaves_nothing(
    here: Port, there: Port, image: Image, fake: FakeRegistry, what: str
) -> None:
    here.push(image, f"{fake.host}/team/iris:1")
    for fault, kind, said in REFUSALS:
        fake.fault(what, *[fault] * 12)
        with pytest.raises(kind, match=said):
            there.pull(f"{fake.host}/team/iris:1")
        assert there.is_empty()
        fake.faults.clear()
    there.check(there.pull(f"{fake.host}/team/iris:1"))


def test_bodies_that_are_cut_or_wrong_leave_nothing(here: Port, there: Port, image: Image, fake: FakeRegistry) -> None:
    here.push(image, f"{fake.host}/team/iris:1")
    layer = here.layout.json(image.oci["linux/amd64"])["layers"][-1]["digest"]
    fake.fault(f"GET /v2/team/iris/blobs/{layer}", *[sends_part(0)] * 4)
    with pytest.raises(RegistryFailed, match=r"the body ended early|the connection broke"):
        there.pull(f"{fake.host}/team/iris:1")
    assert there.is_empty() and not there.layout.has(layer)
    fake.faults.clear()
    right = fake.blobs[layer]
    fake.blobs[layer] = bytes(len(right))
    with pytest.raises(RegistryFailed, match="Nothing was kept"):
        there.pull(f"{fake.host}/team/iris:1")
    assert there.is_empty() and not there.layout.has(layer)
    fake.blobs[layer] = right
    there.check(there.pull(f"{fake.host}/team/iris:1"))


def test_a_push_that_fails_leaves_no_tag(here: Port, image: Image, fake: FakeRegistry) -> None:
    for what in ("PATCH /v2/team/iris", "PUT /v2/team/iris/blobs", "PUT /v2/team/iris/manifests"):
        fake.fault(what, *[says(500)] * 40)
        if "PATCH" not in what:
            with pytest.raises(RegistryFailed):
                here.push(image, f"{fake.host}/team/iris:1")
            assert "team/iris/1" not in fake.manifests
        fake.faults.clear()
    here.push(image, f"{fake.host}/team/iris:1")
    assert "team/iris/1" in fake.manifests


def test_an_image_that_is_too_large_or_names_itself_endlessly_is_refused(
    there: Port, fake: FakeRegistry, tmp_path: Path
) -> None:
    config = b"{}"
    huge = {"mediaType": TAR, "digest": f"sha256:{'a' * 64}", "size": LIMIT_BYTES + 1}
    _put(fake, "1", _manifest(Descriptor(CONFIG, digest_of(config), 2), [huge]), MANIFEST)
    with pytest.raises(TooLarge):
        there.pull(f"{fake.host}/team/iris:1")
    inner = canonical({"schemaVersion": 2, "mediaType": INDEX, "manifests": []})
    for _ in range(5):
        _put(fake, digest_of(inner), inner, INDEX)
        entry = Descriptor(INDEX, digest_of(inner), len(inner)).json()
        inner = canonical({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]})
    _put(fake, "deep", inner, INDEX)
    with pytest.raises(RegistryFailed, match="too deep or is too wide"):
        there.pull(f"{fake.host}/team/iris:deep")
    assert there.is_empty() and there.layout.digests() == {}


def test_an_index_is_counted_with_all_that_it_names(there: Port, fake: FakeRegistry) -> None:
    """No level of it is too wide by itself; together they would fill the memory."""
    entries: list[dict[str, Any]] = []
    for number in range(60):
        leaf = canonical({"schemaVersion": 2, "mediaType": INDEX, "manifests": [], "annotations": {"n": str(number)}})
        _put(fake, digest_of(leaf), leaf, INDEX)
        entries.append(Descriptor(INDEX, digest_of(leaf), len(leaf)).json())
    outer: list[dict[str, Any]] = []
    for number in range(60):
        content = {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries, "annotations": {"n": str(number)}}
        inner = canonical(content)
        _put(fake, digest_of(inner), inner, INDEX)
        outer.append(Descriptor(INDEX, digest_of(inner), len(inner)).json())
    _put(fake, "wide", canonical({"schemaVersion": 2, "mediaType": INDEX, "manifests": outer}), INDEX)
    with pytest.raises(RegistryFailed, match="too deep or is too wide"):
        there.pull(f"{fake.host}/team/iris:wide")
    assert len(fake.seen) < 300


def test_documents_are_weighed_together(there: Port, fake: FakeRegistry) -> None:
    entries = []
    for number in range(20):
        annotations = {"n": f"{number}" + "x" * (3 << 20)}
        large = canonical({"schemaVersion": 2, "mediaType": INDEX, "manifests": [], "annotations": annotations})
        _put(fake, digest_of(large), large, INDEX)
        entries.append(Descriptor(INDEX, digest_of(large), len(large)).json())
    _put(fake, "heavy", canonical({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}), INDEX)
    with pytest.raises(RegistryFailed, match="too wide"):
        there.pull(f"{fake.host}/team/iris:heavy")
    assert len(fake.seen) < 15


def test_json_of_another_shape_is_told(here: Port, there: Port, image: Image, fake: FakeRegistry) -> None:
    """Nothing of it is an internal error."""
    here.push(image, f"{fake.host}/team/iris:1")
    deep = b'{"schemaVersion": 2, "manifests": ' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    _put(fake, "deep", deep, INDEX)
    with pytest.raises(RegistryFailed, match="it is no JSON"):
        there.pull(f"{fake.host}/team/iris:deep")
    subject = image.oci["linux/amd64"]
    listed = f"team/iris/{subject.replace(':', '-')}"
    entries = json.loads(fake.manifests[listed][1])["manifests"]
    for entry in entries:
        kind, content = fake.manifests[f"team/iris/{entry['digest']}"]
        wrong = canonical({**json.loads(content), "subject": subject})
        entry |= {"digest": digest_of(wrong), "size": len(wrong)}
        fake.manifests[f"team/iris/{digest_of(wrong)}"] = kind, wrong
    fake.manifests[listed] = INDEX, canonical({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries})
    found = there.pull(f"{fake.host}/team/iris:1")
    assert there.layout.attached(subject) == [], "they say of themselves that they belong to nothing"
    there.check(found)


@pytest.mark.parametrize("layers", [5, ["x"], [], {"a": 1}, [{}], [{"digest": 7}]])
def test_a_document_of_another_shape_is_told(there: Port, layers: Any) -> None:
    subject = f"sha256:{'a' * 64}"
    wrong = there.layout.add_json({"schemaVersion": 2, "mediaType": MANIFEST, "layers": layers})
    there.layout.attach(subject, [Descriptor(MANIFEST, *wrong, artifact_type=KINDS["sbom"])])
    with pytest.raises(InvalidFile):
        attached(there.layout, subject, "sbom")


# -- archives ------------------------------------------------------------------------------------------------------


def test_archives_of_both_kinds_packed_or_not(here: Port, there: Port, image: Image, tmp_path: Path) -> None:
    path = tmp_path / "iris.tar"
    _, content = archive(here.layout, "iris:1", here.layout.descriptor(image.oci["linux/amd64"], "linux/amd64"))
    path.write_bytes(b"".join(content))
    found = there.load(path)
    assert (found.reference, found.oci) == ("iris:1", {"linux/amd64": image.oci["linux/amd64"]})
    there.check(found)
    packed = tmp_path / "iris.tar.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert there.load(packed).reference == "iris:1", "the same image"
    with tarfile.open(path) as tar:
        members = {entry.name: tar.extractfile(entry).read() for entry in tar}  # type: ignore[union-attr]
    del members["index.json"], members["oci-layout"]
    docker = there.load(_tar(tmp_path / "docker.tar", members), "docker")
    assert docker.digest == image.digest and [layer.kind for layer in docker.layers][-1] == "model"


def test_archives_that_do_harm_are_refused(here: Port, there: Port, image: Image, tmp_path: Path) -> None:
    _, content = archive(here.layout, "iris:1", here.layout.descriptor(image.oci["linux/amd64"], "linux/amd64"))
    good = b"".join(content)
    with tarfile.open(fileobj=io.BytesIO(good)) as tar:
        members: dict[str, Any] = {entry.name: tar.extractfile(entry).read() for entry in tar}  # type: ignore[union-attr]
    last = f"blobs/{here.layout.json(image.oci['linux/amd64'])['layers'][-1]['digest'].replace(':', '/')}"
    bad: dict[str, bytes | dict[str, Any]] = {
        "no tar": b"nothing of the sort" * 100,
        "truncated": good[: len(good) - 20_000],
        "empty": {},
        "wrong blob": {**members, last: bytes(len(members[last]))},
        "long blob": {**members, last: members[last] + b"more"},
        "links in a circle": {**members, "index.json": "a", "a": "b", "b": "a"},
        "endless text": {**members, "index.json": b" " * (17 << 20)},
        "a small file that unpacks to a large one": gzip.compress(_says_it_is_large(), mtime=0),
        "a small file with an endless name": gzip.compress(_with_a_long_name(), mtime=0),
        "too deep": {**members, "index.json": b"[" * 200_000},
        "no list": {**members, "index.json": b'{"manifests": 5}'},
        "out of the folder": {**members, "index.json": "../../../../etc/passwd"},
    }
    path, around = tmp_path / "bad.tar", {entry.name for entry in tmp_path.iterdir()}
    for name, made in bad.items():
        path.write_bytes(made) if isinstance(made, bytes) else _tar(path, made)
        tracemalloc.start()
        with pytest.raises((InvalidFile, InvalidOption, TooLarge)):
            there.load(path, "iris")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 60_000_000, name
        assert there.is_empty(), name
    assert {entry.name for entry in tmp_path.iterdir()} == {*around, "bad.tar"}


def test_a_layer_that_unpacks_to_any_size_is_given_up(there: Port, tmp_path: Path) -> None:
    bomb = gzip.compress(bytes(2 * LIMIT_BYTES), mtime=0)
    source = OciLayout(tmp_path / "source")
    labels = {f"io.argosy.{name}.digest": "a" * 64 for name in ("image", "manifest")}
    config = {"architecture": "amd64", "os": "linux", "config": {"Labels": labels}}
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as out:
        entry = tarfile.TarInfo("large")
        entry.size = 2 * LIMIT_BYTES
        out.addfile(entry, io.BytesIO(bytes(entry.size)))
    bomb = gzip.compress(tar.getvalue(), mtime=0)
    manifest = _manifest(
        Descriptor(CONFIG, *source.add_json(config)), [Descriptor(f"{TAR}+gzip", *source.add([bomb])).json()]
    )
    digest, _ = source.add([manifest])
    path = tmp_path / "bomb.tar"
    path.write_bytes(b"".join(archive(source, "iris:1", source.descriptor(digest))[1]))
    with pytest.raises(InvalidFile, match="image_limit_bytes"):
        there.load(path)
    assert there.is_empty()


@pytest.mark.parametrize(
    ("said", "labels", "problem"),
    [
        (b'{"script": "score.py", "samples": [{"input": 1}], "schema": {}}', {}, ""),
        (b"[]", {}, "JSON object"),
        (b'{"samples": [5]}', {}, "a sample has no input"),
        (b'{"samples": {"input": 1}}', {}, "samples is no list"),
        (b'{"environment": ["A=1"]}', {}, "environment is no dict"),
        (b"{}", {"io.argosy.models": "../../x:1"}, "io.argosy.models"),
        (b"{}", {"io.argosy.manifest.digest": "short"}, "was not built by Argosy"),
    ],
)
def test_what_an_image_says_of_itself_is_read_with_care(
    there: Port, tmp_path: Path, said: bytes, labels: dict[str, str], problem: str
) -> None:
    source = OciLayout(tmp_path / "source")
    own = {f"io.argosy.{name}.digest": "a" * 64 for name in ("image", "manifest")}
    code = _tar(tmp_path / "code", {"opt/argosy/image/image.json": said}).read_bytes()
    config = {"architecture": "amd64", "os": "linux", "config": {"Labels": {**own, **labels}}}
    layer = Descriptor(TAR, *source.add([code]), annotations={"io.argosy.layer": "code: score.py"})
    digest, _ = source.add([_manifest(Descriptor(CONFIG, *source.add_json(config)), [layer.json()])])
    path = tmp_path / "image.tar"
    path.write_bytes(b"".join(archive(source, "iris:1", source.descriptor(digest))[1]))
    if problem:
        with pytest.raises(InvalidFile, match=problem):
            there.load(path)
        assert there.is_empty()
    else:
        assert there.load(path).oci == {"linux/amd64": digest}


def test_a_strangers_image_is_refused(there: Port, tmp_path: Path) -> None:
    base = OciLayout(Path(make_base(tmp_path / "base").removeprefix("oci:").removesuffix(":base")))
    path = tmp_path / "base.tar"
    path.write_bytes(b"".join(archive(base, "base:1", base.tags()["base"])[1]))
    with pytest.raises(InvalidFile, match="was not built by Argosy"):
        there.load(path)
    assert there.is_empty()


def test_where_a_push_goes(here: Port, image: Image) -> None:
    def names(text: str | None, *tags: str) -> list[str]:
        return [str(name) for name in here.transfers.destination(image, text, tags)]

    assert names("127.0.0.1:5000/team/iris") == ["127.0.0.1:5000/team/iris:1"]
    assert names("127.0.0.1:5000/team/iris:2.0", "latest") == [
        "127.0.0.1:5000/team/iris:2.0", "127.0.0.1:5000/team/iris:latest",
    ]  # fmt: skip
    assert names("127.0.0.1:5000/iris", "a", "a") == ["127.0.0.1:5000/iris:a"]
    with pytest.raises(InvalidOption, match="say where to"):
        names(None)
    with pytest.raises(InvalidOption, match="tag instead of a digest"):
        names(f"127.0.0.1:5000/iris@sha256:{'a' * 64}")


def _manifest(config: Descriptor, layers: list[dict[str, Any]]) -> bytes:
    return canonical({"schemaVersion": 2, "mediaType": MANIFEST, "config": config.json(), "layers": layers})


def _says_it_is_large() -> bytes:
    entry = tarfile.TarInfo("blobs/sha256/large")
    entry.size = 1 << 50
    return entry.tobuf() + bytes(10_000)


def _with_a_long_name() -> bytes:
    entry = tarfile.TarInfo()
    entry.type, entry.size = tarfile.XHDTYPE, 80_000_000
    return entry.tobuf() + bytes(entry.size + 10_000)


def _put(fake: FakeRegistry, tag: str, content: bytes, media_type: str) -> None:
    for reference in (tag, digest_of(content)):
        fake.manifests[f"team/iris/{reference}"] = media_type, content


def _tar(path: Path, members: Mapping[str, bytes | str]) -> Path:
    """A str is a symbolic link."""
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            if isinstance(content, str):
                entry.type, entry.linkname = tarfile.SYMTYPE, content
                tar.addfile(entry)
            else:
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    return path


def test_documents_name_no_time_and_are_the_same_anywhere(here: Port, there: Port, tmp_path: Path) -> None:
    found = []
    for port in (here, there):
        image = port.house.build(port.house.manifest(), make_base(tmp_path / f"base-{port.house.shelf.folder.name}"))
        attached = port.layout.attached(image.oci["linux/amd64"])
        found.append([entry.digest for entry in attached])
        texts = [json.dumps(port.layout.json(port.layout.json(digest)["layers"][0]["digest"])) for digest in found[-1]]
        assert not any(str(year) in text for year in (2025, 2026, 2027) for text in texts if "timestamp" in text)
    assert found[0] == found[1]
