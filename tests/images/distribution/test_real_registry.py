"""Push and pull against a registry that is not ours, with skopeo as the other side."""

import json
import secrets
import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from argosy.errors import RegistryFailed, RegistryRefused, TooLarge, UserError
from argosy.images.distribution.logins import Login, Logins
from argosy.images.distribution.names import ImageName
from argosy.images.distribution.progress import Moved
from argosy.images.distribution.pull import pull, resolve
from argosy.images.distribution.push import push
from argosy.images.distribution.referrers import fallback_tag, referrers
from argosy.images.distribution.registries import Registries
from argosy.images.distribution.session import RegistrySession
from images.distribution.conftest import Secured
from images.distribution.cutting_proxy import CuttingProxy
from images.distribution.docker_registry import PASSWORD, USER
from images.distribution.folder_blobs import FolderBlobs, random_bytes

Require = Callable[[str], str]


def fresh(session: RegistrySession, tag: str = "1") -> ImageName:
    """A repository of this test alone."""
    return ImageName(session.host, f"team/{secrets.token_hex(6)}", tag)


def skopeo(require: Require, *words: str) -> str:
    done = subprocess.run([require("skopeo"), "--insecure-policy", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_we_push_skopeo_inspects_and_copies(
    plain: RegistrySession, blobs: FolderBlobs, require: Require, tmp_path: Path
) -> None:
    digest, name = blobs.image(b"weights"), fresh(plain)
    assert push(plain, blobs, digest, name).digest == digest
    inspected = json.loads(skopeo(require, "inspect", "--tls-verify=false", f"docker://{name}"))
    assert (inspected["Digest"], inspected["Layers"]) == (digest, [blobs.layer_of(digest)])
    copy = tmp_path / "copy"
    skopeo(require, "copy", "--src-tls-verify=false", f"docker://{name}", f"oci:{copy}:x")
    layer = blobs.layer_of(digest).removeprefix("sha256:")
    assert (copy / "blobs/sha256" / layer).read_bytes() == blobs.path(blobs.layer_of(digest)).read_bytes()


def test_what_skopeo_pushed_we_pull(
    plain: RegistrySession, blobs: FolderBlobs, others: FolderBlobs, require: Require
) -> None:
    digest, name = blobs.image(b"theirs"), fresh(plain)
    skopeo(require, "copy", "--dest-tls-verify=false", blobs.tag(digest, "x"), f"docker://{name}")
    assert pull(plain, name, others).digest == digest
    assert others.digests() == blobs.digests()


def test_an_image_in_dockers_own_format_is_pulled(
    plain: RegistrySession, blobs: FolderBlobs, others: FolderBlobs, require: Require
) -> None:
    name = fresh(plain)
    source = blobs.tag(blobs.image(), "x")
    skopeo(require, "copy", "--format=v2s2", "--dest-tls-verify=false", source, f"docker://{name}")
    assert pull(plain, name, others, platforms=["linux/amd64"]).media_type.startswith("application/vnd.docker.")


def test_an_index_is_pulled_whole_or_for_one_platform(
    plain: RegistrySession, blobs: FolderBlobs, others: FolderBlobs, tmp_path: Path
) -> None:
    amd64, arm64 = blobs.image(b"a", "amd64"), blobs.image(b"b", "arm64")
    index, name = blobs.index(amd64=amd64, arm64=arm64), fresh(plain)
    push(plain, blobs, index, name)
    whole = pull(plain, name, others)
    assert (whole.digest, whole.manifests) == (index, {"linux/amd64": amd64, "linux/arm64": arm64})
    assert others.digests() == blobs.digests()
    one = FolderBlobs(tmp_path / "one")
    pulled = pull(plain, name, one, platforms=["linux/arm64/v8"])
    assert (pulled.digest, pulled.manifests) == (index, {"linux/arm64": arm64})
    assert one.digests() == others.digests() - {amd64, *_parts(others, amd64)}
    # What was pulled for one platform cannot be pushed as if it were all of it.
    with pytest.raises(UserError, match="for linux/amd64, which is not stored here"):
        push(plain, one, index, fresh(plain))
    none = FolderBlobs(tmp_path / "none")
    with pytest.raises(UserError, match=r"'linux/s390x'; it has linux/amd64, linux/arm64"):
        pull(plain, name, none, platforms=["linux/amd64", "linux/s390x"])
    assert none.digests() == set()


def _parts(blobs: FolderBlobs, digest: str) -> set[str]:
    manifest = blobs.document(digest)
    return {manifest["config"]["digest"], *(layer["digest"] for layer in manifest["layers"])}


def test_a_base_is_brought_in_by_its_reference(
    plain: RegistrySession, registries: Registries, blobs: FolderBlobs, others: FolderBlobs
) -> None:
    index, name = blobs.index(amd64=blobs.image(b"a"), arm64=blobs.image(b"b", "arm64")), fresh(plain)
    push(plain, blobs, index, name)
    assert registries.pull(str(name), ["linux/amd64", "linux/arm64"], others, 1_000_000) == index
    with pytest.raises(TooLarge):
        registries.pull(str(name), ["linux/amd64"], others, 10)
    assert others.digests() == blobs.digests()


def test_a_pull_by_digest_does_not_follow_the_tag(
    plain: RegistrySession, blobs: FolderBlobs, others: FolderBlobs
) -> None:
    name, old, new = fresh(plain), blobs.image(b"old"), blobs.image(b"new")
    push(plain, blobs, old, name)
    push(plain, blobs, new, name)
    assert pull(plain, ImageName(name.host, name.path, name.tag, old), others).digest == old
    assert pull(plain, name, others).digest == new


def test_blobs_that_are_there_are_skipped_and_mounted_from_elsewhere(
    plain: RegistrySession, blobs: FolderBlobs
) -> None:
    digest, name, other = blobs.image(random_bytes(1000)), fresh(plain), fresh(plain)
    told: list[Moved] = []

    def states() -> dict[str, str]:
        found = {moved.digest: moved.state for moved in told}
        told.clear()
        return found

    layer = blobs.layer_of(digest)
    push(plain, blobs, digest, name, progress=told.append)
    assert states()[layer] == "done"
    push(plain, blobs, digest, name, progress=told.append)
    assert states()[layer] == "present"
    push(plain, blobs, digest, other, mount_from=name.path, progress=told.append)
    assert states()[layer] == "mounted"
    push(plain, blobs, digest, fresh(plain), mount_from="team/nothing", progress=told.append)
    assert states()[layer] == "done"


def test_a_large_blob_goes_in_chunks(plain: RegistrySession, blobs: FolderBlobs, others: FolderBlobs) -> None:
    digest, name = blobs.image(random_bytes(350_000)), fresh(plain)
    told: list[Moved] = []
    push(plain, blobs, digest, name, progress=told.append, chunk_bytes=100_000)
    assert [moved.done_bytes for moved in told if moved.state == "moving"][:3] == [100_000, 200_000, 300_000]
    assert pull(plain, name, others).digest == digest


def test_attachments_are_listed_without_a_referrers_api(plain: RegistrySession, blobs: FolderBlobs) -> None:
    digest, name = blobs.image(b"attached to"), fresh(plain)
    first, second = blobs.artifact(digest, b'{"a": 1}'), blobs.artifact(digest, b'{"b": 2}')
    push(plain, blobs, digest, name, attach=[first])
    push(plain, blobs, digest, name, attach=[first, second])
    found = referrers(plain, name.path, digest)
    assert [entry["digest"] for entry in found] == [first, second]
    assert (found[0]["artifactType"], found[0]["annotations"]) == ("application/vnd.cyclonedx+json", {"kind": "sbom"})
    assert resolve(plain, ImageName(name.host, name.path, fallback_tag(digest))).media_type.endswith("index.v1+json")
    assert referrers(plain, name.path, first) == []
    with pytest.raises(UserError, match="no part of"):
        push(plain, blobs, blobs.image(b"another"), name, attach=[first])


def test_tls_and_a_login(secured: RegistrySession, blobs: FolderBlobs, others: FolderBlobs) -> None:
    digest, name = blobs.image(b"private"), fresh(secured)
    push(secured, blobs, digest, name)
    assert pull(secured, name, others).digest == digest


def test_skopeo_pulls_what_we_pushed_with_a_login(
    secured: RegistrySession, blobs: FolderBlobs, require: Require
) -> None:
    digest, name = blobs.image(b"private"), fresh(secured)
    push(secured, blobs, digest, name)
    options = ("inspect", "--tls-verify=false", f"--creds={USER}:{PASSWORD}")
    assert json.loads(skopeo(require, *options, f"docker://{name}"))["Digest"] == digest


def test_without_a_login_the_way_in_is_named(secured_registry: Secured, logins: Logins, blobs: FolderBlobs) -> None:
    host = secured_registry.host
    with Registries(logins, str(secured_registry.ca_file)).session(host) as session:
        with pytest.raises(RegistryRefused, match=f"asks for a login .*argosy image login {host}"):
            pull(session, fresh(session), blobs)
        with pytest.raises(RegistryRefused, match="asks for a login to push"):
            push(session, blobs, blobs.image(), fresh(session))


def test_a_wrong_password_is_refused_and_not_kept(secured_registry: Secured, logins: Logins) -> None:
    registries = Registries(logins, str(secured_registry.ca_file))
    with pytest.raises(RegistryRefused, match="did not accept the login of ann") as refused:
        registries.log_in(secured_registry.host, Login(USER, "wrong-password"))
    assert "wrong-password" not in refused.value.message
    assert logins.all() == []


def test_an_unknown_authority_is_refused(secured_registry: Secured, registries: Registries) -> None:
    with (
        registries.session(secured_registry.host) as session,
        pytest.raises(RegistryFailed, match=r"is not trusted: self.signed certificate.*ARGOSY_REGISTRY_CA_FILE"),
    ):
        resolve(session, fresh(session))


def test_the_authority_of_ssl_cert_file_is_trusted(
    secured_registry: Secured, logins: Logins, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(secured_registry.ca_file))
    Registries(logins).log_in(secured_registry.host, Login(USER, PASSWORD))
    assert [login.username for login in logins.all()] == [USER]


def test_a_missing_tag_is_named(plain: RegistrySession, blobs: FolderBlobs) -> None:
    with pytest.raises(RegistryRefused, match="has no team/nothing:7"):
        pull(plain, ImageName(plain.host, "team/nothing", "7"), blobs)


def test_nobody_listens(registries: Registries) -> None:
    with (
        registries.session("127.0.0.1:1") as session,
        pytest.raises(RegistryFailed, match=r"127.0.0.1:1 could not be asked to pull .*refused"),
    ):
        resolve(session, fresh(session))


def test_a_broken_layer_leaves_no_tag(plain: RegistrySession, blobs: FolderBlobs) -> None:
    digest, name = blobs.image(b"to be damaged"), fresh(plain)
    blobs.path(blobs.layer_of(digest)).write_bytes(b"x" * blobs.size(blobs.layer_of(digest)))
    with pytest.raises(RegistryFailed, match="did not take"):
        push(plain, blobs, digest, name)
    assert httpx.get(f"http://{plain.host}/v2/{name.path}/manifests/1").status_code == 404


def test_a_push_gets_over_broken_connections(
    plain_registry: str, registries: Registries, blobs: FolderBlobs, others: FolderBlobs
) -> None:
    digest = blobs.image(random_bytes(3_000_000))
    proxy = CuttingProxy(plain_registry, 700_000, 900_000)
    try:
        with registries.session(proxy.host) as session:
            name = fresh(session)
            push(session, blobs, digest, name, chunk_bytes=500_000)
        assert proxy.broken == 2
    finally:
        proxy.close()
    with registries.session(plain_registry) as session:
        assert pull(session, ImageName(plain_registry, name.path, name.tag), others).digest == digest
    assert others.digests() == blobs.digests()


def test_an_interrupted_push_is_finished_by_the_next(plain: RegistrySession, blobs: FolderBlobs) -> None:
    class Killed(Exception):
        pass

    def kill(moved: Moved) -> None:
        if moved.done_bytes == 200_000:
            raise Killed

    digest, name = blobs.image(random_bytes(350_000)), fresh(plain)
    with pytest.raises(Killed):
        push(plain, blobs, digest, name, progress=kill, chunk_bytes=100_000)
    with pytest.raises(RegistryRefused):
        resolve(plain, name)
    push(plain, blobs, digest, name)
    assert resolve(plain, name).digest == digest


def test_an_interrupted_pull_is_finished_by_the_next(
    plain: RegistrySession, blobs: FolderBlobs, others: FolderBlobs, require: Require
) -> None:
    class Killed(Exception):
        pass

    def kill(moved: Moved) -> None:
        if moved.state == "moving":
            raise Killed

    digest, name = blobs.image(random_bytes(6_000_000)), fresh(plain)
    push(plain, blobs, digest, name)
    with pytest.raises(Killed):
        pull(plain, name, others, progress=kill)
    assert not others.has(blobs.layer_of(digest)) and not others.has(digest)
    told: list[Moved] = []
    pull(plain, name, others, progress=told.append)
    config = str(blobs.document(digest)["config"]["digest"])
    assert [moved.state for moved in told if moved.digest == config] == ["present"]
    inspected = json.loads(skopeo(require, "inspect", others.tag(digest, "x")))
    assert (inspected["Digest"], inspected["Layers"]) == (digest, [blobs.layer_of(digest)])
