"""`argosy image login` and `logout`: the password comes from stdin or is asked for, and goes nowhere else."""

import getpass
import io
import json
import sys

import pytest

from cli.conftest import Argosy
from sdk.fake_control_plane import FakeControlPlane

HOST = "registry.example.com:5000"
PATH = "/v1/registries/registry.example.com%3A5000"


@pytest.fixture(autouse=True)
def answered(fake: FakeControlPlane) -> None:
    fake.answer("POST", PATH, {"host": HOST, "username": "ann", "plain_http": False, "created_at": ""})


@pytest.mark.parametrize(
    ("typed", "password"), [("pw", "pw"), ("pw\n", "pw"), ("pw\r\n", "pw"), (" p w \n\n", " p w \n")]
)
def test_a_password_from_stdin(
    argosy: Argosy, fake: FakeControlPlane, monkeypatch: pytest.MonkeyPatch, typed: str, password: str
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
    ran = argosy("image", "login", HOST, "-u", "ann", "--password-stdin", "-o", "json")
    assert (ran.code, json.loads(ran.out)["username"]) == (0, "ann"), ran.err
    assert fake.asked("POST", PATH)[0].json == {"username": "ann", "password": password, "plain_http": False}


def test_a_password_that_is_typed(argosy: Argosy, fake: FakeControlPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def ask(prompt: str, _stream: object) -> str:
        asked.append(prompt)
        return "hunter2"

    terminal = io.StringIO()
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stdin", terminal)
    monkeypatch.setattr(getpass, "getpass", ask)
    ran = argosy("image", "login", HOST, "-u", "ann")
    assert (ran.code, asked) == (0, [f"Password of ann at {HOST}: "])
    assert "hunter2" not in ran.out + ran.err
    assert fake.asked("POST", PATH)[0].json["password"] == "hunter2"


@pytest.mark.parametrize(("words", "said"), [(("--password-stdin",), "empty"), ((), "--password-stdin")])
def test_without_a_password_nothing_is_sent(
    argosy: Argosy, fake: FakeControlPlane, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], said: str
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    ran = argosy("image", "login", HOST, "-u", "ann", *words)
    assert (ran.code, said in ran.err) == (1, True)
    assert fake.seen == []


def test_plain_http_without_anybody(argosy: Argosy, fake: FakeControlPlane) -> None:
    assert argosy("image", "login", HOST, "--plain-http").code == 0
    assert fake.asked("POST", PATH)[0].json == {"username": "", "password": "", "plain_http": True}


def test_logout(argosy: Argosy, fake: FakeControlPlane) -> None:
    fake.answer("DELETE", PATH, None, status=204)
    ran = argosy("image", "logout", HOST)
    assert (ran.code, HOST in ran.out) == (0, True)
    assert len(fake.asked("DELETE", PATH)) == 1
