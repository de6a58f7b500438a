"""Bearer tokens: what is asked for, with which login, how long they are kept; and basic authorization."""

import base64
import json
from collections.abc import Iterator
from urllib.parse import parse_qs

import httpx
import pytest

from argosy.errors import RegistryFailed, RegistryRefused
from argosy.images.distribution.logins import Login
from argosy.images.distribution.names import ImageName
from argosy.images.distribution.patience import Patience
from argosy.images.distribution.pull import pull, resolve
from argosy.images.distribution.push import push
from argosy.images.distribution.session import RegistrySession, trusted
from argosy.images.distribution.tokens import Authorizer, Challenge, challenges
from images.distribution.fake_registry import FakeRegistry, Handler, Seen, says
from images.distribution.folder_blobs import FolderBlobs

USER = Login("ann", "p:w ä")


class TokenRegistry(FakeRegistry):
    """Its own token server, at /token. `life_s` is what it says of its tokens, which are good until `revoke`."""

    def __init__(self) -> None:
        super().__init__(check=self._challenge)
        self.life_s: int | None = 300
        self.realm = ""
        self.tokens: dict[str, set[str]] = {}
        self.forms: list[dict[str, list[str]]] = []
        self.routes = {"GET /token": self._give, "POST /token": self._give}
        self.anonymous = False

    def _challenge(self, seen: Seen) -> str | None:
        writes = seen.method in ("POST", "PUT", "PATCH")
        scope = f"repository:team/iris:{'pull,push' if writes else 'pull'}"
        granted = self.tokens.get(seen.headers.get("authorization", "").removeprefix("Bearer "), set())
        if any(known.startswith(scope) for known in granted):
            return None
        realm = self.realm or f"http://{self.host}/token"
        return f'Bearer realm="{realm}",service="the \\"registry\\"",scope="{scope}"'

    def _give(self, handler: Handler) -> None:
        seen = self.seen[-1]
        form = parse_qs(handler.read().decode())
        self.forms.append(form)
        right = seen.headers.get("authorization") == USER.basic or form.get("refresh_token") == ["identity"]
        if not right and not self.anonymous:
            return handler.answer(401, b'{"errors": [{"code": "UNAUTHORIZED", "message": "wrong password"}]}')
        token = f"t{len(self.tokens)}"
        self.tokens[token] = {*seen.query.get("scope", []), *" ".join(form.get("scope", [])).split()}
        life = {} if self.life_s is None else {"expires_in": self.life_s}
        return handler.answer(200, json.dumps({"token": token, **life}).encode())

    def revoke(self) -> None:
        self.tokens = {token: set() for token in self.tokens}

    def given(self) -> int:
        return len(self.asked("GET /token")) + len(self.asked("POST /token"))


@pytest.fixture
def fake() -> Iterator[TokenRegistry]:
    registry = TokenRegistry()
    yield registry
    registry.close()


@pytest.fixture
def name(fake: FakeRegistry) -> ImageName:
    return ImageName(fake.host, "team/iris", "1")


def session_of(fake: FakeRegistry, login: Login) -> RegistrySession:
    return RegistrySession(fake.host, login, False, trusted(), Patience(2, sleep=lambda _s: None))


def test_one_token_serves_a_whole_push(fake: TokenRegistry, blobs: FolderBlobs, name: ImageName) -> None:
    with session_of(fake, USER) as session:
        push(session, blobs, blobs.image(), name)
    (asked,) = fake.asked("GET /token")
    assert asked.query["service"] == ['the "registry"']
    assert "repository:team/iris:pull,push" in asked.query["scope"]
    assert "team/iris/1" in fake.manifests


def test_a_mount_asks_for_both_repositories(fake: TokenRegistry, blobs: FolderBlobs, name: ImageName) -> None:
    with session_of(fake, USER) as session:
        push(session, blobs, blobs.image(), name, mount_from="team/base")
    assert any("repository:team/base:pull" in seen.query["scope"] for seen in fake.asked("GET /token"))
    assert fake.asked("POST /v2/team/iris/blobs/uploads/")[0].query["from"] == ["team/base"]


def test_an_anonymous_token(fake: TokenRegistry, blobs: FolderBlobs, others: FolderBlobs, name: ImageName) -> None:
    with session_of(fake, USER) as session:
        push(session, blobs, blobs.image(), name)
    fake.anonymous = True
    with session_of(fake, Login()) as session:
        pull(session, name, others)
    assert "authorization" not in fake.asked("GET /token")[-1].headers


def test_an_identity_token_is_exchanged(fake: TokenRegistry, blobs: FolderBlobs, name: ImageName) -> None:
    with session_of(fake, Login(identity_token="identity")) as session:
        push(session, blobs, blobs.image(), name)
    (form,) = fake.forms
    assert (form["grant_type"], form["service"]) == (["refresh_token"], ['the "registry"'])


@pytest.mark.parametrize(("expires_in", "kept_s"), [(300, 294), (4, 1), (None, 54)])
def test_a_token_is_kept_until_shortly_before_it_ends(expires_in: int | None, kept_s: float) -> None:
    clock = [1000.0]
    answer = {"token": "t"} | ({} if expires_in is None else {"expires_in": expires_in})
    authorizer = Authorizer(
        "r.example", USER, False, lambda make: httpx.Response(200, json=answer, request=make()), lambda: clock[0]
    )
    challenge = {"www-authenticate": 'Bearer realm="https://auth.example/token"'}
    asked = httpx.Response(401, headers=challenge, request=httpx.Request("GET", "https://r.example/v2/"))
    assert authorizer.header(["a"]) is None
    authorizer.answer(asked, ["a"], "pull")
    assert authorizer.header(["b"]) is None
    clock[0] += kept_s
    assert authorizer.header(["a"]) == "Bearer t"
    clock[0] += expires_in or 60
    assert authorizer.header(["a"]) is None


def test_a_token_that_was_revoked_is_replaced(fake: TokenRegistry, blobs: FolderBlobs, name: ImageName) -> None:
    with session_of(fake, USER) as session:
        push(session, blobs, blobs.image(), name)
        fake.revoke()
        resolve(session, name)
        fake.revoke()
        push(session, blobs, blobs.image(b"another"), name)


def test_a_wrong_password_is_said_without_it(fake: TokenRegistry, name: ImageName) -> None:
    with session_of(fake, Login("ann", "hunter2")) as session, pytest.raises(RegistryRefused) as refused:
        resolve(session, name)
    assert "did not accept the login of ann to pull team/iris:1 (UNAUTHORIZED: wrong password)" in str(refused.value)
    assert "hunter2" not in str(refused.value)
    assert "hunter2" not in repr(Login("ann", "hunter2", "hunter2"))


def test_a_token_without_the_right_is_an_error_not_a_loop(fake: TokenRegistry) -> None:
    fake.check = lambda seen: f'Bearer realm="http://{fake.host}/token"'
    with session_of(fake, USER) as session, pytest.raises(RegistryRefused, match="did not accept the login of ann"):
        resolve(session, ImageName(fake.host, "team/other", "1"))
    assert fake.given() <= 2


def test_the_token_server_gets_a_second_chance(fake: TokenRegistry, blobs: FolderBlobs, name: ImageName) -> None:
    fake.fault("GET /token", says(503))
    with session_of(fake, USER) as session:
        push(session, blobs, blobs.image(), name)


@pytest.mark.parametrize("answer", [b"<html>", b"[]", b"{}", b'{"token": "x", "expires_in": "soon"}'])
def test_what_is_no_token_is_named(fake: TokenRegistry, name: ImageName, answer: bytes) -> None:
    fake.fault("GET /token", lambda handler: handler.answer(200, answer))
    with session_of(fake, USER) as session, pytest.raises(RegistryFailed, match="with what is no token"):
        resolve(session, name)


@pytest.mark.parametrize("realm", ["file:///etc/passwd", "", "token"])
def test_a_password_goes_to_no_odd_place(fake: TokenRegistry, name: ImageName, realm: str) -> None:
    fake.realm = realm or "x:"
    with session_of(fake, USER) as session, pytest.raises(RegistryFailed, match="no https address"):
        resolve(session, name)


def test_basic_authorization_is_sent_once_it_is_asked_for(blobs: FolderBlobs) -> None:
    def check(seen: Seen) -> str | None:
        return None if seen.headers.get("authorization") == USER.basic else 'Basic realm="r"'

    fake = FakeRegistry(check)
    try:
        with session_of(fake, USER) as session:
            push(session, blobs, blobs.image(), ImageName(fake.host, "team/iris", "1"))
        sent = ["authorization" in seen.headers for seen in fake.seen]
        assert sent.index(True) == len(sent) - sum(sent), "never without it again"
        with (
            session_of(fake, Login("ann", "no")) as session,
            pytest.raises(RegistryRefused, match="the login of ann"),
        ):
            resolve(session, ImageName(fake.host, "team/iris", "1"))
    finally:
        fake.close()


def test_what_the_registry_sends_us_to_elsewhere_gets_no_password(blobs: FolderBlobs, others: FolderBlobs) -> None:
    def check(seen: Seen) -> str | None:
        return None if seen.headers.get("authorization") == USER.basic else 'Basic realm="r"'

    fake, storage = FakeRegistry(check), FakeRegistry()
    try:
        name = ImageName(fake.host, "team/iris", "1")
        with session_of(fake, USER) as session:
            digest = blobs.image()
            push(session, blobs, digest, name)
            storage.blobs, fake.blobs = fake.blobs, {}
            fake.routes["GET /v2/team/iris/blobs/"] = lambda handler: handler.answer(
                307, headers={"Location": f"http://{storage.host}{handler.path}?signature=s"}
            )
            assert pull(session, name, others).digest == digest
        assert len(storage.seen) == 2
        assert all("authorization" not in seen.headers for seen in storage.seen)
    finally:
        fake.close()
        storage.close()


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (['Basic realm="a, b"'], [Challenge("basic", {"realm": "a, b"})]),
        (['Bearer realm="r",service=s,scope="a b"'],
         [Challenge("bearer", {"realm": "r", "service": "s", "scope": "a b"})]),
        (['Bearer realm="r", Basic realm="q"'],
         [Challenge("bearer", {"realm": "r"}), Challenge("basic", {"realm": "q"})]),
        (["Negotiate", "BASIC Realm=x"], [Challenge("negotiate", {}), Challenge("basic", {"realm": "x"})]),
        ([], []),
        (["=,=\""], []),
    ],
)  # fmt: skip
def test_challenges_are_read(values: list[str], found: list[Challenge]) -> None:
    assert challenges(values) == found


def test_the_basic_header_is_utf8() -> None:
    assert base64.b64decode(USER.basic.removeprefix("Basic ")).decode() == "ann:p:w ä"
