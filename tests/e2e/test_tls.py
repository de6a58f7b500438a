"""Encrypted from end to end: an own authority, given certificates, and what is refused."""

import os
import socket
import ssl
import subprocess
import sys
import urllib.error
from pathlib import Path
from typing import Any

import pytest

from argosy import connect
from conftest import Require
from e2e.calls import call
from e2e.running import Argosy, RecipeFolder


@pytest.fixture(scope="module")
def argosy(module_home: Path) -> Argosy:
    running = Argosy(module_home)
    running.ok("up", "--port", "0", "--gateway-port", "0", "--tls", "auto")
    return running


@pytest.fixture(scope="module")
def service(argosy: Argosy, recipe: RecipeFolder) -> Any:
    argosy.ok("service", "create", "private", "-m", recipe.model(2), *recipe.options())
    return argosy.json("service", "show", "private")


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A self-signed pair for 127.0.0.1, as an administrator makes it with openssl."""
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-days", "30", "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", key, "-out", cert),
        ],
        check=True,
        capture_output=True,
    )
    return cert, key


def test_everything_speaks_tls(argosy: Argosy, service: Any) -> None:
    address = argosy.address
    assert address["url"].startswith("https://") and address["gateway_url"].startswith("https://")
    assert service["scoring_url"].startswith(address["gateway_url"])
    assert argosy.json("service", "run", "private") == [2.0, 4.0]
    with connect(home=argosy.home) as client:
        assert client.services.run("private") == [2.0, 4.0]
    reply = call(service["scoring_url"], {"numbers": [3]}, token=argosy.key("private"), ca_file=address["ca_file"])
    assert reply.json == [6.0]
    swagger = call(service["swagger_url"], token=argosy.key("private"), ca_file=address["ca_file"]).json
    assert swagger["schemes"] == ["https"]
    assert (argosy.home / "tls" / "ca.key").stat().st_mode & 0o777 == 0o600
    assert (argosy.home / "tls" / "server.key").stat().st_mode & 0o777 == 0o600


def test_the_curl_line_of_usage_trusts_our_authority(argosy: Argosy, service: Any, require: Require) -> None:
    require("curl")
    usage = argosy.json("service", "usage", service["name"])
    assert usage["ca_file"] and f"--cacert {usage['ca_file']}" in usage["curl"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", usage["curl"]], env=argosy.environ | {"PATH": path}, capture_output=True, text=True
    )
    assert done.stdout == "[2.0,4.0]", done.stderr


@pytest.mark.usefixtures("service")
def test_without_our_authority_nobody_trusts_us(argosy: Argosy) -> None:
    with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
        call(argosy.address["gateway_url"])
    token = (argosy.home / "token").read_text().strip()
    stranger = Argosy(Path("/nowhere"), {"ARGOSY_URL": argosy.address["url"], "ARGOSY_TOKEN": token})
    assert "ARGOSY_CA_FILE" in stranger.fails("service", "list", code=2)
    stranger.variables["ARGOSY_CA_FILE"] = argosy.address["ca_file"]
    assert [s["name"] for s in stranger.json("service", "list")] == ["private"]


def test_plain_http_and_old_protocols_are_refused(argosy: Argosy) -> None:
    for url in (argosy.address["url"], argosy.address["gateway_url"]):
        port = int(url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            try:
                answer = connection.recv(100)
            except ConnectionError:
                answer = b""
        assert b"200" not in answer
        context = ssl.create_default_context(cafile=argosy.address["ca_file"])
        with (
            socket.create_connection(("127.0.0.1", port), timeout=30) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as secure,
        ):
            assert secure.version() in ("TLSv1.2", "TLSv1.3")


def test_a_restart_stays_encrypted_at_the_same_urls(argosy: Argosy, service: Any) -> None:
    before, key = argosy.address, argosy.key("private")
    argosy.ok("down")
    argosy.ok("up")
    argosy.ok("service", "wait", "private")
    after = argosy.address
    assert {k: after[k] for k in ("url", "gateway_url", "ca_file")} == {
        k: before[k] for k in ("url", "gateway_url", "ca_file")
    }
    # A caller that trusted the authority before trusts it still.
    reply = call(service["scoring_url"], {"numbers": [3]}, token=key, ca_file=before["ca_file"])
    assert reply.json == [6.0]


def test_a_given_certificate(fresh: Argosy, recipe: RecipeFolder, require: Require, tmp_path: Path) -> None:
    require("openssl")
    cert, key = certificate(tmp_path, "given")
    # Relative paths, from the folder of the user.
    words = ("--port", "0", "--gateway-port", "0", "--tls-cert", cert.name, "--tls-key", key.name)
    fresh.ok("up", *words, cwd=tmp_path)
    fresh.ok("service", "create", "given", "-m", recipe.model(2), *recipe.options())
    assert fresh.json("service", "run", "given") == [2.0, 4.0]
    url = fresh.json("service", "show", "given")["scoring_url"]
    assert call(url, {"numbers": [1]}, token=fresh.key("given"), ca_file=cert).json == [2.0]
    fresh.ok("down")
    fresh.ok("up")
    assert fresh.address["url"].startswith("https://"), "the certificate is remembered"


def test_a_certificate_that_this_machine_does_not_trust(fresh: Argosy, require: Require, tmp_path: Path) -> None:
    """By an authority of the company, say: told at once, with what to do."""
    require("openssl")
    ca, ca_key = certificate(tmp_path, "authority")
    cert, key, wish = tmp_path / "site.pem", tmp_path / "site.key", tmp_path / "site.csr"
    names = tmp_path / "names"
    names.write_text("subjectAltName=IP:127.0.0.1\n")
    for words in (
        ("req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=site", "-keyout", key, "-out", wish),
        ("x509", "-req", "-in", wish, "-CA", ca, "-CAkey", ca_key, "-days", "9", "-out", cert, "-extfile", names),
    ):
        subprocess.run(["openssl", *words], check=True, capture_output=True)
    starting = ("up", "--port", "0", "--gateway-port", "0", "--tls-cert", cert, "--tls-key", key)
    said = fresh.fails(*starting, code=2)
    assert "is not trusted" in said and "ARGOSY_CA_FILE" in said
    trusting = Argosy(fresh.home, {"ARGOSY_CA_FILE": str(ca)})
    assert "runs already" in trusting.ok(*starting).err
    assert trusting.json("service", "list") == []
    trusting.ok("down")
    assert trusting.processes() == []


def test_pairs_that_cannot_be_used(fresh: Argosy, require: Require, tmp_path: Path) -> None:
    require("openssl")
    cert, key = certificate(tmp_path, "one")
    _, other = certificate(tmp_path, "two")
    (tmp_path / "empty.pem").write_text("")
    locked = tmp_path / "locked.key"
    subprocess.run(
        ["openssl", "pkey", "-in", key, "-aes256", "-passout", "pass:secret", "-out", locked],
        check=True,
        capture_output=True,
    )
    for given_cert, given_key, message in (
        (cert, other, "does not belong"),
        (cert, tmp_path / "missing.key", "missing.key"),
        (tmp_path / "missing.pem", key, "missing.pem"),
        (tmp_path / "empty.pem", key, "no PEM certificate"),
        (cert, tmp_path / "empty.pem", "no PEM private key"),
        (cert, locked, "encrypted"),
        (key, cert, "no PEM certificate"),
    ):
        ports = ("--port", "0", "--gateway-port", "0")
        said = fresh.fails("up", *ports, "--tls-cert", given_cert, "--tls-key", given_key)
        assert message in said
    assert "give both" in fresh.fails("up", "--tls-cert", cert)
    assert "give both" in fresh.fails("up", "--tls-key", key)
    assert "--tls auto" in fresh.fails("up", "--tls", "auto", "--tls-cert", cert, "--tls-key", key)
    assert fresh.processes() == []


def test_other_machines_only_with_tls(fresh: Argosy) -> None:
    for host in ("0.0.0.0", "::", "192.0.2.7"):
        said = fresh.fails("up", "--host", host, "--port", "0", "--gateway-port", "0")
        assert "--tls" in said and host in said
    assert "--tls" in Argosy(fresh.home, {"ARGOSY_HOST": "0.0.0.0"}).fails("up")
    assert fresh.processes() == []
    fresh.ok("up", "--host", "0.0.0.0", "--port", "0", "--gateway-port", "0", "--tls", "auto")
    address = fresh.address
    for url in (address["url"], address["gateway_url"]):
        listening = f"https://{socket.gethostbyname(socket.gethostname())}:{url.rpartition(':')[2]}"
        assert call(listening + "/healthz", ca_file=address["ca_file"]).status in (200, 404)
    fresh.ok("down")
    fresh.ok("up")
    assert fresh.address["url"] == address["url"]
