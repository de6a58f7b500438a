"""Settings from their four places, and the folders of a home."""

import os
from pathlib import Path

import pytest

from argosy.errors import InvalidOption, StorageFailed
from argosy.settings import Home, Settings, load_settings


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def write(home: Home, text: str) -> None:
    home.path.mkdir(exist_ok=True)
    home.config.write_text(text)


def test_defaults(home: Home) -> None:
    settings = load_settings(home, {})
    assert settings == Settings()
    assert (settings.host, settings.port, settings.gateway_port, settings.tls) == ("127.0.0.1", 7700, 7780, False)


def test_who_wins(home: Home) -> None:
    write(home, "port = 2\ngateway_port = 22\nlog_limit_bytes = 5")
    environ = {"ARGOSY_PORT": "3", "ARGOSY_ALLOW_PRIVATE_URLS": "true", "ARGOSY_HOST": ""}
    settings = load_settings(home, environ, {"port": 1, "gateway_port": 1, "operation_workers": 9}, port=4, host=None)
    assert (settings.port, settings.gateway_port, settings.operation_workers) == (4, 22, 9)
    assert (settings.log_limit_bytes, settings.allow_private_urls, settings.host) == (5, True, "127.0.0.1")
    assert load_settings(home, environ).port == 3


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("prot = 1", "prot"),
        ("port = '7700'", "port"),
        ("port = true", "port"),
        ("tls_auto = 1", "tls_auto"),
        ("port = ", "TOML"),
        ("[server]\nport = 1", "server"),
    ],
)
def test_a_wrong_file_is_refused_with_what_is_wrong(home: Home, text: str, named: str) -> None:
    write(home, text)
    with pytest.raises(InvalidOption, match=named):
        load_settings(home, {})


@pytest.mark.parametrize(("name", "value"), [("PORT", "x"), ("PORT", "1.5"), ("TLS_AUTO", "yes please")])
def test_a_wrong_variable_is_named(home: Home, name: str, value: str) -> None:
    with pytest.raises(InvalidOption, match=f"ARGOSY_{name}"):
        load_settings(home, {f"ARGOSY_{name}": value})


def test_a_file_that_is_no_text_is_refused(home: Home) -> None:
    home.path.mkdir()
    home.config.write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidOption, match="TOML"):
        load_settings(home, {})


def test_prepare_makes_private_folders(home: Home) -> None:
    home.prepare()
    home.prepare()
    for folder in (home.path, home.run, home.blobs, home.envs, home.images, home.services, home.logs, home.tls):
        assert folder.stat().st_mode & 0o077 == 0


def test_a_long_or_odd_path_gets_a_short_run_folder(tmp_path: Path) -> None:
    for name in ("x" * 90, "a b"):
        home = Home(tmp_path / name)
        assert not home.run.is_relative_to(home.path)
        assert len(os.fsencode(home.run)) <= 70
        assert home.run == Home(tmp_path / name).run
    assert Home(tmp_path / "x").run != Home(tmp_path / "y").run


def test_a_home_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageFailed, match="ARGOSY_HOME"):
        Home(tmp_path / "file" / "home").prepare()


def test_an_open_run_folder_is_refused(home: Home) -> None:
    home.prepare()
    home.run.chmod(0o755)
    with pytest.raises(StorageFailed, match="open to others"):
        home.prepare()


def test_located_by_the_environment(tmp_path: Path) -> None:
    assert Home.locate({"ARGOSY_HOME": str(tmp_path)}).path == tmp_path
    assert Home.locate({"ARGOSY_HOME": ""}).path == Path("~/.argosy").expanduser()
    assert Home.locate({"ARGOSY_HOME": "relative"}).path.is_absolute()
