"""Which container engine of a machine is found."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from argosy.environments.container import discovery
from argosy.errors import EngineUnreachable, InvalidOption
from argosy.images.docker import discovery as sockets


def test_the_order_in_which_they_are_asked() -> None:
    assert sockets.candidates({"XDG_RUNTIME_DIR": "/run/user/7"}) == [
        "unix:///var/run/docker.sock",
        "unix:///run/user/7/docker.sock",
        "unix:///run/user/7/podman/podman.sock",
        "unix:///run/podman/podman.sock",
    ]


def test_whoever_names_one_means_no_other(tmp_path: Path) -> None:
    environ = {"DOCKER_HOST": f"unix://{tmp_path}/none", "XDG_RUNTIME_DIR": "/run/user/7"}
    assert sockets.candidates(environ) == [f"unix://{tmp_path}/none"]
    with pytest.raises(InvalidOption) as told:
        discovery.find("", environ)
    assert f"asked: unix://{tmp_path}/none (not there)." in told.value.message


def test_what_was_asked_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(InvalidOption) as told:
        discovery.find("", {"DOCKER_HOST": "tcp://far:1"})
    assert "asked: tcp://far:1 (DOCKER_HOST: not on this machine)" in told.value.message
    monkeypatch.setattr(sockets, "candidates", lambda environ: [f"unix://{tmp_path}/none", f"unix://{tmp_path}/more"])
    with pytest.raises(InvalidOption) as told:
        discovery.find("", {})
    message = told.value.message
    assert "none (not there); " in message and "more (not there)" in message and "--engine unix:///" in message


def test_a_named_one_must_answer_and_be_on_this_machine(tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match="on this machine"):
        discovery.find("tcp://127.0.0.1:2375", {})


@pytest.fixture
def mute(tmp_path: Path) -> Iterator[str]:
    """A socket that hangs up on everybody."""
    path = tmp_path / "mute"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def hang_up() -> None:
            while True:
                try:
                    listener.accept()[0].close()
                except OSError:
                    return

        threading.Thread(target=hang_up, daemon=True).start()
        yield f"unix://{path}"
        listener.shutdown(socket.SHUT_RDWR)


def test_one_that_is_no_engine_is_passed_over(mute: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EngineUnreachable):
        discovery.find(mute, {})
    monkeypatch.setattr(sockets, "candidates", lambda environ: [mute])
    with pytest.raises(InvalidOption, match="mute"):
        discovery.find("", {})
