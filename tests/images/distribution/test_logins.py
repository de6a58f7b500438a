"""Where logins come from: our own file, the Docker config, its helpers."""

import base64
import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from argosy.errors import Error, InvalidFile, InvalidOption, NotFound, RegistryRefused, StorageFailed
from argosy.images.distribution.docker_config import find_login
from argosy.images.distribution.logins import Login, Logins
from argosy.images.distribution.registries import Registries
from argosy.keys import Vault, new_key
from images.distribution.docker_registry import PASSWORD, USER

HOST = "r.example:5000"
Config = Callable[..., dict[str, str]]


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """Write a Docker config; the environment that finds it, and programs beside it."""

    def write(**content: Any) -> dict[str, str]:
        folder = tmp_path / "home" / ".docker"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(content))
        return {"HOME": str(tmp_path / "home"), "PATH": f"{tmp_path}:/usr/bin:/bin"}

    return write


def helper(tmp_path: Path, name: str, script: str) -> None:
    program = tmp_path / f"docker-credential-{name}"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def auth(text: str) -> dict[str, str]:
    return {"auth": base64.b64encode(text.encode()).decode()}


def test_a_login_is_sealed_and_private(tmp_path: Path) -> None:
    path, vault = tmp_path / "registries.json", Vault(new_key())
    logins = Logins(path, vault)
    logins.add(HOST, Login("ann", "hunter2"), plain_http=True)
    logins.add("other.example", Login("bob", "hunter3"), plain_http=False)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "hunter" not in path.read_text() and base64.b64encode(b"hunter2").decode() not in path.read_text()
    assert Logins(path, vault).find(HOST) == (Login("ann", "hunter2"), True)
    assert [(login.host, login.username) for login in logins.all()] == [("other.example", "bob"), (HOST, "ann")]
    logins.remove(HOST)
    assert logins.find(HOST) is None
    with pytest.raises(NotFound, match=r"Logged in to: other\.example"):
        logins.remove(HOST)


def test_a_password_that_was_moved_or_lost_its_key_says_so(tmp_path: Path) -> None:
    path, vault = tmp_path / "registries.json", Vault(new_key())
    logins = Logins(path, vault)
    logins.add(HOST, Login("ann", "hunter2"), False)
    with pytest.raises(StorageFailed, match=f"argosy image login {HOST} -u ann"):
        Logins(path, Vault(new_key())).find(HOST)
    entries = json.loads(path.read_text())
    path.write_text(json.dumps({"evil.example": entries[HOST]}))
    with pytest.raises(StorageFailed, match="cannot be opened"):
        logins.find("evil.example")


@pytest.mark.parametrize("content", ["", "[]", '{"a": 1}', '{"a": {"username": "x"}}'])
def test_a_damaged_file_is_told(tmp_path: Path, content: str) -> None:
    (tmp_path / "registries.json").write_text(content)
    with pytest.raises(StorageFailed, match="is damaged"):
        Logins(tmp_path / "registries.json", Vault(new_key())).all()


@pytest.mark.parametrize(
    ("auths", "found"),
    [
        ({HOST: auth("ann:p:w")}, Login("ann", "p:w")),
        ({f"https://{HOST}": auth("ann:pw")}, Login("ann", "pw")),
        ({f"https://{HOST}/v1/": auth("ann:pw")}, Login("ann", "pw")),
        ({HOST: {"username": "ann", "password": "pw"}}, Login("ann", "pw")),
        ({HOST: {**auth("ann:"), "identitytoken": "it"}}, Login(identity_token="it")),
        ({"other.example": auth("ann:pw")}, None),
        ({HOST: {}}, None),
        ({}, None),
    ],
)
def test_logins_in_the_docker_config(config: Config, auths: dict[str, Any], found: Login | None) -> None:
    assert find_login(HOST, config(auths=auths)) == found


def test_docker_hub_has_a_name_of_its_own(config: Config) -> None:
    environ = config(auths={"https://index.docker.io/v1/": auth("ann:pw")})
    assert find_login("docker.io", environ) == Login("ann", "pw")


def test_no_docker_config_is_no_login(tmp_path: Path) -> None:
    assert find_login(HOST, {"HOME": str(tmp_path)}) is None


@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_broken_docker_config_is_told(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(InvalidFile, match="no JSON object"):
        find_login(HOST, {"DOCKER_CONFIG": str(tmp_path)})


def test_an_auth_that_is_none_is_told(config: Config) -> None:
    with pytest.raises(InvalidFile, match=f"the auth of {HOST}"):
        find_login(HOST, config(auths={HOST: {"auth": "?"}}))


@pytest.mark.parametrize("key", ["credHelpers", "credsStore"])
def test_a_credential_helper_is_asked_by_its_protocol(config: Config, tmp_path: Path, key: str) -> None:
    script = f"""test "$1" = get || exit 9
    read -r host || true
    test "$host" = {HOST} || exit 8
    echo '{{"ServerURL": "x", "Username": "ann", "Secret": "from the helper"}}'"""
    helper(tmp_path, "mine", script)
    settings = {key: {HOST: "mine"} if key == "credHelpers" else "mine"}
    environ = config(**settings, auths={HOST: auth("not:this")})
    assert find_login(HOST, environ) == Login("ann", "from the helper")


def test_a_helpers_identity_token(config: Config, tmp_path: Path) -> None:
    helper(tmp_path, "mine", """echo '{"Username": "<token>", "Secret": "it"}'""")
    assert find_login(HOST, config(credsStore="mine")) == Login(identity_token="it")


def test_a_helper_that_has_nothing(config: Config, tmp_path: Path) -> None:
    helper(tmp_path, "mine", "echo credentials not found in native keychain; exit 1")
    assert find_login(HOST, config(credsStore="mine")) is None


@pytest.mark.parametrize(
    ("name", "script", "said"),
    [
        ("mine", "echo the keychain is locked; exit 1", "failed for .*the keychain is locked"),
        ("mine", "echo hunter2", "what is no login"),
        ("missing", "", "docker-credential-missing, which is not on the PATH"),
        ("../evil", "", "no program name"),
    ],
)
def test_a_helper_that_fails_is_named(config: Config, tmp_path: Path, name: str, script: str, said: str) -> None:
    if script:
        helper(tmp_path, name, script)
    with pytest.raises(RegistryRefused, match=said) as refused:
        find_login(HOST, config(credsStore=name))
    assert "hunter2" not in refused.value.message


@pytest.mark.parametrize("login", [Login("ann", ""), Login("", "pw"), Login("a:b", "pw")])
def test_half_a_login_is_refused(registries: Registries, login: Login) -> None:
    with pytest.raises(InvalidOption):
        registries.log_in("127.0.0.1:1", login)


def test_our_login_goes_before_dockers(
    registries: Registries, logins: Logins, no_docker_config: Path, plain_registry: str
) -> None:
    (no_docker_config / "config.json").write_text(json.dumps({"auths": {plain_registry: auth(f"docker:{PASSWORD}")}}))
    with registries.session(plain_registry) as session:
        assert session.user == "docker"
    registries.log_in(plain_registry, Login(USER, PASSWORD))
    with registries.session(plain_registry) as session:
        assert session.user == USER
    registries.log_out(plain_registry)
    assert logins.all() == []


def test_a_missing_ca_file_is_told(logins: Logins, tmp_path: Path) -> None:
    with pytest.raises(Error, match="registry_ca_file"):
        Registries(logins, str(tmp_path / "none.pem")).session("r.example")
