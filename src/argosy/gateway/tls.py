"""Certificates of the gateway and the control plane: given ones, checked; or our own authority's, kept fresh."""

import ipaddress
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from argosy.errors import InvalidFile, InvalidOption
from argosy.keys import write_private
from argosy.settings import Home

_CA_DAYS = 3650
# The longest that clients accept for a server certificate is 398 days.
_SERVER_DAYS = 397
_RENEW_DAYS = 30
_CLOCK_SKEW = timedelta(hours=1)


@dataclass(frozen=True)
class TlsFiles:
    """PEM files: certificate chain, private key, and the authority that clients must trust (None: a public one)."""

    cert: Path
    key: Path
    ca: Path | None

    def combined(self) -> bytes:
        """Chain and key in one, as HAProxy wants them."""
        return self.cert.read_bytes().rstrip() + b"\n" + self.key.read_bytes().strip() + b"\n"


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_bind(host: str, tls: bool) -> None:
    """Raises InvalidOption when `host` is reachable from elsewhere and the connections would not be encrypted."""
    if not tls and not is_loopback(host):
        raise InvalidOption(
            "--host", host, "keys would cross the network in the clear; add --tls auto, or --tls-cert and --tls-key"
        )


def given(cert: Path, key: Path) -> TlsFiles:
    """The files that a user names, after a look that finds every usual mistake. Raises InvalidFile.

    A chain that ends in its own root, as a self-signed certificate does, is what clients here must trust.
    """
    cert, key = cert.expanduser().absolute(), key.expanduser().absolute()
    try:
        chain = x509.load_pem_x509_certificates(_read(cert))
    except ValueError as problem:
        raise InvalidFile(cert, "it holds no PEM certificate (-----BEGIN CERTIFICATE-----).") from problem
    try:
        private = load_pem_private_key(_read(key), password=None)
    except TypeError as problem:
        raise InvalidFile(
            key, "the key is encrypted. Store it without a passphrase, readable by you alone."
        ) from problem
    except ValueError as problem:
        raise InvalidFile(key, "it holds no PEM private key (-----BEGIN PRIVATE KEY-----).") from problem
    if private.public_key() != chain[0].public_key():
        raise InvalidFile(key, f"the key does not belong to the first certificate in {cert}.")
    now = datetime.now(UTC)
    if now >= chain[0].not_valid_after_utc:
        raise InvalidFile(cert, f"the certificate expired on {chain[0].not_valid_after_utc:%Y-%m-%d}. Renew it.")
    if now < chain[0].not_valid_before_utc:
        raise InvalidFile(
            cert, f"the certificate is not valid before {chain[0].not_valid_before_utc:%Y-%m-%d %H:%M} UTC."
        )
    return TlsFiles(cert, key, cert if chain[-1].issuer == chain[-1].subject else None)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as problem:
        raise InvalidFile(path, f"it cannot be read: {problem.strerror}.") from problem


def own_ca(home: Home, hosts: Sequence[str]) -> TlsFiles:
    """Certificate for `hosts` (names and addresses; loopback is always in) by this home's own authority.

    Made on first use, and again 30 days before it expires or when the hosts change; the authority stays, so that
    clients go on trusting it. `0.0.0.0` and `::` stand for this machine's name and all its addresses.
    """
    folder = home.tls
    files = TlsFiles(folder / "server.pem", folder / "server.key", folder / "ca.pem")
    authority, authority_key = _authority(folder)
    names = _names(hosts)
    if not _serves(files, authority, names):
        _issue(files, authority, authority_key, names)
    return files


def _names(hosts: Sequence[str]) -> list[str]:
    names = {"localhost", "127.0.0.1", "::1"}
    for host in hosts:
        if host in ("0.0.0.0", "::", ""):  # noqa: S104 (compared, not bound)
            names.add(socket.gethostname())
            names.update(
                address.address.partition("%")[0]
                for addresses in psutil.net_if_addrs().values()
                for address in addresses
                if address.family in (socket.AF_INET, socket.AF_INET6)
            )
        else:
            names.add(host.strip("[]"))
    return sorted(names)


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    try:
        return x509.DNSName(name)
    except ValueError:
        raise InvalidOption("--host", name, "a certificate can only be made for ASCII names and addresses") from None


def _load(cert: Path, key: Path) -> tuple[x509.Certificate, EllipticCurvePrivateKey] | None:
    """None when one of them is missing, unreadable, or not the other's."""

    try:
        certificate = x509.load_pem_x509_certificate(cert.read_bytes())
        private = load_pem_private_key(key.read_bytes(), password=None)
    except (OSError, ValueError, TypeError):
        return None
    if not isinstance(private, EllipticCurvePrivateKey) or private.public_key() != certificate.public_key():
        return None
    return certificate, private


def _fresh(certificate: x509.Certificate) -> bool:
    return certificate.not_valid_after_utc - datetime.now(UTC) > timedelta(days=_RENEW_DAYS)


def _authority(folder: Path) -> tuple[x509.Certificate, EllipticCurvePrivateKey]:
    if (kept := _load(folder / "ca.pem", folder / "ca.key")) and _fresh(kept[0]):
        return kept
    private = generate_private_key(SECP256R1())
    title = f"Argosy authority of {socket.gethostname()[:30]} {os.urandom(4).hex()}"
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, title)])
    usage = _key_usage(key_cert_sign=True, crl_sign=True)
    certificate = (
        _builder(private, name, name, _CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(private.public_key()), critical=False)
        .sign(private, hashes.SHA256())
    )
    _store(folder / "ca.pem", folder / "ca.key", certificate, private)
    return certificate, private


def _serves(files: TlsFiles, authority: x509.Certificate, names: Sequence[str]) -> bool:

    kept = _load(files.cert, files.key)
    if kept is None or not _fresh(kept[0]):
        return False
    try:
        kept[0].verify_directly_issued_by(authority)
        known = kept[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return False
    return set(known) == {_general_name(name) for name in names}


def _issue(
    files: TlsFiles, authority: x509.Certificate, authority_key: EllipticCurvePrivateKey, names: Sequence[str]
) -> None:

    private = generate_private_key(SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Argosy gateway")])
    alternatives = x509.SubjectAlternativeName([_general_name(name) for name in names])
    authority_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    certificate = (
        _builder(private, subject, authority.subject, _SERVER_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(alternatives, critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(private.public_key()), critical=False)
        .add_extension(authority_id, critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    _store(files.cert, files.key, certificate, private)


def _builder(
    private: EllipticCurvePrivateKey, subject: x509.Name, issuer: x509.Name, days: int
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now - _CLOCK_SKEW + timedelta(days=days))
    )


def _key_usage(digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _store(cert: Path, key: Path, certificate: x509.Certificate, private: EllipticCurvePrivateKey) -> None:
    """Key first: a crash in between leaves a pair that does not match, which is made again."""
    write_private(key, private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    write_private(cert, certificate.public_bytes(Encoding.PEM))
