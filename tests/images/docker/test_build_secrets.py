"""Certificate authorities, index credentials and proxies serve a build, and are in nothing that comes out of it."""

import base64
import gzip
import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from images.docker.house import House, left_behind

PROXY, INDEX, NETRC = "pr0xy-s3cret-7c1", "ind3x-s3cret-9f4", "netrc-s3cret-2d8"
LOOK = """\
RUN printf %s "$HTTPS_PROXY" | sha256sum > /srv/seen; printf %s "$http_proxy" | sha256sum >> /srv/seen
RUN sha256sum < "$SSL_CERT_FILE" >> /srv/seen; printf %s "$PIP_INDEX_URL" | sha256sum >> /srv/seen
RUN grep -c password "$NETRC" && echo "leaking $HTTPS_PROXY $PIP_INDEX_URL to the log"
RUN /bin/sh -c 'apt-config dump' | grep CAInfo
"""


@dataclass(frozen=True)
class Secrets:
    """What stands where, and the words that must be found nowhere."""

    proxy: str
    index: str
    bundle: Path
    words: tuple[bytes, ...]


@pytest.fixture
def secrets(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Secrets:
    """A control plane behind a proxy, with an index and an authority of its own."""
    proxy = f"http://ann:{PROXY}@127.0.0.1:9"
    index = house.settings.index_url.replace("://", f"://ann:{INDEX}@")
    bundle, netrc = tmp_path / "corporate.pem", tmp_path / "netrc"
    bundle.write_bytes(_authority())
    netrc.write_text(f"machine elsewhere.example login ann password {NETRC}\n")
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, proxy)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1,localhost")
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.setenv(name, str(bundle))
    monkeypatch.setenv("NETRC", str(netrc))
    house.set_index(index)
    body = bundle.read_bytes().splitlines()[2]
    tokens = [base64.b64encode(f"ann:{word}".encode()) for word in (PROXY, INDEX)]
    return Secrets(proxy, index, bundle, (PROXY.encode(), INDEX.encode(), NETRC.encode(), body, *tokens))


def test_steps_see_them_and_no_layer_config_history_or_log_has_them(
    house: House, secrets: Secrets, engine: str
) -> None:
    image = house.build(LOOK)
    seen = house.layer(image, "step: RUN sha256sum")["srv/seen"] or b""
    expected = [secrets.proxy.encode(), secrets.proxy.encode(), secrets.bundle.read_bytes(), secrets.index.encode()]
    assert seen.decode().split()[::2] == [hashlib.sha256(each).hexdigest() for each in expected]
    log = house.images.log("iris", image.version)
    assert '/dev/argosy/ca.pem"' in log and "leaking http://***@127.0.0.1:9" in log
    _found_nowhere(house, secrets)
    assert not any("dev/argosy" in name for name in house.layer(image, "step: RUN"))
    assert not any(word.decode() in line for word in secrets.words for line in house.said)
    assert left_behind(engine) == []


def test_a_failing_step_does_not_tell_them(house: House, secrets: Secrets) -> None:
    with pytest.raises(Exception, match="line 1") as caught:
        house.build(f'RUN echo "password {PROXY} of $HTTPS_PROXY"; exit 3\n')
    assert PROXY not in str(caught.value) and PROXY not in str(getattr(caught.value, "details", ""))
    _found_nowhere(house, secrets)


def test_the_builder_without_an_engine_keeps_none_of_them_either(
    house: House, secrets: Secrets, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_CACHE_DIR", str(house.folder.parent / "uv-cache"))  # so that the index is really asked
    image = house.build(None)
    assert "opt/argosy/bin/python" in house.layer(image, "runtime")
    _found_nowhere(house, secrets)


def _found_nowhere(house: House, secrets: Secrets) -> None:
    """No file of the home has one of the words, packed or not."""
    kept = house.everything()
    assert any(b"Step 1/" in content or b"argosy_serving" in content for content in kept.values()), "it was looked into"
    for path, content in kept.items():
        plain = gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
        for word in secrets.words:
            assert word not in plain, f"{word!r} stands in {path}"


def _authority() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Corporate")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)
