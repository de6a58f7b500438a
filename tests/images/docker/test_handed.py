"""What a control plane hands to the steps of a build."""

from pathlib import Path

import pytest

from argosy.errors import InvalidFile
from argosy.images.docker.handed import handed
from argosy.manifests.uv import Index


def test_indexes_come_from_the_settings_before_the_environment() -> None:
    environ = {"UV_DEFAULT_INDEX": "https://b/simple", "UV_INDEX": "mine=https://u:word1@c/s https://d/s", "PATH": "/x"}
    given = handed(Index("https://u:word2@a/simple"), environ)
    assert given.variables["PIP_INDEX_URL"] == given.variables["UV_DEFAULT_INDEX"] == "https://u:word2@a/simple"
    assert given.variables["PIP_EXTRA_INDEX_URL"] == "https://u:word1@c/s https://d/s"
    assert "PATH" not in given.variables
    assert handed(Index(), environ).variables["PIP_INDEX_URL"] == "https://b/simple"


def test_proxies_come_in_both_spellings_and_are_hidden_in_lines() -> None:
    given = handed(Index(), {"https_proxy": "http://ann:p%40ss-word@proxy:3128", "NO_PROXY": "localhost"})
    assert given.variables["HTTPS_PROXY"] == given.variables["https_proxy"] == "http://ann:p%40ss-word@proxy:3128"
    assert given.variables["no_proxy"] == "localhost"
    assert given.hide("via http://ann:p%40ss-word@proxy with p@ss-word") == "via http://***@proxy with ***"


def test_passwords_of_the_netrc_file_are_hidden_in_lines(tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text(
        "machine a.example login ann password s3cret-one\n"
        "machine b.example\n  login bob\n  password\ts3cret-two account s3cret-three\n"
        'default login cat password "s3cret \\"four\\""\n'
    )
    given = handed(Index(), {"NETRC": str(netrc)})
    assert given.files["netrc"] == netrc.read_bytes()
    shown = "\n".join(given.hide(line) for line in netrc.read_text().splitlines())
    assert "s3cret" not in shown and "login ann password ***" in shown and "machine b.example" in shown
    assert given.hide('as curl has it: s3cret "four"') == "as curl has it: ***"


def test_a_bundle_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match="cannot be read for the build steps"):
        handed(Index(), {"SSL_CERT_FILE": str(tmp_path / "none.pem")})
