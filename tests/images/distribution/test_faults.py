"""A registry that answers wrongly, late, in part or not at all."""

from collections.abc import Iterator
from typing import Any

import pytest

from argosy.errors import Error, RegistryFailed, RegistryRefused
from argosy.images.distribution.logins import Login
from argosy.images.distribution.names import ImageName
from argosy.images.distribution.patience import Patience
from argosy.images.distribution.progress import Moved
from argosy.images.distribution.pull import pull, resolve
from argosy.images.distribution.push import push
from argosy.images.distribution.referrers import fallback_tag, referrers
from argosy.images.distribution.session import RegistrySession, trusted
from images.distribution.fake_registry import (
    FakeRegistry,
    Handler,
    digest_of,
    resets,
    says,
    sends_part,
    takes_then_resets,
)
from images.distribution.folder_blobs import FolderBlobs, random_bytes

BLOB = "/v2/team/iris/blobs/"
MANIFEST = "/v2/team/iris/manifests/"
UPLOADS = f"{BLOB}uploads/"
CHUNK = 100_000


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    registry = FakeRegistry()
    yield registry
    registry.close()


@pytest.fixture
def waited() -> list[float]:
    """The pauses that were made, in seconds."""
    return []


@pytest.fixture
def session(fake: FakeRegistry, waited: list[float]) -> Iterator[RegistrySession]:
    with RegistrySession(fake.host, Login(), False, trusted(), Patience(3, sleep=waited.append)) as session:
        # What it finds out first is no part of these tests.
        session.url("v2/")
        fake.seen.clear()
        yield session


@pytest.fixture
def name(fake: FakeRegistry) -> ImageName:
    return ImageName(fake.host, "team/iris", "1")


@pytest.fixture
def pushed(fake: FakeRegistry, session: RegistrySession, blobs: FolderBlobs, name: ImageName) -> str:
    """The digest of an image whose layer is larger than a chunk."""
    digest = blobs.image(random_bytes(3 * CHUNK))
    push(session, blobs, digest, name)
    fake.seen.clear()
    return digest


def test_a_pause_is_made_as_long_as_the_registry_asks(
    fake: FakeRegistry, session: RegistrySession, pushed: str, name: ImageName, others: FolderBlobs, waited: list[float]
) -> None:
    fake.fault(f"GET {MANIFEST}", says(429, Retry_After="7"), says(503))
    assert pull(session, name, others).digest == pushed
    assert waited[0] == 7.0
    assert len(waited) == 2


def test_a_pause_that_is_too_long_is_an_error_at_once(
    fake: FakeRegistry, session: RegistrySession, name: ImageName, waited: list[float]
) -> None:
    fake.fault("GET", says(429, Retry_After="3600"))
    with pytest.raises(RegistryFailed, match="it wants 3600 s of rest"):
        resolve(session, name)
    assert waited == []


@pytest.mark.parametrize(
    ("status", "said", "kind"),
    [
        (500, "failed to pull team/iris:1: HTTP 500", RegistryFailed),
        (429, "limits how often we may pull team/iris:1", RegistryFailed),
        (403, "does not let a client without a login pull team/iris:1", RegistryRefused),
        (401, "asks for a login to pull team/iris:1", RegistryRefused),
        (404, "has no team/iris:1", RegistryRefused),
        (418, "refused to pull team/iris:1: HTTP 418", RegistryRefused),
    ],
)
def test_what_lasts_is_named(
    fake: FakeRegistry, session: RegistrySession, name: ImageName, others: FolderBlobs, status: int, said: str,
    kind: type[Error],
) -> None:  # fmt: skip
    fake.fault("GET", *[says(status)] * 3)
    with pytest.raises(kind, match=said) as refused:
        pull(session, name, others)
    assert fake.host in refused.value.message
    assert others.digests() == set()


@pytest.mark.parametrize("broken", [resets, says(500), says(429, Retry_After="1"), says(502)])
@pytest.mark.parametrize("where", [f"POST {UPLOADS}", f"HEAD {BLOB}", f"PUT {MANIFEST}", f"PUT {UPLOADS}"])
def test_a_push_gets_over_one_fault_anywhere(
    fake: FakeRegistry, session: RegistrySession, blobs: FolderBlobs, name: ImageName, where: str, broken: Any
) -> None:
    fake.fault(where, broken)
    digest = blobs.image(b"weights")
    push(session, blobs, digest, name)
    assert not fake.faults[where]
    assert fake.manifests["team/iris/1"][1] == blobs.path(digest).read_bytes()
    assert set(fake.blobs) | {digest} == blobs.digests()


@pytest.mark.parametrize("kept", [1, 40_000])
def test_an_upload_goes_on_from_the_byte_where_its_connection_broke(
    fake: FakeRegistry, session: RegistrySession, blobs: FolderBlobs, name: ImageName, kept: int
) -> None:
    digest = blobs.image(random_bytes(3 * CHUNK))
    fake.fault(f"PATCH {UPLOADS}", lambda handler: handler._well(fake.seen[-1]), takes_then_resets(kept))
    told: list[Moved] = []
    push(session, blobs, digest, name, progress=told.append, chunk_bytes=CHUNK)
    ranges = [seen.headers["content-range"] for seen in fake.asked(f"PATCH {UPLOADS}")]
    resumed = CHUNK + kept
    assert ranges[:3] == [f"0-{CHUNK - 1}", f"{CHUNK}-{2 * CHUNK - 1}", f"{resumed}-{resumed + CHUNK - 1}"]
    layer = blobs.layer_of(digest)
    assert fake.blobs[layer] == blobs.path(layer).read_bytes()
    assert len(fake.asked(f"POST {UPLOADS}")) == 2, "one for the layer, one for the config"
    assert [moved.state for moved in told if moved.digest == layer][-1] == "done"


@pytest.mark.parametrize("broken", [says(500), says(416), says(429, Retry_After="2")])
def test_a_chunk_that_is_refused_is_sent_again(
    fake: FakeRegistry, session: RegistrySession, blobs: FolderBlobs, name: ImageName, broken: Any
) -> None:
    digest = blobs.image(random_bytes(3 * CHUNK))
    fake.fault(f"PATCH {UPLOADS}", broken)
    push(session, blobs, digest, name, chunk_bytes=CHUNK)
    assert blobs.layer_of(digest) in fake.blobs


def test_a_registry_that_keeps_nothing_is_left(
    fake: FakeRegistry, session: RegistrySession, blobs: FolderBlobs, name: ImageName
) -> None:
    location = f"{UPLOADS}u0"
    fake.fault(f"PATCH {UPLOADS}", *[says(202, Range="0-0", Location=location)] * 20)
    with pytest.raises(RegistryFailed, match="takes chunks but keeps nothing"):
        push(session, blobs, blobs.image(random_bytes(3 * CHUNK)), name, chunk_bytes=CHUNK)
    assert fake.manifests == {}


def test_chunks_are_as_long_as_the_registry_wants(
    fake: FakeRegistry, session: RegistrySession, blobs: FolderBlobs, name: ImageName
) -> None:
    digest = blobs.image(random_bytes(3 * CHUNK))
    fake.least_chunk_bytes = 2 * CHUNK
    push(session, blobs, digest, name, chunk_bytes=CHUNK)
    assert fake.asked(f"PATCH {UPLOADS}")[0].size == 2 * CHUNK
    assert blobs.layer_of(digest) in fake.blobs


def test_an_upload_that_the_registry_forgot_begins_anew(
    fake: FakeRegistry, session: RegistrySession, blobs: FolderBlobs, name: ImageName
) -> None:
    digest = blobs.image(random_bytes(3 * CHUNK))

    def forgets(handler: Handler) -> None:
        fake.uploads.clear()
        handler.reset()

    fake.fault(f"PATCH {UPLOADS}", forgets)
    push(session, blobs, digest, name, chunk_bytes=CHUNK)
    assert blobs.layer_of(digest) in fake.blobs


def test_a_push_that_cannot_be_done_says_so_and_tags_nothing(
    fake: FakeRegistry, session: RegistrySession, blobs: FolderBlobs, name: ImageName
) -> None:
    fake.fault(f"PUT {UPLOADS}", *[says(500)] * 9)
    with pytest.raises(RegistryFailed, match=r"did not take sha256:\w+ .*in 3 attempts: .*HTTP 500"):
        push(session, blobs, blobs.image(), name)
    assert fake.manifests == {}
    # A repetition finishes it.
    fake.faults.clear()
    digest = blobs.image()
    push(session, blobs, digest, name)
    assert "team/iris/1" in fake.manifests


def test_a_registry_that_changes_manifests_is_found_out(
    fake: FakeRegistry, session: RegistrySession, blobs: FolderBlobs, name: ImageName
) -> None:
    other = digest_of(b"other")
    fake.fault(f"PUT {MANIFEST}", says(201, Docker_Content_Digest=other))
    with pytest.raises(RegistryFailed, match=f"stored team/iris@{other} instead"):
        push(session, blobs, blobs.image(), name)


@pytest.mark.parametrize("knows_range", [True, False])
def test_a_download_goes_on_where_it_was_cut(
    fake: FakeRegistry, session: RegistrySession, blobs: FolderBlobs, others: FolderBlobs, pushed: str,
    name: ImageName, knows_range: bool,
) -> None:  # fmt: skip
    fake.knows_range = knows_range
    layer = blobs.layer_of(pushed)
    parts = [sends_part(CHUNK), sends_part(CHUNK)] if knows_range else [sends_part(CHUNK)]
    fake.fault(f"GET {BLOB}{layer}", *parts)
    assert pull(session, name, others).digest == pushed
    assert others.path(layer).read_bytes() == blobs.path(layer).read_bytes()
    ranges = [seen.headers.get("range", "").partition("-")[0] for seen in fake.asked(f"GET {BLOB}{layer}")]
    assert ranges == ["", "bytes=100000", "bytes=200000"][: len(parts) + 1]


def test_a_body_that_always_ends_early_is_an_error(
    fake: FakeRegistry, session: RegistrySession, blobs: FolderBlobs, others: FolderBlobs, pushed: str, name: ImageName
) -> None:
    layer = blobs.layer_of(pushed)
    fake.fault(f"GET {BLOB}{layer}", sends_part(CHUNK), *[sends_part(0)] * 9)
    with pytest.raises(RegistryFailed, match=r"sent 100,000 of 300,\d+ bytes of .*nothing in 3 attempts"):
        pull(session, name, others)
    assert not others.has(layer) and not others.has(pushed)


@pytest.mark.parametrize("wrong", [b"x", b"longer than what the manifest names" * 20_000])
def test_wrong_bytes_are_not_kept(
    fake: FakeRegistry, session: RegistrySession, blobs: FolderBlobs, others: FolderBlobs, pushed: str,
    name: ImageName, wrong: bytes,
) -> None:  # fmt: skip
    layer = blobs.layer_of(pushed)
    fake.blobs[layer] = wrong * blobs.size(layer) if len(wrong) == 1 else wrong
    with pytest.raises(RegistryFailed, match=f"sent for team/iris@{layer} .* Nothing was kept"):
        pull(session, name, others)
    assert not others.has(layer) and not others.has(pushed)


def test_a_manifest_with_another_digest_is_refused(
    fake: FakeRegistry, session: RegistrySession, others: FolderBlobs, pushed: str, name: ImageName
) -> None:
    media_type, content = fake.manifests["team/iris/1"]
    fake.manifests[f"team/iris/{pushed}"] = media_type, content + b"\n"
    with pytest.raises(RegistryFailed, match=f"instead of {pushed}"):
        pull(session, ImageName(name.host, name.path, "1", pushed), others)
    assert others.digests() == set()


@pytest.mark.parametrize(
    ("media_type", "content", "said"),
    [
        ("text/html", b"<html>", "it is no JSON"),
        ("application/json", b"[]", "no JSON object"),
        ("application/vnd.docker.distribution.manifest.v1+prettyjws", b'{"schemaVersion": 1}',
         "no image manifest or index"),
        ("application/vnd.oci.image.index.v1+json",
         b'{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json"}', "was announced as"),
        ("application/vnd.oci.image.manifest.v1+json", b'{"schemaVersion": 2, "layers": []}', "without a descriptor"),
        ("application/vnd.oci.image.index.v1+json",
         b'{"schemaVersion": 2, "manifests": [{"digest": "../x", "size": 1}]}', "'../x', which is no sha256 digest"),
        ("application/vnd.oci.image.index.v1+json",
         b'{"schemaVersion": 2, "manifests": [{"digest": "sha256:%s", "size": -1}]}' % (b"a" * 64), "the size -1"),
    ],
)  # fmt: skip
def test_what_is_no_manifest_is_named(
    fake: FakeRegistry, session: RegistrySession, name: ImageName, others: FolderBlobs, media_type: str,
    content: bytes, said: str,
) -> None:  # fmt: skip
    fake.manifests["team/iris/1"] = media_type, content
    with pytest.raises(RegistryFailed, match=f"as team/iris:1 cannot be used: .*{said}"):
        pull(session, name, others)


def test_an_endless_answer_is_not_kept(
    fake: FakeRegistry, session: RegistrySession, name: ImageName, others: FolderBlobs
) -> None:
    fake.manifests["team/iris/1"] = "application/json", b" " * 5_000_000
    with pytest.raises(RegistryFailed, match="sent an answer larger than"):
        pull(session, name, others)


@pytest.mark.parametrize("location", ["http://[bad", "ftp://127.0.0.1/x", "http://127.0.0.1:99999/", ""])
def test_a_place_that_is_none_is_named(
    fake: FakeRegistry, session: RegistrySession, blobs: FolderBlobs, name: ImageName, location: str
) -> None:
    fake.fault(f"POST {UPLOADS}", *[says(202, Location=location)] * 9)
    with pytest.raises(RegistryFailed, match=fake.host):
        push(session, blobs, blobs.image(), name)


def test_a_loop_of_redirects_ends(
    fake: FakeRegistry, session: RegistrySession, blobs: FolderBlobs, others: FolderBlobs, pushed: str, name: ImageName
) -> None:
    fake.fault(f"GET {BLOB}", *[says(307, Location=f"{BLOB}x")] * 9)
    with pytest.raises(RegistryRefused, match="HTTP 307"):
        pull(session, name, others)


def test_a_body_that_says_it_is_compressed_and_is_not(
    fake: FakeRegistry, session: RegistrySession, name: ImageName, others: FolderBlobs
) -> None:
    fake.fault("GET", *[lambda handler: handler.answer(200, b"{}", {"Content-Encoding": "gzip"})] * 3)
    with pytest.raises(RegistryFailed, match="could not be asked to pull"):
        pull(session, name, others)


def test_with_a_referrers_api_there_is_no_fallback_tag(
    fake: FakeRegistry, session: RegistrySession, blobs: FolderBlobs, name: ImageName
) -> None:
    fake.has_referrers = True
    digest = blobs.image()
    artifact = blobs.artifact(digest)
    push(session, blobs, digest, name, attach=[artifact])
    assert [entry["digest"] for entry in referrers(session, name.path, digest)] == [artifact]
    assert f"team/iris/{fallback_tag(digest)}" not in fake.manifests
