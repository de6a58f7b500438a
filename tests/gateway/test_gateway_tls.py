"""Certificates: given ones are looked at, own ones are made and kept fresh, and HAProxy serves them."""

import asyncio
import datetime
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from argosy.errors import InvalidFile, InvalidOption
from argosy.gateway.tls import TlsFiles, check_bind, given, own_ca
from argosy.settings import Home
from gateway.harness import Client, MakeGateway, Replica, route, until


def trusting(files: TlsFiles) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(files.ca))


def test_clients_that_trust_the_own_authority_are_served(make_gateway: MakeGateway, home: Home, folder: Path) -> None:
    async def scenario() -> None:
        files = own_ca(home, ["127.0.0.1"])
        gateway = make_gateway(files)
        iris = await Replica("i", folder).start()
        gateway.ensure_running([route("iris", iris)])
        client = Client(gateway.port, trusting(files))
        answer = await client.request("/api/v1/service/iris/score", headers={"x-forwarded-proto": "http"})
        assert answer.status == 200
        assert answer.json["headers"]["x-forwarded-proto"] == "https"
        assert gateway.status()["url"] == f"https://127.0.0.1:{gateway.port}"
        with pytest.raises(ssl.SSLCertVerificationError):
            await Client(gateway.port, ssl.create_default_context()).request("/")
        old = trusting(files)
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_1
        with pytest.raises(ssl.SSLError):
            await Client(gateway.port, old).request("/")
        assert (home.gateway / "tls.pem").stat().st_mode & 0o077 == 0
        await client.close()
        await iris.stop()

    asyncio.run(scenario())


def test_both_http_versions_are_offered(make_gateway: MakeGateway, home: Home) -> None:
    async def negotiated(port: int, offer: list[str]) -> str | None:
        context = trusting(own_ca(home, []))
        context.set_alpn_protocols(offer)
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
        chosen = writer.get_extra_info("ssl_object").selected_alpn_protocol()
        writer.close()
        await writer.wait_closed()
        return str(chosen)

    gateway = make_gateway(own_ca(home, []))
    gateway.ensure_running([])
    assert asyncio.run(negotiated(gateway.port, ["h2", "http/1.1"])) == "h2"
    assert asyncio.run(negotiated(gateway.port, ["http/1.1"])) == "http/1.1"


def test_a_renewed_certificate_is_taken_without_a_lost_connection(
    make_gateway: MakeGateway, home: Home, folder: Path
) -> None:
    async def scenario() -> None:
        files = own_ca(home, [])
        gateway = make_gateway(files)
        iris = await Replica("i", folder).start()
        table = [route("iris", iris)]
        gateway.ensure_running(table)
        pid, context = gateway.status()["pid"], trusting(files)
        idle = Client(gateway.port, context)
        await idle.request("/api/v1/service/iris/score")
        before = files.cert.read_bytes()
        assert own_ca(home, ["other.example"]) == files
        assert files.cert.read_bytes() != before
        gateway.ensure_running(table)
        assert gateway.status()["pid"] == pid
        # The retired worker hands it over: our relay needs no TLS of its own.
        answer = await idle.request("/api/v1/service/iris/score")
        assert (answer.status, answer.json["headers"]["x-forwarded-proto"]) == (200, "https")
        fresh = Client(gateway.port, context)
        assert (await fresh.request("/api/v1/service/iris/score")).status == 200
        await fresh.close()
        await idle.close()
        await until(lambda: gateway.status()["retired_workers"] == 0)
        await iris.stop()

    asyncio.run(scenario())


def names(files: TlsFiles) -> set[str]:
    certificate = x509.load_pem_x509_certificate(files.cert.read_bytes())
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {str(name.value) for name in found}


def test_the_own_certificate_is_kept_until_its_hosts_change(home: Home) -> None:
    files = own_ca(home, ["model.example", "10.1.2.3", "[::1]"])
    assert names(files) == {"localhost", "127.0.0.1", "::1", "model.example", "10.1.2.3"}
    for private in (files.key, home.tls / "ca.key"):
        assert private.stat().st_mode & 0o077 == 0
    assert files.ca is not None
    authority, certificate = files.ca.read_bytes(), files.cert.read_bytes()
    own_ca(home, ["10.1.2.3", "model.example"])
    assert files.cert.read_bytes() == certificate
    own_ca(home, ["0.0.0.0"])
    assert files.cert.read_bytes() != certificate
    assert "127.0.0.1" in names(files) and "model.example" not in names(files)
    assert files.ca.read_bytes() == authority


@pytest.mark.parametrize("damage", ["missing key", "foreign key", "expiring", "garbage", "foreign authority"])
def test_a_certificate_that_cannot_serve_is_made_again(home: Home, damage: str) -> None:
    files = own_ca(home, [])
    key = generate_private_key(SECP256R1())
    if damage == "missing key":
        files.key.unlink()
    elif damage == "foreign key":
        files.key.write_bytes(pem(key))
    elif damage == "expiring":
        write_pair(files.cert, files.key, days=20)
    elif damage == "garbage":
        files.cert.write_bytes(b"-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n")
    else:
        (home.tls / "ca.key").unlink()
    own_ca(home, [])
    trusting(files).load_verify_locations(files.ca)
    certificate = x509.load_pem_x509_certificate(files.cert.read_bytes())
    assert files.ca is not None
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(files.ca.read_bytes()))
    left = certificate.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    assert datetime.timedelta(days=390) < left < datetime.timedelta(days=398)


def pem(key: EllipticCurvePrivateKey, encryption: KeySerializationEncryption | None = None) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())


def write_pair(cert: Path, key: Path, days: int = 90, begins_in_days: int = -1) -> EllipticCurvePrivateKey:
    private = generate_private_key(SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "given")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, private.public_key(), x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(days=min(begins_in_days, days - 1)))
        .not_valid_after(now + datetime.timedelta(days=days))
        .sign(private, SHA256())
    )
    cert.write_bytes(certificate.public_bytes(Encoding.PEM))
    key.write_bytes(pem(private))
    return private


def test_a_given_pair_is_taken_as_it_is(tmp_path: Path) -> None:
    cert, key = tmp_path / "c.pem", tmp_path / "k.pem"
    write_pair(cert, key)
    files = given(cert, key)
    assert files == TlsFiles(cert, key, cert), "signed by itself, so that it is what clients must trust"
    assert files.combined().count(b"-----BEGIN") == 2


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        ("no file", r"k.pem: it cannot be read: No such file"),
        ("no certificate", r"c.pem: it holds no PEM certificate"),
        ("no key", r"k.pem: it holds no PEM private key"),
        ("encrypted", r"k.pem: the key is encrypted"),
        ("mismatch", r"k.pem: the key does not belong"),
        ("expired", r"c.pem: the certificate expired on"),
        ("future", r"c.pem: the certificate is not valid before"),
        ("folder", r"c.pem: it cannot be read: Is a directory"),
    ],
)
def test_a_given_pair_that_cannot_serve_is_refused(tmp_path: Path, damage: str, problem: str) -> None:
    cert, key = tmp_path / "c.pem", tmp_path / "k.pem"
    private = write_pair(
        cert, key, days=-1 if damage == "expired" else 90, begins_in_days=5 if damage == "future" else -3
    )
    if damage == "no file":
        key.unlink()
    elif damage == "no certificate":
        cert.write_bytes(key.read_bytes())
    elif damage == "no key":
        key.write_bytes(cert.read_bytes())
    elif damage == "encrypted":
        key.write_bytes(pem(private, BestAvailableEncryption(b"secret")))
    elif damage == "mismatch":
        key.write_bytes(pem(generate_private_key(SECP256R1())))
    elif damage == "folder":
        cert.unlink()
        cert.mkdir()
    with pytest.raises(InvalidFile, match=problem):
        given(cert, key)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost"])
def test_loopback_needs_no_tls(host: str) -> None:
    check_bind(host, tls=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "model.example", "", "localhost.evil.example"])
def test_other_hosts_need_tls(host: str) -> None:
    with pytest.raises(InvalidOption, match="--tls auto"):
        check_bind(host, tls=False)
    check_bind(host, tls=True)
