"""Where the control plane is looked for, and who gets the home's token."""

import json
from pathlib import Path

import pytest

from argosy.errors import Error, InvalidOption, NotRunning, StorageFailed
from argosy.sdk.address import Address, check_url, locate


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "address.json").write_text(json.dumps({"url": "https://127.0.0.1:7700", "ca_file": "/ca.pem"}))
    (tmp_path / "token").write_text("from-home\n")
    return tmp_path


def test_the_home_tells_everything(home: Path) -> None:
    assert locate(environ={"ARGOSY_HOME": str(home)}) == Address("https://127.0.0.1:7700", "from-home", "/ca.pem")
    assert locate(home=home, environ={}) == locate(environ={"ARGOSY_HOME": str(home)})


def test_arguments_win_over_the_environment_and_that_over_the_home(home: Path) -> None:
    environ = {"ARGOSY_HOME": str(home), "ARGOSY_URL": "http://b:2/", "ARGOSY_TOKEN": "env", "ARGOSY_CA_FILE": "/e.pem"}
    assert locate(environ=environ) == Address("http://b:2", "env", "/e.pem")
    assert locate("http://c:3", "arg", ca_file="/a.pem", environ=environ) == Address("http://c:3", "arg", "/a.pem")


@pytest.mark.parametrize(
    ("url", "token"),
    [
        ("http://127.0.0.1:9", "from-home"),
        ("http://localhost:9", "from-home"),
        ("http://[::1]:9", "from-home"),
        ("http://example.com", None),
        ("http://127.0.0.1.example.com", None),
        ("http://10.0.0.1:7700", None),
    ],
)
def test_the_homes_token_does_not_leave_the_machine(home: Path, url: str, token: str | None) -> None:
    assert locate(url, home=home, environ={}).token == token


def test_the_token_is_not_shown() -> None:
    assert "secret" not in repr(Address("http://x", "secret"))


def test_without_an_address_nothing_runs(tmp_path: Path) -> None:
    with pytest.raises(NotRunning, match="argosy up"):
        locate(home=tmp_path, environ={})


def test_a_damaged_address_file_is_named(home: Path) -> None:
    (home / "address.json").write_text("{")
    with pytest.raises(StorageFailed, match=r"address\.json"):
        locate(home=home, environ={})


@pytest.mark.parametrize(
    "url",
    ["", "7700", "ftp://x", "http://", "http://x:99999", "http://x:0", "http://a b", "http://x\r\nHost: y", "http://ü"],
)
def test_a_url_that_is_none(url: str) -> None:
    with pytest.raises(InvalidOption, match="http://HOST:PORT"):
        check_url(url)


def test_a_token_that_cannot_be_read(home: Path) -> None:
    (home / "token").unlink()
    (home / "token").mkdir()
    with pytest.raises(Error, match="token"):
        locate(home=home, environ={})
